"""Figures for papers: what is drawn, the same bytes twice, strangers' text, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from support.mask_cells import TRUTH, mask_cell
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadResult, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.reporting.figures import canvas, efficiency, forest, masks
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard, build_leaderboard
from g2dbench.reporting.stored_results import StoredResult, read_results
from g2dbench.result import Result, Score, load, save
from g2dbench.sample import Sample

pytest.importorskip("matplotlib", reason="figures need the extra: pip install 'g2dbench[figures]'")

BEST = [8, 7, 6, 8, 5, 7, 8, 6, 7, 8, 7, 6]
WORSE = [3, 2, 4, 5, 1, 3, 4, 2, 5, 3, 2, 3]
HOSTILE = r"<script>$\frac{" + "\x1b[31m"


def scored(value: float, **changes: Any) -> Result:
    score = Score(value=value, low=value - 0.1, high=value + 0.2, n=50)
    return result(scores={"dice": score}, **changes)


def curves() -> list[Result]:
    return [
        scored(0.4 + fraction / 3, model=model, fraction=fraction, data=data)
        for model in ("g2d", "convirt", HOSTILE)
        for fraction in (0.01, 0.1, 1.0)
        for data in ("rsna", "siim")
    ]


def cells(folder: Path) -> tuple[list[StoredResult], Leaderboard]:
    for model, found in (("best", BEST), ("worse", WORSE)):
        mask_cell(folder, model, 0, found)
    stored, _ = read_results(folder)
    return stored, build_leaderboard([each.result for each in stored])


def drawn(make: Callable[[], Any], out: Path) -> bytes:
    with canvas.style():
        canvas.save(make(), out)
    return out.read_bytes()


def test_panels_have_the_points_and_intervals_of_the_leaderboard() -> None:
    panels = efficiency.find_panels(build_leaderboard(curves()))
    assert [panel.title for panel in panels] == ["seg rsna", "seg siim"]
    points = panels[0].points["g2d"]
    assert [x for x, _ in points] == [1, 10, 100]
    wanted = [0.4 + fraction / 3 for fraction in (0.01, 0.1, 1)]
    assert [entry.mean for _, entry in points] == pytest.approx(wanted)
    with canvas.style():
        axes = efficiency.draw(build_leaderboard(curves())).axes[0]
        heights = [line.get_ydata() for line in axes.get_lines() if line.get_marker() == "o"]
    assert heights[0] == pytest.approx([40.33, 43.33, 73.33], abs=0.01)
    assert axes.get_xscale() == "log"


def test_shots_and_fractions_are_panels_of_their_own() -> None:
    results = [scored(0.5, fraction=f) for f in (0.1, 1.0)]
    results += [scored(0.5, fraction=1.0, shots=k) for k in (1, 4)]
    panels = efficiency.find_panels(build_leaderboard(results))
    assert {panel.unit for panel in panels} == {"% of training patients", "patients per finding"}


def test_a_point_without_an_interval_has_no_bar() -> None:
    results = [result(0.5, fraction=f, scores={"dice": Score(value=0.5)}) for f in (0.1, 1.0)]
    with canvas.style():
        assert efficiency.draw(build_leaderboard(results)).axes


def test_one_fraction_is_no_curve_and_many_models_are_too_many() -> None:
    with pytest.raises(BadResult, match="no curve to draw"):
        efficiency.find_panels(build_leaderboard([scored(0.5)]))
    many = [scored(0.5, model=f"m{k}", fraction=f) for k in range(9) for f in (0.1, 1.0)]
    with pytest.raises(BadResult, match="too many for one figure"):
        efficiency.find_panels(build_leaderboard(many))


def test_the_forest_has_the_differences_of_compare(tmp_path: Path) -> None:
    stored, board = cells(tmp_path)
    (found,), left_out = forest.find_differences(board, stored, Registry(), None, quiet)
    assert not left_out
    wanted = np.mean([2 * n / (n + 8) for n in WORSE]) - np.mean([2 * n / (n + 8) for n in BEST])
    assert (found.model, found.reference) == ("worse", "best")
    assert found.value == pytest.approx(100 * wanted)
    assert found.low < found.value < found.high < 0
    assert found.p_holm < 0.05
    (other,), _ = forest.find_differences(board, stored, Registry(), "worse", quiet)
    assert other.value == pytest.approx(-found.value)
    with pytest.raises(Misuse, match="did you mean 'worse'"):
        forest.find_differences(board, stored, Registry(), "wrose", quiet)


def test_a_larger_distance_is_left_of_0(tmp_path: Path) -> None:
    for model, found in (("near", [8] * 11 + [7]), ("far", [2, 1] * 6)):
        place = mask_cell(tmp_path, model, 0, found)
        save(load(place / "result.json").model_copy(update={"metric": "hd95"}), place)
    stored, _ = read_results(tmp_path)
    board = build_leaderboard([each.result for each in stored])
    (found,), _ = forest.find_differences(board, stored, Registry(), None, quiet)
    assert (found.model, found.reference) == ("far", "near")
    assert found.value < 0
    assert found.low <= found.value <= found.high


def test_a_heading_hides_the_line_of_zero_behind_it(tmp_path: Path) -> None:
    stored, board = cells(tmp_path)
    found, _ = forest.find_differences(board, stored, Registry(), None, quiet)
    with canvas.style():
        names, axes = forest.draw(found).axes
    heading, model = names.texts
    assert "minus best" in heading.get_text()
    assert heading.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
    assert model.get_bbox_patch() is None
    assert names.get_zorder() > axes.get_zorder()


class Images:
    """A data set of one image size, as the figure of masks reads it."""

    def __init__(self, ids: list[str]) -> None:
        import pandas as pd

        self.table = pd.DataFrame({"id": ids})

    def __getitem__(self, row: int) -> Sample:
        image = np.full((4, 4), 90, np.uint8)
        return Sample(id=self.table["id"][row], patient="p", image=image)


def sheet_of(folder: Path, ids: tuple[str, ...] = ()) -> masks.Sheet:
    stored, board = cells(folder)
    images = Images([f"image{n}" for n in range(12)])
    return masks.find_sheet(board, stored, lambda _: images, ids)  # type: ignore[arg-type, return-value]


def test_masks_are_those_of_the_predictions(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path)
    assert sheet.models == ("best", "worse")
    assert len(sheet.rows) == masks.DEFAULT_IMAGES
    first = sheet.rows[0]
    assert first.title == "image0\nopacity"
    for overlay, found in zip(first.overlays, (BEST[0], WORSE[0]), strict=True):
        assert overlay.truth_mask is not None
        assert (overlay.truth_mask == TRUTH).all()
        assert overlay.predicted_mask is not None
        assert overlay.predicted_mask.sum() == found


def test_images_are_chosen_by_id(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, ("image7", "image2"))
    assert [row.title.split("\n")[0] for row in sheet.rows] == ["image2", "image7"]
    with pytest.raises(Misuse, match="none of the predicted images"):
        masks.find_sheet(*reversed(cells(tmp_path / "more")), lambda _: None, ("nobody",))  # type: ignore[arg-type, return-value]


def test_results_without_masks_have_no_sheet() -> None:
    board = build_leaderboard([result()])
    with pytest.raises(BadResult, match="evaluate seg, det or ground first"):
        masks.find_sheet(board, [], lambda _: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_results_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    stored, board = cells(tmp_path / "cells")
    found, _ = forest.find_differences(board, stored, Registry(), None, quiet)
    sheet = sheet_of(tmp_path / "others")
    for make in (
        lambda: efficiency.draw(build_leaderboard(curves())),
        lambda: forest.draw(found),
        lambda: masks.draw(sheet),
    ):
        one = drawn(make, tmp_path / f"one.{kind}")
        other = drawn(make, tmp_path / f"other.{kind}")
        assert one == other
        assert len(one) > 1000
        for word in (b"Matplotlib v", b"CreationDate", b"dc:date"):
            assert word not in one


def test_strangers_text_stays_text_in_svg(tmp_path: Path) -> None:
    text = drawn(lambda: efficiency.draw(build_leaderboard(curves())), tmp_path / "a.svg").decode()
    root = ElementTree.fromstring(text)
    assert not [each for each in root.iter() if each.tag.endswith("script")]
    shown = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert HOSTILE.replace("\x1b", " ") in shown
    assert not any(ord(c) < 32 and c not in "\n\t" for c in text)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["efficiency", "RESULTS", "--out", "a.bmp"], "no format '.bmp'"),
        (["efficiency", "RESULTS", "--out", "a.svg"], "no curve to draw"),
        (["forest", "RESULTS", "--reference", "nobody", "--out", "a.svg"], "there is no model"),
        (["forest", "no-folder", "--out", "a.svg"], "no results folder"),
        (["masks", "RESULTS", "--out", "a.svg"], "no data set 'toy'"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cells(tmp_path / "results")
    store = ["--store", str(tmp_path)] if words[0] == "masks" else []
    words = ["results" if word == "RESULTS" else word for word in words]
    out = CliRunner().invoke(app, ["figure", *words, *store])
    assert out.exit_code in (1, 2)
    assert out.exception is None or isinstance(out.exception, SystemExit)
    assert reason in " ".join(out.output.split())
    assert not (tmp_path / "a.svg").exists()


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    cells(tmp_path / "results")
    out = tmp_path / "forest.svg"
    words = ["forest", str(tmp_path / "results"), "--out", str(out)]
    done = CliRunner().invoke(app, ["figure", *words])
    assert done.exit_code == 0, done.output
    assert out.read_text().startswith("<?xml")
