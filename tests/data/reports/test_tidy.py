"""The report cleaning of g2dbench."""

import pytest

from g2dbench.data.readers import open_i
from g2dbench.data.reports.tidy import clean_report

CASES = {
    "Findings: Clear lungs. Impression: Normal.": "Clear lungs. Normal.",
    "Impression: 1. Clear lungs. 2. Stable hernia.": "Clear lungs. Stable hernia.",
    "1. Cardiomegaly and effusions 2. Abnormal opacity": "Cardiomegaly and effusions. "
    "Abnormal opacity.",
    "XXXX-year-old XXXX with cough, XXXX scarring.": "with cough, scarring.",
    "Chest x-XXXX. .": "Chest.",
    "Lungs  are\n\tclear .": "Lungs are clear.",
    "A 3.5 cm mass at T12. The heart is big.": "A 3.5 cm mass at T12. The heart is big.",
    "History of ___ with edema": "History of with edema.",
    "No pneumothorax": "No pneumothorax.",
}


@pytest.mark.parametrize("text", CASES)
def test_reports_become_sentences_without_marks(text: str) -> None:
    assert clean_report(text) == CASES[text]


@pytest.mark.parametrize("text", [None, "", "  ", "XXXX.", "Findings: Impression:", "1. 2.", "..."])
def test_reports_without_words_are_none(text: str | None) -> None:
    assert clean_report(text) is None


@pytest.mark.parametrize("text", CASES)
def test_cleaning_is_idempotent(text: str) -> None:
    cleaned = clean_report(text)
    assert clean_report(cleaned) == cleaned


def test_real_reports_keep_their_words_without_marks(real_data) -> None:
    cleaned = [clean_report(item.report) for item in open_i.read(real_data / "open_i")]
    texts = [text for text in cleaned if text is not None]
    assert len(texts) == 2759
    assert not [text for text in texts if "XXXX" in text or "  " in text or ".." in text]
    assert not [text for text in texts if "Findings:" in text or "Impression:" in text]
    assert sum(len(text.split()) for text in texts) / len(texts) > 20
