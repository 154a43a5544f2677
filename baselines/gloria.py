"""GLoRIA: global and word-by-region alignment of images and reports (Huang et al., ICCV 2021).

SOURCE is the released Lightning file. The model is described in `g2dbench.pretrained.gloria`, which
`gloria-mimic` shares.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.gloria import load_gloria

CARD = ModelCard(
    name="gloria",
    summary="GLoRIA: ResNet-50 and ClinicalBERT, aligned globally and by words and regions",
    paper="Huang et al., GLoRIA: A Multimodal Global-Local Representation Learning Framework for "
    "Label-efficient Medical Image Recognition, ICCV 2021",
    source="github.com/marshuang80/gloria (README: stanfordmedicine.box.com)",
    licence="Apache-2.0",
    capabilities=("embeds", "features", "locates", "matches"),
    trained_on=("chexpert",),
    signature=(
        "gloria.img_encoder.global_embedder.weight",
        "gloria.text_encoder.model.embeddings.word_embeddings.weight",
    ),
    files=("chexpert_resnet50.ckpt", "chexpert_resnet18.ckpt"),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="weights, code and licence public; the reports of CheXpert were private; no list of "
    "training images",
    notes=(
        "A sentence of one word is dropped: the prompt 'Pneumonia' is an empty text.",
        "A user of the released script and weights got 17 to 22 % per class on CheXpert 5x200, "
        "which is chance (issue 3, open).",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """GLoRIA from its file; `seed` is unused. Raises as `load_gloria`."""
    return load_gloria(CARD, source)
