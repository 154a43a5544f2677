"""CLIP and SigLIP models of transformers, from a folder or the hub.

Shapes: B batch, S input side, D shared width, T texts, N patches, h w grid, C channels.
SOURCE is a folder as `save_pretrained` writes it, or a hub id. Code of the folder is never run.
Papers: Radford et al., ICML 2021 (CLIP); Zhai et al., ICCV 2023 (SigLIP).
"""

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, SiglipModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, Preprocess, Resampling
from g2dbench.pretrained.feature_maps import at_stride, cosines, stride_of, to_grid
from g2dbench.pretrained.hub import model_folder, read_json
from g2dbench.pretrained.tokenizer import frame_texts
from g2dbench.pretrained.weights import digest

CARD = ModelCard(
    name="hf_clip",
    summary="Any CLIP or SigLIP model of transformers, from a folder or a hub id",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, "
    "ICML 2021; Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023",
    source="huggingface.co/models?other=clip, huggingface.co/models?other=siglip",
    licence="that of the weights",
    capabilities=("embeds", "features", "locates"),
    source_kind="hub",
)

_CLASSES = {"clip": CLIPModel, "siglip": SiglipModel}
_HALF = (0.5, 0.5, 0.5)
_RESAMPLINGS: dict[int, Resampling] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers, as image processors store them."""
_TEXTS_AT_ONCE = 64
_GEMMA_END = "<eos>"
"""How Gemma's vocabulary ends a text: the mark of SigLIP 2. SigLIP's own ends it with "</s>"."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class HFCLIP(Model):
    """A CLIP or SigLIP model. Its map is untrained: neither loss ever sees a single patch.

    locate: each patch goes alone through what follows the last block: CLIP's norm and projection,
    SigLIP's attention pool over that one patch.

    Texts are cleaned as the published model was trained, whatever tokenizer the folder names: see
    `_cleaning`. They are padded to the context length, so that none depends on its neighbours.
    """

    card = CARD
    grounding = Grounding()
    fixed_size = True

    def __init__(self, clip: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.clip = clip
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        vision = clip.config.vision_config
        self.channels = (int(vision.hidden_size),)
        self.strides = (stride_of(vision.patch_size, 1),)
        self._is_siglip = clip.config.model_type == "siglip"
        self._clean = _cleaning(self._is_siglip, tokenizer)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.pooled(images), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; longer texts are cut at the context length."""
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        return torch.cat([self._texts(texts[at : at + _TEXTS_AT_ONCE]) for at in starts])

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of the patches after the final norm."""
        return [at_stride(to_grid(self._patches(images)), images.shape[-1], self.strides[0])]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): `get_image_features`, as OpenAI's linear probe has it."""
        output: Tensor = self.clip.vision_model(pixel_values=images).pooler_output
        return output if self._is_siglip else self.clip.visual_projection(output)

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosines of every patch alone with every text."""
        patches = self._patches(images)
        if self._is_siglip:
            alone = self.clip.vision_model.head(patches.reshape(-1, 1, patches.shape[-1]))
            aligned = alone.view(*patches.shape[:2], -1)
        else:
            aligned = self.clip.visual_projection(patches)
        return cosines(to_grid(aligned), self.embed_texts(texts))

    def _patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, C) after the final norm."""
        states: Tensor = self.clip.vision_model(pixel_values=images).last_hidden_state
        if self._is_siglip:
            return states
        normed: Tensor = self.clip.vision_model.post_layernorm(states[:, 1:])
        return normed

    def _texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            [self._clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self.clip.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.clip.device)
        # SigLIP was trained without a mask: its padding takes part (HF's page of the model).
        mask = None if self._is_siglip else tokens["attention_mask"]
        output: Tensor = self.clip.text_model(
            input_ids=tokens["input_ids"], attention_mask=mask
        ).pooler_output
        return F.normalize(output if self._is_siglip else self.clip.text_projection(output), dim=-1)


def _cleaning(is_siglip: bool, tokenizer: Any) -> Callable[[str], str]:
    """What the published training did to a text before tokenizing it.

    SigLIP 2 lower-cased it (transformers' Siglip2Tokenizer; most folders name GemmaTokenizer, which
    keeps the case). SigLIP also dropped punctuation (SiglipTokenizer). CLIP lower-cased it, which
    CLIPTokenizer does itself.
    """
    if not is_siglip:
        return str
    return str.lower if tokenizer.eos_token == _GEMMA_END else canonical


def canonical(text: str) -> str:
    """A text as SigLIP was trained: lower case, no punctuation, single blanks.

    Source: transformers, SiglipTokenizer.canonicalize_text, after big_vision's.
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def load(source: str | None, seed: int) -> HFCLIP:
    """The model of a folder or a hub id; `seed` is unused.

    Raises Misuse for a SOURCE that is neither, BadCheckpoint for a folder that is incomplete,
    broken, of another kind of model, or whose weights do not fill it.
    """
    folder = model_folder(source, CARD.name, "config.json")
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in _CLASSES:
        raise BadCheckpoint(
            f"{folder / 'config.json'} is of a {kind!r} model; "
            f"hf_clip reads {' and '.join(_CLASSES)}"
        )
    clip = _weights(_CLASSES[kind], folder).eval()
    preprocess = _preprocess(folder, kind, clip.config.vision_config.image_size)
    model = HFCLIP(clip, _tokenizer(folder), preprocess)
    label = folder.resolve().name if Path(source or "").expanduser().is_dir() else source
    model.identity = Identity(f"hf_clip:{label}", digest(model))
    return model.eval()


def _weights(kind: Any, folder: Path) -> Any:
    """transformers reads, renames and joins shards itself; what it would draw anew is refused."""
    try:
        clip, info = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # a stranger's files reach many constructors
        raise BadCheckpoint(
            f"transformers cannot load {kind.__name__} from {folder}: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    faults = {
        what: sorted(map(str, info[key]))
        for what, key in (
            ("missing", "missing_keys"),
            ("unexpected", "unexpected_keys"),
            ("of another shape", "mismatched_keys"),
        )
        if info[key]
    }
    if faults:
        shown = "; ".join(f"{len(keys)} {what} ({keys[0]} ...)" for what, keys in faults.items())
        raise BadCheckpoint(f"the weights in {folder} do not fill {kind.__name__}: {shown}")
    return clip


def _tokenizer(folder: Path) -> Any:
    try:
        found = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"{folder} holds no usable tokenizer ({str(error).strip().splitlines()[0]}); copy all "
            "its tokenizer files; those of SigLIP need `pip install sentencepiece protobuf`"
        ) from error
    frame_texts(found, folder)
    return found


def _preprocess(folder: Path, kind: str, side: int) -> Preprocess:
    """The folder's image processor as data; its absent entries are those of the model's kind."""
    file, settings = _processor(folder)
    siglip = kind == "siglip"
    resize = settings.get("size") or side
    crop = settings.get("crop_size") or side
    cropped = bool(settings.get("do_center_crop", not siglip))
    stretched = "height" in resize if isinstance(resize, dict) else siglip
    size = _side(crop if cropped else resize, file)
    resampling = _RESAMPLINGS.get(settings.get("resample", 3))
    known = (
        size == side
        and resampling is not None
        and settings.get("do_resize", True)
        and settings.get("do_normalize", True)
        and abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-9
        and (cropped or stretched)
    )
    if not known:
        raise BadCheckpoint(
            f"{file} prepares images in a way that g2dbench does not know, or not to the "
            f"{side} pixels of config.json: {settings}"
        )
    assert resampling is not None
    return Preprocess(
        size=size,
        resize=_side(resize, file),
        fit="stretch" if stretched else "crop",
        mean=tuple(settings.get("image_mean", _HALF if siglip else CLIP_MEAN)),
        std=tuple(settings.get("image_std", _HALF if siglip else CLIP_STD)),
        resampling=resampling,
    )


def _processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The image processor's settings, in their own file or in that of the whole processor."""
    file, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if not file.is_file() and whole.is_file():
        return whole, read_json(whole).get("image_processor", {})
    return file, read_json(file)


def _side(size: Any, file: Path) -> int:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    sides = set(size.values()) if isinstance(size, dict) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise BadCheckpoint(f"{file} wants images of {size}; g2dbench knows square inputs")
    return side
