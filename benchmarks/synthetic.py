"""Measures the generation of synthetic radiographs, and how well models learn their findings.

    python benchmarks/synthetic.py [--images 2400] [--epochs 12] [--threads 2]

Prints the time per image at 128 px. Then, on held-out patients at 64 px, it prints the AUC per
finding of a linear probe on the features of a small ResNet before and after training, and the Dice
of a small segmentation network that is trained on all masks or on 1 % of them, for the same number
of steps.
"""

import argparse
import time
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torchvision.models.resnet import BasicBlock

from g2dbench.data.synthetic.synthetic import CARD, generate_many
from g2dbench.sample import Sample

SEGMENTED = ("pleural effusion", "cardiomegaly", "pneumothorax", "consolidation")
WIDTHS = (16, 32, 64, 128)


class SmallResNet(nn.Module):
    """Four residual blocks; `forward` gives logits, `stages` a pyramid at 1/2, 1/4, 1/8, 1/16."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 5, 1, 2), nn.BatchNorm2d(WIDTHS[0]))
        self.blocks = nn.ModuleList(_block(i, o) for i, o in pairwise((WIDTHS[0], *WIDTHS)))
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def stages(self, image: Tensor) -> list[Tensor]:
        maps = [self.stem(image).relu()]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1:]

    def features(self, image: Tensor) -> Tensor:
        return self.stages(image)[-1].mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image))
        return logits


class SmallUNet(nn.Module):
    """A decoder that adds up the feature pyramid of `SmallResNet` from coarse to fine."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.encoder = SmallResNet(1)
        self.lateral = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in WIDTHS)
        self.smooth = nn.ModuleList(nn.Conv2d(32, 32, 3, 1, 1) for _ in WIDTHS)
        self.head = nn.Conv2d(32, outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        maps = [side(m) for side, m in zip(self.lateral, self.encoder.stages(image), strict=True)]
        total = maps[-1]
        for finer, smooth in zip(maps[-2::-1], self.smooth, strict=False):
            total = smooth((interpolate(total, scale_factor=2.0) + finer).relu())
        return interpolate(self.head(total), scale_factor=2.0, mode="bilinear")


def _block(narrow: int, wide: int) -> nn.Module:
    skip = nn.Sequential(nn.Conv2d(narrow, wide, 1, 2, bias=False), nn.BatchNorm2d(wide))
    block: nn.Module = BasicBlock(narrow, wide, stride=2, downsample=skip)
    return block


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus 1 - soft Dice, which gives small findings more weight."""
    probabilities = logits.sigmoid()
    both = (probabilities * target).sum((0, 2, 3))
    dice = (2 * both + 1) / (probabilities.sum((0, 2, 3)) + target.sum((0, 2, 3)) + 1)
    return binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


def fit(model: nn.Module, image: Tensor, target: Tensor, steps: int, rate: float = 4e-3) -> None:
    """Train with AdamW and a one-cycle schedule on labels (N, K), with shifts, or on masks."""
    loss_of = binary_cross_entropy_with_logits if target.ndim == 2 else segmentation_loss
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    model.train()
    for _ in range(steps):
        batch = torch.from_numpy(rng.choice(len(image), min(32, len(image)), replace=False))
        shift = tuple(int(s) for s in rng.integers(-3, 4, 2)) if target.ndim == 2 else (0, 0)
        logits = model(torch.roll(image[batch], shift, (2, 3)))
        loss = loss_of(logits, target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    model.eval()


@torch.no_grad()
def apply(function: nn.Module, image: Tensor) -> NDArray[np.float32]:
    return torch.cat([function(part) for part in image.split(128)]).numpy()


def aucs(scores: NDArray, labels: NDArray) -> list[float]:
    return [float(roc_auc_score(y, s)) for y, s in zip(labels.T, scores.T, strict=True)]


def probe(model: SmallResNet, train: tuple, test: tuple) -> list[float]:
    """AUC per finding of logistic regressions on the frozen features."""
    with torch.no_grad():
        model.eval()
        train_features, test_features = (
            torch.cat([model.features(part) for part in images.split(128)]).numpy()
            for images in (train[0], test[0])
        )
    scale = StandardScaler().fit(train_features)
    scores = [
        LogisticRegression(max_iter=500, C=0.1)
        .fit(scale.transform(train_features), y)
        .decision_function(scale.transform(test_features))
        for y in train[1].numpy().T
    ]
    return aucs(np.stack(scores, axis=1), test[1].numpy())


def dice(logits: NDArray, masks: NDArray) -> list[float]:
    """Dice per finding over all pixels of the test images."""
    predicted = logits > 0
    both = (predicted & masks).sum((0, 2, 3))
    return [float(d) for d in 2 * both / (predicted.sum((0, 2, 3)) + masks.sum((0, 2, 3)))]


def tensors(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 1, 64, 64), labels (N, findings) and masks (N, segmented, 64, 64)."""
    image = torch.from_numpy(np.stack([s.image for s in samples])).float()[:, None]
    labels = [[(s.labels or {})[finding] for finding in CARD.findings] for s in samples]
    none = np.zeros((64, 64), dtype=bool)
    masks = np.stack([[(s.masks or {}).get(f, none) for f in SEGMENTED] for s in samples])
    return (image - 140) / 70, torch.tensor(labels).float(), torch.from_numpy(masks)


def show(title: str, values: list[float]) -> None:
    numbers = " ".join(f"{value:6.3f}" for value in values)
    print(f"{title:34s} mean {np.mean(values):.3f}   {numbers}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    start = time.perf_counter()
    count = sum(1 for _ in generate_many(range(400), 128, workers=args.threads))
    speed = (time.perf_counter() - start) / count
    print(f"generation: {1000 * speed:.1f} ms per image at 128 px, 2,000 in {2000 * speed:.0f} s")
    samples = list(generate_many(range(args.images), 64, workers=args.threads))
    train = tensors([s for s in samples if s.split != "test"])
    test = tensors([s for s in samples if s.split == "test"])
    print(f"{len(train[0])} training and {len(test[0])} test images: {', '.join(CARD.findings)}")
    steps = args.epochs * len(train[0]) // 32
    model = SmallResNet(len(CARD.findings))
    show("linear probe, random features", probe(model, train[:2], test[:2]))
    fit(model, train[0], train[1], steps)
    show("linear probe, trained features", probe(model, train[:2], test[:2]))
    show("network, supervised", aucs(apply(model, test[0]), test[1].numpy()))
    print(f"segmentation, Dice: {', '.join(SEGMENTED)}")
    for fraction in (0.01, 1.0):
        torch.manual_seed(0)
        net, count = SmallUNet(len(SEGMENTED)), round(fraction * len(train[0]))
        fit(net, train[0][:count], train[2][:count].float(), steps)
        show(f"trained on {count} images", dice(apply(net, test[0]), test[2].numpy()))
    print(f"{time.perf_counter() - start:.0f} s in total")


if __name__ == "__main__":
    main()
