"""RadZero's folder: old and new names, gaps, and files of other models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.small_baselines import load
from support.originals import seeded
from support.originals.image_text import radzero

from g2dbench.errors import BadCheckpoint, Misuse

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


def test_names_of_both_versions_of_transformers_give_the_same_model(tmp_path: Path) -> None:
    folder = radzero.write(tmp_path)
    old = load("radzero", folder)
    (folder / "model.safetensors").unlink()
    half = {key: value.bfloat16().float() for key, value in radzero.names().items()}
    torch.save(
        {f"module.{key}": value for key, value in half.items()}, folder / "pytorch_model.bin"
    )
    new = load("radzero", folder)
    assert {value.dtype for value in new.parameters()} == {torch.float32}
    torch.save(radzero.names(), folder / "pytorch_model.bin")
    assert load("radzero", folder).identity.digest == old.identity.digest != new.identity.digest


@torch.no_grad()
def test_one_image_and_one_text_give_what_several_give(tmp_path: Path) -> None:
    """The original's `squeeze` loses a dimension there."""
    model: Any = load("radzero", radzero.write(tmp_path))
    images = model.preprocess.batch(seeded.radiographs())
    logits, maps = model.similarities(images, seeded.TEXTS)
    one, map_of_one = model.similarities(images[:1], seeded.TEXTS[:1])
    torch.testing.assert_close(one, logits[:1, :1])
    torch.testing.assert_close(map_of_one, maps[:1, :1])


def test_the_folder_must_be_whole_and_of_this_model(tmp_path: Path) -> None:
    folder = radzero.write(tmp_path)
    file = folder / "model.safetensors"
    file.unlink()
    with pytest.raises(BadCheckpoint, match=r"contains no model\.safetensors"):
        load("radzero", folder)
    state = radzero.state()
    del state["loss_fns.RadZeroLoss.loss_temperature"]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(loss_fns\.RadZeroLoss\.loss_temp"):
        load("radzero", folder)
    torch.save({"other.weight": torch.ones(2)}, folder / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match="is not RadZero"):
        load("radzero", folder)
    torch.save(radzero.state(), folder / "pytorch_model.bin")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="no readable vocabulary"):
        load("radzero", folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"preprocessor_config\.json"):
        load("radzero", folder)
    with pytest.raises(Misuse, match="radzero"):
        load("radzero", None)
