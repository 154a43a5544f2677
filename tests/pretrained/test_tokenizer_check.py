"""A stranger's tokenizer.json cannot end the process: it is tried in another one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g2dbench.errors import BadData
from g2dbench.pretrained.text import tokenizer_check
from g2dbench.pretrained.text.tokenizer import (
    Tokenize,
    load_tokenizer,
    save_tokenizer,
    train_wordpiece,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    return save_tokenizer(train_wordpiece(["no effusion", "a mass"], 60), folder)


def change(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(raw: dict[str, Any]) -> None:
        for step in path[:-1]:
            raw = raw[step]
        raw[path[-1]] = value

    return apply


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "/////wAA"}
BROKEN = {
    "a broken character map": change("normalizer", value=PRECOMPILED),
    "a huge token id": change("model", "vocab", "[UNK]", value=4_294_967_295),
    "an unknown model": change("model", "type", value="Nothing"),
    "an unknown token that is none": change("model", "unk_token", value="<none>"),
    "no model": change("model", value=None),
    "a unigram with a wrong unknown token": change(
        "model", value={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_sentence(good: Path, tmp_path: Path, name: str) -> None:
    raw = json.loads(good.read_text())
    BROKEN[name](raw)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(BadData):
        Tokenize(load_tokenizer(path), 16)(["no mass"])


def test_a_file_that_aborts_or_hangs_is_a_sentence(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(good.read_text())
    for trial, said in (("import os; os.abort()", "exit -6"), ("while True: pass", "seconds")):
        monkeypatch.setattr(tokenizer_check, "_TRIAL", trial)
        monkeypatch.setattr(tokenizer_check, "SECONDS", 1)
        tokenizer_check._try.cache_clear()
        with pytest.raises(BadData, match=said):
            load_tokenizer(path)
    tokenizer_check._try.cache_clear()


def test_a_good_file_is_loaded(good: Path) -> None:
    assert load_tokenizer(good)("no mass")["input_ids"]
