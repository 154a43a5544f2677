"""Convert the stored values of a DICOM file to displayed gray levels (PS3.3 C.7.6.3, C.11).

The steps, in this order: mask to BitsStored, apply the Modality LUT or rescale, apply the VOI LUT
or window (the first if there are several), invert MONOCHROME1, set the padding to black. An 8-bit
image that no step changes keeps its values.

Tables and windows are implemented here because pydicom 3.0 has two faults: `apply_voi` wraps
indices around if a table has 8-bit entries, and its windows invert images with a negative slope. In
all other cases the tests compare the two implementations. `dicom_header_values` reads numbers of
the header in the number format of the pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from g2dbench.data.images import dicom_header_values
from g2dbench.errors import BadData
from g2dbench.system.arithmetic import exp

Values = NDArray[Any]

WINDOW_TOLERANCE = 2.5
"""Gray levels by which a window may miss 0 or 255 and still count as covering all 8-bit levels."""


def to_displayed_levels(pixels: Values, dataset: pydicom.Dataset) -> Values:
    """Convert (H, W) stored values to displayed gray levels; dense tissue is bright.

    8-bit images that need no transform stay uint8; all others become float64, on a scale of their
    own, which the caller stretches to 8 bits. Padding of unchanged 8-bit images is kept, because
    0 and 255 are also real levels there. ValueError or BadData if the header is inconsistent.
    """
    raw = pixels
    pixels = dicom_header_values.stored_values(raw, dataset)
    if (unchanged := _levels_without_transform(pixels, dataset)) is not None:
        return 255 - unchanged if _is_inverted(dataset) else unchanged
    padding = dicom_header_values.padding_mask(raw, pixels, dataset)
    levels = _apply_voi(_apply_modality(pixels, dataset), dataset)
    if _is_inverted(dataset):
        levels = -levels
    if padding.any() and not padding.all():
        levels[padding] = levels[~padding].min()
    return levels


def _is_inverted(dataset: pydicom.Dataset) -> bool:
    """Whether the smallest value is displayed as white."""
    return str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1"


def _levels_without_transform(pixels: Values, dataset: pydicom.Dataset) -> NDArray[np.uint8] | None:
    """The 8-bit levels that are displayed as stored; None if depth, table or window change them."""
    is_eight_bit = pixels.dtype.kind == "u" and int(dataset.BitsStored) == 8
    tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if not is_eight_bit or tables or _rescale(dataset) != (1, 0):
        return None
    return pixels.astype(np.uint8) if _keeps_eight_bit_levels(dataset) else None


def _rescale(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Slope and intercept; (1, 0) unless the header has both."""
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return (1.0, 0.0) if slope is None or intercept is None else (float(slope), float(intercept))


def _apply_modality(pixels: Values, dataset: pydicom.Dataset) -> Values:
    if dataset.get("ModalityLUTSequence"):
        return _apply_table(
            pixels, dataset.ModalityLUTSequence[0], dicom_header_values.stored_range(dataset)
        )
    slope, intercept = _rescale(dataset)
    return pixels.astype(np.float64) * slope + intercept


def _modality_limits(dataset: pydicom.Dataset) -> tuple[float, float]:
    """The smallest and largest value that `_apply_modality` can return for this header."""
    if dataset.get("ModalityLUTSequence"):
        return 0, 0xFFFF
    slope, intercept = _rescale(dataset)
    first, last = (end * slope + intercept for end in dicom_header_values.stored_range(dataset))
    return min(first, last), max(first, last)


def _apply_voi(levels: Values, dataset: pydicom.Dataset) -> Values:
    if dataset.get("VOILUTSequence"):
        return _apply_table(levels, dataset.VOILUTSequence[0], _modality_limits(dataset))
    window = _window(dataset)
    return levels if window is None else _WINDOW_FUNCTIONS[_voi_function(dataset)](levels, *window)


def _apply_table(
    values: Values, table: pydicom.Dataset, input_range: tuple[float, float]
) -> Values:
    """Map values of `input_range` through a table; inputs beyond the table take its end entry."""
    count, first = dicom_header_values.table_size_and_start(table, input_range)
    entries = _entries(table, count)
    if len(entries) < count:
        raise BadData(f"a table of it has {len(entries):,} entries instead of {count:,}")
    index = np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)
    return np.asarray(entries[index])


def _entries(table: pydicom.Dataset, count: int) -> NDArray[np.float64]:
    """The entries of a table; they are unsigned, whatever format the file declares."""
    data = table.LUTData
    if isinstance(data, bytes):
        # 8-bit entries may be stored as bytes; pydicom returns OW data as raw bytes.
        word = np.dtype(np.uint16).newbyteorder("<" if table.original_encoding[1] else ">")
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else word)
    numbers = np.atleast_1d(np.asarray(data, dtype=np.int64))[:count]
    return np.asarray(numbers & 0xFFFF, dtype=np.float64)


def _window(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Center and width of the first window; None if there is none."""
    center, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if center is None or width is None:
        return None
    return _first(center), _first(width)


def _first(value: Any) -> float:
    """The first number of an element with one or several values."""
    return float(value if np.isscalar(value) or not len(value) else value[0])


def _voi_function(dataset: pydicom.Dataset) -> str:
    """The name of the window's function, LINEAR by default; BadData if it is not a known one."""
    name = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if name not in _WINDOW_FUNCTIONS:
        raise BadData(f"its VOI LUT function {name!r} is none of {', '.join(_WINDOW_FUNCTIONS)}")
    return name


def _keeps_eight_bit_levels(dataset: pydicom.Dataset) -> bool:
    """Whether there is no window, or one that keeps 8-bit levels: center 128 and width 256."""
    window = _window(dataset)
    if window is None:
        return True
    center, width = window
    covers = center - width / 2 <= WINDOW_TOLERANCE and center + width / 2 >= 255 - WINDOW_TOLERANCE
    return covers and _voi_function(dataset) != "SIGMOID"


def _linear(values: Values, center: float, width: float) -> Values:
    """The function LINEAR (PS3.3 C.11.2.1.2.1); a window of width 1 is a threshold."""
    if width < 1:
        raise BadData(f"its window has the width {width:g}")
    if width == 1:
        return np.asarray(values > center - 0.5, dtype=np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(values: Values, center: float, width: float) -> Values:
    """The function LINEAR_EXACT (PS3.3 C.11.2.1.3.2)."""
    if width <= 0:
        raise BadData(f"its window has the width {width:g}")
    return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(values: Values, center: float, width: float) -> Values:
    """The function SIGMOID (PS3.3 C.11.2.1.3.1)."""
    if width <= 0:
        raise BadData(f"its window has the width {width:g}")
    return np.asarray(1 / (1 + exp(-4 * (np.asarray(values, np.float64) - center) / width)))


_WINDOW_FUNCTIONS: dict[str, Callable[[Values, float, float], Values]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}
