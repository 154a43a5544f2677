"""The embedded radiographs are the same bytes on every processor: golden digests and imitations.

`python test_same_everywhere.py COUNT SIZE` prints the digest of the first COUNT images.
"""

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__

from g2dbench.data.synthetic import synthetic
from g2dbench.sample import Sample
from g2dbench.system import arithmetic

GOLDEN = {
    (240, 64): "898e855745cb583f7c5aac4e17e143633baff3c9afb1eaba46127ff02812f69d",
    (60, 128): "7a467a54a67b52be93de53e7bef182dbd1d122dbb807873911a7fa92228614d3",
    (3000, 64): "082b9ef93e5979b07476b29c46924720cda1695fe0369ae3ff937c94a00a606e",
    (3000, 128): "d5e048c741543f4a44d87394002b1cf75eca6ef3d6f3027097b176c7c4a8dca2",
}
"""Digest by number of images and size; a changed digest means that the data have changed."""

AVX512 = " ".join(name for name in __cpu_dispatch__ if name.startswith(("AVX512", "X86_V4")))
PROCESSORS = {
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": AVX512, "OPENBLAS_CORETYPE": "Haswell"},
    "without AVX2": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__),
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "C library without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA"},
}


def digest(count: int, size: int) -> str:
    """The SHA-256 of everything known about the first `count` images."""
    total = hashlib.sha256()
    for index in range(count):
        for part in parts(synthetic.generate(index, size)):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def parts(sample: Sample) -> list[bytes]:
    known = (sample.id, sample.patient, sample.study, sample.view, sample.sex, sample.age)
    told = (sample.split, sample.report, sorted((sample.labels or {}).items()))
    boxes = [(b.finding, b.x0, b.y0, b.x1, b.y1) for b in sample.boxes or ()]
    masks = [
        part
        for name, mask in sorted((sample.masks or {}).items())
        for part in (name.encode(), np.packbits(mask).tobytes())
    ]
    return [repr((known, told, boxes)).encode(), sample.image.tobytes(), *masks]


@pytest.mark.parametrize("key", [(240, 64), (60, 128)])
def test_the_first_images_are_the_golden_ones(key: tuple[int, int]) -> None:
    assert digest(*key) == GOLDEN[key]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [64, 128])
def test_all_images_are_the_golden_ones(size: int) -> None:
    assert digest(3000, size) == GOLDEN[3000, size]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_imitated_processors_draw_the_same(processor: str) -> None:
    command = [sys.executable, __file__, "240", "64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **PROCESSORS[processor]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == GOLDEN[240, 64]


NUMPY = {
    *("abs", "arange", "array", "asarray", "ascontiguousarray", "bincount", "ceil", "clip"),
    *("column_stack", "concatenate", "cumsum", "diff", "empty", "errstate", "flatnonzero"),
    *(
        "floor",
        "frexp",
        "full",
        "isin",
        "ix_",
        "ldexp",
        "maximum",
        "minimum",
        "ones",
        "repeat",
        "rint",
    ),
    *("round", "searchsorted", "sign", "sqrt", "square", "stack", "take", "tile", "where"),
    *("zeros", "zeros_like", "bool_", "float32", "float64", "floating", "int32", "int64"),
    *("intp", "newaxis", "uint8", "uint64"),
}
"""The NumPy functions that may be used: rounded as IEEE 754 specifies, or without arithmetic.

cumsum is given whole numbers only; bincount adds to each bin in the order of its input.
"""
ELSEWHERE = {
    "math": {"sqrt", "prod", "factorial"},
    "ndimage": {"label", "find_objects"},
}
ORDERED = {"sum", "mean", "std", "var", "dot", "prod", "cumsum", "trace"}
"""Methods of arrays whose result depends on the order of adding."""
DRAWING = [*sorted(Path(synthetic.__file__).parent.glob("*.py")), Path(arithmetic.__file__)]


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.stem)
def test_the_drawing_uses_only_what_every_processor_rounds_alike(path: Path) -> None:
    allowed = {"np": NUMPY, **ELSEWHERE}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Pow | ast.MatMult), f"{path.name} has ** or @"
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner in allowed:
            assert node.attr in allowed[owner], f"{where}: {owner}.{node.attr}"
        else:
            assert node.attr not in ORDERED, f"{where}: .{node.attr}()"


if __name__ == "__main__":
    print(digest(int(sys.argv[1]), int(sys.argv[2])))
