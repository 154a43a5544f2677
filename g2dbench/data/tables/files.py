"""Files of an official folder: bounded reads, image indexes, names that stay inside the root."""

import io
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from g2dbench.errors import BadData

MAX_BYTES = 2**30
"""A larger file is no radiograph."""


@contextmanager
def open_file(path: Path, most: int = MAX_BYTES) -> Iterator[io.BufferedReader]:
    """A regular file of at most so many bytes, open for reading.

    BadData: a folder, a pipe (which would wait for ever) or a device, or too large. OSError as
    `open` raises it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise BadData(f"{str(path)!r} names no file: {error}") from error
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise BadData(f"{path} is no regular file")
        if found.st_size > most:
            raise BadData(f"{path} has {found.st_size:,} bytes; g2dbench reads at most {most:,}")
        yield file


def read_bytes(path: Path) -> bytes:
    """All of a file; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def is_present(path: Path) -> bool:
    """Whether there is something to read at a path that a table names, however it is spelt."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def folders(root: Path, names: Sequence[str]) -> list[Path]:
    """Those of the named folders that exist under the root; BadData if there is none."""
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        wanted = " or ".join(f"{name}/" for name in names)
        raise BadData(f"{root} holds no image folder {wanted}{_neighbours(root)}")
    return found


def index_images(places: Sequence[Path], extensions: Sequence[str]) -> dict[str, Path]:
    """Image files below the folders by name without extension.

    Where one name has several files, the earlier extension wins, then the earlier folder, then
    the path. Links to folders are not followed.
    """
    rank = {extension: order for order, extension in enumerate(extensions)}
    best: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for order, place in enumerate(places):
        for path in _files(place):
            if (kind := rank.get(path.suffix.lower())) is None:
                continue
            key = (kind, order, str(path))
            if path.stem not in best or key < best[path.stem][0]:
                best[path.stem] = (key, path)
    return {name: path for name, (_, path) in best.items()}


def _files(place: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names)


def is_within(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path, all links followed, stays within one of these resolved folders."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
        return False
    return any(real.is_relative_to(root) for root in roots)


def trusted_roots(root: Path) -> list[Path]:
    """The root, and the folders that its owner linked directly into it, all resolved.

    Big image folders often live on another disk behind such a link. What a table names must not
    leave these: neither through `..` nor through a link further down. A root that is no folder,
    such as a hub's data set, has none.
    """
    if not root.is_dir():
        return [root.resolve()]
    linked = [child.resolve() for child in root.iterdir() if child.is_symlink() and child.is_dir()]
    return [root.resolve(), *sorted(linked)]


def check_layout(root: Path) -> None:
    """BadData unless the root is a folder."""
    if not root.is_dir():
        raise BadData(f"there is no folder {root}{_neighbours(root.parent)}")


def layout_hint(root: Path, layout: Sequence[str]) -> str:
    """What to give as --root, where nothing that a data set consists of lies in the root.

    layout: files and folders as a card lists them, perhaps followed by words. The folders around
    the root are looked at, since one too high or too low is the usual mistake.
    """
    if not layout or _holds_any(root, layout):
        return ""
    below = sorted(folder for pattern in ("*/", "*/*/") for folder in root.glob(pattern))
    around = [*root.absolute().parents[:2], *below[:_MOST_LOOKED_AT]]
    near = next((folder for folder in around if _holds_any(folder, layout)), None)
    instead = f": did you mean --root {shlex.quote(str(near))}?" if near else ""
    return f"; --root is to be the folder that holds {', '.join(layout)}{instead}"


_MOST_LOOKED_AT = 500


def _holds_any(folder: Path, layout: Sequence[str]) -> bool:
    return any(os.path.exists(folder / entry.split(" ")[0]) for entry in layout)


def relative_name(path: Path, root: Path) -> str:
    """A file's name from the root, with `/`; links directly below the root keep their name."""
    if path.is_relative_to(root):
        return printable(path.relative_to(root).as_posix())
    return printable(Path(os.path.relpath(path.resolve(), root.resolve())).as_posix())


def printable(name: str) -> str:
    r"""A file's name as text; bytes that are no UTF-8 are spelt out, as in `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


def _neighbours(folder: Path) -> str:
    """What lies where something was not found, for the error's end."""
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    names = sorted(child.name for child in folder.iterdir())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; {folder} holds: {shown or 'nothing'}"


def files_below(place: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are not followed."""
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names)
