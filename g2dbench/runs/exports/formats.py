"""The formats of `g2dbench export RUN --to FORMAT`, each loaded by its own library.

    timm         OUT/config.json, model.safetensors    timm.create_model("local-dir:OUT", True), and
                                                        transformers.AutoModel.from_pretrained(OUT)
    torchvision  OUT/resnet50.pth                       load_state_dict of torchvision's ResNet
    smp          OUT/config.json, model.safetensors    segmentation_models_pytorch.from_pretrained
    hf           OUT/run.json, ...                      `hub.HubRun.from_pretrained(OUT).load()`,
                 OUT/text_model/, OUT/image_encoder/    transformers' AutoModel

Each folder has a README.md with the preprocessing and the lines that load it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf

from g2dbench.errors import Misuse
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.model import Decodes, Model
from g2dbench.pretrained.tensor_files import save_tensors
from g2dbench.runs.exports.image_encoder import (
    architecture_of,
    encoder_of,
    encoder_state,
    timm_network,
)
from g2dbench.runs.exports.readme import write_readme

IMAGE_FOLDER, TEXT_FOLDER = "image_encoder", "text_model"
_CROP_MODES = {"stretch": "squash", "crop": "center", "pad": "border"}


def export(model: Model, run: Path, out: Path, target: str) -> list[Path]:
    """Write a run's model for another library into a new or empty folder; returns the files.

    Raises Misuse for an unknown format, a folder that is not empty, and a model that the format
    cannot hold; then nothing is written.
    """
    if target not in FORMATS:
        raise Misuse(f"--to {target!r}: choose g2d, {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Misuse(f"{out} is not an empty folder: give an empty or a new one as --out")
    FORMATS[target](model, run, out)
    write_readme(model, out, target)
    return sorted(path for path in out.iterdir())


def to_timm(model: Model, run: Path, out: Path) -> None:
    """The image encoder as a timm model with its preprocessing."""
    network = timm_network(model)
    _, options = architecture_of(model)
    out.mkdir(parents=True, exist_ok=True)
    save_for_hf(
        network,
        str(out),
        model_config={"pretrained_cfg": _input_settings(model), "model_args": options},
        safe_serialization=True,
    )
    _remove_recorded_classes(out / "config.json")


def _remove_recorded_classes(file: Path) -> None:
    """timm also records `num_classes` as an argument, which transformers then gives twice."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config.get("model_args", {}).pop("num_classes", None)
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _input_settings(model: Model) -> dict[str, Any]:
    """The preprocessing in timm's words; gray values are repeated for three channels."""
    preprocess = model.preprocess
    size, channels = preprocess.size, preprocess.channels
    return {
        "input_size": [channels, size, size],
        "mean": _per_channel(preprocess.mean, channels),
        "std": _per_channel(preprocess.std, channels),
        "interpolation": preprocess.resampling,
        "crop_pct": size / (preprocess.resize or size),
        "crop_mode": _CROP_MODES[preprocess.fit],
        "num_classes": 0,
    }


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [values[0]] * channels


def to_torchvision(model: Model, run: Path, out: Path) -> None:
    """The image encoder as a state_dict of torchvision's ResNet without `fc`."""
    name, options = architecture_of(model)
    if options or not name.startswith("resnet") or not name.removeprefix("resnet").isdigit():
        raise Misuse(
            f"torchvision has no network with the layers of {name!r} {options or ''}: export with "
            "--to timm"
        )
    timm_network(model)  # complains about an encoder that is cut off
    out.mkdir(parents=True, exist_ok=True)
    torch.save(encoder_state(model), out / f"{name}.pth")


def to_smp(model: Model, run: Path, out: Path) -> None:
    """Encoder, decoder and head as segmentation_models_pytorch's Unet."""
    towers: Any = getattr(model, "towers", None)
    if not isinstance(model, Decodes) or not hasattr(towers, "unet"):
        raise Misuse(
            f"{model.identity.label} has no U-Net, and smp's format holds whole U-Nets: export its "
            "encoder with --to timm"
        )
    if towers.architecture.get("pixel", {}).get("target") == "none":
        raise Misuse(
            f"the decoder of {model.identity.label} was not trained (model.pixel.target is none): "
            "export its encoder with --to timm"
        )
    towers.unet.save_pretrained(out)


def to_hf(model: Model, run: Path, out: Path) -> None:
    """The run itself, and its encoders in folders that transformers loads."""
    from g2dbench.runs.exports.hub import copy_run

    encoder_of(model)
    out.mkdir(parents=True, exist_ok=True)
    copy_run(run, out)
    if isinstance(model, PretrainedImageTextModel):
        towers: Any = model.towers
        towers.text.encoder.bert.save_pretrained(out / TEXT_FOLDER)
        towers.tokenize.tokenizer.save_pretrained(out / TEXT_FOLDER)
    try:
        to_timm(model, run, out / IMAGE_FOLDER)
    except Misuse as reason:
        # A cut-off encoder is in model.safetensors all the same; the README tells the reason.
        (out / IMAGE_FOLDER).mkdir(exist_ok=True)
        save_tensors(out / IMAGE_FOLDER / "encoder.safetensors", encoder_state(model))
        note = f"These are the weights of the encoder alone, without a timm model: {reason}\n"
        (out / IMAGE_FOLDER / "README.md").write_text(note, encoding="utf-8")


def to_open_clip(model: Model, run: Path, out: Path) -> None:
    """Always Misuse: open_clip's configuration has no layers for the projectors of these methods.

    Its image towers end in pooling and a linear layer or a GELU network, its text towers in a
    network without biases; those here have batch norms and ReLU, and G2D pools by attention over
    projected pixels of several levels.
    """
    raise Misuse(
        f"open_clip cannot hold {model.identity.label}: its configuration has no projector with "
        "ReLU and batch norm, and no attention pooling after a projector. Use --to hf for the "
        "whole model, or --to timm for an image tower that open_clip builds by `timm_model_name`"
    )


FORMATS: Mapping[str, Callable[[Model, Path, Path], None]] = {
    "hf": to_hf,
    "timm": to_timm,
    "torchvision": to_torchvision,
    "smp": to_smp,
    "open_clip": to_open_clip,
}
"""Name after --to -> what writes the format."""
