"""Broken tables: truncated, compressed, in another encoding, or not a table."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support.hostile.images import WRONG
from support.hostile.kit import BAD, BROKEN, Case, folder, pipe, png
from support.hostile.roots import HEADS


def survives(kind: str) -> tuple[str, ...]:
    """MIMIC-CXR's table has valid rows for both images; more rows cannot remove the second."""
    return (BAD,) if kind == "mimic_cxr" else ()


def rewrite(kind: str, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """A case that changes the table; None removes it."""

    def place(root: Path) -> None:
        path = root / HEADS[kind][0]
        data = change(path.read_bytes())
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    BROKEN[f"{kind} table: {name}"] = Case(kind, place, survives(kind))


def packed(name: str, data: Callable[[bytes], bytes]) -> None:
    """A case whose table is compressed and then broken."""

    def place(root: Path) -> None:
        path = root / HEADS["rsna"][0]
        broken = data(path.read_bytes())
        path.unlink()
        path.with_name(path.name + ".gz").write_bytes(broken)

    BROKEN[f"packed table: {name}"] = Case("rsna", place)


NOT_NEEDED = ("projection", "ViewPosition")
"""Optional columns of a record."""

for kind, (_, header) in HEADS.items():
    rewrite(kind, "gone", lambda data: None)
    rewrite(kind, "empty", lambda data: b"")
    rewrite(kind, "its header alone", lambda data: data.splitlines(True)[0])
    rewrite(kind, "without its header", lambda data: b"".join(data.splitlines(True)[1:]))
    rewrite(kind, "in UTF-16", lambda data: data.decode().encode("utf-16"))
    rewrite(kind, "in Latin-1", lambda data: data + "bäd,1,1,1,1,0\n".encode("latin-1"))
    rewrite(kind, "noise", lambda data: np.random.default_rng(3).bytes(3000))
    rewrite(kind, "an open quote", lambda data: data + b'bad,"' + b"1,1\n" * 9)
    rewrite(kind, "tabs for commas", lambda data: data.replace(b",", b"\t"))
    rewrite(kind, "semicolons for commas", lambda data: data.replace(b",", b";"))
    rewrite(kind, "an image for a table", lambda data: png())
    rewrite(kind, "a web page for a table", lambda data: WRONG["a web page"])
    rewrite(
        kind,
        "more cells than columns",
        lambda data: data.replace(b"\n", b",1,2\n").replace(b",1,2\n", b"\n", 1),
    )
    rewrite(kind, "a NUL in a cell", lambda data: data + b"b\0d,1,1,1,1,0\n")
    rewrite(kind, "a NUL in its header", lambda data: b"\0" + data)
    rewrite(kind, "a cell of 40 MB", lambda data: data + b"x" * 40_000_000 + b",1\n")
    rewrite(kind, "a cell of 60 MB", lambda data: data + b"x" * 60_000_000 + b",1\n")
    for column in header.split(",")[: 1 if kind == "images" else None]:  # its labels have any name
        if column in NOT_NEEDED:
            continue
        rewrite(
            kind,
            f"without {column.strip()}",
            lambda data, column=column: data.replace(column.encode(), b"unnamed", 1),
        )
    BROKEN[f"{kind} table: a pipe"] = Case(
        kind, lambda root, kind=kind: pipe(root / HEADS[kind][0])
    )
    BROKEN[f"{kind} table: a folder"] = Case(
        kind, lambda root, kind=kind: folder(root / HEADS[kind][0])
    )
for kind in ("rsna", "images"):
    rewrite(
        kind,
        "a cell of 10 MB in quotes",
        lambda data: data + b'"' + b"x\n" * 5_000_000 + b'",1\n',
    )
    rewrite(kind, "quotes within quotes", lambda data: data + b'"ba"d""",1\n')
    rewrite(kind, "NULs alone", lambda data: bytes(5000))
    rewrite(kind, "a header of 100,000 columns", lambda data: b"a," * 100_000 + b"\n" + data)
    rewrite(kind, "in UTF-32", lambda data: data.decode().encode("utf-32"))
    rewrite(kind, "in UTF-16 without its mark", lambda data: data.decode().encode("utf-16-le"))
    rewrite(kind, "a mark of UTF-16 alone", lambda data: b"\xff\xfe" + data)
packed("cut", lambda data: gzip.compress(data)[:-20])
packed("its last bytes changed", lambda data: gzip.compress(data)[:-8] + bytes(8))
packed("not packed", lambda data: data)
packed("a bomb", lambda data: gzip.compress(data + bytes(90_000_000), 1))
packed(
    "noise after the magic", lambda data: b"\x1f\x8b\x08\0" + np.random.default_rng(4).bytes(900)
)
