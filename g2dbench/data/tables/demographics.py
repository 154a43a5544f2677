"""Age and sex as tables and DICOM headers write them; None for a text that is not understood.

They are optional: an image is used whatever its age and sex fields hold.
"""

import math
import re

_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


def parse_age(text: str) -> float | None:
    """Return the years of a DICOM age: `051Y`, `18M`, `3W`, `10D`, or `51` as RSNA writes it."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", text.strip().upper())
    if match is None:
        return None
    per_year = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    return int(match[1]) / per_year[match[2]]


def parse_years(text: str | None) -> float | None:
    """Return an age in years, from a number or a DICOM age."""
    try:
        age = float(text or "")
    except ValueError:
        return parse_age(text or "")
    return age if math.isfinite(age) and age >= 0 else None


def parse_sex(text: str) -> str | None:
    """Return M or F from m, male, f or female in any case."""
    return _SEXES.get(text.strip().lower())
