"""Tokenizers: the corpus alone decides, and a saved one gives the same tokens."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from g2dbench.errors import BadData, Misuse
from g2dbench.pretrained.text.tokenizer import (
    TOKENIZER_FILE,
    Tokenize,
    load_tokenizer,
    make_tokenizer,
    save_tokenizer,
    train_wordpiece,
)

REPORTS = [
    "No pneumothorax or pleural effusion.",
    "The heart is enlarged; mild cardiomegaly with oedema.",
    "Lungs are clear. No focal consolidation, effusion or pneumothorax.",
    "Right lower lobe consolidation, likely pneumonia (3.2 cm).",
    "Degenerative changes of the thoracic spine; cardiomediastinal silhouette normal.",
]


def test_the_vocabulary_does_not_depend_on_the_order_or_the_process(tmp_path: Path) -> None:
    shuffled = REPORTS * 3
    random.Random(1).shuffle(shuffled)
    here = save_tokenizer(train_wordpiece(shuffled, 120), tmp_path).read_bytes()
    program = (
        "import sys\nfrom g2dbench.pretrained.text.tokenizer import train_wordpiece\n"
        f"print(train_wordpiece({REPORTS * 3!r}, 120).backend_tokenizer.to_str(True))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert other.stdout.strip() == here.strip()


def test_a_saved_tokenizer_gives_the_same_tokens_and_the_same_file(tmp_path: Path) -> None:
    tokenizer = train_wordpiece(REPORTS, 150)
    first = save_tokenizer(tokenizer, tmp_path).read_bytes()
    before = Tokenize(tokenizer, 16)(REPORTS)
    for source in (tmp_path, tmp_path / TOKENIZER_FILE, str(tmp_path)):
        after = Tokenize(load_tokenizer(source), 16)(REPORTS)
        assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert save_tokenizer(tokenizer, tmp_path).read_bytes() == first


def test_tokens_are_lower_cased_framed_cut_and_padded() -> None:
    tokenizer = train_wordpiece(REPORTS, 200)
    tokens, attention = Tokenize(tokenizer, 6)(["HEART", "heart", "", " ".join(REPORTS)])
    assert tokens.shape == attention.shape == (4, 6)
    assert tokens[0].tolist() == tokens[1].tolist()
    assert (tokens[:, 0] == tokenizer.cls_token_id).all()
    assert attention[2].tolist() == [1, 1, 0, 0, 0, 0]
    assert tokens[3, -1] == tokenizer.sep_token_id
    wide, _ = Tokenize(tokenizer, 12, "max_length")(["heart"])
    assert wide.shape == (1, 12)


def test_a_word_never_seen_is_unknown_and_seen_letters_are_pieces() -> None:
    tokenizer = train_wordpiece(REPORTS, 200)
    assert tokenizer.tokenize("ω") == ["[UNK]"]
    assert "[UNK]" not in tokenizer.tokenize("heart pneumothorax consolidations")


def test_make_tokenizer_follows_the_recipe(tmp_path: Path) -> None:
    trained = make_tokenizer({"vocab_size": 90}, REPORTS)
    assert len(trained) <= 90
    save_tokenizer(trained, tmp_path)
    loaded = make_tokenizer({"source": str(tmp_path)}, [])
    assert loaded.get_vocab() == trained.get_vocab()


def test_what_cannot_be_a_tokenizer_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no report of the training set"):
        train_wordpiece(["", "  "], 100)
    for size in (3, "many"):
        with pytest.raises(Misuse, match="vocab_size"):
            make_tokenizer({"vocab_size": size}, REPORTS)
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(BadData, match="not a readable tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(BadData, match="no tokenizer at"):
        load_tokenizer(tmp_path / "absent")
