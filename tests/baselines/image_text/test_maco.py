"""MaCo beside the original (G2DBENCH_ORIGINAL_MACO), and beside its stored outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.encoder_releases import write_state
from support.models.small_baselines import load
from support.models.text_releases import make_maco
from support.originals import maco, seeded

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = (
    "SZUHvern/MaCo 7f64d95 with small encoders; BERT by transformers 5 with a pooler of 768 "
    "outputs; sentences not shuffled"
)


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(224)
    return {
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
        "match": model.match(images, maco.FINDINGS),
        "pooled": model.pooled(images),
        "maps": model.locate(images, [maco.PHRASE]),
    }


def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path) -> None:
    golden.check_golden("maco", outputs(load("maco", make_maco(tmp_path))))


@torch.no_grad()
def test_the_original_beside_it_agrees(tmp_path: Path) -> None:
    images = golden.seeded_images(224)
    checkout = golden.original("MACO")
    shapes, theirs = maco.outputs(checkout, tmp_path / "v", images, seeded.TEXTS)
    golden.check_live("maco", shapes, theirs, NOTE)
    golden.same(outputs(load("maco", make_maco(tmp_path / "m"))), theirs)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Heart is LARGE. Clear", "heart is large. clear. "),
        ("PE", ""),
        ("a_b is seen. , and so. Nodule", "nodule. "),
    ],
)
def test_phrases_are_cleaned_as_in_its_grounding(text: str, cleaned: str) -> None:
    from g2dbench.baselines.image_text.maco import clean_phrase

    assert clean_phrase(text) == cleaned


def test_faults_of_a_file_are_named(tmp_path: Path) -> None:
    file = make_maco(tmp_path)
    state = golden.seeded_state(golden.read("maco")["shapes"])
    wrapped = {f"module.{key}": value for key, value in state.items()}
    again = load("maco", write_state(tmp_path / "w.pth", wrapped, "state_dict"))
    assert again.identity.digest == load("maco", file).identity.digest
    for key, message in (
        ("img_mlp.weight", "no complete heads of MaCo; missing: 'img_mlp.weight'"),
        ("blocks.1.mlp.fc2.bias", r"missing 1 \(blocks\.1\.mlp\.fc2\.bias\)"),
        ("bert_encoder.model.bert.embeddings.LayerNorm.bias", "missing 1 "),
    ):
        cut = {name: value for name, value in state.items() if name != key}
        with pytest.raises(BadCheckpoint, match=message):
            load("maco", write_state(tmp_path / "c.pth", cut, ""))
    (tmp_path / "mimic_wordpiece.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="is not a readable vocabulary"):
        load("maco", file)
    (tmp_path / "mimic_wordpiece.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"copy mimic_wordpiece\.json of github"):
        load("maco", file)
