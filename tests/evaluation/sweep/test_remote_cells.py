"""Cells in an object store: one object each, whole or not at all, nothing else taken out of it."""

import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from support.reporting.results import result
from support.sweeps import SmallSweep, run, stored
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.shards import remote
from g2dbench.data.shards.remote import StorageLocation
from g2dbench.errors import BadData, BadResult, Misuse
from g2dbench.evaluation.sweep import remote_cells
from g2dbench.evaluation.sweep.engine import InProcess
from g2dbench.evaluation.sweep.local import LocalPool
from g2dbench.evaluation.sweep.remote_cells import (
    RemoteCells,
    copies_folder,
    open_remote_cells,
    pack,
    unpack,
)
from g2dbench.result import RESULT_FILE, save
from g2dbench.system.files import address_of

NAME = "cls/synthetic/m/g2d-f1-s0-01234567.tar"


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)


@pytest.fixture
def address() -> Iterator[str]:
    """An empty store in this process."""
    store = fsspec.filesystem("memory")
    yield "memory://bucket/results"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def a_cell(folder: Path, seed: int = 0, text: str = "predictions") -> Path:
    cell = folder / "cls" / "synthetic" / "m" / f"g2d-f1-s{seed}-01234567"
    cell.mkdir(parents=True, exist_ok=True)
    save(result(seed=seed), cell)
    (cell / "predictions.parquet").write_text(text)
    (cell / ".hidden").write_text("left out")
    return cell


def files(cell: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cell.iterdir() if path.name[0] != "."}


def tar(*members: tuple[str, bytes, str], end: bool = True) -> bytes:
    """A tar of (name, bytes, kind) members; the kind is one of tarfile's letters."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind.encode(), len(data), "/etc/passwd"
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue() if end else made.getvalue()[:700]


def test_cells_go_to_the_store_and_come_back_whole(address: str, tmp_path: Path) -> None:
    here, there = (open_remote_cells(address, tmp_path / name) for name in ("here", "there"))
    cell = a_cell(here.folder)
    assert here.unsent() == 1
    here.replace(cell)
    assert list(here.location.list_versions()) == [NAME]
    assert there.mirror() == []
    copy = there.folder / cell.relative_to(here.folder)
    assert files(copy) == files(cell)
    assert set(files(copy)) == {RESULT_FILE, "predictions.parquet"}
    assert (here.unsent(), there.unsent()) == (0, 0)


def test_only_new_and_changed_objects_are_fetched_and_removed_ones_go(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (open_remote_cells(address, tmp_path / name) for name in ("here", "there"))
    cells = [a_cell(here.folder, seed) for seed in range(3)]
    for cell in cells:
        here.add(cell)
    there.mirror()
    fetched: list[str] = []
    fetch = StorageLocation.fetch

    def counted(self: StorageLocation, name: str, *more: object) -> Path:
        fetched.append(name)
        return fetch(self, name, *more)

    monkeypatch.setattr(StorageLocation, "fetch", counted)
    there.mirror()
    here.mirror()
    assert not fetched
    (cells[0] / "predictions.parquet").write_text("others, as after --rerun")
    here.add(cells[0])  # it is there
    assert there.mirror() == []
    assert not fetched
    here.replace(cells[0])
    here.location._opened[0].rm(here.location.path(NAME.replace("s0", "s1")))
    there.mirror()
    assert fetched == [NAME]
    copies = [there.folder / cell.relative_to(here.folder) for cell in cells]
    assert files(copies[0]) == files(cells[0])
    assert [copy.exists() for copy in copies] == [True, False, True]
    assert all(cell.exists() for cell in cells)


def test_a_worker_fetches_the_one_cell_that_it_needs(address: str, tmp_path: Path) -> None:
    here, there = (open_remote_cells(address, tmp_path / name) for name in ("here", "there"))
    for seed in range(2):
        here.replace(a_cell(here.folder, seed))
    cell = there.folder / "cls" / "synthetic" / "m" / "g2d-f1-s1-01234567"
    there.fetch(cell)
    there.fetch(cell.with_name("g2d-f1-s9-01234567"))
    assert [path.name for path in cell.parent.iterdir()] == [cell.name]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tar((RESULT_FILE, b"{}", "2")), "no plain file"),
        (tar((RESULT_FILE, b"", "1")), "no plain file"),
        (tar(("a", b"", "6")), "no plain file"),
        (tar(("sub", b"", "5")), "no plain file"),
        (tar(("../../evil.json", b"x", "0")), "not the name"),
        (tar(("/tmp/evil.json", b"x", "0")), "not the name"),
        (tar(("sub/result.json", b"x", "0")), "not the name"),
        (tar((".hidden", b"x", "0")), "not the name"),
        (tar(("a" * 300, b"x", "0")), "no plain file"),  # an extension of the format
        (tar(("a\nb", b"x", "0")), "not the name"),
        (tar((RESULT_FILE, b"1", "0"), (RESULT_FILE, b"2", "0")), "not the name"),
        (tar(("other.json", b"x", "0")), f"it has no {RESULT_FILE}"),
        (tar((RESULT_FILE, bytes(999), "0"), end=False), "ends too early"),
        (tar(*((f"f{at}", b"", "0") for at in range(1001))), "more than 1000 files"),
        (b"", "ends too early"),
        (b"no tar" * 200, "is no cell"),
        (bytes(10240), "has no result"),
    ],
)
def test_nothing_but_the_files_of_a_cell_is_taken_out_of_an_object(
    data: bytes, reason: str, address: str, tmp_path: Path
) -> None:
    cells = open_remote_cells(address, tmp_path / "a" / "b")
    cells.replace(a_cell(cells.folder, 5))
    cells.location.write(NAME, data)
    (problem,) = cells.mirror()
    assert problem.startswith(f"{address}/{NAME} is no cell: ")
    assert reason in problem
    with pytest.raises(BadResult, match="is no cell"):
        cells.fetch(cells.folder / NAME.removesuffix(".tar"))
    left = {path.relative_to(tmp_path).parts[2] for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"cls", ".locks", ".objects"}
    results = [path.parent.name for path in tmp_path.rglob(RESULT_FILE)]
    assert results == ["g2d-f1-s5-01234567"]


def test_objects_with_other_names_are_named_and_hidden_or_foreign_ones_are_left_alone(
    address: str, tmp_path: Path
) -> None:
    cells = open_remote_cells(address, tmp_path)
    good = tar((RESULT_FILE, b"{}", "0"))
    for name in ("x.tar", "a/b/c/d/e.tar", "a/b/c\\d/e.tar"):
        cells.location.write(name, good)
    for name in ("README.txt", "a/.b/c/d.tar"):
        cells.location.write(name, good)
    problems = cells.mirror()
    assert len(problems) == 3
    assert all("TASK/DATA/MODEL/CELL.tar" in problem for problem in problems)
    assert not list(tmp_path.rglob(RESULT_FILE))


def test_a_tar_too_large_is_not_fetched(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = open_remote_cells(address, tmp_path)
    cells.location.write(NAME, tar((RESULT_FILE, bytes(20_000), "0")))
    monkeypatch.setattr(remote_cells, "MAX_OBJECT_BYTES", 10_000)
    monkeypatch.setattr(StorageLocation, "fetch", None)
    (problem,) = cells.mirror()
    assert "bytes, and at most 10,000 are read" in problem


def test_equal_cells_are_equal_bytes_that_tar_reads(tmp_path: Path) -> None:
    one, other = (a_cell(tmp_path / name) for name in ("a", "b"))
    for cell, name in ((one, "1.tar"), (other, "2.tar")):
        pack(cell, tmp_path / name)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as archive:
        assert archive.getnames() == ["predictions.parquet", RESULT_FILE]
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "1.tar", tmp_path / "out")
    assert files(tmp_path / "out") == files(one)


def test_addresses_and_folders() -> None:
    for text, expected in (
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("gs://b", "gs://b"),
        ("file:///tmp/x", "file:///tmp/x"),
        ("results", None),
        ("/a:/b", None),
    ):
        assert address_of(Path(text)) == expected
    folders = {copies_folder(Path("/c"), text).name for text in ("s3://a/b", "s3://a-b", "s3://a")}
    assert len(folders) == 3


@pytest.fixture
def small(tmp_path: Path, small_store: Path) -> SmallSweep:
    return SmallSweep(tmp_path, small_store)


@pytest.mark.slow
def test_a_sweep_into_a_store_has_the_bytes_of_one_into_a_folder_and_goes_on_elsewhere(
    small: SmallSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is a folder of this machine, which worker processes see too."""
    cells = small.cells("lamp:x", seeds=2)
    run(InProcess(small.bench, small.settings("folder")), cells)
    small.clear_logs()
    address = f"file://{small.folder}/store"
    settings = [small.settings(name, remote=address) for name in ("first", "second")]
    run(LocalPool(small.bench, settings[0], ["cpu"] * 2, {}), cells[:2])
    assert len(list((small.folder / "store").rglob("*.tar"))) == 2
    outcomes, _ = run(LocalPool(small.bench, settings[1], ["cpu"] * 2, {}), cells)
    assert sum(outcome.reused for outcome in outcomes.values()) == 2
    assert small.log("cells").total() == len(cells)
    place = small.folder / "copies"
    monkeypatch.setenv("G2DBENCH_REMOTE", str(place))
    found = CliRunner().invoke(app, ["verify", address, *plugins(small)])
    assert found.exit_code == 0, found.output
    assert stored(copies_folder(place, address)) == stored(small.folder / "folder")


def plugins(small: SmallSweep) -> list[str]:
    return [word for path in small.plugins for word in ("--plugin", str(path))]


def command(small: SmallSweep, address: str) -> list[str]:
    return [
        "eval", "--task", "probe", "--model", "lamp:x", "--data", "synthetic:120", "--size", "64",
        "--store", str(small.store), "--out", address, "--feature-cache-gb", "0",
        *plugins(small),
    ]  # fmt: skip


def test_commands_write_to_and_read_from_an_address(
    small: SmallSweep, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = small.folder / "copies"
    monkeypatch.setenv("G2DBENCH_REMOTE", str(place))

    def invoke(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, list(words))
        return found.exit_code, " ".join(found.output.split())

    code, output = invoke(*command(small, address))
    assert code == 0, output
    assert f"wrote {address}" in output
    again = place.with_name("other machine")
    monkeypatch.setenv("G2DBENCH_REMOTE", str(again))
    code, output = invoke(*command(small, address))
    assert code == 0, output
    assert "1 cell done (1 already on disk)" in output
    for words in (
        ("leaderboard", address, "--format", "csv"),
        ("regress", address, "--baseline", address),
        ("verify", address, *plugins(small)),
        ("report", address, "--no-images", "--out", str(small.folder / "r.html")),
        ("merge", str(small.folder / "merged"), address),
    ):
        code, output = invoke(*words)
        assert code == 0, (words, output)
    assert list((small.folder / "merged").rglob(RESULT_FILE))
    for words in (
        ("score", address, "--write"),
        ("regress", address, "--baseline", address, "--update"),
    ):
        code, output = invoke(*words)
        assert code == 2
        assert "writes into a folder" in output
    StorageLocation(address).write(NAME, b"no tar")
    code, output = invoke("leaderboard", address, "--format", "csv")
    assert code == 1
    assert "lamp" in output
    assert f"left out: {address}/{NAME} is no cell" in output


def test_a_store_that_ends_in_the_middle_keeps_the_result_here_and_sends_it_later(
    small: SmallSweep, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G2DBENCH_REMOTE", str(small.folder / "copies"))

    def gone(self: object, *words: object, **more: object) -> None:
        raise ConnectionError("the store has ended")

    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "put_file", gone)
        found = CliRunner().invoke(app, command(small, address))
        assert found.exit_code == 1, found.output
        assert "cannot be read or written (after 4 tries)" in " ".join(found.output.split())
        found = CliRunner().invoke(app, ["leaderboard", address])
        assert "1 cell of this machine could not be written" in found.output
    found = CliRunner().invoke(app, command(small, address))
    assert "1 already on disk" in " ".join(found.output.split())
    assert len(StorageLocation(address).list_versions()) == 1


@pytest.mark.parametrize(
    ("break_store", "error", "message"),
    [
        (lambda *_, **__: FileNotFoundError("NoSuchBucket"), BadData, "there is no such bucket"),
        (lambda *_, **__: PermissionError("Access Denied"), BadData, "is refused: Access Denied"),
    ],
)
def test_a_store_that_cannot_be_read_is_a_sentence(
    break_store: Callable[..., Exception],
    error: type[Exception],
    message: str,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(self: object, *words: object, **more: object) -> None:
        raise break_store()

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "find", find)
    with pytest.raises(error, match=message):
        open_remote_cells(address, tmp_path).mirror()


def test_a_missing_extra_and_stores_without_a_listing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(Misuse, match=r"pip install 'g2dbench\[remote\]'"):
        open_remote_cells("s3://bucket/x", tmp_path)
    with pytest.raises(BadData, match="cannot be listed"):
        open_remote_cells("https://host/x", tmp_path)


@pytest.mark.slow
def test_an_s3_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto's S3 server: cells, a bucket that is not there, keys that are missing."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="cells")
        places = [tmp_path / name for name in ("here", "there")]
        here, there = (open_remote_cells("s3://cells/a", place) for place in places)
        _check_versions(here, there)
        nobody = open_remote_cells("s3://nobody/x", tmp_path / "nobody")
        cell = a_cell(nobody.folder)
        with pytest.raises(BadData, match=r"s3://nobody/x.* there is no such bucket"):
            nobody.replace(cell)
        with pytest.raises(BadData, match="s3://nobody/x"):
            nobody.mirror()
    finally:
        server.stop()


def _check_versions(here: RemoteCells, there: RemoteCells) -> None:
    cells = [a_cell(here.folder, seed) for seed in range(3)]
    for cell in cells:
        here.replace(cell)
    listed = here.location.list_versions()
    assert listed == {name: here.location.version(name) for name in listed}
    assert there.mirror() == here.mirror() == []
    (cells[0] / "predictions.parquet").write_text("changed")
    here.replace(cells[0])
    there.mirror()
    for cell in cells:
        assert files(there.folder / cell.relative_to(here.folder)) == files(cell)
    here.location._opened[0].rm(here.location.path(NAME))
    there.mirror()
    assert len(list(there.folder.rglob(RESULT_FILE))) == 2
