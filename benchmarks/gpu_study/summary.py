"""Tables of the study as Markdown: scores by arm, the fitness of the bench, precision of masks."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from scipy import stats

from benchmarks.gpu_study.jobs import TRAIN, Row
from benchmarks.gpu_study.plan import ARMS, CELLS, MARGINS, PRECISION, SCALES, UNTRAINED

CEILINGS = ("labels", "told", "named")
"""Arms that are told the ground truth."""

Interval = tuple[float, float]


def interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean over trainings (Student's t); infinite for a single one."""
    if len(values) < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def scores(rows: Sequence[Row], scale: str, cell: str) -> dict[str, dict[int, float]]:
    """Arm -> seed -> score in per cent, in the order of ARMS."""
    found: dict[str, dict[int, float]] = {}
    for arm in ARMS:
        of_arm = {
            row["seed"]: 100 * row["value"]
            for row in rows
            if (row["scale"], row["cell"], row["arm"]) == (scale, cell, arm) and "value" in row
        }
        if of_arm:
            found[arm] = dict(sorted(of_arm.items()))
    return found


def is_fit(floor: Sequence[float], ceiling: Sequence[float], margin: float) -> bool:
    """Whether the ceiling is this far above the floor, and their intervals do not touch."""
    apart = interval(ceiling)[0] > interval(floor)[1]
    return bool(floor and ceiling and apart and fmean(ceiling) - fmean(floor) >= margin)


def verdict(found: dict[str, dict[int, float]], task: str) -> str:
    """One sentence: is this cell fit to tell a better model from a worse one?"""
    ceilings = {arm: list(found[arm].values()) for arm in CEILINGS if arm in found}
    if UNTRAINED not in found or not ceilings or task not in MARGINS:
        return ""
    floor = list(found[UNTRAINED].values())
    best = max(ceilings, key=lambda arm: fmean(ceilings[arm]))
    gap = fmean(ceilings[best]) - fmean(floor)
    word = "fit" if is_fit(floor, ceilings[best], MARGINS[task]) else "NOT fit"
    return f"{word}: '{best}' is {gap:+.1f} from the floor, {MARGINS[task]:g} are wanted"


def score_table(rows: Sequence[Row], scale: str, cell: str) -> Iterator[str]:
    """The lines of a cell's table."""
    found = scores(rows, scale, cell)
    if not found:
        return
    yield f"\n### {cell}, {scale}\n"
    yield "| arm | mean | SD | 95 % interval | minus none, per seed | scores |"
    yield "|---|---|---|---|---|---|"
    for arm, by_seed in found.items():
        values = list(by_seed.values())
        low, high = interval(values)
        spread = f"{stdev(values):.1f}" if len(values) > 1 else "-"
        none = found.get("none", {})
        differences = [value - none[seed] for seed, value in by_seed.items() if seed in none]
        minus = f"{fmean(differences):+.1f} ({_list(differences, '+.1f')})" if differences else "-"
        around = f"{low:.1f} to {high:.1f}" if len(values) > 1 else "-"
        yield (
            f"| {arm} | {fmean(values):.1f} | {spread} | {around} | "
            f"{'-' if arm == 'none' else minus} | {_list(values, '.1f')} |"
        )
    if sentence := verdict(found, CELLS[cell].task):
        yield f"\n{sentence}"


def mask_table(rows: Sequence[Row], scale: str) -> Iterator[str]:
    """The lines of the table of mask precision: means over seeds, precision as times chance."""
    measured = [row for row in rows if (row["scale"], row["cell"]) == (scale, PRECISION)]
    if not any("masks" in row for row in measured):
        return
    yield f"\n### Precision of masks, {scale} (times chance, per seed)\n"
    yield "| arm | source | threshold | own | another's | recall | area | IoU of two | chance |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for arm in ARMS:
        of_arm = [row["masks"] for row in measured if row["arm"] == arm and "masks" in row]
        for at in range(len(of_arm[0]) if of_arm else 0):
            each = [masks[at] for masks in of_arm]
            own = _list([mask["pooled"] / mask["chance"] for mask in each], ".1f")
            other = fmean(mask["other"] / mask["chance"] for mask in each)
            rest = [fmean(mask[name] for mask in each) for name in ("recall", "area", "iou")]
            chance = fmean(mask["chance"] for mask in each)
            yield (
                f"| {arm} | {each[0]['source']} | {each[0]['threshold']} | {own} | {other:.1f} | "
                f"{rest[0]:.2f} | {rest[1]:.2f} | {rest[2]:.2f} | {chance:.3f} |"
            )


def training_table(rows: Sequence[Row], scale: str) -> Iterator[str]:
    """The lines of the table of trainings."""
    found = [
        row for row in rows
        if (row["scale"], row["cell"]) == (scale, TRAIN) and "failed" not in row
    ]  # fmt: skip
    if not found:
        return
    yield f"\n### Trainings, {scale}\n"
    yield "| arm | seed | pairs | seconds | images/s | R@10 | chance | entropy | IoU of two masks |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in found:
        names = ("images_per_s", "r10", "chance_r10", "attention_entropy", "mask_overlap")
        rest = " | ".join(f"{row[name]:.3g}" if name in row else "-" for name in names)
        yield (f"| {row['arm']} | {row['seed']} | {row['pairs']} | {row['seconds']:.0f} | {rest} |")


def summary(rows: Sequence[Row], facts: Sequence[str]) -> str:
    """The whole report; facts: sentences about the machine, the data and what is missing."""
    lines = ["# GPU study", "", *facts]
    for scale in SCALES:
        for cell in CELLS:
            lines += score_table(rows, scale, cell)
        lines += mask_table(rows, scale)
        lines += training_table(rows, scale)
    failed = [row for row in rows if "failed" in row]
    if failed:
        lines += ["\n### Failed\n"]
        lines += [
            f"- {row['scale']}, {row['arm']}, seed {row['seed']}, {row['cell']}: {row['failed']}"
            for row in failed
        ]
    return "\n".join(lines) + "\n"


def _list(values: Sequence[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)
