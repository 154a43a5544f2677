"""The FCOS head: any pyramid, torchvision's loss and boxes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from g2dbench.evaluation.detection.detector import NmsSettings, TrueBoxes
from g2dbench.evaluation.detection.fcos import FcosHead, FcosSettings

SMALL = FcosSettings(width=64, convolutions=1)


def pyramid(channels: list[int], strides: list[int], size: int, images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(images, c, size // s, size // s, generator=generator)
        for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("width", [16, 32, 80])
def test_a_width_without_whole_groups_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"a multiple of 32 from 64 on, not {width}"):
        FcosSettings(width=width)


@pytest.mark.parametrize(
    ("channels", "strides", "size"),
    [([8, 16, 32], [8, 16, 32], 64), ([48], [16], 224), ([48], [14], 518), ([4, 8], [2, 4], 64)],
)
def test_the_head_takes_any_pyramid(channels: list, strides: list, size: int) -> None:
    head = FcosHead(channels, strides, size, 3, SMALL).eval()
    raw = head(pyramid(channels, strides, size))
    assert raw["cls_logits"].shape == (2, sum(raw["cells"]), 3)
    assert len(raw["cells"]) == 5
    assert raw["anchors"][0].shape == (sum(raw["cells"]), 4)


def test_the_published_head_has_four_convolutions_of_256_channels() -> None:
    head = FcosHead([512, 1024, 2048], [8, 16, 32], 224, 1, FcosSettings())
    inner = head.fcos.head
    for branch in (inner.classification_head, inner.regression_head):
        kernels = [layer for layer in branch.conv if isinstance(layer, torch.nn.Conv2d)]
        assert [kernel.weight.shape for kernel in kernels] == [(256, 256, 3, 3)] * 4


def test_boxes_written_into_the_outputs_are_detected() -> None:
    head = FcosHead([8, 16, 32], [8, 16, 32], 64, 2, SMALL).eval()
    raw = head(pyramid([8, 16, 32], [8, 16, 32], 64, images=1))
    raw["cls_logits"] = torch.full_like(raw["cls_logits"], -9.0)
    raw["bbox_ctrness"] = torch.full_like(raw["bbox_ctrness"], 9.0)
    cell = 3 * 8 + 4  # of stride 8: its anchor's center is (32, 24), and its size 8
    raw["cls_logits"][0, cell, 1] = 2.0
    raw["bbox_regression"][0, cell] = torch.tensor([12.0, 6, 8, 16]) / 8
    ((boxes, scores, labels),) = head.detect(raw, NmsSettings(min_score=0.5))
    np.testing.assert_allclose(boxes, [[20, 18, 40, 40]], atol=1e-4)
    assert labels.tolist() == [1]
    expected = (torch.tensor(2.0).sigmoid() * torch.tensor(9.0).sigmoid()).sqrt()
    assert scores[0] == pytest.approx(float(expected))


def test_images_without_boxes_have_a_finite_loss() -> None:
    head = FcosHead([8, 16, 32], [8, 16, 32], 64, 2, SMALL)
    raw = head(pyramid([8, 16, 32], [8, 16, 32], 64))
    empty = TrueBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    one = TrueBoxes(np.array([[4.0, 4, 40, 50]], np.float32), np.array([1]))
    for targets in ([empty, empty], [empty, one], [one, one]):
        loss = head.loss(raw, [head.target(target) for target in targets])
        assert torch.isfinite(loss)
    loss.backward()
    assert all(weight.grad is not None for weight in head.fcos.head.parameters())


def test_images_are_processed_independently() -> None:
    head = FcosHead([8, 16, 32], [8, 16, 32], 64, 2, SMALL).eval()
    maps = pyramid([8, 16, 32], [8, 16, 32], 64, images=3)
    whole = head(maps)["cls_logits"]
    one = torch.cat([head([level[n : n + 1] for level in maps])["cls_logits"] for n in range(3)])
    assert torch.allclose(whole, one, atol=1e-5)
