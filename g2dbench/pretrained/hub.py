"""A model's folder, on this machine or from the hub, and the errors where there is none.

Only files of weights, configuration and vocabulary are requested; code of a hub repository is
neither downloaded nor executed. `HF_HUB_OFFLINE=1` and the hub's own cache are respected.
"""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from g2dbench.errors import BadCheckpoint, Misuse

HUB_PREFIX = "hf-hub:"
_CONFIG_PATTERNS = ["*.json", "*.txt", "*.model"]
_WEIGHTS_PATTERNS = ("*.safetensors", "*.bin")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TIMEOUT_S = 5.0


def model_folder(source: str | None, card: str, *needed: str) -> Path:
    """The folder of `--model CARD:SOURCE`: SOURCE itself, or a hub repository's local copy.

    needed: files that the folder must contain. Raises Misuse for a SOURCE that is neither a folder
    nor a hub id, BadCheckpoint where the download fails or a needed file is missing.
    """
    if source is None:
        raise Misuse(
            f"model {card!r} needs a folder or a hub id: {card}:FOLDER or {card}:ORGANIZATION/NAME"
        )
    folder = Path(source).expanduser()
    if folder.is_file():
        raise Misuse(
            f"model {card!r} takes a folder with {' and '.join(needed)} beside the weights, or a "
            f"hub id, but {folder} is a file: put it into such a folder, and give the folder"
        )
    if not folder.is_dir():
        folder = _download(source.removeprefix(HUB_PREFIX), card)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise BadCheckpoint(
            f"{folder} does not contain {', '.join(missing)}: is it a model for {card!r}?"
        )
    for path in folder.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would block
            raise BadCheckpoint(f"{path} is a pipe or a device: a model has files alone")
    return folder


def _download(name: str, card: str) -> Path:
    if not _HUB_ID.fullmatch(name):
        raise Misuse(
            f"{name!r} is neither a folder nor a hub id (ORGANIZATION/NAME) for model {card!r}"
        )
    try:
        for weights in _WEIGHTS_PATTERNS:
            folder = Path(
                snapshot_download(
                    name, allow_patterns=[*_CONFIG_PATTERNS, weights], etag_timeout=_TIMEOUT_S
                )
            )
            if any(folder.glob(weights)):
                break
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"cannot get {name} from the hub or its local cache "
            f"({str(error).splitlines()[0]}); on a connected machine run "
            f"`hf download {name} --local-dir FOLDER`, copy FOLDER here and give {card}:FOLDER"
        ) from error
    return folder


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model's folder; BadCheckpoint where the file is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} is not readable JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{file} contains a JSON {type(content).__name__}, expected an object")
    return content
