"""M-FLAG: a frozen language model and orthogonal image features (Liu et al., MICCAI 2023).

Shapes: B batch, S input side, D = 1024, T texts, h w the last feature map.
Source: cheliu-computation/M-FLAG-MICCAI2023 at a7fea3c. The authors released no weights; SOURCE is
a file of their code: `NAME_total.pth` (as BenchX's re-training), a training checkpoint, or
`NAME_encoder.pth`, the ResNet-50 alone, which gives features only.

The original crops an image to its non-zero pixels, stretches its gray levels to 0..256 and stores
them in 8 bits, so that the brightest pixels become 0; then a random crop of 224 of 256 pixels. Its
evaluation is not published: here levels are stretched to 0..255, the image to 256 pixels, and its
center is cropped. It publishes no zero-shot classification or grounding; `locate` is the cosine of
a text and each projected cell of the last map, as for our own methods.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Grounding, Identity, capabilities
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.feature_maps import cosine_similarity
from g2dbench.pretrained.layouts import rename_parts, strip_to, strip_wrappers
from g2dbench.pretrained.projected import Projected, ProjectedEncoder, read_projected
from g2dbench.pretrained.text.checkpoint_bert import find_tokenizer
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="mflag",
    summary="M-FLAG: ResNet-50 with orthogonal features and a frozen CXR-BERT",
    paper="Liu et al., M-FLAG: Medical Vision-Language Pre-training with Frozen Language Models "
    "and Latent Space Geometry Optimization, MICCAI 2023",
    source="huggingface.co/youngzhou12/M-FLAG, or your own training with "
    "github.com/cheliu-computation/M-FLAG-MICCAI2023",
    licence="that of the weights file; code MIT",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    signature=("encoder.layer4.2.conv3.weight", "proj_v.3.weight", "proj_t.3.weight"),
    files=("M-FLAG_total.pth",),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/microsoft/BiomedVLP-CXR-BERT-general",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="code and licence public; no weights of the authors, re-trained ones public; data by "
    "agreement; no list of training images",
    notes=(
        "The original's images have their brightest pixels at 0, because level 256 is stored in "
        "8 bits; the images here do not.",
        "It publishes no zero-shot classification or grounding: both are cosines in the space of "
        "the loss.",
    ),
)

CXR_BERT = "microsoft/BiomedVLP-CXR-BERT-general"
MAX_TOKENS = 512
_UNUSED_KEYS = (
    r"^lm_model\.cls\.",
    r"^lm_model\.cls_projection_head\.",
    r"^lm_model\.pooler\.",
    r"^encoder\.fc\.",
)
_PARTS = {"lm_model.bert.": "lm_model."}
_PREPROCESS = Preprocess(size=224, resize=256, mean=(0.5,) * 3, std=(0.5,) * 3, intensity="minmax")


class MFLAGEncoder(ProjectedEncoder):
    """`NAME_encoder.pth`: the image encoder alone."""

    card = CARD
    preprocess = _PREPROCESS


class MFLAG(Projected, MFLAGEncoder):
    """`NAME_total.pth`: also embeds and locates texts."""

    grounding = Grounding("bilinear", None)

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): cosine of each projected cell and text."""
        return cosine_similarity(self.project_cells(images), self.embed_texts(texts))


def load(source: str | None, seed: int) -> MFLAGEncoder:
    """M-FLAG from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"mflag needs its weights: --model mflag:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    if not any(key.endswith("proj_v.0.weight") for key in state):
        model = _read_encoder(state, file)
    else:
        model = _read_total(rename_parts(strip_to(state, "proj_v.0.weight", file), _PARTS), file)
    model.card = replace(CARD, capabilities=capabilities(model))
    model.identity = Identity("mflag", digest(model))
    return model.eval()


def _read_encoder(state: State, file: Path) -> MFLAGEncoder:
    trunk = resnet.make_resnet()
    load_state(trunk, strip_to(state, "layer1.0.conv1.weight", file), file, (r"^fc\.",))
    return MFLAGEncoder(nn.ModuleDict({"encoder": trunk}))


def _read_total(state: State, file: Path) -> MFLAG:
    network = read_projected(state, resnet.make_resnet(), file, _UNUSED_KEYS)
    tokenizer = find_tokenizer(file, CXR_BERT, network.lm_model.config.vocab_size)
    return MFLAG(network, tokenizer, MAX_TOKENS)
