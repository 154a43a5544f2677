"""Annotated images of your own: a folder, and labels, masks or COCO boxes beside it; no code.

    labels.csv (any one .csv, .tsv, .parquet)   image, and labels as `own_labels` knows them;
                                                patient, study, view, sex, age, split, text
    annotations.json (any one .json)            COCO boxes and polygons, see `coco`
    masks/<finding>/<image>.png                 or masks/<image>.png, one black and white file each
    images/ or other folders                    the images

A table or a COCO file lists the images; the table alone does where there are both. An image is
named by its path from the root, or by its file's name with or without extension where only one
file has it. An image without any mask file has no mask annotation; one with some lacks the others.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from g2dbench.cards import ANNOTATIONS, DatasetCard
from g2dbench.data.annotations import coco
from g2dbench.data.annotations.mask_files import FileMasks
from g2dbench.data.custom._labels import OPTIONS, OwnLabels
from g2dbench.data.custom._table import COLUMNS, Table, open_table, tables_in
from g2dbench.data.custom.pairs import lone
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.tables.files import check_layout, files_below, is_present, trusted_roots
from g2dbench.data.tables.paths import file_name, locate, portable
from g2dbench.data.tables.records import Found, Missing, Note, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

CARD = DatasetCard(
    name="images",
    summary="Your own annotated images: a folder with a labels table, masks or a COCO file.",
    offers=("reports", "labels", "boxes", "masks"),
    findings=(),
    url="your own folder",
    licence="your own",
    layout=("images", "a labels table, masks/ or a COCO file"),
    options=(
        "table", "image", "text", "patient", "study", "view", "sex", "age", "split",
        "class", "findings", "masks", "coco",
    ),
    generic=True,
)  # fmt: skip

assert {*COLUMNS, *OPTIONS} < set(CARD.options)

UNNAMED = "Foreground"
"""The finding of masks that lie directly in the masks folder."""


def describe(root: Path, options: Mapping[str, str]) -> DatasetCard:
    """The card of the images in a root, with what it offers and finds; errors as in `read`."""
    folder = _Folder.open(root, options)
    offered = {
        "reports": folder.table is not None and "text" in folder.table.columns,
        "labels": folder.labels is not None and bool(folder.labels.findings),
        "boxes": folder.annotations is not None,
        "masks": bool(folder.masks)
        or (folder.annotations is not None and coco.has_masks(folder.annotations)),
    }
    return DatasetCard(
        name=CARD.name,
        summary=folder.told(),
        offers=tuple(kind for kind in ANNOTATIONS if offered[kind]),
        findings=folder.findings(),
        url=CARD.url,
        licence=CARD.licence,
    )


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """One record per image of the table, or else of the COCO file.

    Misuse: an option is needed or names nothing. BadData: a table or file cannot be read.
    """
    folder = _Folder.open(root, options)
    yield from folder.notes()
    drawn = [] if folder.annotations is None else list(coco.read_coco(folder.annotations))
    if folder.table is not None:
        yield from _listed(folder, folder.table, _Drawings(drawn))
        return
    for image in drawn:
        name = portable(image.file)
        yield folder.found(image.file, Record(id=name, path=root, patient=name), image)


def _listed(folder: "_Folder", table: Table, drawings: "_Drawings") -> Iterator[Found]:
    """What the table's rows tell, with what is drawn on their images."""
    for row in table.rows():
        name, where = table.get(row, "image"), table.where(row)
        if name is None:
            yield Rejected(where, None, f"{where}: no image")
            continue
        try:
            labels = None if folder.labels is None else folder.labels.of(row)
            record = replace(table.record(row, folder.root), labels=labels)
            yield folder.found(name, record, drawings.on(name))
        except BadData as error:
            yield Rejected(name, None, str(error))


class _Drawings:
    """COCO entries by path, and by file name where only one entry has it."""

    def __init__(self, images: list[coco.CocoImage]) -> None:
        self._by_file = {portable(image.file): image for image in images}
        self._by_stem: dict[str, list[coco.CocoImage]] = defaultdict(list)
        for image in images:
            self._by_stem[_bare(image.file)].append(image)

    def on(self, name: str) -> coco.CocoImage | None:
        """The entry of an image as a table names it, None where there is none or several."""
        fits = self._by_stem.get(_bare(name), [])
        return self._by_file.get(portable(name)) or (fits[0] if len(fits) == 1 else None)


def _bare(name: str) -> str:
    """A file's name without folders, and without extension if it has an image's."""
    path = Path(portable(name))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


@dataclass(frozen=True)
class _Folder:
    """What lies in a root: table, labels, COCO file, masks by finding, images by name."""

    root: Path
    table: Table | None
    labels: OwnLabels | None
    annotations: Path | None
    masks: Mapping[str, Mapping[str, Path]]
    images: Mapping[str, list[Path]]
    roots: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path, options: Mapping[str, str]) -> "_Folder":
        """Look around a root."""
        check_layout(root)
        annotations = _coco_file(root, options)
        table = None
        if "table" in options or tables_in(root) or annotations is None:
            table = open_table(root, options, ("image",))
        labels = None if table is None else OwnLabels(table, options)
        home = _masks_home(root, options)
        roots = tuple(trusted_roots(root))
        return cls(root, table, labels, annotations, _masks(home), _images(root, home), roots)

    def findings(self) -> tuple[str, ...]:
        """Every finding that is annotated in some way."""
        labels = () if self.labels is None else self.labels.findings
        boxes = () if self.annotations is None else coco.categories(self.annotations)
        return tuple(dict.fromkeys((*labels, *boxes, *self.masks)))

    def told(self) -> str:
        """What was found, in a sentence or two."""
        parts = [] if self.table is None else [f"{self.table.path.name} ({self.table.told()})"]
        parts += [] if self.annotations is None else [self.annotations.name]
        text = f"Images of {' and '.join(parts)}, findings: {', '.join(self.findings()) or 'none'}."
        return text + ("" if self.table is None else lone(self.table))

    def path(self, name: str) -> Path | None:
        """The image that a cell names; None where none is, BadData where several are."""
        direct = locate(self.root, name)
        if name and is_present(direct):
            return direct
        keys = (file_name(name), _bare(name))
        found = next((self.images[key] for key in keys if key in self.images), [])
        if len(found) > 1:
            raise BadData(f"{len(found)} files are called {name!r}, such as {found[0]}, {found[1]}")
        return found[0] if found else None

    def notes(self) -> Iterator[Note]:
        """What of the table and of the COCO file is not used."""
        if self.labels is not None:
            yield from self.labels.notes()
        if self.annotations is not None:
            yield from coco.note_unlisted(self.annotations)

    def found(self, name: str, record: Record, drawn: coco.CocoImage | None) -> Found:
        """The record with the image's path, boxes and masks; name: of the image as written."""
        path = None
        try:
            if (path := self.path(name)) is None:
                return Missing(record.id, self.root / record.id)
            if drawn is not None and drawn.problem:
                raise BadData(drawn.problem)
            masks = self.files_of(path)
            if drawn is None:
                return replace(record, path=path, masks=masks)
            if masks is not None and drawn.masks is not None:
                raise BadData(f"{name} has masks both as files and in {self.annotations}: keep one")
            return replace(
                record,
                path=path,
                boxes=drawn.boxes,
                masks=masks or drawn.masks,
                frame=drawn.frame,
                notes=(*record.notes, *drawn.notes),
            )
        except BadData as error:
            return Rejected(name, path, str(error))

    def files_of(self, path: Path) -> FileMasks | None:
        """The mask files of an image, by finding."""
        files = {f: [named[path.stem]] for f, named in self.masks.items() if path.stem in named}
        return FileMasks(files, self.roots) if files else None


def _coco_file(root: Path, options: Mapping[str, str]) -> Path | None:
    if "coco" in options:
        return root / options["coco"]
    found = sorted(root.glob("*.json"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise Misuse(f"{root} holds {names}: say which is the COCO file, --option coco=FILE")
    return found[0] if found else None


def _masks_home(root: Path, options: Mapping[str, str]) -> Path | None:
    home = root / options.get("masks", "masks")
    if "masks" in options and not home.is_dir():
        raise Misuse(f"--option masks={options['masks']}: there is no folder {home}")
    return home if home.is_dir() else None


def _masks(home: Path | None) -> dict[str, dict[str, Path]]:
    """Mask files by finding and by the image's name without extension."""
    if home is None:
        return {}
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(files_below(home)):
        if path.suffix.lower() in EXTENSIONS:
            below = path.parent.relative_to(home)
            found[below.as_posix() if below.parts else UNNAMED][path.stem] = path
    return dict(sorted(found.items()))


def _images(root: Path, masks: Path | None) -> dict[str, list[Path]]:
    """Image files by name, with and without extension; masks are not among them."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(files_below(root)):
        if path.suffix.lower() in EXTENSIONS and (masks is None or not path.is_relative_to(masks)):
            found[path.name].append(path)
            found[path.stem].append(path)
    return found
