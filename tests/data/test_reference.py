"""The grammar of references to data sets."""

import random

import pytest

from g2dbench.data.reference import DataReference, parse
from g2dbench.errors import Misuse


@pytest.mark.parametrize(
    ("text", "name", "count", "split"),
    [
        ("rsna", "rsna", None, None),
        ("synthetic:240", "synthetic", 240, None),
        ("rsna@mgca-det", "rsna", None, "mgca-det"),
        ("rsna-256-0123abcd", "rsna-256-0123abcd", None, None),
        ("my.set_7", "my.set_7", None, None),
    ],
)
def test_references_are_parsed(text: str, name: str, count: int | None, split: str | None) -> None:
    assert parse(text) == DataReference(text, name, count, split)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", ":240", "@mgca", "synthetic:", "rsna@", "synthetic:many", "synthetic:-1",
        "synthetic:1.5", "a:1@b", "synthetic:" + "9" * 5000,
    ],
)  # fmt: skip
def test_invalid_references_are_refused(text: str) -> None:
    with pytest.raises(Misuse, match=r"say NAME"):
        parse(text)


def test_streamed_shards_are_refused_outside_training() -> None:
    with pytest.raises(Misuse, match="pretrain --data"):
        parse("stream:s3://bucket/prefix")


@pytest.mark.parametrize("seed", range(50))
def test_any_text_is_parsed_or_refused(seed: int) -> None:
    chosen = random.Random(seed)
    text = "".join(chosen.choices("ab0:@.-_ é", k=chosen.randint(0, 8)))
    try:
        found = parse(text)
    except Misuse:
        return
    assert found.text == text
    assert found.name
