"""The YOLOv3 head: grids for any pyramid, MGCA's widths, targets and loss by hand, boxes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from g2dbench.errors import Unsupported
from g2dbench.evaluation.detection.detector import NmsSettings, TrueBoxes, scale_inputs
from g2dbench.evaluation.detection.yolo import YoloHead, decode, detections
from g2dbench.evaluation.detection.yolo_targets import (
    ANCHORS,
    MGCA,
    AnchorLayout,
    Target,
    assign_targets,
    detection_loss,
)

CPU = torch.device("cpu")
SIZE = 416
"""The input size for which anchors have their published sizes; grids 52, 26, 13."""


@pytest.fixture(scope="module")
def layout() -> AnchorLayout:
    return AnchorLayout(SIZE, (52, 26, 13), CPU)


def index(layout: AnchorLayout, scale: int, anchor: int, row: int, column: int) -> int:
    side = layout.sides[scale]
    return int(layout.starts[scale]) + (anchor * side + row) * side + column


def pyramid(channels: list[int], strides: list[int], size: int, images: int = 2) -> list:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(images, c, size // s, size // s, generator=generator)
        for c, s in zip(channels, strides, strict=True)
    ]


def test_a_full_pyramid_is_read_where_its_strides_are() -> None:
    assert scale_inputs((2, 4, 8, 16, 32)) == ((2, 0), (3, 0), (4, 0))
    assert scale_inputs((4, 8, 16, 32)) == ((1, 0), (2, 0), (3, 0))


def test_missing_scales_are_pooled_from_finer_ones_else_upsampled_from_coarser_ones() -> None:
    assert scale_inputs((16,)) == ((0, -1), (0, 0), (0, 1))
    assert scale_inputs((32,)) == ((0, -2), (0, -1), (0, 0))
    assert scale_inputs((2, 4)) == ((1, 1), (1, 2), (1, 3))
    assert scale_inputs((4, 32)) == ((0, 1), (0, 2), (1, 0))
    assert scale_inputs((14,)) == ((0, -1), (0, 0), (0, 1))


@pytest.mark.parametrize(
    ("channels", "strides", "size", "sides"),
    [
        ([8, 16, 32], [8, 16, 32], 64, (8, 4, 2)),
        ([8, 16, 32], [8, 16, 32], 480, (60, 30, 15)),
        ([48], [16], 224, (28, 14, 7)),
        ([48], [14], 518, (74, 37, 19)),
        ([48], [32], 224, (28, 14, 7)),
        ([4, 8], [2, 4], 64, (8, 4, 2)),
    ],
)
def test_the_head_takes_any_pyramid(channels, strides, size, sides) -> None:
    head = YoloHead(channels, strides, size).eval()
    assert head.sides == sides
    raw = head(pyramid(channels, strides, size))
    assert raw.shape == (2, 3 * sum(side * side for side in sides), 5)
    assert len(head.layout(CPU).anchors) == raw.shape[1]


def test_an_input_with_a_one_cell_grid_is_refused() -> None:
    with pytest.raises(Unsupported, match="at least 64 pixels"):
        YoloHead([8, 16, 32], [8, 16, 32], 32)


def test_resnet50_gets_the_published_widths() -> None:
    head = YoloHead([512, 1024, 2048], [8, 16, 32], 224)
    shapes = [tuple(p.shape[:2]) for p in head.parameters() if p.ndim == 4]
    five = [(512, 2048), (1024, 512), (512, 1024), (1024, 512), (512, 1024), (1024, 512)]
    assert shapes[:7] == [*five, (15, 1024)]
    assert shapes[7:9] == [(256, 512), (256, 1024 + 256)]
    assert shapes[15:17] == [(128, 256), (128, 512 + 128)]


def test_predictions_are_ordered_by_scale_anchor_row_and_column() -> None:
    """A change in one cell of the pyramid changes only outputs in and near that cell."""
    head = YoloHead([8, 8, 64], [8, 16, 32], 256).eval()
    base = pyramid([8, 8, 64], [8, 16, 32], 256, images=1)
    changed_pyramid = [level.clone() for level in base]
    changed_pyramid[0][0, :, 20, 5] += 5
    changed = (head(changed_pyramid) - head(base)).abs().sum(dim=2)[0].detach().numpy()
    grid = changed[: 3 * 32 * 32].reshape(3, 32, 32)
    assert (grid[:, 20, 5] > 0).all()
    assert not changed[3 * 32 * 32 :].any()
    rows, columns = np.nonzero(grid.max(axis=0))
    assert rows.min() >= 17
    assert rows.max() <= 23
    assert columns.min() >= 2
    assert columns.max() <= 8


def test_a_box_is_assigned_to_its_best_anchor_in_its_cell_on_every_scale(
    layout: AnchorLayout,
) -> None:
    # center (100, 204), 60 x 48: shapes nearest are (33, 23), (62, 45) and (116, 90)
    target = assign_targets(np.array([[70.0, 180.0, 130.0, 228.0]]), layout)
    expected = [(0, 2, 25, 12), (1, 1, 12, 6), (2, 0, 6, 3)]
    assert target.cells.tolist() == [index(layout, *place) for place in expected]
    for row, (scale, anchor, y, x) in zip(target.offsets, expected, strict=True):
        stride = SIZE / layout.sides[scale]
        width, height = ANCHORS[scale][anchor]
        by_hand = [100 / stride - x, 204 / stride - y, math.log(60 / width), math.log(48 / height)]
        np.testing.assert_allclose(row, by_hand, rtol=1e-5, atol=1e-6)


def test_anchors_with_iou_above_one_half_are_ignored_not_empty(
    layout: AnchorLayout,
) -> None:
    # 60 x 100 at stride 16: IoU with (59, 119) is 5900 / (7021 + 100) = .83: the best; with
    # (62, 45) 2700 / 6090 = .44 and (30, 61) 1830 / 6000 = .31: both count as empty
    target = assign_targets(np.array([[70.0, 150.0, 130.0, 250.0]]), layout)
    assert index(layout, 1, 2, 12, 6) in target.cells.tolist()
    assert not len(target.ignored)
    # 45 x 50: (30, 61) .60, (62, 45) .67, (59, 119) .32 -> the first is ignored, the second best
    target = assign_targets(np.array([[77.5, 175.0, 122.5, 225.0]]), layout)
    assert index(layout, 1, 1, 12, 6) in target.cells.tolist()
    assert target.ignored.tolist() == [index(layout, 1, 0, 12, 6)]


def test_no_box_and_boxes_on_the_border_have_targets_within_the_grid(layout: AnchorLayout) -> None:
    empty = assign_targets(np.zeros((0, 4)), layout)
    assert len(empty.cells) == len(empty.ignored) == 0
    assert empty.offsets.shape == (0, 4)
    corner = assign_targets(np.array([[415.9, 415.9, 416.0, 416.0]]), layout)
    for cell, scale in zip(corner.cells.tolist(), range(3), strict=True):
        side = layout.sides[scale]
        assert layout.cells[cell].tolist() == [side - 1, side - 1]


def test_of_two_boxes_in_one_cell_the_later_is_used(layout: AnchorLayout) -> None:
    boxes = np.array([[100.0, 100, 110, 112], [100.5, 100, 110, 112]])
    together, later = assign_targets(boxes, layout), assign_targets(boxes[1:], layout)
    assert together.cells.tolist() == later.cells.tolist()
    assert torch.equal(together.offsets, later.offsets)


def test_decoding_undoes_the_assignment(layout: AnchorLayout) -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 300, (40, 2))
    boxes = np.concatenate([low, low + generator.uniform(4, 110, (40, 2))], axis=1)
    for box in boxes:
        target = assign_targets(box[None], layout)
        raw = torch.zeros(1, len(layout.anchors), 5)
        raw[0, target.cells, :2] = torch.logit(target.offsets[:, :2].double(), 1e-9).float()
        raw[0, target.cells, 2:4] = target.offsets[:, 2:]
        found, _, _ = decode(raw, layout)
        np.testing.assert_allclose(found[0, target.cells], np.tile(box, (3, 1)), atol=0.02)


def test_the_loss_is_the_published_sum_by_hand() -> None:
    """Two images, the second without a box, against the sum written out over dense grids."""
    layout = AnchorLayout(64, (8, 4, 2), CPU)
    targets = [
        assign_targets(np.array([[10.0, 12, 30, 40]]), layout),
        assign_targets(np.zeros((0, 4)), layout),
    ]
    count = len(layout.anchors)
    raw = torch.randn(2, count, 5, generator=torch.Generator().manual_seed(1))
    expected, starts = 0.0, layout.starts
    for scale in range(3):
        part = range(starts[scale], starts[scale + 1])
        means = dict.fromkeys(("x", "y", "w", "h", "object", "empty"), 0.0)
        for image in range(2):
            cells = targets[image].cells.tolist()
            for p in part:
                x, y, w, h, confidence = raw[image, p].tolist()
                if p in cells:
                    tx, ty, tw, th = targets[image].offsets[cells.index(p)].tolist()
                    means["x"] += cross_entropy(x, tx)
                    means["y"] += cross_entropy(y, ty)
                    means["w"] += (w - tw) ** 2
                    means["h"] += (h - th) ** 2
                    means["object"] += cross_entropy(confidence, 1)
                elif p not in targets[image].ignored.tolist():
                    means["empty"] += cross_entropy(confidence, 0)
        total = 2.5 * sum(means[name] for name in "xywh") + means["object"] + 0.5 * means["empty"]
        expected += total / (2 * len(part))
    assert float(detection_loss(raw, targets, layout)) == pytest.approx(expected, rel=1e-5)


def cross_entropy(logit: float, truth: float) -> float:
    chance = 1 / (1 + math.exp(-logit))
    return -truth * math.log(chance) - (1 - truth) * math.log(1 - chance)


def test_an_ignored_prediction_has_no_gradient(layout: AnchorLayout) -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    none = torch.zeros(0, dtype=torch.int64)
    target = Target(torch.tensor([5]), torch.zeros(1, 4), torch.tensor([7]), zero, none)
    raw = torch.zeros(1, len(layout.anchors), 5, requires_grad=True)
    detection_loss(raw, [target], layout).backward()
    confidence = raw.grad[0, :, 4]
    assert confidence[7] == 0
    assert confidence[5] < 0
    assert (confidence[[0, 6, 8]] > 0).all()


def test_batches_of_images_without_any_box_have_a_finite_loss_and_gradient(
    layout: AnchorLayout,
) -> None:
    raw = torch.zeros(2, len(layout.anchors), 5, requires_grad=True)
    empty = assign_targets(np.zeros((0, 4)), layout)
    value = detection_loss(raw, [empty, empty], layout)
    value.backward()
    assert float(value.detach()) == pytest.approx(3 * 0.5 * math.log(2), rel=1e-5)
    assert torch.isfinite(raw.grad).all()


def test_overlapping_detections_are_suppressed_and_the_rest_sorted_by_confidence() -> None:
    layout = AnchorLayout(64, (8, 4, 2), CPU)
    raw = torch.full((1, len(layout.anchors), 5), -20.0)
    raw[..., :4] = 0
    twins = [index(layout, 1, 1, 1, 1), index(layout, 1, 1, 1, 2), index(layout, 0, 0, 7, 0)]
    raw[0, twins[0], 0], raw[0, twins[1], 0] = 9, -9  # both centered where their cells meet
    raw[0, twins, 4] = torch.tensor([1.0, 2.0, 3.0])
    ((boxes, scores, _),) = detections(raw, layout, NmsSettings(min_score=0.01))
    np.testing.assert_allclose(scores, torch.sigmoid(torch.tensor([3.0, 2.0])), rtol=1e-6)
    assert (boxes >= 0).all()
    assert (boxes <= 64).all()
    ((_, all_scores, _),) = detections(raw, layout, NmsSettings(min_score=0.01, max_iou=1.0))
    assert len(all_scores) == 3
    ((_, best, _),) = detections(raw, layout, NmsSettings(min_score=0.01, max_detections=1))
    assert best.tolist() == scores[:1].tolist()
    ((nothing, none, _),) = detections(raw, layout, NmsSettings(min_score=0.99))
    assert nothing.shape == (0, 4)
    assert none.shape == (0,)


def test_extreme_outputs_give_finite_boxes() -> None:
    layout = AnchorLayout(64, (8, 4, 2), CPU)
    ((boxes, scores, _),) = detections(torch.full((1, 252, 5), 1e4), layout, NmsSettings())
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()


def test_a_head_in_eval_mode_processes_each_image_independently() -> None:
    head = YoloHead([8, 16, 32], [8, 16, 32], 64).eval()
    maps = pyramid([8, 16, 32], [8, 16, 32], 64, images=5)
    one = torch.cat([head([level[n : n + 1] for level in maps]) for n in range(5)])
    assert F.mse_loss(head(maps), one) < 1e-10


def test_several_classes_have_outputs_and_a_score_of_both() -> None:
    head = YoloHead([8, 16, 32], [8, 16, 32], 64, classes=3).eval()
    truth = TrueBoxes(np.array([[10.0, 12, 30, 40]], np.float32), np.array([2]))
    target = head.target(truth)
    assert target.labels.tolist() == [2, 2, 2]
    raw = head(pyramid([8, 16, 32], [8, 16, 32], 64))
    assert raw.shape == (2, 252, 8)
    raw = torch.full((1, 252, 8), -9.0)
    raw[0, 100, 4:] = torch.tensor([1.0, -1, -1, 2])
    ((_, scores, labels),) = head.detect(raw, NmsSettings(min_score=0.1))
    assert labels.tolist() == [2]
    assert scores[0] == pytest.approx(1 / (1 + math.exp(-1)) / (1 + math.exp(-2)), rel=1e-5)
    assert YoloHead([8, 16, 32], [8, 16, 32], 64)(raw_input()).shape[-1] == 5
    assert YoloHead([8, 16, 32], [8, 16, 32], 64, settings=MGCA)(raw_input()).shape[-1] == 6


def raw_input() -> list:
    return pyramid([8, 16, 32], [8, 16, 32], 64)


def test_suppression_with_mgcas_margin() -> None:
    # IoU of 10 x 10 boxes shifted by 4: 60 / 140 = .43; with a pixel added: 77 / 165 = .467
    layout = AnchorLayout(64, (8, 4, 2), CPU)
    raw = torch.full((1, len(layout.anchors), 5), -20.0)
    cells = [index(layout, 0, 0, 3, 3), index(layout, 0, 0, 3, 4)]
    width, height = (a * 64 / 416 for a in ANCHORS[0][0])
    raw[0, cells, 2], raw[0, cells, 3] = math.log(10 / width), math.log(10 / height)
    raw[0, cells[0], 0], raw[0, cells[1], 0] = 1.0986, -1.0986  # centers 30 and 34
    raw[0, cells, 4] = torch.tensor([1.0, 2.0])
    for margin, left in ((0.0, 2), (1.0, 1)):
        settings = NmsSettings(min_score=0.1, max_iou=0.45, margin=margin)
        ((boxes, _, _),) = detections(raw, layout, settings)
        assert len(boxes) == left
