"""Overlays: outlines at the border of a mask, dashes for predictions, a panel for every image."""

import numpy as np
import pytest

from g2dbench.figures.overlay import (
    PREDICTION_COLOR,
    TRUTH_COLOR,
    Overlay,
    Panel,
    draw_overlay,
    draw_overlays,
    outlines,
)

IMAGE = np.full((50, 50), 100, np.uint8)


def test_an_outline_runs_through_the_border_pixels() -> None:
    mask = np.zeros((50, 50), bool)
    mask[10:20, 30:45] = True
    (points,) = outlines(mask)
    assert points.min(axis=0).tolist() == [30.5, 10.5]
    assert points.max(axis=0).tolist() == [44.5, 19.5]
    assert outlines(None) == outlines(np.zeros((5, 5), bool)) == []


def colored(picture: object, color: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == color).all(axis=-1).sum())


def test_ground_truth_is_solid_and_a_prediction_is_dashed() -> None:
    box = ((10.0, 10.0, 40.0, 40.0),)
    truth = draw_overlay(IMAGE, Overlay(truth_boxes=box), 200)
    predicted = draw_overlay(IMAGE, Overlay(predicted_boxes=box), 200)
    solid, dashed = colored(truth, TRUTH_COLOR), colored(predicted, PREDICTION_COLOR)
    assert solid > 900
    assert 0.35 * solid < dashed < 0.7 * solid


def test_a_heat_map_leaves_unseen_pixels_as_they_are() -> None:
    heat = np.full((50, 50), np.nan, np.float32)
    heat[:, :25] = 1.0
    picture = np.asarray(draw_overlay(IMAGE, Overlay(heat=heat, heat_range=(0.0, 1.0)), 50))
    assert (picture[:, 27:] == 100).all()
    assert (picture[:, :23] != 100).any(axis=-1).all()


@pytest.mark.parametrize("count", [0, 1, 5, 6, 40])
def test_a_sheet_has_room_for_every_panel(count: int) -> None:
    panel = Panel(IMAGE, Overlay(), "a heading " * 20, "a caption")
    picture = draw_overlays("title", [panel] * count)
    assert picture.width < 1300
    assert colored(picture, (100, 100, 100)) >= count * 219 * 219
