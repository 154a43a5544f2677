"""BioViL-T's wrapper beside the original, and beside its stored outputs."""

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import ndimage
from support.models import golden
from support.models.image_text.biovil_t import IMAGE_FILE, write
from support.models.small_baselines import TEXTS, load

from g2dbench.errors import BadCheckpoint
from g2dbench.model import ProjectsTexts

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = "microsoft/hi-ml b67c1d2, ImageModel of type resnet50_multi_image without a previous image"


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(448, count=1)
    patches = model.patches(images)
    return {
        "patches": patches,
        "embedding": model.embed_images(images),
        "pooled": model.pooled(images),
    }


def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path) -> None:
    golden.check_golden("biovil_t", outputs(load("biovil-t", write(tmp_path / "m"))))


@torch.no_grad()
def test_outputs_are_those_of_the_original_code(tmp_path: Path) -> None:
    source = golden.original("HI_ML") / "hi-ml-multimodal" / "src"
    image = types.ModuleType("health_multimodal.image")
    image.__path__ = [str(source / "health_multimodal" / "image")]
    # Its package imports readers of DICOM and NIfTI that the network does not need.
    with golden.importable(source, **{"health_multimodal.image": image}):
        from health_multimodal.image.model.model import ImageModel

        network = ImageModel(img_encoder_type="resnet50_multi_image", joint_feature_size=128)
        golden.fill(network)
        shapes = {k: tuple(v.shape) for k, v in golden.weights_of(network).items()}
        found = network(golden.seeded_images(448, count=1))
        theirs = {
            "patches": found.projected_patch_embeddings,
            "embedding": torch.nn.functional.normalize(found.projected_global_embedding, dim=-1),
            "pooled": found.img_embedding,
        }
    golden.check_live("biovil_t", shapes, theirs, NOTE)
    golden.same(outputs(load("biovil-t", write(tmp_path / "m"))), theirs)


@torch.no_grad()
def test_maps_are_smoothed_cosines_and_prompts_lose_their_final_stop(tmp_path: Path) -> None:
    model: Any = load("biovil-t", write(tmp_path / "m"))
    images = golden.seeded_images(224, count=1)
    patches = torch.nn.functional.normalize(model.patches(images)[0], dim=0)
    texts = model.embed_texts([f"{text}." for text in TEXTS])
    torch.testing.assert_close(texts, model.embed_texts(TEXTS))
    assert isinstance(model, ProjectsTexts)
    raw = model.project_texts(TEXTS)
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), texts)
    cosines = torch.einsum("dhw,td->thw", patches, texts).numpy()
    wanted = [ndimage.gaussian_filter(part, sigma=1.5) for part in cosines]
    found = model.locate(images, TEXTS)[0]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, torch.from_numpy(other), atol=1e-5, rtol=1e-4)


def test_the_folder_must_be_whole_and_of_this_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    state = torch.load(folder / IMAGE_FILE)
    del state["encoder.missing_previous_emb"]
    torch.save(state, folder / IMAGE_FILE)
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(encoder\.missing_previous_emb\)"):
        load("biovil-t", folder)
    (folder / IMAGE_FILE).unlink()
    with pytest.raises(BadCheckpoint, match=f"lacks {IMAGE_FILE}: copy all files"):
        load("biovil-t", folder)
