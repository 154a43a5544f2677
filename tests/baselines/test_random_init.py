"""The untrained model: its seed, its texts, and the architecture of a run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.small_baselines import TEXTS, load

from g2dbench.cards import MethodCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import capabilities
from g2dbench.pretrained.text.tokenizer import save_tokenizer, train_wordpiece
from g2dbench.pretrained.weights import digest
from g2dbench.recipes.recipe import load as load_recipe
from g2dbench.registry import Registry
from g2dbench.runs.folder import RunFolder, RunInfo

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


def test_the_untrained_model_follows_its_seed_alone() -> None:
    torch.manual_seed(5)
    first = load("random-init", seed=1)
    torch.manual_seed(6)
    again, other = load("random-init", seed=1), load("random-init", seed=2)
    assert first.identity == again.identity
    assert first.identity.digest != other.identity.digest
    assert first.identity.label == other.identity.label
    assert first.identity.seed == 1
    texts = [m.embed_texts(TEXTS) for m in (first, again, other)]  # type: ignore[operator]
    assert torch.equal(texts[0], texts[1])
    assert not torch.allclose(texts[0], texts[2])


def test_the_untrained_model_accepts_no_text_and_odd_text() -> None:
    model: Any = load("random-init")
    assert model.embed_texts([]).shape == (0, 128)
    assert model.embed_texts(["", "?!", "жё"]).isfinite().all()
    assert torch.equal(model.embed_texts(["Left"]), model.embed_texts(["left"]))


def test_the_untrained_model_of_a_run_has_its_architecture_and_new_weights(tmp_path: Path) -> None:
    recipe = load_recipe("g2d-tiny")
    tokenizer = train_wordpiece(TEXTS, 64)
    method = Registry().find(MethodCard, recipe.method)
    trained = method.load().build(recipe.model, tokenizer, seed=3)
    save_tokenizer(tokenizer, tmp_path)
    info = RunInfo(
        label="g2d-tiny", recipe=recipe, architecture=trained.architecture, seed=3,
        data="synthetic", fingerprint="0", pairs=2, precision="fp32", device="cpu",
    )  # fmt: skip
    RunFolder(tmp_path, info).write_info()
    untrained: Any = load("random-init", tmp_path, seed=4)
    assert untrained.preprocess == trained.preprocess
    assert untrained.card.capabilities == capabilities(untrained) == method.card.capabilities
    assert untrained.identity.label == f"random-init:{info.label}"
    shapes = {k: v.shape for k, v in untrained.state_dict().items()}
    assert shapes == {k: v.shape for k, v in trained.as_model().state_dict().items()}
    digests = {load("random-init", tmp_path, seed=seed).identity.digest for seed in (3, 4, 4)}
    assert digests == {digest(trained.as_model()), untrained.identity.digest}
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BadCheckpoint, match="cannot be rebuilt"):
        load("random-init", tmp_path)


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="there is no run folder"):
        load("random-init", tmp_path / "run")
