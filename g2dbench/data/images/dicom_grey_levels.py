"""From the values that a DICOM file stores to those that a viewer shows (PS3.3 C.7.6.3, C.11).

In this order: mask to BitsStored, Modality LUT or rescale, VOI LUT or window (the first of
several), invert MONOCHROME1, paint the padding black. An 8-bit image that nothing of this changes
keeps its values. Tables and windows are written out here: pydicom 3.0's `apply_voi` wraps indices
around where a table has 8-bit entries, and its windows turn an image around whose slope is
negative; elsewhere the tests hold both against each other. `dicom_words` reads the header's numbers
in the pixels' own format.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from g2dbench.data.images import dicom_words
from g2dbench.errors import BadData
from g2dbench.system.arithmetic import exp

Values = NDArray[Any]

SLACK = 2.5
"""Levels by which a window may miss 0 or 255 and still be taken to cover an 8-bit image."""


def shown(pixels: Values, found: pydicom.Dataset) -> Values:
    """(H, W) stored values as shown, bright is dense: uint8 unchanged, otherwise float64.

    Only the order of what is not uint8 means something: it is stretched later. Padding of 8-bit
    images stays as it is, for their 0 and 255 are also real levels. ValueError or BadData where
    the header makes no sense.
    """
    words = pixels
    pixels = dicom_words.stored(words, found)
    if (plain := _plain(pixels, found)) is not None:
        return 255 - plain if _is_inverse(found) else plain
    padding = dicom_words.padding(words, pixels, found)
    levels = _voi(_modality(pixels, found), found)
    if _is_inverse(found):
        levels = -levels
    if padding.any() and not padding.all():
        levels[padding] = levels[~padding].min()
    return levels


def _is_inverse(found: pydicom.Dataset) -> bool:
    return str(found.get("PhotometricInterpretation")) == "MONOCHROME1"


def _plain(pixels: Values, found: pydicom.Dataset) -> NDArray[np.uint8] | None:
    """8-bit levels that are shown as stored; None where depth, a table or a window forbid it."""
    is_eight = pixels.dtype.kind == "u" and int(found.BitsStored) == 8
    tables = found.get("ModalityLUTSequence") or found.get("VOILUTSequence")
    if not is_eight or tables or _rescale(found) != (1, 0):
        return None
    return pixels.astype(np.uint8) if _is_covered(found) else None


def _rescale(found: pydicom.Dataset) -> tuple[float, float]:
    """Slope and intercept; neither counts without the other."""
    slope, intercept = found.get("RescaleSlope"), found.get("RescaleIntercept")
    return (1.0, 0.0) if slope is None or intercept is None else (float(slope), float(intercept))


def _modality(pixels: Values, found: pydicom.Dataset) -> Values:
    if found.get("ModalityLUTSequence"):
        return _looked_up(pixels, found.ModalityLUTSequence[0], dicom_words.limits(found))
    slope, intercept = _rescale(found)
    return pixels.astype(np.float64) * slope + intercept


def _modality_limits(found: pydicom.Dataset) -> tuple[float, float]:
    """The smallest and the largest value that any image of this header has behind `_modality`."""
    if found.get("ModalityLUTSequence"):
        return 0, 0xFFFF
    slope, intercept = _rescale(found)
    first, last = (end * slope + intercept for end in dicom_words.limits(found))
    return min(first, last), max(first, last)


def _voi(levels: Values, found: pydicom.Dataset) -> Values:
    if found.get("VOILUTSequence"):
        return _looked_up(levels, found.VOILUTSequence[0], _modality_limits(found))
    window = _window(found)
    return levels if window is None else _WINDOWS[_function(found)](levels, *window)


def _looked_up(values: Values, table: pydicom.Dataset, possible: tuple[float, float]) -> Values:
    """Values, which lie in the range `possible`, through a table; its ends hold beyond it."""
    count, first = dicom_words.descriptor(table, possible)
    entries = _entries(table, count)
    if len(entries) < count:
        raise BadData(f"a table of it has {len(entries):,} entries instead of {count:,}")
    index = np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)
    return np.asarray(entries[index])


def _entries(table: pydicom.Dataset, count: int) -> NDArray[np.float64]:
    """The entries of a table, which are never negative, however they are written."""
    data = table.LUTData
    if isinstance(data, bytes):
        # Entries of 8 bits may lie in bytes; pydicom hands out the words of OW as they are.
        words = np.dtype(np.uint16).newbyteorder("<" if table.original_encoding[1] else ">")
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else words)
    numbers = np.atleast_1d(np.asarray(data, dtype=np.int64))[:count]
    return np.asarray(numbers & 0xFFFF, dtype=np.float64)


def _window(found: pydicom.Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window, None where there is none."""
    centre, width = found.get("WindowCenter"), found.get("WindowWidth")
    if centre is None or width is None:
        return None
    return _first(centre), _first(width)


def _first(value: Any) -> float:
    return float(value if np.isscalar(value) or not len(value) else value[0])


def _function(found: pydicom.Dataset) -> str:
    name = str(found.get("VOILUTFunction") or "LINEAR").strip().upper()
    if name not in _WINDOWS:
        raise BadData(f"its VOI LUT function {name!r} is none of {', '.join(_WINDOWS)}")
    return name


def _is_covered(found: pydicom.Dataset) -> bool:
    """Whether no window changes 8-bit levels, such as 128 with the width 256."""
    window = _window(found)
    if window is None:
        return True
    centre, width = window
    covers = centre - width / 2 <= SLACK and centre + width / 2 >= 255 - SLACK
    return covers and _function(found) != "SIGMOID"


def _linear(values: Values, centre: float, width: float) -> Values:
    """C.11.2.1.2.1; a window of width 1 is a threshold."""
    if width < 1:
        raise BadData(f"its window has the width {width:g}")
    if width == 1:
        return np.asarray(values > centre - 0.5, dtype=np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(values: Values, centre: float, width: float) -> Values:
    """C.11.2.1.3.2."""
    if width <= 0:
        raise BadData(f"its window has the width {width:g}")
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _sigmoid(values: Values, centre: float, width: float) -> Values:
    """C.11.2.1.3.1."""
    if width <= 0:
        raise BadData(f"its window has the width {width:g}")
    return np.asarray(1 / (1 + exp(-4 * (np.asarray(values, np.float64) - centre) / width)))


_WINDOWS: dict[str, Callable[[Values, float, float], Values]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}
