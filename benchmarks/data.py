"""Measures reading and augmentation of prepared images, and the memory of `data prepare`.

    python benchmarks/data.py speed [--open-i FOLDER] [--images 1000] [--size 256]
    python benchmarks/data.py memory [--counts 1000 50000]
    python benchmarks/data.py likeness FOLDER...

`speed` runs in one process on one thread and prints two ratios. The first compares random reads
from the store with decoding the same images from JPEG by Pillow. The second compares our training
loader and augmentations with a reimplementation of the released G2D pipeline: a memory-mapped
array, conversion to RGB by Pillow, and torchvision's RandomAffine, ColorJitter and Normalize, image
by image, stacked to batches. The images are those of Open-i (Kaggle's layout) in --open-i, or
synthetic radiographs if that is not given.

`memory` prepares the given numbers of small images with reports, each in a separate process with
one decoding process, and prints the peak memory of both.

`likeness` compares all images in some folders with each other. It prints the number of pairs that a
hash alone and `g2dbench data overlap` classify as the same radiograph, and the similarity of the
most similar other pair.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from g2dbench.data.images.image_file import read_image
from g2dbench.data.overlap import MAX_DIFFERENT_BITS, MIN_CORRELATION, perceptual_hashes, thumbnail
from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.dataset import Dataset
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.training.batches import pair_loader
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, find_pairs

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("--open-i", type=Path)
    speed.add_argument("--images", type=int, default=1000)
    speed.add_argument("--size", type=int, default=256)
    memory = parts.add_parser("memory")
    memory.add_argument("--counts", type=int, nargs="+", default=[1000, 50_000])
    memory.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    likeness = parts.add_parser("likeness")
    likeness.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    if args.part == "speed":
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(Path(folder), args.open_i, args.images, args.size)
    elif args.part == "likeness":
        measure_likeness(args.folders)
    elif args.root:
        prepare_once(args.root)
    else:
        measure_memory(args.counts)


def measure_speed(folder: Path, root: Path | None, count: int, size: int) -> None:
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    name, generation = ("open_i", None) if root else ("synthetic", GenerationSettings(count=count))
    store = prepare(
        name, root, folder, progress=quiet, registry=Registry(), size=size, generation=generation
    )
    some = store.take(np.random.default_rng(0).permutation(len(store))[:count])
    print(f"{len(some)} images of {name} at {size} px, one process on one core")
    compare_reads(some, folder)
    compare_loaders(some, folder)


def compare_reads(store: Store, folder: Path) -> None:
    paths = [folder / f"{index}.jpg" for index in range(len(store))]
    for path, sample in zip(paths, store, strict=True):
        Image.fromarray(sample.image).save(path, quality=95)

    def decode() -> None:
        for path in paths:
            with Image.open(path) as picture:
                np.asarray(picture.convert("L"))

    def read() -> None:
        for index in range(len(store)):
            store[index].image  # noqa: B018

    report("read from the store", len(store), fastest(read), "decode JPEG", fastest(decode))


def compare_loaders(store: Store, folder: Path) -> None:
    pairs = find_pairs(store, "all")
    size = store.size
    tokenize = Tokenize(train_wordpiece(pairs.reports, 1000), 64)
    released = ReleasedPipeline(pairs.dataset, folder / "images.npy", size)
    theirs = fastest(released.epoch)
    preprocess = Preprocess(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    for policy in ("light", "code"):
        for cache_bytes, source in ((pair_loader.CACHE_BYTES, "in memory"), (0, "from the store")):
            pair_loader.CACHE_BYTES = cache_bytes
            settings = LoaderSettings(
                preprocess=preprocess, tokenize=tokenize,
                batch_size=BATCH, seed=0, device=torch.device("cpu"), policy=policy,
            )  # fmt: skip
            ours = PairLoader(pairs, settings)
            used = ours.steps * BATCH
            seconds = fastest(partial(read_epoch, ours)) / used * len(pairs)
            what = f"loader, policy {policy}, {source}"
            report(what, len(pairs), seconds, "released pipeline", theirs)


def read_epoch(loader: PairLoader) -> None:
    for _ in loader.epoch(0):
        pass


class ReleasedPipeline:
    """The image pipeline of the released training code; it returns RGB tensors."""

    def __init__(self, dataset: Dataset, path: Path, size: int) -> None:
        images = [np.asarray(Image.fromarray(s.image).resize((size, size))) for s in dataset]
        np.save(path, np.stack(images))
        self.images = np.load(path, mmap_mode="r")
        self.transform = transforms.Compose(
            [
                transforms.RandomAffine(degrees=15, shear=15),
                transforms.ColorJitter(brightness=0.2, contrast=0.2),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def epoch(self) -> None:
        order = np.random.default_rng(0).permutation(len(self.images))
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            torch.stack([self.sample(row) for row in rows])

    def sample(self, row: int) -> torch.Tensor:
        augmented: torch.Tensor = self.transform(Image.fromarray(self.images[row]).convert("RGB"))
        return augmented


def fastest(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def report(ours: str, count: int, seconds: float, theirs: str, others: float) -> None:
    print(
        f"{ours}: {count / seconds:,.0f} images/s; {theirs}: {count / others:,.0f} images/s; "
        f"ratio {others / seconds:.1f}"
    )


def measure_memory(counts: list[int]) -> None:
    """Print the peak memory of the preparing process and its decoder for each number of images."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = make_root(Path(folder) / "root", count)
            command = [sys.executable, __file__, "memory", "--root", str(root)]
            used = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{count} images: {used.strip()}", flush=True)


def prepare_once(root: Path) -> None:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepare(
        "open_i", root, root.parent, progress=quiet, registry=Registry(), size=32, workers=1
    )  # fmt: skip
    own, child = (
        resource.getrusage(who).ru_maxrss // 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{own} MB, of which {own - start // 1024} MB after the start; decoder: {child} MB")


def measure_likeness(folders: list[Path]) -> None:
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    images = [read_image(path)[0] for path in paths if path.suffix in (".png", ".jpg", ".jpeg")]
    bits = np.array([perceptual_hashes(image) for image in images], np.uint64)
    thumbnails = np.stack([thumbnail(image) for image in images])
    one, other = np.triu_indices(len(images), 1)
    apart = np.bitwise_count(bits[one] ^ bits[other]).astype(int)
    alike = (thumbnails @ thumbnails.T)[one, other]
    near = (apart.sum(1) <= MAX_DIFFERENT_BITS) & (alike >= MIN_CORRELATION)
    print(f"{len(images)} images, {len(one):,} pairs: {near.sum()} nearly the same")
    print(f"least alike of these {alike[near].min():.4f}, most alike of the others ", end="")
    print(f"{alike[~near].max():.4f}")
    for most in (2, 4, 8):
        found = [int((apart[:, kind] <= most).sum()) for kind in (0, 1)]
        print(f"within {most} bits: difference hash {found[0]:,} pairs, DCT hash {found[1]:,}")


def make_root(root: Path, count: int) -> Path:
    """Open-i's layout with `count` entries; their files are hard links to a hundred images."""
    images = root / "images" / "images_normalized"
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        path = images / f"{index}_IM.png"
        if index < 100:
            pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.hardlink_to(images / f"{index % 100}_IM.png")
    words = "the heart is normal in size and the lungs are clear without effusion " * 5
    reports = [f"{i},normal,{words}{i},No acute disease {i}.\n" for i in range(count)]
    files = [f"{i},{i}_IM.png,Frontal\n" for i in range(count)]
    (root / "indiana_reports.csv").write_text(
        "uid,Problems,findings,impression\n" + "".join(reports)
    )
    (root / "indiana_projections.csv").write_text("uid,filename,projection\n" + "".join(files))
    return root


if __name__ == "__main__":
    main()
