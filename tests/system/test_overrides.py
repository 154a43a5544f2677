"""Changes of single settings: names, types, and the one written form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from g2dbench.errors import Misuse
from g2dbench.system.overrides import join_name, override, split_name


@dataclass(frozen=True, kw_only=True)
class Inner:
    epochs: int = 5
    lr: float = 0.1
    kind: Literal["a", "b"] = "a"
    size: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError("epochs is at least 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    version: int = 1
    first: Inner = Inner()
    second: Inner = Inner(epochs=7)
    flips: bool = False
    rates: tuple[float, ...] = (0.1, 1.0)
    names: Mapping[str, int] = field(default_factory=dict)


def test_a_field_is_changed_by_its_name_or_its_path() -> None:
    changed, written = override(Outer(), ["flips=true", "first.epochs=9", "rates=[1, 2.5]"])
    assert (changed.flips, changed.first.epochs, changed.second.epochs) == (True, 9, 7)
    assert changed.rates == (1.0, 2.5)
    assert written == ["first.epochs=9", "flips=true", "rates=[1.0,2.5]"]
    assert override(Inner(), ["kind=b", "size=64", "lr=1e-3"])[1] == [
        "kind=b",
        "lr=0.001",
        "size=64",
    ]


def test_the_written_form_gives_the_same_settings_again() -> None:
    changes = ["second.lr=1e20", "rates=[0.5]", "second.kind=b"]
    changed, written = override(Outer(), changes)
    base, words = split_name(join_name("sweep", written))
    assert base == "sweep"
    assert override(Outer(), words) == (changed, written)


def test_a_change_to_the_same_value_is_no_change() -> None:
    assert override(Outer(), ["first.epochs=5", "flips=false"]) == (Outer(), [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs=3", "no setting of the protocol 'epochs'.*first.epochs"),
        ("flip=true", "did you mean 'flips'"),
        ("version=2", "no setting of the protocol"),
        ("names=3", "no setting of the protocol"),
        ("first.epochs=many", "--set first.epochs=many: 'many' must be a whole number"),
        ("first.epochs=0", "epochs is at least 1"),
        ("first.kind=c", "'c' must be 'a' or 'b'"),
    ],
)
def test_a_wrong_change_is_a_sentence(change: str, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        override(Outer(), [change])


def test_a_field_changed_twice_and_a_word_without_value_are_refused() -> None:
    with pytest.raises(Misuse, match="twice"):
        override(Outer(), ["flips=true", "flips=false"])
    with pytest.raises(Misuse, match="not FIELD=VALUE"):
        join_name("sweep", ["flips"])
