"""Weights from untrusted files: read without executing code, loaded without skipping keys.

Readers are tried in this order: safetensors; `torch.load(weights_only=True)`; the unpickler of
`g2dbench.pretrained.restricted_unpickler`. A file is never unpickled in the plain way; TorchScript
and tar archives, which torch would open in other ways, are refused before. Every fault of a file is
a BadCheckpoint that names the file. The keys of a released file are documented only by its code, so
`load_state` reports every missing, unexpected and mismatched key instead of skipping it.
"""

import hashlib
import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.restricted_unpickler import PICKLE_MODULE

State = dict[str, Tensor]

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "teacher", "student")
"""Keys under which training scripts store the state_dict, most specific first."""

BUFFERS = (
    r"(^|\.)position_ids$",
    r"(^|\.)relative_position_index$",
    r"(^|\.)num_batches_tracked$",
    r"(^|\.)attn_mask$",
)
"""Derived or unused buffers that only some versions of the libraries write; always optional."""

_COPY_AGAIN = "download or copy it again and compare its size and checksum with the publisher's"
_MAX_SHOWN = 4


def digest(module: nn.Module) -> str:
    """SHA-256 of the sorted names, dtypes, shapes and bytes of the module's state_dict."""
    return state_digest(module.state_dict())


def state_digest(state: Mapping[str, Tensor]) -> str:
    """The `digest` of a module with this state_dict."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(raw.numpy().data)
    return total.hexdigest()


def read_weights(path: Path | str) -> Any:
    """The content of a weights file, on the CPU: a state_dict, or the nested object around it.

    A safetensors file is recognized by its name or its first bytes; every other file by its content
    (the zip and legacy formats of `torch.save`). Nothing in the file is executed; objects that are
    neither data nor tensors become inert placeholders. Raises BadCheckpoint for a folder and for a
    file that is missing, empty, broken, unsafe, or of another format.
    """
    file = Path(path)
    _check_format(file)
    if file.suffix == ".safetensors" or _is_safetensors(file):
        return _read_safetensors(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as refusal:
        return _read_restricted(file, refusal)


def _is_safetensors(file: Path) -> bool:
    """Whether the file begins with the length of a JSON header that fits into it, and its brace."""
    with file.open("rb") as opened:
        head = opened.read(9)
    length = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and length + 8 <= file.stat().st_size


def _extracted_weights_file(file: Path) -> str:
    """File name for the weights extracted from a TorchScript file, beside that file."""
    return str(file.with_name(f"{file.stem}_weights{file.suffix or '.pt'}"))


def _read_safetensors(file: Path) -> State:
    try:
        state: State = safetensors.torch.load_file(file, device="cpu")
    except Exception as error:  # untrusted bytes: any failure means a broken file
        why = _first_line(error)
        raise BadCheckpoint(
            f"{file} is not a readable safetensors file ({why}); {_COPY_AGAIN}"
        ) from error
    return state


def _read_restricted(file: Path, refusal: Exception) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=PICKLE_MODULE)
    except Exception as error:  # untrusted bytes: any failure means a broken file
        why = _first_line(error) or _first_line(refusal)
        raise BadCheckpoint(
            f"{file} is not a readable PyTorch checkpoint ({why}); {_COPY_AGAIN}"
        ) from error


def _first_line(error: Exception) -> str:
    """First line of an error, without torch's advice to unpickle the file in spite of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _check_format(file: Path) -> None:
    """Raise BadCheckpoint for another kind of file, recognized by its first bytes."""
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.suffix in _SUFFIXES)
        raise BadCheckpoint(f"{file} is a folder, not a weights file; it contains: {_few(inside)}")
    if file.exists() and not file.is_file():
        raise BadCheckpoint(f"{file} is a pipe or a device, not a weights file")
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise BadCheckpoint(f"cannot read the weights file {file}: {error.strerror}") from error
    if not head:
        raise BadCheckpoint(f"{file} is empty; {_COPY_AGAIN}")
    for start, what in _OTHER_FORMATS.items():
        if head.lstrip().lower().startswith(start):
            raise BadCheckpoint(f"{file} is {what}")
    if head.startswith(b"PK"):
        _check_zip(file)
    elif _is_tar(file):
        raise BadCheckpoint(f"{file} is a tar archive; unpack it and give a weights file from it")


def _is_tar(file: Path) -> bool:
    """Whether torch's oldest reader, which extracts files, would accept the file."""
    try:
        with tarfile.open(file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
_OTHER_FORMATS = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights; run `git lfs pull` beside it",
    b"<": "a web page, not weights; the server sent HTML: open the download link in a browser",
    b"\x93numpy": "a NumPy array, not a checkpoint; give the .pt, .pth, .ckpt or .safetensors file",
    b"\x1f\x8b": "gzip-compressed; unpack it and give the weights file from it",
}


def _check_zip(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadCheckpoint(f"{file} is cut short or broken ({error}); {_COPY_AGAIN}") from error
    names = {Path(entry.filename).name for entry in entries}
    if "constants.pkl" in names:
        raise BadCheckpoint(
            f"{file} is a TorchScript program, which is executed when it is opened; if you trust "
            "it, save its weights in Python, and use the new file in its place: "
            f"torch.save(torch.jit.load({str(file)!r}, 'cpu').state_dict(), "
            f"{_extracted_weights_file(file)!r})"
        )
    if "data.pkl" not in names:
        raise BadCheckpoint(
            f"{file} is a zip archive without `data.pkl`, so it is not a PyTorch checkpoint; if it "
            f"is an archive of files ({_few(sorted(names))}), unpack it first"
        )
    if sum(entry.file_size for entry in entries) > 2 * file.stat().st_size:
        raise BadCheckpoint(f"{file} would unpack to more than twice its size; {_COPY_AGAIN}")


def find_state(loaded: object, file: Path | str, inside: Sequence[str] = STATE_DICT_KEYS) -> State:
    """The state_dict in the result of `read_weights`: the object itself, or one of its entries.

    inside: keys under which a state_dict is searched. Entries that are not tensors (such as
    counters) are left out. Raises BadCheckpoint that lists the keys where there is no state_dict.
    """
    if isinstance(loaded, Mapping):
        for name in inside:
            if isinstance(part := loaded.get(name), Mapping) and part:
                return find_state(part, file, tuple(n for n in inside if n != name))
        tensors = {str(key): v for key, v in loaded.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    found = _few([str(key) for key in loaded]) if isinstance(loaded, Mapping) else "not a mapping"
    raise BadCheckpoint(
        f"{file} contains no state_dict, neither at the top level nor under {', '.join(inside)}; "
        f"found: {found}. Save the model's `state_dict()` and give that file"
    )


def strip_prefix(state: Mapping[str, Tensor], *prefixes: str) -> State:
    """Each key without the first of `prefixes` that it starts with; other keys stay as they are."""
    return {_strip(key, prefixes): value for key, value in state.items()}


def _strip(key: str, prefixes: Sequence[str]) -> str:
    found = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
    return key[len(found) :]


def select_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries whose keys start with a prefix, which is removed; others are left out."""
    return {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    file: Path | str,
    ignore: Iterable[str] = (),
    minimum_share: float = 1.0,
) -> tuple[str, ...]:
    """Copy a state_dict into a module; returns the module's keys that are not in the state_dict.

    ignore: regular expressions (searched) of keys that the module does not have on purpose.
    minimum_share: fraction of the module's values that the state_dict must contain; 1 allows no
    missing keys except those of `BUFFERS`. Half precision is converted to the module's dtypes.
    Raises BadCheckpoint with the numbers of missing, unexpected and mismatched keys, and some keys.
    """
    expected = module.state_dict()
    unexpected = [k for k in state if k not in expected and not _matches(k, (*BUFFERS, *ignore))]
    missing = [k for k in expected if k not in state and not _matches(k, BUFFERS)]
    mismatched = [
        why for k, v in state.items() if k in expected and (why := _mismatch(k, v, expected[k]))
    ]
    share = _share([k for k in expected if k in state], expected)
    if mismatched or unexpected or (missing and share < minimum_share):
        raise BadCheckpoint(
            f"{file} does not fit {type(module).__name__}: it contains {share:.0%} of the values; "
            f"missing {len(missing)} ({_few(missing)}), unexpected {len(unexpected)} "
            f"({_few(unexpected)}), mismatched {len(mismatched)} ({_few(mismatched)}). "
            "Is it a file of another model or of another model size? See `g2dbench list models`"
        )
    module.load_state_dict({k: v for k, v in state.items() if k in expected}, strict=False)
    return tuple(missing)


def _mismatch(key: str, given: Tensor, wanted: Tensor) -> str:
    if given.shape != wanted.shape:
        return f"{key} is {tuple(given.shape)}, expected {tuple(wanted.shape)}"
    if given.is_floating_point() != wanted.is_floating_point():
        return f"{key} is {given.dtype}, expected {wanted.dtype}"
    if given.is_floating_point() and not bool(given.isfinite().all()):
        return f"{key} contains NaN or infinity"
    return ""


def _share(keys: Iterable[str], expected: Mapping[str, Tensor]) -> float:
    total = sum(value.numel() for value in expected.values())
    return sum(expected[key].numel() for key in keys) / max(total, 1)


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, key) for pattern in patterns)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_SHOWN])
    return f"{shown}, ..." if len(names) > _MAX_SHOWN else shown or "none"


def matching_cards(keys: Iterable[str], cards: Iterable[ModelCard]) -> list[str]:
    """Names of the cards whose `signature` keys are all among `keys`, longest signature first."""
    present = set(keys)
    fitting = [c for c in cards if c.signature and present.issuperset(c.signature)]
    return [card.name for card in sorted(fitting, key=lambda c: (-len(c.signature), c.name))]
