"""Models of OpenCLIP, from a folder or the hub, for wrappers with a card.

Papers: Ilharco et al., 2021; Radford et al., 2021.

Shapes: B batch, S input side, D shared width, T texts, N patches, h w grid, C channels.
SOURCE is a folder with `open_clip_config.json`, weights and tokenizer files, or the hub id of one.
Where the configuration names a text encoder of transformers, that encoder's `config.json` is read
from the same folder, or else from the hub's cache. Difference from the library: weights are read by
`g2dbench.pretrained.weights`, and code in a folder is never executed.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor
from transformers import AutoConfig

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Unsupported
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Fit, Preprocess, Resampling
from g2dbench.pretrained.hub import model_folder, read_json
from g2dbench.pretrained.image.feature_maps import cosine_similarity, find_levels, to_grid
from g2dbench.pretrained.text.tokenizer import apply_special_token_settings
from g2dbench.pretrained.weights import (
    State,
    digest,
    find_state,
    load_state,
    read_weights,
    strip_prefix,
)

CONFIG_FILE = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_FITS: dict[str, Fit] = {"shortest": "crop", "squash": "stretch", "longest": "pad"}
_RESAMPLINGS: dict[str, Resampling] = {"bicubic": "bicubic", "bilinear": "bilinear"}
_TEXT_BATCH = 64
_NON_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Keys in OpenAI's TorchScript files that are not weights (clip/model.py removes them)."""


class OpenCLIP(Model):
    """An OpenCLIP model. Its localization is not trained: CLIP's loss uses no single patches.

    locate: each patch is passed separately through the image encoder's pooling and projection; for
    OpenAI's ResNets that is the value path of the attention pooling (MaskCLIP: Zhou et al., ECCV
    2022).
    """

    grounding = Grounding()

    def __init__(self, card: ModelCard, clip: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.card = card
        self.clip = clip
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.fixed_size = _fixed_size(clip.visual)
        self.levels = find_levels(self._stages, preprocess.size)
        self.channels, self.strides = self.levels.channels, self.levels.strides

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        embedded: Tensor = self.clip.encode_image(images, normalize=True)
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; texts are truncated to the context length."""
        device = self.clip.logit_scale.device
        starts = range(0, len(texts), _TEXT_BATCH)
        parts = [self.tokenizer(list(texts[at : at + _TEXT_BATCH])) for at in starts]
        return torch.cat([self.clip.encode_text(p.to(device), normalize=True) for p in parts])

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature pyramid; for a ViT a single map, after the final norm."""
        # In CoCa the final norm follows the attention pooling and has another width.
        norm = self.levels.is_single and getattr(self.clip.visual, "attn_pool", None) is None
        maps = self._intermediates(images, list(self.levels.indices), norm)
        return self.levels.pyramid(maps, images.shape[-1])

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): `encode_image`, the input of OpenAI's linear probe (README)."""
        encoded: Tensor = self.clip.encode_image(images)
        return encoded

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosine similarity of each patch and text."""
        visual = self.clip.visual
        if isinstance(visual, ModifiedResNet):
            grid = _resnet_grid(visual, self._intermediates(images, 1, False)[0])
        elif isinstance(visual, TimmModel):
            grid = _timm_grid(visual, images)
        else:
            grid = _vit_grid(visual, self._intermediates(images, 1, False)[0])
        return cosine_similarity(grid, self.embed_texts(texts))

    def _stages(self, images: Tensor) -> list[Tensor]:
        return self._intermediates(images, None, False)

    def _intermediates(
        self, images: Tensor, indices: list[int] | int | None, norm: bool
    ) -> list[Tensor]:
        output = self.clip.visual.forward_intermediates(
            images, indices=indices, normalize_intermediates=norm, intermediates_only=True
        )
        maps: list[Tensor] = output["image_intermediates"]
        return maps


def _fixed_size(visual: Any) -> bool:
    if isinstance(visual, TimmModel):
        return bool(visual.trunk.pretrained_cfg.get("fixed_input_size", False))
    return not isinstance(visual, ModifiedResNet)


def _resnet_grid(visual: Any, last: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w): the projected values of the attention pooling, one per cell."""
    pool = visual.attnpool
    cells: Tensor = pool.c_proj(pool.v_proj(last.permute(0, 2, 3, 1)))
    return cells.permute(0, 3, 1, 2)


def _vit_grid(visual: Any, last: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w): the pooling of each patch as both class token and patch."""
    patches = last.flatten(2).transpose(1, 2)
    pairs = patches.reshape(-1, 1, patches.shape[-1]).expand(-1, 2, -1)
    pooled, _ = visual._pool(pairs)
    projected = pooled if visual.proj is None else pooled @ visual.proj
    return to_grid(projected.view(*patches.shape[:2], -1))


def _timm_grid(visual: Any, images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, D, h, w): the head's output for each cell of the trunk separately."""
    trunk = visual.trunk
    if "pool" in dict(visual.head.named_children()):
        raise Unsupported(
            "this OpenCLIP model pools with learned positions, so a single patch has no embedding"
        )
    output = trunk.forward_features(images)
    if output.ndim == 3:
        prefix = trunk.num_prefix_tokens
        cells = output[:, prefix:].reshape(-1, 1, output.shape[-1]).expand(-1, 1 + prefix, -1)
    elif getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        cells = output.reshape(-1, 1, 1, output.shape[-1])
    else:
        cells = output.permute(0, 2, 3, 1).reshape(-1, output.shape[1], 1, 1)
    embedded = visual.head(trunk.forward_head(cells))
    return to_grid(embedded.view(len(images), -1, embedded.shape[-1]))


def load_open_clip(source: str | None, card: ModelCard) -> OpenCLIP:
    """The model of a folder or a hub id.

    Raises Misuse for a SOURCE that is neither, BadCheckpoint for a folder that is incomplete,
    broken or does not match its configuration.
    """
    folder = model_folder(source, card.name, CONFIG_FILE)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise BadCheckpoint(f"{folder} has no weights: it contains none of {', '.join(WEIGHTS)}")
    config = read_json(folder / CONFIG_FILE)
    try:
        clip = _build(deepcopy(config["model_cfg"]), folder).eval()
        tokenizer = _load_tokenizer(config["model_cfg"], folder)
        preprocess = _read_preprocess(config.get("preprocess_cfg", {}), clip.visual.image_size)
    except BadCheckpoint:
        raise
    except Exception as error:  # an untrusted configuration reaches many constructors
        raise BadCheckpoint(
            f"OpenCLIP cannot build the model of {folder / CONFIG_FILE}: "
            f"{type(error).__name__}: {error}"
        ) from error
    load_state(clip, _read_state(clip, file), file)
    model = OpenCLIP(card, clip, tokenizer, preprocess)
    model.identity = Identity(f"{card.name}:{_label(source, folder)}", digest(model))
    return model.eval()


def _label(source: str | None, folder: Path) -> str:
    return folder.resolve().name if Path(source or "").expanduser().is_dir() else str(source)


def _build(config: dict[str, Any], folder: Path) -> Any:
    """The module that `open_clip.create_model` builds (open_clip/factory.py), untrained."""
    config["vision_cfg"]["timm_model_pretrained"] = False
    text = config["text_cfg"]
    text["hf_model_pretrained"] = False
    if text.get("hf_model_name"):
        text["hf_model_name"] = _find_text_config(text["hf_model_name"], folder)
    custom = config.pop("custom_text", False) or bool(text.get("hf_model_name"))
    if custom and "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)


def _find_text_config(name: str, folder: Path) -> str:
    """Folder or hub id of the text encoder's configuration.

    It is read here once with `trust_remote_code=False`, so that a folder cannot have code executed.
    """
    place = str(folder) if (folder / "config.json").is_file() else name
    try:
        AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"{folder} needs the configuration of its text encoder {name}, which is neither in the "
            f"folder nor in the hub's cache: run "
            f"`hf download {name} config.json --local-dir {folder}`"
        ) from error
    return place


def _load_tokenizer(config: dict[str, Any], folder: Path) -> Any:
    """The library's tokenizer with the text cleaning of the folder's `tokenizer_kwargs`.

    A reduction mask removes words of long texts, some kinds at random, to train faster. It is not
    used here: long texts are truncated, as in the library without such a mask.
    """
    is_transformers = bool(config["text_cfg"].get("hf_tokenizer_name"))
    options = {"trust_remote_code": False} if is_transformers else {"reduction_mask": ""}
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", **options)
    if is_transformers:
        apply_special_token_settings(tokenizer.tokenizer, folder)
    return tokenizer


def _read_state(clip: Any, file: Path) -> State:
    """The file's weights with the key names of this version (open_clip/factory.py)."""
    state = strip_prefix(find_state(read_weights(file), file), "module.")
    state = {key: value for key, value in state.items() if key not in _NON_WEIGHTS}
    state = dict(convert_state_dict(clip, state))
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = dict(convert_to_custom_text_state_dict(state))
    for name in ("logit_scale", "logit_bias"):
        if name in state and getattr(clip, name, None) is not None:
            state[name] = state[name].reshape(getattr(clip, name).shape)
    return state


def _read_preprocess(settings: dict[str, Any], side: int | tuple[int, int]) -> Preprocess:
    """The library's evaluation transform (open_clip/transform.py), at the encoder's input size."""
    config = merge_preprocess_dict(PreprocessCfg(), settings)
    height, width = (side, side) if isinstance(side, int) else side
    if height != width or (config["resize_mode"] == "longest" and config["fill_color"] != 0):
        raise BadCheckpoint(
            f"this OpenCLIP model needs {height} x {width} pixels, padded with "
            f"{config['fill_color']}; g2dbench supports square inputs, padded with 0"
        )
    return Preprocess(
        size=height,
        fit=_FITS[config["resize_mode"]],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resampling=_RESAMPLINGS[config["interpolation"]],
    )
