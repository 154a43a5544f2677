"""Golden numbers of G2D, made by the original: cheliu-computation/G2D-NeurIPS24 at 30364bd.

    G2DBENCH_G2D=.../G2D-NeurIPS24 python tests/golden/make_g2d.py

Reads the original from that folder, gives it drawn weights (drawn.py), lets its own trainer make
one step past the warm-up on the CPU in double precision, and writes g2d.json. What is stood in for,
so that it runs on today's libraries: einops and matplotlib where absent (imported, never used); the
tokenizer call that transformers 5 dropped; the decoder's maps as the one list that smp wants since
0.4; and no ImageNet weights are fetched for an encoder whose weights are drawn anyway.
"""

import importlib
import importlib.util
import json
import os
import runpy
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

HERE = Path(__file__).resolve().parent
drawn = SimpleNamespace(**runpy.run_path(str(HERE / "drawn.py")))

VARIABLE = "G2DBENCH_G2D"
GOLDEN = HERE / "g2d.json"
SEED = 20231203
SIDE = 128
"""4 x 4 pixels of attention: enough for the 85th percentile to choose two of them."""

BERT = {
    "vocab_size": len(drawn.VOCABULARY),
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}
"""768 wide with 12 heads, as CNN_AE wants it; of two layers the first is frozen."""
FROZEN = 1

REPORTS = (
    "There is no effusion.",
    "Pneumonia of the left lung, no effusion of the right lung.",
    "no pneumonia",
    "The lung is left. The right is no lung. There is pneumonia?!",
    "Lung: right, left.",
    "effusion of the left lung and pneumonia of the right",
)
"""Six, because the original's accuracy looks among the first five."""

NETWORK = {
    "img_model": "resnet50",
    "img_size": SIDE,
    "att_pool_head": 4,
    "unet_out_channel": 1,
    "projection_head": {"mlp_hidden_size": 128, "projection_size": 128},
}
TRAINER = {
    "decoder": "yes", "merge_threshold": "quantil", "quantil": 0.85, "num_pseudo_map": 1,
    "crop_img_size": SIDE, "batch_size": len(REPORTS), "max_epochs": 51, "lr": 2e-5,
    "num_workers": 0,
}  # fmt: skip
"""PRETRAIN/config.yaml, but for the sizes."""

GRADIENTS = {
    "img_model.encoder.conv1.weight": 40,
    "img_model.encoder.layer4.2.conv3.weight": 9001,
    "img_model.decoder.blocks.0.conv1.0.weight": 60001,
    "img_model.segmentation_head.0.weight": 3,
    "proj_v.0.weight": 2501,
    "proj_t.3.weight": 153,
    "attnpool.positional_embedding": 19,
    "attnpool.mhsa.in_proj_weight": 453,
    "attnpool.mhsa.out_proj.bias": 3,
    "attnpool.c_proj.weight": 153,
    "lm_model.embeddings.word_embeddings.weight": 701,
    "lm_model.encoder.layer.1.output.dense.weight": 701,
}
"""Names whose gradients are compared, and of how many the golden file keeps one."""


@contextmanager
def stand_ins(*names: str) -> Iterator[None]:
    """Modules of these names where they are absent, with what the original imports from them."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    for name in absent:
        module: Any = ModuleType(name)
        module.rearrange = module.pyplot = None
        sys.modules[name] = module
    yield
    for name in absent:
        del sys.modules[name]


def import_original(source: str) -> SimpleNamespace:
    """The original's classes, imported from the folder of its repository."""
    for folder in ("models", "utils"):
        path = str(Path(source) / "PRETRAIN" / folder)
        if path not in sys.path:
            sys.path.insert(0, path)
    with stand_ins("einops", "matplotlib"):
        modules = [importlib.import_module(name) for name in ("cnn_ae", "loss", "trainer")]
    return SimpleNamespace(**{name: value for m in modules for name, value in vars(m).items()})


class OldTokenizer(BertTokenizer):
    """A tokenizer with the method that transformers 5 removed."""

    def batch_encode_plus(self, batch_text_or_text_pairs: list[str], **options: Any) -> Any:
        return self(list(batch_text_or_text_pairs), **options)


@contextmanager
def todays_libraries() -> Iterator[None]:
    """While the original is built: no download, and a tokenizer with the old method."""
    unet = smp.Unet

    def fresh(name: str, encoder_weights: str, **options: Any) -> Any:
        assert encoder_weights == "imagenet"
        return unet(name, encoder_weights=None, **options)

    def tokenizer(url: str, **_: Any) -> OldTokenizer:
        return OldTokenizer.from_pretrained(url)

    with (
        mock.patch.object(smp, "Unet", fresh),
        mock.patch("transformers.AutoTokenizer.from_pretrained", tokenizer),
    ):
        yield


def write_text_folder(folder: Path) -> None:
    """A BERT of the sizes of BERT and the toy vocabulary, as AutoModel wants them."""
    drawn.write_vocabulary(folder)
    BertModel(BertConfig(**BERT)).save_pretrained(folder)


def build(source: str, text_model: Path, network: dict[str, Any] = NETWORK) -> Any:
    """A CNN_AE with fresh weights and the first layers frozen as its main.py freezes them."""
    original = import_original(source)
    with todays_libraries():
        model = original.CNN_AE({**network, "text_model": str(text_model)}, device_id="cpu")
    for layer in model.lm_model.encoder.layer[:FROZEN]:
        layer.requires_grad_(False)
    decoder = model.img_model.decoder
    listed = decoder.forward
    decoder.forward = lambda *pyramid: listed(list(pyramid))
    return model


def build_drawn(source: str, folder: Path, seed: int) -> Any:
    """A CNN_AE with drawn weights."""
    write_text_folder(folder)
    model = build(source, folder)
    model.load_state_dict(drawn.state(model, seed))
    return model


def images(seed: int) -> Tensor:
    """(6, 3, SIDE, SIDE): drawn radiographs with ImageNet's mean and deviation."""
    grey = [drawn.radiograph(SIDE, SIDE, seed + at) for at in range(len(REPORTS))]
    planes = torch.stack([torch.from_numpy(one) for one in grey]).float().div(255)[:, None]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (planes - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def answers(source: str, model: Any, seed: int) -> dict[str, Tensor]:
    """What the original says of drawn radiographs and REPORTS while it trains; it makes one step.

    The text encoder is in the mode in which from_pretrained left it, evaluation: the released code
    never changes it.
    """
    original = import_original(source)
    # In single precision batch norms over six images blow rounding up to 4e-5 of a logit.
    model.double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=1e-8)
    trainer = original.Trainer(model, optimizer, "cpu", "name", **TRAINER)
    trainer.global_step = 200
    said: dict[str, Any] = {}
    watch = model.register_forward_hook(lambda *call: said.update(call[-1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaler, scheduler = original.GradScaler(), trainer.create_scheduler()
        batch = images(seed).double()
        loss, _, _, parts = trainer.train_batch(REPORTS, batch, None, scaler, scheduler)
    watch.remove()
    gradients = dict(model.named_parameters())
    return {
        "image": said["pool_proj_img_emb"].detach(),
        "text": said["proj_text_emb"].detach(),
        "pixels": said["patch_emb"].detach(),
        "attention": said["att_map"].detach(),
        "mask": torch.from_numpy(trainer.transform_att2label(said["att_map"])).float(),
        "decoded": said["img_dec"].detach(),
        "vla": torch.tensor(parts["clip_loss"]),
        "pa": torch.tensor(parts["seg_loss"]),
        "loss": loss.detach(),
        **{f"gradient {name}": gradients[name].grad for name in GRADIENTS},
    }


def thinned(answer: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part that the golden file keeps."""
    kept = {
        "image": answer["image"],
        "text": answer["text"],
        "pixels": answer["pixels"][:, ::3, ::8],
        "attention": answer["attention"],
        "mask": answer["mask"][:, 0, 15::32, 15::32],
        "decoded": answer["decoded"][:, 0, 5::12, 5::12],
        **{name: answer[name] for name in ("vla", "pa", "loss")},
    }
    for name, step in GRADIENTS.items():
        kept[f"gradient {name}"] = answer[f"gradient {name}"].flatten()[::step]
    return kept


def main() -> None:
    """Write the golden file."""
    import tempfile

    source = os.environ[VARIABLE]
    with tempfile.TemporaryDirectory() as name:
        numbers = thinned(answers(source, build_drawn(source, Path(name), SEED), SEED))
    kept = {name: drawn.rounded(values) for name, values in numbers.items()}
    GOLDEN.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
