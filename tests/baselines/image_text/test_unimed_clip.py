"""UniMed-CLIP beside its fork of OpenCLIP (G2DBENCH_ORIGINAL_UNIMED_CLIP), and stored outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.encoder_releases import write_state
from support.models.small_baselines import load
from support.models.text_releases import make_unimed_clip
from support.originals import seeded, unimed_clip

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = "mbzuai-oryx/UniMed-CLIP 6f09177, src/open_clip with small encoders"
TEXTS = [*seeded.TEXTS, "  no&nbsp;effusion,\n\tno   pneumonia "]


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    images = model.preprocess.batch(seeded.radiographs())
    embedded = model.embed_images(images)
    return {"input": images, "images": embedded, "texts": model.embed_texts(TEXTS)}


def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path) -> None:
    golden.check_golden("unimed_clip", outputs(load("unimed-clip", make_unimed_clip(tmp_path))))


@torch.no_grad()
def test_the_original_beside_it_agrees(tmp_path: Path) -> None:
    checkout = golden.original("UNIMED_CLIP")
    shapes, theirs = unimed_clip.outputs(checkout, tmp_path / "b", seeded.radiographs(), TEXTS)
    golden.check_live("unimed_clip", shapes, theirs, NOTE)
    golden.same(outputs(load("unimed-clip", make_unimed_clip(tmp_path / "m"))), theirs)


def test_unused_text_weights_are_left_out_and_foreign_files_refused(tmp_path: Path) -> None:
    plain = load("unimed-clip", make_unimed_clip(tmp_path))
    state = golden.seeded_state(golden.read("unimed_clip")["shapes"])
    metaclip = {
        "token_embedding.weight": torch.ones(3, 4), "positional_embedding": torch.ones(2, 4),
        "transformer.resblocks.0.ln_1.bias": torch.ones(4), "ln_final.bias": torch.ones(4),
        "text_projection": torch.ones(4, 4),
    }  # fmt: skip
    pooler = {"text_encoder.transformer.pooler.dense.bias": torch.ones(4)}
    both = load("unimed-clip", write_state(tmp_path / "a.pt", state | metaclip | pooler, ""))
    assert both.identity.digest == plain.identity.digest
    visual = {key: value for key, value in state.items() if key.startswith("visual.")}
    with pytest.raises(BadCheckpoint, match=r"no BERT under 'text\.transformer\.'"):
        load("unimed-clip", write_state(tmp_path / "m.pt", visual | metaclip, ""))
    with pytest.raises(BadCheckpoint, match="is not UniMed-CLIP"):
        load("unimed-clip", write_state(tmp_path / "o.pt", {"fc.weight": torch.ones(1)}, ""))
    del state["text_encoder.proj.2.weight"]
    with pytest.raises(BadCheckpoint, match=r"missing or malformed: 'text\.proj\.2\.weight'"):
        load("unimed-clip", write_state(tmp_path / "c.pt", state, ""))
