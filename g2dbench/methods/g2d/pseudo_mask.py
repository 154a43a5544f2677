"""Pseudo masks from attention: batched, on the device, without gradient or parameters.

Shapes: B images, H heads, h w grid, S image side, K masks of an image (1, or H if separate).
Each step is a function; `PseudoMask` runs those that the settings select, in the order of the
paper's section 3.2.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.methods.g2d.settings import MaskSettings
from g2dbench.preprocess import Preprocess

_BINS = 256
_ROUNDS = 50


class PseudoMask(nn.Module):
    """Attention (B, H, h, w) and images (B, C, S, S) -> masks (B, K, S, S) in [0, 1], fp32."""

    mean: Tensor
    std: Tensor
    window: Tensor

    def __init__(self, mask: MaskSettings, preprocess: Preprocess) -> None:
        super().__init__()
        self._settings = mask
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        window = disc_window(mask.sigma_space, mask.window())
        self.register_buffer("window", window, persistent=False)

    @torch.no_grad()
    def forward(self, attention: Tensor, images: Tensor) -> Tensor:
        """The target for the decoder."""
        with torch.autocast(images.device.type, enabled=False):
            mask = self._smooth(self._binary(attention.float(), images.float()), images)
            return mask.roll(1, 0) if self._settings.pairing == "shuffled" else mask

    @torch.no_grad()
    def steps(self, attention: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The mask after each step, (B, S, S) in [0, 1], never shuffled; several are averaged."""
        with torch.autocast(images.device.type, enabled=False):
            binary = self._binary(attention.float(), images.float())
            return {
                "body mask": self.body(images).float(),
                "thresholded": binary.float().mean(1),
                "refined": self._smooth(binary, images).mean(1),
            }

    def _smooth(self, binary: Tensor, images: Tensor) -> Tensor:
        settings, mask = self._settings, binary.float()
        if settings.smoothing == "bilateral":
            return bilateral_filter(mask, self.window, settings.sigma_range)
        if settings.smoothing == "guided":
            return guided_filter(
                mask, self.grey(images)[:, None], settings.window(), settings.guide_eps
            )
        return mask

    def _binary(self, attention: Tensor, images: Tensor) -> Tensor:
        settings = self._settings
        scores = attention.mean(1, keepdim=True) if settings.heads == "mean" else attention
        scores = F.interpolate(scores, size=images.shape[2:], mode=settings.upsampling)
        scores = scores * self.body(images)[:, None]
        if settings.threshold == "mixture":
            return above_mixture(scores)
        if settings.threshold == "batch":
            return above_batch_percentile(scores, settings.percentile)
        return above_percentile(scores, settings.percentile)

    def body(self, images: Tensor) -> Tensor:
        """Normalized (B, C, S, S) -> (B, S, S) bool: where a mask may be; everywhere if "none"."""
        if self._settings.body == "none":
            return torch.ones_like(images[:, 0], dtype=torch.bool)
        body = body_mask((self.grey(images) * 255).round().long())
        return outline(body) if self._settings.body == "outline" else body

    def grey(self, images: Tensor) -> Tensor:
        """Normalized (B, C, S, S) -> (B, S, S) grey values in [0, 1]."""
        return (images.float() * self.std + self.mean).mean(1).clamp(0, 1)


def above_percentile(scores: Tensor, percentile: float) -> Tensor:
    """(..., S, S) -> bool, True above this percentile of each map.

    Equals `scores > numpy.quantile(scores, percentile / 100)`: the interpolated quantile lies
    between two values of adjacent rank, so exceeding it means exceeding the lower one.
    """
    flat = scores.flatten(-2)
    rank = math.floor(percentile / 100 * (flat.shape[-1] - 1))
    # kthvalue has no deterministic form on CUDA
    cut = flat.topk(flat.shape[-1] - rank, dim=-1, sorted=False).values.amin(-1)
    return scores > cut[..., None, None]


def above_batch_percentile(scores: Tensor, percentile: float) -> Tensor:
    """(B, K, S, S) -> bool, True above this percentile of the maps of all images, per K."""
    together = scores.transpose(0, 1).flatten(1, 2)
    return above_percentile(together, percentile).view(-1, *scores[:, 0].shape).transpose(0, 1)


def above_mixture(scores: Tensor) -> Tensor:
    """(..., S, S) -> bool, True where the upper of two Gaussians fitted to the map is likelier.

    50 rounds of expectation-maximization on a histogram of 256 bins over the map's range, starting
    with its lower and upper half; the mask of a constant map is empty.
    """
    flat = scores.flatten(-2)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    spread = (high - low).clamp(min=torch.finfo(flat.dtype).tiny)
    bins = ((flat - low) / spread * (_BINS - 1)).round().long()
    upper = _upper_gaussian(_as_double(histogram(bins))).gather(-1, bins)
    return (upper & (high > low)).view(scores.shape)


def _upper_gaussian(counts: Tensor) -> Tensor:
    """(..., 256) counts -> (..., 256) bool: bins that belong to the brighter Gaussian."""
    at = torch.linspace(0, 1, _BINS, dtype=counts.dtype, device=counts.device)
    share = counts / counts.sum(-1, keepdim=True)
    belongs = torch.stack([at < 0.5, at >= 0.5]).to(counts.dtype).expand(*counts.shape[:-1], 2, -1)
    for _ in range(_ROUNDS):
        mass = belongs * share[..., None, :]
        weight = mass.sum(-1, keepdim=True).clamp(min=1e-12)
        center = (mass * at).sum(-1, keepdim=True) / weight
        variance = (mass * (at - center) ** 2).sum(-1, keepdim=True) / weight + 1e-6
        log = weight.log() - variance.log() / 2 - (at - center) ** 2 / (2 * variance)
        belongs = log.softmax(-2)
    brighter = center.argmax(-2, keepdim=True)
    likelier = belongs.gather(-2, brighter.expand(*counts.shape[:-1], 1, _BINS))[..., 0, :] > 0.5
    return likelier & (at >= center.amin(-2))


def body_mask(grey: Tensor) -> Tensor:
    """(B, S, S) int64 0 to 255 -> bool: pixels above Otsu's threshold of their image."""
    return grey > otsu(grey)[:, None, None]


def otsu(grey: Tensor) -> Tensor:
    """(B, S, S) int64 0 to 255 -> (B,) threshold with the largest between-class variance.

    The first of several equal ones, as in OpenCV. For an image with a single value it is that value
    minus one, so that the whole image is body, unless it is black.
    """
    counts = histogram(grey.flatten(1))
    at = torch.arange(_BINS, device=counts.device)
    below, total = counts.cumsum(-1), counts.sum(-1, keepdim=True)
    mass, whole = (counts * at).cumsum(-1), (counts * at).sum(-1, keepdim=True)
    size = below * (total - below)
    between = _as_double(whole * below - mass * total) ** 2 / _as_double(size.clamp(min=1))
    best = torch.where(size > 0, between, -1.0).argmax(-1)
    single = (counts > 0).sum(-1) == 1
    return torch.where(single, (counts.argmax(-1) - 1).clamp(min=0), best)


def histogram(bins: Tensor) -> Tensor:
    """(..., N) int64 0 to 255 -> (..., 256) int64 counts; stays on the device."""
    counts = torch.zeros(*bins.shape[:-1], _BINS, dtype=torch.int64, device=bins.device)
    return counts.scatter_add_(-1, bins, torch.ones_like(bins))


def _as_double(counts: Tensor) -> Tensor:
    """As fp64, or as fp32 on Apple's GPU, which has no fp64."""
    return counts.float() if counts.device.type == "mps" else counts.double()


def outline(body: Tensor) -> Tensor:
    """(B, S, S) bool -> bool: each row filled between its first and last True."""
    values = body.to(torch.int32)
    from_left = values.cummax(-1).values
    from_right = values.flip(-1).cummax(-1).values.flip(-1)
    return (from_left & from_right).bool()


def disc_window(sigma: float, radius: int) -> Tensor:
    """(2r+1, 2r+1) Gaussian weights within a disc, summing to 1: OpenCV's spatial window."""
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    squared = at[:, None] ** 2 + at[None, :] ** 2
    weights = torch.exp(-squared / (2 * sigma**2)) * (squared <= radius**2)
    return (weights / weights.sum()).float()


def _blur(mask: Tensor, window: Tensor) -> Tensor:
    """Convolution with the symmetric window by FFT, which is ten times faster on a CPU."""
    radius = window.shape[-1] // 2
    padded = F.pad(mask, [radius] * 4, mode="reflect")
    sides = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(window, s=sides)
    blurred: Tensor = torch.fft.irfft2(spectrum, s=sides)[..., 2 * radius :, 2 * radius :]
    return blurred.clamp(0, 1)


def bilateral_filter(mask: Tensor, window: Tensor, sigma_range: float) -> Tensor:
    """Exact bilateral filter of a binary mask: (B, K, S, S) of 0 and 1 -> [0, 1].

    For two values the range weight is 1 between equal ones and k = exp(-1 / (2 sigma^2)) otherwise,
    so that one blur g of the mask is enough: g / (g + k (1 - g)) where the mask is 1, and
    k g / (k g + 1 - g) where it is 0. Borders are reflected without the edge (OpenCV's default).
    """
    g = _blur(mask, window)
    k, rest = math.exp(-1 / (2 * sigma_range**2)), 1 - g
    inside, weaker = g / (g + k * rest), k * g
    outside = weaker / (weaker + rest)
    return torch.where(mask > 0.5, inside, outside)


def guided_filter(mask: Tensor, grey: Tensor, radius: int, eps: float) -> Tensor:
    """Guided filter: (B, K, S, S) of 0 and 1, guide (B, 1, S, S) in [0, 1] -> [0, 1].

    In every square window the mask is fitted as a linear function of the guide; `eps` regularizes
    the slope. A pixel gets the mean of the fits that cover it. Borders are reflected without the
    edge. Source: He et al., Guided Image Filtering, ECCV 2010.
    """
    mean_guide, mean_mask = _box_mean(grey, radius), _box_mean(mask, radius)
    variance = _box_mean(grey * grey, radius) - mean_guide**2
    slope = (_box_mean(grey * mask, radius) - mean_guide * mean_mask) / (variance + eps)
    offset = mean_mask - slope * mean_guide
    return (_box_mean(slope, radius) * grey + _box_mean(offset, radius)).clamp(0, 1)


def _box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over the (2r+1, 2r+1) window around every pixel."""
    padded = F.pad(values, [radius] * 4, mode="reflect")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)
