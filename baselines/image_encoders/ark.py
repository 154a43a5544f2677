"""Ark and Ark+: Swin transformers trained on the labels of many data sets (Ma et al., 2023, 2025).

Shapes: B batch, S input side, T findings. Source: jlianglab/Ark at cba3fad, models.py and the
notebook Ark+zeroshot-pred. SOURCE is a published file, such as `Ark6_swinLarge768_ep50.pth.tar`;
the network's sizes are read from its keys, and the teacher is taken where a file has both.

The pooled vector is after the projector, as in the published linear probe. `match` is the mean of
the sigmoids of all heads that have the finding; it needs the six heads of Ark+, whose order of
findings is published.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image.timm_encoder import TimmEncoder
from g2dbench.pretrained.layouts import layers_in, part_of, renamed, unwrapped
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="ark",
    summary="Ark and Ark+: a Swin-B or Swin-L trained on the labels of six data sets",
    paper="Ma et al., Foundation Ark, MICCAI 2023; Ma et al., A Fully Open AI Foundation Model "
    "Applied to Chest Radiography, Nature 2025",
    source="github.com/jlianglab/Ark (request form)",
    licence="Arizona State University's licence: research only",
    capabilities=("features", "matches"),
    trained_on=("mimic_cxr", "chexpert", "nih_cxr14", "rsna", "vindr", "shenzhen"),
    files=("Ark6_swinLarge768_ep50.pth.tar",),
    gated=True,
    noncommercial=True,
    tested_with=("timm 1.0.31", "torch 2.14"),
    openness="weights by a form; code public; research only",
    notes=(
        "Its zero-shot score is a supervised head of the same name: not comparable with prompts.",
        "The published probes are after the projector (1376 numbers); here too.",
        "The original expects timm 0.5.4: on later versions its heads run for every location.",
        "It saw labels of MIMIC-CXR, CheXpert, ChestX-ray14, RSNA, VinDr-CXR and Shenzhen.",
    ),
)

_CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
HEADS = (
    _CHEXPERT,
    _CHEXPERT,
    (
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
        "Hernia",
    ),
    ("No Lung Opacity/Not Normal", "Normal", "Lung Opacity"),
    ("PE", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding"),
    ("TB",),
)  # fmt: skip
"""Findings of Ark+'s heads: MIMIC-CXR, CheXpert, ChestX-ray14, RSNA, VinDr-CXR, Shenzhen."""
SYNONYMS = {"effusion": "pleural effusion", "tb": "tuberculosis", "pe": "pleural effusion"}
"""Names of one finding in several heads; PE is VinDr-CXR's pleural effusion."""
_TABLE = "layers.{}.blocks.0.attn.relative_position_bias_table"
_MASK = "layers.0.blocks.1.attn_mask"


class Ark(TimmEncoder):
    """The encoder and its projector."""

    def __init__(self, trunk: Any, projector: nn.Module, preprocess: Preprocess) -> None:
        super().__init__(replace(CARD, capabilities=("features",)), trunk, preprocess)
        self.fixed_size = True
        self.projector = projector

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> maps of strides 4 to 32; the last one is after the final norm."""
        *maps, last = super().features(images)
        return [*maps, self.trunk.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the mean of the last map after its norm, projected."""
        projected: Tensor = self.projector(self.trunk.forward_features(images).mean(dim=(1, 2)))
        return projected


class ArkWithHeads(Ark):
    """Ark+ with its six heads."""

    def __init__(
        self, trunk: Any, projector: nn.Module, preprocess: Preprocess, heads: nn.ModuleList
    ) -> None:
        super().__init__(trunk, projector, preprocess)
        self.card = CARD
        self.heads = heads
        names = [_normalized(name) for head in HEADS for name in head]
        self.columns = {
            name: tuple(i for i, other in enumerate(names) if other == name) for name in names
        }

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T); Unsupported for a finding without a head."""
        columns = [self._columns(name) for name in findings]
        pooled = self.pooled(images)
        scores = torch.cat([head(pooled) for head in self.heads], dim=1).sigmoid()
        return torch.stack([scores[:, list(own)].mean(dim=1) for own in columns], dim=1)

    def _columns(self, finding: str) -> tuple[int, ...]:
        found = self.columns.get(_normalized(finding))
        if found is None:
            raise Unsupported(
                f"{self.identity.label} has no head for {finding!r}; it has those of "
                f"{', '.join(self.columns)}"
            )
        return found


def _normalized(name: str) -> str:
    plain = " ".join(name.replace("_", " ").lower().split())
    return SYNONYMS.get(plain, plain)


def load(source: str | None, seed: int) -> Model:
    """Ark or Ark+ from a published file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for weights that do not fit.
    """
    if source is None:
        raise Misuse(f"ark needs its weights: --model ark:FILE, such as {CARD.files[0]}")
    file = Path(source).expanduser()
    state = unwrapped(find_state(read_weights(file), file, ("teacher", "state_dict", "model")))
    if "patch_embed.proj.weight" not in state or _TABLE.format(0) not in state:
        raise BadCheckpoint(f"{file} is not Ark: it has no Swin transformer")
    trunk, side = _build_trunk(state)
    load_state(trunk, _modern(state), file, (r"^(projector|omni_heads|head)\.",))
    projector = _read_projector(part_of(state, "projector."), file)
    heads = _read_heads(part_of(state, "omni_heads."), file)
    preprocess = Preprocess(size=side, mean=IMAGENET_MEAN, std=IMAGENET_STD, resampling="bicubic")
    sizes = tuple(head.out_features for head in heads)
    is_plus = sizes == tuple(len(names) for names in HEADS)
    model = (
        ArkWithHeads(trunk, projector, preprocess, nn.ModuleList(heads))
        if is_plus
        else Ark(trunk, projector, preprocess)
    )
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _build_trunk(state: State) -> tuple[Any, int]:
    """The Swin of the file's sizes, and its input side.

    The side follows from the attention mask of the first shifted block, which old versions of timm
    store; without it, a window of 7 means 224 pixels and one of 12 means 768.
    """
    stages = range(layers_in(state, r"layers\.(\d+)\."))
    window = (math.isqrt(state[_TABLE.format(0)].shape[0]) + 1) // 2
    side = 32 * window if window == 7 else 64 * window
    if _MASK in state:
        side = 4 * window * math.isqrt(state[_MASK].shape[0])
    trunk = SwinTransformer(
        img_size=side, patch_size=4, window_size=window, num_classes=0,
        embed_dim=state["patch_embed.proj.weight"].shape[0],
        depths=tuple(layers_in(state, rf"layers\.{i}\.blocks\.(\d+)\.") for i in stages),
        num_heads=tuple(state[_TABLE.format(i)].shape[1] for i in stages),
    )  # fmt: skip
    trunk.pretrained_cfg = {}
    return trunk.eval(), side


def _modern(state: State) -> State:
    """timm 0.9 moved each downsampling from the end of a stage to the start of the next one."""
    last = layers_in(state, r"layers\.(\d+)\.") - 1
    if f"layers.{last}.downsample.norm.weight" in state:
        return state
    rules = [
        (rf"^layers\.{stage}\.downsample\.", f"layers.{stage + 1}.downsample.")
        for stage in reversed(range(last))
    ]
    return renamed(state, rules)


def _read_projector(state: State, file: Path) -> nn.Module:
    """A linear layer, or two with a ReLU between them; BadCheckpoint without one."""
    if "weight" in state:
        rows, columns = state["weight"].shape
        projector: nn.Module = nn.Linear(columns, rows)
    elif "0.weight" in state:
        rows, columns = state["0.weight"].shape
        projector = nn.Sequential(nn.Linear(columns, rows), nn.ReLU(), nn.Linear(rows, rows))
    else:
        raise BadCheckpoint(f"{file} is not Ark: it has no projector")
    load_state(projector, state, file)
    return projector


def _read_heads(state: State, file: Path) -> list[nn.Linear]:
    heads = []
    for number in range(layers_in(state, r"(\d+)\.")):
        own = part_of(state, f"{number}.")
        rows, columns = own["weight"].shape
        head = nn.Linear(columns, rows)
        load_state(head, own, file)
        heads.append(head)
    return heads
