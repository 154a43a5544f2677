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
        attention = method.pool(method._projected(method.pyramid(images)))[1]
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
