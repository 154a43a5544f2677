"""The README.md of an exported folder: what it is, its preprocessing, and how to load it."""

from pathlib import Path

from g2dbench.model import Model
from g2dbench.system.files import replace_file

_LOADING = {
    "timm": """import timm
encoder = timm.create_model("local-dir:FOLDER", pretrained=True)

from transformers import AutoModel
encoder = AutoModel.from_pretrained("FOLDER")""",
    "torchvision": """import torch, torchvision
encoder = torchvision.models.ARCH(weights=None)
encoder.fc = torch.nn.Identity()
encoder.load_state_dict(torch.load("FOLDER/ARCH.pth", weights_only=True))""",
    "smp": """import segmentation_models_pytorch as smp
unet = smp.from_pretrained("FOLDER")""",
    "hf": """from g2dbench.runs.exports.hub import HubRun
model = HubRun.from_pretrained("FOLDER").load()
HubRun("FOLDER").push_to_hub("ORGANIZATION/NAME")

from transformers import AutoModel, AutoTokenizer
text_encoder = AutoModel.from_pretrained("FOLDER/text_model")
tokenizer = AutoTokenizer.from_pretrained("FOLDER/text_model")""",
}

_TEXT = """---
library_name: {library}
license: other
tags: [chest-x-ray, g2dbench]
---

# {label}

{summary}

Paper: {paper}

Weights: SHA-256 {digest} over all tensors. Trained on: {data}. The license of the training data
applies.

## Input

Gray images (dense tissue bright), repeated for {channels} channels: {fit} to {size} x {size} pixels
({resampling}), divided by 255, mean {mean}, standard deviation {std}, intensities {intensity}.

## Loading

```python
{loading}
```
"""

_FITS = {"stretch": "stretched", "crop": "short side resized, center-cropped", "pad": "padded"}


def write_readme(model: Model, out: Path, target: str) -> None:
    """Write `out`/README.md for a format; it replaces one that the format's library wrote."""
    preprocess, card = model.preprocess, model.card
    (arch,) = [file.stem for file in out.glob("resnet*.pth")] or [""]
    loading = _LOADING[target].replace("FOLDER", out.name).replace("ARCH", arch)
    text = _TEXT.format(
        library={"hf": "g2dbench", "smp": "segmentation-models-pytorch"}.get(target, target),
        label=model.identity.label,
        summary=card.summary,
        paper=card.paper,
        digest=model.identity.digest,
        data=", ".join(card.trained_on) or "unknown",
        channels=preprocess.channels,
        fit=_FITS[preprocess.fit],
        size=preprocess.size,
        resampling=preprocess.resampling,
        mean=preprocess.mean,
        std=preprocess.std,
        intensity=preprocess.intensity,
        loading=loading,
    )
    replace_file(out / "README.md", lambda path: path.write_text(text, encoding="utf-8"))
