"""Golden numbers of BioViL, made by the original: microsoft/hi-ml, hi-ml-multimodal at b67c1d2.

    G2DBENCH_HIML=.../hi-ml-multimodal/src python tests/golden/make_biovil.py

Reads the original from that folder, gives it drawn weights (drawn.py) and writes biovil.json.
Two packages that the original imports for other image formats, SimpleITK and scikit-image, are
replaced where they are absent, and the tokenizer call that transformers 5 dropped is put back.
"""

import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer

HERE = Path(__file__).resolve().parent
drawn = SimpleNamespace(**runpy.run_path(str(HERE / "drawn.py")))

VARIABLE = "G2DBENCH_HIML"
GOLDEN = HERE / "biovil.json"
IMAGE_FILE = "biovil_image_resnet50_proj_size_128.pt"
SEED = 20220420
SIDE = 1024
"""A square of twice 512: the crop's edge falls between pixels, so both geometries are exact."""

CONFIG = {
    "model_type": "cxr-bert",
    "architectures": ["CXRBertModel"],
    "vocab_size": len(drawn.VOCABULARY),
    "num_hidden_layers": 2,
    "hidden_dropout_prob": 0.25,
    "attention_probs_dropout_prob": 0.25,
    "projection_size": 128,
}
PROMPTS = ("There is pneumonia in the left lung.", "No effusion?!")


def import_original(source: str) -> SimpleNamespace:
    """The original's classes, imported from its `src` folder."""
    sys.modules.setdefault("SimpleITK", ModuleType("SimpleITK"))
    if "skimage" not in sys.modules:
        reader = ModuleType("skimage.io")
        reader.imread = lambda path: np.asarray(Image.open(path))  # type: ignore[attr-defined]
        sys.modules["skimage"] = ModuleType("skimage")
        sys.modules["skimage"].io = reader  # type: ignore[attr-defined]
        sys.modules["skimage.io"] = reader
    if source not in sys.path:
        sys.path.insert(0, source)

    names = ("image", "image.data.transforms", "image.model", "text", "vlp")
    modules = [importlib.import_module(f"health_multimodal.{name}") for name in names]
    return SimpleNamespace(**{name: value for m in modules for name, value in vars(m).items()})


class OldTokenizer(BertTokenizer):
    """A tokenizer with the method that transformers 5 removed."""

    def batch_encode_plus(self, batch_text_or_text_pairs: list[str], **options: Any) -> Any:
        return self(batch_text_or_text_pairs, **options)


def build(source: str, folder: Path, seed: int) -> Any:
    """The original's engine with drawn weights; its files are written to `folder` as published."""
    hi = import_original(source)
    write_text_folder(folder)
    image = hi.ImageModel("resnet50", 128)
    image.load_state_dict(drawn.state(image, seed))
    torch.save(image.state_dict(), folder / IMAGE_FILE)
    text = hi.CXRBertModel(hi.CXRBertConfig(**CONFIG)).eval()
    text.load_state_dict(tied(drawn.state(text, seed)))
    torch.save(text.state_dict(), folder / "pytorch_model.bin")
    transform = hi.create_chest_xray_transform_for_inference(resize=512, center_crop_size=480)
    return hi.ImageTextInferenceEngine(
        hi.ImageInferenceEngine(image, transform),
        hi.TextInferenceEngine(OldTokenizer.from_pretrained(folder), text),
    )


def tied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masked-word head shares the word embeddings; give both names the same values."""
    shared = state["bert.embeddings.word_embeddings.weight"]
    return state | {"cls.predictions.decoder.weight": shared}


def write_text_folder(folder: Path) -> None:
    """The small files of the hub repository: configuration, vocabulary, tokenizer class."""
    drawn.write_vocabulary(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer"})
    )


@torch.no_grad()
def answers(engine: Any, file: Path) -> dict[str, Tensor]:
    """What the original says of one image file and of PROMPTS."""
    image, text = engine.image_inference_engine, engine.text_inference_engine
    model_input, (width, height) = image.load_and_transform_input_image(file, image.transform)
    patches, _ = image.get_projected_patch_embeddings(file)
    texts = text.get_embeddings_from_prompt(list(PROMPTS), verbose=False)
    maps = [engine._get_similarity_map_from_embeddings(patches, row[None]) for row in texts]
    sizes = {"width": width, "height": height, "resize_size": 512, "crop_size": 480}
    heat = {
        how: [engine.convert_similarity_to_image_size(m, **sizes, interpolation=how) for m in maps]
        for how in ("nearest", "bilinear")
    }
    return {
        "input": model_input[0],
        "image": image.get_projected_global_embedding(file).detach(),
        "pooled": image.model(model_input).img_embedding[0].detach(),
        "patches": patches,
        "texts": texts,
        "cosines": torch.einsum("hwd,td->thw", patches, texts),
        "maps": torch.stack(maps),
        "heat": torch.from_numpy(np.stack(heat["nearest"])),
        "heat_bilinear": torch.from_numpy(np.stack(heat["bilinear"])),
    }


def thinned(answer: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part that the golden file keeps."""
    return {
        "input": answer["input"][0, ::40, ::40],
        "image": answer["image"],
        "pooled": answer["pooled"][::16],
        "patches": answer["patches"][::4, ::4, ::8],
        "texts": answer["texts"],
        "cosines": answer["cosines"],
        "maps": answer["maps"],
        "heat": answer["heat"][:, 33:991:53, 33:991:53],
    }


def main() -> None:
    """Write the golden file."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = build(os.environ[VARIABLE], folder, SEED)
        Image.fromarray(drawn.radiograph(SIDE, SIDE, SEED)).save(folder / "image.png")
        numbers = thinned(answers(engine, folder / "image.png"))
    kept = {name: drawn.rounded(values) for name, values in numbers.items()}
    GOLDEN.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
