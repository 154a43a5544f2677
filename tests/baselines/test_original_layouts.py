"""Files of re-trainers, broken files and missing vocabularies of the models of `originals`."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.original_names import FILES
from support.models.small_baselines import load
from support.originals import gloria, mflag, seeded
from support.originals.image_text import med_unic, med_unic_vit, prior

from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import capabilities
from g2dbench.pretrained.text.report_words import clean_report
from g2dbench.pretrained.weights import read_weights

pytestmark = pytest.mark.integration

Own = Callable[[Any], Path]
"""The fixture `own`."""


@pytest.fixture(params=FILES)
def case(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(f"support.originals.{request.param}")


def rewrite(file: Path, change: Any, nested: str = "state_dict") -> Path:
    """The file's state_dicts with changed keys, under another entry of the checkpoint."""
    content = read_weights(file)
    parts = [key for key, value in content.items() if isinstance(value, dict) and len(value) > 9]
    if parts and parts not in (["state_dict"], ["model"]):
        content = {key: change(content[key]) if key in parts else content[key] for key in content}
    else:
        content = {nested: change(content[parts[0]] if parts else content), "epoch": 7}
    file.unlink()  # a link
    torch.save(content, file)
    return file


def test_prefixes_of_training_scripts_do_not_matter(case: Any, own: Own) -> None:
    file = own(case)
    model = load(case.CARD, file)
    assert capabilities(model) == model.card.capabilities
    wrapped = rewrite(file, lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()})
    assert load(case.CARD, wrapped).identity.digest == model.identity.digest


@pytest.mark.slow
def test_half_precision_is_read(case: Any, own: Own) -> None:
    def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}

    model = load(case.CARD, rewrite(own(case), half))
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_an_incomplete_file_is_refused_with_what_is_missing(
    case: Any, own: Own, tmp_path: Path
) -> None:
    def shortened(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last = [key for key in state if key.endswith("bias") and "position" not in key]
        return {key: value for key, value in state.items() if key not in last[::3]}

    with pytest.raises(BadCheckpoint, match="missing") as caught:
        load(case.CARD, rewrite(own(case), shortened))
    assert str(tmp_path) in str(caught.value)


def test_keys_that_nobody_knows_are_refused(case: Any, own: Own) -> None:
    extra = {"surprise.weight": torch.ones(3, 3)}
    with pytest.raises(BadCheckpoint, match="surprise"):
        load(case.CARD, rewrite(own(case), lambda state: state | extra))


def test_a_missing_vocabulary_is_asked_for_with_a_command(
    case: Any, own: Own, tmp_path: Path
) -> None:
    if not getattr(case, "HAS_PUBLIC_VOCABULARY", True):
        pytest.skip("its vocabulary is that of the user's training")
    file = own(case)
    folders = list(tmp_path.rglob("vocab.txt"))
    if not folders or not getattr(case, "HAS_TEXT_ENCODER_INSIDE", True):
        pytest.skip("has no text encoder of its own")
    for vocabulary in folders:
        vocabulary.unlink()
    with pytest.raises(BadCheckpoint, match=r"`hf download \S+ vocab\.txt --local-dir \S+`"):
        load(case.CARD, file)
    seeded.write_vocabulary(tmp_path)
    load(case.CARD, file)
    words = (tmp_path / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join(words[:-3]))
    with pytest.raises(BadCheckpoint, match="has embeddings of"):
        load(case.CARD, file)


def test_a_source_is_asked_for(case: Any) -> None:
    with pytest.raises(Misuse, match=case.CARD):
        load(case.CARD)


@torch.no_grad()
def test_gloria_in_the_layout_of_benchx_is_the_same_model(own: Own) -> None:
    file = own(gloria)
    model = load("gloria", file)
    parts = {
        "gloria.img_encoder.model.": "visual.model.",
        "gloria.img_encoder.": "",
        "gloria.text_encoder.model.": "linguistic.encoder.",
    }
    stages = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}

    def renamed(key: str) -> str:
        old = next(prefix for prefix in parts if key.startswith(prefix))
        rest = key.removeprefix(old)
        if old.endswith("img_encoder.model."):
            stage, _, rest = rest.partition(".")
            rest = f"{stages[stage]}.{rest}"
        return parts[old] + rest

    rewrite(file, lambda state: {renamed(k): v for k, v in state.items()}, "model")
    other = load("gloria-mimic", file)
    assert other.identity.digest == model.identity.digest
    assert other.identity.label == "gloria-mimic"
    assert other.card.trained_on == ("mimic_cxr",)
    images = model.preprocess.batch(seeded.radiographs()[:1])
    scores = model.match(images, ["Pneumonia", "Edema"])
    assert ((scores > 0) & (scores < 1)).all()
    maps = model.locate(images, ["Pneumonia", "left lung"])
    assert maps.shape == (1, 2, 19, 19)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(1, 2))


def test_a_gloria_with_a_small_resnet_has_a_global_branch_alone(own: Own) -> None:
    import torchvision

    file = own(gloria)

    def small(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        trunk = torchvision.models.resnet18(weights=None)
        trunk.fc = torch.nn.Identity()
        rest = {k: v for k, v in state.items() if ".img_encoder.model." not in k}
        rest["gloria.img_encoder.global_embedder.weight"] = torch.ones(gloria.WIDTH, 512)
        return rest | seeded.placed("gloria.img_encoder.model.", trunk)

    model = load("gloria", rewrite(file, small))
    assert capabilities(model) == model.card.capabilities == ("embeds", "features")
    assert model.channels == (64, 64, 128, 256, 512)


@torch.no_grad()
def test_an_encoder_of_mflag_gives_the_features_of_the_whole_file(own: Own, tmp_path: Path) -> None:
    whole = load("mflag", own(mflag))
    trunk = {
        key.removeprefix("encoder."): value
        for key, value in mflag.state().items()
        if key.startswith("encoder.")
    }
    torch.save(trunk, tmp_path / "name_encoder.pth")
    alone = load("mflag", tmp_path / "name_encoder.pth")
    assert capabilities(alone) == alone.card.capabilities == ("features",)
    images = whole.preprocess.batch(seeded.radiographs()[:1])
    assert torch.equal(alone.pooled(images), whole.pooled(images))


@torch.no_grad()
@pytest.mark.parametrize("kind", [med_unic, med_unic_vit])
def test_an_encoder_of_med_unic_gives_the_features_of_the_whole_file(
    kind: Any, own: Own, tmp_path: Path
) -> None:
    whole = load("med-unic", own(kind))
    trunk = {k.removeprefix("encoder."): v for k, v in kind.state().items() if "encoder." in k[:8]}
    torch.save(trunk, tmp_path / "cross-lingual_multi-modal_encoder.pth")
    alone = load("med-unic", tmp_path / "cross-lingual_multi-modal_encoder.pth")
    assert capabilities(alone) == alone.card.capabilities == ("features",)
    images = whole.preprocess.batch(seeded.radiographs()[:1])
    assert torch.equal(alone.pooled(images), whole.pooled(images))


def test_med_unic_asks_for_the_vocabulary_of_its_training(own: Own, tmp_path: Path) -> None:
    file = own(med_unic_vit)
    vocabulary = tmp_path / "lm_model" / "vocab.txt"
    words = vocabulary.read_text().splitlines()
    vocabulary.unlink()  # a link
    vocabulary.write_text("\n".join(words[:-3]))
    with pytest.raises(BadCheckpoint, match=r"embeddings of \d+ tokens"):
        load("med-unic", file)
    vocabulary.unlink()
    with pytest.raises(BadCheckpoint, match=r"no vocabulary: copy vocab\.txt of your training"):
        load("med-unic", file)


@torch.no_grad()
def test_prior_reads_a_file_of_its_image_encoder(own: Own, tmp_path: Path) -> None:
    whole = load("prior", own(prior))
    start = "image_encoder.encoder."
    trunk = {k.removeprefix(start): v for k, v in prior.state().items() if k.startswith(start)}
    torch.save(trunk, tmp_path / "prior_resnet50.pt")
    alone = load("prior", tmp_path / "prior_resnet50.pt")
    assert capabilities(alone) == alone.card.capabilities == ("features",)
    images = whole.preprocess.batch(seeded.radiographs()[:1])
    assert torch.equal(alone.pooled(images), whole.pooled(images))
    gray = trunk["conv1.weight"]
    torch.save(trunk | {"conv1.weight": gray.repeat(1, 3, 1, 1)}, tmp_path / "colors.pt")
    assert load("prior", tmp_path / "colors.pt").preprocess.channels == 3


@torch.no_grad()
def test_prior_splits_a_text_into_sentences_of_its_own_words(
    written: Callable[[Any], Path],
) -> None:
    model: Any = load("prior", written(prior))
    first, second = "There is pneumonia.", "No effusion of the left lung."
    assert model.sentences(first).shape == (1, prior.WIDTH)
    assert model.sentences(f"{first} {second}").shape == (2, prior.WIDTH)
    assert model.embed_texts([f"{second} " * 60, "", first]).shape == (3, prior.WIDTH)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Pneumonia", ""),
        ("There is pneumonia.", "there is pneumonia"),
        ("1. Heart is large. Clear.\n2. No\teffusion!", "heart is large no effusion"),
        ("caf\u00e9 au lait", "caf au lait"),
    ],
)
def test_reports_are_cleaned_as_by_gloria(text: str, cleaned: str) -> None:
    assert clean_report(text) == cleaned
    assert clean_report("Pneumonia", min_words=1) == "pneumonia"
