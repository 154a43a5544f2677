"""Pixels that pass through our arithmetic are the same on every processor."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__
from pydicom.dataset import Dataset

from g2dbench.data.annotations.masks import resize
from g2dbench.data.images.dicom import LUMA_WEIGHTS, _render
from g2dbench.data.images.dicom_gray_levels import to_displayed_levels
from g2dbench.data.images.image_file import shrink

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 65536, (61, 67, 3), dtype=np.uint16)
DEEP = RNG.integers(0, 4096, (150, 140), dtype=np.uint16)


def header(**fields: object) -> Dataset:
    found = pydicom.Dataset()
    found.BitsStored = 12
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def sigmoid() -> np.ndarray:
    return to_displayed_levels(
        DEEP, header(WindowCenter=2000, WindowWidth=1500, VOILUTFunction="SIGMOID")
    )


def luma() -> np.ndarray:
    return _render(COLOR, header(PhotometricInterpretation="RGB"))


def test_luma_of_a_pixel_is_the_sum_from_red_to_blue() -> None:
    expected = [
        [r * LUMA_WEIGHTS[0] + g * LUMA_WEIGHTS[1] + b * LUMA_WEIGHTS[2] for r, g, b in row]
        for row in COLOR.tolist()
    ]
    np.testing.assert_array_equal(luma(), expected)


def test_sigmoid_window_by_definition() -> None:
    expected = 1 / (1 + np.exp(-4 * (DEEP.astype(np.longdouble) - 2000) / 1500))
    np.testing.assert_allclose(sigmoid(), expected.astype(np.float64), rtol=1e-14)


def digest() -> str:
    """SHA-256 of unstretched levels, a shrunk image and a shrunk mask."""
    small = shrink((DEEP >> 4).astype(np.uint8), 64)
    parts = (luma(), sigmoid(), small, resize(DEEP > 2000, 64, 61))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(
    "processor",
    [
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL", "OPENBLAS_CORETYPE": "Haswell"},
        {
            "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__),
            "OPENBLAS_CORETYPE": "Nehalem",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
        },
    ],
    ids=["without AVX-512", "without AVX2"],
)
def test_imitated_processors_decode_the_same(processor: dict[str, str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **processor}
    done = subprocess.run(
        [sys.executable, str(Path(__file__))],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest()


if __name__ == "__main__":
    print(digest())
