"""A reimplementation of the training step of G2D's released code, for timing.

Source: PRETRAIN/ of GitHub cheliu-computation/G2D-NeurIPS24: contiguous layout, text always padded
to 256, gradients through the frozen BERT layers to the trained embeddings, the pseudo mask by NumPy
on the host, Dice on raw logits. Weights are random, which does not affect the time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from g2dbench.method import Batch

SIZE, LENGTH, FROZEN = 256, 256, 9
VOCABULARY = 28996
"""Size of the vocabulary of Bio_ClinicalBERT."""
BERT_BASE = BertConfig(vocab_size=VOCABULARY)


class PublishedG2D(nn.Module):
    """The network and losses of the released code; the forward pass returns the total loss."""

    def __init__(self, size: int, encoder: str, bert: BertConfig) -> None:
        super().__init__()
        self.unet: Any = smp.Unet(encoder, encoder_weights=None, classes=1)
        self.bert = BertModel(bert)
        self.bert.encoder.layer[:FROZEN].requires_grad_(False)
        self.image_head = _pointwise(nn.Conv2d, self.unet.encoder.out_channels[-1])
        self.text_head = _pointwise(nn.Conv1d, bert.hidden_size)
        self.positions = nn.Parameter(torch.randn((size // 32) ** 2 + 1, 128) / 128**0.5)
        self.attend = nn.MultiheadAttention(128, 4, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        pyramid = self.unet.encoder(batch.images)
        tokens = self.image_head(pyramid[-1]).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positions
        image, weights = self.attend(tokens[:, :1], tokens, tokens, average_attn_weights=False)
        hidden = self.bert(batch.tokens, batch.attention).last_hidden_state
        report = self.text_head(hidden.transpose(1, 2))[..., 0]
        logits = self.unet.segmentation_head(self.unet.decoder(pyramid))
        mask = _host_mask(weights[:, :, 0, 1:].detach(), logits)
        loss = F.binary_cross_entropy_with_logits(logits.float(), mask)
        overlap, sizes = (logits.float() * mask).sum((1, 2, 3)), logits.float() + mask
        dice = (1 - (2 * overlap + 1e-5) / (sizes.sum((1, 2, 3)) + 1e-5)).mean()
        cosines = F.normalize(image[:, 0], dim=-1) @ F.normalize(report, dim=-1).T / 0.07
        target = torch.arange(len(cosines), device=cosines.device)
        vla = F.cross_entropy(cosines, target) + F.cross_entropy(cosines.T, target)
        total: Tensor = vla + dice + 0.2 * loss
        return total


def _pointwise(kind: type[nn.Module], width: int) -> nn.Sequential:
    norm = nn.BatchNorm2d if kind is nn.Conv2d else nn.BatchNorm1d
    first, second = kind(width, 128, 1, bias=False), kind(128, 128, 1, bias=False)
    return nn.Sequential(first, norm(128, affine=False), nn.ReLU(), second)


def _host_mask(weights: Tensor, logits: Tensor) -> Tensor:
    """(B, 4, h w) -> (B, 1, S, S): nearest upsampling and NumPy's quantile, on the host."""
    grid = int(weights.shape[-1] ** 0.5)
    scores = F.interpolate((weights.sum(1) / 4).view(-1, 1, grid, grid), logits.shape[2:])
    maps = scores.float().cpu().numpy()
    cuts = np.quantile(maps.reshape(len(maps), -1), 0.85, axis=1)
    return torch.from_numpy((maps > cuts[:, None, None, None]).astype(np.float32)).to(logits.device)


def published_step(
    device: torch.device, size: int = SIZE, encoder: str = "resnet50", bert: BertConfig = BERT_BASE
) -> Callable[[Batch], None]:
    """The step for images of this side: fp32 on a CPU, fp16 on a GPU; text padded to `LENGTH`.

    encoder, bert: smaller ones serve to try a benchmark out.
    """
    torch.manual_seed(0)
    model = PublishedG2D(size, encoder, bert).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=1e-8)
    use_fp16 = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=use_fp16)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        pad = (0, LENGTH - batch.tokens.shape[1])
        tokens, attention = F.pad(batch.tokens, pad), F.pad(batch.attention, pad)
        padded = Batch(batch.images.contiguous(), tokens, attention, batch.ids, batch.step)
        with torch.autocast(device.type, torch.float16, enabled=use_fp16):
            loss = model(padded)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step
