"""Counts in sentences: the one place that decides between "1 cell" and "2 cells"."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`(1, "cell")` -> "1 cell", `(2000, "cell")` -> "2,000 cells".

    plural: for a noun whose plural is not the noun with an s ("study", "studies").
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
