"""Splits and label fractions: nested, stratified, by patient, and reproducible."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from g2dbench.cards import DatasetCard
from g2dbench.data.splits.fractions import sample_fraction
from g2dbench.data.splits.stratified import assign, interleave
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

CARD = DatasetCard(
    name="made", summary="", offers=("labels",), findings=("a", "b", "c"), url="", licence=""
)


@dataclass
class Table:
    """The attributes of a data set that `sample_fraction` reads."""

    table: pd.DataFrame
    card: DatasetCard = CARD

    def __len__(self) -> int:
        return len(self.table)


def make_table(count: int = 16010, per_patient: int = 1, seed: int = 0) -> Table:
    """A data set with `a` in 22 % of the images, `b` in 3 % and `c` in 0.1 %."""
    generator = np.random.default_rng(seed)
    rates = np.array([0.22, 0.03, 0.001])
    labels = (generator.random((count, 3)) < rates).astype(float)
    frame = pd.DataFrame(labels, columns=["label:a", "label:b", "label:c"])
    frame.insert(0, "id", [f"i{n:06d}" for n in range(count)])
    frame.insert(1, "patient", [f"p{n // per_patient:06d}" for n in range(count)])
    return Table(frame)


def shuffled(data: Table) -> Table:
    order = np.random.default_rng(9).permutation(len(data))
    return Table(data.table.iloc[order].reset_index(drop=True))


def test_one_percent_of_rsna_is_160_images_and_nested_in_ten_in_all() -> None:
    data = make_table()
    subsets = [sample_fraction(data, fraction, 0, ("a", "b", "c")) for fraction in (0.01, 0.1, 1.0)]
    assert [len(subset.ids) for subset in subsets] == [160, 1601, 16010]
    one, ten, full = (set(subset.ids) for subset in subsets)
    assert one < ten < full
    assert list(subsets[0].indices) == sorted(subsets[0].indices)
    assert [data.table["id"][place] for place in subsets[0].indices] == list(subsets[0].ids)


@pytest.mark.parametrize("subset_seed", range(5))
@pytest.mark.parametrize("fraction", [0.01, 0.03, 0.1, 0.5])
def test_prevalence_is_preserved_at_every_fraction(fraction: float, subset_seed: int) -> None:
    data = make_table()
    part = data.table.iloc[list(sample_fraction(data, fraction, subset_seed, ("a", "b")).indices)]
    for finding in ("label:a", "label:b"):
        expected = data.table[finding].mean() * len(part)
        # Two strata contain each finding: one rounding in each, and a positive moved to the front.
        assert abs(part[finding].sum() - expected) <= 3


def test_fractions_nest_for_any_findings_and_many_images_per_patient() -> None:
    data = make_table(3000, per_patient=3)
    before: set[str] = set()
    for fraction in (0.001, 0.01, 0.02, 0.3, 0.31, 1):
        now = set(sample_fraction(data, fraction, 4, ("c", "a")).ids)
        assert before <= now
        before = now
        chosen = data.table[data.table["id"].isin(now)]
        whole = data.table[data.table["patient"].isin(chosen["patient"])]
        assert len(whole) == len(chosen)
    assert len(before) == 3000


@pytest.mark.parametrize("subset_seed", range(4))
def test_every_finding_has_a_positive_in_the_smallest_subset(subset_seed: int) -> None:
    data = make_table()
    subset = sample_fraction(data, 1e-6, subset_seed, ("a", "b", "c"))
    part = data.table.iloc[list(subset.indices)]
    assert (part[["label:a", "label:b", "label:c"]].sum() >= 1).all()
    assert len(part) <= 3


def test_a_subset_depends_on_its_seed_and_not_on_row_order() -> None:
    data = make_table(2000)
    one, two = sample_fraction(data, 0.1, 0), sample_fraction(data, 0.1, 1)
    assert one.digest != two.digest
    assert len(set(one.ids) & set(two.ids)) < 60
    again = sample_fraction(shuffled(data), 0.1, 0)
    assert again.digest == one.digest
    assert set(again.ids) == set(one.ids)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_impossible_fractions_are_misuse(fraction: float) -> None:
    with pytest.raises(Misuse, match="fraction"):
        sample_fraction(make_table(10), fraction)


def test_findings_that_are_absent_or_unknown_are_errors() -> None:
    data = make_table(100)
    data.table["label:c"] = 0.0
    assert len(sample_fraction(data, 0.1, 0, ("a", "c")).ids) == 10
    with pytest.raises(BadData, match="no training image of 'made' has c"):
        sample_fraction(data, 0.1, 0, ("c",))
    with pytest.raises(Misuse, match="no finding"):
        sample_fraction(data, 0.1, 0, ("d",))
    data.table["label:c"] = np.nan
    assert len(sample_fraction(data, 0.1, 0, ("c",)).ids) == 10
    with pytest.raises(BadData, match="empty"):
        sample_fraction(Table(data.table.iloc[:0]), 0.1)


def test_a_subset_of_a_set_without_labels_is_selected() -> None:
    data = Table(make_table(50).table[["id", "patient"]])
    assert len(sample_fraction(data, 0.5).ids) == 25


def test_every_contiguous_part_of_the_order_is_stratified() -> None:
    strata = {f"p{n}": (("x",) if n % 4 == 0 else ()) for n in range(1000)}
    order = interleave(strata, "salt")
    assert sorted(order) == sorted(strata)
    for start in range(0, 900, 50):
        positives = sum(strata[patient] == ("x",) for patient in order[start : start + 100])
        assert abs(positives - 25) <= 1


def test_rare_strata_spread_over_the_order() -> None:
    strata = {f"p{n}": (f"only{n:03d}",) for n in range(200)}
    strata |= {f"q{n}": () for n in range(800)}
    order = interleave(strata, "salt")
    for start in range(0, 1000, 200):
        assert 30 <= sum(name[0] == "p" for name in order[start : start + 200]) <= 50


def records(count: int, per_patient: int = 1) -> list[Record]:
    generator = np.random.default_rng(0)
    return [
        Record(
            id=f"i{n}", path=Path("x"), patient=f"p{n // per_patient}",
            labels={"Pneumonia": int(generator.random() < 0.225)},
        )
        for n in range(count)
    ]  # fmt: skip


def test_splits_have_the_published_sizes_of_rsna_and_siim() -> None:
    split = assign(records(26684), "rsna", (0.6, 0.2, 0.2))
    assert Counter(split.values()) == {"train": 16010, "valid": 5337, "test": 5337}
    split = assign(records(12047), "siim", (0.7, 0.15, 0.15))
    assert Counter(split.values()) == {"train": 8433, "valid": 1807, "test": 1807}


def test_splits_are_stratified_and_independent_of_order() -> None:
    items = records(5000)
    split = assign(items, "x", (0.6, 0.2, 0.2))
    assert assign(items[::-1], "x", (0.6, 0.2, 0.2)) == split
    assert assign(items, "y", (0.6, 0.2, 0.2)) != split
    total = sum(item.labels["Pneumonia"] for item in items)
    for name, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        positives = sum(item.labels["Pneumonia"] for item in items if split[item.patient] == name)
        assert abs(positives - total * share) <= 2


def test_official_splits_are_kept_and_must_not_share_patients() -> None:
    items = records(40, per_patient=2)
    official = Record(id="o", path=Path("x"), patient="p3", split="test")
    split = assign([*items, official], "x", (1.0, 0.0, 0.0))
    assert split["p3"] == "test"
    assert set(split.values()) == {"train", "test"}
    other = Record(id="q", path=Path("x"), patient="p3", split="train")
    with pytest.raises(BadData, match="share patient 'p3'"):
        assign([official, other], "x", (1.0, 0.0, 0.0))
