"""The index of results: equal to the files, never trusted over them, and rebuilt when broken."""

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.reporting.results import result

from g2dbench.errors import BadResult
from g2dbench.reporting import result_index
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
from g2dbench.reporting.result_index import INDEX_FILE, ResultIndexNote, read_summaries
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import RESULT_FILE, Provenance, Score, load, save

CONFIG = {"protocol": {"lr": 0.1}, "model_code": "m"}


def summarized(origin: Provenance) -> Provenance:
    """What a summary keeps of a provenance."""
    config = {"protocol": origin.config["protocol"]}
    return origin.model_copy(update={"config": config, "packages": {}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 results, one of them failed and one imported, that count as many and as settled."""
    monkeypatch.setattr(result_index, "MIN_RESULTS", 1)
    monkeypatch.setattr(result_index, "SETTLED_SECONDS", -10.0)
    for seed in range(12):
        scores = {
            "dice": Score(value=seed / 12, low=0.0, high=1.0, n=9),
            "dice:nodule": Score(value=0.1, n=3),
        }
        status = "failed" if seed == 3 else "done"
        details = {"imported": seed == 4, "curve": [1.0, 2.0]}
        one = result(
            seed=seed % 4, model=f"m{seed // 4}", status=status, config=CONFIG, details=details,
            packages={"torch": "2"}, scores={} if seed == 3 else scores,
        )  # fmt: skip
        save(one, tmp_path / "results" / f"cell-{seed:02d}")
    return tmp_path / "results"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cells whose file is read."""
    names: list[str] = []

    def counted_load(path: Path) -> object:
        names.append(path.parent.name)
        return load(path)

    monkeypatch.setattr(result_index, "load", counted_load)
    return names


def values(folder: Path) -> dict[str, float]:
    found, problems = read_summaries(folder)
    assert not problems
    return {
        each.folder.name: each.result.scores["dice"].value for each in found if each.result.main
    }


def test_summaries_are_the_results_without_details_and_other_scores(
    folder: Path, opened: list[str]
) -> None:
    whole = read_results(folder)[0]
    for _ in ("without an index", "with it"):
        found, problems = read_summaries(folder)
        assert not problems
        assert [each.folder for each in found] == [each.folder for each in whole]
        for one, other in zip(found, whole, strict=True):
            assert one.result.cell == other.result.cell
            assert one.result.provenance == summarized(other.result.provenance)
            assert one.result.main == other.result.main
            assert one.result.counts == other.result.counts
            assert (one.result.status, one.result.reason) == (
                other.result.status, other.result.reason,
            )  # fmt: skip
        boards = [build_leaderboard(each.result for each in part) for part in (found, whole)]
        assert replace(boards[0], runs={}) == replace(boards[1], runs={})
    assert len(opened) == 12


def test_changed_new_and_removed_results_are_seen(folder: Path, opened: list[str]) -> None:
    before = values(folder)
    opened.clear()
    path = folder / "cell-05" / "result.json"
    save(load(path).model_copy(update={"scores": {"dice": Score(value=0.99)}}), path.parent)
    save(result(0.5, seed=99), folder / "cell-99")
    (folder / "cell-06" / "result.json").unlink()
    expected = {**before, "cell-05": 0.99, "cell-99": 0.5}
    del expected["cell-06"]
    assert values(folder) == values(folder) == expected
    assert sorted(opened) == ["cell-05", "cell-99"]


def test_an_edit_in_place_that_restores_size_and_time_is_seen(folder: Path) -> None:
    path = folder / "cell-06" / "result.json"
    assert values(folder)["cell-06"] == 0.5
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace('"value": 0.5', '"value": 0.9'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        stat.st_size, stat.st_mtime_ns, stat.st_ino,
    )  # fmt: skip
    assert values(folder)["cell-06"] == 0.9


def test_a_file_of_before_1970_is_indexed(folder: Path, opened: list[str]) -> None:
    os.utime(folder / "cell-05" / RESULT_FILE, ns=(-1, -(10**18)))
    values(folder)
    opened.clear()
    values(folder)
    assert not opened


def test_files_that_changed_a_moment_ago_are_not_indexed(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_index, "SETTLED_SECONDS", 60.0)
    values(folder)
    values(folder)
    assert len(opened) == 24


def test_an_index_of_a_copied_folder_is_not_used(folder: Path, opened: list[str]) -> None:
    """The index of other results, as if a stranger had sent it with the files."""
    values(folder)
    copied = folder.with_name("copied")
    for cell in sorted(folder.glob("cell-*")):
        save(load(cell / "result.json").model_copy(update={"reason": "mine"}), copied / cell.name)
    (copied / INDEX_FILE).write_bytes((folder / INDEX_FILE).read_bytes())
    opened.clear()
    assert {each.result.reason for each in read_summaries(copied)[0]} == {"mine"}
    assert len(opened) == 12


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "other", "rows", "missing"])
def test_a_broken_index_is_reported_and_rebuilt(folder: Path, damage: str) -> None:
    expected, index = values(folder), folder / INDEX_FILE
    raw = bytearray(index.read_bytes())
    if damage == "other":  # a table with our mark and other columns
        mark = {"g2dbench": result_index._FORMAT}
        parquet.write_table(pa.table({"path": [1]}).replace_schema_metadata(mark), index)
    elif damage in ("rows", "missing"):  # texts that are no results, or none
        table = parquet.read_table(index)
        at = table.schema.get_field_index("shared")
        texts = ["{}" if damage == "rows" else None] * len(table)
        column = pa.array(texts, table.schema.field(at).type)
        table = table.set_column(at, table.schema.field(at), column)
        parquet.write_table(table, index, compression="none")
    else:
        short = {"empty": b"", "truncated": raw[: len(raw) // 2], "text": b"PAR1 nothing"}
        index.write_bytes(short.get(damage, bytes(raw)))
    with pytest.warns(ResultIndexNote, match=r"broken .*all results are read from their files"):
        assert values(folder) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(folder) == expected


def test_a_flipped_byte_never_changes_a_result(folder: Path) -> None:
    """Where a byte stands depends on pyarrow: it is reported, or it costs reading a file."""
    expected, index = values(folder), folder / INDEX_FILE
    raw = index.read_bytes()
    reported = 0
    for position in range(4, len(raw), 41):
        index.write_bytes(raw[:position] + bytes([raw[position] ^ 255]) + raw[position + 1 :])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert values(folder) == expected, position
        reported += any(issubclass(one.category, ResultIndexNote) for one in caught)
    assert reported > 0


USUAL = pa.default_memory_pool()
COUNTED = pa.proxy_memory_pool(USUAL)
"""Counts what is read with it alone; it stays alive as long as what it allocated."""


def hostile(rows: int, text: str) -> pa.Table:
    """An index with our mark and columns whose rows all share one text."""
    arrays = []
    for field in result_index._COLUMNS:
        if pa.types.is_dictionary(field.type):
            each = text if field.name == "shared" else "x"
            texts = pa.array([each.encode()]).cast(field.type.value_type)
            arrays.append(pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), texts))
        else:
            arrays.append(pa.array(np.zeros(rows), field.type))
    return pa.table(arrays, schema=result_index._COLUMNS)


@pytest.mark.parametrize(
    ("rows", "length", "compression", "reason"),
    [
        (10, 64 << 20, "zstd", "compressed"),
        (4096, 1 << 20, "none", "takes more than"),
        (200_000, 1, "none", "200,000 rows"),
        (1, 20 << 20, "none", "bytes; g2dbench reads at most"),
    ],
)
def test_a_hostile_index_takes_no_memory(
    rows: int, length: int, compression: str, reason: str, folder: Path
) -> None:
    expected, index = values(folder), folder / INDEX_FILE
    parquet.write_table(hostile(rows, "x" * length), index, compression=compression)
    pa.set_memory_pool(COUNTED)
    try:
        with pytest.warns(ResultIndexNote, match=f"broken .*{reason}"):
            assert values(folder) == expected
        assert COUNTED.max_memory() < 16 << 20
    finally:
        pa.set_memory_pool(USUAL)
    assert index.stat().st_size < 1 << 20, "it is written anew"


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to itself", "folder"])
def test_an_index_that_is_no_file_stops_nothing(folder: Path, kind: str) -> None:
    expected, index = values(folder), folder / INDEX_FILE
    index.unlink()
    if kind == "folder":
        index.mkdir()
    elif kind == "link to itself":
        index.symlink_to(index)
    else:
        os.mkfifo(folder / "pipe" if "link" in kind else index)
        if "link" in kind:
            index.symlink_to(folder / "pipe")
    with pytest.warns(ResultIndexNote, match="broken|cannot be written"):
        assert values(folder) == expected


def test_links_to_folders_are_followed_and_each_folder_is_read_once(folder: Path) -> None:
    found = values(folder)
    elsewhere = folder.with_name("elsewhere")
    (folder / "cell-05").rename(elsewhere)
    (folder / "cell-05").symlink_to(elsewhere)
    (folder / "a link").symlink_to(folder)
    assert values(folder) == found


def test_an_index_of_another_version_is_rebuilt(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values(folder)
    other = result_index._COLUMNS.with_metadata({"g2dbench": "1 4 99.0"})
    monkeypatch.setattr(result_index, "_COLUMNS", other)
    values(folder)
    assert len(opened) == 24


def test_an_index_that_cannot_be_written_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, write: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(result_index, "replace_file", refuse)
    with pytest.warns(ResultIndexNote, match="cannot be written \\(Permission denied\\)"):
        assert len(values(folder)) == 11


def test_broken_results_are_reported_each_time(folder: Path) -> None:
    (folder / "cell-07" / "result.json").write_text("{")
    for _ in range(2):
        found, problems = read_summaries(folder)
        assert len(found) == 11
        assert len(problems) == 1
        assert "cell-07" in problems[0]
    for cell in folder.glob("cell-*"):
        (cell / "result.json").write_text(json.dumps([]))
    with pytest.raises(BadResult, match="no readable result"):
        read_summaries(folder)


def test_several_writers_leave_a_complete_index(folder: Path, opened: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(values, [folder] * 8))
    assert all(each == found[0] for each in found)
    assert [path.name for path in folder.iterdir() if path.is_file()] == [INDEX_FILE]
    opened.clear()
    assert values(folder) == found[0]
    assert not opened


def test_few_results_get_no_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_index, "MIN_RESULTS", 13)
    assert len(values(folder)) == 11
    assert not (folder / INDEX_FILE).exists()
