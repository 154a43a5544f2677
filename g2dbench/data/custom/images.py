"""The user's annotated images: a folder with a table of labels, masks or a COCO file; no code.

    labels.csv (any one .csv, .tsv, .parquet)   image, and labels as described in `_labels`;
                                                patient, study, view, sex, age, split, text
    annotations.json (any one .json)            COCO boxes and polygons, see `coco`
    masks/<finding>/<image>.png                 or masks/<image>.png, one black and white file each
    images/ or other folders                    the images

The table lists the images; without a table, the COCO file does. An image is named by its path from
the root, or by its file name with or without extension if this is unique. An image without any mask
file has unknown masks; if it has some, the findings without mask file are absent.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from g2dbench.cards import ANNOTATIONS, DatasetCard
from g2dbench.data.annotations import coco
from g2dbench.data.annotations.mask_files import FileMasks
from g2dbench.data.custom._labels import OPTIONS, TableLabels
from g2dbench.data.custom._table import COLUMNS, Table, open_table, tables_in
from g2dbench.data.custom.pairs import patient_hint
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

DEFAULT_FINDING = "Foreground"
"""The finding of masks directly in the masks folder."""


def describe(root: Path, options: Mapping[str, str]) -> DatasetCard:
    """Return the card of a root, with its annotations and findings; errors as in `read`."""
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
        summary=folder.describe(),
        offers=tuple(kind for kind in ANNOTATIONS if offered[kind]),
        findings=folder.findings(),
        url=CARD.url,
        licence=CARD.licence,
    )


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield one record per image of the table, or of the COCO file if there is no table.

    Misuse: an option is needed, or names something unknown. BadData: a file cannot be read.
    """
    folder = _Folder.open(root, options)
    yield from folder.notes()
    entries = [] if folder.annotations is None else list(coco.read_coco(folder.annotations))
    if folder.table is not None:
        yield from _read_table_rows(folder, folder.table, _CocoIndex(entries))
        return
    for image in entries:
        name = portable(image.file)
        yield folder.annotate(image.file, Record(id=name, path=root, patient=name), image)


def _read_table_rows(folder: "_Folder", table: Table, coco_index: "_CocoIndex") -> Iterator[Found]:
    """Yield the records of the table's rows, with the annotations of the COCO file."""
    for row in table.rows():
        name, where = table.get(row, "image"), table.where(row)
        if name is None:
            yield Rejected(where, None, f"{where}: no image")
            continue
        try:
            labels = None if folder.labels is None else folder.labels.of(row)
            record = replace(table.record(row, folder.root), labels=labels)
            yield folder.annotate(name, record, coco_index.find(name))
        except BadData as error:
            yield Rejected(name, None, str(error))


class _CocoIndex:
    """COCO entries by path, and by file name if it is unique."""

    def __init__(self, images: list[coco.CocoImage]) -> None:
        self._by_file = {portable(image.file): image for image in images}
        self._by_stem: dict[str, list[coco.CocoImage]] = defaultdict(list)
        for image in images:
            self._by_stem[_image_stem(image.file)].append(image)

    def find(self, name: str) -> coco.CocoImage | None:
        """Return the entry of an image that a table names; None if there is none or several."""
        fits = self._by_stem.get(_image_stem(name), [])
        return self._by_file.get(portable(name)) or (fits[0] if len(fits) == 1 else None)


def _image_stem(name: str) -> str:
    """Return a file name without folders, and without the extension of an image."""
    path = Path(portable(name))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


@dataclass(frozen=True)
class _Folder:
    """The content of a root: table, labels, COCO file, masks by finding, images by name."""

    root: Path
    table: Table | None
    labels: TableLabels | None
    annotations: Path | None
    masks: Mapping[str, Mapping[str, Path]]
    images: Mapping[str, list[Path]]
    roots: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path, options: Mapping[str, str]) -> "_Folder":
        """Find the content of a root; Misuse or BadData as in `read`."""
        check_layout(root)
        annotations = _coco_file(root, options)
        table = None
        if "table" in options or tables_in(root) or annotations is None:
            table = open_table(root, options, ("image",))
        labels = None if table is None else TableLabels(table, options)
        masks_folder = _masks_folder(root, options)
        roots = tuple(trusted_roots(root))
        return cls(
            root,
            table,
            labels,
            annotations,
            _masks(masks_folder),
            _images(root, masks_folder),
            roots,
        )

    def findings(self) -> tuple[str, ...]:
        """Return every finding with labels, boxes or masks."""
        labels = () if self.labels is None else self.labels.findings
        boxes = () if self.annotations is None else coco.categories(self.annotations)
        return tuple(dict.fromkeys((*labels, *boxes, *self.masks)))

    def describe(self) -> str:
        """Describe the content in one or two sentences, for the summary."""
        parts = [] if self.table is None else [f"{self.table.path.name} ({self.table.describe()})"]
        parts += [] if self.annotations is None else [self.annotations.name]
        text = f"Images of {' and '.join(parts)}, findings: {', '.join(self.findings()) or 'none'}."
        return text + ("" if self.table is None else patient_hint(self.table))

    def path(self, name: str) -> Path | None:
        """Return the image that a cell names; None if none exists, BadData if several do."""
        direct = locate(self.root, name)
        if name and is_present(direct):
            return direct
        keys = (file_name(name), _image_stem(name))
        found = next((self.images[key] for key in keys if key in self.images), [])
        if len(found) > 1:
            raise BadData(f"{len(found)} files are called {name!r}, such as {found[0]}, {found[1]}")
        return found[0] if found else None

    def notes(self) -> Iterator[Note]:
        """Yield notes on the parts of the table and the COCO file that are not used."""
        if self.labels is not None:
            yield from self.labels.notes()
        if self.annotations is not None:
            yield from coco.note_unlisted(self.annotations)

    def annotate(self, name: str, record: Record, entry: coco.CocoImage | None) -> Found:
        """Add path, boxes and masks to the record of the image that is written as `name`."""
        path = None
        try:
            if (path := self.path(name)) is None:
                return Missing(record.id, self.root / record.id)
            if entry is not None and entry.problem:
                raise BadData(entry.problem)
            masks = self.mask_files_of(path)
            if entry is None:
                return replace(record, path=path, masks=masks)
            if masks is not None and entry.masks is not None:
                raise BadData(f"{name} has masks both as files and in {self.annotations}: keep one")
            return replace(
                record,
                path=path,
                boxes=entry.boxes,
                masks=masks or entry.masks,
                frame=entry.frame,
                notes=(*record.notes, *entry.notes),
            )
        except BadData as error:
            return Rejected(name, path, str(error))

    def mask_files_of(self, path: Path) -> FileMasks | None:
        """Return the mask files of an image by finding; None if it has none."""
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


def _masks_folder(root: Path, options: Mapping[str, str]) -> Path | None:
    masks_folder = root / options.get("masks", "masks")
    if "masks" in options and not masks_folder.is_dir():
        raise Misuse(f"--option masks={options['masks']}: there is no folder {masks_folder}")
    return masks_folder if masks_folder.is_dir() else None


def _masks(masks_folder: Path | None) -> dict[str, dict[str, Path]]:
    """Return mask files by finding and by image name without extension."""
    if masks_folder is None:
        return {}
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(files_below(masks_folder)):
        if path.suffix.lower() in EXTENSIONS:
            below = path.parent.relative_to(masks_folder)
            found[below.as_posix() if below.parts else DEFAULT_FINDING][path.stem] = path
    return dict(sorted(found.items()))


def _images(root: Path, masks: Path | None) -> dict[str, list[Path]]:
    """Return image files by name, with and without extension; masks are excluded."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(files_below(root)):
        if path.suffix.lower() in EXTENSIONS and (masks is None or not path.is_relative_to(masks)):
            found[path.name].append(path)
            found[path.stem].append(path)
    return found
