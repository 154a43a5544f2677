"""Every registered model keeps the contract; the generic wrappers equal the libraries they wrap.

No network: each model is built small, with random weights, in its official file format.
"""

import contextlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizerFast,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from g2dbench.cards import MethodCard, ModelCard
from g2dbench.errors import BadCheckpoint, G2DBenchError, Misuse, Unsupported
from g2dbench.model import Embeds, Features, Locates, Model, capabilities
from g2dbench.pretrained.tokenizer import save_tokenizer, train_wordpiece
from g2dbench.pretrained.weights import digest
from g2dbench.recipes.recipe import load as load_recipe
from g2dbench.registry import Registry
from g2dbench.runs.folder import RunFolder, RunInfo

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

TEXTS = ["pleural effusion", "there is no pneumothorax", "left"]
CARDS = Registry().cards(ModelCard)

CLIP_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VIT = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 64}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 64}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "no", "left", "is"]


def clip_config(vision: dict[str, Any], width: int = 24, **more: Any) -> dict[str, Any]:
    return {"embed_dim": width, "vision_cfg": vision, "text_cfg": CLIP_TEXT, **more}


def trunk(name: str, pool: str, proj: str) -> dict[str, Any]:
    side = timm.get_pretrained_cfg(name).input_size[-1]
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": side}


OPEN_CLIPS: dict[str, dict[str, Any]] = {
    "vit": clip_config(VIT),
    "vit_avg": clip_config({**VIT, "pool_type": "avg", "final_ln_after_pool": True}),
    "vit_attention": clip_config({**VIT, "attentional_pool": True, "attn_pooler_heads": 2}),
    "resnet": clip_config(RESNET),
    "timm_token": clip_config(trunk("test_vit", "token", "linear"), custom_text=True),
    "timm_avg": clip_config(trunk("test_vit", "avg", "linear")),
    "timm_map": clip_config(trunk("test_vit", "map", "none"), 64, init_logit_bias=-10),
    "timm_resnet": clip_config(trunk("test_resnet", "avg", "linear")),
    "timm_convnext": clip_config(trunk("test_convnext", "avg", "mlp")),
    "one_patch": clip_config({**VIT, "image_size": 16, "pool_type": "avg"}),
    "learned_positions": clip_config(trunk("resnet10t", "abs_attn", ""), 64),
}


def seeded(build: Callable[[], Any]) -> Any:
    """A module whose every weight differs from a constant, so that nothing is hidden by zeros."""
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    return module.eval()


def make_open_clip(folder: Path, kind: str = "vit", **preprocess: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": OPEN_CLIPS[kind], "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    clip = seeded(lambda: open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def make_open_clip_bert(folder: Path) -> Path:
    """As BiomedCLIP: a text tower of transformers, its configuration and vocabulary beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_bert_files(folder)
    text = {
        "hf_model_name": "nobody/bert",
        "hf_tokenizer_name": "nobody/bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 12,
    }
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    local = {
        **config,
        "text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False},
    }
    clip = seeded(lambda: open_clip.CustomTextCLIP(**local))
    state = clip.state_dict() | {"text.transformer.embeddings.position_ids": torch.arange(12)[None]}
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def save_bert_files(folder: Path) -> None:
    BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)


def save_clip_tokenizer(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {p: i for i, p in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)


def make_hf_clip(folder: Path) -> Path:
    text = {"vocab_size": 54, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 14,
            "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 64, "patch_size": 16}  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    seeded(lambda: CLIPModel(config)).save_pretrained(folder)
    save_clip_tokenizer(folder)
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64).save_pretrained(folder)
    return folder


def make_hf_siglip(folder: Path) -> Path:
    text = {"vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 9,
            "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 56, "patch_size": 14}  # fmt: skip
    config = SiglipConfig(text_config=text, vision_config=vision)
    seeded(lambda: SiglipModel(config)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def make_encoder(folder: Path, name: str = "test_vit") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    safetensors.torch.save_file(seeded(lambda: timm.create_model(name)).state_dict(), file)
    return f"{name}@{file}"


WHOLE = [kind for kind in OPEN_CLIPS if kind not in ("one_patch", "learned_positions")]
"""The variants that can do all that the card says."""

FACTORIES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "random-init": ("random-init", lambda folder: None),
    "encoder-vit": ("encoder", make_encoder),
    "encoder-cnn": ("encoder", lambda folder: make_encoder(folder, "test_resnet")),
    "hf-clip": ("hf_clip", make_hf_clip),
    "hf-siglip": ("hf_clip", make_hf_siglip),
    "open_clip-bert": ("open_clip", make_open_clip_bert),
    **{
        f"open_clip-{kind}": ("open_clip", lambda folder, kind=kind: make_open_clip(folder, kind))
        for kind in WHOLE
    },
}
"""Name of a case -> the card and what writes its SOURCE. Other models have their own tests."""


def load(card: str, source: object = None, seed: int = 0) -> Model:
    module = Registry().find(ModelCard, card).load()
    model: Model = module.load(None if source is None else str(source), seed)
    return model


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    made: dict[str, object] = {}

    def source(case: str) -> object:
        if case not in made:
            made[case] = FACTORIES[case][1](tmp_path_factory.mktemp(case) / case)
        return made[case]

    return source


@pytest.fixture(params=FACTORIES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Model]:
    return {}


@pytest.fixture
def model(case: str, sources: Callable[[str], object], loaded: dict[str, Model]) -> Model:
    if case not in loaded:
        loaded[case] = load(FACTORIES[case][0], sources(case))
    return loaded[case]


def pictures(count: int = 3) -> list[NDArray[np.uint8]]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 90, 120), dtype=np.uint8)
    return [np.zeros((70, 70), np.uint8), *drawn[1:]]


def inputs(model: Model) -> Tensor:
    return model.preprocess.batch(pictures())


# --- every card -----------------------------------------------------------------------------------


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_models_file_exports_a_load_of_the_contract(card: ModelCard) -> None:
    module = Registry().find(ModelCard, card.name).load()
    assert card == module.CARD
    assert list(inspect.signature(module.load).parameters) == ["source", "seed"]
    for text in (card.summary, card.paper, card.source, card.licence):
        assert text.strip()
    assert card.capabilities
    assert card.source_kind in ("file", "folder", "hub", "")


@pytest.mark.parametrize("card", [c for c in CARDS if c.needs_weights], ids=lambda c: c.name)
def test_a_missing_source_is_a_sentence(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=card.name):
        load(card.name)
    for wrong in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(G2DBenchError) as caught:
            load(card.name, wrong)
        assert str(tmp_path) in str(caught.value)


# --- every model that can be built here -----------------------------------------------------------


@torch.no_grad()
def test_a_loaded_model_is_what_its_card_says(case: str, model: Model, sources: Any) -> None:
    card = FACTORIES[case][0]
    assert capabilities(model) == model.card.capabilities
    assert model.card.name == card
    assert not model.training
    assert model.identity.digest == digest(model)
    assert model.identity.label.startswith(card)
    assert "/" not in model.identity.label
    again = load(card, sources(case))
    assert again.identity == model.identity
    size = model.preprocess.size
    assert inputs(model).shape == (3, 3, size, size)


@torch.no_grad()
def test_embeddings_have_length_one_and_ignore_the_batch(model: Model) -> None:
    if not isinstance(model, Embeds):
        pytest.skip("embeds nothing, and says so on its card")
    images, before = inputs(model), torch.random.get_rng_state()
    together, texts = model.embed_images(images), model.embed_texts(TEXTS)
    assert together.shape == (3, texts.shape[1])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    alone = torch.cat([model.embed_images(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    reverse = torch.cat([model.embed_texts([text]) for text in reversed(TEXTS)]).flip(0)
    torch.testing.assert_close(texts, reverse, atol=1e-5, rtol=0)
    assert model.embed_texts(["word " * 400]).isfinite().all()
    assert torch.equal(torch.random.get_rng_state(), before)


@torch.no_grad()
def test_features_have_the_announced_shapes_and_ignore_the_batch(model: Model) -> None:
    assert isinstance(model, Features)
    assert list(model.strides) == sorted(set(model.strides))
    assert all(stride & (stride - 1) == 0 for stride in model.strides)
    size = model.preprocess.size
    sides = [size] if model.fixed_size else [size, 2 * model.strides[-1]]
    for side in sides:
        images = model.preprocess.stretched(side).batch(pictures())
        pyramid = model.features(images)
        expected = [
            (3, c, -(-side // s), -(-side // s))
            for c, s in zip(model.channels, model.strides, strict=True)
        ]
        assert [tuple(part.shape) for part in pyramid] == expected
        first = model.features(images[:1])
        for part, alone in zip(pyramid, first, strict=True):
            torch.testing.assert_close(part[:1], alone, atol=1e-4, rtol=1e-4)
    pooled = model.pooled(inputs(model))
    assert pooled.ndim == 2
    assert pooled.isfinite().all()
    assert not torch.allclose(pooled[1], pooled[2])


@torch.no_grad()
def test_maps_are_cosines_per_text_and_ignore_the_batch(model: Model) -> None:
    if not isinstance(model, Locates):
        pytest.skip("locates nothing, and says so on its card")
    images = inputs(model)
    maps = model.locate(images, TEXTS)
    assert maps.shape[:2] == (3, len(TEXTS))
    assert maps.shape[2] == maps.shape[3] > 1
    assert maps.abs().max() <= 1 + 1e-5
    alone = model.locate(images[2:], TEXTS[1:2])
    torch.testing.assert_close(maps[2:, 1:2], alone, atol=1e-5, rtol=0)


# --- random-init ----------------------------------------------------------------------------------


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


def test_the_twin_of_a_run_has_its_architecture_and_new_weights(tmp_path: Path) -> None:
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
    twin: Any = load("random-init", tmp_path, seed=4)
    assert twin.preprocess == trained.preprocess
    assert twin.card.capabilities == capabilities(twin) == method.card.capabilities
    assert twin.identity.label == f"random-init:{info.label}"
    shapes = {k: v.shape for k, v in twin.state_dict().items()}
    assert shapes == {k: v.shape for k, v in trained.as_model().state_dict().items()}
    digests = {load("random-init", tmp_path, seed=seed).identity.digest for seed in (3, 4, 4)}
    assert digests == {digest(trained.as_model()), twin.identity.digest}
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BadCheckpoint, match="cannot be rebuilt"):
        load("random-init", tmp_path)


def test_an_absent_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="there is no run folder"):
        load("random-init", tmp_path / "run")


# --- open_clip ------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", [*WHOLE, "bert"])
def test_open_clip_equals_the_library(kind: str, sources: Callable[[str], object]) -> None:
    folder = Path(str(sources(f"open_clip-{kind}")))
    model: Any = load("open_clip", folder)
    if kind == "bert":
        reference = model.clip.__class__(**_local(folder)).eval()
        reference.load_state_dict(
            safetensors.torch.load_file(folder / "open_clip_model.safetensors"), strict=False
        )
    else:
        reference = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    images = inputs(model)
    for ours, theirs in (
        (model.embed_images(images), reference.encode_image(images, normalize=True)),
        (model.embed_texts(TEXTS), reference.encode_text(tokens, normalize=True)),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def _local(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return config


@pytest.mark.parametrize("shape", [(96, 96), (64, 128), (300, 150), (40, 40)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
        {"resize_mode": "longest"},
    ],
    ids=["clip", "squash", "longest"],
)
def test_open_clip_prepares_images_as_the_library_does(
    tmp_path: Path, settings: dict[str, Any], shape: tuple[int, int]
) -> None:
    model = load("open_clip", make_open_clip(tmp_path / "m", **settings))
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    transform = image_transform_v2(PreprocessCfg(**{"size": 64, **settings}), is_train=False)
    assert pixel_gap(model, image, transform(Image.fromarray(image))) <= 1.001


def pixel_gap(model: Model, image: NDArray[np.uint8], reference: Tensor) -> float:
    """Largest difference between two normalised images, in grey levels of 255."""
    std = torch.tensor(model.preprocess.std).view(-1, 1, 1)
    return float(((model.preprocess(image) - reference).abs() * std * 255).max())


@torch.no_grad()
def test_a_map_of_one_patch_is_the_embedding_where_pooling_allows_it(tmp_path: Path) -> None:
    """An average pool of one patch is that patch: the map must be the image's own cosine."""
    model: Any = load("open_clip", make_open_clip(tmp_path / "m", "one_patch"))
    images = inputs(model)
    wanted = model.embed_images(images) @ model.embed_texts(TEXTS).T
    torch.testing.assert_close(model.locate(images, TEXTS)[..., 0, 0], wanted)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_the_cells_under_an_average_pool_have_the_embedding_as_their_mean(name: str) -> None:
    """Maps of convolutional trunks, and of those that keep their channels last."""
    module = Registry().find(ModelCard, "open_clip").load()
    small = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    options = small if name.startswith("swin") else {}
    visual = SimpleNamespace(trunk=timm.create_model(name, **options).eval(), head=nn.Sequential())
    images = torch.randn(2, 3, 224, 224)
    grid = module._timm_grid(visual, images)
    assert grid.shape[2:] == (7, 7)
    torch.testing.assert_close(grid.mean((2, 3)), visual.trunk(images), atol=1e-5, rtol=1e-4)


def test_attention_pools_with_positions_are_a_dash_not_a_guess(tmp_path: Path) -> None:
    model: Any = load("open_clip", make_open_clip(tmp_path / "m", "learned_positions"))
    with pytest.raises(Unsupported, match="learned positions"):
        model.locate(inputs(model), TEXTS)


def test_a_broken_open_clip_folder_is_named(tmp_path: Path) -> None:
    folder = make_open_clip(tmp_path / "m")
    weights, config = folder / "open_clip_pytorch_model.bin", folder / "open_clip_config.json"
    good = json.loads(config.read_text())

    def refused(words: str) -> None:
        with pytest.raises(BadCheckpoint, match=words):
            load("open_clip", folder)

    for change in ({"vision_cfg": {**VIT, "layers": 3}}, {"embed_dim": 8}):
        config.write_text(json.dumps({**good, "model_cfg": good["model_cfg"] | change}))
        refused(r"open_clip_pytorch_model\.bin does not fit CLIP")
    for broken in (
        {},
        {"model_cfg": {}},
        {"model_cfg": {**good["model_cfg"], "vision_cfg": {"timm_model_name": "no"}}},
    ):
        config.write_text(json.dumps(broken))
        refused("cannot build the model of")
    config.write_text("{")
    refused("no readable JSON")
    config.write_text(json.dumps(good))
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("cut short or broken")
    weights.unlink()
    refused("has no weights")


def test_a_text_encoder_without_its_configuration_says_how_to_get_it(tmp_path: Path) -> None:
    folder = make_open_clip_bert(tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"hf download nobody/bert config\.json --local-dir"):
        load("open_clip", folder)


def test_a_folder_cannot_ask_for_its_own_code(tmp_path: Path) -> None:
    folder, marker = make_open_clip_bert(tmp_path / "m"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    automap = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil"}
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    file.write_text(json.dumps(config))
    for name, change in (
        ("tokenizer_config.json", {"tokenizer_class": "Evil"}),
        ("config.json", {"model_type": "evil"}),
    ):
        part = folder / name
        part.write_text(json.dumps(json.loads(part.read_text()) | {"auto_map": automap} | change))
        with contextlib.suppress(BadCheckpoint):
            load("open_clip", folder)
        assert not marker.exists()
    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert marker.exists(), "the folder's code is no danger: this test has become pointless"


# --- the hub --------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", ["open_clip", "hf_clip"])
def test_without_a_network_a_hub_id_says_what_to_do(card: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    for name in ("nobody/nothing", "hf-hub:nobody/nothing"):
        with pytest.raises(BadCheckpoint, match="hf download nobody/nothing --local-dir FOLDER"):
            load(card, name)
    with pytest.raises(Misuse, match="neither a folder nor a hub id"):
        load(card, "not a hub id")


# --- hf_clip --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("case", "kind"), [("hf-clip", CLIPModel), ("hf-siglip", SiglipModel)])
def test_hf_clip_equals_transformers(
    case: str, kind: Any, sources: Callable[[str], object]
) -> None:
    folder = sources(case)
    model: Any = load("hf_clip", folder)
    reference = kind.from_pretrained(folder).eval()
    images = inputs(model)
    padding, length = (True, 14) if case == "hf-clip" else ("max_length", 9)
    tokens = model.tokenizer(
        TEXTS, return_tensors="pt", padding=padding, truncation=True, max_length=length
    )
    tokens = {
        k: tokens[k] for k in ("input_ids", *(["attention_mask"] if case == "hf-clip" else []))
    }
    output = reference(pixel_values=images, **tokens)
    torch.testing.assert_close(model.embed_images(images), output.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.embed_texts(TEXTS), output.text_embeds, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(96, 96), (128, 256), (300, 150), (40, 40)])
@pytest.mark.parametrize("case", ["hf-clip", "hf-siglip"])
def test_hf_clip_prepares_images_as_transformers_does(
    case: str, shape: tuple[int, int], sources: Callable[[str], object]
) -> None:
    folder = sources(case)
    processor = (CLIPImageProcessor if case == "hf-clip" else SiglipImageProcessor).from_pretrained(
        folder
    )
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    wanted = processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")["pixel_values"][
        0
    ]
    assert pixel_gap(load("hf_clip", folder), image, wanted) <= 1.001


def test_an_image_processor_is_read_in_every_form_it_was_written(tmp_path: Path) -> None:
    folder = make_hf_clip(tmp_path / "m")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    wanted = load("hf_clip", folder).preprocess
    file.write_text(json.dumps(settings | {"size": 64, "crop_size": 64}))
    assert load("hf_clip", folder).preprocess == wanted
    file.unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert load("hf_clip", folder).preprocess == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"do_resize": False},
        {"resample": 1},
        {"rescale_factor": 1.0},
        {"crop_size": {"height": 48, "width": 48}},
        {"crop_size": {"height": 64, "width": 32}},
        {"do_normalize": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_unknown_image_processor_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_hf_clip(tmp_path / "m")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadCheckpoint, match="preprocessor_config"):
        load("hf_clip", folder)


def test_a_broken_hf_folder_is_named(tmp_path: Path) -> None:
    folder = make_hf_siglip(tmp_path / "m")
    weights = folder / "model.safetensors"
    state = safetensors.torch.load_file(weights)

    def refused(words: str) -> None:
        with pytest.raises(BadCheckpoint, match=words):
            load("hf_clip", folder)

    name = "vision_model.head.probe"
    for changed in (
        {k: v for k, v in state.items() if k != name},
        state | {name: torch.zeros(1, 1, 3)},
        state | {"adapter.weight": torch.zeros(1)},
    ):
        safetensors.torch.save_file(changed, weights, metadata={"format": "pt"})
        refused("do not fill SiglipModel: 1")
    weights.write_bytes(b"junk")
    refused("transformers cannot load SiglipModel")
    weights.unlink()
    refused("transformers cannot load SiglipModel")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    refused("'bert' model; hf_clip reads clip and siglip")


def test_a_pickled_hf_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder, marker = make_hf_clip(tmp_path / "m"), tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Attack()}, folder / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint):
        load("hf_clip", folder)
    assert not marker.exists()


# --- encoder --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "wrap", [None, "state_dict", "module."], ids=["bare", "nested", "prefixed"]
)
def test_an_encoder_of_torchvision_equals_torchvision(tmp_path: Path, wrap: str | None) -> None:
    reference = seeded(lambda: torchvision.models.resnet18(weights=None))
    content: dict[str, Any] = reference.state_dict()
    if wrap == "state_dict":
        content = {"state_dict": content, "epoch": 3}
    elif wrap is not None:
        content = {f"{wrap}{key}": value for key, value in content.items()}
    torch.save(content, tmp_path / "r18.pth")
    model: Any = load("encoder", f"resnet18@{tmp_path / 'r18.pth'}")
    assert model.strides == (2, 4, 8, 16, 32)
    assert model.identity.label == "encoder:resnet18@r18.pth"
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(reference.fc(model.pooled(images)), reference(images))
    maps = model.features(images)
    torch.testing.assert_close(maps[-1].mean((2, 3)), model.pooled(images))
    torch.testing.assert_close(maps[0], reference.relu(reference.bn1(reference.conv1(images))))


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_an_encoder_of_timm_equals_timm(tmp_path: Path, name: str) -> None:
    model: Any = load("encoder", make_encoder(tmp_path, name))
    reference = timm.create_model(name).eval()
    reference.load_state_dict(safetensors.torch.load_file(tmp_path / f"{name}.safetensors"))
    images = inputs(model)
    features = reference.forward_features(images)
    pooled = reference.forward_head(features, pre_logits=True)
    torch.testing.assert_close(model.pooled(images), pooled)
    if name == "test_vit":
        patches = features[:, reference.num_prefix_tokens :].transpose(1, 2)
        torch.testing.assert_close(model.features(images)[-1].flatten(2), patches)
    elif name == "test_convnext":
        torch.testing.assert_close(model.features(images)[-1], features)


@pytest.mark.parametrize("shape", [(256, 256), (300, 600)])
def test_an_encoder_prepares_images_as_timm_does(tmp_path: Path, shape: tuple[int, int]) -> None:
    source = make_encoder(tmp_path, "test_resnet")
    model: Any = load("encoder", source)
    config = timm.data.resolve_data_config(model=model.trunk)
    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    wanted = timm.data.create_transform(**config)(Image.fromarray(image).convert("RGB"))
    assert pixel_gap(model, image, wanted) <= 1.001


def test_an_encoders_source_and_file_are_checked(tmp_path: Path) -> None:
    source = make_encoder(tmp_path, "test_resnet")
    for wrong in ("resnet50", "@f.pth", "resnet50@"):
        with pytest.raises(Misuse, match="encoder:ARCH@FILE"):
            load("encoder", wrong)
    with pytest.raises(Misuse, match="did you mean 'resnet50'"):
        load("encoder", f"resnet5O@{tmp_path / 'f.pth'}")
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load("encoder", source.replace("test_resnet@", "test_vit@"))
    state = safetensors.torch.load_file(source.partition("@")[2])
    twice = {f"{who}.{key}": value for who in ("query", "key") for key, value in state.items()}
    torch.save(twice, tmp_path / "moco.pth")
    with pytest.raises(
        BadCheckpoint, match=r"2 times, under 'query\.', 'key\.'|under 'key\.', 'query\.'"
    ):
        load("encoder", f"test_resnet@{tmp_path / 'moco.pth'}")
