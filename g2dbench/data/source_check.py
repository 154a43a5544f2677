"""Compares a prepared store with its source: quickly by names, sizes and times, or row by row."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.prepared_stores import prepare_command
from g2dbench.data.splits.published import Split
from g2dbench.data.store.build import open_source
from g2dbench.data.store.manifest import Manifest
from g2dbench.data.store.request import Request, request
from g2dbench.data.store.source_files import describe_change, scan
from g2dbench.data.store.store import Store
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.system.counts import counted
from g2dbench.system.worker_pool import default_workers

if TYPE_CHECKING:
    from g2dbench.progress import Progress


def check_files(store: Store, registry: Registry) -> str:
    """Compare the names, sizes and times of the source's files; returns what was compared.

    BadData, with the command that prepares the data again, if they have changed.
    """
    manifest = store.manifest
    root = source_root(manifest)
    if root is None:
        return "its source is no folder: only the stored rows were checked"
    if manifest.source is None:
        return (
            "prepared by an older g2dbench, which did not record its source: not compared with it"
        )
    if not root.is_dir():
        return f"its source {root} is not here: only the stored rows were checked"
    found = scan(_request(manifest, root, registry), store.folder.parent)
    if found is None or found.digest != manifest.source.digest:
        now = "no folder" if found is None else describe_change(manifest.source, found)
        raise BadData(f"{store.folder.name}: {now}: {_advice(store)}")
    return f"its source {root} has the same {counted(found.files, 'file')} (names, sizes, times)"


def check_rows(
    store: Store, registry: Registry, progress: "Progress", workers: int | None = 0
) -> str:
    """Read the whole source again and compare each row with the stored one.

    It takes as long as preparing. workers: as there; None uses one per core. BadData if an image or
    its annotations differ, are new or gone.
    """
    root = source_root(store.manifest)
    if root is None or not root.exists():
        raise BadData(f"the source of {store.folder.name}, {store.manifest.origin}, is not here")
    processes = default_workers() if workers is None else workers
    source = open_source(_request(store.manifest, root, registry), processes, progress)
    ids, digests = (store.arrow[name].to_pylist() for name in ("id", "digest"))
    stored = dict(zip(ids, digests, strict=True))
    changed, added = [], []
    for row in progress(source.rows(0), f"compare {store.card.name}", len(source)):
        if isinstance(row, Rejected):
            continue
        before = stored.pop(row["id"], None)
        if before is None:
            added.append(row["id"])
        elif before != row["digest"]:
            changed.append(row["id"])
    kinds = {"changed": changed, "new": added, "gone": list(stored)}
    if told := [f"{len(each)} {kind}, such as {each[0]}" for kind, each in kinds.items() if each]:
        raise BadData(
            f"{store.folder.name}: the images of its source are not those stored: "
            f"{'; '.join(told)}: {_advice(store)}"
        )
    return f"all {counted(len(ids), 'row')} are as a new preparation of {root} makes them"


def source_root(manifest: Manifest) -> Path | None:
    """The folder, or id of a hub, that a store was prepared from; None for generated data."""
    if manifest.card.get("embedded"):
        return None
    return Path(manifest.origin.partition(" with {")[0])


def _request(manifest: Manifest, root: Path, registry: Registry) -> Request:
    options = manifest.origin.partition(" with {")[2]
    name = str(manifest.card["name"])
    reader = manifest.reader or name
    return request(
        reader,
        root,
        registry,
        size=manifest.size,
        split=Split(manifest.split),
        options=json.loads("{" + options) if options else {},
        own_name=name if reader != name else None,
        border=manifest.border,  # type: ignore[arg-type]
    )


def _advice(store: Store) -> str:
    manifest = store.manifest
    command = prepare_command(manifest, store.folder.parent, manifest.size, manifest.split)
    return f"prepare it again with `{command}`"
