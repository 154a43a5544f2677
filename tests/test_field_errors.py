"""Each kind of error that pydantic reports becomes a sentence in plain words."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from g2dbench.field_errors import first_sentence, sentences


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    shares: Annotated[tuple[float, ...], Field(min_length=1, strict=False)] = (1.0,)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    count: Annotated[int, Field(ge=1, lt=100)] = 1
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    name: Annotated[str, Field(max_length=5)] = ""
    row: Row = Row(title="")
    rows: Annotated[tuple[Row, ...], Field(max_length=2, strict=False)] = ()
    pairs: Annotated[tuple[str, ...], Field(min_length=2, strict=False)] = ("", "")

    @model_validator(mode="after")
    def _no_thirteen(self) -> "Table":
        if self.count == 13:
            raise ValueError("count brings bad luck")
        return self


@dataclass(frozen=True)
class Settings:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    epochs: int = 1


def refused(kind: Any, table: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(table)
    return caught.value


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"count": "many"}, "count = 'many' must be a whole number"),
        ({"count": 1.5}, "count = 1.5 must be a whole number"),
        ({"count": 0}, "count = 0 must be at least 1"),
        ({"count": 100}, "count = 100 must be less than 100"),
        ({"count": 13}, "count brings bad luck"),
        ({"rate": "fast"}, "rate = 'fast' must be a number"),
        ({"rate": 0}, "rate = 0 must be greater than 0"),
        ({"rate": float("nan")}, "rate = nan must be a finite number"),
        ({"rate": float("inf")}, "rate = inf must be a finite number"),
        ({"on": "yes"}, "on = 'yes' must be true or false"),
        ({"kind": "c"}, "kind = 'c' must be 'a' or 'b'"),
        ({"name": 3}, "name = 3 must be text in quotes"),
        ({"name": "a" * 6}, "name = 'aaaaaa' must be 5 characters long or shorter"),
        ({"row": 3}, "row = 3 must be a table"),
        ({"row": {}}, "row.title is missing"),
        ({"row": {"title": "", "x": 1}}, "row.x is unknown"),
        ({"rows": 3}, "rows = 3 must be a list: write rows = [...]"),
        (
            {"rows": [{"title": ""}] * 3},
            "rows = [{'title': ''}, {'title': ''}, {'title': ''}] must have 2 entries at most",
        ),
        ({"rows": [{"title": ""}, {}]}, "title in entry 2 of rows is missing"),
        (
            {"rows": [{"title": "", "shares": ["x"]}]},
            "entry 1 of shares in entry 1 of rows = 'x' must be a number",
        ),
        (
            {"rows": [{"title": "", "shares": []}]},
            "shares in entry 1 of rows = [] is empty: name at least one, or leave the field out",
        ),
        ({"pairs": ["a"]}, "pairs = ['a'] must have 2 entries or more"),
        ({"count": 0, "kind": 1}, "count = 0 must be at least 1; kind = 1 must be 'a' or 'b'"),
    ],
)
def test_every_kind_of_error_is_a_plain_sentence(table: dict[str, Any], sentence: str) -> None:
    error = refused(Table, table)
    assert sentences(error) == sentence
    assert first_sentence(error) == sentence.partition("; ")[0]


def test_unknown_fields_get_the_sentence_of_the_caller() -> None:
    error = refused(Table, {"cuont": 1, "row": {"title": "", "tilte": ""}})
    assert sentences(error, lambda path: "/".join(path)) == "row/tilte; cuont"
    assert sentences(refused(Settings, {"epoch": 1}), "".join) == "epoch"


def test_a_single_value_and_a_table_inside_another() -> None:
    assert sentences(refused(int, "x")) == "'x' must be a whole number"
    assert sentences(refused(Table, {"on": 1}), inside=("a",)) == "a.on = 1 must be true or false"


HOSTILE = {
    "digits": 10**5000,
    "long": "x" * 10**6,
    "deep": [[[[[[1]]]]]],
    "escapes": b"\x1b[31m" * 9999,
    "wide": {str(number): number for number in range(999)},
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_what_strangers_write_is_shortened(value: object) -> None:
    sentence = sentences(refused(Table, {"on": value}))
    assert len(sentence) < 200
    assert sentence.isprintable()


def test_deep_lists_are_shortened() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(sentences(refused(Table, {"on": deep}))) < 200
