"""The reader of a user's image-text pairs."""

from pathlib import Path

import pandas as pd
import pytest
from support.data.custom_data import save_image, write_pairs

from g2dbench.data.custom import _table, pairs
from g2dbench.data.prepare import prepare
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

REGISTRY = Registry()


def test_usual_columns_are_found_in_any_case(tmp_path: Path) -> None:
    rows = (
        "Path,Report,Patient_ID,Gender,Age,extra\nimg/0.png,Clear.,p,F,50,x\nimg/1.png,,p,M,50+,\n"
    )
    root = write_pairs(tmp_path, rows)
    note, first, second = pairs.read(root, {})
    assert note.text == "columns of mine.csv that are not used: extra"
    assert (first.id, first.report, first.patient, first.sex, first.age) == (
        "img/0.png", "Clear.", "p", "F", 50.0,
    )  # fmt: skip
    assert (second.report, second.age) == (None, None)
    summary = pairs.describe(root, {}).summary
    assert "image=Path, text=Report, patient=Patient_ID, sex=Gender, age=Age" in summary


def test_columns_are_given_by_option_and_parquet_holds_numbers(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a\n1\n")
    table = pd.DataFrame({"where": ["img/0.png", "img/1.png"], "says": ["A b.", None]})
    table["subject_id"] = [10000032.0, None]
    table.to_parquet(tmp_path / "mine.parquet")
    asked = {"table": "mine.parquet", "image": "where", "text": "says"}
    first, second = pairs.read(tmp_path, asked)
    assert (first.report, first.patient) == ("A b.", "10000032")
    assert (second.report, second.patient) == (None, "img/1.png")


def test_an_error_names_the_option_that_is_needed(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, "where,says\nimg/0.png,x\n")
    with pytest.raises(Misuse, match="--option image=COLUMN"):
        pairs.describe(root, {})
    with pytest.raises(Misuse, match="has only where, says"):
        pairs.describe(root, {"image": "wo"})
    (root / "other.tsv").write_text("a\tb\n")
    with pytest.raises(Misuse, match=r"mine\.csv, other\.tsv: say --option table=FILE"):
        pairs.describe(root, {})
    with pytest.raises(BadData, match="there is no table"):
        pairs.describe(root, {"table": "none.csv"})
    with pytest.raises(BadData, match="there is no folder"):
        pairs.describe(root / "nowhere", {})


def test_broken_rows_are_reported_with_their_line(tmp_path: Path) -> None:
    rows = "image,text,split\n,x,\nnone.png,x,\nimg/0.png,x,third\n" + "a" * 300 + ".png,x,\n"
    found = list(pairs.read(write_pairs(tmp_path, rows), {}))
    assert [type(item) for item in found] == [Rejected, Missing, Rejected, Missing]
    assert found[0].reason == "line 2 of mine.csv: no image"
    assert "line 4 of mine.csv: the split 'third'" in found[2].reason


@pytest.mark.parametrize("content", [b"", b"image,text\n1,2,3,4\n", b"\xff\xfe\x00\xff", b'a,"b\n'])
def test_broken_tables_are_bad_data(tmp_path: Path, content: bytes) -> None:
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadData, Misuse), match=rf"t\.{name[2:]}"):
            _table.open_table(tmp_path, {"table": name}, ("image",))


def test_images_outside_the_root_are_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "secret.png")
    inside = "".join(f"img/{i}.png,Text here.\n" for i in range(40))
    root = write_pairs(tmp_path / "root", "image,text\n" + inside + "../secret.png,x\n", 40)
    store = prepare(
        "pairs", root, tmp_path / "store", progress=quiet, registry=REGISTRY, size=16,
        own_name="mine",
    )  # fmt: skip
    assert len(store) == 40
    assert "outside" in (store.folder / "quarantine.csv").read_text()
