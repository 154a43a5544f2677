"""`g2dbench pretrain`."""

from typing import Annotated

import typer

from g2dbench.cli.console import console, track
from g2dbench.cli.open_data import open_data, open_shards
from g2dbench.cli.options import (
    DEFAULT_STORE,
    Changes,
    Data,
    Device,
    MethodRecipe,
    Plugins,
    Precision,
    ReaderOptions,
    Root,
    RunOut,
    Seed,
    Store,
    Workers,
    parse_options,
)
from g2dbench.cli.panels import TRAIN

EPILOG = """Examples:

g2dbench pretrain

g2dbench pretrain --method convirt --epochs 5 --seed 1

g2dbench pretrain --recipe g2d-small --data open_i --root ~/open_i --out runs/open_i

g2dbench pretrain --set optim.lr=1e-4 --set optim.batch_size=32

g2dbench pretrain --save-every 10m --out runs/mine, and after a crash the same with --resume

torchrun --nproc_per_node=8 -m g2dbench pretrain --recipe g2d-code --data mimic_cxr --root DIR

g2dbench pretrain --data stream:s3://bucket/open_i --out runs/streamed

g2dbench pretrain --track tensorboard --track wandb --sheet-every 100
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=TRAIN)(pretrain)


def pretrain(
    method: Annotated[
        str | None,
        typer.Option(help="Method; `g2dbench list methods`.", show_default="the recipe's, or g2d"),
    ] = None,
    recipe: MethodRecipe = None,
    data: Data = "synthetic",
    root: Root = None,
    option: ReaderOptions = None,
    shuffle_buffer: Annotated[
        int | None,
        typer.Option(
            min=1, help="Size of the shuffle buffer of stream:, in pairs.", show_default="2048"
        ),
    ] = None,
    out: RunOut = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs instead of the recipe's.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    set_: Changes = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")
    ] = False,
    save_every: Annotated[
        str | None,
        typer.Option(
            help="Also save a checkpoint every N steps (500) or after a time (90s, 15m, 2h).",
            show_default="each epoch's end",
        ),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of checkpoints to keep.")] = 2,
    workers: Workers = None,
    strategy: Annotated[
        str,
        typer.Option(help="With several processes (torchrun): ddp, or fsdp to shard the weights."),
    ] = "ddp",
    track_: Annotated[
        list[str] | None,
        typer.Option("--track", help="Also log to tensorboard, wandb, ... Repeats."),
    ] = None,
    watch_every: Annotated[
        int, typer.Option(min=0, help="Steps between monitored steps (steps.csv); 0 for none.")
    ] = 50,
    sheet_every: Annotated[
        int, typer.Option(min=0, help="Steps between contact sheets; 0 for one per epoch.")
    ] = 0,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Pre-train a method on image-report pairs, and write a run folder for `eval`.

    --data is a data set with reports, or stream:ADDRESS for shards. --seed sets the initial
    weights, the order of the pairs and the augmentation.
    """
    from g2dbench.data.reference import STREAM
    from g2dbench.recipes import recipe as recipes
    from g2dbench.registry import Registry
    from g2dbench.runs.checkpoints import parse_save_every
    from g2dbench.system.machine import Machine
    from g2dbench.training import fit
    from g2dbench.training.distributed import choose_strategy, is_main_process
    from g2dbench.training.monitoring.monitor import MonitorSettings

    monitoring = MonitorSettings(tuple(track_ or ()), watch_every, sheet_every)
    registry = Registry(plugin or ())
    chosen = recipes.override(recipes.load(recipe or f"{method or 'g2d'}-tiny"), set_ or [])
    recipes.check_method(chosen, method, registry)
    machine = Machine.choose(device, precision, workers=workers, progress=track)
    size, options = chosen.data.size, parse_options(option)
    dataset = (
        open_shards(data, store, size, options, shuffle_buffer)
        if data.startswith(STREAM)
        else open_data(data, root, store, size, registry)
    )
    run = fit.fit(
        chosen,
        dataset,
        out,
        seed=seed,
        machine=machine,
        epochs=epochs,
        resume=resume,
        checkpointing=parse_save_every(save_every, keep),
        strategy=choose_strategy(strategy),
        monitoring=monitoring,
        registry=registry,
        echo=console.print,
    )
    if is_main_process():
        console.print(f"trained {run.label} (seed {seed}): wrote {run.folder}")
