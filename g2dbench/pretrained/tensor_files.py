"""Writes safetensors files whole or not at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from g2dbench.system.files import replace_file


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors that share no memory; errors as from `replace_file`.

    safetensors writes a temporary file beside its target, and a killed process leaves it behind
    under a name that tells nothing (`.tmpXXXXXX`). So it writes into a folder that names this
    process: the next writer removes it when the process is dead.
    """

    facts = None if metadata is None else dict(metadata)

    def write(temporary: Path) -> None:
        place = temporary.with_suffix(".folder")
        place.mkdir()
        try:
            save_file(dict(tensors), place / path.name, facts)
            (place / path.name).replace(temporary)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    replace_file(path, write)
