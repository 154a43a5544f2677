"""G2D with masks of known quality, up to the ground truth: `python benchmarks/masks.py`.

Arms of one recipe on the synthetic radiographs, whose ground-truth masks are known:

    none       no pixel alignment: the reference
    attention  pseudo masks from the attention, as in the recipe
    findings   the ground truth instead, augmented like the image
    coarse     the ground truth on the grid of the attention, then thresholded and smoothed like it

Each is evaluated on `seg`, protocol `small`, on one finding at a time, and compared with `none`,
over patients and over seeds. Runs and results stay in --out; the same command resumes after a stop.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import TaskCard
from g2dbench.data.prepare import open_or_prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.dataset import Dataset
from g2dbench.evaluation import runner
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.model_reference import resolve
from g2dbench.evaluation.outcome import Outcome
from g2dbench.method import Batch
from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.pseudo_mask import PseudoMask
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.progress import quiet
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.reporting.paired_comparison import compare
from g2dbench.result import RESULT_FILE, load
from g2dbench.runs import folder as runs
from g2dbench.sample import Sample
from g2dbench.system.machine import Machine
from g2dbench.training import fit
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, training_pairs

ARMS = ("none", "attention", "findings", "coarse")
FINDINGS = ("consolidation", "pleural effusion")
STORE = Path("~/.cache/g2dbench").expanduser()
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arm", action="append", choices=ARMS, help="all four by default")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--finding", action="append")
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument(
        "--count", type=int, default=GenerationSettings().count, help="radiographs to draw"
    )
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--out", type=Path, default=Path("masks"))
    args = parser.parse_args()
    args.arm, args.seed = args.arm or list(ARMS), args.seed or [0]
    args.finding = args.finding or list(FINDINGS)
    registry = Registry()
    recipe = recipes.override(recipes.load("g2d-tiny"), args.changes)
    data = open_or_prepare(
        "synthetic", None, args.store,
        progress=quiet, registry=registry, size=recipe.data.size,
        generation=GenerationSettings(count=args.count),
    )  # fmt: skip
    folders: dict[tuple[str, str], list[Path]] = {}
    for seed in args.seed:
        for arm in args.arm:
            run = pretrain(recipe, arm, seed, data, args.out, registry)
            for finding in args.finding:
                outcome = evaluate(run, finding, seed, data, args, registry)
                assert outcome.folder is not None, outcome.result.reason
                folders.setdefault((finding, arm), []).append(outcome.folder)
    for finding in args.finding:
        table(finding, {arm: folders[finding, arm] for arm in args.arm}, registry)


def pretrain(
    recipe: Recipe, arm: str, seed: int, data: Dataset, out: Path, registry: Registry
) -> Path:
    """The run folder of an arm."""
    target = "none" if arm == "none" else "mask"
    chosen = recipes.override(recipe, [f"model.pixel.target={target}"])
    folder = out / "runs" / f"{arm}-s{seed}"
    with true_masks(chosen, arm, seed, data):
        fit.fit(
            chosen, data, folder,
            seed=seed, machine=Machine.choose("cpu"),
            resume=(folder / runs.RUN_FILE).is_file(), registry=registry,
        )  # fmt: skip
    return folder


@contextmanager
def true_masks(recipe: Recipe, arm: str, seed: int, data: Dataset) -> Iterator[None]:
    """Within the block, G2D's pseudo masks are the ground truth if the arm uses it."""
    if arm in ("none", "attention"):
        yield
        return
    batch = recipe.optim.batch_size
    pairs = training_pairs(data, recipe.data.views, batch, recipe.data.cleaning)
    masks = replace(pairs, dataset=cast(Dataset, Findings(pairs.dataset)))

    class G2DWithTrueMasks(G2D):
        """G2D with the ground truth as pseudo masks."""

        def __init__(self, settings: G2DSettings, tokenizer: PreTrainedTokenizerFast) -> None:
            super().__init__(settings, tokenizer)
            loader_settings = LoaderSettings(
                preprocess=self.preprocess, tokenize=self.tokenize,
                batch_size=batch, seed=seed, device=CPU, policy=recipe.augment.policy,
            )  # fmt: skip
            self.truths = PairLoader(masks, loader_settings)

        def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
            epoch, at = divmod(batch.step, self.truths.steps)
            augmented = next(self.truths.epoch(epoch, at)).images
            truth = (self.pseudo_mask.grey(augmented) > 0.5).float()[:, None]
            with mock.patch.object(PseudoMask, "forward", replace_forward(truth, arm)):
                return super().embed(batch)

    with mock.patch("g2dbench.methods.g2d.G2D", G2DWithTrueMasks):
        yield


def replace_forward(truth: Tensor, arm: str):  # type: ignore[no-untyped-def]  # a method's stand-in
    """A replacement of `PseudoMask.forward`: the ground truth (B, 1, S, S), or that on a grid."""
    original = PseudoMask.forward

    def forward(self: PseudoMask, attention: Tensor, images: Tensor) -> Tensor:
        if arm == "findings":
            return truth
        grid = F.interpolate(truth, attention.shape[2:], mode="area")
        # outside the findings, the attention decides
        return original(self, grid + 1e-4 * attention.mean(1, keepdim=True), images)

    return forward


class Findings:
    """A data set whose images are the masks: white on findings, else black."""

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        sample = self._data[index]
        union = np.zeros(sample.image.shape, bool)
        for mask in (sample.masks or {}).values():
            union |= mask
        return replace(sample, image=union.astype(np.uint8) * 255)


def evaluate(
    run: Path, finding: str, seed: int, data: Dataset, args: argparse.Namespace, registry: Registry
) -> Outcome:
    """Evaluate a run on `seg` with one finding."""
    task = registry.find(TaskCard, "seg").load()
    one = replace(task.PROTOCOLS["small"], findings=(finding,))
    spec = CellSpec(
        model=str(run), task="seg", data=data.card.name, protocol="small",
        fraction=args.fraction, seed=seed, subset_seed=seed,
    )  # fmt: skip
    out = args.out / "results" / finding.replace(" ", "-")
    with mock.patch.dict(task.PROTOCOLS, {"small": one}):
        model = resolve(str(run), registry).load(registry, seed)
        return runner.evaluate(spec, model, task, data, Machine(device=CPU), out)


def table(finding: str, folders: dict[str, list[Path]], registry: Registry) -> None:
    """Print the Dice of each arm, and its difference from `none`."""
    print(f"\n{finding}: Dice in per cent, mean and standard deviation over seeds; minus none")
    for arm, cells in folders.items():
        values = [100 * value_of(cell) for cell in cells]
        spread = f"+-{stdev(values):.1f}" if len(values) > 1 else ""
        line = f"  {arm:<10} {fmean(values):.1f}{spread}"
        if arm != "none" and "none" in folders:
            found = compare(cells, folders["none"], registry)
            each = ", ".join(f"{100 * value:+.1f}" for value in found.by_seed)
            line += (
                f"  {100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] "
                f"p {found.p_patients:.3f} over patients, {found.p_seeds:.3f} over seeds; {each}"
            )
        print(line)


def value_of(cell: Path) -> float:
    """The Dice of a finished cell."""
    result = load(cell / RESULT_FILE)
    if result.main is None:
        raise SystemExit(f"{cell} has no score: {result.reason}")
    return result.main.value


if __name__ == "__main__":
    main()
