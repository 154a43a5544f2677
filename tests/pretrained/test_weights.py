"""Weights files: nothing in them runs, what is broken is named, what does not fit is counted."""

import argparse
import copyreg
import functools
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.restricted_unpickler import PICKLE_MODULE, RestrictedUnpickler
from g2dbench.pretrained.weights import (
    digest,
    find_state,
    load_state,
    part,
    read_weights,
    recognise,
    strip_prefix,
)

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)


class Reduces:
    """Pickles as a call of a function of the test's choice."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Opens(str):
    """Opens the file that it names, as a class with an effect in `__init__`."""

    __slots__ = ()

    def __init__(self, file: str) -> None:
        Path(file).touch()


class AttributeDict(dict[str, Any]):
    """A class of its own among the tensors, as Lightning writes it."""


def save(content: object, file: Path, zipped: bool = True) -> Path:
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file


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
    assert patch.exists(), "torch no longer writes it: this test has become pointless"


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


def broken_files(folder: Path) -> dict[str, Path]:
    good = save(Tiny().state_dict(), folder / "good.pt").read_bytes()
    old = save(Tiny().state_dict(), folder / "old.pt", zipped=False).read_bytes()
    safetensors.torch.save_file({"w": torch.zeros(64)}, folder / "good.safetensors")
    safe = (folder / "good.safetensors").read_bytes()
    contents = {
        "empty.pt": b"",
        "empty.safetensors": b"",
        "text.pth": b"hello, these are not weights\n" * 40,
        "noise.ckpt": np.random.default_rng(0).bytes(5000),
        "half.pt": good[: len(good) // 2],
        "almost.pt": good[:-7],
        "half_old.pt": old[: len(old) // 2],
        "half.safetensors": safe[: len(safe) // 2],
        "long.safetensors": (2**62).to_bytes(8, "little") + b"{}",
        "noise.safetensors": np.random.default_rng(1).bytes(500),
        "web.pt": b"\n<!DOCTYPE html><html>Google Drive - Virus scan warning</html>",
        "lfs.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "array.pt": b"\x93NUMPY\x01\x00",
        "zipped.pt.gz": b"\x1f\x8b\x08" + bytes(50),
        "string_bomb.pt": b"\x80\x04\x8d" + (2**60).to_bytes(8, "little"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with tarfile.open(folder / "archive.tar", "w") as tar:
        tar.add(folder / "good.pt", "good.pt")
    torch.jit.script(nn.Linear(2, 2)).save(folder / "program.pt")
    with (folder / "huge.pt").open("wb") as sparse:
        sparse.truncate(2**38)
    names = [
        *contents,
        "photos.zip",
        "bomb.pt",
        "archive.tar",
        "program.pt",
        "huge.pt",
        "absent.pt",
    ]
    return {name: folder / name for name in names} | {"folder": folder}


@pytest.mark.filterwarnings("ignore:.*TorchScript")
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_broken_and_foreign_files_are_named_in_one_sentence(tmp_path: Path) -> None:
    for name, file in broken_files(tmp_path).items():
        with pytest.raises(BadCheckpoint) as caught:
            read_weights(file)
        message = str(caught.value)
        assert str(file) in message, name
        assert "\n" not in message, name
        assert "weights_only=False" not in message, name
        assert len(message) < 500 + len(str(tmp_path)), name


@FORMATS
def test_truncation_at_any_length_is_named(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": Tiny().state_dict(), "args": argparse.Namespace(a=1)}
    whole = save(content, tmp_path / "whole.pt", zipped).read_bytes()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=r"cut\.pt"):
            find_state(read_weights(cut), cut)


def test_a_tar_that_is_a_torch_file_is_read_by_content(tmp_path: Path) -> None:
    file = save({"model": {"w": torch.ones(1)}}, tmp_path / "r50_m.tar")
    assert find_state(read_weights(file), file)["w"].item() == 1


def test_the_state_is_found_under_the_usual_names_and_nested(tmp_path: Path) -> None:
    state = {"w": torch.ones(1), "count": 3}
    for wrapped in (state, {"model": state}, {"state_dict": {"model": state}, "epoch": 1}):
        assert list(find_state(wrapped, "f.pt")) == ["w"]
    several = {"model": {"a": torch.ones(1)}, "image_encoder": {"b": torch.ones(1)}}
    assert list(find_state(several, "f.pt", inside=("image_encoder",))) == ["b"]
    with pytest.raises(BadCheckpoint, match=r"f\.pt holds no state_dict.*found: epoch, optimizer"):
        find_state({"epoch": 3, "optimizer": {}}, "f.pt")
    with pytest.raises(BadCheckpoint, match="no mapping"):
        find_state([1], "f.pt")


def test_prefixes_are_stripped_or_selected() -> None:
    state = {"module.a": torch.ones(1), "encoder.b": torch.ones(1), "c": torch.ones(1)}
    assert list(strip_prefix(state, "module.", "encoder.")) == ["a", "b", "c"]
    assert list(part(state, "encoder.")) == ["b"]


def test_a_fitting_state_is_loaded_and_half_precision_is_widened() -> None:
    source, target = Tiny(), Tiny()
    state = {
        key: v.half() if v.is_floating_point() else v for key, v in source.state_dict().items()
    }
    del state["norm.num_batches_tracked"]
    state["bert.embeddings.position_ids"] = torch.arange(4)
    assert load_state(target, state, "f.pt") == ()
    assert target.one.weight.dtype == torch.float32
    assert torch.equal(target.one.weight, source.one.weight.half().float())


def test_what_does_not_fit_is_counted_and_shown() -> None:
    state = Tiny().state_dict()
    state["one.weight"] = torch.zeros(4, 5)
    state["fc.weight"] = state["fc.bias"] = torch.zeros(1)
    del state["norm.weight"]
    with pytest.raises(BadCheckpoint) as caught:
        load_state(Tiny(), state, "f.pt")
    for words in (
        "f.pt does not fit Tiny",
        "missing 1 (norm.weight)",
        "unexpected 2 (fc.weight, fc.bias)",
        "unfit 1 (one.weight is (4, 5), wanted (4, 3))",
    ):
        assert words in str(caught.value)


def test_ignored_keys_and_a_minimum_share_are_honoured() -> None:
    state = Tiny().state_dict()
    state["fc.weight"] = torch.zeros(1)
    assert load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",)) == ()
    del state["norm.weight"]
    lacking = load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",), minimum_share=0.8)
    assert lacking == ("norm.weight",)
    with pytest.raises(BadCheckpoint, match="fills 88%"):
        load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",), minimum_share=0.9)
    with pytest.raises(BadCheckpoint, match="fills 0%"):
        load_state(Tiny(), {}, "f.pt", minimum_share=0.5)


@pytest.mark.parametrize("value", [torch.full((4,), torch.nan), torch.zeros(4, dtype=torch.int8)])
def test_values_that_are_no_weights_are_refused(value: torch.Tensor) -> None:
    state = Tiny().state_dict() | {"one.bias": value}
    with pytest.raises(BadCheckpoint, match=r"unfit 1 \(one\.bias"):
        load_state(Tiny(), state, "f.pt")


def test_the_digest_sees_names_types_shapes_and_bytes_only() -> None:
    torch.manual_seed(0)
    first, second = Tiny(), Tiny()
    second.load_state_dict(first.state_dict())
    assert digest(first) == digest(second)
    assert len(digest(first)) == 64
    seen = {digest(first)}
    with torch.no_grad():
        second.one.weight[0, 0] += 1e-3
    seen.add(digest(second))
    seen.add(digest(Tiny().half().load_state_dict(first.state_dict()) and first.half()))
    reshaped = nn.Module()
    reshaped.one = nn.Linear(4, 3)
    seen.add(digest(reshaped))
    assert len(seen) == 4


def test_the_digest_does_not_depend_on_the_order_of_registration() -> None:
    one, other = nn.Module(), nn.Module()
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    for module, order in ((one, "ab"), (other, "ba")):
        for name in order:
            module.register_parameter(name, {"a": a, "b": b}[name])
    assert digest(one) == digest(other)


def test_a_layout_is_recognised_by_all_keys_of_a_signature() -> None:
    def card(name: str, *signature: str) -> ModelCard:
        return ModelCard(
            name=name,
            summary="",
            paper="",
            source="",
            licence="",
            capabilities=(),
            signature=signature,
        )

    cards = [card("none"), card("one", "a"), card("two", "a", "b"), card("three", "a", "c")]
    assert recognise(["a", "b", "x"], cards) == ["two", "one"]
    assert recognise([], cards) == []
