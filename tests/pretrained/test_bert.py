"""A BERT's folder: what is missing is named, and safetensors go before pickles."""

from pathlib import Path

import pytest

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.text.bert import missing_files, weights_file


def test_each_missing_group_is_named_with_its_alternatives(tmp_path: Path) -> None:
    either = ["model.safetensors or pytorch_model.bin", "vocab.txt or tokenizer.json"]
    assert missing_files(tmp_path) == ["config.json", *either]
    (tmp_path / "config.json").touch()
    (tmp_path / "tokenizer.json").touch()
    assert missing_files(tmp_path) == either[:1]


def test_safetensors_go_before_pickles_and_a_folder_without_weights_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        BadCheckpoint, match=r"contains no model\.safetensors or pytorch_model\.bin"
    ):
        weights_file(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert weights_file(tmp_path).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    assert weights_file(tmp_path).name == "model.safetensors"
