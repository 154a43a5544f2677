"""Pre-training on real reports, evaluated on real radiographs: `python benchmarks/replication.py`.

    replication.py prepare  --data FOLDER --weights FOLDER   read the samples into small stores
    replication.py run --minutes 20 --jobs 4                 train, evaluate, print the tables
    replication.py table                                     print the tables of what is there

Four arms with the same encoder, EfficientNet-Lite0, 3 seeds each:
  g2d       from ImageNet weights and a sentence BERT (MiniLM), pre-trained on Open-i with the
            recipe `g2d-small`: alignment, then pixel alignment with pseudo masks
  vla       the same without pixel alignment (`model.pixel.target=none`)
  imagenet  the ImageNet weights, not trained on radiographs
  random    random weights
--weights is a folder with tu-tf_efficientnet_lite0.safetensors, tf_efficientnet_lite0.safetensors
and minilm/ (a BERT with its tokenizer), --data one with samples of public data sets in their
official layouts. Half of the patients of each sample are test patients. docs/replication.md has
the numbers. Every step writes its result when it ends, and is not run again.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from real_weights import LEAST_POSITIVE, Source, random_file, resplit

from g2dbench.data import prepare
from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.errors import BadResult
from g2dbench.evaluation.sweep import grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard.formats import to_markdown
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
from g2dbench.reporting.paired_comparison import compare
from g2dbench.reporting.stored_results import read_results
from g2dbench.system.machine import FeatureFolder, Machine

SIZE = 128
SEEDS = (0, 1, 2)
PRETRAINED = ("g2d", "vla")
ARMS = (*PRETRAINED, "imagenet", "random")
CORPUS = "open_i"
ENCODER = "tf_efficientnet_lite0"
RECIPE = (
    f"model.image.encoder=tu-{ENCODER}", f"model.image.size={SIZE}", "optim.lr=2e-4",
    f"data.size={SIZE}",
)  # fmt: skip
MASKS = ("ground_glass_opacity", "consolidation")
SOURCES = {
    "nih-facts": Source("nih_cxr14_small", "nih_cxr14", facts=True),
    "nih-small": Source("nih_cxr14_small", "nih_cxr14"),
    "rsna": Source("rsna_pneumonia_from_nih", "rsna"),
    "covidx": Source("covidx_mini", "covidx", options={"lists": "COVIDx9A"}),
    "covid-masks": Source("covid_cxr_segmentation", "images", findings=MASKS),
    "lungs": Source("covid_cxr_notes_lungs", "images", findings=("lungs_v7",)),
}
CELLS = (
    ("rsna", "cls", "sweep"), ("nih-facts", "cls", "sweep"), ("nih-small", "cls", "sweep"),
    ("covidx", "cls", "sweep"), ("rsna", "zeroshot", "g2d"), ("rsna", "ground", "g2d"),
    ("covid-masks", "ground", "g2d"), ("covid-masks", "attention", "g2d"),
    ("rsna", "ground", "contrast"), ("covid-masks", "ground", "contrast"),
    ("rsna", "attention", "g2d"), ("rsna", "seg", "small"), ("lungs", "seg", "small"),
    ("covid-masks", "seg", "small"), ("rsna", "det", "g2d"), (CORPUS, "retrieval", "full"),
)  # fmt: skip
ONLY_PRETRAINED = ("zeroshot", "ground", "attention", "retrieval")


@dataclass(frozen=True)
class Folders:
    """What a replication has on disk below --out."""

    out: Path

    @property
    def stores(self) -> Path:
        return self.out / "stores"

    @property
    def results(self) -> Path:
        return self.out / "results"

    def run(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / f"{arm}-s{seed}"

    def model(self, arm: str, seed: int, weights: Path) -> str:
        """What stands after --model for this arm and seed."""
        if arm in PRETRAINED:
            return str(self.run(arm, seed))
        file = weights / f"{ENCODER}.safetensors"
        if arm == "random":
            file = random_file(self.out / "random", seed)
        return f"encoder:{ENCODER}@{file}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("prepare", "run", "table", "cell"))
    parser.add_argument("place", nargs="*", help="of `cell`: source, task, protocol")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/replication"))
    parser.add_argument("--minutes", type=float, default=60, help="start nothing after this time")
    parser.add_argument("--jobs", type=int, default=1, help="steps at the same time")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    args = parser.parse_args()
    folders = Folders(args.out)
    if args.step == "prepare":
        prepare_stores(folders, args.data)
    elif args.step == "cell":
        evaluate(folders, args.weights, *args.place, seeds=args.seeds)
    elif args.step == "run":
        run(folders, args)
    if args.step in ("run", "table"):
        print_tables(folders, args.seeds)


def prepare_stores(folders: Folders, data: Path) -> None:
    """Read the corpus and every sample once, at the size of the encoder's input."""
    registry = Registry()
    wanted = {source.folder: (name, source) for name, source in SOURCES.items()}
    places: list[tuple[str, Path, str, dict[str, str], str | None]] = [
        (CORPUS, data.parent / CORPUS, CORPUS, {}, None)
    ]
    places += [
        (name, data / folder, source.reader, source.options, own_name(name, source))
        for folder, (name, source) in wanted.items()
    ]
    for name, root, reader, options, own in places:
        store = prepare.prepare(
            reader, root, folders.stores, progress=quiet, registry=registry, size=SIZE,
            options=options, own_name=own,
        )  # fmt: skip
        print(f"{name}: {len(store)} images", flush=True)


def own_name(name: str, source: Source) -> str | None:
    return name.replace("-", "_") if source.reader == "images" else None


def run(folders: Folders, args: argparse.Namespace) -> None:
    """Train every run and evaluate every cell, several at a time, until the time is over."""
    end = time.monotonic() + 60 * args.minutes
    seeds = SEEDS[: args.seeds]
    own = [sys.executable, __file__, "cell"]
    rest = ["--weights", str(args.weights), "--out", str(folders.out), "--seeds", str(args.seeds)]
    steps = [train_command(folders, arm, seed, args) for seed in seeds for arm in PRETRAINED]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda command: step(command, end), steps))
        list(pool.map(lambda place: step([*own, *place, *rest], end), CELLS))


def train_command(folders: Folders, arm: str, seed: int, args: argparse.Namespace) -> list[str]:
    settings = [
        *RECIPE, f"model.text.source={args.weights / 'minilm'}",
        f"model.image.weights={args.weights / f'tu-{ENCODER}.safetensors'}",
        *(["model.pixel.target=none"] if arm == "vla" else []),
    ]  # fmt: skip
    out = folders.run(arm, seed)
    command = [
        sys.executable, "-m", "g2dbench", "pretrain", "--recipe", "g2d-small", "--data", CORPUS,
        "--store", str(folders.stores), "--workers", "1", "--seed", str(seed),
        "--epochs", str(args.epochs), "--out", str(out), *(["--resume"] if out.exists() else []),
    ]  # fmt: skip
    return [*command, *(word for setting in settings for word in ("--set", setting))]


def step(command: Sequence[str], end: float) -> None:
    """Run one process; a failure is printed and stops nothing else."""
    name = " ".join(Path(word).name for word in command[2:] if not word.startswith("model."))
    if time.monotonic() > end:
        print(f"NOT STARTED, the time is over: {name}", flush=True)
        return
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    print(f"{'done' if done.returncode == 0 else 'FAILED'} in {seconds:.0f} s: {name}", flush=True)
    if done.returncode:
        print((done.stdout + done.stderr)[-2000:], flush=True)


def evaluate(
    folders: Folders, weights: Path, name: str, task: str, protocol: str, *, seeds: int
) -> None:
    """All arms and seeds on one task of one source."""
    registry = Registry()
    data = open_source(folders, name, registry)
    if data is None:
        return
    features = FeatureFolder(folders.out / "features")
    machine = Machine.choose("auto", "fp32", features=features)
    for arm in PRETRAINED if task in ONLY_PRETRAINED else ARMS:
        for seed in SEEDS[:seeds]:
            model = folders.model(arm, seed, weights)
            cells = grid.Grid(
                models=[model], labels={model: arm}, datasets=[name], tasks=[task],
                protocol=protocol, seeds=[seed],
            )  # fmt: skip
            bench = Workbench(registry, {name: data})
            for outcome in grid.run(cells.cells(bench), bench, machine, folders.results):
                if outcome.result.status != "done":
                    raise SystemExit(f"{arm} {name} {task}: {outcome.result.reason}")


def open_source(folders: Folders, name: str, registry: Registry) -> Dataset | None:
    """The data of a cell: the corpus with its own splits, or a sample with ours."""
    if name == CORPUS:
        return open_prepared(CORPUS, folders.stores, registry, size=SIZE)
    source = SOURCES[name]
    stored = own_name(name, source) or source.reader
    store = open_prepared(stored, folders.stores, registry, size=SIZE)
    found = resplit(store, name, source)
    if not found.card.findings:
        print(f"{name}: no finding has {LEAST_POSITIVE} images")
        return None
    return found


def print_tables(folders: Folders, seeds: int) -> None:
    """The leaderboard, and each arm minus the arms that it must beat, paired."""
    results, problems = read_results(folders.results)
    print(*problems, sep="\n")
    print(to_markdown(build_leaderboard([stored.result for stored in results])))
    cells: dict[tuple[str, str, str], dict[str, list[Path]]] = {}
    for stored in sorted(results, key=lambda one: one.result.cell.seed):
        cell = stored.result.cell
        by_arm = cells.setdefault((cell.task, cell.protocol, cell.data), {})
        by_arm.setdefault(cell.model, []).append(stored.folder)
    print("\n| task | data | comparison | difference | 95 % interval | p patients | p seeds |")
    print("|---|---|---|---|---|---|---|")
    for (task, protocol, data), by_arm in cells.items():
        for line in comparisons(by_arm, seeds):
            print(f"| {task}:{protocol} | {data} | {line}")


def comparisons(by_arm: dict[str, list[Path]], seeds: int) -> Iterator[str]:
    for one, other in (("g2d", "vla"), ("g2d", "imagenet"), ("imagenet", "random")):
        folders = by_arm.get(one, []), by_arm.get(other, [])
        if any(len(each) != seeds for each in folders):
            continue
        try:
            test = compare(*folders, Registry())
        except BadResult as error:
            yield f"{one} - {other} | {error} | | | |"
            continue
        yield (
            f"{one} - {other} | {test.value:+.3f} | [{test.low:+.3f}, {test.high:+.3f}] | "
            f"{test.p_patients:.3f} | {test.p_seeds:.3f} |"
        )


if __name__ == "__main__":
    main()
