"""MGCA: HKU-MedAI/MGCA at 680fe4a; models/backbones/encoder.py, vits.py, med.py."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import timm
import torch
import torchvision
import transformers
from functorch.einops import rearrange
from PIL import Image
from torch import Tensor, nn

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "mgca", "HKU-MedAI/MGCA", "680fe4a"
WIDTH, LAYERS, HIDDEN, EMBED = 768, 1, 2048, 128
VIT_WIDTH, VIT_DEPTH = 128, 2
TEXT = "no effusion of the left lung"
TEXTS = ("there is pneumonia", TEXT)
"""Already clean: the original reads cleaned reports."""


def head(prefix: str, width: int, pointwise: bool) -> dict[str, Tensor]:
    layer = (lambda a, b: nn.Conv1d(a, b, 1)) if pointwise else nn.Linear
    return {
        **seeded.placed(f"{prefix}.head.0.", layer(width, HIDDEN)),
        **seeded.placed(f"{prefix}.head.1.", nn.BatchNorm1d(HIDDEN)),
        **seeded.placed(f"{prefix}.head.3.", layer(HIDDEN, EMBED)),
        **seeded.placed(f"{prefix}.head.4.", nn.BatchNorm1d(EMBED, affine=False)),
    }


def resnet_layout() -> dict[str, Tensor]:
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    return {
        **seeded.placed("img_encoder_q.model.", trunk),
        **head("img_encoder_q.global_embed", 2048, False),
        **head("img_encoder_q.local_embed", 1024, True),
    }


def vit_layout() -> dict[str, Tensor]:
    trunk = timm.models.VisionTransformer(
        embed_dim=VIT_WIDTH, depth=VIT_DEPTH, num_heads=VIT_WIDTH // 64, num_classes=0
    )
    return {
        **seeded.placed("img_encoder_q.model.", trunk),
        **head("img_encoder_q.global_embed", VIT_WIDTH, False),
        **head("img_encoder_q.local_embed", VIT_WIDTH, True),
    }


def make_state(image: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layout of the released file's state_dict, with each kind of key that is not used."""
    attention = nn.MultiheadAttention(EMBED, 1)
    bert = seeded.placed("text_encoder_q.model.", seeded.bert(WIDTH, LAYERS, pooler=False))
    del bert["text_encoder_q.model.embeddings.token_type_embeddings.weight"]  # med.py has none
    crossed = "text_encoder_q.model.encoder.layer.0.crossattention.self.query.weight"
    return seeded.fill(
        {
            **image,
            **bert,
            **head("text_encoder_q.global_embed", WIDTH, False),
            **head("text_encoder_q.local_embed", WIDTH, True),
            crossed: torch.empty(WIDTH, WIDTH),
            "prototype_layer.weight": torch.empty(500, EMBED),
            **seeded.placed("patch_local_atten_layer.", attention),
            **seeded.placed("word_local_atten_layer.", attention),
        }
    )


def state() -> dict[str, Tensor]:
    return make_state(resnet_layout())


def write_state(folder: Path, weights: dict[str, Tensor]) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    position = {"text_encoder_q.model.embeddings.position_ids": torch.arange(128)[None]}
    torch.save({"state_dict": weights | position, "epoch": 1}, folder / "mgca.ckpt")
    return folder / "mgca.ckpt"


def write(folder: Path) -> Path:
    return write_state(folder, state())


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    patches = model.embed_patches(images)
    return {
        "input": images,
        "images": model.embed_images(images),
        "patches": patches,
        "texts": model.embed_texts(TEXTS),
        "words": model.embed_words(TEXT),
        "attention": model.word_maps(patches, TEXT),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    return run(checkout, "resnet_50", state())


def run(checkout: Path, kind: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' two encoders; the Lightning module around them is not built.

    Patched: fairscale (imported, used with checkpointing alone), einops (torch's copy), the weights
    of DeiT and ImageNet (not downloaded), the sizes of ViT and BERT, and what med.py takes from
    transformers 4: `PreTrainedModel` is a module without its loading, `apply_chunking_to_forward`
    calls its function, `find_pruneable_heads_and_indices` is not called.
    """
    fairscale = "fairscale.nn.checkpoint.checkpoint_activations"
    stand_ins = ("pydicom", *(fairscale.rsplit(".", n)[0] for n in range(4)))
    utilities = {
        "PreTrainedModel": _Module,
        "apply_chunking_to_forward": lambda function, size, axis, *given: function(*given),
        "find_pruneable_heads_and_indices": None,
        "prune_linear_layer": None,
    }
    given = {
        "einops": {"rearrange": rearrange},
        "transformers.modeling_utils": utilities,
        "transformers.file_utils": {"ModelOutput": transformers.utils.ModelOutput},
    }
    config = seeded.bert_config(WIDTH, LAYERS)
    for name, value in (("encoder_width", WIDTH), ("add_cross_attention", True)):
        setattr(config, name, value)
    config.output_attentions = True
    config._attn_implementation = "eager"
    with (
        TemporaryDirectory() as name,
        mock.patch.object(torch.hub, "load_state_dict_from_url", return_value={"model": {}}),
        mock.patch.object(
            transformers.BertConfig, "from_json_file", classmethod(lambda cls, file: config)
        ),
        imported([checkout], stand_ins, given) as load,
    ):
        module: Any = load("mgca.models.backbones.encoder")
        load("mgca.models.backbones.cnn_backbones").models_2d = SimpleNamespace(
            resnet50=lambda weights: torchvision.models.resnet50(weights=None)
        )
        module.create_vit = vit_maker(load("mgca.models.backbones.vits"))
        folder = seeded.write_vocabulary(Path(name))
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        text = module.BertEncoder(tokenizer, output_dim=EMBED, freeze_bert=False).eval()
        image = module.ImageEncoder(kind, output_dim=EMBED).eval()
        missing = image.load_state_dict(part(weights, "img_encoder_q."), strict=True)
        assert not missing.missing_keys
        loaded = text.load_state_dict(part(weights, "text_encoder_q."), strict=False)
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        assert all("crossatt" in key or "position_ids" in key for key in loaded.missing_keys)
        images = torch.stack([prepare(load, picture) for picture in seeded.radiographs()[:2]])
        return answer(image, text, tokenizer, images)


def answer(image: Any, text: Any, tokenizer: Any, images: Tensor) -> dict[str, Tensor]:
    """As MGCA.forward: embeddings, and the attention of the words to the patches."""
    pooled, local = image(images)
    patches = nn.functional.normalize(image.local_embed(local), dim=-1)
    coded = tokenizer(
        list(TEXTS), return_tensors="pt", truncation=True, padding="max_length", max_length=112
    )
    report, words, _, names = text(
        coded["input_ids"], coded["attention_mask"], coded["token_type_ids"]
    )
    count = names[1].index("[SEP]") - 1
    embedded = nn.functional.normalize(text.local_embed(words), dim=-1)[1, :count]
    scores = torch.softmax(patches @ embedded.T / 0.1, dim=1)
    side = int(patches.shape[1] ** 0.5)
    return {
        "input": images,
        "images": nn.functional.normalize(image.global_embed(pooled), dim=-1),
        "patches": patches.transpose(1, 2).unflatten(2, (side, side)),
        "texts": nn.functional.normalize(text.global_embed(report), dim=-1),
        "words": embedded,
        "attention": scores.transpose(1, 2).unflatten(2, (side, side)),
    }


class _Module(nn.Module):
    """What med.py uses of transformers' PreTrainedModel."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def init_weights(self) -> None:
        pass

    def get_head_mask(self, mask: Any, layers: int) -> list[None]:
        return [None] * layers

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @classmethod
    def from_pretrained(cls, name: str, config: Any, **options: Any) -> "_Module":
        return cls(config, **options)


def vit_maker(vits: Any) -> Callable[..., tuple[nn.Module, int]]:
    def make(*_: Any) -> tuple[nn.Module, int]:
        heads = VIT_WIDTH // 64
        trunk = vits.VisionTransformer(embed_dim=VIT_WIDTH, depth=VIT_DEPTH, num_heads=heads)
        return trunk, VIT_WIDTH

    return make


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix) and "crossattention" not in key
    }


def prepare(load: Any, picture: Any) -> Tensor:
    """As `get_imgs` after reading, with the transform of evaluation."""
    resized = load("mgca.datasets.utils").resize_img(picture, 256)
    transform = load("mgca.datasets.transforms").DataTransforms(is_train=False)
    values: Tensor = transform(Image.fromarray(resized).convert("RGB"))
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, 0, ::31, ::31],
        "images": results["images"][:, ::4],
        "texts": results["texts"][:, ::4],
        "words": results["words"][:, ::8],
        "patches": results["patches"][:, ::16, ::6, ::6],
        "attention": 361 * results["attention"][:, :, ::6, ::6],
    }
