"""Runs the commands of docs/walkthrough.md, and writes their output into the page.

    python benchmarks/embedded_results.py           # run, in build/walkthrough
    python benchmarks/embedded_results.py --write   # the same, then write the output into the page

The page is the program: every block below a mark `<!-- run -->` is run, in the order of the page,
in one folder. The mark may say how much of the output is shown, and the exit code if it is not 0:

    <!-- run: first 10, last 3, exit 1 -->

A block that has been run is not run again, so that a stopped program continues; after a change of
an earlier block, or of g2dbench, start with an empty --folder. It took 38 minutes beside
other work, of which 21 are the sweep.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "walkthrough.md"
WIDTH = 300
"""Longer lines of output are cut."""

_BLOCK = re.compile(
    r"(?P<head><!-- run(?:: (?P<options>[^>]*))? -->\n"
    r"```(?P<language>sh|python)\n(?P<text>.*?)^```\n)"
    r"(?:\n```\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
FIGURES = "walkthrough"
_FIGURE = re.compile(rf"\]\({FIGURES}/([\w.]+)\)")
_OPTION = re.compile(r"(first|last|exit) (\d+)")


@dataclass(frozen=True)
class Block:
    """A block that is run.

    first, last: lines of output to show; None for all. code: the exit code that it must have.
    """

    language: str
    text: str
    output: str | None
    first: int | None = None
    last: int = 0
    code: int = 0


@dataclass(frozen=True)
class Done:
    """What a block has printed, on both streams, and how long it took."""

    output: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=PROJECT / "build" / "walkthrough")
    parser.add_argument("--write", action="store_true", help="write the output into the page")
    args = parser.parse_args()
    folder: Path = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    done = list(run_all(list(blocks(page)), folder))
    print(f"{len(done)} blocks, {sum(each.seconds for each in done) / 60:.1f} minutes")
    if args.write:
        shown = [each.output.replace(f"{folder}/", "") for each in done]
        PAGE.write_text(with_outputs(page, shown), encoding="utf-8")
        for name in _FIGURE.findall(page):
            (PAGE.parent / FIGURES).mkdir(exist_ok=True)
            shutil.copyfile(folder / name, PAGE.parent / FIGURES / name)


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are run, in its order."""
    for found in _BLOCK.finditer(page):
        options = {name: int(number) for name, number in _OPTION.findall(found["options"] or "")}
        yield Block(
            found["language"],
            found["text"],
            found["output"],
            first=options.get("first"),
            last=options.get("last", 0),
            code=options.get("exit", 0),
        )


def run_all(found: list[Block], folder: Path) -> Iterator[Done]:
    """Run the blocks; those that have been run are read from the folder."""
    for at, block in enumerate(found):
        before = sum(other.text == block.text for other in found[:at])
        name = hashlib.sha256(f"{before} {block.text}".encode()).hexdigest()[:16]
        yield once(block, folder, folder / ".outputs" / f"{name}.json")


def once(block: Block, folder: Path, stored: Path) -> Done:
    """Run a block, or read what it printed when it was run."""
    if stored.is_file():
        return Done(**json.loads(stored.read_text(encoding="utf-8")))
    began = time.perf_counter()
    code, output = run(block, folder)
    done = Done(output, time.perf_counter() - began)
    title = block.text.strip().splitlines()[-1]
    print(f"{done.seconds:6.1f} s  {title[:90]}", flush=True)
    if code != block.code:
        raise SystemExit(f"{block.text}\n{output}\nexit code {code}, not {block.code}")
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(json.dumps(vars(done)), encoding="utf-8")
    return done


def run(block: Block, folder: Path) -> tuple[int, str]:
    """The exit code and the output of a block, run in the folder with this Python's g2dbench."""
    commands = {"sh": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = {
        "PATH": scripts, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "G2DBENCH_STORE": "store", "G2DBENCH_FEATURES": "features",
    }  # fmt: skip
    done = subprocess.run(
        [*commands[block.language], block.text], check=False, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **settings},
    )  # fmt: skip
    return done.returncode, done.stdout


def with_outputs(page: str, outputs: list[str]) -> str:
    """The page with these outputs below its blocks."""
    following = iter(zip(blocks(page), outputs, strict=True))

    def replaced(found: re.Match[str]) -> str:
        text = shortened(*next(following))
        return f"{found['head']}\n```\n{text}```\n" if text else found["head"]

    return _BLOCK.sub(replaced, page)


def shortened(block: Block, output: str) -> str:
    """The lines to show, each with a line break; `...` stands for those that are left out."""
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    lines = [line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..." for line in lines]
    if block.first is not None and len(lines) > block.first + block.last + 1:
        lines = [*lines[: block.first], "...", *lines[len(lines) - block.last :]]
    if block.code:
        lines.append(f"[exit code {block.code}]")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
