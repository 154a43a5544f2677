"""Small files of models with a text encoder, in their official layouts, from golden files."""

from collections.abc import Callable
from pathlib import Path

from support.models import golden
from support.models.encoder_releases import write_state
from support.originals import seeded


def make_unimed_clip(folder: Path) -> Path:
    """One of the three files, with the vocabulary beside it."""
    seeded.write_vocabulary(folder)
    state = golden.seeded_state(golden.read("unimed_clip")["shapes"])
    named = {f"module.{key}": value for key, value in state.items()}
    return write_state(folder / "unimed_clip_vit_b16.pt", named, "state_dict")


WITH_TEXT: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "unimed-clip": ("unimed-clip", make_unimed_clip),
}
"""Name of a case -> the card and what writes its SOURCE, as in `small_baselines.FACTORIES`."""
