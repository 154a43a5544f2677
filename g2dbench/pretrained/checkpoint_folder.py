"""A published checkpoint beside the configuration and vocabulary of its text encoder."""

from collections.abc import Sequence
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.pretrained.text.bert import CONFIG_FILE, missing_files

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors")
TOKENIZER_FILES = ((CONFIG_FILE,), ("vocab.txt", "tokenizer.json"))
"""What a text encoder needs whose weights are inside the checkpoint."""


def find_checkpoint(source: str | None, card: ModelCard, beside: str) -> Path:
    """The checkpoint of SOURCE: the file itself, or the only one in a folder.

    beside: name of the folder that must lie beside the checkpoint. Raises Misuse without a source
    or with several checkpoints, BadCheckpoint for a folder without one.
    """
    if source is None:
        raise Misuse(
            f"{card.name} needs its weights: --model {card.name}:FOLDER, FOLDER with a checkpoint "
            f"of {card.source} and {beside}/"
        )
    path = Path(source).expanduser()
    if not path.is_dir():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not found:
        raise BadCheckpoint(f"{path} contains no checkpoint: put one of {card.source} there")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise Misuse(
            f"{path} contains {names}: choose one of them, as --model {card.name}:{found[0]}"
        )
    return found[0]


def text_folder(
    checkpoint: Path,
    card: ModelCard,
    name: str,
    hub_id: str,
    files: Sequence[Sequence[str]] = TOKENIZER_FILES,
) -> Path:
    """The folder `name` beside the checkpoint; BadCheckpoint lists the files that it lacks."""
    folder = checkpoint.parent / name
    missing = missing_files(folder, files)
    if missing:
        raise BadCheckpoint(
            f"{card.name} reads the configuration and vocabulary of its text encoder from "
            f"{folder}, which lacks {', '.join(missing)}: on a connected machine run "
            f"`hf download {hub_id} --local-dir {name}`, and put the folder there"
        )
    return folder
