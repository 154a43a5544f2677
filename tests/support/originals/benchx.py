"""Encoders of yangzhou12/BenchX at b874fa6: VisualEncoder and REFERSViT, as ImageClassifier pools.

Patched: packages around these files (not imported), einops and tqdm (imported, unused here),
ml_collections (a dict with attributes), sizes of transformers, and from_pretrained of the Swin,
whose keys have older names in the released file.
"""

from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import timm
import torch
from torch import Tensor
from transformers import SwinConfig, SwinModel

from g2dbench.pretrained.towers import modern_swin
from support.models import golden
from support.models.encoder_releases import BENCHX, write_state
from support.originals.imports import ConfigDict, imported

COMMIT = "yangzhou12/BenchX b874fa6"
VIT = {"embed_dim": 64, "depth": 2, "num_heads": 1}
SWIN = {"image_size": 224, "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]}
SIDES = {"resnet": 96, "medklip": 96}
OPTIONS: dict[str, dict[str, Any]] = {
    "resnet": {"backbone": "resnet50", "output_layer": "avgpool", "permute": "batch_first"},
    "medklip": {
        "backbone": "resnet50", "output_layer": "layer3", "permute": "batch_first",
        "named_children": False,
    },
    "vit": {"backbone": "timmvit", "permute": "no_permute", "num_classes": 0,
            "global_pool": "token"},
    "mrm": {"backbone": "timmvit", "permute": "no_permute", "num_classes": 0,
            "global_pool": "avg"},
    "swin": {"backbone": "hfpretrained", "permute": "no_permute", "pooled": False},
    "ptunifier": {"permute": "no_permute"},
}  # fmt: skip
"""As in configs/classification, without what chooses the file."""
_PACKAGES = (
    "unifier", "unifier.blocks", "unifier.blocks.vision", "unifier.blocks.vision.openai",
    "unifier.blocks.vision.huggingface", "unifier.blocks.custom", "unifier.blocks.custom.refers",
)  # fmt: skip


def pooled(checkout: Path, name: str, folder: Path) -> tuple[dict[str, tuple[int, ...]], Tensor]:
    """Shapes of the released keys without their prefix, and what the classifier gets."""
    given = {key: _package(checkout, key) for key in _PACKAGES}
    given |= {"ml_collections": {"ConfigDict": ConfigDict}}
    images = golden.seeded_images(SIDES.get(name, 224))
    with imported([checkout], ("einops", "tqdm"), given) as load:
        build = _Builder(load, folder)
        shapes = build.shapes(name)
        method = next(m for m, (which, *_) in BENCHX.items() if which == name)
        prefix = BENCHX[method][1]
        state = golden.seeded_state(shapes)
        state = modern_swin(state) if name == "swin" else state
        named = {prefix + key: value for key, value in state.items()}
        file = write_state(folder / "official.pth", named, "state_dict")
        output = build(name, file, prefix).eval()(images)
    if name == "mrm":
        return shapes, output[:, 1:, :].mean(dim=1)
    if output.ndim == 3:
        return shapes, output.mean(dim=1) if name == "swin" else output[:, 0]
    return shapes, output


def _package(checkout: Path, name: str) -> Any:
    """A package without what its __init__ imports."""
    package = ModuleType(name)
    package.__path__ = [str(checkout.joinpath(*name.split(".")))]
    return package


class _Builder:
    """Builds the encoder of a configuration with smaller sizes."""

    def __init__(self, load: Any, folder: Path) -> None:
        self.load, self.folder = load, folder

    def __call__(self, name: str, file: Path | None = None, prefix: str = "") -> Any:
        path = None if file is None else str(file)
        if name == "refers":
            module = self.load("unifier.blocks.custom.refers.transformer")
            small = module.CONFIGS["testing"]
            small.hidden_size = VIT["embed_dim"]
            small.transformer = ConfigDict(
                small.transformer, mlp_dim=256, num_heads=1, num_layers=VIT["depth"]
            )
            more = {"prefix": prefix} if prefix else {}
            return module.REFERSViT(
                "testing", prelogits=True, pretrained=path, num_classes=0, **more
            )
        visual = self.load("unifier.blocks.vision.visual_encoder")
        options = {**OPTIONS[name], "pretrained": path, "prefix": prefix}
        if name == "ptunifier":
            options["backbone"] = f"openai_{self._openai()}"
        if name == "swin":
            options["encoder"] = ConfigDict(proto="swin", pretrained=path, prefix=prefix)
            return self._swin(visual, options)
        transformer = timm.models.vision_transformer.VisionTransformer
        small = lambda **given: transformer(**{**given, **VIT})  # noqa: E731
        with mock.patch.object(visual, "VisionTransformer", small):
            return visual.VisualEncoder(**options)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the released file: those of the encoder, but for MRM and Swin."""
        if name == "swin":
            stored = golden.read("medclip_swin")["shapes"]
            start = "vision_model.model."
            return {k.removeprefix(start): v for k, v in stored.items() if k.startswith(start)}
        built = self("vit" if name == "mrm" else name)
        if name not in ("refers", "ptunifier"):
            built = built.model
        state = golden.weights_of(built.model if name == "ptunifier" else built)
        return {k: tuple(v.shape) for k, v in state.items() if not k.startswith(("head.", "fc."))}

    def _swin(self, visual: Any, options: dict[str, Any]) -> Any:
        hub = self.load("unifier.blocks.vision.huggingface.encoder_model")
        small = SwinConfig(**SWIN)
        with (
            mock.patch.object(hub.AutoConfig, "from_pretrained", return_value=small),
            mock.patch.object(
                hub.AutoModel, "from_pretrained", lambda path, config: SwinModel(config)
            ),
        ):
            return visual.VisualEncoder(**options)

    def _openai(self) -> Path:
        """A file with the keys from which `build_model` reads the sizes of OpenAI's CLIP."""
        width, layers = VIT["embed_dim"], VIT["depth"] + 1
        sizes = {
            "visual.proj": (width, 8), "visual.conv1.weight": (width, 3, 16, 16),
            "visual.positional_embedding": (197, width), "text_projection": (8, 8),
            "positional_embedding": (4, 8), "token_embedding.weight": (9, 8),
            "ln_final.weight": (8,), "transformer.resblocks.0.ln_1.bias": (8,),
            **{f"visual.transformer.resblocks.{i}.attn.in_proj_weight": (3 * width, width)
               for i in range(layers)},
        }  # fmt: skip
        file = self.folder / "openai.pt"
        torch.save({key: torch.zeros(size) for key, size in sizes.items()}, file)
        return file
