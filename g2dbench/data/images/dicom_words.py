"""Numbers of a DICOM header that stand for stored pixel values, in the pixels' own format.

Such an element is unsigned or signed as the pixels are (`US or SS`), but writers mix them up: a
padding of -2000 stands in many files as 63536, which are the same 16 bits, and in a file of
implicit VR nothing tells which is meant. So a header's number is taken as a word of 16 bits, and
read again as a pixel would be: bits up to BitsStored, signed where the pixels are.
"""

from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

Values = NDArray[Any]

_WORD = 0xFFFF


def stored(pixels: Values, found: pydicom.Dataset) -> Values:
    """Whole words as the values that they store.

    What old files hide beside the stored bits (overlays) is dropped, the sign of signed values is
    extended. Old files may store their bits at the upper end of a word, as HighBit says.
    """
    if pixels.dtype.kind not in "iu":
        return pixels
    size, bits = pixels.dtype.itemsize * 8, int(found.BitsStored)
    below = _lowest_bit(found, size)
    above = size - bits - below
    return pixels if above <= 0 and below == 0 else (pixels << above) >> (above + below)


def _lowest_bit(found: pydicom.Dataset, size: int) -> int:
    """The place of a value's lowest bit in its word; decoders of compressed pixels leave it 0."""
    syntax = getattr(found, "file_meta", pydicom.Dataset()).get("TransferSyntaxUID")
    bits = int(found.BitsStored)
    high = int(found.get("HighBit") or bits - 1)
    is_usual = (syntax is not None and syntax.is_compressed) or not bits - 1 <= high < size
    return 0 if is_usual else high - bits + 1


def limits(found: pydicom.Dataset) -> tuple[int, int]:
    """The smallest and the largest value that the stored bits can hold."""
    count = 1 << int(found.get("BitsStored") or 16)
    return (-count // 2, count // 2 - 1) if found.get("PixelRepresentation") else (0, count - 1)


def padding(words: Values, pixels: Values, found: pydicom.Dataset) -> NDArray[np.bool_]:
    """Pixels that the scanner filled in; they must not stretch the range of the others.

    words: as they lie in the file; pixels: the values that they store. A padding that no stored
    value can be, such as 65535 in an image of 12 bits, is looked for in the whole words: cut to 12
    bits it would be a real level.
    """
    if words.dtype.kind == "f":
        ends = [found.get(f"FloatPixelPadding{name}") for name in ("Value", "RangeLimit")]
        return _between(words, [float(end) for end in ends if end is not None])
    numbers = [_number(found, f"PixelPadding{name}") for name in ("Value", "RangeLimit")]
    if numbers[0] is None:
        return np.zeros(words.shape, dtype=bool)
    told = [number for number in numbers if number is not None]
    values = [value for number in told if (value := _value(number, found)) is not None]
    if len(values) == len(told):
        return _between(pixels, values)
    whole = words.view(f"u{words.dtype.itemsize}").astype(np.int64) & _WORD
    return _between(whole, [number & _WORD for number in told])


def descriptor(table: pydicom.Dataset, possible: tuple[float, float]) -> tuple[int, int]:
    """How many entries a lookup table has, and the input that the first of them is for.

    possible: the smallest and the largest input. Of the signed and the unsigned reading of that
    first input it is the one whose table covers more of them.
    """
    found = table.LUTDescriptor
    if isinstance(found, bytes):
        found = np.frombuffer(found, "<u2" if table.original_encoding[1] else ">u2")
    count, unsigned = int(found[0]) & _WORD or _WORD + 1, int(found[1]) & _WORD
    low, high = possible

    def reach(first: int) -> float:
        return min(first + count - 1, high) - max(first, low)

    return count, max((unsigned, _signed(unsigned, 16)), key=reach)


def _number(found: pydicom.Dataset, name: str) -> int | None:
    """A number of the header, of known format or not; None where it is empty."""
    value: Any = found.get(name)
    if isinstance(value, bytes):
        order = "<u2" if found.original_encoding[1] else ">u2"
        value = np.frombuffer(value, order)[0] if len(value) == 2 else None
    if value is None:
        return None
    return int(np.ravel(value)[0])


def _value(number: int, found: pydicom.Dataset) -> int | None:
    """The stored value that a number of the header means; None where no stored value can be it."""
    low, high = limits(found)
    bits = int(found.get("BitsStored") or 16)
    unsigned = number & _WORD
    readings = (number, unsigned, _signed(unsigned, 16), _signed(unsigned, bits))
    return next((reading for reading in readings if low <= reading <= high), None)


def _signed(number: int, bits: int) -> int:
    """An unsigned number of so many bits as a signed one; a larger one as it is."""
    return number - (1 << bits) if 1 << (bits - 1) <= number < 1 << bits else number


def _between(values: Values, ends: list[int] | list[float]) -> NDArray[np.bool_]:
    """Which values lie from the smaller to the larger end; none where there is no end."""
    if not ends:
        return np.zeros(values.shape, dtype=bool)
    return np.asarray((values >= min(ends)) & (values <= max(ends)))
