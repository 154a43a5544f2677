"""A small G2D and the files that the export writes of it."""

from pathlib import Path
from typing import Any

import pytest
from support.methods.released_files import build, export_to
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def method(tokenizer: PreTrainedTokenizerFast) -> Any:
    return build(tokenizer)


@pytest.fixture(scope="session")
def exported(method: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    assert export_to(method, out).left_out == {}
    return out
