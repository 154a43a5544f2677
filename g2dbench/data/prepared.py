"""Prepared data sets: find the one that is meant, at the size that is asked for.

One store serves every smaller size (`store.shrink`). Of several sizes the asked one is taken, else
the smallest larger one, else, where no size is asked for, the largest. Which one it is, is told.
Stores of one name that differ in anything else are not chosen between: the message names them.
"""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.images.border import KEEP
from g2dbench.data.splits.published import OURS
from g2dbench.data.store.manifest import MANIFEST_FILE, Manifest, read_manifest
from g2dbench.data.store.request import SIZE, is_from
from g2dbench.data.store.store import Store
from g2dbench.errors import BadData, Misuse
from g2dbench.registry import Registry, unknown_name

Echo = Callable[[str], object]


def silent(_: str) -> None:
    """Ignore the sentence."""


def find(
    name: str,
    root: Path | None,
    store_root: Path,
    size: int | None = None,
    split: str | None = None,
    echo: Echo = silent,
) -> Store | None:
    """The prepared store of a name, or of a store's folder; None where none holds that size.

    size: short side in pixels; without one the largest store is taken. Without a split the default
    one's store goes before others, and one with its borders before one without. echo: is told which
    store was taken where there was a choice.

    Raises:
        Misuse: stores of the name differ in root, options or split, and the request does not say.
        BadData: a store that is looked at is broken.
    """
    return choose(_fitting(name, root, store_root, split), size, echo)


def choose(folders: list[Path], size: int | None, echo: Echo = silent) -> Store | None:
    """Of one data set's stores at several sizes the one to read `size` from; None if all are less.

    What is smaller than a store is shrunk on read.
    """
    by_size = {size_of(folder): folder for folder in folders}
    enough = [packed for packed in by_size if size is None or packed >= size]
    if not enough:
        return None
    packed = max(enough) if size is None else min(enough)
    store = Store(by_size[packed])
    name = store.card.name
    if size is None and len(by_size) > 1:
        known = " and ".join(map(str, sorted(by_size)))
        echo(f"{name} is prepared at {known} px: taking {packed} px (--size takes another)")
    elif size is not None and packed > size:
        echo(f"{name} at {size} px: shrunk on read from {store.folder.name}")
    return store if size is None else store.at(size)


def prepared(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    registry: Registry,
    size: int | None = None,
    split: str | None = None,
    echo: Echo = silent,
) -> Store:
    """The prepared store of a name; BadData with the command that makes it where there is none."""
    store = find(name, root, store_root, size, split, echo)
    if store is not None:
        return store
    folders = [folder for folder in _places(store_root) if is_of(folder, name)]
    if not folders:
        raise _never_prepared(name, store_root, registry, size, split)
    others = [read_manifest(folder) for folder in folders]
    if root is not None:
        others = [other for other in others if is_from(other.origin, root)]
    if not others:
        raise Misuse(f"{name!r} was not prepared from {root}, but:{_list(folders)}")
    alike = [other for other in others if split in (None, other.split)] or others
    largest = max(alike, key=lambda other: other.size)
    raise _other_prepared(name, largest, store_root, size, split)


def prepared_in(store_root: Path) -> list[Store]:
    """Every complete store of a folder, by name; unfinished ones are not listed."""
    return [Store(place) for place in _places(store_root) if (place / MANIFEST_FILE).is_file()]


def names_in(store_root: Path) -> set[str]:
    """What names the stores of a folder: data sets, a user's own among them, and their folders."""
    folders = [folder.name for folder in _places(store_root)]
    return {folder.rsplit("-", 2)[0] for folder in folders} | set(folders)


def check_known(name: str, store_root: Path, registry: Registry) -> None:
    """Misuse unless a name is a data set's, or one under which something was prepared."""
    cards, own = registry.cards(DatasetCard), names_in(store_root)
    if name in {card.name for card in cards} | own:
        return
    sets = {folder.rsplit("-", 2)[0] for folder in own if _FOLDER.fullmatch(folder)}
    known = sorted(sets | {card.name for card in cards if not card.generic})
    raise Misuse(
        f"{unknown_name('data set', name, known)}; data of your own are prepared first: "
        f"`g2dbench data prepare images --root FOLDER --name {shlex.quote(name)}`"
    )


def sizes_of(store_root: Path, folder: str) -> list[Path]:
    """The stores that differ from `folder`, a store's name, in nothing but the size."""
    name, _, key = folder.rsplit("-", 2)
    return [place for place in _places(store_root) if place.name.rsplit("-", 2)[::2] == [name, key]]


_FOLDER = re.compile(r"(.+)-(\d+)-[0-9a-f]{8}")


def _places(store_root: Path) -> list[Path]:
    """The folders that are named like stores."""
    inside = store_root.iterdir() if store_root.is_dir() else iter(())
    return sorted(place for place in inside if place.is_dir() and _FOLDER.fullmatch(place.name))


def is_of(place: Path, name: str) -> bool:
    """Whether a store's folder is of this data set, or is the one that is named."""
    return name in (place.name, place.name.rsplit("-", 2)[0])


def size_of(place: Path) -> int:
    """The size of a store's images, by its folder's name."""
    return int(place.name.rsplit("-", 2)[1])


def _fitting(name: str, root: Path | None, store_root: Path, split: str | None) -> list[Path]:
    """The stores of one data set that differ in size alone; Misuse where they differ in more."""
    fits = [folder for folder in _places(store_root) if is_of(folder, name)]
    if any(folder.name == name for folder in fits):
        return [folder for folder in fits if folder.name == name]
    if root is not None:
        fits = [fit for fit in fits if is_from(read_manifest(fit).origin, root)]
    if split is not None:
        fits = [fit for fit in fits if read_manifest(fit).split == split]
    elif _keys(fits) > 1:
        fits = [fit for fit in fits if read_manifest(fit).split == OURS] or fits
    if _keys(fits) > 1:
        fits = [fit for fit in fits if read_manifest(fit).border == KEEP] or fits
    if _keys(fits) > 1:
        raise Misuse(_which(name, fits))
    return fits


def _keys(folders: list[Path]) -> int:
    """Of how many origins, splits and borders the stores are."""
    return len({folder.name.rsplit("-", 1)[1] for folder in folders})


def _which(name: str, fits: list[Path]) -> str:
    return (
        f"{name!r} was prepared more than once:{_list(fits)}\nsay one of these names instead of "
        f"{name!r}, or remove what is not needed: g2dbench data rm {fits[0].name}"
    )


def _list(folders: list[Path]) -> str:
    """A line for each store: its folder's name, which is a name for it, and what it is from."""
    return "".join(f"\n  {folder.name}  {_told(read_manifest(folder))}" for folder in folders)


def _told(manifest: Manifest) -> str:
    cut = "" if manifest.border == KEEP else f", border {manifest.border}"
    return f"from {manifest.origin}, split {manifest.split}{cut}"


def _never_prepared(
    name: str, store_root: Path, registry: Registry, size: int | None, split: str | None
) -> BadData:
    """Misuse where there is no such data set, else the error that says how to prepare it."""
    check_known(name, store_root, registry)
    card = registry.find(DatasetCard, name).card
    words = ["g2dbench", "data", "prepare", name]
    words += [] if card.embedded else ["--root", "FOLDER"]
    words += ["--name", "NAME"] if card.generic else []
    words += ["--split", split] if split else []
    words += ["--size", str(size)] if size and size > SIZE else []
    words += ["--store", str(store_root)]
    then = ", and from then on --data NAME" if card.generic else ""
    return BadData(f"{name!r} is not prepared in {store_root}: run `{shlex.join(words)}`{then}")


def _other_prepared(
    name: str, other: Manifest, store_root: Path, size: int | None, split: str | None
) -> BadData:
    """The error where the data set is prepared, but too small or under another split."""
    lacks_split = split is not None and other.split != split
    asked = split if lacks_split and split else other.split
    command = _command(other, store_root, max(size or 0, other.size), asked)
    if lacks_split:
        return BadData(f"{name!r} is prepared, but not under the split {split!r}: run `{command}`")
    return BadData(
        f"{name!r} is prepared at {other.size} px, {size} px are asked for: run `{command}`, or "
        f"ask for {other.size} px (--size {other.size}; pretrain: --set data.size={other.size})"
    )


def _command(manifest: Manifest, store_root: Path, size: int, split: str) -> str:
    """The command that prepares the same data set at another size or under another split."""
    name, reader = str(manifest.card["name"]), manifest.reader or str(manifest.card["name"])
    root, _, told = manifest.origin.partition(" with {")
    words = ["g2dbench", "data", "prepare", reader, "--root", root]
    words += ["--name", name] if reader != name else []
    for key, value in json.loads("{" + told).items() if told else ():
        words += ["--option", f"{key}={value}"]
    words += ["--split", split] if split != OURS else []
    words += ["--border", manifest.border] if manifest.border != KEEP else []
    return shlex.join([*words, "--size", str(size), "--store", str(store_root)])
