"""Panels of the contact sheet: the steps from attention to mask."""

import torch
from support.methods.g2d import build
from support.methods.networks import batch
from transformers import PreTrainedTokenizerFast


def test_panels_are_the_steps_of_the_mask_of_each_image(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    shuffled = {"mask": {"pairing": "shuffled", "sigma_space": 2.0}, "attention": {"stride": 16}}
    method = build(tokenizer, **shuffled).eval()
    images = batch(method).images
    with torch.no_grad():
        found = method.as_model().panels(images, None)
        attention = method.pool(method.projected(method.pyramid(images)))[1]
        mask = method.pseudo_mask(attention, images)
    assert list(found) == ["attention / peak", "body mask", "thresholded", "refined", "decoder"]
    assert torch.equal(found["refined"].roll(1, 0), mask[:, 0])
    assert torch.equal(found["thresholded"] > 0.5, found["thresholded"] == 1)
    assert (found["thresholded"] <= found["body mask"]).all()
    assert torch.equal(found["attention / peak"].amax((1, 2)), torch.ones(3))
    assert all(0 <= map_.min() <= map_.max() <= 1 for map_ in found.values())


def test_panels_of_masks_from_the_report_need_a_report(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer, mask={"source": "report"}, pixel={"target": "none"}).eval()
    model, given = method.as_model(), batch(method)
    reports = ["the heart is large", "no effusion", "lungs are clear"]
    with torch.no_grad():
        assert list(model.panels(given.images, None)) == ["attention / peak"]
        found = model.panels(given.images, reports)
        swapped = model.panels(given.images, reports[::-1])
    assert list(found)[1:] == ["report / peak", "body mask", "thresholded", "refined"]
    assert torch.equal(found["attention / peak"], swapped["attention / peak"])
    assert not torch.equal(found["report / peak"], swapped["report / peak"])


def test_gradient_masks_show_what_adds_to_the_similarity(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """By finite differences: the derivative along a pixel's own direction, where positive."""
    method = build(tokenizer, mask={"source": "gradient"}, attention={"stride": 16}).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 8, 4, 4, generator=generator)
    report = torch.randn(2, 8, generator=generator)
    found = method.relevance(pixels, report)
    method.double()
    for row, column in ((0, 0), (1, 3), (2, 2)):
        step = torch.zeros(2, 8, 4, 4, dtype=torch.double)
        step[:, :, row, column] = 1e-2 * pixels[:, :, row, column].double()
        with torch.no_grad():
            up, down = (
                torch.cosine_similarity(
                    method.pool(pixels.double() + sign * step)[0], report.double()
                )
                for sign in (1, -1)
            )
        slope = ((up - down) / 2e-2).clamp(min=0).float()
        torch.testing.assert_close(found[:, 0, row, column], slope, rtol=0.02, atol=3e-4)


def test_panels_name_the_source_of_the_masks(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer, mask={"source": "gradient"}, pixel={"target": "none"}).eval()
    found = method.as_model().panels(batch(method).images, ["a", "b", "c"])
    assert "gradient / peak" in found


def test_gradient_masks_leave_no_gradient_behind(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer, mask={"source": "gradient"})
    losses = method.losses(batch(method))
    assert all(weight.grad is None for weight in method.parameters())
    sum(losses.values()).backward()
