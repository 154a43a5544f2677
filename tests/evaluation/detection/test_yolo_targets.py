"""MGCA's rules of target assignment and loss, by hand."""

import math

import numpy as np
import pytest
import torch

from g2dbench.evaluation.detection.yolo_targets import (
    MGCA,
    AnchorLayout,
    assign_targets,
    detection_loss,
)


@pytest.fixture(scope="module")
def layout() -> AnchorLayout:
    """Anchors have their published sizes at 416 pixels; grids 52, 26, 13."""
    return AnchorLayout(416, (52, 26, 13), torch.device("cpu"))


def index(layout: AnchorLayout, scale: int, anchor: int, row: int, column: int) -> int:
    side = layout.sides[scale]
    return int(layout.starts[scale]) + (anchor * side + row) * side + column


def cross_entropy(logit: float, truth: float) -> float:
    chance = 1 / (1 + math.exp(-logit))
    return -truth * math.log(chance) - (1 - truth) * math.log(1 - chance)


def test_mgcas_rules_by_hand(layout: AnchorLayout) -> None:
    # 12 x 12 at stride 32: .375 cells; with a cell added to each side the anchors (116, 90) are
    # 4.625 x 3.8125: IoU 1.375 ** 2 / (4.625 * 3.8125) = .107; the other two overlap less.
    box = np.array([[194.0, 194, 206, 206]])
    ours, mgcas = assign_targets(box, layout), assign_targets(box, layout, anchor_margin=1)
    # at stride 8, (10, 13): 1.25 x 1.625 cells against 1.5 x 1.5: without a margin IoU .767
    assert ours.cells.tolist() == mgcas.cells.tolist()
    assert index(layout, 0, 0, 25, 25) not in ours.poor.tolist()
    # (16, 30) is 2 x 3.75 cells: IoU .30; with the margin 3 x 4.75 and 2.5 x 2.5: .44
    assert not len(ours.ignored)
    assert not len(mgcas.ignored)
    raw = torch.randn(1, len(layout.anchors), 6, generator=torch.Generator().manual_seed(0))
    plain = detection_loss(raw[..., :5], [mgcas], layout)
    expected = float(plain)
    for cell in mgcas.cells.tolist():
        scale = float(layout.scale_weights[cell])
        expected += scale * cross_entropy(float(raw[0, cell, 5]), 1)
        if cell in mgcas.poor.tolist():
            expected += scale * 0.5 * cross_entropy(float(raw[0, cell, 4]), 0)
    assert len(mgcas.poor) == 2
    assert float(detection_loss(raw, [mgcas], layout, MGCA)) == pytest.approx(expected, rel=1e-5)


def test_a_margin_can_make_an_anchor_overlap(layout: AnchorLayout) -> None:
    # 8 x 8 at stride 8: 1 cell; (10, 13) is 1.25 x 1.625: IoU .49; with the margin 4 / 5.91 = .68
    box = np.array([[196.0, 196, 204, 204]])
    cell = index(layout, 0, 0, 25, 25)
    assert cell in assign_targets(box, layout).poor.tolist()
    assert cell not in assign_targets(box, layout, anchor_margin=1).poor.tolist()
