"""Paired comparison of finished cells: by hand, degenerate, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult
from g2dbench.registry import Registry
from g2dbench.reporting.paired_comparison import compare
from g2dbench.result import PREDICTIONS_FILE, Cell, Provenance, Result, Score, save
from g2dbench.system.files import file_digest

TRUTH = np.zeros((4, 4), bool)
TRUTH[:2] = True  # 8 pixels


def predicted(found: int) -> list[int]:
    """A mask that covers so many of the truth's 8 pixels and nothing else: Dice 2n / (n + 8)."""
    mask = np.zeros(16, bool)
    mask[:found] = True
    runs: list[int] = rle.encode(mask.reshape(4, 4))
    return runs


def cell(
    folder: Path, model: str, seed: int, found: list[int], data: str = "d" * 8, task: str = "seg"
) -> Path:
    table = pd.DataFrame(
        [
            {
                "id": f"image{n}", "patient": f"patient{n}", "finding": "opacity",
                "height": 4, "width": 4, "truth": rle.encode(TRUTH), "predicted": predicted(count),
            }
            for n, count in enumerate(found)
        ]
    )  # fmt: skip
    place = folder / f"{model}-{seed}"
    place.mkdir(parents=True)
    table.to_parquet(place / PREDICTIONS_FILE)
    save(
        Result(
            cell=Cell(
                model=model, model_seed=seed, task=task, data="toy", protocol="small",
                fraction=0.5, seed=seed,
            ),
            status="done",
            metric="dice",
            scores={"dice": Score(value=0.0)},
            provenance=Provenance(
                version="0", weights=model, data=data, subset="s",
                predictions=file_digest(place / PREDICTIONS_FILE),
            ),
        ),
        place,
    )  # fmt: skip
    return place


def dice(found: int) -> float:
    return 2 * found / (found + 8)


def test_the_difference_is_that_of_the_means_over_seeds(tmp_path: Path) -> None:
    ours = [cell(tmp_path, "a", 0, [8, 4, 2, 1]), cell(tmp_path, "a", 1, [8, 8, 2, 2])]
    theirs = [cell(tmp_path, "b", 0, [4, 4, 1, 1]), cell(tmp_path, "b", 1, [2, 4, 2, 1])]
    found = compare(ours, theirs, Registry())
    first = np.mean([dice(n) for n in (8, 4, 2, 1)]) - np.mean([dice(n) for n in (4, 4, 1, 1)])
    second = np.mean([dice(n) for n in (8, 8, 2, 2)]) - np.mean([dice(n) for n in (2, 4, 2, 1)])
    assert found.by_seed == pytest.approx((first, second))
    assert found.value == pytest.approx((first + second) / 2)
    assert found.low <= found.value <= found.high
    assert found.p_seeds == pytest.approx(stats.ttest_1samp([first, second], 0).pvalue)


def test_the_order_of_the_models_changes_only_the_sign(tmp_path: Path) -> None:
    ours, theirs = [cell(tmp_path, "a", 0, [8, 4, 2])], [cell(tmp_path, "b", 0, [4, 4, 1])]
    forth, back = compare(ours, theirs, Registry()), compare(theirs, ours, Registry())
    assert (forth.value, forth.low, forth.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    assert forth.p_patients == back.p_patients


def test_equal_predictions_have_a_difference_of_zero(tmp_path: Path) -> None:
    ours, theirs = [cell(tmp_path, "a", 0, [8, 4])], [cell(tmp_path, "b", 0, [8, 4])]
    found = compare(ours, theirs, Registry())
    assert (found.value, found.low, found.high, found.p_patients) == (0, 0, 0, 1)
    assert np.isnan(found.p_seeds)


def test_a_better_model_on_every_patient_is_significant(tmp_path: Path) -> None:
    ours = [cell(tmp_path, "a", 0, [8] * 20)]
    theirs = [cell(tmp_path, "b", 0, [1, 2, 3, 4] * 5)]
    found = compare(ours, theirs, Registry())
    assert found.low > 0
    # 2 / 1001 of the percentile bootstrap, expanded for 20 patients
    assert found.p_patients == pytest.approx(0.00716, abs=1e-5)


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    one = cell(tmp_path / "1", "a", 0, [8, 4])
    cases = [
        (cell(tmp_path / "2", "b", 1, [8, 4]), "their seed differs"),
        (cell(tmp_path / "3", "b", 0, [8, 4], data="e" * 8), "their data is not the same"),
        (cell(tmp_path / "4", "b", 0, [8, 4, 4]), "different images"),
    ]
    for other, words in cases:
        with pytest.raises(BadResult, match=words):
            compare([one], [other], Registry())
    with pytest.raises(BadResult, match="1 and 0 cells"):
        compare([one], [], Registry())
    (cases[0][0] / PREDICTIONS_FILE).unlink()
    with pytest.raises(BadResult, match="no predictions"):
        compare([cases[0][0]], [cases[0][0]], Registry())
