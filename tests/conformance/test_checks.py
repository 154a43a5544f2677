"""Each fault that an author can make in a model's file is told in words, and nothing else is."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import plugins

from g2dbench.cards import ModelCard
from g2dbench.conformance import template
from g2dbench.conformance.checks import CheckResult, check_reference, names
from g2dbench.evaluation.model_reference import resolve
from g2dbench.registry import Registry

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (written,) = template.write_template("model", tmp_path / "mine.py")
    return written


def check(text: str | Path) -> dict[str, CheckResult]:
    registry = Registry()
    reference = resolve(str(text), registry)
    return {result.name: result for result in check_reference(reference, registry, CPU)}


def faults(found: dict[str, CheckResult]) -> str:
    return " | ".join(fault for result in found.values() for fault in result.faults)


def test_the_template_and_an_untrained_model_pass_every_check_that_applies(file: Path) -> None:
    for model in (file, "random-init"):
        start = time.perf_counter()
        found = check(model)
        assert faults(found) == ""
        assert tuple(found) == names()
        assert {name for name, result in found.items() if result.skipped} == {"matches", "decodes"}
        assert time.perf_counter() - start < 60


MATCHES = '''
    def match(self, images, findings):
        return self.embed_images(images) @ self.embed_texts(findings).T{end}

    # Capability "embeds"'''

DECODES = '''
    def pretrained_decoder(self):
        return {decoder}

    # Capability "embeds"'''

EDITS = {
    "wrong shape": ("nn.Conv2d(3, CHANNELS,", "nn.Conv2d(3, CHANNELS + 1,", r"map 0 .*shape"),
    "NaN": (".mean((2, 3))", ".mean((2, 3)).log()", "NaN or infinite"),
    "not normalized": (
        "F.normalize(self.projection(self.pooled(images)), dim=-1)",
        "self.projection(self.pooled(images)) * 3", "embed_images has rows of length",
    ),
    "one size": (
        "F.normalize(self.projection(self.pooled(images)), dim=-1)",
        "F.normalize(self.projection(self.pooled(images)) + torch.ones(images.shape[-1] // 2), "
        "dim=-1)", "embed_images of a 32 px image fails .*set `fixed_size = True`",
    ),
    "batch statistics": (
        "return [F.gelu(self.encoder(images))]",
        "x = self.encoder(images)\n        return [x - x.mean(0, keepdim=True)]",
        "features depends on the other images of its batch",
    ),
    "noise": (
        "return [F.gelu(self.encoder(images))]",
        "return [F.dropout(self.encoder(images), 0.5)]", "features draws random numbers",
    ),
    "ignores the image": (
        "return self.features(images)[-1].mean((2, 3))",
        "return torch.ones(len(images), 5)", "pooled is the same for two different images",
    ),
    "padding": (
        "F.normalize(torch.stack(rows), dim=-1)",
        "F.normalize(torch.stack(rows) + len(texts), dim=-1)", "depends on the other texts",
    ),
    "no grid": (
        'F.normalize(cells, dim=-1), self', 'F.normalize(cells.mean((1, 2), keepdim=True), '
        'dim=-1), self', "grid of one cell",
    ),
    "half": ("return [F.gelu(self.encoder(images))]",
             "return [F.gelu(self.encoder(images)).half()]", "torch.float16"),
    "gradient": (
        "return [F.gelu(self.encoder(images))]",
        "with torch.enable_grad():\n            return [F.gelu(self.encoder(images))]",
        "has a gradient",
    ),
    "training": ("return model.eval()", "return model.train()", "training mode"),
    "label": ('Identity("mine" if source', 'Identity("a/mine" if source', "contains a folder"),
    "unseeded": ("torch.manual_seed(seed)", "torch.seed()", "different weights"),
    "capability": ('"embeds", "features", "locates"', '"embeds", "features"', "add it"),
    "missing": ('"features", "locates")', '"features", "locates", "matches")', "has no match"),
    "empty card": ('paper="TODO: authors, title, venue, year"', 'paper=" "', "paper is empty"),
    "strides": ("(CHANNELS,), (STRIDE,)", "(CHANNELS,), (STRIDE, 32)", "1 channels but 2 strides"),
    "odd stride": ("WIDTH, CHANNELS, STRIDE = 32, 24, 16", "WIDTH, CHANNELS, STRIDE = 32, 24, 12",
                   "not powers of two"),
    "signature": ("def load(source: str | None, seed: int)", "def load(source, seed, more=0)",
                  r"expected \(source, seed\)"),
    "probability": (
        '\n    # Capability "embeds"', MATCHES.format(end=" * 4"), r"probabilities in \[0, 1\]"),
    "shared decoder": (
        '\n    # Capability "embeds"', DECODES.format(decoder="self.encoder"), "deep copy"),
    "no module": (
        '\n    # Capability "embeds"', DECODES.format(decoder="None"), "expected an nn.Module"),
}  # fmt: skip
"""What is wrong -> text of the template, its replacement, and a pattern of the sentence."""


@pytest.mark.parametrize("what", EDITS)
def test_a_fault_is_told_in_words(what: str, file: Path) -> None:
    old, new, sentence = EDITS[what]
    plugins.edit(file, old, new)
    told = faults(check(file))
    assert re.search(sentence, told), told


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return [F.gelu(self.encoder(images))]", "return [self.encodr(images)]"),
        ("torch.manual_seed(seed)", "raise KeyError('layer4')"),
        ("codes = torch.tensor(", "codes = torch.tensr("),
    ],
)
def test_an_exception_is_told_with_the_line_of_the_authors_file(
    old: str, new: str, file: Path
) -> None:
    plugins.edit(file, old, new)
    lines = file.read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if new in line)
    told = faults(check(file))
    assert f"{file}, line {number}, in " in told
    assert f"`{lines[number - 1].strip()}`" in told


def test_a_preprocessing_that_fails_for_some_images_is_told(file: Path) -> None:
    plugins.edit(
        file, "class Mine(Model):",
        "class Strict(Preprocess):\n"
        "    def __call__(self, image):\n"
        "        if min(image.shape) < 16:\n"
        "            raise ValueError('too small')\n"
        "        if image.max() == 0:\n"
        "            return super().__call__(image) / 0\n"
        "        return super().__call__(image)\n\n\nclass Mine(Model):",
    )  # fmt: skip
    plugins.edit(file, "preprocess = Preprocess(", "preprocess = Strict(")
    told = faults(check(file))
    assert "preprocess fails for a tiny (1 x 1) image: ValueError: too small" in told
    assert f"{file}, line " in told
    assert "turns a black image into NaN or infinity" in told


def test_a_model_that_needs_weights_must_refuse_wrong_ones_with_a_sentence(
    file: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "w.pt"
    plugins.edit(file, "needs_weights=False", "needs_weights=True")
    registry = Registry([file])
    module = registry.find(ModelCard, "mine").load()
    torch.save(module.load(None, 0).state_dict(), weights)
    reference = resolve(f"mine:{weights}", registry)
    (fault,) = (f for r in check_reference(reference, registry, CPU) for f in r.faults)
    assert "load(None, 0) succeeds" in fault
