"""MedImageInsight beside its port (G2DBENCH_ORIGINAL_MEDIMAGEINSIGHT), and stored outputs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.encoder_releases import write_state
from support.models.small_baselines import load
from support.models.small_texts import save_clip_tokenizer
from support.models.text_releases import make_medimageinsight
from support.originals import medimageinsight, seeded
from torchvision import transforms

from g2dbench.errors import BadCheckpoint, Misuse

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = f"{medimageinsight.COMMIT}, UniCLModel with small encoders; mup and einops replaced"
CARD = "medimageinsight"
FIRST_NAMES = (
    (r"^image_encoder\.convs\.", "visual.conv_embeds."),
    (r"^image_encoder\.blocks\.(\d+)\.(\d+)\.spatial_block\.", r"visual.main_blocks.\1.\2.0."),
    (r"^image_encoder\.blocks\.(\d+)\.(\d+)\.channel_block\.", r"visual.main_blocks.\1.\2.1."),
    (r"^image_encoder\.", "visual."),
    (r"\.conv1\.fn\.dw\.", ".cpe.0.proj."),
    (r"\.conv2\.fn\.dw\.", ".cpe.1.proj."),
    (r"\.(window|channel)_attn\.fn\.", ".attn."),
    (r"\.(window|channel)_attn\.norm\.", ".norm1."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".mlp."),
    (r"^lang_encoder\.", "text."),
    (r"^image_projection$", "vision_projection"),
    (r"^lang_projection$", "text_projection"),
)
"""The port's names -> the earlier ones that it still reads."""


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(96)
    return {
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
        "last": model.features(images)[-1],
    }


def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path) -> None:
    golden.check_golden(CARD, outputs(load(CARD, make_medimageinsight(tmp_path))))


@torch.no_grad()
def test_the_original_beside_it_agrees(tmp_path: Path) -> None:
    checkout, images = golden.original("MEDIMAGEINSIGHT"), golden.seeded_images(96)
    place = medimageinsight.tokenizer_folder(tmp_path / "t")
    save_clip_tokenizer(place)
    shapes, theirs = medimageinsight.outputs(checkout, place, images, seeded.TEXTS)
    golden.check_live(CARD, shapes, theirs, NOTE)
    model = load(CARD, make_medimageinsight(tmp_path / "m"))
    golden.same(outputs(model), theirs)
    pictures = seeded.radiographs()
    inputs = medimageinsight.prepare(checkout, pictures)
    assert torch.allclose(model.preprocess.batch(pictures), inputs, atol=1e-5)


def test_inputs_are_stretched_to_480_pixels(tmp_path: Path) -> None:
    model = load(CARD, make_medimageinsight(tmp_path))
    steps = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((480, 480), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize(model.preprocess.mean, model.preprocess.std),
        ]
    )
    wanted = torch.stack([steps(picture) for picture in seeded.radiographs()])
    assert torch.allclose(model.preprocess.batch(seeded.radiographs()), wanted, atol=1e-5)


def test_a_file_with_the_first_names_is_the_same_model(tmp_path: Path) -> None:
    folder = make_medimageinsight(tmp_path)
    renamed = {}
    for key, value in golden.seeded_state(golden.read(CARD)["shapes"]).items():
        for pattern, replacement in FIRST_NAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    assert any("main_blocks.2.1.1.cpe.0.proj.weight" in key for key in renamed)
    file = write_state(folder / "vision_model" / "old.bin", renamed, "")
    with pytest.raises(Misuse, match=r"contains medimageinsigt-v1\.0\.0\.pt, old\.bin"):
        load(CARD, folder)
    whole = load(CARD, folder / "vision_model" / "medimageinsigt-v1.0.0.pt")
    assert load(CARD, file).identity.digest == whole.identity.digest


def test_faults_are_named(tmp_path: Path) -> None:
    folder = make_medimageinsight(tmp_path)
    state = golden.seeded_state(golden.read(CARD)["shapes"])
    cut = folder / "vision_model" / "cut.bin"
    for key, message in (
        ("image_projection", "missing or malformed: 'image_projection'"),
        ("image_encoder.norms.bias", r"missing 1 \(trunk\.head\.norm\.bias\)"),
    ):
        part = {name: value for name, value in state.items() if name != key}
        with pytest.raises(BadCheckpoint, match=message):
            load(CARD, write_state(cut, part, ""))
    tokenizer = medimageinsight.tokenizer_folder(folder)
    (tokenizer / "vocab.json").unlink()
    with pytest.raises(BadCheckpoint, match="needs CLIP's tokenizer: copy language_model/"):
        load(CARD, write_state(cut, state, ""))
