"""GLoRIA, MGCA, M-FLAG and MAE: losses of the original code, degenerate input, bad settings."""

import json
import math
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.methods.other_methods import GLORIA, LOCAL, MAE, MFLAG, MGCA, TEXT, build, unit
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.errors import Misuse
from g2dbench.methods._mgca_losses import prototype_loss, token_loss
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.word_pieces import clipped_weights

make = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "golden" / "make_methods.py"))
)


def ours(given: dict[str, Tensor], lengths: list[int]) -> dict[str, dict[str, float]]:
    """The losses of the four methods on representations, with the names of make_methods.py."""
    words, regions = given["words"], given["regions"]
    exist = torch.arange(words.shape[1]) < torch.tensor(lengths)[:, None]
    similarity = GLORIA.word_similarity(regions, words, exist, LOCAL)
    unit = {name: F.normalize(given[name], dim=-1) for name in ("words", "regions", "prototypes")}
    every, shares = torch.ones_like(exist), clipped_weights(given["weights"])
    image, text = given["image"], given["text"]
    error = {
        target: MAE.masked_error(
            given["painted"],
            given["grey"],
            given["hidden"],
            MAE.MaskSettings(patch=8, target=target),
        )
        for target in ("grey", "patch")
    }
    found = {
        "gloria": {
            "global": Contrastive(GLORIA.GloriaContrastiveSettings())(image, text),
            "local": GLORIA.symmetric_cross_entropy(similarity),
        },
        "mgca": {
            "ita": Contrastive(MGCA.MgcaContrastiveSettings())(image, text),
            "cta": token_loss(unit["regions"], unit["words"], every, shares, 0.1),
            "cpa": prototype_loss(image, text, unit["prototypes"], 0.2, 0.05, 3),
        },
        "mflag": {
            "align": MFLAG.alignment(image, text),
            "orthogonal": MFLAG.orthogonality(image, 0.0051),
        },
        "mae": error,
    }
    return {name: {k: float(v) for k, v in parts.items()} for name, parts in found.items()}


def check(wanted: dict[str, Any], seed: int) -> None:
    for name, sizes in make.CASES.items():
        found = ours(make.drawn(**sizes, seed=seed), make.word_counts(sizes))
        for method, losses in wanted[name].items():
            assert found[method] == pytest.approx(losses, rel=2e-5, abs=2e-5), (name, method)


def test_losses_equal_the_golden_losses_of_the_originals() -> None:
    check(json.loads(make.GOLDEN.read_text(encoding="utf-8")), make.SEED)


def test_losses_equal_those_of_the_original_code() -> None:
    folder = os.environ.get(make.VARIABLE)
    if not folder:
        pytest.skip(f"set {make.VARIABLE} to a folder with the originals (make_methods.py)")
    for seed in (1, 2):
        check(make.answers(Path(folder), seed), seed)


def test_empty_or_identical_reports_give_finite_losses_and_gradients() -> None:
    regions = unit(2, 4, 5).requires_grad_()
    words = unit(1, 3, 5, seed=1).expand(2, 3, 5).clone().requires_grad_()
    for exist in (torch.zeros(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]]), torch.ones(2, 3)):
        real = exist.bool()
        local = GLORIA.symmetric_cross_entropy(GLORIA.word_similarity(regions, words, real, LOCAL))
        weights = clipped_weights(real.float())
        cta = token_loss(regions, words, real, weights, 0.1)
        (local + cta).backward()
        assert torch.stack([local, cta]).isfinite().all()
        for given in (regions, words):
            assert given.grad is not None
            assert given.grad.isfinite().all()
    none = torch.zeros(2, 3, dtype=torch.bool)
    regions, words = regions.detach(), words.detach()
    assert float(token_loss(regions, words, none, none.float(), 0.1)) == 0
    blind = GLORIA.symmetric_cross_entropy(GLORIA.word_similarity(regions, words, none, LOCAL))
    assert float(blind) == pytest.approx(2 * math.log(2))


def test_losses_are_fp32_under_autocast() -> None:
    given = make.drawn(**make.CASES["many"], seed=3)
    lengths = make.word_counts(make.CASES["many"])
    plain = ours(given, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = ours(given, lengths)
    for method, losses in plain.items():
        assert cast[method] == pytest.approx(losses, rel=1e-6), method


def test_impossible_settings_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("mae", {"mask": {"patch": 24}}, "does not divide 64"),
        ("mae", {"mask": {"share": 0.999}}, "hides all or none"),
        ("gloria", {"projector": {}}, "no setting of"),
        ("gloria", {"text": {**TEXT, "buckets": 2}}, "several layers"),
        ("mflag", {"contrastive": {}}, "no setting of"),
        ("mgca", {"local": {"stride": 4}}, r"model.local.stride = 4"),
        ("mgca", {"image": {"depth": 3}}, "local.stride is 16, but the last map"),
        ("gloria", {"image": {"depth": 3}}, "local.stride is 16, but the last map"),
        (
            "mae",
            {"image": {"depth": 3}},
            "decoder.channels has 5 values, but image.depth = 3 needs 3",
        ),
    ]
    for name, changes, words in cases:
        with pytest.raises(Misuse, match=words):
            build(name, tokenizer, **changes)
