"""Parquet files that a stranger may send: read with limits that hold before memory is taken.

A few hundred bytes of Parquet can stand for terabytes: a text of megabytes that every row repeats.
So texts are read as dictionaries first, and what they would take is counted before they are spelled
out.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from g2dbench.system.bounded_files import open_regular

MAX_FILE_BYTES = 8 << 30
MAX_BYTES = 8 << 30
"""Of the table in memory."""

MAX_COLUMNS, MAX_ROW_GROUPS, MAX_ROWS = 4096, 100_000, 100_000_000
MAX_CHUNKS, MAX_CELLS = 1_000_000, 1_000_000_000
MAX_METADATA_TEXT, MAX_METADATA_ITEMS = 64 << 20, 10_000_000
_NESTED_ROWS = 256


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of a Parquet file, as `pandas.read_parquet` gives it.

    ValueError: larger than the limits, or no regular file. Errors of pyarrow for a broken one.
    """
    frame: pd.DataFrame = read_table(path, columns).to_pandas()
    return frame


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as an Arrow table."""
    with open_regular(path, MAX_FILE_BYTES) as file:
        limits = {
            "thrift_string_size_limit": MAX_METADATA_TEXT,
            "thrift_container_size_limit": MAX_METADATA_ITEMS,
        }
        schema = pq.ParquetFile(file, **limits).schema_arrow
        names = list(schema.names if columns is None else columns)
        if absent := [name for name in names if name not in schema.names]:
            raise ValueError(f"it has no column {', '.join(absent)}")
        texts = [name for name in names if _is_text(schema, name)]
        reader = pq.ParquetFile(file, read_dictionary=texts, **limits)
        _check(reader.metadata, len(names))
        nested = any(_holds_texts(schema.field(name).type) for name in names)
        batches = list(_bounded(reader, names, _NESTED_ROWS if nested else 65_536))
        # The schema of the file keeps what pandas noted about its columns.
        wanted = pa.schema([schema.field(name) for name in names], schema.metadata)
        return _spell_out(batches, wanted)


BATCH_ROWS = 4096


def read_batches(
    path: Path, schema: pa.Schema, *, max_bytes: int, max_rows: int
) -> Iterator[pa.RecordBatch]:
    """The batches of a Parquet file that g2dbench wrote, whose texts are dictionaries.

    Nothing is read unless the file is uncompressed and has at most `max_bytes` bytes and `max_rows`
    rows. So memory is at most a few times `max_bytes`: nothing in the file stands for more, except
    that texts repeat, and those are dictionaries. There are no batches if the file has another
    metadata entry "g2dbench" than the schema.

    ValueError: beyond the limits, other columns, or no regular file. Errors of pyarrow for a broken
    file, and of `open`.
    """
    with open_regular(path, max_bytes) as file:
        data = pa.BufferReader(file.read(max_bytes))  # a length that a page states takes no memory
    texts = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    limits = {"thrift_string_size_limit": max_bytes, "thrift_container_size_limit": max_bytes}
    reader = pq.ParquetFile(data, read_dictionary=texts, page_checksum_verification=True, **limits)
    found, expected = reader.schema_arrow, schema.metadata[b"g2dbench"]
    if (found.metadata or {}).get(b"g2dbench") != expected:
        return
    metadata = reader.metadata
    if metadata.num_rows > max_rows:
        raise ValueError(f"it has {metadata.num_rows:,} rows; g2dbench reads at most {max_rows:,}")
    if not found.equals(schema):
        raise ValueError(f"its columns are {', '.join(found.names)}")
    chunks = product(range(metadata.num_row_groups), range(metadata.num_columns))
    if any(metadata.row_group(g).column(c).compression != "UNCOMPRESSED" for g, c in chunks):
        raise ValueError("it is compressed, which g2dbench does not write")
    for group in range(metadata.num_row_groups):  # the dictionaries of several would grow together
        for batch in reader.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
            if sum(_decoded_bytes(column) for column in batch.columns) > max_bytes:
                raise ValueError(f"a part of it takes more than {max_bytes:,} bytes in memory")
            yield batch


def _is_text(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    tests = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string)
    return any(test(kind) for test in tests)


def _holds_texts(kind: pa.DataType) -> bool:
    """Whether a list or a struct has texts in it, which pyarrow cannot read as a dictionary."""
    texts = ("string", "binary", "dictionary")
    return bool(pa.types.is_nested(kind)) and any(text in str(kind) for text in texts)


def _check(metadata: pq.FileMetaData, columns: int) -> None:
    """ValueError if the file announces more than is read."""
    groups = metadata.num_row_groups
    for what, found, most in (
        ("rows", metadata.num_rows, MAX_ROWS),
        ("columns", metadata.num_columns, MAX_COLUMNS),
        ("row groups", groups, MAX_ROW_GROUPS),
        ("column chunks", groups * metadata.num_columns, MAX_CHUNKS),
        ("cells", metadata.num_rows * columns, MAX_CELLS),
    ):
        if found > most:
            raise ValueError(f"it has {found:,} {what}; g2dbench reads at most {most:,}")
    chunks = product(range(groups), range(metadata.num_columns))
    values = sum(metadata.row_group(group).column(at).num_values for group, at in chunks)
    if values > MAX_CELLS:
        raise ValueError(f"it has {values:,} values; g2dbench reads at most {MAX_CELLS:,}")


def _bounded(reader: pq.ParquetFile, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of a file, as long as their texts, spelled out, take less than MAX_BYTES."""
    total = 0
    for batch in reader.iter_batches(batch_size=rows, columns=list(names)):
        total += sum(_decoded_bytes(column) for column in batch.columns)
        if total > MAX_BYTES:
            raise ValueError(f"its table takes more than {MAX_BYTES:,} bytes in memory")
        yield batch


def _decoded_bytes(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0) + 8 * len(column)


def _spell_out(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The table with its texts spelled out."""
    arrays = []
    for index, field in enumerate(schema):
        chunks = [batch.column(index) for batch in batches]
        spelled = [
            chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk
            for chunk in chunks
        ]
        arrays.append(pa.chunked_array([c.cast(field.type) for c in spelled], field.type))
    return pa.table(arrays, schema=schema)
