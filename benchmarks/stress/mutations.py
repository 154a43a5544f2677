"""Files of strangers, changed at random: refused with a sentence or read, nothing else.

Bytes are flipped, cut, repeated and inserted; values of JSON and TOML are replaced by those that
break programs; checkpoints get pickles that run code.
"""

import io
import json
import os
import pickle
import random
import shutil
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from children import Child, report
from material import Material
from table import Row, Table

BATCH, SECONDS = 25, 60
EVIL: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 2**200, 10**4400, 1e308, float("inf"), float("nan"), "",
    "x" * 5000, "\ud800", "../../../etc/passwd", "/dev/zero", "http://127.0.0.1:9/x", "imagenet",
    "tu-hf-hub:somebody/model", "somebody/model", "hf-hub:somebody/model", [], {}, [[[[]]]],
    {"a": {"b": 1}},
    "\x00", "\u202e", "{}{}", "%s%n", "__import__('os').system('true')", list(range(2000)),
]  # fmt: skip


def run(made: Material, table: Table, tries: int) -> None:
    for name, (source, mutate, use) in _kinds(made).items():
        with table.row(f"mutations of {name}") as row:
            _campaign(made.base / "mutated", row, source, mutate, use, tries)


Mutate = Callable[[Path, random.Random], object]
Use = Callable[[Path], object]


def _kinds(made: Material) -> dict[str, tuple[Path, Mutate, Use]]:
    return {
        "result.json": (made.results, _one_of("result.json", _json, _bytes), _use_results),
        "predictions.parquet": (
            made.results,
            _one_of("predictions.parquet", _parquet, _bytes),
            _use_results,
        ),
        "a run folder": (made.run, _run_folder, _use_run),
        "tokenizer.json": (made.run, _one_of("tokenizer.json", _json, _bytes), _use_tokenizer),
        "a recipe": (made.recipe.parent / "recipes", _one_of("*.toml", _toml, _bytes), _use_recipe),
        "a checkpoint": (made.run, _checkpoint, _use_checkpoint),
    }


def _campaign(place: Path, row: Row, source: Path, mutate: Mutate, use: Use, tries: int) -> None:
    """Children try a batch each; one that ends early is replaced, after its case is counted."""
    number = 0
    while number < tries:
        stop = min(number + BATCH, tries)
        first = number

        def work(first: int = first, stop: int = stop) -> int:
            for case in range(first, stop):
                report(f"case {case}")
                _try(place / str(case), source, mutate, use, random.Random(case))
            return 0

        ended = Child(work, None).wait(seconds=SECONDS + 2 * BATCH)
        cases = [int(event.split()[1]) for event in ended.events if event.startswith("case ")]
        for event in ended.events:
            kind = event.split()[0]
            if kind in ("executed", "fetched", "traceback"):
                row.add(kind, event)
        number = stop
        if ended.code != 0:
            why = "a hang" if ended.signal == 9 else f"signal {ended.signal}, exit {ended.code}"
            row.add("traceback", f"case {cases[-1]}: {why}: {ended.text[-500:]}")
            number = cases[-1] + 1
        row.tried += number - first
        shutil.rmtree(place, ignore_errors=True)


def _try(folder: Path, source: Path, mutate: Mutate, use: Use, draw: random.Random) -> None:
    from g2dbench.errors import G2DBenchError

    shutil.copytree(source, folder)
    mutate(folder, draw)
    began, sink = time.monotonic(), io.StringIO()
    real = sys.stdout, sys.stderr
    try:
        sys.stdout = sys.stderr = sink
        use(folder)
    except (G2DBenchError, SystemExit):
        pass
    except BaseException as error:
        told = "".join(traceback.format_exception(error)[-3:])
        report(f"traceback {folder.name}: {type(error).__name__}: {error}: {told}"[:1500])
    finally:
        sys.stdout, sys.stderr = real
    if "Traceback (most recent" in sink.getvalue():
        report(f"traceback {folder.name}: {sink.getvalue()[-800:]}")
    if time.monotonic() - began > SECONDS:
        report(f"traceback {folder.name}: {time.monotonic() - began:.0f} seconds")
    if (folder / "pwned").exists() or Path("pwned").exists():
        report(f"executed {folder.name}: a marker was written")


def _one_of(pattern: str, *ways: Callable[[Path, random.Random], object]) -> Mutate:
    def mutate(folder: Path, draw: random.Random) -> None:
        path = draw.choice(sorted(folder.rglob(pattern)))
        draw.choice(ways)(path, draw)

    return mutate


def _bytes(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(data) + 1)
        size = min(draw.choice((1, 4, 100)), len(data) - at)
        way = draw.randrange(6)
        if way == 0 and size:
            data[at] ^= 1 << draw.randrange(8)
        elif way == 1:
            del data[at:]
        elif way == 2:
            data[at:at] = data[at : at + size] * draw.choice((1, 50))
        elif way == 3:
            data[at : at + size] = draw.randbytes(size)
        elif way == 4:
            data[at : at + size] = bytes(size)
        else:
            del data[at : at + size]
    path.write_bytes(data)


def _json(path: Path, draw: random.Random) -> None:
    raw = _replace_value(json.loads(path.read_text()), draw)
    sys.set_int_max_str_digits(0)
    text = json.dumps(raw)
    sys.set_int_max_str_digits(4300)
    if draw.random() < 0.05:
        text = "[" * 10**5 + text
    path.write_text(text)


def _replace_value(raw: Any, draw: random.Random) -> Any:
    """Replace, remove, add or repeat a value at a random place."""
    places: list[tuple[Any, Any]] = []
    stack = [raw]
    while stack:
        each = stack.pop()
        keys = each if isinstance(each, dict) else range(len(each))
        for key in list(keys)[:200]:
            places.append((each, key))
            if isinstance(each[key], dict | list):
                stack.append(each[key])
    for _ in range(draw.choice((1, 1, 3))):
        parent, key = draw.choice(places)
        way = draw.randrange(6)
        try:
            if way == 0:
                del parent[key]
            elif way == 1 and isinstance(parent, dict):
                parent[draw.choice(("x", "__class__", "", "a.b"))] = draw.choice(EVIL)
            elif way == 2 and isinstance(parent, list):
                parent *= draw.choice((2, 100))
            else:
                parent[key] = draw.choice(EVIL)
        except (KeyError, IndexError):
            continue
    return raw


def _parquet(path: Path, draw: random.Random) -> None:
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(path)
    column = draw.choice(list(table.columns))
    way = draw.randrange(8)
    if way == 0:
        table = table.drop(columns=column)
    elif way == 1:
        table[column] = [draw.choice(("x", "", "\u202e", "0", None)) for _ in range(len(table))]
    elif way == 2:
        table[column] = draw.choice((np.nan, np.inf, -1e308, 0, 2**62, True))
    elif way == 3:
        table = table.iloc[: draw.randrange(2)]
    elif way == 4:
        table = pd.concat([table] * draw.choice((2, 50)))
    elif way == 5:
        table[column] = [[1, 2]] * len(table)
    elif way == 6:
        table = table.rename(columns={column: draw.choice(("id", "x", "", "label:x"))})
        table = table.loc[:, ~table.columns.duplicated()]
    else:
        table[column] = pd.to_datetime(0)
    table.to_parquet(path)


def _run_folder(folder: Path, draw: random.Random) -> None:
    way = draw.randrange(10)
    names = ["run.json", "tokenizer.json", "model.safetensors", "log.csv"]
    if way == 0:
        (folder / draw.choice(names)).unlink()
    elif way == 1:
        path = folder / draw.choice(names)
        path.unlink()
        draw.choice((os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), Path.touch))(path)
    elif way == 2:
        _bytes(folder / draw.choice(names), draw)
    else:
        path = folder / "run.json"
        raw = json.loads(path.read_text())
        part = draw.choice(("architecture", "architecture", "recipe", None))
        if part:
            raw[part] = _replace_value(raw[part], draw)
        else:
            raw = _replace_value(raw, draw)
        sys.set_int_max_str_digits(0)
        path.write_text(json.dumps(raw))
        sys.set_int_max_str_digits(4300)


def _toml(path: Path, draw: random.Random) -> None:
    lines = path.read_text().splitlines()
    values = (
        "1e400", "-1", "0", "nan", "inf", "9" * 400, '""', "[]", "{}", "true", "[" * 500,
        "2024-01-01", '"../../x"', '"http://127.0.0.1:9"', '"hf-hub:a/b"', ".".join("a" * 5000),
        "1_000_000_000_000",
    )  # fmt: skip
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(lines))
        key = lines[at].partition("=")[0]
        way = draw.randrange(5)
        if way == 0:
            del lines[at]
            lines.append("")
        elif way == 1:
            lines.insert(at, draw.choice(lines))
        elif way == 2:
            lines.insert(
                at, f"{draw.choice(('x', 'a.b', 'model', '[x]', '[model.image.a.b.c]'))} = 1"
            )
        else:
            lines[at] = f"{key}= {draw.choice(values)}"
    path.write_text("\n".join(lines))


class _Evil:
    """A pickle that runs code when it is opened."""

    def __init__(self, way: int, marker: Path) -> None:
        self.way, self.marker = way, marker

    def __reduce__(self) -> Any:
        import subprocess

        touch = f"open({str(self.marker)!r}, 'w')"
        ways = [
            (os.system, (f"touch {self.marker}",)),
            (eval, (touch,)),
            (exec, (touch,)),
            (subprocess.Popen, (["touch", str(self.marker)],)),
            (open, (str(self.marker), "w")),
            (Path.touch, (self.marker,)),
            (bytearray, (10**12,)),
        ]
        return ways[self.way % len(ways)]


def _checkpoint(folder: Path, draw: random.Random) -> None:
    """The newest training state, or the weights; evil ones also inside a good archive."""
    import torch

    state = max((folder / "checkpoints").glob("step-*.pt"))
    way = draw.randrange(6)
    if way == 0:
        _bytes(folder / "model.safetensors", draw)
    elif way == 1:
        _safetensors_header(folder / "model.safetensors", draw)
    elif way == 2:
        _bytes(state, draw)
    elif way == 3:
        state.write_bytes(
            pickle.dumps(_Evil(draw.randrange(7), folder / "pwned"), draw.randrange(6))
        )
    elif way == 4:
        content = torch.load(state, weights_only=True)
        content[draw.choice(list(content))] = draw.choice([*EVIL, torch.zeros(3)])
        torch.save(content, state)
    else:
        evil = pickle.dumps({"version": 2, "x": _Evil(draw.randrange(7), folder / "pwned")}, 2)
        other = state.with_suffix(".new")
        with zipfile.ZipFile(state) as old, zipfile.ZipFile(other, "w") as new:
            for item in old.namelist():
                new.writestr(item, evil if item.endswith("data.pkl") else old.read(item))
        other.replace(state)


def _safetensors_header(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    raw = _replace_value(json.loads(data[8 : 8 + size]), draw)
    sys.set_int_max_str_digits(0)
    head = json.dumps(raw).encode(errors="replace")
    sys.set_int_max_str_digits(4300)
    length = draw.choice((len(head), len(head), 2**40, 0))
    path.write_bytes(length.to_bytes(8, "little") + head + data[8 + size :])


def _command(*words: object) -> None:
    from g2dbench.cli import app

    app([str(word) for word in words])


def _use_results(folder: Path) -> None:
    for words in (("leaderboard", folder), ("verify", folder), ("score", folder)):
        try:
            _command(*words)
        except SystemExit:
            continue


def _use_run(folder: Path) -> None:
    from g2dbench.runs.folder import load_run, scan_runs

    scan_runs(folder.parent)
    load_run(folder)


def _use_tokenizer(folder: Path) -> None:
    from g2dbench.pretrained.text.tokenizer import Tokenize, load_tokenizer

    Tokenize(load_tokenizer(folder), 12)(["no effusion", "a \u00e9 mass"])


def _use_recipe(folder: Path) -> None:
    """The recipe is read, and the method built as a training does."""
    from g2dbench.pretrained.text.tokenizer import make_tokenizer
    from g2dbench.recipes import recipe
    from g2dbench.registry import Registry

    (path,) = folder.glob("*.toml")
    found = recipe.load(str(path))
    recipe.check_method(found, None, Registry())
    make_tokenizer(found.model.get("text", {}), ["no effusion", "a mass"])


def _use_checkpoint(folder: Path) -> None:
    from g2dbench.errors import G2DBenchError
    from g2dbench.pretrained.weights import read_weights
    from g2dbench.runs.checkpoints import read_checkpoint
    from g2dbench.runs.folder import load_run

    state = max((folder / "checkpoints").glob("step-*.pt"))
    for use in (read_checkpoint, read_weights):
        try:
            use(state)
        except G2DBenchError:
            continue
    load_run(folder)
