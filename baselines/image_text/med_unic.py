"""Med-UniC: English and Spanish reports in one space with images (Wan et al., NeurIPS 2023).

Shapes: B batch, S = 224, D = 512, T texts.
Source: SUSTechBruce/Med-UniC at ebf2751 (utils_builder.py, zero-shot/). The authors link no
weights: SOURCE is a file of their code, `cross-lingual_multi-modal_total.pth`, or
`cross-lingual_multi-modal_encoder.pth`, the image encoder alone, which gives features only. The
encoder, a ResNet-50 or a ViT-B/16, is recognized by its keys.

The vocabulary is that of the training: CXR-BERT's with Spanish words added, so that no public one
fits. Images are prepared as in the zero-shot code, a copy of CheXzero's; its pre-training has mean
and standard deviation of .5. Its zero-shot is a softmax of the cosines of two prompts without a
temperature, "Hallazgos consistentes con {}" and "No {}" in the released code; prompts are the
task's here. It publishes no grounding.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, capabilities
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.two_step_preprocess import chexzero_preprocess
from g2dbench.pretrained.image.vit import make_vit
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.projected import Projected, ProjectedEncoder, read_projected
from g2dbench.pretrained.text.bert import read_tokenizer
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="med-unic",
    summary="Med-UniC: ResNet-50 or ViT-B/16 and a bilingual CXR-BERT (English, Spanish)",
    paper="Wan et al., Med-UniC: Unifying Cross-Lingual Medical Vision-Language Pre-Training by "
    "Diminishing Bias, NeurIPS 2023",
    source="your own training with github.com/SUSTechBruce/Med-UniC",
    licence="that of the weights file; code MIT",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr", "padchest"),
    signature=("proj_v.3.weight", "proj_t.3.weight", "proj_t_constrast.3.weight"),
    files=("cross-lingual_multi-modal_total.pth", "cross-lingual_multi-modal_encoder.pth"),
    input_size=224,
    text_needs="vocab.txt of the training, beside the file or in the folder lm_model/",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="code and licence public; no link to weights; data by agreement",
    notes=(
        "Trained on PadChest too: zero-shot figures on PadChest are not clean.",
        "Its segmentation code for RSNA validates on the test list, which leaks into the choice of "
        "the checkpoint.",
    ),
)

MAX_TOKENS = 256
VOCABULARY_FOLDER = "lm_model"
_UNUSED_KEYS = (
    r"^proj_t_constrast\.",
    r"^Language_discriminator\.",
    r"^lm_model\.pooler\.",
    r"^encoder\.fc\.",
)
_PREPROCESS = chexzero_preprocess(224)


class MedUniCEncoder(ProjectedEncoder):
    """The image encoder alone."""

    card = CARD
    preprocess = _PREPROCESS


class MedUniC(Projected, MedUniCEncoder):
    """The whole model: also embeds texts."""


def load(source: str | None, seed: int) -> ProjectedEncoder:
    """Med-UniC from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"med-unic needs its weights: --model med-unic:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    if not any(key.endswith("proj_v.0.weight") for key in state):
        model = _read_encoder(state, file)
    else:
        model = _read_total(strip_to(state, "proj_v.0.weight", file), file)
    model.card = replace(CARD, capabilities=capabilities(model))
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _read_encoder(state: State, file: Path) -> ProjectedEncoder:
    is_vit = any(key.endswith("patch_embed.proj.weight") for key in state)
    anchor = "patch_embed.proj.weight" if is_vit else "layer1.0.conv1.weight"
    state = strip_to(state, anchor, file)
    trunk = _make_trunk(state, "", file)
    load_state(trunk, state, file, (r"^fc\.",))
    return MedUniCEncoder(nn.ModuleDict({"encoder": trunk}))


def _read_total(state: State, file: Path) -> ProjectedEncoder:
    network = read_projected(state, _make_trunk(state, "encoder.", file), file, _UNUSED_KEYS)
    return MedUniC(network, _find_tokenizer(file, network.lm_model.config.vocab_size), MAX_TOKENS)


def _make_trunk(state: State, prefix: str, file: Path) -> Any:
    is_vit = f"{prefix}patch_embed.proj.weight" in state
    return make_vit(state, prefix, file) if is_vit else resnet.make_resnet()


def _find_tokenizer(file: Path, size: int) -> BertTokenizerFast:
    """The tokenizer of the training; BadCheckpoint where there is none, or one of another size."""
    folders = (file.parent / VOCABULARY_FOLDER, file.parent)
    found = next((each for each in folders if (each / "vocab.txt").is_file()), None)
    if found is None:
        raise BadCheckpoint(
            f"{file} contains a text encoder but no vocabulary: copy vocab.txt of your training, "
            f"with the Spanish words, into {folders[0]}"
        )
    tokenizer = read_tokenizer(found, size)
    if len(tokenizer) != size:
        raise BadCheckpoint(
            f"{file} has embeddings of {size} tokens, but the vocabulary in {found} has "
            f"{len(tokenizer)}: copy vocab.txt of the same training into it"
        )
    return tokenizer
