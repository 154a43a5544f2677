"""BioViL-T: a ResNet-50 with a temporal pooler and CXR-BERT (Bannur et al., CVPR 2023).

Shapes: B batch, S input side (448), D = 128, T texts, h w the patch grid (S / 32).
Source: microsoft/hi-ml at b67c1d2, hi-ml-multimodal/src/health_multimodal. SOURCE is a copy of the
hub repository microsoft/BiomedVLP-BioViL-T (tag v1.0), where image and text weights lie side by
side. Only the current image is used: the published embedding of a missing previous image takes the
place of what the temporal pooler would give. A text is truncated to 512 tokens. Averages of prompts
are over rows that are not scaled to length 1, as for BioViL, in the same library.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.layouts import renamed, unwrapped
from g2dbench.pretrained.text import bert
from g2dbench.pretrained.text.cxr_bert import (
    UNUSED_TEXT_KEYS,
    CXRBert,
    PatchesAndTexts,
    patch_projector,
)
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.towers import ResNetTower
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="biovil-t",
    summary="BioViL-T: ResNet-50 at 448 pixels and CXR-BERT, trained on pairs of visits",
    paper="Bannur et al., Learning to Exploit Temporal Structure for Biomedical Vision-Language "
    "Processing, CVPR 2023",
    source="huggingface.co/microsoft/BiomedVLP-BioViL-T, tag v1.0",
    licence="MIT",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    source_kind="folder",
    signature=("encoder.missing_previous_emb", "projector.model.3.weight"),
    files=("biovil_t_image_model_proj_size_128.pt",),
    checksum=("biovil_t_image_model_proj_size_128.pt md5:a83080e2f23aa584a4f2b24c39b1bb64",),
    input_size=448,
    text_needs="config.json, weights and vocabulary of the same hub repository",
    tested_with=("torch 2.14", "transformers 5.24"),
    openness="weights, code and licence public",
    notes=(
        "Only the current image is used, as its library does where no previous image is given.",
        "The middle square of the image is cropped: pixels outside of it get no score.",
    ),
)

IMAGE_FILE = CARD.files[0]
WIDTH, EMBED_DIM = 256, 128
UNUSED_IMAGE_KEYS = (r"^encoder\.network\.fc\.", r"^encoder\.vit_pooler\.")


class _Encoder(ResNetTower):
    """The ResNet-50 and what stands for the difference to a previous image."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_to_vit = nn.Conv2d(self.channels[-1], WIDTH, 1, bias=False)
        self.missing_previous_emb = nn.Parameter(torch.zeros(1, WIDTH, 1, 1))

    def fused(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 512, h, w): the image's patches, and the missing difference."""
        patches = self.backbone_to_vit(self.pyramid(images)[-1])
        missing = self.missing_previous_emb.expand_as(patches)
        return torch.cat([patches, missing], dim=1)


class _ImageTower(nn.Module):
    """Encoder and projector."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        layers = patch_projector(2 * WIDTH)
        self.projector = nn.ModuleDict({"model": layers})


class BioViLT(PatchesAndTexts, Model):
    """The published BioViL-T for single images."""

    card = CARD
    preprocess = Preprocess(size=448, resize=512, fit="crop", intensity="minmax")
    channels, strides = ResNetTower.channels, ResNetTower.strides
    fixed_size = False
    grounding = Grounding("nearest", None)
    """Nearest is the default of the library; it has no threshold."""

    def __init__(self, image: _ImageTower, text: CXRBert, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.tokenize = Tokenize(tokenizer, text.max_tokens)

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w) projected patches, not normalized."""
        projected: Tensor = self.image.projector["model"](self.image.encoder.fused(images))
        return projected

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2, 4, 8, 16 and 32."""
        return self.image.encoder.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 512): the input of its classifiers (image/model/model.py)."""
        return self.image.encoder.fused(images).mean(dim=(2, 3))


def load(source: str | None, seed: int) -> Model:
    """BioViL-T from its hub repository's folder, or from the image file in it; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint where a file is missing or does not fit.
    """
    if source is None:
        raise Misuse(
            f"biovil-t needs its weights: --model biovil-t:FOLDER, FOLDER a copy of {CARD.source}"
        )
    path = Path(source).expanduser()
    file = path / IMAGE_FILE if path.is_dir() else path
    folder = file.parent
    missing = bert.missing_files(folder, [(file.name,), *bert.FILES])
    if missing:
        raise BadCheckpoint(
            f"biovil-t reads its image and text weights from one folder, but {folder} lacks "
            f"{', '.join(missing)}: copy all files of {CARD.source} into it"
        )
    image = _ImageTower()
    rules = [(r"^encoder\.encoder\.", "encoder.network.")]
    state = renamed(unwrapped(find_state(read_weights(file), file)), rules)
    load_state(image, state, file, UNUSED_IMAGE_KEYS)
    text = bert.build_from_config(folder, CXRBert)
    text_file = bert.weights_file(folder)
    load_state(text, find_state(read_weights(text_file), text_file), text_file, UNUSED_TEXT_KEYS)
    tokenizer = bert.read_tokenizer(folder, text.bert.config.vocab_size)
    model = BioViLT(image, text, tokenizer)
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()
