"""The 734 scores that the G2D paper publishes (arXiv 2312.01522), and how its names are ours."""

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from g2dbench.data.tables.columns import canonical
from g2dbench.evaluation.planning.suite import read_suite
from g2dbench.system.overrides import split_name

TASKS: Mapping[str, str] = {
    "segmentation": "seg",
    "segmentation (MedKLIP setting)": "seg",
    "detection": "det",
    "zero-shot grounding": "ground",
    "zero-shot classification": "zeroshot",
    "linear classification": "cls",
    "fine-tuned classification": "finetune",
    "fine-tuned classification (MedKLIP setting)": "finetune",
}
DATASETS: Mapping[str, str] = {
    "SIIM": "siim",
    "RSNA": "rsna",
    "Object-CXR": "object_cxr",
    "CXR14": "nih_cxr14",
    "CheXpert": "chexpert",
    "COVIDx": "covidx",
}
LABELS: Mapping[str, str] = {"Random Init": "random-init", "ImageNet Init": "imagenet"}
"""The paper's names of models that are not ours in lower case."""

ENCODER, DECODER = "G2D (encoder)", "G2D (encoder-decoder)"


@dataclass(frozen=True)
class PublishedScore:
    """One cell of a published table, in per cent; value and std are NaN if not printed.

    note: what the table prints instead of a number.
    """

    table: str
    task: str
    dataset: str
    metric: str
    fraction: float
    method: str
    value: float
    std: float
    note: str

    @property
    def block(self) -> tuple[str, str, str, str]:
        """Table, task, data set, metric: what is printed together."""
        return self.table, self.task, self.dataset, self.metric

    @property
    def our_metric(self) -> str:
        """The metric's name here without case and punctuation; a finding comes after a colon."""
        name, _, finding = self.metric.partition("/")
        return metric_key(f"{name}:{finding}" if finding else name)

    def is_of(self, model: str, task: str, protocol: str) -> bool:
        """Whether a model of ours, by its label, is this method under this protocol.

        The paper has two rows of G2D where a decoder is fitted: with and without its own decoder.
        """
        method = "G2D" if self.method in (ENCODER, DECODER) else self.method
        name = LABELS.get(method, method.lower())
        label = model.lower()
        if re.match(rf"{re.escape(name)}($|[-:@#+])", label) is None:
            return False
        if method == "GLoRIA" and label.startswith("gloria-mimic"):
            return False
        own_decoder = task == "seg" and not split_name(protocol)[0].endswith("-encoder")
        return self.method not in (ENCODER, DECODER) or (self.method == DECODER) == own_decoder


def metric_key(name: str) -> str:
    """A metric's name to compare by: lower case, findings without punctuation."""
    metric, _, finding = name.partition(":")
    return f"{metric.lower()}:{canonical(finding)}" if finding else metric.lower()


@cache
def read_published() -> tuple[PublishedScore, ...]:
    """All published scores, in the order of the tables."""
    with (files(__package__) / "g2d.csv").open(encoding="utf-8") as file:
        return tuple(
            PublishedScore(
                row["table"],
                row["task"],
                row["dataset"],
                row["metric"],
                float(row["fraction"]),
                row["method"],
                float(row["value"] or math.nan),
                float(row["std"] or math.nan),
                row["note"],
            )
            for row in csv.DictReader(file)
        )


@cache
def paper_settings() -> Mapping[tuple[str, str], tuple[frozenset[str], frozenset[str]]]:
    """(table, task) -> protocols and data sets of the suite `paper`, as `--data` names them."""
    found: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = {}
    for row in read_suite("paper").rows:
        table = row.title.removeprefix("Table ").partition(":")[0]
        protocols, data = found.get((table, row.task), (frozenset(), frozenset()))
        names = [row.protocol] if row.protocol else []
        found[table, row.task] = protocols.union(names), data.union(row.data)
    return found
