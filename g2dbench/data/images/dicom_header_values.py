"""Numbers of a DICOM header that stand for stored pixel values, read in the format of the pixels.

Such an element is signed if the pixels are signed (`US or SS`), but many writers do not follow
this: a padding of -2000 is often written as 63536, which has the same 16 bits, and a file with
implicit VR does not say which format is meant. Therefore the 16 bits of a header number are
interpreted as those of a pixel are: limited to BitsStored, and signed if the pixels are signed.
"""

from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

Values = NDArray[Any]

_WORD_MASK = 0xFFFF


def stored_values(pixels: Values, dataset: pydicom.Dataset) -> Values:
    """Extract the stored values from pixel words.

    Bits outside the stored ones, where old files keep overlays, are dropped, and signed values are
    sign-extended. Old files may store their bits at the upper end of a word, as HighBit says.
    """
    if pixels.dtype.kind not in "iu":
        return pixels
    size, bits = pixels.dtype.itemsize * 8, int(dataset.BitsStored)
    below = _lowest_bit(dataset, size)
    above = size - bits - below
    return pixels if above <= 0 and below == 0 else (pixels << above) >> (above + below)


def _lowest_bit(dataset: pydicom.Dataset, size: int) -> int:
    """The position of a value's lowest bit in its word; 0 for compressed pixels."""
    syntax = getattr(dataset, "file_meta", pydicom.Dataset()).get("TransferSyntaxUID")
    bits = int(dataset.BitsStored)
    high = int(dataset.get("HighBit") or bits - 1)
    is_usual = (syntax is not None and syntax.is_compressed) or not bits - 1 <= high < size
    return 0 if is_usual else high - bits + 1


def stored_range(dataset: pydicom.Dataset) -> tuple[int, int]:
    """The smallest and the largest value that the stored bits can hold."""
    count = 1 << int(dataset.get("BitsStored") or 16)
    return (-count // 2, count // 2 - 1) if dataset.get("PixelRepresentation") else (0, count - 1)


def padding_mask(raw: Values, pixels: Values, dataset: pydicom.Dataset) -> NDArray[np.bool_]:
    """Return which pixels are padding; padding must not widen the range of the other pixels.

    raw: pixel words as in the file; pixels: the values that they store. A padding value that no
    stored value can equal, such as 65535 in a 12-bit image, is searched in the raw words: reduced
    to 12 bits it would equal a real level.
    """
    if raw.dtype.kind == "f":
        ends = [dataset.get(f"FloatPixelPadding{name}") for name in ("Value", "RangeLimit")]
        return _between(raw, [float(end) for end in ends if end is not None])
    numbers = [_header_number(dataset, f"PixelPadding{name}") for name in ("Value", "RangeLimit")]
    if numbers[0] is None:
        return np.zeros(raw.shape, dtype=bool)
    present = [number for number in numbers if number is not None]
    values = [
        value for number in present if (value := _as_stored_value(number, dataset)) is not None
    ]
    if len(values) == len(present):
        return _between(pixels, values)
    unsigned_words = raw.view(f"u{raw.dtype.itemsize}").astype(np.int64) & _WORD_MASK
    return _between(unsigned_words, [number & _WORD_MASK for number in present])


def table_size_and_start(
    table: pydicom.Dataset, input_range: tuple[float, float]
) -> tuple[int, int]:
    """Return the number of entries of a lookup table and the input value of its first entry.

    input_range: the smallest and the largest input. The first input is read as signed or as
    unsigned, whichever makes the table cover more of this range.
    """
    descriptor = table.LUTDescriptor
    if isinstance(descriptor, bytes):
        order = "<u2" if table.original_encoding[1] else ">u2"
        descriptor = np.frombuffer(descriptor, order)
    count = int(descriptor[0]) & _WORD_MASK or _WORD_MASK + 1
    unsigned = int(descriptor[1]) & _WORD_MASK
    low, high = input_range

    def overlap(first: int) -> float:
        return min(first + count - 1, high) - max(first, low)

    return count, max((unsigned, _as_signed(unsigned, 16)), key=overlap)


def _header_number(dataset: pydicom.Dataset, name: str) -> int | None:
    """Return a number of the header, also from an element of unknown VR; None if it is empty."""
    value: Any = dataset.get(name)
    if isinstance(value, bytes):
        order = "<u2" if dataset.original_encoding[1] else ">u2"
        value = np.frombuffer(value, order)[0] if len(value) == 2 else None
    if value is None:
        return None
    return int(np.ravel(value)[0])


def _as_stored_value(number: int, dataset: pydicom.Dataset) -> int | None:
    """The stored value that a header number stands for; None if no stored value can equal it."""
    low, high = stored_range(dataset)
    bits = int(dataset.get("BitsStored") or 16)
    unsigned = number & _WORD_MASK
    readings = (number, unsigned, _as_signed(unsigned, 16), _as_signed(unsigned, bits))
    return next((reading for reading in readings if low <= reading <= high), None)


def _as_signed(number: int, bits: int) -> int:
    """Read an unsigned number of `bits` bits as signed; a larger number is returned unchanged."""
    return number - (1 << bits) if 1 << (bits - 1) <= number < 1 << bits else number


def _between(values: Values, ends: list[int] | list[float]) -> NDArray[np.bool_]:
    """Which values lie between the smallest and the largest end, inclusive; none without ends."""
    if not ends:
        return np.zeros(values.shape, dtype=bool)
    return np.asarray((values >= min(ends)) & (values <= max(ends)))
