"""Golden numbers of the losses of GLoRIA, MGCA, M-FLAG and MAE, made by the originals.

    G2DBENCH_METHODS=FOLDER python tests/golden/make_methods.py

FOLDER holds checkouts named gloria (marshuang80, 416466a), MGCA (HKU-MedAI, 680fe4a),
M-FLAG-MICCAI2023 (cheliu-computation, a7fea3c) and mae (facebookresearch, efb2a80). The originals'
own loss code runs on drawn representations; modules that it imports and does not need here
(trainers, encoders, loggers) are stood in for. Writes methods.json: numbers only.
"""

import json
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from functorch.einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

VARIABLE = "G2DBENCH_METHODS"
GOLDEN = Path(__file__).resolve().parent / "methods.json"
SEED = 20221201

STANDINS = {
    "pytorch_lightning": ("LightningModule", "Trainer", "seed_everything"),
    "pytorch_lightning.callbacks": ("EarlyStopping", "LearningRateMonitor", "ModelCheckpoint"),
    "pytorch_lightning.loggers": ("WandbLogger",),
    "pytorch_lightning.plugins": ("DDP2Plugin", "DDPPlugin"),
    "cosine_annealing_warmup": ("CosineAnnealingWarmupRestarts",),
    "einops": (),
    "mgca": (),
    "mgca.datasets": (),
    "mgca.datasets.data_module": ("DataModule",),
    "mgca.datasets.pretrain_dataset": ("MultimodalPretrainingDataset", "multimodal_collate_fn"),
    "mgca.datasets.transforms": ("DataTransforms",),
    "mgca.models": (),
    "mgca.models.backbones": (),
    "mgca.models.backbones.encoder": ("BertEncoder", "ImageEncoder"),
    "utils_builder": (),
    "util": (),
    "util.pos_embed": ("get_2d_sincos_pos_embed",),
}


def drawn(pairs: int, words: int, regions: int, width: int, seed: int) -> dict[str, Tensor]:
    """Representations of one batch, the same for the original and for ours."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    return {
        "image": normal(pairs, width),
        "text": normal(pairs, width),
        "regions": normal(pairs, regions, width),
        "words": normal(pairs, words, width),
        "weights": torch.rand(pairs, words, generator=draw) + 0.01,
        "prototypes": normal(7, width),
        "painted": normal(pairs, 1, 32, 32),
        "grey": normal(pairs, 1, 32, 32),
        "hidden": torch.rand(pairs, 16, generator=draw).argsort(1) >= 4,
    }


CASES = {
    "many": {"pairs": 5, "words": 6, "regions": 9, "width": 8},
    "two pairs": {"pairs": 2, "words": 3, "regions": 4, "width": 4},
    "one word": {"pairs": 3, "words": 1, "regions": 4, "width": 4},
}


def gloria(folder: Path, given: dict[str, Tensor], lengths: list[int]) -> dict[str, float]:
    """gloria/loss/gloria_loss.py; it loops over reports, whose first words it reads."""
    original = run_file(folder / "gloria/gloria/loss/gloria_loss.py")
    side = round(given["regions"].shape[1] ** 0.5)
    maps = given["regions"].transpose(1, 2).unflatten(2, (side, side)).contiguous()
    words = given["words"].transpose(1, 2).contiguous()
    *local, _ = original.local_loss(maps, words, lengths)
    reports = original.global_loss(given["image"], given["text"])
    return {"global": float(sum(reports)), "local": float(sum(local))}


def mgca(folder: Path, given: dict[str, Tensor]) -> dict[str, float]:
    """The forward pass of MGCA, its encoders handing over what is drawn."""
    module = run_file(folder / "MGCA/mgca/models/mgca/mgca_module.py")
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.deterministic = False
    model = object.__new__(module.MGCA)
    nn.Module.__init__(model)
    model.hparams = SimpleNamespace(
        softmax_temperature=0.07, local_temperature=0.1, proto_temperature=0.2, gpus=0,
        use_local_atten=False, bidirectional=True, img_encoder="resnet_50", epsilon=0.05,
        sinkhorn_iterations=3,
    )  # fmt: skip
    model.get_assignments = model.sinkhorn
    model.prototype_layer = nn.Linear(*given["prototypes"].T.shape, bias=False)
    model.prototype_layer.weight.data.copy_(given["prototypes"])
    words, batch = given["words"], {"imgs": given["image"]}
    sentences = [["[CLS]", *["word"] * words.shape[1]] for _ in words]
    model.img_encoder_q = handing_over(given["image"], given["regions"])
    model.text_encoder_q = handing_over(given["text"], words, given["weights"].clone(), sentences)
    model.precision_at_k = lambda *_, **__: (torch.zeros(1), torch.zeros(1))
    keys = ("caption_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        found = model.forward(batch | dict.fromkeys(keys, words), 0)[:3]
    return dict(zip(("ita", "cta", "cpa"), map(float, found), strict=True))


def mflag(folder: Path, given: dict[str, Tensor]) -> dict[str, float]:
    """Two methods of utils/utils_trainer.py."""
    file = folder / "M-FLAG-MICCAI2023/utils/utils_trainer.py"
    kind = run_file(file).trainer_wBert
    trainer = SimpleNamespace(device="cpu", train_batch_size=len(given["image"]))
    latent = given["image"]
    return {
        "align": float(kind.align_loss(trainer, latent, given["text"])),
        "orthogonal": float(kind.orthogonal_loss(trainer, latent, latent)),
    }


def mae(folder: Path, given: dict[str, Tensor]) -> dict[str, float]:
    """forward_loss of models_mae.py: with its patchify on three equal colours, and on one.

    One for normalised patches, since the unbiased variance of three equal colours is a smaller one.
    """
    file = folder / "mae/models_mae.py"
    kind = run_file(file).MaskedAutoencoderViT
    size, hidden = SimpleNamespace(patch_size=(8, 8)), given["hidden"].float()
    model = SimpleNamespace(patch_embed=size, norm_pix_loss=False)
    model.patchify = lambda images: kind.patchify(model, images)
    painted, grey = (given[name].expand(-1, 3, -1, -1) for name in ("painted", "grey"))
    found = {"grey": float(kind.forward_loss(model, grey, model.patchify(painted), hidden))}
    model.norm_pix_loss = True
    model.patchify = lambda images: F.unfold(images, 8, stride=8).transpose(1, 2)
    painted, grey = model.patchify(given["painted"]), given["grey"]
    return {**found, "patch": float(kind.forward_loss(model, grey, painted, hidden))}


def handing_over(*parts: Any) -> Any:
    """An encoder that gives these whatever it is asked, and does not project."""
    encoder = SimpleNamespace(global_embed=nn.Identity(), local_embed=nn.Identity())

    class Given(SimpleNamespace):
        def __call__(self, *_: Any) -> Any:
            return parts

    return Given(**vars(encoder))


def run_file(file: Path) -> SimpleNamespace:
    """What a file of the original defines."""
    with stood_in():
        return SimpleNamespace(**runpy.run_path(str(file)))


@contextmanager
def stood_in() -> Iterator[None]:
    """Empty modules for what the originals import, taken away again afterwards."""
    before = {name: sys.modules[name] for name in STANDINS if name in sys.modules}
    for name, members in STANDINS.items():
        sys.modules[name] = module = ModuleType(name)
        for member in members:
            setattr(module, member, nn.Module if member == "LightningModule" else object)
    sys.modules["einops"].rearrange = rearrange  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in STANDINS:
            del sys.modules[name]
        sys.modules.update(before)


def answers(folder: Path, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Of every case and every original, its losses."""
    found = {}
    for name, sizes in CASES.items():
        given = drawn(**sizes, seed=seed)
        lengths = word_counts(sizes)
        found[name] = {
            "gloria": gloria(folder, given, lengths),
            "mgca": mgca(folder, given),
            "mflag": mflag(folder, given),
            "mae": mae(folder, given),
        }
    return found


def word_counts(sizes: dict[str, int]) -> list[int]:
    """How many words each report has, for GLoRIA: all, one fewer, and so on, at least 1."""
    return [max(1, sizes["words"] - row) for row in range(sizes["pairs"])]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(answers(Path(os.environ[VARIABLE]), SEED), indent=1) + "\n")
