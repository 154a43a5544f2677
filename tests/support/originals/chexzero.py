"""CheXzero: rajpurkarlab/CheXzero at 5c341db; model.py, zero_shot.py, data_process.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "chexzero", "rajpurkarlab/CheXzero", "5c341db"
FINDINGS = ("Pneumonia", "Pleural Effusion", "Lung Lesion")
SIZES = {
    "embed_dim": 32, "image_resolution": 224, "vision_layers": 2, "vision_width": 128,
    "vision_patch_size": 32, "context_length": 77, "vocab_size": 49408, "transformer_width": 64,
    "transformer_heads": 1, "transformer_layers": 2,
}  # fmt: skip
"""As ViT-B/32 but for depth and widths; heads are 64 wide in all of OpenAI's models."""


def block(prefix: str, width: int) -> dict[str, Tensor]:
    shapes = {
        "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
        "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,),
        "ln_2.bias": (width,), "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
    }  # fmt: skip
    return {f"{prefix}{name}": torch.empty(shape) for name, shape in shapes.items()}


def state(member: int = 0) -> dict[str, Tensor]:
    """The layout of a released file, as bare state_dict of OpenAI's CLIP."""
    wide, text, grid = SIZES["vision_width"], SIZES["transformer_width"], 7
    layout = {
        "positional_embedding": torch.empty(77, text),
        "text_projection": torch.empty(text, SIZES["embed_dim"]),
        "logit_scale": torch.empty(()),
        "visual.class_embedding": torch.empty(wide),
        "visual.positional_embedding": torch.empty(grid * grid + 1, wide),
        "visual.proj": torch.empty(wide, SIZES["embed_dim"]),
        "visual.conv1.weight": torch.empty(wide, 3, 32, 32),
        "token_embedding.weight": torch.empty(SIZES["vocab_size"], text),
    }
    for name, width in (("visual.ln_pre", wide), ("visual.ln_post", wide), ("ln_final", text)):
        layout |= {f"{name}.weight": torch.empty(width), f"{name}.bias": torch.empty(width)}
    for layer in range(2):
        layout |= block(f"visual.transformer.resblocks.{layer}.", wide)
        layout |= block(f"transformer.resblocks.{layer}.", text)
    return {
        key: seeded.tensor(f"{member}:{key}" if member else key, tuple(value.shape))
        for key, value in layout.items()
    }


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state(), folder / "best_64_5e-05_original_22000_0.864.pt")
    return folder / "best_64_5e-05_original_22000_0.864.pt"


def write_ensemble(folder: Path) -> Path:
    write(folder)
    torch.save(state(1), folder / "best_128_0.0002_original_8000_0.857.pt")
    return folder


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs())
    return {
        "input": images,
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
        "probabilities": model.probabilities(images, FINDINGS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """zero_shot.py on padded squares; only imports and the download of ViT-B/32 are replaced.

    Patched: notebook progress bars, h5py, matplotlib (not used here), `Image.ANTIALIAS`, gone from
    Pillow 10 (LANCZOS under its old name), and torchvision's resizing without anti-aliasing, the
    default of its time.
    """
    stand_ins = ("h5py", "matplotlib", "matplotlib.pyplot", "pandas", "metrics", "eval")
    bars = {"tqdm": lambda rows, **_: rows}
    with imported([checkout], stand_ins, {"tqdm.notebook": bars, "tqdm": bars}) as load:
        network = load("model").CLIP(**SIZES).float().eval()
        network.load_state_dict(state())
        Image.ANTIALIAS = Image.Resampling.LANCZOS
        squares = [
            np.array(load("data_process").preprocess(Image.fromarray(i).convert("RGB")))
            for i in seeded.radiographs()
        ]
        study = load("zero_shot")
        loader = [{"img": prepare(study, square)[None]} for square in squares]
        tokens = load("clip").tokenize(list(seeded.TEXTS))
        with torch.no_grad():
            images = network.encode_image(torch.cat([row["img"] for row in loader]))
            texts = network.encode_text(tokens)
        found = study.run_softmax_eval(network, loader, list(FINDINGS), ("{}", "no {}"))
    return {
        "input": torch.cat([row["img"] for row in loader]),
        "images": torch.nn.functional.normalize(images, dim=-1),
        "texts": torch.nn.functional.normalize(texts, dim=-1),
        "probabilities": torch.from_numpy(found),
    }


def prepare(study: Any, square: np.ndarray) -> Tensor:
    """As CXRTestDataset and `make` with a pretrained CLIP: float32 from the h5 file."""
    planes = torch.from_numpy(np.repeat(square[None].astype(np.float32), 3, axis=0))
    steps = SimpleNamespace(normalize=study.Normalize((101.48761,) * 3, (83.43944,) * 3))
    resize = study.Resize(224, interpolation=study.InterpolationMode.BICUBIC, antialias=False)
    return resize(steps.normalize(planes))


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**results, "input": results["input"][:, 0, ::31, ::31]}
