"""Cases of stored predictions: hits, false positives and misses of each form, by hand."""

import numpy as np
import pandas as pd
import pytest
from support.reporting.report import decisions

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult
from g2dbench.reporting.errors.cases import Case, find_cases


def kinds(cases: list[Case]) -> list[tuple[str, str]]:
    return [(case.id, case.kind) for case in cases]


def table(**columns: object) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))  # type: ignore[arg-type]
    keys = {"id": [f"i{at}" for at in range(rows)], "patient": "p", "finding": "nodule"}
    return pd.DataFrame({**keys, **columns})


def test_decisions_by_their_claim_the_clearest_of_each_kind_first() -> None:
    found = find_cases(
        table(
            truth=[1, 1, 0, 0, 0, 1, -1, np.nan],
            score=[0.9, 0.2, 0.8, 0.95, 0.1, 0.4, 0.99, 0.99],
            claim=[1, 0, 1, 1, 0, 0, 1, 1],
        )
    )
    assert kinds([case for case in found if case.kind == "false positive"]) == [
        ("i3", "false positive"), ("i2", "false positive"),
    ]  # fmt: skip
    assert [case.id for case in found if case.kind == "miss"] == ["i1", "i5"]
    assert [case.id for case in found if case.kind == "true positive"] == ["i0"]
    assert len(found) == 5


def test_a_threshold_decides_as_binarize_does_and_without_one_nothing_is_claimed() -> None:
    columns = {"truth": [0.0, 0.0], "score": [0.5, 0.4]}
    assert kinds(find_cases(table(**columns, threshold=0.5))) == [("i0", "false positive")]
    assert find_cases(table(**columns, threshold=np.nan)) == []


def test_of_exclusive_classes_the_highest_score_of_an_image_is_claimed() -> None:
    rows = pd.DataFrame({
        "id": ["a", "a", "b", "b"], "patient": "p", "finding": ["x", "y"] * 2,
        "truth": [1.0, 0.0, 1.0, 0.0], "score": [0.9, 0.1, 0.3, 0.7],
        "threshold": np.nan, "exclusive": True,
    })  # fmt: skip
    found = {(case.id, case.finding): case.kind for case in find_cases(rows)}
    assert found == {
        ("a", "x"): "true positive", ("b", "y"): "false positive", ("b", "x"): "miss",
    }  # fmt: skip


def mask(columns: slice) -> str:
    grid = np.zeros((4, 4), bool)
    grid[:, columns] = True
    return rle.encode(grid)


def test_masks_by_their_dice_and_by_their_area_where_nothing_is() -> None:
    left, half, none = mask(slice(0, 1)), mask(slice(0, 2)), mask(slice(0, 0))
    found = find_cases(
        table(
            truth=[left, left, none, none, None], predicted=[half, none, half, none, half],
            height=4, width=4,
        )
    )  # fmt: skip
    values = {case.id: (case.kind, case.value) for case in found}
    assert values == {
        "i0": ("true positive", pytest.approx(2 / 3)), "i1": ("miss", 0.0),
        "i2": ("false positive", 0.5),
    }  # fmt: skip


def test_boxes_by_their_overlap() -> None:
    one, far = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
    found = find_cases(
        table(boxes=[one, far, [*one, *far], []], scores=[[0.8], [0.7], [0.6, 0.9], []],
              truth=[one, one, [], []])
    )  # fmt: skip
    assert sorted(kinds(found)) == [
        ("i0", "true positive"), ("i1", "false positive"), ("i1", "miss"), ("i2", "false positive"),
    ]  # fmt: skip
    assert next(case.value for case in found if case.id == "i2") == 0.9


def test_maps_by_the_dice_of_the_pixels_above_the_threshold() -> None:
    geometry = {
        "height": 4, "width": 4, "size": 4, "scale_x": 1.0, "scale_y": 1.0, "offset_x": 0.0,
        "offset_y": 0.0, "resampling": "nearest", "grid_h": 2, "grid_w": 2,
    }  # fmt: skip
    columns = {name: [value] * 2 for name, value in geometry.items()}
    truth = [mask(slice(0, 2)), mask(slice(2, 4))]
    rows = table(grid=[[1.0, 0.0, 1.0, 0.0]] * 2, threshold=[0.5] * 2, truth=truth, **columns)
    assert {case.id: (case.kind, case.value) for case in find_cases(rows)} == {
        "i0": ("true positive", 1.0), "i1": ("miss", 0.0),
    }  # fmt: skip
    with pytest.raises(BadResult, match="resampling"):
        find_cases(rows.assign(resampling="magic"))
    with pytest.raises(BadResult, match="map"):
        find_cases(rows.assign(grid_h=3))


@pytest.mark.parametrize("seed", range(5))
def test_cases_agree_with_the_confusion_counts(seed: int) -> None:
    rows = decisions(seed)
    found = find_cases(rows)
    counts = {
        "true positive": ((rows["truth"] == 1) & (rows["claim"] == 1)).sum(),
        "false positive": ((rows["truth"] == 0) & (rows["claim"] == 1)).sum(),
        "miss": ((rows["truth"] == 1) & (rows["claim"] == 0)).sum(),
    }
    assert {kind: sum(case.kind == kind for case in found) for kind in counts} == counts


@pytest.mark.parametrize(
    "columns",
    [
        {"other": [1.0]},
        {"boxes": [[1.0]], "scores": [[1.0]], "truth": [[]]},
        {"boxes": [["a"] * 4], "scores": [[1.0]], "truth": [[]]},
        {"truth": ["x"], "score": [1.0], "claim": [1.0]},
        {"truth": [1.0], "score": [None], "claim": [{}]},
        {"truth": ["zz"], "predicted": ["00"], "height": [4], "width": [4]},
        {"truth": ["0"], "predicted": [None], "height": ["a"], "width": [4]},
    ],
)
def test_broken_or_unknown_predictions_are_one_clear_error(columns: dict[str, list]) -> None:
    with pytest.raises(BadResult):
        find_cases(table(**columns))
