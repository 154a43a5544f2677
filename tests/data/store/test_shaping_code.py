"""The source files whose change discards a partial store."""

import pytest

from g2dbench.cards import DatasetCard
from g2dbench.data.store import decode
from g2dbench.registry import Registry
from g2dbench.system.source_digest import source_modules

REGISTRY = Registry()
EVERY_READER = [card.name for card in REGISTRY.cards(DatasetCard)]


def files_of(name: str) -> set[str]:
    reader = REGISTRY.find(DatasetCard, name).load()
    return source_modules((reader.__name__, decode.__name__))


@pytest.mark.parametrize(
    ("reader", "helper"),
    [
        ("chexpert", "g2dbench.data.readers._chexpert_labels"),
        ("chexpert", "g2dbench.data.readers.chexpert.chexlocalize"),
        ("vinbigdata", "g2dbench.data.readers.vindr.consensus"),
        ("mimic_cxr", "g2dbench.data.readers.mimic_cxr.reports"),
        ("hf", "g2dbench.data.custom._hf_features"),
        ("synthetic", "g2dbench.data.synthetic._anatomy"),
        ("synthetic", "g2dbench.data.synthetic._film"),
    ],
)
def test_the_helpers_of_a_reader_count(reader: str, helper: str) -> None:
    assert helper in files_of(reader)


@pytest.mark.parametrize("name", EVERY_READER)
def test_every_reader_counts_its_own_file_and_the_code_that_decodes(name: str) -> None:
    module = REGISTRY.find(DatasetCard, name).load()
    expected = {
        module.__name__, "g2dbench.data.images.image_file", "g2dbench.data.images.dicom",
        "g2dbench.data.images.border", "g2dbench.data.annotations.masks",
        "g2dbench.data.annotations.geometry", "g2dbench.data.store.row",
    }  # fmt: skip
    assert expected <= files_of(name)


def test_other_readers_and_what_only_reads_stores_do_not_count() -> None:
    found = files_of("rsna")
    strangers = {"siim", "chexpert", "vindr", "_chexpert_labels"}
    assert not {f"g2dbench.data.readers.{name}" for name in strangers} & found
    assert not {f"g2dbench.data.store.{name}" for name in ("store", "verify", "request")} & found
    assert not [name for name in found if name.startswith(("g2dbench.cli", "g2dbench.training"))]
