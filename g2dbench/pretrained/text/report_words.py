"""Texts as GLoRIA and the models built on its code read them: cleaned sentences, words of pieces.

Source: marshuang80/gloria at 416466a, models/gloria_model.py (process_text) and
models/text_model.py (aggregate_tokens); HKU-MedAI/MGCA has the same steps.
"""

import re

_NUMBERED = re.compile(r"[0-9]+\.")
_WORD = re.compile(r"\w+")


def clean_report(text: str, min_words: int = 2) -> str:
    """The text in lower case without punctuation or sentences of fewer than `min_words` words.

    Sentences end at a period, or at a number with a period. The originals drop one-word sentences
    as noise of reports, so that the prompt "Pneumonia" is an empty text in GLoRIA.
    """
    pieces = _NUMBERED.split(text.replace("\n", " "))
    sentences = [sentence for piece in pieces for sentence in piece.split(".")]
    cleaned = (_clean_sentence(sentence, min_words) for sentence in sentences)
    return " ".join(filter(None, cleaned))


def _clean_sentence(sentence: str, min_words: int) -> str:
    words = _WORD.findall(sentence.replace("\ufffd\ufffd", " ").lower())
    if len(words) < min_words:
        return ""
    ascii_words = (word.encode("ascii", "ignore").decode("ascii") for word in words)
    return " ".join(filter(None, ascii_words))
