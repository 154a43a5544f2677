"""A resumed preparation of `hf` data reads shards again that have changed since."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.stopping import Stop, Watch, after

from g2dbench.data.prepare import prepare
from g2dbench.data.store.store import Store
from g2dbench.progress import quiet
from g2dbench.registry import Registry

pytest.importorskip("datasets")

REGISTRY = Registry()
SHARD = 80


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(root: Path, number: int, seed: int) -> None:
    """Images as `datasets` writes them to Parquet."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": png(seed + index), "path": None} for index in range(SHARD)]
    texts = [f"Report {number} {index}." for index in range(SHARD)]
    table = pa.table({"image": pa.array(rows, kind), "text": texts})
    features = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
    metadata = json.dumps({"info": {"features": features}})
    table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, root / f"train-{number:05d}.parquet")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(2):
        write_shard(folder, number, 1000 * number)
    return folder


def make(root: Path, store: Path, progress: Callable = quiet) -> Store:
    return prepare(
        "hf", root, store, progress=progress, registry=REGISTRY, size=16, own_name="mine"
    )


@pytest.mark.parametrize("changes", ["nothing", "a shard", "a shard and its time by a nanosecond"])
def test_a_changed_shard_is_read_again(root: Path, tmp_path: Path, changes: str) -> None:
    with pytest.raises(Stop):
        make(root, tmp_path / "s", after(140))
    shard = root / "train-00000.parquet"
    before = shard.stat()
    if changes != "nothing":
        write_shard(root, 0, 5000)
    if "nanosecond" in changes:
        # A rewritten file can have the same size, but never the same time by accident.
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    watch = Watch()
    made = make(root, tmp_path / "s", watch)
    assert watch.left == (2 * SHARD - 128 if changes == "nothing" else 2 * SHARD)
    assert made.fingerprint == make(root, tmp_path / "fresh").fingerprint
