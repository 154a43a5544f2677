"""Seeded weights in an official layout, originals beside ours, and stored outputs of originals.

A golden file holds names and shapes of the original's state_dict and its outputs for weights and
images that whole numbers determine, so they are the same on every CPU. It never holds weights or
code. To write it again, give the original's checkout and G2DBENCH_WRITE_GOLDEN=1:

    G2DBENCH_ORIGINAL_EVA_X=<checkout> G2DBENCH_WRITE_GOLDEN=1 pytest tests/baselines -k eva_x
"""

import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).resolve().parents[2] / "baselines" / "golden"
TOLERANCE = 1e-4
"""Largest difference, relative to the largest value of the output."""
KEPT = 48
"""Values of each output that are stored, evenly spaced."""

State = dict[str, Tensor]
Shapes = Mapping[str, Sequence[int]]


def seeded_state(shapes: Shapes, seed: int = 0) -> State:
    """Weights of these shapes that depend on their names and the seed alone."""
    return {name: _values(name, tuple(shape), seed) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    integers = generator.integers(-1000, 1001, shape)
    unit = torch.from_numpy(np.asarray(integers, np.float32)) / 1000
    if name.endswith("running_var"):
        return 1 + unit.abs()
    if len(shape) >= 2:
        fan_in = int(np.prod(shape[1:]))
        return unit * (3 / fan_in) ** 0.5
    if name.endswith(("bias", "running_mean")) or not shape:
        return unit * 0.1
    return 1 + unit * 0.2


def seeded_images(size: int, count: int = 2, channels: int = 3) -> Tensor:
    """(count, channels, size, size) normalized images: smooth shapes and noise."""
    generator = np.random.default_rng(7)
    coarse = torch.from_numpy(generator.integers(-100, 101, (count, channels, 8, 8)) / 60).float()
    noise = torch.from_numpy(generator.integers(-100, 101, (count, channels, size, size)) / 200)
    rows = (torch.arange(size) * 8) // size
    return coarse[:, :, rows][:, :, :, rows] + noise.float()


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with seeded weights, in eval mode; buffers that are no weights stay."""
    shapes = {name: tuple(value.shape) for name, value in weights_of(module).items()}
    module.load_state_dict(seeded_state(shapes, seed), strict=False)
    return module.eval()


def weights_of(module: nn.Module) -> State:
    """The state_dict without buffers of whole numbers, such as position ids."""
    return {
        name: value
        for name, value in module.state_dict().items()
        if value.is_floating_point() or name.endswith("num_batches_tracked")
    }


def original(name: str) -> Path:
    """The checkout of an original project; skips the test where none is given."""
    variable = f"G2DBENCH_ORIGINAL_{name}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout of the original project")
    return Path(os.environ[variable])


@contextmanager
def importable(folder: Path, **stubs: Any) -> Iterator[None]:
    """The folder first on the path, with stand-ins for modules that are absent or removed."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    sys.modules.update(stubs)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if name in stubs or str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def read(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def check_live(name: str, shapes: Shapes, theirs: Mapping[str, Tensor], note: str) -> None:
    """Write the golden file if asked; the file and the original's outputs agree otherwise.

    note: which original, at which commit, with which changes.
    """
    if os.environ.get("G2DBENCH_WRITE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        content = {
            "note": note,
            "shapes": {key: list(shape) for key, shape in shapes.items()},
            "outputs": {key: _summary(value) for key, value in theirs.items()},
        }
        text = json.dumps(content, separators=(",", ":")).replace('],"', '],\n"')
        (GOLDEN / f"{name}.json").write_text(text + "\n")
    check_golden(name, theirs)


def check_golden(name: str, ours: Mapping[str, Tensor]) -> None:
    """Compare outputs with those of the golden file."""
    stored = read(name)["outputs"]
    assert stored.keys() == ours.keys()
    for key, value in ours.items():
        found, wanted = _summary(value), stored[key]
        assert found["shape"] == wanted["shape"], key
        _close(torch.tensor(found["values"]), torch.tensor(wanted["values"]), key)


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """All outputs agree to the tolerance."""
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert ours[key].shape == theirs[key].shape, key
        _close(ours[key].double(), theirs[key].double(), key)


def _summary(value: Tensor) -> dict[str, Any]:
    flat = value.detach().double().flatten()
    at = torch.linspace(0, len(flat) - 1, min(KEPT, len(flat))).round().long()
    kept = torch.cat([flat[at], flat.mean()[None], flat.abs().mean()[None]])
    return {"shape": list(value.shape), "values": [float(f"{v:.7g}") for v in kept.tolist()]}


def _close(found: Tensor, wanted: Tensor, key: str) -> None:
    scale = max(float(wanted.abs().max()), 1e-6)
    gap = float((found - wanted).abs().max()) / scale
    assert gap < TOLERANCE, f"{key} differs by {gap:.2g} of its largest value"
