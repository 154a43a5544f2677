"""Age and sex as tables and DICOM headers write them; None where nothing is understood.

They only decorate a record: whatever stands there, the image is kept.
"""

import math
import re

_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


def parse_age(text: str) -> float | None:
    """Years of a DICOM age: `051Y`, `18M`, `3W`, `10D`, or the bare `51` that RSNA writes."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", text.strip().upper())
    if match is None:
        return None
    per_year = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    return int(match[1]) / per_year[match[2]]


def parse_years(text: str | None) -> float | None:
    """An age in years, as a number or as DICOM writes it."""
    try:
        age = float(text or "")
    except ValueError:
        return parse_age(text or "")
    return age if math.isfinite(age) and age >= 0 else None


def parse_sex(text: str) -> str | None:
    """M or F, however it is written."""
    return _SEXES.get(text.strip().lower())
