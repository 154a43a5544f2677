"""Broken and hostile input: each ends in a named quarantine entry or a clear error, and a good
image beside it comes through unharmed.

A case breaks one thing in a folder that is good otherwise: an image, a row or a table. `BROKEN`
has them all by name; every case is prepared in this process, under a limit of memory and time.
"""

import csv
import gzip
import io
import os
import resource
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from g2dbench.data import build, reading
from g2dbench.data.prepare import prepare
from g2dbench.data.store import QUARANTINE_FILE, Store
from g2dbench.errors import BadData, Misuse
from g2dbench.registry import Registry
from g2dbench.task import quiet

REGISTRY = Registry()
GOOD, BAD = "good", "bad"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48), dtype=np.uint8)
MEMORY = 2**31
"""Bytes that a case may take beside what the tests already have."""

Breaker = Callable[[Path], object]
BROKEN: dict[str, tuple[str, Breaker]] = {}


def png(pixels: np.ndarray = PIXELS) -> bytes:
    return encoded(pixels, "PNG")


def jpeg() -> bytes:
    return encoded(PIXELS, "JPEG")


def encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def dicom(syntax: str | None = None, **changes: object) -> bytes:
    """A 16-bit radiograph of 40 x 48; a change to None removes the field."""
    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    found.Rows, found.Columns, found.SamplesPerPixel = 40, 48, 1
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
    found.PixelRepresentation, found.PhotometricInterpretation = 0, "MONOCHROME2"
    found.PatientID = "p"
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.PixelData = (PIXELS.astype(np.uint16) * 16).tobytes()
    found["PixelData"].VR = "OW"
    if syntax:
        found.compress(syntax)
    for name, value in changes.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def renamed(syntax: str) -> bytes:
    """A DICOM file whose header names another transfer syntax than its pixels have."""
    data = dicom()
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta
    body = data[132 + 12 + meta.FileMetaInformationGroupLength :]
    meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO(bytes(128) + b"DICM")
    buffer.seek(132)
    write_file_meta_info(buffer, meta)
    return buffer.getvalue() + body


# --- images: RSNA's layout, where `bad` has the bytes of the case -------------------------------


def image(name: str, data: Callable[[], bytes] | bytes, suffix: str = ".png") -> None:
    """A case whose image file holds these bytes."""

    def place(root: Path) -> None:
        target = root / f"stage_2_train_images/{BAD}{suffix}"
        target.write_bytes(data if isinstance(data, bytes) else data())

    BROKEN[f"image: {name}"] = ("rsna", place)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("bad.png", png())
    return buffer.getvalue()


def text_bomb() -> bytes:
    data = png()
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 1))
    return data[:33] + bomb + data[33:]


def nested_dicom() -> bytes:
    """Sequences within sequences, deeper than a reader's stack."""
    head = dicom()[:132] + dicom()[132:].split(b"\x28\x00")[0][:60]
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return head + (opening + item) * 20_000


NOISE = np.random.default_rng(1).bytes(5000)
WRONG = {
    "no bytes": b"", "one byte": b"\0", "zeros": bytes(4096), "words": b"this is no image\n" * 9,
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "an entity bomb": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa">]><l>&a;&a;</l>',
    "a script": b"#!/bin/sh\nrm -rf /\n", "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "a pickle": b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "PNG's first bytes": b"\x89PNG\r\n\x1a\n", "JPEG's first bytes": b"\xff\xd8\xff\xe0",
    "DICOM's first bytes": bytes(128) + b"DICM", "noise": NOISE,
    "DICOM and noise": bytes(128) + b"DICM" + NOISE, "PNG and noise": png()[:33] + NOISE,
}  # fmt: skip
for name, data in WRONG.items():
    image(name, data)
for form in ("BMP", "WEBP", "JPEG2000", "TGA", "PPM", "ICO"):
    image(f"{form} under PNG's name", lambda form=form: encoded(PIXELS, form))
image("a zip", zipped)
image("a packed image", lambda: gzip.compress(png()))
image("a bomb of zeros, packed", lambda: gzip.compress(bytes(50_000_000), 1))
image("text before the magic", lambda: b"\n" + png())
image("PNG's line ends changed", lambda: png().replace(b"\r\n", b"\n"))
for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95):
    image(f"PNG cut at {share:.0%}", lambda share=share: png()[: int(len(png()) * share)])
    image(
        f"JPEG cut at {share:.0%}", lambda share=share: jpeg()[: int(len(jpeg()) * share)], ".jpg"
    )
    image(
        f"DICOM cut at {share:.0%}",
        lambda share=share: dicom()[: int(len(dicom()) * share)],
        ".dcm",
    )
for syntax, form in (
    (RLELossless, "RLE"),
    (JPEG2000Lossless, "JPEG 2000"),
    (JPEGLSLossless, "JPEG-LS"),
):
    for share in (0.3, 0.6):
        image(
            f"DICOM with {form} cut at {share:.0%}",
            lambda syntax=syntax, share=share: (lambda d: d[: int(len(d) * share)])(dicom(syntax)),
            ".dcm",
        )
for width, height in (
    (0, 9),
    (9, 0),
    (2**31 - 1, 2**31 - 1),
    (60_000, 60_000),
    (10**8, 2),
    (2, 10**8),
):
    image(f"PNG of {width} x {height}", lambda w=width, h=height: png_of(w, h))
image("PNG with an unknown filter", lambda: png_of(4, 4, body=b"\x09\0\0\0\0" * 4))
image("PNG of depth 7", lambda: png_of(4, 4, depth=7))
image("PNG of an unknown colour type", lambda: png_of(4, 4, colour=5))
image("PNG without pixels", lambda: png()[:33] + chunk(b"IEND", b""))
image("PNG with a bomb as comment", text_bomb)
image("PNG of 16 bits that is blank", lambda: png(np.full((40, 48), 7, np.uint16)))
for width, height in ((0, 40), (48, 0), (65_535, 65_535), (30_000, 30_000)):
    image(f"JPEG of {width} x {height}", lambda w=width, h=height: jpeg_claiming(w, h), ".jpg")
image("JPEG without tables", lambda: jpeg().replace(b"\xff\xdb", b"\xff\xef"), ".jpg")
image("JPEG without its start", lambda: jpeg()[2:], ".jpg")

FIELDS: dict[str, dict[str, object]] = {
    "0 rows": {"Rows": 0}, "0 columns": {"Columns": 0}, "no rows": {"Rows": None},
    "65535 x 65535 pixels": {"Rows": 65_535, "Columns": 65_535},
    "more rows than pixels": {"Rows": 4000}, "no pixels": {"PixelData": None},
    "half the pixels": {"PixelData": bytes(40 * 48)}, "a thousand frames": {"NumberOfFrames": 1000},
    "3 bits allocated": {"BitsAllocated": 3}, "no bits allocated": {"BitsAllocated": None},
    "64 bits in 16": {"BitsStored": 64},
    "no photometric interpretation": {"PhotometricInterpretation": None},
    "an unknown photometric interpretation": {"PhotometricInterpretation": "ULTRAVIOLET"},
    "7 samples": {"SamplesPerPixel": 7}, "no samples": {"SamplesPerPixel": None},
    "a palette that is missing": {"PhotometricInterpretation": "PALETTE COLOR"},
    "a slope that is no number": {"RescaleSlope": "nan", "RescaleIntercept": "0"},
    "an infinite slope": {"RescaleSlope": "1e400", "RescaleIntercept": "0"},
    "blank": {"PixelData": bytes(40 * 48 * 2)},
}  # fmt: skip
for name, changes in FIELDS.items():
    image(f"DICOM: {name}", lambda changes=changes: dicom(**changes), ".dcm")
SYNTAXES = {
    "a film": "1.2.840.10008.1.2.4.100", "an unknown syntax": "1.2.3.4.5",
    "deflated": "1.2.840.10008.1.2.1.99", "JPEG 2000 in name only": JPEG2000Lossless,
    "JPEG-LS in name only": JPEGLSLossless, "RLE in name only": RLELossless,
    "JPEG in name only": "1.2.840.10008.1.2.4.50", "big endian in name only": "1.2.840.10008.1.2.2",
}  # fmt: skip
for name, uid in SYNTAXES.items():
    image(f"DICOM: {name}", lambda uid=uid: renamed(uid), ".dcm")
image("DICOM: compressed at another size", lambda: dicom(JPEG2000Lossless, Rows=400), ".dcm")
image("DICOM: sequences 20,000 deep", nested_dicom, ".dcm")


# --- files that are none ------------------------------------------------------------------------


def entry(name: str) -> Callable[[Callable[[Path], object]], None]:
    """A case that puts something under the name of an image; it gets the path and is on its own."""

    def register(make: Callable[[Path], object]) -> None:
        def place(root: Path) -> None:
            make(root / f"stage_2_train_images/{BAD}.png")

        BROKEN[f"file: {name}"] = ("rsna", place)

    return register


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as place:
        here = os.getcwd()
        os.chdir(path.parent)
        place.bind(path.name)
        os.chdir(here)


def outside(path: Path) -> Path:
    other = path.parents[2] / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "x.png").write_bytes(png())
    return other


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


# --- rows: a good row and a bad one -------------------------------------------------------------

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


def rsna_row(name: str, row: str) -> None:
    def place(root: Path) -> None:
        (root / f"stage_2_train_images/{BAD}.png").write_bytes(png())
        write_rsna(root, f"{BAD},{row}\n")

    BROKEN[f"RSNA row: {name}"] = ("rsna", place)


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

    BROKEN[f"SIIM row: {name}"] = ("siim", place)


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

    BROKEN[f"Open-i row: {name}"] = ("open_i", place)


for name, file in OPEN_I_FILES.items():
    open_i_row(name, file)


# --- tables -------------------------------------------------------------------------------------

HEADS = {
    "rsna": ("stage_2_train_labels.csv", "patientId,x,y,width,height,Target"),
    "siim": ("train-rle.csv", "ImageId, EncodedPixels"),
    "open_i": ("indiana_projections.csv", "uid,filename,projection"),
}


def rewrite(kind: str, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """A case whose table is changed; None removes it."""

    def place(root: Path) -> None:
        path = root / HEADS[kind][0]
        data = change(path.read_bytes())
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    BROKEN[f"{kind} table: {name}"] = (kind, place)


def packed(name: str, data: Callable[[bytes], bytes]) -> None:
    """A case whose table is packed, and then broken."""

    def place(root: Path) -> None:
        path = root / HEADS["rsna"][0]
        broken = data(path.read_bytes())
        path.unlink()
        path.with_name(path.name + ".gz").write_bytes(broken)

    BROKEN[f"packed table: {name}"] = ("rsna", place)


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
    for column in header.split(","):
        rewrite(
            kind,
            f"without {column.strip()}",
            lambda data, column=column: data.replace(column.encode(), b"unnamed", 1),
        )
    BROKEN[f"{kind} table: a pipe"] = (kind, lambda root, kind=kind: pipe(root / HEADS[kind][0]))
    BROKEN[f"{kind} table: a folder"] = (
        kind,
        lambda root, kind=kind: folder(root / HEADS[kind][0]),
    )
packed("cut", lambda data: gzip.compress(data)[:-20])
packed("its last bytes changed", lambda data: gzip.compress(data)[:-8] + bytes(8))
packed("not packed", lambda data: data)
packed("a bomb", lambda data: gzip.compress(data + bytes(90_000_000), 1))
packed(
    "noise after the magic", lambda data: b"\x1f\x8b\x08\0" + np.random.default_rng(4).bytes(900)
)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# --- folders ------------------------------------------------------------------------------------


def write_rsna(root: Path, extra: str = f"{BAD},,,,,0\n") -> None:
    head = HEADS["rsna"][1]
    (root / HEADS["rsna"][0]).write_text(f"{head}\n{GOOD},100,200,300,400,1\n{extra}")


def write_siim(root: Path, extra: str = "") -> None:
    head = HEADS["siim"][1]
    (root / HEADS["siim"][0]).write_text(f"{head}\n{GOOD}, 5 5\n{extra}")


def write_open_i(root: Path, extra: str = "") -> None:
    (root / HEADS["open_i"][0]).write_text(f"{HEADS['open_i'][1]}\n1,good.png,Frontal\n{extra}")


def make_root(kind: str, root: Path) -> Path:
    """A good folder of a data set; its only usable image is `good`."""
    if kind == "rsna":
        (root / "stage_2_train_images").mkdir(parents=True)
        (root / f"stage_2_train_images/{GOOD}.png").write_bytes(png())
        write_rsna(root)
    elif kind == "siim":
        (root / "dicom-images-train").mkdir(parents=True)
        for name in (GOOD, BAD):
            (root / f"dicom-images-train/{name}.dcm").write_bytes(dicom(PatientID=name))
        write_siim(root)
    else:
        (root / "images/images_normalized").mkdir(parents=True)
        (root / "images/images_normalized/good.png").write_bytes(png())
        (root / "indiana_reports.csv").write_text(
            "uid,Problems,findings,impression\n1,normal,Clear lungs.,Normal.\n"
        )
        write_open_i(root)
    return root


@contextmanager
def limited() -> Iterator[None]:
    """So much memory and no more, so that a bomb ends as an error that the test sees."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder with its size and time; links are not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            told = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (told.st_size, told.st_mtime_ns)
    return found


def quarantine(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_good_folders_are_good(tmp_path: Path) -> None:
    for kind in HEADS:
        root = make_root(kind, tmp_path / kind)
        if kind == "rsna":
            write_rsna(root, "")
        made = prepare(kind, root, tmp_path / "s", progress=quiet, registry=REGISTRY, size=32)
        assert (made[0].id, made.manifest.summary.rejected) == (GOOD, 0)


def test_there_are_two_hundred_of_them() -> None:
    assert len(BROKEN) >= 200


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_named_and_harms_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MAX_REJECTED", 0.9)
    monkeypatch.setattr(reading, "MAX_TABLE", 50_000_000)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here needs to survive
    kind, breaker = BROKEN[case]
    root, store = make_root(kind, tmp_path / "root"), tmp_path / "store"
    breaker(root)
    before = listing(tmp_path)
    made = error = None
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = prepare(kind, root, store, progress=quiet, registry=REGISTRY, size=32)
        except (BadData, Misuse) as found:
            error = str(found)
    after = {path: told for path, told in listing(tmp_path).items() if Path(path) != store}
    assert {path: told for path, told in after.items() if store not in Path(path).parents} == before
    if made is None:
        assert error
        assert str(root) in error
        return
    check(made)


def check(made: Store) -> None:
    """The good image is there alone and as it should be; whatever else was listed has a reason."""
    assert [sample.id for sample in made] == [GOOD]
    assert made[0].image.shape == (32, 38)
    lost = quarantine(made.folder / QUARANTINE_FILE)
    assert lost
    assert all(row["id"] and len(row["reason"]) > 10 for row in lost)
    assert not any("memory" in row["reason"] for row in lost)
