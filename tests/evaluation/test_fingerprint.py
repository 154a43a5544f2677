"""A model's fingerprint: the same in every process, changed by everything that affects outputs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from g2dbench.evaluation.fingerprint import fingerprint
from g2dbench.evaluation.model_reference import resolve
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

REPORTS = ["the heart is large", "no effusion", "lungs are clear"]


class Net(Model):
    """Has attributes of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=32)
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("table", torch.arange(3.0), persistent=False)
        self.prompts: dict[str, Any] = {"edema": ("edema", "no edema")}
        self.names = {"b", "a"}
        self.scale = np.float32(0.5)
        self.pool = partial(torch.mean, dim=1)
        self.tokenizer = train_wordpiece(REPORTS, 40)
        self.itself = [self]


def digest_after(change: Callable[[Net], object]) -> str:
    torch.manual_seed(0)
    net = Net()
    change(net)
    return repr(fingerprint(net))


CHANGES: dict[str, Callable[[Net], object]] = {
    "weights": lambda net: net.conv.weight.data.add_(1e-6),
    "buffer that is not saved": lambda net: net.table.add_(1),  # type: ignore[operator]
    "preprocessing": lambda net: setattr(net, "preprocess", Preprocess(size=32, mean=(0.1,))),
    "layer's setting": lambda net: setattr(net.conv, "stride", (2, 2)),
    "prompt": lambda net: net.prompts.update(edema=("edema", "without edema")),
    "set": lambda net: net.names.add("c"),
    "NumPy number": lambda net: setattr(net, "scale", np.float32(0.25)),
    "function": lambda net: setattr(net, "pool", partial(torch.sum, dim=1)),
    "argument of a function": lambda net: setattr(net, "pool", partial(torch.mean, dim=2)),
    "tokenizer": lambda net: setattr(net, "tokenizer", train_wordpiece(REPORTS[:2], 40)),
    "tokenizer's side": lambda net: setattr(net.tokenizer, "truncation_side", "left"),
    "another layer": lambda net: net.add_module("act", nn.ReLU()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_value_counts(change: Callable[[Net], object]) -> None:
    assert digest_after(change) != digest_after(lambda net: None)


def test_paths_and_the_training_flag_do_not_count(tmp_path: Path) -> None:
    same = digest_after(lambda net: None)
    assert digest_after(lambda net: net.eval()) == same
    assert digest_after(lambda net: setattr(net, "folder", tmp_path)) == digest_after(
        lambda net: setattr(net, "folder", Path("elsewhere"))
    )


def test_it_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    first = fingerprint(net)
    net.prompts["edema"] = ()
    assert fingerprint(net) is first


CODE = """
from g2dbench.evaluation.fingerprint import fingerprint
from g2dbench.evaluation.model_reference import resolve
from g2dbench.registry import Registry
registry = Registry()
print(fingerprint(resolve("random-init", registry).load(registry, 0)))
"""


@pytest.mark.slow
def test_it_is_the_same_in_every_process() -> None:
    answers = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    registry = Registry()
    here = fingerprint(resolve("random-init", registry).load(registry, 0))
    assert answers == {f"{here}\n"}


def test_a_run_with_another_mean_or_tokenizer_is_another_model(
    trained: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))

    def measured() -> str:
        registry = Registry()
        return repr(fingerprint(resolve(str(run), registry).load(registry, 0)))

    before = measured()
    assert measured() == before
    path = run / "run.json"
    raw = json.loads(path.read_text())
    raw["architecture"]["image"]["mean"] = [0.4]
    path.write_text(json.dumps(raw))
    other = measured()
    assert other != before
    words = json.loads((run / "tokenizer.json").read_text())
    words["normalizer"] = None
    (run / "tokenizer.json").write_text(json.dumps(words))
    assert measured() not in (before, other)
