"""No code in a weights file is executed, and its tensors are read all the same."""

import argparse
import copyreg
import functools
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models.weights_files import FORMATS, Reduces, Tiny, save
from torch import nn

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.restricted_unpickler import PICKLE_MODULE, RestrictedUnpickler
from g2dbench.pretrained.weights import (
    find_state,
    read_weights,
)


class Opens(str):
    """Opens the file that it names, as a class with an effect in `__init__`."""

    __slots__ = ()

    def __init__(self, file: str) -> None:
        Path(file).touch()


class AttributeDict(dict[str, Any]):
    """A class of its own among the tensors, as Lightning writes it."""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists once an attack ran; the hub's attack needs a script beside it."""
    marker = tmp_path / "ran"
    (tmp_path / "hubconf.py").write_text(f"def hit():\n    open({str(marker)!r}, 'w').close()\n")
    return marker


def attacks(marker: Path) -> dict[str, Reduces]:
    """Objects that create `marker` when a plain unpickler meets them."""
    command, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Reduces(os.system, command),
        "eval": Reduces(eval, code),
        "exec": Reduces(exec, code),
        "partial": Reduces(functools.partial(os.system, command)),
        "map": Reduces(list, Reduces(map, os.system, [command])),
        "loads": Reduces(pickle.loads, pickle.dumps(Reduces(os.system, command))),
        "torch.hub": Reduces(torch.hub._load_local, str(marker.parent), "hit"),
        "copyreg": Reduces(copyreg._reconstructor, Opens, Opens, str(marker)),
    }


def test_a_plain_unpickler_would_have_run_the_attacks(marker: Path) -> None:
    for name, attack in attacks(marker).items():
        pickle.loads(pickle.dumps(attack))  # noqa: S301
        assert marker.exists(), name
        marker.unlink()


@FORMATS
def test_no_attack_runs_and_the_tensors_still_come_out(
    tmp_path: Path, marker: Path, zipped: bool
) -> None:
    for name, attack in attacks(marker).items():
        content = {
            "hyper": [attack, {"deep": attack}],
            "state_dict": OrderedDict(w=torch.arange(3.0)),
        }
        file = save(content, tmp_path / "evil.ckpt", zipped)
        loaded = read_weights(file)
        assert torch.equal(find_state(loaded, file)["w"], torch.arange(3.0)), name
        assert not callable(loaded["hyper"][0]), name
        assert not marker.exists(), name


@FORMATS
def test_a_registered_extension_code_is_not_looked_up(
    tmp_path: Path, marker: Path, zipped: bool
) -> None:
    copyreg.add_extension("posix", "system", 240)
    try:
        file = save([attacks(marker)["os.system"]], tmp_path / "e.pt", zipped)
        assert b"\x82\xf0" in file.read_bytes()
        read_weights(file)
    finally:
        copyreg.remove_extension("posix", "system", 240)
    assert not marker.exists()


def test_the_legacy_readers_patch_file_is_not_written(tmp_path: Path) -> None:
    """A "module" id on a patched function makes torch write `<name>.patch` in place."""
    file, patch = tmp_path / "legacy.pt", tmp_path / "x.patch"
    function, name = torch._utils._rebuild_tensor_v2, torch._utils._rebuild_tensor_v2.__name__
    state = (None, {"dump_patches": True, "__name__": str(tmp_path / "x")})
    body = (
        b"\x80\x02(X\x06\x00\x00\x00modulectorch._utils\n_rebuild_tensor_v2\n"
        + pickle.dumps(state, protocol=2)[2:-1]
        + b"bX\x04\x00\x00\x00a.pyX\x04\x00\x00\x00texttQ."
    )
    heads = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
    parts = [pickle.dumps(head, protocol=2) for head in heads]
    file.write_bytes(b"".join([*parts, body, pickle.dumps([], protocol=2)]))
    read_weights(file)
    assert not patch.exists()
    assert function.__name__ == name
    try:
        torch.load(file, weights_only=False)
    finally:
        function.__name__ = name
        vars(function).clear()
    assert patch.exists(), "torch no longer writes it: the test above shows nothing"


def test_a_pickle_inside_a_pickle_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError):
        PICKLE_MODULE.loads(pickle.dumps(1))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_comes_back_equal(protocol: int) -> None:
    content = {"a": [1, 2.5, None, True], "b": ("x", b"y"), "c": {1, 2}, "d": torch.Size([2, 3])}
    data = pickle.dumps(content, protocol=protocol)
    assert RestrictedUnpickler(io.BytesIO(data), encoding="utf-8").load() == content


@FORMATS
def test_frameworks_objects_beside_the_tensors_do_no_harm(tmp_path: Path, zipped: bool) -> None:
    extra = AttributeDict(lr=0.1)
    vars(extra)["note"] = "state"
    content = {
        "args": argparse.Namespace(lr=0.1, names=["a"]),
        "hyper_parameters": extra,
        "metric": np.float64(0.5),
        "array": np.arange(3),
        "dtype": torch.float16,
        "state_dict": Tiny().state_dict(),
    }
    file = save(content, tmp_path / "framework.ckpt", zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    state = find_state(read_weights(file), file)
    for key, value in content["state_dict"].items():  # type: ignore[attr-defined]
        assert torch.equal(state[key], value)


@FORMATS
def test_every_tensor_type_and_view_survives_the_restricted_reader(
    tmp_path: Path, zipped: bool
) -> None:
    base = torch.arange(24.0)
    tensors = {
        "view": base[3:15].view(3, 4).T,
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3),
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "bool": base > 3,
        "parameter": nn.Parameter(base),
    }
    file = save({"state_dict": tensors, "args": argparse.Namespace()}, tmp_path / "a.pt", zipped)
    state = find_state(read_weights(file), file)
    for key, value in tensors.items():
        assert torch.equal(state[key], value), key
        assert state[key].dtype == value.dtype


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    rebuild = Reduces(
        torch._utils._rebuild_tensor_v2,
        torch.zeros(4).storage(),
        0,
        (1000,),
        (1,),
        False,
        OrderedDict(),
    )
    file = save({"w": rebuild, "args": argparse.Namespace()}, tmp_path / "beyond.pt")
    with pytest.raises(BadCheckpoint, match="beyond its storage"):
        read_weights(file)
