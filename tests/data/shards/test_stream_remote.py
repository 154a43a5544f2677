"""Streams from an http and an S3-compatible store on loopback: equal weights, clear errors."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import small_training as fits
from support import trainee
from support.data.shards import a_loader, exported, opened, png, served, some_members, tar_of
from support.processes import term_at, together

from g2dbench.data.shards import remote
from g2dbench.data.shards.remote import StorageLocation, expand_braces, split_address
from g2dbench.errors import BadData, Misuse, Stopped
from g2dbench.recipes.recipe import override
from g2dbench.runs.checkpoints import CheckpointPolicy
from g2dbench.runs.folder import read_info
from g2dbench.training.monitoring.monitor import MonitorSettings

pytestmark = pytest.mark.integration

pytest.importorskip("aiohttp")

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """An empty bucket of an S3-compatible store, and its environment variables."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="shards")
        yield "s3://shards", told
    server.stop()


def recipe() -> Any:
    changes = ["data.size=64", "optim.batch_size=6", "optim.epochs=2"]
    return override(fits.recipe(), changes)


def trained(
    rank: int, port: int, out: Path, http: str, s3: str, environment: dict[str, str]
) -> None:
    """One of two processes: trains over http, and over S3 with an interruption and a resume."""
    trainee.enter(rank, 2, port)
    os.environ.update(environment)
    settings: dict[str, Any] = {"recipe": recipe(), "checkpointing": CheckpointPolicy(steps=2)}
    fits.fit(out / "http", opened(http, out), **settings)  # type: ignore[arg-type]
    (out / f"{rank}.pid").write_text(str(os.getpid()))
    ask = term_at(9, out / "1.pid")
    with pytest.raises(Stopped, match="in epoch 2 after batch 3 of 7"):
        fits.fit(out / "s3", opened(s3, out), progress=ask, **settings)  # type: ignore[arg-type]
    fits.fit(out / "s3", opened(s3, out), resume=True, **settings)  # type: ignore[arg-type]


def test_two_processes_train_from_http_and_s3_to_the_same_weights(
    small_store: Path, tmp_path: Path, bucket: tuple[str, dict[str, str]]
) -> None:
    address, told = f"{bucket[0]}/set", bucket[1]
    index = exported(small_store, tmp_path / "s", "webdataset")
    assert exported(small_store, address, "webdataset") == index
    with served(tmp_path / "s") as (http, asked):
        together(trained, tmp_path, http, address, told)
    over_http, over_s3 = (read_info(tmp_path / name) for name in ("http", "s3"))
    assert over_http.digest == over_s3.digest is not None
    assert over_http.fingerprint == over_s3.fingerprint
    assert (over_s3.pairs, over_s3.processes, over_s3.data) == (91, 2, "synthetic")
    # Of 8 training shards in each of 2 epochs, at most one is read by both.
    counts = [sum(shard.name in path for path in asked) for shard in index.shards]
    trains = [n for n, shard in zip(counts, index.shards, strict=True) if "train" in shard.name]
    assert sum(trains) <= 2 * (8 + 1) + 2 * 8, "each also reads texts for the tokenizer once"


def test_http_without_an_index_needs_the_shards_named(small_store: Path, tmp_path: Path) -> None:
    for number in range(3):
        tar_of(tmp_path / f"s/train-{number:02d}.tar", some_members(9, 9 * number))
    tar_of(tmp_path / "s/valid-00.tar", some_members(4, 50))
    with served(tmp_path / "s") as (http, asked):
        with pytest.raises(Misuse, match=r"has no listing.*train-\{00000"):
            opened(http, tmp_path)
        said: list[str] = []
        loader = a_loader(opened(f"{http}/train-{{00..02}}.tar", tmp_path, echo=said.append))
        assert loader.steps == 6
        assert "reading its 3 shards once" in said[0]
        assert "counted 27 rows" in said[1]
        found = [name for batch in loader.epoch(0) for name in batch.ids]
        assert len(set(found)) == 24
        asked.clear()
        opened(f"{http}/train-{{00..02}}.tar", tmp_path, echo=said.append)
        assert not asked, "the index is used again"
        with pytest.raises(BadData, match=r"there is no shard .*train-03\.tar"):
            opened(f"{http}/train-{{00..03}}.tar", tmp_path)


def test_temporary_errors_are_retried_and_others_name_the_address(
    small_store: Path, tmp_path: Path, short_retries: None
) -> None:
    exported(small_store, tmp_path / "s", "parquet", 60)
    name = "train-00001-of-00002.parquet"
    with served(tmp_path / "s", train_00001=[500, 503]) as (http, asked):
        loader = a_loader(opened(http, tmp_path))
        assert len(list(loader.epoch(0))) == loader.steps
        assert sum(name in path for path in asked) >= 4
    for code, times, said in (
        (500, 4, r"cannot be read or written \(after 4 tries\).*500"),
        (403, 1, r"cannot be read or written \(refused\).*403"),
        (404, 1, "is gone"),
    ):
        with served(tmp_path / "s", train_00001=[code] * 9) as (http, asked):
            stream = opened(http, tmp_path)
            with pytest.raises(BadData, match=rf"{http}/{name}.*{said}"):
                list(a_loader(stream).epoch(0))
            assert sum(name in path for path in asked) == times
    with pytest.raises(BadData, match=rf"{http}/shards.json cannot be read or written \(after 4"):
        opened(http, tmp_path)  # nobody serves there any more


def test_a_silent_store_times_out(
    tmp_path: Path, short_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "READ_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(BadData, match="after 4 tries"):
            opened(f"http://127.0.0.1:{silent.getsockname()[1]}/s", tmp_path)


def test_a_transfer_that_exceeds_its_limit_is_aborted(
    tmp_path: Path, short_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(listening: socket.socket) -> None:
        while True:
            try:
                other, _ = listening.accept()
                other.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    other.sendall(bytes(2**16))
            except OSError:
                if listening.fileno() < 0:
                    return

    with socket.socket() as endless:
        endless.bind(("127.0.0.1", 0))
        endless.listen()
        threading.Thread(target=drip, args=(endless,), daemon=True).start()
        location = StorageLocation(f"http://127.0.0.1:{endless.getsockname()[1]}")
        with pytest.raises(BadData, match="has more than 1,000,000 bytes"):
            location.fetch("x.tar", tmp_path, 1_000_000)


def test_a_missing_bucket_or_prefix_is_named(
    tmp_path: Path, bucket: tuple[str, dict[str, str]], short_retries: None
) -> None:
    address = f"{bucket[0]}/none"
    with pytest.raises(BadData, match=r"s3://shards/none holds no \*\.parquet"):
        opened(address, tmp_path)
    with pytest.raises(BadData, match="s3://nobody/x"):
        opened("s3://nobody/x", tmp_path)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*words: object, **more: object) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(remote.fsspec.core, "url_to_fs", missing)
    with pytest.raises(Misuse, match=r"pip install 'g2dbench\[remote\]'"):
        StorageLocation("s3://b/x").is_local  # noqa: B018
    monkeypatch.undo()
    with pytest.raises(Misuse, match="zzz://b"):
        StorageLocation("zzz://b").is_local  # noqa: B018


def test_addresses_are_split_into_folder_and_pattern() -> None:
    assert split_address("https://h/p/t-{00..02}.tar") == (
        StorageLocation("https://h/p"),
        "t-{00..02}.tar",
    )
    assert split_address("/a/*/b.tar") == (StorageLocation("/a"), "*/b.tar")
    assert split_address("s3://b/p/") == (StorageLocation("s3://b/p"), None)
    assert split_address("x.tar") == (StorageLocation("."), "x.tar")
    assert expand_braces("a{8..11}") == ["a8", "a9", "a10", "a11"]
    assert expand_braces("a{08..09}/b{1..2}") == ["a08/b1", "a08/b2", "a09/b1", "a09/b2"]
    assert expand_braces("*.tar") is None
    for pattern in ("a{3..2}", "a{0..99999999}", "a{0..9999}{0..9999}"):
        with pytest.raises(Misuse, match="stands for"):
            expand_braces(pattern)


def test_a_stream_without_held_out_pairs_is_monitored_and_resumes(tmp_path: Path) -> None:
    tar_of(tmp_path / "own/train-0.tar", some_members(40))
    tar_of(tmp_path / "own/train-1.tar", [("x.png", png()), ("x.txt", b"One more.")])
    closely = MonitorSettings(every=1, sheet_every=0)
    settings: dict[str, Any] = {"recipe": recipe(), "monitoring": closely}

    def fit(name: str, **more: Any) -> Any:
        stream = opened(tmp_path / "own", tmp_path, side=32)
        return fits.fit(tmp_path / name, stream, **settings, **more)  # type: ignore[arg-type]

    whole = fit("whole")
    with pytest.raises(Stopped):
        fit("part", progress=fits.interrupt_at(8), checkpointing=CheckpointPolicy(steps=3))
    assert fit("part", resume=True).info.digest == whole.info.digest
    assert whole.label.endswith("@own")
    rows = (whole.folder / "steps.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 6
    assert "batch_r1" in rows[0]
