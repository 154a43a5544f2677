"""A cost model of pre-training and evaluation on 1 to 1,024 GPUs; prints the tables of its page.

    python benchmarks/scaling.py

docs/scaling.md names the source of each number. Rates of one GPU are measured; the networks, the
storage and the failures are assumptions. The time of the grid and the loss by failures are also
simulated, as a check of their formulas. Nothing here needs a GPU or a network.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np

GPUS = (1, 8, 64, 256, 1024)
PAIRS = (213_000, 1_000_000, 10_000_000, 100_000_000)

# Measured on one NVIDIA H200.
TRAIN_RATE = 1378.0  # images/s, bf16, ResNet-50 + BERT-base, 256 px, batch 128
BATCH = 128
LOADER_RATE, LOADER_WORKERS = 6154.0, 4  # images/s at 256 px
ENCODE_RATE, ENCODE_RATE_READING = 10_930.0, 1349.0  # images/s, ResNet-50 in bf16, evaluation

# Assumed.
PARAMETERS = 134e6  # ResNet-50 24 M + BERT-base 110 M, all trained: an upper bound
GRADIENT_BYTES = 4 * PARAMETERS  # fp32
CHECKPOINT_BYTES = 12 * PARAMETERS  # fp32 weights and two Adam moments
WIDTH = 128  # of the embeddings
GPUS_PER_NODE = 8
NVLINK = 0.8 * 450e9  # bytes/s and direction
NETWORKS = {"8 x 400 Gbit/s": 0.8 * 50e9, "1 x 100 Gbit/s": 0.8 * 12.5e9 / 8}  # bytes/s per GPU
LATENCY = 10e-6  # s per hop of a tree
BACKWARD = 2 / 3  # share of a step behind which the gradients' all-reduce can hide
FP32_FLOPS = 40e12  # of the loss's products
IMAGE_BYTES = 256 * 256  # one byte per pixel, as in a prepared store
SHARED_STORAGE, LOCAL_DISK = 10e9, 5e9  # bytes/s: of a cluster's file system, of one node's disk
WRITE_RATE = 1e9  # bytes/s of one process
HOURS_BETWEEN_FAILURES = 50_000.0  # of one GPU
RESTART_SECONDS = 300.0
EPOCHS = 50
LARGEST_BATCH = 32_768  # the largest with which CLIP was trained


@dataclass(frozen=True)
class Step:
    """Seconds of one optimizer step. exposed: of the gradients' all-reduce, not hidden."""

    compute: float
    gathering: float
    products: float
    exposed: float
    reduce: float

    @property
    def total(self) -> float:
        return self.compute + self.gathering + self.products + self.exposed

    @property
    def efficiency(self) -> float:
        return self.compute / self.total


def step(gpus: int, network: float) -> Step:
    compute = BATCH / TRAIN_RATE
    reduce = all_reduce(GRADIENT_BYTES, gpus, network)
    # Two embeddings per pair, gathered forward and reduce-scattered backward.
    gathered = 2 * gather(2 * BATCH * WIDTH * 4, gpus, network)
    # Two directions, forward and backward (twice), B x NB x D multiplications and additions.
    products = 2 * 3 * 2 * BATCH * (BATCH * gpus) * WIDTH / FP32_FLOPS
    exposed = max(0.0, reduce - BACKWARD * compute)
    return Step(compute, gathered, products, exposed, reduce)


def hops(gpus: int) -> float:
    return LATENCY * math.ceil(math.log2(gpus)) if gpus > 1 else 0.0


def all_reduce(size: float, gpus: int, network: float) -> float:
    """Reduce-scatter in a node, a ring over the nodes for each share, gather in a node."""
    inside, nodes = min(gpus, GPUS_PER_NODE), math.ceil(gpus / GPUS_PER_NODE)
    within = 2 * (inside - 1) / inside * size / NVLINK
    between = 2 * (nodes - 1) / nodes * size / inside / network
    return within + between + 2 * hops(gpus)


def gather(own: float, gpus: int, network: float) -> float:
    """Each GPU receives the bytes of all others: of its node by NVLink, of the rest shared out."""
    nodes = math.ceil(gpus / GPUS_PER_NODE)
    return own * ((gpus - 1) / NVLINK + (nodes - 1) / network) + hops(gpus)


def checkpoint_interval(gpus: int) -> float:
    """Seconds between checkpoints with the least loss (Young 1974)."""
    return math.sqrt(2 * CHECKPOINT_BYTES / WRITE_RATE * HOURS_BETWEEN_FAILURES * 3600 / gpus)


def failure_loss(gpus: int) -> float:
    """Share of the time for writing checkpoints, repeating steps and restarting."""
    interval, write = checkpoint_interval(gpus), CHECKPOINT_BYTES / WRITE_RATE
    rate = gpus / (HOURS_BETWEEN_FAILURES * 3600)
    return write / interval + rate * (interval / 2 + RESTART_SECONDS)


def simulated_failure_loss(gpus: int, days: float = 2000.0) -> float:
    """The same share in a simulated training with random failures."""
    rng = np.random.default_rng(0)
    interval, write = checkpoint_interval(gpus), CHECKPOINT_BYTES / WRITE_RATE
    clock = useful = 0.0
    while clock < days * 86_400:
        alive = rng.exponential(HOURS_BETWEEN_FAILURES * 3600 / gpus)
        useful += alive // (interval + write) * interval
        clock += alive + RESTART_SECONDS
    return 1 - useful / clock


@dataclass(frozen=True)
class Kind:
    """Cells of the grid of one kind. seconds: of one cell on one GPU."""

    name: str
    share: float
    seconds: float


MODELS, IMAGES, CELLS = 20, 393_000, 18_000
KINDS = (
    Kind("scored from features, or zero-shot", 0.50, 10.0),
    Kind("a linear head is fitted on features", 0.33, 30.0),
    Kind("a decoder is fitted on features", 0.12, 600.0),
    Kind("the encoder is fine-tuned", 0.05, 3600.0),
)


def grid_seconds(gpus: int, reading: float) -> float:
    """Features first, then cells: never less than the longest extraction and the longest cell."""
    extraction = MODELS * IMAGES / reading
    cells = sum(CELLS * kind.share * kind.seconds for kind in KINDS)
    longest = max(kind.seconds for kind in KINDS)
    return max(extraction / gpus, extraction / (MODELS * 5)) + max(cells / gpus, longest)


def simulated_grid_seconds(gpus: int, reading: float) -> float:
    """The same with a queue of cells in random order, each with a random length around its mean."""
    rng = np.random.default_rng(0)
    sets = rng.dirichlet(np.full(5, 4.0), MODELS) * IMAGES / reading  # of unequal sizes
    lengths = np.concatenate(
        [np.full(round(CELLS * kind.share), kind.seconds) for kind in KINDS]
    ) * rng.lognormal(-0.125, 0.5, CELLS)
    rng.shuffle(lengths)
    return queue_seconds(sets.ravel(), gpus) + queue_seconds(lengths, gpus)


def queue_seconds(lengths: np.ndarray, gpus: int) -> float:
    """When the last of the jobs ends, if each free GPU takes the next one."""
    free = [0.0] * gpus
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + float(length))
    return max(free)


def main() -> None:
    steps_table()
    training_table()
    input_table()
    failures_table()
    grid_table()


def table(*heads: str) -> None:
    print(f"\n| {' | '.join(heads)} |\n|{'---:|' * len(heads)}")


def row(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |")


def steps_table() -> None:
    table(
        "network", "GPUs", "joint batch", "compute, ms", "gather, ms", "products, ms",
        "all-reduce, ms", "of it exposed, ms", "efficiency", "logits, MiB",
    )  # fmt: skip
    for name, network in NETWORKS.items():
        for gpus in GPUS:
            one = step(gpus, network)
            parts = (one.compute, one.gathering, one.products, one.reduce, one.exposed)
            logits = 2 * BATCH * BATCH * gpus * 4 / 2**20
            times = [f"{1000 * part:.2f}" for part in parts]
            batch = f"{BATCH * gpus:,}"
            row(name, f"{gpus:,}", batch, *times, f"{one.efficiency:.0%}", f"{logits:.1f}")


def training_table() -> None:
    table("pairs", *(f"{gpus:,} GPUs" for gpus in GPUS))
    network = NETWORKS["8 x 400 Gbit/s"]
    for pairs in PAIRS:
        cells = []
        for gpus in GPUS:
            steps = pairs // (BATCH * gpus)
            hours = EPOCHS * steps * step(gpus, network).total / 3600 / (1 - failure_loss(gpus))
            mark = "*" if BATCH * gpus > LARGEST_BATCH else ""
            cells.append(
                f"{hours:.2g} h, {steps:,}{mark}" if hours < 100 else f"{hours:,.0f} h, {steps:,}"
            )
        row(f"{pairs:,}", *cells)


def input_table() -> None:
    table(
        "GPUs",
        "images/s",
        "GB/s",
        "loader processes per GPU",
        "of shared storage",
        "of local disks",
    )
    for gpus in GPUS:
        images = gpus * TRAIN_RATE
        need = images * IMAGE_BYTES
        workers = math.ceil(TRAIN_RATE / (LOADER_RATE / LOADER_WORKERS))
        local = need / (LOCAL_DISK * math.ceil(gpus / GPUS_PER_NODE))
        row(
            f"{gpus:,}", f"{images:,.0f}", f"{need / 1e9:.2f}", workers,
            f"{need / SHARED_STORAGE:.0%}", f"{local:.0%}",
        )  # fmt: skip
    print(f"shared storage is used up at {SHARED_STORAGE / (TRAIN_RATE * IMAGE_BYTES):.0f} GPUs")


def failures_table() -> None:
    table("GPUs", "hours between failures", "checkpoint every, min", "loss", "loss, simulated")
    for gpus in GPUS:
        row(
            f"{gpus:,}", f"{HOURS_BETWEEN_FAILURES / gpus:,.0f}",
            f"{checkpoint_interval(gpus) / 60:.0f}", f"{failure_loss(gpus):.2%}",
            f"{simulated_failure_loss(gpus, max(2000.0, 4e6 / gpus)):.2%}",
        )  # fmt: skip


def grid_table() -> None:
    table("GPUs", "hours", "hours, simulated", "speed-up, simulated", "hours if images are cached")
    alone = simulated_grid_seconds(1, ENCODE_RATE_READING)
    for gpus in GPUS:
        simulated = simulated_grid_seconds(gpus, ENCODE_RATE_READING)
        row(
            f"{gpus:,}", f"{grid_seconds(gpus, ENCODE_RATE_READING) / 3600:.2f}",
            f"{simulated / 3600:.2f}", f"{alone / simulated:.0f}",
            f"{grid_seconds(gpus, ENCODE_RATE) / 3600:.2f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
