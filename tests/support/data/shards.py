"""Shared by the tests of streams: exported and foreign shards, and an http store."""

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from g2dbench.data.prepare import stores_in
from g2dbench.data.shards.export import export
from g2dbench.data.shards.index import Index
from g2dbench.data.shards.stream import Stream, open_stream
from g2dbench.data.store.store import Store
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import DataSettings
from g2dbench.training.batches import source
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.shard_loader import StreamLoader

CPU = torch.device("cpu")
DATA = DataSettings(size=64)


def the_store(small_store: Path) -> Store:
    (store,) = stores_in(small_store)
    return store


def exported(small_store: Path, out: object, kind: Any = "parquet", images: int = 12) -> Index:
    return export(the_store(small_store), kind, str(out), shard_images=images, progress=quiet)


def opened(address: object, store: Path, side: int = 64, **changes: Any) -> Stream:
    settings = {"buffer": 16, "echo": lambda _: None, **changes}
    return open_stream(str(address), side, store, progress=quiet, **settings)


def a_loader(stream: Stream, **changes: Any) -> StreamLoader:
    pairs = source.training_pairs(stream, DATA, 1)
    tokenizer = train_wordpiece(pairs.reports, 200)
    settings = LoaderSettings(
        preprocess=Preprocess(size=32, mean=(0.5,)), tokenize=Tokenize(tokenizer, 32),
        batch_size=4, seed=0, policy="light", device=CPU,
    )  # fmt: skip
    found = source.make_loader(pairs, replace(settings, **changes))
    assert isinstance(found, StreamLoader)
    return found


def png(value: int = 90, size: tuple[int, int] = (40, 48)) -> bytes:
    pixels = np.full(size, value, np.uint8)
    pixels[: size[0] // 2] //= 2
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def some_members(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    members = []
    for number in range(start, start + count):
        members.append((f"p{number:03d}.png", png(number)))
        members.append((f"p{number:03d}.txt", f"Finding number {number} is seen.".encode()))
    return members


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "shards.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; a path in `answers` gets that status, once per entry of its list."""

    answers: Mapping[str, list[int]]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        for name, codes in self.answers.items():
            if name in self.path and codes:
                self.send_error(codes.pop(0))
                return
        super().do_GET()

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def served(folder: Path, **answers: list[int]) -> Iterator[tuple[str, list[str]]]:
    """The address of an http store on loopback, and the paths that were requested."""
    asked: list[str] = []
    told = {name.replace("_", "-"): codes for name, codes in answers.items()}
    kind = type("Own", (Handler,), {"answers": told, "asked": asked})

    def handler(*words: Any) -> Handler:
        return kind(*words, directory=str(folder))

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
