"""Weights on this machine are found by the names on a card; nothing is opened."""

from dataclasses import replace
from pathlib import Path

import pytest

from g2dbench.cards import ModelCard
from g2dbench.pretrained.local_weights import WeightFolders, find_weights, hub_ids

CARD = ModelCard(
    name="radnet", summary="s", paper="p", licence="l", capabilities=("embeds",),
    source="huggingface.co/lab/rad-net, tag v1, and github.com/lab/radnet", files=("best.pt",),
)  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> WeightFolders:
    return WeightFolders(tmp_path / "own", tmp_path / "hub", tmp_path / "torch")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not opened")
    return path


def test_hub_repositories_are_read_from_the_source() -> None:
    assert hub_ids(CARD) == ("lab/rad-net",)
    several = "huggingface.co/a/b.1, huggingface.co/a/b.1 and huggingface.co/c/d."
    assert hub_ids(replace(CARD, source=several)) == ("a/b.1", "c/d")
    for none in (
        "huggingface.co/timm",
        "huggingface.co/models?library=open_clip",
        "github.com/a/b",
    ):
        assert hub_ids(replace(CARD, source=none)) == ()


def test_a_published_file_is_found_in_the_downloads_and_in_torchs_cache(
    folders: WeightFolders, tmp_path: Path
) -> None:
    assert find_weights(CARD, folders) == ()
    put(tmp_path / "own" / "other.pt")
    assert find_weights(CARD, folders) == ()
    found = [put(tmp_path / place / "best.pt") for place in ("own", "own/radnet", "torch")]
    assert find_weights(CARD, folders) == tuple(sorted(found))
    assert find_weights(CARD, replace(folders, downloads=None)) == (found[2],)


def test_any_weights_in_the_models_own_folder_count(folders: WeightFolders, tmp_path: Path) -> None:
    file = put(tmp_path / "own" / "radnet" / "epoch_9.safetensors")
    put(tmp_path / "own" / "radnet" / "README.md")
    assert find_weights(CARD, folders) == (file,)
    assert find_weights(replace(CARD, source_kind="folder"), folders) == (file.parent,)


def test_a_cached_repository_counts_if_it_has_weights(
    folders: WeightFolders, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--lab--rad-net" / "snapshots" / "abc"
    put(snapshot / "config.json")
    assert find_weights(CARD, folders) == ()
    put(snapshot / "model.safetensors")
    assert find_weights(CARD, folders) == (snapshot,)


def test_a_file_of_a_model_that_takes_a_folder_is_given_as_its_folder(
    folders: WeightFolders, tmp_path: Path
) -> None:
    file = put(tmp_path / "own" / "best.pt")
    assert find_weights(replace(CARD, source_kind="folder"), folders) == (file.parent,)
