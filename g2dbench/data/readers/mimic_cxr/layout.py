"""Finds the images and the reports of MIMIC-CXR, which are two projects on PhysioNet.

A root is the images' project, or the folder with both, as `wget -r` from PhysioNet stores them:

    mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-metadata.csv.gz, files/p10/...
    mimic-cxr/2.0.0/mimic-cxr-reports.zip, or files/p10/... as unpacked

Unless the option `reports` names them, reports are searched in the images' project, beside it, and
in a folder `mimic-cxr/` up to two folders above it.
"""

from collections.abc import Iterator
from pathlib import Path

from g2dbench.data.tables.csv import has_table
from g2dbench.errors import BadData, Misuse

METADATA = "mimic-cxr-2.0.0-metadata.csv"
"""Release 2.1.0 still calls its tables 2.0.0."""

REPORTS = "mimic-cxr-reports"


def find_images(root: Path) -> Path:
    """The folder of the images' project at or below a root, the newest release first.

    Without one, the root itself: reading its tables says what is missing.
    """
    return next((place for place in projects(root) if has_table(place / METADATA)), root)


def projects(root: Path, name: str = "mimic-cxr-jpg") -> list[Path]:
    """Where a project's files may lie: the root, then releases of it below, the newest first."""
    below = [place for glob in (f"{name}*", f"{name}*/*") for place in root.glob(glob)]
    return [root, *sorted(below, reverse=True)]


def image_tree(images: Path) -> Path:
    """The folder of p10/ to p19/ in the images' project; BadData where there is none."""
    for place in (images / "files", images):
        if any(place.glob("p1[0-9]")):
            return place
    raise BadData(f"{images} holds no images: neither files/p10/ to files/p19/ nor p10/ to p19/")


def find_reports(images: Path, option: str | None = None) -> Path:
    """Return the zip or folder of the reports, from the option or near the images' project.

    option: value of the option, which may also be the folder of the reports' project. Misuse if it
    does not exist, BadData if no reports are found.
    """
    if option is not None:
        place = Path(option).expanduser()
        zipped = place / f"{REPORTS}.zip"
        if not place.exists():
            raise Misuse(f"--option reports={option}: there is no zip or folder {place}")
        return zipped if zipped.is_file() else place
    for place in _places(images):
        if place.is_file() or place.is_dir():
            return place
    raise BadData(
        f"no reports belong to {images}: put {REPORTS}.zip, or a link to it, into it or beside it; "
        "or name it, --option reports=PATH; to prepare the images without reports, make an empty "
        f"folder {images / REPORTS}"
    )


def _places(images: Path) -> Iterator[Path]:
    tree = image_tree(images)
    patient = next(tree.glob("p1[0-9]/p*"), None)
    if patient is not None and any(patient.glob("s*.txt")):
        # Unpacked over the images: texts lie beside the studies' folders.
        yield tree
    real = images.resolve()
    for folder in (images, real.parent, real.parent.parent):
        yield folder / f"{REPORTS}.zip"
        yield folder / REPORTS
    for folder in (real.parent, real.parent.parent):
        for release in sorted((folder / "mimic-cxr").glob("*"), reverse=True):
            yield release / f"{REPORTS}.zip"
            yield release / "files"
