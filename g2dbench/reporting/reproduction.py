"""The command that repeats a stored cell, and how this installation differs from the first one."""

import platform

from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.result import Provenance, Result


def command_of(result: Result) -> list[str]:
    """The words after `g2dbench` that evaluate the cell again.

    Results of older versions have no stored command; it is then made of the cell. BadResult for an
    imported result, which no command here can repeat.
    """
    config, cell = result.provenance.config, result.cell
    if result.details.get("imported") is True:
        raise BadResult(
            f"{cell.model} on {cell.data} was imported from {result.provenance.source}: repeat it "
            "where the predictions were made"
        )
    stored = config.get("command")
    if isinstance(stored, list) and stored[:1] == ["eval"]:
        return [str(word) for word in stored]
    spec = CellSpec(
        model=result.provenance.source or cell.model,
        model_seed=cell.model_seed or 0,
        fraction=cell.fraction or 1.0,
        **cell.model_dump(exclude={"model", "model_seed", "fraction"}),
    )
    return spec.command(int(config.get("image_size", 0) or 224), int(config.get("batch_size", 32)))


def differences(before: Provenance, now: Provenance) -> list[str]:
    """One line for each version that differs; scores may differ for these reasons."""
    lines = [
        f"{name}: {old} then, {new} now"
        for name in ("version", "commit")
        if (old := getattr(before, name)) != (new := getattr(now, name)) and old is not None
    ]
    for name, old in sorted(before.packages.items()):
        if (new := now.packages.get(name, "not installed")) != old:
            lines.append(f"{name}: {old} then, {new} now")
    if before.hardware and before.hardware != now.hardware:
        lines.append(f"hardware: {before.hardware} then, {now.hardware or platform.machine()} now")
    return lines
