"""The Markdown page of what `make gpu` measured."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TITLES = {
    "tests": "Correctness: tests marked `gpu`",
    "train": "Training: the published step and ours",
    "evaluate": "Evaluation",
    "loader": "The training loader",
    "compile": "torch.compile",
}


def markdown(folder: Path, state: dict[str, Any]) -> str:
    """The page; it tells which parts failed, were stopped or have not run."""
    lines = ["# g2dbench on a GPU", ""]
    lines += [f"- {name}: {value}" for name, value in state["facts"].items()]
    writers = {"tests": tests, "train": train, "evaluate": evaluate, "loader": loader}
    for name, title in TITLES.items():
        found = state["parts"].get(name) or state["failed"].get(name)
        lines += ["", f"## {title}", ""]
        if found is None:
            lines.append("Not run yet.")
            continue
        if found["status"] != "done":
            lines += [f"**{found['status']}** after {found['seconds']} s; the end of its output:"]
            lines += ["", "```", *found.get("tail", [])[-12:], "```", ""]
        try:
            lines += writers.get(name, compiled)(folder)
        except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
            lines.append(f"No figures: {type(error).__name__}: {error}")
    return "\n".join(lines) + "\n"


def tests(folder: Path) -> list[str]:
    suite = ElementTree.parse(folder / "tests.xml").getroot().find("testsuite")
    if suite is None:
        raise ValueError("tests.xml holds no test suite")
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    failed = count["failures"] + count["errors"]
    time = float(suite.get("time", 0))
    lines = [f"{passed} passed, {failed} failed, {count['skipped']} skipped in {time:.0f} s."]
    for case in suite.iter("testcase"):
        problems = [case.find("failure"), case.find("error")]
        problem = next((found for found in problems if found is not None), None)
        if problem is not None:
            said = (problem.get("message") or "").splitlines()[:1]
            lines += [f"- failed: `{case.get('name')}`: {' '.join(said)[:200]}"]
        for value in case.iter("property"):
            lines += [f"- {value.get('name')}: {value.get('value')}"]
    return lines


def train(folder: Path) -> list[str]:
    facts, rows = read(folder, "train")
    bf16, fp16, copied = (
        facts[n] for n in ("bf16_flops_per_s", "fp16_flops_per_s", "copy_bytes_per_s")
    )
    lines = [
        f"Matrix product of 8192 x 8192: {bf16 / 1e12:.0f} TFLOP/s in bf16, {fp16 / 1e12:.0f} in "
        f"fp16; a copy reads and writes {copied / 1e12:.2f} TB/s.", "",
    ]  # fmt: skip
    columns = {
        "reports (tokens)": lambda r: f"{r['reports']} ({r['tokens']:.0f})",
        "published, images/s": lambda r: f"{r['published']:.0f}",
        "ours, images/s": lambda r: f"{r['ours']:.0f}",
        "ratio": lambda r: f"**{r['ratio']:.2f}**",
        "ours, all reports new": lambda r: f"{r['ours_new_reports']:.0f}",
        "GFLOP an image, published / ours": lambda r: (
            f"{r['published_gflop_per_image']:.0f} / {r['ours_gflop_per_image']:.0f}"
        ),
        "share of the matrix peak, published / ours": lambda r: (
            f"{percent(r['published_share_of_peak'])} / {percent(r['ours_share_of_peak'])}"
        ),
        "bandwidth, at most": lambda r: percent(r["ours_share_of_bandwidth_at_most"]),
        "pseudo mask": lambda r: percent(r["mask_share"], 1),
        "GiB, published / ours": lambda r: f"{gib(r['published_gib'])} / {gib(r['ours_gib'])}",
        "spread, published / ours": lambda r: (
            f"{percent(r['published_spread'], 1)} / {percent(r['spread'], 1)}"
        ),
    }
    measured = [row for row in rows if "ratio" in row]
    lines += table({"size and batch": lambda r: r["name"], **columns}, measured) + errors(rows)
    lines += [
        "", "Bandwidth counts what every operation reads and writes, without fusion and caches: an "
        "upper bound. GiB: weights, optimizer and the peak of a step. All reports new: a step "
        "of which no report is in the cache of the frozen layers, as in a first epoch. Spread: the "
        "range of the middle half of the steps' times, over the median.", "",
    ]  # fmt: skip
    graphs = {
        "captured": lambda r: r["captured"],
        "ours, images/s": lambda r: f"{r['graph_images_per_s']:.0f}",
        "spread": lambda r: percent(r["spread"], 1),
        "peak, GiB": lambda r: gib(r["peak_gib"]),
        "losses": lambda r: ", ".join(f"{k} {v:.3f}" for k, v in r["losses"].items()),
    }
    captured = [row for row in rows if "captured" in row]
    if captured:
        lines += ["Experiment: parts of our step in CUDA graphs.", ""]
        lines += table({"size and batch": lambda r: r["name"], **graphs}, captured)
    for row in rows:
        if "host_top" in row:
            calls = ", ".join(f"{k} {v:.0f}" for k, v in row["driver_calls_per_step"].items())
            lines += ["", f"{row['name']}; calls to the driver a step: {calls or 'none'}", ""]
            lines += [f"- {line}" for line in row["host_top"][:15]]
        if "busy" in row:
            lines += [
                "", f"{row['name']}: the GPU computes {percent(row['busy'])} of the time, in "
                f"{row['kernels_per_step']:.0f} kernels a step:", "",
            ]  # fmt: skip
            lines += [f"- {line}" for line in row["top"][:15]]
    return lines


def evaluate(folder: Path) -> list[str]:
    facts, rows = read(folder, "evaluate")
    lines = [f"TensorFloat-32: cuDNN {facts['cudnn_tf32']}, matmul {facts['matmul_tf32']}.", ""]
    alone = [row for row in rows if row.get("what") == "encoder"]
    whole = [row for row in rows if row.get("what") == "engine"]
    both = {"model": lambda r: r["model"], "precision": lambda r: r["precision"]}
    lines += table(
        {
            **both, "chunk": lambda r: str(r["chunk"]),
            "encoder alone, images/s": lambda r: f"{r['images_per_s']:.0f}",
            "share of the matrix peak": lambda r: percent(r["share_of_peak"]),
        },
        alone,
    )  # fmt: skip
    rates = {
        f"{name}, images/s": lambda r, n=name: f"{r[n]:.0f}"
        for name in ("uncached", "filling", "cached")
    }
    lines += ["", *table({**both, **rates, "GiB": lambda r: gib(r["peak_gib"])}, whole)]
    return lines + errors(rows)


def loader(folder: Path) -> list[str]:
    facts, rows = read(folder, "loader")
    measured = [row for row in rows if "images_per_s" in row]
    columns = {
        "px": lambda r: str(r["size"]),
        "workers": lambda r: str(r["workers"]),
        "images from the": lambda r: r["source"],
        "images/s": lambda r: f"{r['images_per_s']:.0f}",
        "times the need of training": lambda r: (
            f"{r['times_the_need']:.2f}" if r["times_the_need"] else "not known"
        ),
        "seconds to the 4th batch": lambda r: f"{r['seconds_of_first_batches']:.2f}",
    }
    said = f"{facts['prepared_images']} images, prepared in {facts['prepared_seconds']:.0f} s."
    return [said, "", *table(columns, measured), *errors(rows)]


def compiled(folder: Path) -> list[str]:
    _, rows = read(folder, "compile")
    measured = [row for row in rows if "gain" in row]
    columns = {
        "compiled": lambda r: r["name"],
        "images/s": lambda r: f"{r['images_per_s']:.0f}",
        "gain": lambda r: f"{r['gain']:.2f}",
        "first two steps, s": lambda r: f"{r['first_two_steps_seconds']:.1f}",
        "peak, GiB": lambda r: gib(r["peak_gib"]),
        "losses": lambda r: ", ".join(f"{k} {v:.3f}" for k, v in r["losses"].items()),
    }
    return table(columns, measured) + errors(rows)


def read(folder: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found["facts"], found["rows"]


def errors(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"- {row['name']}: {row['error']}" for row in rows if "error" in row]


def table(columns: dict[str, Any], rows: Iterable[dict[str, Any]]) -> list[str]:
    lines = [[write(row) for write in columns.values()] for row in rows]
    head = [list(columns), ["---"] * len(columns)]
    return ["| " + " | ".join(line) + " |" for line in head + lines]


def percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"


def gib(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}"
