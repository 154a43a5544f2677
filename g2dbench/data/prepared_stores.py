"""Find the prepared store of a data set by name and size.

A store serves every smaller size (`store.shrink`). Of several sizes, the requested one is used, or
else the smallest larger one; without a requested size, the largest. If there was a choice, a
sentence says which store is used. Stores of one name that differ in anything else than the size are
an error, and its message lists them.
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


def find_store(
    name: str,
    root: Path | None,
    store_root: Path,
    size: int | None = None,
    split: str | None = None,
    echo: Echo = silent,
) -> Store | None:
    """Find the prepared store of a data set's name or of a store's folder name; None if none fits.

    size: short side in pixels; None selects the largest store. Without a split, a store with the
    default split is preferred, and then one with borders. echo: receives a sentence about the store
    that is used, if there was a choice.

    Raises:
        Misuse: several stores of this name differ in root, options or split.
        BadData: a store is broken.
    """
    return choose_size(_select_stores(name, root, store_root, split), size, echo)


def choose_size(folders: list[Path], size: int | None, echo: Echo = silent) -> Store | None:
    """Choose the store from which to read `size`; None if all are smaller.

    folders: stores of one data set that differ in size. Images are shrunk on read if the store is
    larger than `size`. echo: as in `find_store`.
    """
    by_size = {stored_size(folder): folder for folder in folders}
    large_enough = [stored for stored in by_size if size is None or stored >= size]
    if not large_enough:
        return None
    stored = max(large_enough) if size is None else min(large_enough)
    store = Store(by_size[stored])
    name = store.card.name
    if size is None and len(by_size) > 1:
        known = " and ".join(map(str, sorted(by_size)))
        echo(f"{name} is prepared at {known} px: taking {stored} px (--size takes another)")
    elif size is not None and stored > size:
        echo(f"{name} at {size} px: shrunk on read from {store.folder.name}")
    return store if size is None else store.at(size)


def require_store(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    registry: Registry,
    size: int | None = None,
    split: str | None = None,
    echo: Echo = silent,
) -> Store:
    """Return the store that `find_store` finds; BadData says how to prepare a missing one."""
    store = find_store(name, root, store_root, size, split, echo)
    if store is not None:
        return store
    folders = [folder for folder in _store_folders(store_root) if is_named(folder, name)]
    if not folders:
        raise _not_prepared(name, store_root, registry, size, split)
    others = [read_manifest(folder) for folder in folders]
    if root is not None:
        others = [other for other in others if is_from(other.origin, root)]
    if not others:
        raise Misuse(f"{name!r} was not prepared from {root}, but:{_list_stores(folders)}")
    candidates = [other for other in others if split in (None, other.split)] or others
    largest = max(candidates, key=lambda other: other.size)
    raise _prepared_otherwise(name, largest, store_root, size, split)


def stores_in(store_root: Path) -> list[Store]:
    """Open every complete store in a folder, in the order of their names."""
    every = _store_folders(store_root)
    return [Store(folder) for folder in every if (folder / MANIFEST_FILE).is_file()]


def store_names(store_root: Path) -> set[str]:
    """Return the names of all stores in a folder: of their data sets and of their folders."""
    folders = [folder.name for folder in _store_folders(store_root)]
    return {folder.rsplit("-", 2)[0] for folder in folders} | set(folders)


def check_known(name: str, store_root: Path, registry: Registry) -> None:
    """Misuse unless a name is that of a known data set or of a prepared store."""
    cards, own = registry.cards(DatasetCard), store_names(store_root)
    if name in {card.name for card in cards} | own:
        return
    sets = {folder.rsplit("-", 2)[0] for folder in own if _FOLDER.fullmatch(folder)}
    known = sorted(sets | {card.name for card in cards if not card.generic})
    raise Misuse(
        f"{unknown_name('data set', name, known, 'g2dbench data list')}; data of your own are "
        "prepared first: "
        f"`g2dbench data prepare images --root FOLDER --name {shlex.quote(name)}`"
    )


def all_sizes(store_root: Path, folder: str) -> list[Path]:
    """Return the stores that differ from the store name `folder` at most in size."""
    name, _, key = folder.rsplit("-", 2)
    every = _store_folders(store_root)
    return [other for other in every if other.name.rsplit("-", 2)[::2] == [name, key]]


_FOLDER = re.compile(r"(.+)-(\d+)-[0-9a-f]{8}")


def _store_folders(store_root: Path) -> list[Path]:
    """Return the folders whose names have the form of a store's name."""
    inside = store_root.iterdir() if store_root.is_dir() else iter(())
    return sorted(folder for folder in inside if folder.is_dir() and _FOLDER.fullmatch(folder.name))


def is_named(folder: Path, name: str) -> bool:
    """Whether `name` is the data set of a store's folder or the name of the folder."""
    return name in (folder.name, folder.name.rsplit("-", 2)[0])


def stored_size(folder: Path) -> int:
    """Return the size in pixels that the name of a store's folder states."""
    return int(folder.name.rsplit("-", 2)[1])


def _select_stores(name: str, root: Path | None, store_root: Path, split: str | None) -> list[Path]:
    """Select the stores of a request that differ only in size; Misuse if they differ in more."""
    stores = [folder for folder in _store_folders(store_root) if is_named(folder, name)]
    if any(folder.name == name for folder in stores):
        return [folder for folder in stores if folder.name == name]
    if root is not None:
        stores = [store for store in stores if is_from(read_manifest(store).origin, root)]
    if split is not None:
        stores = [store for store in stores if read_manifest(store).split == split]
    elif _count_variants(stores) > 1:
        stores = [store for store in stores if read_manifest(store).split == OURS] or stores
    if _count_variants(stores) > 1:
        stores = [store for store in stores if read_manifest(store).border == KEEP] or stores
    if _count_variants(stores) > 1:
        raise Misuse(_ambiguity_message(name, stores))
    return stores


def _count_variants(folders: list[Path]) -> int:
    """Count the different combinations of origin, split and border."""
    return len({folder.name.rsplit("-", 1)[1] for folder in folders})


def _ambiguity_message(name: str, stores: list[Path]) -> str:
    """The error for a name with several stores."""
    listed = _list_stores(stores)
    return (
        f"{name!r} was prepared more than once:{listed}\nuse one of these names instead of "
        f"{name!r}, or remove those that are not needed: g2dbench data rm {stores[0].name}"
    )


def _list_stores(folders: list[Path]) -> str:
    """Return a line for each store: its folder name and its origin."""
    origins = {folder.name: _describe_origin(read_manifest(folder)) for folder in folders}
    return "".join(f"\n  {name}  {origin}" for name, origin in origins.items())


def _describe_origin(manifest: Manifest) -> str:
    """Return root, split and border of a store as text."""
    border = "" if manifest.border == KEEP else f", border {manifest.border}"
    return f"from {manifest.origin}, split {manifest.split}{border}"


def _not_prepared(
    name: str, store_root: Path, registry: Registry, size: int | None, split: str | None
) -> BadData:
    """Return the error that says how to prepare a data set; Misuse if it does not exist."""
    check_known(name, store_root, registry)
    card = registry.find(DatasetCard, name).card
    arguments = ["g2dbench", "data", "prepare", name]
    arguments += [] if card.embedded else ["--root", "FOLDER"]
    arguments += ["--name", "NAME"] if card.generic else []
    arguments += ["--split", split] if split else []
    arguments += ["--size", str(size)] if size and size > SIZE else []
    arguments += ["--store", str(store_root)]
    afterwards = ", and from then on --data NAME" if card.generic else ""
    command = shlex.join(arguments)
    return BadData(f"{name!r} is not prepared in {store_root}: run `{command}`{afterwards}")


def _prepared_otherwise(
    name: str, other: Manifest, store_root: Path, size: int | None, split: str | None
) -> BadData:
    """Return the error for a data set that is prepared too small or under another split."""
    lacks_split = split is not None and other.split != split
    wanted = split if lacks_split and split else other.split
    command = prepare_command(other, store_root, max(size or 0, other.size), wanted)
    if lacks_split:
        return BadData(f"{name!r} is prepared, but not under the split {split!r}: run `{command}`")
    return BadData(
        f"{name!r} is prepared at {other.size} px, {size} px are requested: run `{command}`, or "
        f"request {other.size} px (--size {other.size}; pretrain: --set data.size={other.size})"
    )


def prepare_command(manifest: Manifest, store_root: Path, size: int, split: str) -> str:
    """Return the command that prepares the same data at another size or under another split."""
    name, reader = str(manifest.card["name"]), manifest.reader or str(manifest.card["name"])
    root, _, options = manifest.origin.partition(" with {")
    arguments = ["g2dbench", "data", "prepare", reader, "--root", root]
    arguments += ["--name", name] if reader != name else []
    for key, value in json.loads("{" + options).items() if options else ():
        arguments += ["--option", f"{key}={value}"]
    arguments += ["--split", split] if split != OURS else []
    arguments += ["--border", manifest.border] if manifest.border != KEEP else []
    return shlex.join([*arguments, "--size", str(size), "--store", str(store_root)])
