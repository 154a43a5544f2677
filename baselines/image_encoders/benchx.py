"""BenchX's checkpoints, as BenchX evaluates them: one image encoder after another (NeurIPS 2024).

Shapes: B batch, S = 224, C channels. Source: yangzhou12/BenchX at b874fa6, visual_encoder.py,
ImageClassifier.py and configs/classification. SOURCE is one of its files; the keys show which
method's it is. Every method gets the same input and the encoder alone, so that a figure of BenchX
is compared with this card; the methods' own inputs, texts and grounding are under their own cards
(`convirt`, `gloria-mimic`, `mgca`, `mflag`, `medklip`, `medclip`, `mrm`, `refers`, `ptunifier`),
which read the same files.

`pooled` is what BenchX gives to its classifier, whose layer norm is part of the head:

    ConVIRT, GLoRIA, MGCA, M-FLAG, MedCLIP   ResNet-50: mean of the last map, at 224 pixels
    MedKLIP                                  ResNet-50 to layer 3: mean of that map
    MGCA, REFERS, PTUnifier                  ViT: class token after the final norm
    MRM                                      ViT: mean of the patches before the final norm
    MedCLIP                                  Swin-T: mean of the tokens

Difference from BenchX: MedKLIP has no layer 4, which BenchX leaves random.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.resnet import name_stages
from g2dbench.pretrained.image.vit import make_vit, mean_patch
from g2dbench.pretrained.image.vit_encoder import ViTEncoder, read_source
from g2dbench.pretrained.image.vit_names import CLIP_OPTIONS, from_openai_clip, from_vit_pytorch
from g2dbench.pretrained.layouts import without
from g2dbench.pretrained.towers import ResNetTower, SwinTower, modern_swin
from g2dbench.pretrained.weights import State, digest, load_state, select_prefix

CARD = ModelCard(
    name="benchx",
    summary="BenchX's checkpoints of nine methods: the image encoder, as BenchX evaluates it",
    paper="Zhou et al., BenchX: A Unified Benchmark Framework for Medical Vision-Language "
    "Pretraining on Chest X-Rays, NeurIPS 2024, arXiv 2410.21969",
    source="huggingface.co/youngzhou12 (ConVIRT, GLoRIA, MedKLIP, M-FLAG, MGCA-resnet50, MGCA-vit, "
    "PTUnifier, MRM, REFERS); github.com/yangzhou12/BenchX",
    licence="that of the weights file; code MIT",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    files=(
        "ConVIRT.pth",
        "GLoRIA.ckpt",
        "MedCLIP-resnet50.bin",
        "MedCLIP-vit.bin",
        "MedKLIP.pth",
        "M-FLAG_total.pth",
        "MGCA-resnet50.ckpt",
        "MGCA-vit.ckpt",
        "MRM.pth",
        "REFERS.pth",
        "PTUnifier.ckpt",
    ),
    input_size=224,
    tested_with=("torch 2.14", "torchvision 0.29", "timm 1.0.31", "transformers 5.24"),
    openness="re-trained weights, code and licence public; data by agreement; no list of images",
    notes=(
        "All methods get the input of MRM's fine-tuning, not their own: mean .4978, std .2449, and "
        "no stretching to 299 pixels for GLoRIA and MGCA.",
        "BenchX evaluates MedKLIP with a random layer 4, because the file has none; here its "
        "layer 3 is the last map.",
        "BenchX's five configurations of REFERS for classification name MRM.pth with the prefix of "
        "REFERS; as published they load no weight and tell nobody.",
        "MedCLIP's files are the authors' own, trained on CheXpert too.",
        "BenchX publishes no configuration of PTUnifier for classification; its class token is "
        "used here, as its report generation names it.",
    ),
)

PREPROCESS = Preprocess(size=224, fit="crop", mean=(0.4978,) * 3, std=(0.2449,) * 3)
_MEDCLIP = replace(CARD, trained_on=("mimic_cxr", "chexpert"))
_CARDS = {"medclip-resnet50": _MEDCLIP, "medclip-swin": _MEDCLIP}
_HEADS = (r"^fc\.", r"^head\.", r"^pooler\.")
_MRM_UNUSED = (r"^decoder_", r"^mask_token$", r"^bert_(encoder|mlp)\.", r"^head\.")


class BenchXTower(Model):
    """A ResNet or a Swin: a feature pyramid and its pooled last map."""

    def __init__(self, card: ModelCard, tower: Any) -> None:
        super().__init__()
        self.card, self.preprocess = card, PREPROCESS
        self.tower = tower
        self.channels, self.strides = tower.channels, tower.strides
        self.fixed_size = tower.fixed_size

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature pyramid."""
        maps: list[Tensor] = self.tower.pyramid(images)
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C)."""
        pooled: Tensor = self.tower.pooled(images)
        return pooled


class MeanViT(ViTEncoder):
    """MRM's: the vector is the mean of the patches before the final norm."""

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        return mean_patch(self.trunk, images)


def _read_resnet(card: ModelCard, state: State, file: Path) -> Model:
    return _tower(card, ResNetTower(), name_stages(state, ""), file)


def _read_medklip(card: ModelCard, state: State, file: Path) -> Model:
    return _tower(card, ResNetTower(stages=3), name_stages(state, ""), file)


def _read_swin(card: ModelCard, state: State, file: Path) -> Model:
    return BenchXTower(card, SwinTower.load(modern_swin(state), PREPROCESS.size, file, _HEADS))


def _tower(card: ModelCard, tower: ResNetTower, state: State, file: Path) -> Model:
    load_state(tower.network, state, file, _HEADS)
    return BenchXTower(card, tower)


def _read_vit(card: ModelCard, state: State, file: Path) -> Model:
    return _vit(ViTEncoder, card, state, file)


def _read_mrm(card: ModelCard, state: State, file: Path) -> Model:
    return _vit(MeanViT, card, without(state, _MRM_UNUSED), file)


def _read_refers(card: ModelCard, state: State, file: Path) -> Model:
    return _vit(ViTEncoder, card, from_vit_pytorch(state), file)


def _read_ptunifier(card: ModelCard, state: State, file: Path) -> Model:
    return _vit(ViTEncoder, card, from_openai_clip(state), file, **CLIP_OPTIONS)


def _vit(
    kind: type[ViTEncoder], card: ModelCard, state: State, file: Path, **options: Any
) -> Model:
    trunk = make_vit(state, "", file, PREPROCESS.size, **options)
    load_state(trunk, state, file, _HEADS)
    return kind(card, PREPROCESS, trunk)


@dataclass(frozen=True)
class _Layout:
    """A method's file.

    prefix: of its image encoder. anchor: a key after it, which shows the layout. read: makes the
    model of the card, the encoder's entries without the prefix, and the file.
    """

    method: str
    prefix: str
    anchor: str
    read: Callable[[ModelCard, State, Path], Model]


_PATCHES, _STAGE = "patch_embed.proj.weight", "layer1.0.conv1.weight"
_LAYOUTS = (
    _Layout("gloria", "gloria.img_encoder.model.", _STAGE, _read_resnet),
    _Layout("mgca-resnet50", "img_encoder_q.model.", _STAGE, _read_resnet),
    _Layout("mgca-vit", "img_encoder_q.model.", _PATCHES, _read_vit),
    _Layout("medclip-resnet50", "vision_model.model.", _STAGE, _read_resnet),
    _Layout("medclip-swin", "vision_model.model.", "layernorm.weight", _read_swin),
    _Layout("convirt", "visual.model.", _STAGE, _read_resnet),
    _Layout("convirt", "visual.model.", "4.0.conv1.weight", _read_resnet),
    _Layout("medklip", "res_features.", "4.0.conv1.weight", _read_medklip),
    _Layout("refers", "visual.vit.transformer.", "embeddings.cls_token", _read_refers),
    _Layout("ptunifier", "vision_encoder.visual.", "class_embedding", _read_ptunifier),
    _Layout("mflag", "encoder.", _STAGE, _read_resnet),
    _Layout("mrm", "", "decoder_pred.weight", _read_mrm),
)


def load(source: str | None, seed: int) -> Model:
    """The image encoder of one of BenchX's files; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file of no known layout or one that does not
    fit.
    """
    state, file = read_source(CARD, source)
    layout, prefix = _find_layout(state, file)
    card = _CARDS.get(layout.method, CARD)
    model = layout.read(card, select_prefix(state, prefix), file)
    model.identity = Identity(f"benchx-{layout.method}", digest(model))
    return model.eval()


def _find_layout(state: State, file: Path) -> tuple[_Layout, str]:
    """The layout and its whole prefix, with what stands before it in this file."""
    for layout in _LAYOUTS:
        wanted = f".{layout.prefix}{layout.anchor}"
        found = [key for key in state if f".{key}".endswith(wanted)]
        if len(found) == 1:
            return layout, found[0].removesuffix(layout.anchor)
    known = ", ".join(f"{layout.prefix}{layout.anchor}" for layout in _LAYOUTS)
    raise BadCheckpoint(f"{file} is no file of BenchX: it has none of the keys {known}")
