"""BioViL: a ResNet-50 and CXR-BERT in one 128-dimensional space (Boecking et al., ECCV 2022).

Shapes: B batch, S input side, D = 128, T texts, h w the patch grid (S / 32).
Source: microsoft/hi-ml at b67c1d2, hi-ml-multimodal/src/health_multimodal. SOURCE is a copy of the
hub repository microsoft/BiomedVLP-CXR-BERT-specialized (tag v1.1), where image and text weights lie
side by side. Difference from the original: a text is truncated to 512 tokens; the original refuses
a longer one.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text import bert
from g2dbench.pretrained.text.cxr_bert import (
    UNUSED_TEXT_KEYS,
    CXRBert,
    PatchesAndTexts,
    patch_projector,
)
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="biovil",
    summary="BioViL: ResNet-50 at 480 pixels and CXR-BERT, aligned globally",
    paper="Boecking et al., Making the Most of Text Semantics to Improve Biomedical "
    "Vision-Language Processing, ECCV 2022",
    source="huggingface.co/microsoft/BiomedVLP-CXR-BERT-specialized, tag v1.1",
    licence="MIT",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    source_kind="folder",
    files=("biovil_image_resnet50_proj_size_128.pt", "pytorch_model.bin"),
    input_size=480,
    text_needs="config.json and vocab.txt of the same folder",
    openness="weights and inference code are public (MIT); the training code is not",
    signature=("encoder.encoder.layer4.2.conv3.weight", "projector.model.3.weight"),
)

IMAGE_FILE = "biovil_image_resnet50_proj_size_128.pt"
EMBED_DIM = 128

UNUSED_IMAGE_KEYS = r"^encoder\.encoder\.fc\."
"""Keys of the classifier, which no embedding needs."""


class _ImageTower(nn.Module):
    """The ResNet-50 and the 1x1 projector, with the key names of the official state_dict."""

    def __init__(self) -> None:
        super().__init__()
        trunk = resnet50(weights=None)
        trunk.fc = nn.Identity()
        self.encoder = nn.ModuleDict({"encoder": trunk})
        layers = patch_projector(2048)
        self.projector = nn.ModuleDict({"model": layers})

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> five feature maps of strides 2 to 32."""
        trunk: Any = self.encoder["encoder"]
        maps = [trunk.relu(trunk.bn1(trunk.conv1(images)))]
        maps.append(trunk.layer1(trunk.maxpool(maps[0])))
        for stage in (trunk.layer2, trunk.layer3, trunk.layer4):
            maps.append(stage(maps[-1]))
        return maps

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w) projected patch embeddings, not normalized."""
        projected: Tensor = self.projector["model"](self.pyramid(images)[-1])
        return projected


class BioViL(PatchesAndTexts, Model):
    """The published BioViL: global embeddings, feature maps, and phrase grounding by patches."""

    card = CARD
    preprocess = Preprocess(size=480, resize=512, fit="crop", intensity="minmax")
    channels = (64, 256, 512, 1024, 2048)
    strides = (2, 4, 8, 16, 32)
    fixed_size = False
    grounding = Grounding("nearest", None)
    """Nearest is the default of the library; its notebook uses bilinear. It has no threshold."""

    def __init__(self, image: _ImageTower, text: CXRBert, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.tokenize = Tokenize(tokenizer, text.max_tokens)

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w) projected patches, not normalized."""
        return self.image.patches(images)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2, 4, 8, 16 and 32."""
        return self.image.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2048): the input of its classifiers (image/model/model.py)."""
        return self.image.pyramid(images)[-1].mean(dim=(2, 3))


def load(source: str | None, seed: int) -> BioViL:
    """BioViL from its hub repository's folder, or from the image file inside it; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint where a file is missing or does not fit.
    """
    if source is None:
        raise Misuse(
            f"biovil needs its weights: --model biovil:FOLDER, FOLDER a copy of {CARD.source}"
        )
    path = Path(source).expanduser()
    image_file = path / IMAGE_FILE if path.is_dir() else path
    text_file = _find_text_weights(image_file)
    image = _ImageTower()
    load_state(
        image, find_state(read_weights(image_file), image_file), image_file, [UNUSED_IMAGE_KEYS]
    )
    text = bert.build_from_config(text_file.parent, CXRBert)
    load_state(text, find_state(read_weights(text_file), text_file), text_file, UNUSED_TEXT_KEYS)
    tokenizer = bert.read_tokenizer(text_file.parent, text.bert.config.vocab_size)
    model = BioViL(image, text, tokenizer)
    model.identity = Identity("biovil", digest(model))
    return model.eval()


def _find_text_weights(image_file: Path) -> Path:
    """The text weights beside the image weights; BadCheckpoint lists the missing files."""
    folder = image_file.parent
    missing = bert.missing_files(folder, [(image_file.name,), *bert.FILES])
    if missing:
        raise BadCheckpoint(
            f"biovil reads its image and text weights from one folder, but {folder} lacks "
            f"{', '.join(missing)}: copy all files of {CARD.source} into it"
        )
    return bert.weights_file(folder)
