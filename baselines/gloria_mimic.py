"""GLoRIA trained on MIMIC-CXR: re-trainings of others, with the architecture of `gloria`.

The authors released weights from CheXpert's private reports only. The papers that follow compare
with a GLoRIA trained on MIMIC-CXR; SOURCE is such a file, in the layout of the official code or of
BenchX. Nothing in a file shows its training data: choosing this name states them.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.gloria import load_gloria

CARD = ModelCard(
    name="gloria-mimic",
    summary="GLoRIA re-trained on MIMIC-CXR by others; the architecture of gloria",
    paper="Huang et al., GLoRIA, ICCV 2021; re-trained by Wang et al., MGCA, NeurIPS 2022, and "
    "Zhou et al., BenchX, NeurIPS 2024",
    source="your own training with github.com/marshuang80/gloria, or "
    "huggingface.co/youngzhou12/GLoRIA",
    licence="that of the weights file",
    capabilities=("embeds", "features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    openness="re-trained weights and code public; data by agreement; no list of training images",
    notes=(
        "A re-training, not a release of the authors; images are prepared as in GLoRIA's own code.",
        "A sentence of one word is dropped: the prompt 'Pneumonia' is an empty text.",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """A re-trained GLoRIA from its file; `seed` is unused. Raises as `load_gloria`."""
    return load_gloria(CARD, source)
