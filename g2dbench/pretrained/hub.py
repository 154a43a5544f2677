"""A model's folder, on this machine or from the hub, and what to say when there is none.

Only files of weights, configuration and vocabulary are asked for; code of a hub repository is
neither downloaded nor run. `HF_HUB_OFFLINE=1` and the hub's own cache are respected.
"""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from g2dbench.errors import BadCheckpoint, Misuse

HUB_PREFIX = "hf-hub:"
_TEXT_FILES = ["*.json", "*.txt", "*.model"]
_WEIGHTS = ("*.safetensors", "*.bin")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SECONDS = 5.0


def model_folder(source: str | None, card: str, *needed: str) -> Path:
    """The folder of `--model CARD:SOURCE`: SOURCE itself, or a hub repository's local copy.

    needed: files that the folder must hold. Raises Misuse for a SOURCE that is neither a folder
    nor a hub id, BadCheckpoint where the hub cannot give it or a needed file is absent.
    """
    if source is None:
        raise Misuse(
            f"model {card!r} needs a folder or a hub id: {card}:FOLDER or {card}:ORGANISATION/NAME"
        )
    folder = Path(source).expanduser()
    if folder.is_file():
        raise Misuse(
            f"model {card!r} takes a folder that holds {' and '.join(needed)} beside the weights, "
            f"or a hub id, and {folder} is a file: put it into such a folder, and pass the folder"
        )
    if not folder.is_dir():
        folder = _download(source.removeprefix(HUB_PREFIX), card)
    absent = [name for name in needed if not (folder / name).is_file()]
    if absent:
        raise BadCheckpoint(f"{folder} lacks {', '.join(absent)}: is it a model for {card!r}?")
    return folder


def _download(name: str, card: str) -> Path:
    if not _ID.fullmatch(name):
        raise Misuse(
            f"{name!r} is neither a folder nor a hub id (ORGANISATION/NAME) for model {card!r}"
        )
    try:
        for weights in _WEIGHTS:
            folder = Path(
                snapshot_download(
                    name, allow_patterns=[*_TEXT_FILES, weights], etag_timeout=_SECONDS
                )
            )
            if any(folder.glob(weights)):
                break
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"cannot get {name} from the hub or its local cache "
            f"({str(error).splitlines()[0]}); on a connected machine run "
            f"`hf download {name} --local-dir FOLDER`, copy FOLDER here and say {card}:FOLDER"
        ) from error
    return folder


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a model's folder; BadCheckpoint where it is no such thing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} is no readable JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{file} holds a JSON {type(content).__name__}, wanted an object")
    return content
