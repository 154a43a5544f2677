"""Weights out of files that strangers made: read without running, fitted without guessing.

Read in this order: safetensors; `torch.load(weights_only=True)`; the restricted unpickler of
`g2dbench.pretrained.restricted_unpickler`. A plain unpickle never happens; TorchScript and tar
archives, which torch would open in other ways, are refused first. Whatever is wrong with a file
ends as one BadCheckpoint sentence that names it. Key layouts of released files are known only by
their code, so `load_state` reports every missing, unexpected and mis-shaped key instead of
skipping it.
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

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "module", "teacher", "student")
"""Where training scripts put the state_dict, most specific first."""

BUFFERS = (
    r"(^|\.)position_ids$",
    r"(^|\.)relative_position_index$",
    r"(^|\.)num_batches_tracked$",
    r"(^|\.)attn_mask$",
)
"""Derived or unused buffers that libraries' versions write or not; never a reason to refuse."""

_AGAIN = "download or copy it again and compare its size and checksum with the publisher's"
_SHOWN = 4


def digest(module: nn.Module) -> str:
    """SHA-256 over the sorted names, dtypes, shapes and bytes of the module's state_dict."""
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
    """What a weights file holds, on the CPU: a state_dict, or the nested object around it.

    .safetensors by name; every other file by content (`torch.save`'s zip and legacy formats).
    Nothing in the file is executed; objects that are neither data nor tensors come back inert.
    Raises BadCheckpoint for a folder and for a missing, empty, broken, foreign or unsafe file.
    """
    file = Path(path)
    _refuse_foreign(file)
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as refusal:
        return _read_restricted(file, refusal)


def _weights_of(file: Path) -> str:
    """Where the weights of a TorchScript file go: beside it, under a name that says so."""
    return str(file.with_name(f"{file.stem}_weights{file.suffix or '.pt'}"))


def _read_safetensors(file: Path) -> State:
    try:
        state: State = safetensors.torch.load_file(file, device="cpu")
    except Exception as error:  # bytes of a stranger: any failure means a broken file
        why = _short(error)
        raise BadCheckpoint(f"{file} is no readable safetensors file ({why}); {_AGAIN}") from error
    return state


def _read_restricted(file: Path, refusal: Exception) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=PICKLE_MODULE)
    except Exception as error:  # bytes of a stranger: any failure means a broken file
        why = _short(error) or _short(refusal)
        raise BadCheckpoint(
            f"{file} is no readable PyTorch checkpoint ({why}); {_AGAIN}"
        ) from error


def _short(error: Exception) -> str:
    """First line of an error, without a library's advice to unpickle all the same."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _refuse_foreign(file: Path) -> None:
    """Turn away what is no weights file, by its first bytes, with the reason a user can act on."""
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.suffix in _SUFFIXES)
        raise BadCheckpoint(f"{file} is a folder, not a weights file; in it: {_few(inside)}")
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise BadCheckpoint(f"cannot read the weights file {file}: {error.strerror}") from error
    if not head:
        raise BadCheckpoint(f"{file} is empty; {_AGAIN}")
    for start, what in _FOREIGN.items():
        if head.lstrip().lower().startswith(start):
            raise BadCheckpoint(f"{file} is {what}")
    if head.startswith(b"PK"):
        _refuse_zip(file)
    elif _is_tar(file):
        raise BadCheckpoint(f"{file} is a tar archive; unpack it and give a weights file out of it")


def _is_tar(file: Path) -> bool:
    """Whether torch's oldest reader, which extracts files, would take it."""
    try:
        with tarfile.open(file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights; run `git lfs pull` beside it",
    b"<": "a web page, not weights; the download was answered with HTML, open the link by hand",
    b"\x93numpy": "a NumPy array, not a checkpoint; give the .pt, .pth, .ckpt or .safetensors file",
    b"\x1f\x8b": "gzip-compressed; unpack it and give the weights file out of it",
}


def _refuse_zip(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadCheckpoint(f"{file} is cut short or broken ({error}); {_AGAIN}") from error
    names = {Path(entry.filename).name for entry in entries}
    if "constants.pkl" in names:
        raise BadCheckpoint(
            f"{file} is a TorchScript program, which runs when it is opened; where you trust it, "
            "save its weights in Python, and use the new file in its place: "
            f"torch.save(torch.jit.load({str(file)!r}, 'cpu').state_dict(), {_weights_of(file)!r})"
        )
    if "data.pkl" not in names:
        raise BadCheckpoint(
            f"{file} is a zip archive without `data.pkl`: no PyTorch checkpoint; where it is an "
            f"archive of files ({_few(sorted(names))}), unpack it first"
        )
    if sum(entry.file_size for entry in entries) > 2 * file.stat().st_size:
        raise BadCheckpoint(f"{file} would unpack to far more than its size; {_AGAIN}")


def find_state(loaded: object, file: Path | str, inside: Sequence[str] = CONTAINERS) -> State:
    """The state_dict in what `read_weights` returned: the object itself, or under one of `inside`.

    Entries that are no tensors (a bare state_dict's counters) are left out. Raises BadCheckpoint
    that lists the names found where there is no state_dict.
    """
    if isinstance(loaded, Mapping):
        for name in inside:
            if isinstance(part := loaded.get(name), Mapping) and part:
                return find_state(part, file, tuple(n for n in inside if n != name))
        tensors = {str(key): v for key, v in loaded.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    found = _few([str(key) for key in loaded]) if isinstance(loaded, Mapping) else "no mapping"
    raise BadCheckpoint(
        f"{file} holds no state_dict, neither itself nor under {', '.join(inside)}; "
        f"found: {found}. Save the model's `state_dict()` and give that file"
    )


def strip_prefix(state: Mapping[str, Tensor], *prefixes: str) -> State:
    """Each key without the first of `prefixes` that it starts with; other keys stay as they are."""
    return {_strip(key, prefixes): value for key, value in state.items()}


def _strip(key: str, prefixes: Sequence[str]) -> str:
    found = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
    return key[len(found) :]


def part(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under a prefix, without it; all others are left out."""
    return {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    file: Path | str,
    ignore: Iterable[str] = (),
    minimum_share: float = 1.0,
) -> tuple[str, ...]:
    """Copy a state_dict into a module; returns the module's keys that kept their fresh values.

    ignore: regular expressions (searched) of the file's keys that the module rightly lacks.
    minimum_share: how much of the module's values the file must give; 1 allows no missing key
    but those of `BUFFERS`. Half-precision files are widened to the module's types.
    Raises BadCheckpoint that counts the missing, unexpected and unfit keys and shows some of each.
    """
    expected = module.state_dict()
    foreign = [k for k in state if k not in expected and not _matches(k, (*BUFFERS, *ignore))]
    lacking = [k for k in expected if k not in state and not _matches(k, BUFFERS)]
    unfit = [why for k, v in state.items() if k in expected and (why := _misfit(k, v, expected[k]))]
    share = _share([k for k in expected if k in state], expected)
    if unfit or foreign or (lacking and share < minimum_share):
        raise BadCheckpoint(
            f"{file} does not fit {type(module).__name__}: it fills {share:.0%} of the values; "
            f"missing {len(lacking)} ({_few(lacking)}), unexpected {len(foreign)} "
            f"({_few(foreign)}), unfit {len(unfit)} ({_few(unfit)}). "
            "Is it the file of another model or another size? See `g2dbench list models`"
        )
    module.load_state_dict({k: v for k, v in state.items() if k in expected}, strict=False)
    return tuple(lacking)


def _misfit(key: str, given: Tensor, wanted: Tensor) -> str:
    if given.shape != wanted.shape:
        return f"{key} is {tuple(given.shape)}, wanted {tuple(wanted.shape)}"
    if given.is_floating_point() != wanted.is_floating_point():
        return f"{key} is {given.dtype}, wanted {wanted.dtype}"
    if given.is_floating_point() and bool(given.isnan().any()):
        return f"{key} holds NaN"
    return ""


def _share(keys: Iterable[str], expected: Mapping[str, Tensor]) -> float:
    total = sum(value.numel() for value in expected.values())
    return sum(expected[key].numel() for key in keys) / max(total, 1)


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, key) for pattern in patterns)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown or "none"


def recognise(keys: Iterable[str], cards: Iterable[ModelCard]) -> list[str]:
    """Names of the cards whose `signature` keys are all among a file's keys, longest first."""
    present = set(keys)
    fitting = [c for c in cards if c.signature and present.issuperset(c.signature)]
    return [card.name for card in sorted(fitting, key=lambda c: (-len(c.signature), c.name))]
