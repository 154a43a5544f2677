"""Image names that are not regular files, and rows with invalid values."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from support.hostile.kit import BAD, BROKEN, Case, outside, png
from support.hostile.roots import write_open_i, write_rsna, write_siim


def entry(name: str) -> Callable[[Callable[[Path], object]], None]:
    """A case that puts something else at the path of an image; `place` gets that path."""

    def register(make: Callable[[Path], object]) -> None:
        def place(root: Path) -> None:
            make(root / f"stage_2_train_images/{BAD}.png")

        BROKEN[f"file: {name}"] = Case("rsna", place)

    return register


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as place:
        here = os.getcwd()
        os.chdir(path.parent)
        place.bind(path.name)
        os.chdir(here)


entry("a folder")(lambda path: path.mkdir())
entry("a pipe")(os.mkfifo)
entry("a socket")(bind)
entry("a link to nothing")(lambda path: path.symlink_to("nothing"))
entry("a link to itself")(lambda path: path.symlink_to(path.name))
entry("a link to a device")(lambda path: path.symlink_to("/dev/zero"))
entry("a link to a system file")(lambda path: path.symlink_to("/etc/passwd"))
entry("a link out of the root")(lambda path: path.symlink_to(outside(path) / "x.png"))
entry("a link out by dots")(lambda path: path.symlink_to("../../elsewhere/x.png"))
entry("a link to the image folder")(lambda path: path.symlink_to("."))
entry("a terabyte of nothing")(lambda path: (path.touch(), os.truncate(path, 2**40)))


@entry("a folder link in a folder")
def _(path: Path) -> None:
    (path.parent / "more").symlink_to(outside(path))


@entry("the pipe of a DICOM file")
def _(path: Path) -> None:
    os.mkfifo(path.with_suffix(".dcm"))


# --- rows: a good row and a bad one ----

RSNA_ROWS = {
    "a box that is NaN": "nan,200,300,400,1", "a box of infinite width": "1,1,inf,9,1",
    "a box of words": "left,upper,9,9,1", "a negative width": "100,100,-50,50,1",
    "a negative height": "100,100,50,-50,1", "no width": "100,100,0,50,1",
    "a box outside": "2000,2000,50,50,1", "a box half outside": "1000,100,500,50,1",
    "a box left of the image": "-300,10,50,50,1", "a box of 1e308": "1e308,1,1e308,1,1",
    "positive without a box": ",,,,1", "half a box": "100,200,,,1",
    "a box in hexadecimal": "0x10,9,9,9,1",
    "target 2": ",,,,2", "target -1": ",,,,-1", "no target": ",,,,", "target yes": ",,,,yes",
    "target NaN": ",,,,nan", "both targets": ",,,,0\nbad,9,9,9,9,1",
    "a comma for a point": '"1,5",9,9,9,1',
    "a box of Arabic digits with words": "١x,9,9,9,1", "a long number": "9" * 400 + ",9,9,9,1",
}  # fmt: skip


INCOMPLETE = ("positive without a box", "half a box", "a box that is NaN")
"""Rows that state that there is a box, without its coordinates."""


def rsna_row(name: str, row: str) -> None:
    def place(root: Path) -> None:
        (root / f"stage_2_train_images/{BAD}.png").write_bytes(png())
        write_rsna(root, f"{BAD},{row}\n")

    BROKEN[f"RSNA row: {name}"] = Case("rsna", place, (BAD,) if name in INCOMPLETE else ())


for name, row in RSNA_ROWS.items():
    rsna_row(name, row)

SIIM_ROWS = {
    "runs past the end": "1048570 100", "an odd number of runs": "5 5 5", "negative runs": "-5 5",
    "a negative length": "5 -5", "words": "no mask", "nothing": "", "fractions": "1.5 3",
    "absurd runs": f"{2**63} {2**63}", "runs that overflow": f"{2**62} {2**62} {2**62} {2**62}",
    "a number of 6000 digits": "9" * 6000 + " 1", "a mask and none": "5 5\nbad,-1",
    "two signs": "--1", "-2": "-2", "an exponent": "1e3 5", "commas": '"5,5"', "NaN": "nan nan",
    "a hundred thousand runs": " ".join(["9 9"] * 100_000),
}  # fmt: skip


def siim_row(name: str, row: str) -> None:
    def place(root: Path) -> None:
        write_siim(root, f"{BAD},{row}\n")

    BROKEN[f"SIIM row: {name}"] = Case("siim", place)


for name, row in SIIM_ROWS.items():
    siim_row(name, row)

OPEN_I_FILES = {
    "a path upwards": "../../../elsewhere/x.png", "a path deep upwards": "../" * 40 + "etc/passwd",
    "an absolute path": "/etc/passwd", "a device": "/dev/zero", "the folder itself": ".",
    "the folder above": "..", "a folder": "sub", "a long name": "x" * 5000, "a NUL": "a\0b.png",
    "no name": "", "the same image again": "good.png", "another drive": "C:\\x.png",
    "a web address": "http://localhost/x.png", "a file address": "file:///etc/passwd",
    "a home": "~/x.png", "a variable": "$HOME/x.png", "a pattern": "*.png",
    "a command": "$(touch x).png",
    "a pipe": "pipe.png", "a link that leaves": "link.png",
    "upwards and back": "sub/../../../../elsewhere/x.png",
    "a study without a report": "other.png",
}  # fmt: skip


def open_i_row(name: str, file: str) -> None:
    def place(root: Path) -> None:
        folder = root / "images/images_normalized"
        (folder / "sub").mkdir()
        os.mkfifo(folder / "pipe.png")
        (folder / "link.png").symlink_to(outside(root / "images/x") / "x.png")
        (folder / "other.png").write_bytes(png())
        uid = 99 if file == "other.png" else 1
        write_open_i(root, f'{uid},"{file}",Frontal\n')

    BROKEN[f"Open-i row: {name}"] = Case("open_i", place)


for name, file in OPEN_I_FILES.items():
    open_i_row(name, file)
