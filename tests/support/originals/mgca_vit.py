"""MGCA with a vision transformer: as `mgca`, with a small ViT of patches of 16 pixels."""

from pathlib import Path

from torch import Tensor

from support.originals import mgca

CARD, CHECKOUT, COMMIT = mgca.CARD, mgca.CHECKOUT, mgca.COMMIT
ours, thinned = mgca.ours, mgca.thinned


def state() -> dict[str, Tensor]:
    return mgca.make_state(mgca.vit_layout())


def write(folder: Path) -> Path:
    return mgca.write_state(folder, state())


def original(checkout: Path) -> dict[str, Tensor]:
    return mgca.run(checkout, "vit_base", state())
