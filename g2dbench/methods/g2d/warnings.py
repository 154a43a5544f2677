"""Warnings about G2D's training: attention and pseudo masks without information.

The rules read the values of `monitors.py` and `gradient_share_pa` of the training loop.
"""

from g2dbench.method import WarningRule

MAX_ENTROPY = 0.97
"""Relative entropy (of uniform attention: 1) above which the attention holds no information."""

MIN_ENTROPY = 0.05
"""Relative entropy below which the attention is on a single pixel."""

MAX_OVERLAP = 0.9
"""IoU of two images' masks above which the mask does not depend on the image."""

MAX_EMPTY_OR_FULL = 0.1
"""Fraction of masks that may be empty, or full, without a warning."""

MAX_PIXEL_SHARE = 0.9
"""Share of the encoder's gradient above which pixel alignment outweighs the reports."""

WARNING_RULES = (
    WarningRule(
        "attention_entropy",
        lambda values: values["attention_entropy"] > MAX_ENTROPY,
        "the attention is all but uniform ({attention_entropy:.3f} of the largest entropy): pseudo "
        "masks may cut through noise, which the decoder then learns to draw. Look at the contact "
        "sheet; try a smaller model.attention.stride (32, 16 or 8), a later model.pixel.start, or "
        "model.mask.source=report",
        "the attention is no longer uniform ({attention_entropy:.3f} of the maximum entropy)",
    ),
    WarningRule(
        "attention_entropy",
        lambda values: values["attention_entropy"] < MIN_ENTROPY,
        "the attention is on a single pixel ({attention_entropy:.3f} of the largest entropy), so "
        "the pseudo masks hold no shape. Try a smaller model.attention.stride (32, 16 or 8) or a "
        "smaller model.attention.scale",
        "the attention is on more than a single pixel ({attention_entropy:.3f} of the maximum "
        "entropy)",
    ),
    WarningRule(
        "mask_empty",
        lambda values: values["mask_empty"] > MAX_EMPTY_OR_FULL,
        "{mask_empty:.0%} of the pseudo masks are empty: the decoder learns to predict nothing. "
        "Uniform attention has ties that no percentile separates, and model.mask.body=otsu may "
        "find no body: try a larger model.attention.scale, a smaller model.mask.percentile, or "
        "model.mask.body=outline",
        "pseudo masks are no longer empty ({mask_empty:.0%} are)",
    ),
    WarningRule(
        "mask_full",
        lambda values: values["mask_full"] > MAX_EMPTY_OR_FULL,
        "{mask_full:.0%} of the pseudo masks cover the whole image, and so will the decoder's. "
        "Try a larger model.mask.percentile, model.mask.threshold=percentile, or "
        "model.mask.body=outline",
        "pseudo masks no longer cover the whole image ({mask_full:.0%} do)",
    ),
    WarningRule(
        "mask_overlap",
        lambda values: values["mask_overlap"] > MAX_OVERLAP,
        "the pseudo masks of different images are all but the same (IoU {mask_overlap:.2f}): the "
        "decoder learns one fixed mask, not where findings are. Try "
        "model.attention.positions=none or a larger model.mask.percentile",
        "the pseudo masks of different images differ (IoU {mask_overlap:.2f})",
    ),
    WarningRule(
        "gradient_share_pa",
        lambda values: values["gradient_share_pa"] > MAX_PIXEL_SHARE,
        "pixel alignment gives {gradient_share_pa:.0%} of the gradient at the encoder, so that it "
        "hardly learns from the reports. Try smaller model.pixel.dice and model.pixel.bce, or a "
        "later model.pixel.start",
        "pixel alignment no longer outweighs the reports ({gradient_share_pa:.0%} of the gradient "
        "at the encoder)",
    ),
)
