"""Files of an official folder: bounded reads, image indexes, and checks that paths stay inside."""

import io
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from g2dbench.errors import BadData
from g2dbench.system.bounded_files import open_regular

MAX_BYTES = 2**30
"""Largest file that is read; a larger one is not a radiograph."""


@contextmanager
def open_file(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[io.BufferedReader]:
    """Open a regular file of at most `max_bytes` bytes for reading.

    BadData: the file is too large, or it is a folder, a device or a pipe, which would block.
    OSError as from `open`.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open_regular(path, max_bytes))
        except ValueError as error:
            raise BadData(f"{str(path)!r} cannot be read: {error}") from error
        yield file


def read_bytes(path: Path) -> bytes:
    """Read a whole file; errors as in `open_file`."""
    with open_file(path) as file:
        return file.read()


def is_present(path: Path) -> bool:
    """Whether a path from a table is an existing file; False also for an invalid path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def folders(root: Path, names: Sequence[str]) -> list[Path]:
    """Return those of the named folders that exist in the root; BadData if there is none."""
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        wanted = " or ".join(f"{name}/" for name in names)
        raise BadData(f"{root} holds no image folder {wanted}{folder_hint(root)}")
    return found


def index_images(places: Sequence[Path], extensions: Sequence[str]) -> dict[str, Path]:
    """Map the names without extension of all image files below the folders to their paths.

    If several files have one name, the earlier extension is preferred, then the earlier folder,
    then the path in alphabetical order. Links to folders are not followed.
    """
    rank = {extension: order for order, extension in enumerate(extensions)}
    best: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for order, place in enumerate(places):
        for path in files_below(place):
            if (kind := rank.get(path.suffix.lower())) is None:
                continue
            key = (kind, order, str(path))
            if path.stem not in best or key < best[path.stem][0]:
                best[path.stem] = (key, path)
    return {name: path for name, (_, path) in best.items()}


def is_within(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path, with all links resolved, lies within one of these resolved folders."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
        return False
    return any(real.is_relative_to(root) for root in roots)


def trusted_roots(root: Path) -> list[Path]:
    """Return the root and the targets of the folder links directly in it, all resolved.

    Large image folders are often linked from another disk. A path that a table names must lie
    within these folders; neither `..` nor a deeper link may lead out of them. A root that is not a
    folder, such as the name of a data set of the Hugging Face hub, has no links.
    """
    if not root.is_dir():
        return [root.resolve()]
    linked = [child.resolve() for child in root.iterdir() if child.is_symlink() and child.is_dir()]
    return [root.resolve(), *sorted(linked)]


def check_layout(root: Path) -> None:
    """BadData unless the root is a folder."""
    if not root.is_dir():
        raise BadData(f"there is no folder {root}{folder_hint(root.parent)}")


def layout_hint(root: Path, layout: Sequence[str]) -> str:
    """Return advice on --root if the root holds nothing of the layout; "" otherwise.

    layout: files and folders as a card lists them; the text after a blank is a remark. The folders
    above and below the root are searched too, since a root one level too high or too low is the
    usual mistake.
    """
    if not layout or _holds_any(root, layout):
        return ""
    below = sorted(folder for pattern in ("*/", "*/*/") for folder in root.glob(pattern))
    around = [*root.absolute().parents[:2], *below[:_MAX_SEARCHED_FOLDERS]]
    near = next((folder for folder in around if _holds_any(folder, layout)), None)
    instead = f": did you mean --root {shlex.quote(str(near))}?" if near else ""
    return f"; --root is to be the folder that holds {', '.join(layout)}{instead}"


_MAX_SEARCHED_FOLDERS = 500


def _holds_any(folder: Path, layout: Sequence[str]) -> bool:
    return any(os.path.exists(folder / entry.split(" ")[0]) for entry in layout)


def relative_name(path: Path, root: Path) -> str:
    """Return a path relative to the root, with `/`; links directly in the root keep their name."""
    if path.is_relative_to(root):
        return printable(path.relative_to(root).as_posix())
    return printable(Path(os.path.relpath(path.resolve(), root.resolve())).as_posix())


def printable(name: str) -> str:
    r"""Return a file name as valid text; bytes that are not UTF-8 are escaped, as in `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


def folder_hint(folder: Path) -> str:
    """Return what a folder holds, as the end of an error about something that was not found."""
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    names = sorted(child.name for child in folder.iterdir())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; {folder} holds: {shown or 'nothing'}"


def files_below(place: Path) -> Iterator[Path]:
    """Yield every file below a folder; links to folders are not followed."""
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names)
