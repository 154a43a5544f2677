"""GLoRIA, MGCA, M-FLAG and MAE: losses against the originals, plain loops and values by hand."""

import json
import math
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method
from g2dbench.methods._mgca_losses import prototype_loss, sinkhorn, token_loss
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.word_pieces import clipped_weights, cls_attention
from g2dbench.model import capabilities
from g2dbench.pretrained.tokenizer import train_wordpiece
from g2dbench.pretrained.word_grouping import WordGrouping
from g2dbench.registry import Registry

make = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "golden" / "make_methods.py"))
)
GLORIA, MAE, MFLAG, MGCA = (
    Registry().find(MethodCard, name).load() for name in ("gloria", "mae", "mflag", "mgca")
)
LOCAL = GLORIA.LocalSettings()
TEXT = {"layers": 2, "hidden": 16, "heads": 2, "max_length": 12, "dropout": 0.0}
TINY: dict[str, Any] = {"width": 8, "image": {"encoder": "resnet18", "size": 64}, "text": TEXT}
REPORTS = ["the heart is large", "no effusion", "lungs are clear"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(REPORTS, 60)


def build(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Method:
    module = Registry().find(MethodCard, name).load()
    method: Method = module.build({**TINY, **changes}, tokenizer, 0)
    return method


def batch(method: Method, step: int = 0) -> Batch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return Batch(images, *method.tokenize(REPORTS), ("a", "b", "c"), step)


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


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_glorias_similarity_equals_plain_loops() -> None:
    regions, words = unit(3, 4, 5) * 3, unit(3, 6, 5, seed=1) * 2
    lengths = [6, 1, 4]
    exist = torch.arange(6) < torch.tensor(lengths)[:, None]
    found = GLORIA.word_similarity(regions, words, exist, LOCAL)
    for image in range(3):
        for report, length in enumerate(lengths):
            total = 0.0
            for word in range(length):
                logits = []
                for region in range(4):
                    all_words = [
                        math.exp(float(regions[image, region] @ words[report, other]))
                        for other in range(length)
                    ]
                    logits.append(math.exp(4.0 * all_words[word] / sum(all_words)))
                attended = sum(
                    weight / sum(logits) * regions[image, region]
                    for region, weight in enumerate(logits)
                )
                cosine = F.cosine_similarity(attended, words[report, word], dim=0)
                total += math.exp(5.0 * float(cosine))
            assert float(found[image, report]) == pytest.approx(10 * math.log(total), rel=1e-5)


def test_mgcas_token_loss_equals_plain_loops_and_ignores_padding() -> None:
    regions, words, lengths = unit(3, 4, 5), unit(3, 6, 5, seed=1), [6, 1, 4]
    exist = torch.arange(6) < torch.tensor(lengths)[:, None]
    weights = clipped_weights(torch.rand(3, 6, generator=torch.Generator().manual_seed(2)) * exist)
    total = 0.0
    for pair, length in enumerate(lengths):
        r, w = regions[pair], words[pair, :length]
        for queries, keys, shares in (
            (w, r, weights[pair, :length]),
            (r, w, torch.full((4,), 0.25)),
        ):
            attended = F.normalize((queries @ keys.T / 0.1).softmax(1) @ keys, dim=1)
            logits, own = queries @ attended.T / 0.1, torch.arange(len(queries))
            both = F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(
                logits.T, own, reduction="none"
            )
            total += float((both * shares).sum()) / 2
    found = token_loss(regions, words, exist, weights, 0.1)
    assert float(found) == pytest.approx(total / 3, rel=1e-5)


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


def test_sinkhorn_balances_prototypes_and_is_stable_for_a_tiny_epsilon() -> None:
    scores = unit(8, 5) @ unit(4, 5, seed=1).T
    code = sinkhorn(scores, 0.05, 200)
    torch.testing.assert_close(code.sum(1), torch.ones(8))
    torch.testing.assert_close(code.sum(0), torch.full((4,), 2.0), rtol=0, atol=0.02)
    once = sinkhorn(scores, 0.05, 1).sum(0)
    assert (once - 2).abs().max() > 0.02
    assert sinkhorn(scores, 1e-4, 3).isfinite().all()
    torch.testing.assert_close(sinkhorn(torch.ones(2, 4), 0.05, 3), torch.full((2, 4), 0.25))


def test_orthogonality_by_hand() -> None:
    latent = torch.tensor([[1.0, 2.0], [3.0, 0.0]])  # products / 2: [[5, 1], [1, 2]]
    wanted = ((5 - 1) ** 2 + (2 - 1) ** 2 + 0.5 * (1 + 1)) / 2
    assert float(MFLAG.orthogonality(latent, 0.5)) == pytest.approx(wanted)
    assert float(MFLAG.orthogonality(torch.eye(3) * math.sqrt(3), 1.0)) == pytest.approx(
        0, abs=1e-6
    )
    assert MFLAG.effective_rank(torch.ones(4, 3)) == pytest.approx(1)
    assert MFLAG.effective_rank(torch.eye(4)) == pytest.approx(3)


def test_words_are_sums_of_their_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    words = WordGrouping(tokenizer)
    pieces = ["[CLS]", "h", "##e", "##a", "no", "[SEP]", "[PAD]"]
    tokens = torch.tensor([tokenizer.convert_tokens_to_ids(pieces)])
    attention = torch.tensor([[1, 1, 1, 1, 1, 1, 0]])
    rows = words(tokens, attention)
    assert rows[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
    ]
    assert words.is_sep(tokens, rows)[0].tolist() == [False, False, False, True]


def test_cls_attention_is_berts(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, attn_implementation="eager",
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).eval()
    coded = tokenizer(REPORTS, padding=True, return_tensors="pt")
    out = bert(
        coded["input_ids"], coded["attention_mask"],
        output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    found = cls_attention(bert, out.hidden_states[-2], coded["attention_mask"])
    torch.testing.assert_close(found, out.attentions[-1][:, :, 0].mean(1))


def test_clipped_weights_by_hand() -> None:
    weights = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    low, high = 1.2, 2.8  # deciles of 1, 2, 3
    wanted = torch.tensor([[0, low, 2, high], [0, 0, 0, 6.0], [0, 0, 0, 0]]) / 6
    torch.testing.assert_close(clipped_weights(weights), wanted)


def test_mflags_language_model_is_frozen(tokenizer: PreTrainedTokenizerFast) -> None:
    text = {**TEXT, "dropout": 0.5}
    method = build("mflag", tokenizer, text=text).train()
    learning = {n.split(".")[0] for n, p in method.named_parameters() if p.requires_grad}
    assert learning == {"text", "encoder", "projector"}
    assert not any(p.requires_grad for p in method.text.encoder.parameters())
    given = batch(method)
    first, second = (method.text.encoder(given.tokens, given.attention) for _ in range(2))
    assert torch.equal(first, second)
    cached = build("mflag", tokenizer, text={**text, "frozen_cache": 1}).train()
    real = given.attention.bool()
    kept = cached.text.encoder(given.tokens, given.attention)
    torch.testing.assert_close(kept[real], first[real])


def test_mgcas_prototypes_are_frozen_until_their_step(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("mgca", tokenizer, prototypes={"start": 5, "count": 6}).train()
    for step, moves in ((4, False), (5, True)):
        method.zero_grad()
        torch.stack(list(method.losses(batch(method, step)).values())).sum().backward()
        assert (method.prototypes.weight.grad is not None) == moves


def test_mae_hides_the_given_share_of_patches(tokenizer: PreTrainedTokenizerFast) -> None:
    painter = build("mae", tokenizer).painter
    with torch.no_grad():
        painter.token.copy_(torch.tensor([7.0, 8.0, 9.0]))
    images = torch.rand(4, 3, 64, 64)
    hidden = painter.sample_hidden(images)
    assert hidden.sum(1).tolist() == [12] * 4
    assert not torch.equal(hidden[0], hidden[1])
    covered = painter.hide(images, hidden)
    patches = F.unfold(covered, 16, stride=16).view(4, 3, 256, 16)
    plain = F.unfold(images, 16, stride=16).view(4, 3, 256, 16)
    gone = hidden[:, None, None].expand_as(plain)
    assert torch.equal(patches[~gone], plain[~gone])
    for colour, value in enumerate((7.0, 8.0, 9.0)):
        assert (patches[:, colour][gone[:, colour]] == value).all()


def test_mae_has_no_loss_on_visible_patches(tokenizer: PreTrainedTokenizerFast) -> None:
    grey, hidden = torch.rand(2, 1, 32, 32), torch.zeros(2, 4, dtype=torch.bool)
    hidden[:, 3] = True
    painted = torch.zeros(2, 1, 32, 32, requires_grad=True)
    MAE.masked_error(painted, grey, hidden, MAE.MaskSettings(target="grey")).backward()
    assert painted.grad is not None
    assert painted.grad[..., :16, :].abs().sum() == 0
    assert (painted.grad[..., 16:, 16:] != 0).all()


def test_mae_with_reports_embeds_and_locates_too(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("mae", tokenizer, contrastive={"weight": 0.5}).train()
    losses = method.losses(batch(method))
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == {"reconstruction", "contrastive"}
    assert not [n for n, p in method.named_parameters() if p.grad is None]
    model = method.as_model().eval()
    assert capabilities(model) == ("embeds", "features", "locates", "decodes")
    alone = build("mae", tokenizer)
    assert not any(name.startswith("text") for name, _ in alone.named_parameters())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        drawn = model.pretrained_decoder()(model.features(images))
    assert drawn.shape == (2, 1, 64, 64)


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
