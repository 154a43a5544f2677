"""Limits of size, depth, digits and time hold before a stranger's file is used."""

import os
import time
from pathlib import Path

import pytest

from g2dbench.errors import BadCheckpoint, BadResult, Misuse
from g2dbench.evaluation.planning.suite import read_suite
from g2dbench.evaluation.prompts import read_prompts
from g2dbench.recipes import recipe
from g2dbench.result import load
from g2dbench.runs.folder import read_info
from g2dbench.system import bounded_files
from g2dbench.system.bounded_files import parse_json, parse_toml, read_text

JSON = {
    "deep lists": "[" * 200_000 + "]" * 200_000,
    "deep objects": '{"a":' * 500 + "1" + "}" * 500,
    "digits": '{"a": ' + "9" * 100_000 + "}",
    "twenty digits": "-" + "1" * 20,
    "half": '{"a": [1, 2',
    "nothing": "",
}


@pytest.mark.parametrize("name", JSON)
def test_json_has_limits(name: str) -> None:
    with pytest.raises(ValueError):
        parse_json(JSON[name])


def test_plain_json_is_read_as_ever() -> None:
    deep = "[" * 100 + "]" * 100
    assert parse_json(deep)
    text = '{"a": [1, -2.5e300, null, "\\u00e9", 1234567890123456789], "b": {"c": NaN}}'
    assert str(parse_json(text)) == (
        "{'a': [1, -2.5e+300, None, 'é', 1234567890123456789], 'b': {'c': nan}}"
    )


TOML = {
    "a key of 30,000 parts": ".".join("a" * 30_000) + " = 1",
    "a header of 30,000 parts": "[" + ".".join("a" * 30_000) + "]",
    "quoted parts": " . ".join(['"a.b"'] * 5000) + " = 1",
    "lists": "a = " + "[" * 50_000 + "]" * 50_000,
    "tables": "a = " + "{b=" * 5000 + "1" + "}" * 5000,
    "size": "#" * 2_000_000,
    "strings that never end": 'a = "' + '\\"' * 100_000,
    "long strings that never end": 'a = """' + '"' * 2 + "x" * 100_000,
}


@pytest.mark.parametrize("name", TOML)
def test_toml_has_limits(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(TOML[name])
    start = time.process_time()
    for read, kind in ((recipe.load, Misuse), (read_suite, Misuse), (read_prompts, Misuse)):
        with pytest.raises(kind, match=r"a\.toml"):
            read(str(path) if read is not read_prompts else path)
    with pytest.raises(ValueError):
        parse_toml(TOML[name])
    assert time.process_time() - start < 3


def test_plain_toml_is_read_as_ever() -> None:
    text = "a = \"x.y.z [[[\" # [[[[\n[b.c.\"d.e\"]\nf = [[1, 2], [{g = 1}]]\nh = '''[\n['''"
    assert parse_toml(text) == {
        "a": "x.y.z [[[", "b": {"c": {"d.e": {"f": [[1, 2], [{"g": 1}]], "h": "[\n["}}}
    }  # fmt: skip


@pytest.mark.parametrize("read", [load, read_info])
def test_a_pipe_a_device_and_a_large_file_are_refused(tmp_path: Path, read) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / ("run.json" if read is read_info else "result.json")
    for make in (
        os.mkfifo,
        lambda p: p.symlink_to("/dev/zero"),
        lambda p: os.truncate(_new(p), 2**40),
    ):
        make(path)
        with pytest.raises((BadResult, BadCheckpoint), match=r"no regular file|bytes"):
            read(folder if read is read_info else path)
        path.unlink()


def _new(path: Path) -> Path:
    path.touch()
    return path


def test_a_text_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("é" * 10)
    assert read_text(path, 20) == "é" * 10
    with pytest.raises(ValueError, match="20 bytes; g2dbench reads at most 19"):
        read_text(path, 19)
    assert bounded_files.MAX_DEPTH == 100
