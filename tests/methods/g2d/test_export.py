"""The export: the authors' names, what a layout cannot contain, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.methods.released_files import (
    TEXT,
    as_model,
    build,
    export_to,
    file_of,
)
from torch import nn
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from g2dbench.cards import MethodCard
from g2dbench.cli import app
from g2dbench.errors import Misuse
from g2dbench.methods.g2d.export import export
from g2dbench.methods.g2d.released import find_layout, from_released, released_names, to_released
from g2dbench.pretrained.text.tokenizer import save_tokenizer
from g2dbench.recipes import recipe as recipes
from g2dbench.registry import Registry
from g2dbench.runs.folder import RunFolder, RunInfo

pytestmark = pytest.mark.integration


def test_names_convert_in_both_directions(method: Any) -> None:
    state = method.state_dict()
    there = to_released(method)
    back = from_released(there)
    single = {key: value for key, value in state.items() if not key.startswith("pool.out.")}
    for key, value in single.items():
        assert torch.equal(back.pop(key), value), key
    assert torch.equal(back.pop("pool.out.0.weight"), state["pool.out.weight"])
    assert torch.equal(back.pop("pool.out.1.weight"), torch.eye(8))
    assert set(back) == {"pool.out.0.bias", "pool.out.1.bias"}
    assert find_layout(there) == "checkpoint"
    assert set(there) - set(released_names(state)) == {
        "pseudo_conv.weight", "pseudo_conv.bias",
        "lm_model.pooler.dense.weight", "lm_model.pooler.dense.bias",
    }  # fmt: skip


def test_an_export_leaves_out_what_a_layout_cannot_hold(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    small = {**TEXT, "hidden": 24, "heads": 2}
    done = export_to(build(tokenizer, text=small, attention={"heads": 3}), tmp_path / "a")
    assert {f.name for f in done.files} == {
        "x_encoder.pth", "x_encoder_decoder.pth", "model.json", "text_model",
    }  # fmt: skip
    (reason,) = done.left_out.values()
    for words in ("text.hidden = 24 (there 768)", "attention.heads = 3 (there 4)", "query = token"):
        assert words in reason
    blind = build(tokenizer, text=small, pixel={"target": "none"})
    done = export_to(blind, tmp_path / "b")
    assert [f.name for f in done.files] == ["x_encoder.pth", "model.json", "text_model"]
    assert set(done.left_out.values()) == {"the decoder was not trained"}


def test_an_export_needs_a_g2d_and_an_empty_folder(
    method: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    optim = recipes.load("g2d-tiny").optim
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(Misuse, match="not an empty folder"):
            export(as_model(method), out, "x", optim)
    with pytest.raises(Misuse, match="leave the folder out"):
        export(as_model(method), tmp_path / "new", "../x", optim)
    other = Registry().find(MethodCard, "convirt").load()
    table = {"image": {"encoder": "resnet18", "size": 64}, "text": {**TEXT, "hidden": 24}}
    with pytest.raises(Misuse, match="is not a G2D"):
        export(as_model(other.build(table, tokenizer, 0)), tmp_path / "new", "x", optim)
    assert not (tmp_path / "new").exists()


def test_the_command_writes_what_a_run_holds(
    method: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    recipe = recipes.load("g2d-tiny")
    info = RunInfo(
        label="g2d-tiny", recipe=recipe, architecture=method.architecture, seed=0,
        data="synthetic", fingerprint="0", pairs=2, precision="fp32", device="cpu",
    )  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    save_tokenizer(tokenizer, run)
    RunFolder(run, info).finish(method.state_dict())
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    names = {file.name for file in (tmp_path / "out").iterdir()}
    checkpoint = f"g2d-tiny_{recipe.optim.epochs}_checkpoint.pth"
    assert names == {
        "g2d-tiny_encoder.pth", "g2d-tiny_encoder_decoder.pth", checkpoint, "model.json",
        "text_model",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "model.json").read_text()) == method.architecture
    again = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "out")])
    assert again.exit_code == 2


def test_the_optimizer_of_a_checkpoint_fits_its_parameters(exported: Path) -> None:
    saved = torch.load(file_of(exported, "checkpoint"), weights_only=True)
    learned = [
        nn.Parameter(value)
        for key, value in saved["model_state_dict"].items()
        if "running_" not in key and "num_batches" not in key
    ]
    optimizer = torch.optim.AdamW(learned, lr=1.0)
    optimizer.load_state_dict(saved["optimizer_state_dict"])
    assert optimizer.param_groups[0]["lr"] == recipes.load("g2d-tiny").optim.lr
