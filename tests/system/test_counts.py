"""Counts in sentences agree with their noun."""

import pytest

from g2dbench.system.counts import counted


@pytest.mark.parametrize(
    ("number", "wanted"),
    [(0, "0 cells"), (1, "1 cell"), (2, "2 cells"), (1234, "1,234 cells")],
)
def test_only_one_is_singular(number: int, wanted: str) -> None:
    assert counted(number, "cell") == wanted


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "study", "studies") for n in (1, 2)] == ["1 study", "2 studies"]
