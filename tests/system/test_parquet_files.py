"""Parquet is read as pandas reads it, and bombs are refused before they unfold."""

import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.system import parquet_files
from g2dbench.system.parquet_files import read_frame

FRAMES = {
    "texts": pd.DataFrame({"id": ["a", None, "b"] * 50, "s": ["x" * 50] * 150}),
    "numbers": pd.DataFrame({"f": [1.5, np.nan], "i": [1, 2], "b": [True, False]}),
    "nullable": pd.DataFrame({"i": pd.array([1, None], dtype="Int64")}),
    "lists": pd.DataFrame({"l": [[1.0, 2.0], None], "t": [["a", "b"], []]}),
    "bytes": pd.DataFrame({"b": [b"\xff", b""]}),
    "categories": pd.DataFrame({"c": pd.Categorical(["u", "v"])}),
    "empty": pd.DataFrame({"id": pd.Series([], dtype=str), "f": pd.Series([], dtype=float)}),
    "an index": pd.DataFrame({"f": [1, 2]}, index=pd.Index(["a", "b"], name="id")),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("row_group", [1, 1000])
def test_a_table_is_as_pandas_reads_it(name: str, row_group: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    FRAMES[name].to_parquet(path, row_group_size=row_group)
    pd.testing.assert_frame_equal(read_frame(path), pd.read_parquet(path))
    if name == "an index":  # pandas adds it to the columns, here columns are those asked for
        return
    first = [str(FRAMES[name].columns[0])]
    pd.testing.assert_frame_equal(read_frame(path, first), pd.read_parquet(path, columns=first))


def bomb(path: Path, kind: pa.DataType) -> None:
    """A text of 10 MB, which a million rows repeat: half a megabyte that stands for 10 TB."""
    rows = 1_000_000
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["x" * 10_000_000])
    if pa.types.is_list(kind):
        texts = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), texts)
    table = pa.table({"id": texts})
    pq.write_table(table, path, store_schema=False, dictionary_pagesize_limit=1 << 30)


def test_a_repeated_text_is_refused(tmp_path: Path) -> None:
    bomb(tmp_path / "a.parquet", pa.string())
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadResult, match="more than 8,589,934,592 bytes in memory"):
        read_predictions(tmp_path / "a.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_COLUMNS", "MAX_ROW_GROUPS", "MAX_CELLS"])
def test_announced_sizes_are_refused(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": range(9), "b": range(9)}).to_parquet(path, row_group_size=2)
    monkeypatch.setattr(parquet_files, limit, 1)
    with pytest.raises(ValueError, match="reads at most 1"):
        read_frame(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column b"):
        read_frame(tmp_path / "a.parquet", ["b"])
