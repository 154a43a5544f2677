"""The disease book of MedKLIP and MAVL, and ClinicalBERT beside it, in the checkpoint's folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.text.bert import missing_files

BOOK_FILE = "observation explanation.json"
BERT_FOLDER = "Bio_ClinicalBERT"
ENTRIES = 75
ALIASES = {
    "pneumonia": "eumonia",
    "fibrosis": "tail abnorm obs",
    "infiltration": "infiltrate",
    "pleural thickening": "thicken",
    "pleural effusion": "effusion",
    "lung opacity": "opacity",
    "lung lesion": "lesion",
}
"""Name of a finding -> entry of the disease book, in MedKLIP's spelling ("eumonia"; MAVL has
"pneumonia").

The first four follow the originals' test.py for ChestX-ray14; the last three are ours, for the
names of CheXpert."""


def find_bert_folder(folder: Path, card: ModelCard, books: Sequence[str] = (BOOK_FILE,)) -> Path:
    """ClinicalBERT's folder beside the checkpoint; BadCheckpoint lists the missing files."""
    bert = folder / BERT_FOLDER
    missing = missing_files(folder, [(book,) for book in books]) + missing_files(bert)
    if missing:
        raise BadCheckpoint(
            f"{card.name} reads its text encoder and disease book from the checkpoint's folder, "
            f"but {folder} does not contain {', '.join(missing)}: copy what is named .json from "
            f"{card.source} into it, and the files of "
            f"huggingface.co/emilyalsentzer/Bio_ClinicalBERT into {bert}"
        )
    return bert


def read_book(file: Path, most: int = ENTRIES) -> dict[str, str]:
    """The disease book: entries with their explanations, in the order of the file.

    most: entries that the file may have; it has at least the 75 of pre-training. Raises
    BadCheckpoint for another file.
    """
    book = read_json(file)
    is_book = ENTRIES <= len(book) <= most and all(isinstance(text, str) for text in book.values())
    if not is_book:
        raise BadCheckpoint(
            f"{file} is not a disease book: expected {ENTRIES} entries with explanations"
        )
    return book


def plain_name(finding: str) -> str:
    """A finding's name in lower case, with spaces in place of underscores and hyphens."""
    return " ".join(re.sub(r"[_\-]", " ", finding.lower()).split())
