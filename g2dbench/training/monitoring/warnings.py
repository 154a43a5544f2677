"""Signs that a training fails, in plain words: each is told when it appears and when it goes away.

A sign is a pure function of the figures of `log.csv` and `steps.csv`, so that a resumed training
knows from these files what was told before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

FLAT = 0.97
"""Entropy of the attention, as a share of the largest there is, above which it says nothing."""

SHARP = 0.05
"""The same below which the attention is on a single pixel."""

SAME = 0.9
"""IoU of two images' masks above which the mask does not depend on the image."""

SHAPELESS = 0.1
"""Part of the masks that may be empty, or full, before it is told."""

HEAVY = 0.9
"""Share of the encoder's gradient above which pixel alignment leaves the reports no say."""

CALM = 2
"""Looks in a row without a sign before it counts as gone, so that none is told at every step."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Sign:
    """One way to fail: the figure that it is read from, when it shows, and what to say.

    warning: a sentence with the figures' names in braces, and what to try.
    relief: what is so once it is gone.
    """

    figure: str
    shows: Callable[[Figures], bool]
    warning: str
    relief: str

    def judged(self, figures: Figures) -> bool:
        """Whether these figures say anything about the sign."""
        return self.figure in figures


def is_guessing(figures: Figures) -> bool:
    """Whether R@10 lies within three standard errors of chance (both directions of N queries).

    Never where the pool is so small that guessing is nearly always right.
    """
    share, queries = figures["chance_r10"], 2 * figures["pool"]
    limit = share + 3 * float(np.sqrt(share * (1 - share) / queries))
    return figures["r10"] <= limit < 1


SIGNS = (
    Sign(
        "r10",
        is_guessing,
        "held-out retrieval is no better than guessing (R@10 {r10:.3f} of {pool:.0f}, chance "
        "{chance_r10:.3f}): image and report have not found together. Try more epochs, more data, "
        "or another optim.lr",
        "held-out retrieval is better than guessing (R@10 {r10:.3f}, chance {chance_r10:.3f})",
    ),
    Sign(
        "attention_entropy",
        lambda figures: figures["attention_entropy"] > FLAT,
        "the attention is all but uniform ({attention_entropy:.3f} of the largest entropy): pseudo "
        "masks may cut through noise, which the decoder then learns to draw. Look at the contact "
        "sheet; try a smaller model.attention.stride (32, 16 or 8), a later model.pixel.start, or "
        "model.mask.source=report",
        "the attention is no longer uniform ({attention_entropy:.3f} of the largest entropy)",
    ),
    Sign(
        "attention_entropy",
        lambda figures: figures["attention_entropy"] < SHARP,
        "the attention is on a single pixel ({attention_entropy:.3f} of the largest entropy), so "
        "the pseudo masks hold no shape. Try a smaller model.attention.stride (32, 16 or 8) or a "
        "smaller model.attention.scale",
        "the attention is on more than a single pixel ({attention_entropy:.3f} of the largest "
        "entropy)",
    ),
    Sign(
        "mask_empty",
        lambda figures: figures["mask_empty"] > SHAPELESS,
        "{mask_empty:.0%} of the pseudo masks are empty: the decoder learns to draw nothing. "
        "Uniform attention gives ties that no percentile can cut, and model.mask.body=otsu may "
        "find no body: try a larger model.attention.scale, a smaller model.mask.percentile, or "
        "model.mask.body=outline",
        "pseudo masks are no longer empty ({mask_empty:.0%} are)",
    ),
    Sign(
        "mask_full",
        lambda figures: figures["mask_full"] > SHAPELESS,
        "{mask_full:.0%} of the pseudo masks cover the whole image: the decoder learns to fill it. "
        "Try a larger model.mask.percentile, model.mask.threshold=percentile, or "
        "model.mask.body=outline",
        "pseudo masks no longer cover the whole image ({mask_full:.0%} do)",
    ),
    Sign(
        "mask_overlap",
        lambda figures: figures["mask_overlap"] > SAME,
        "the pseudo masks of different images are all but the same (IoU {mask_overlap:.2f}): the "
        "decoder learns one picture, not where findings are. Try model.attention.positions=none or "
        "a larger percentile",
        "the pseudo masks of different images differ (IoU {mask_overlap:.2f})",
    ),
    Sign(
        "gradient_share_pa",
        lambda figures: figures["gradient_share_pa"] > HEAVY,
        "pixel alignment gives {gradient_share_pa:.0%} of the gradient at the encoder, so that the "
        "reports hardly teach it. Try smaller model.pixel.dice and model.pixel.bce, or a later "
        "model.pixel.start",
        "pixel alignment no longer outweighs the reports ({gradient_share_pa:.0%} of the gradient "
        "at the encoder)",
    ),
)


def warnings(figures: Figures) -> list[str]:
    """The warnings of the signs that these figures show; empty where there is none."""
    return [
        sign.warning.format_map(figures)
        for sign in SIGNS
        if sign.judged(figures) and sign.shows(figures)
    ]


class Told:
    """What was told so far, so that each sign is told once when it comes and once when it goes."""

    def __init__(self) -> None:
        self._calm: dict[Sign, int] = {}  # looks without it, of the signs that were told

    def look(self, figures: Figures) -> list[str]:
        """Judge some figures; what is to be told now."""
        found = []
        for sign in SIGNS:
            if sign.judged(figures):
                found += self._news(sign, figures)
        return found

    def _news(self, sign: Sign, figures: Figures) -> list[str]:
        if sign.shows(figures):
            new = sign not in self._calm
            self._calm[sign] = 0
            return [f"warning: {sign.warning.format_map(figures)}"] if new else []
        if sign not in self._calm:
            return []
        self._calm[sign] += 1
        if self._calm[sign] < CALM:
            return []
        del self._calm[sign]
        return [f"better: {sign.relief.format_map(figures)}"]
