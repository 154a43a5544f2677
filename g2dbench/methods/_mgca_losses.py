"""MGCA's token-wise and prototype losses, as pure functions in fp32.

Shapes: B pairs, N regions, W words, Q queries (of either kind), D width, K prototypes, M pairs of
all devices. Source: HKU-MedAI/MGCA at 680fe4a, mgca/models/mgca/mgca_module.py.
"""

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def token_loss(
    regions: Tensor, words: Tensor, valid: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Unit vectors (B, N, D), (B, W, D); (B, W), (B, W) -> scalar: loss of words plus regions.

    valid: False for padding; weights: of the words, summing to 1 per report (or all 0). Regions
    have equal weights. Padding is ignored, so its length does not matter; in the source it is
    attended to as a negative. A report without words contributes 0.
    """
    with torch.autocast(regions.device.type, enabled=False):
        regions, words = regions.float(), words.float()
        attended_regions, _ = cross_attention(words, regions, None, temperature)
        attended_words, _ = cross_attention(regions, words, valid, temperature)
        equal_weights = regions.new_full(regions.shape[:2], 1 / regions.shape[1])
        equal_weights = equal_weights * valid.any(1, keepdim=True)
        all_regions = torch.ones_like(equal_weights, dtype=torch.bool)
        return _matching_loss(
            words, attended_regions, valid, weights, temperature
        ) + _matching_loss(regions, attended_words, all_regions, equal_weights, temperature)


def cross_attention(
    queries: Tensor, keys: Tensor, valid: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """(B, Q, D), (B, N, D), (B, N) -> unit vectors attended to (B, Q, D), attention (B, Q, N).

    valid: keys that may be attended to; all keys if it is None, or if a row has none.
    """
    logits = queries @ keys.transpose(1, 2) / temperature
    if valid is not None:
        allowed = valid | ~valid.any(1, keepdim=True)
        logits = logits.masked_fill(~allowed[:, None], -torch.inf)
    attention = logits.softmax(-1)
    return F.normalize(attention @ keys, dim=-1), attention


def _matching_loss(
    queries: Tensor, attended: Tensor, valid: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """(B, Q, D) twice, (B, Q) twice -> scalar: query i must match what query i attended to.

    Cross-entropy among the queries of a pair, in both directions, averaged over the pairs.
    """
    logits = queries @ attended.transpose(1, 2) / temperature
    # The smallest number instead of -inf: rows of padding stay finite, and have weight 0.
    smallest = torch.finfo(logits.dtype).min
    by_query = logits.masked_fill(~valid[:, None], smallest).log_softmax(-1)
    by_attended = logits.masked_fill(~valid[:, :, None], smallest).log_softmax(-2)
    matching = (by_query + by_attended).diagonal(dim1=1, dim2=2).masked_fill(~valid, 0.0)
    return -(matching * weights).sum() / (2 * len(queries))


def prototype_loss(
    image: Tensor,
    text: Tensor,
    prototypes: Tensor,
    temperature: float,
    epsilon: float,
    iterations: int,
) -> Tensor:
    """(B, D), (B, D), unit vectors (K, D) -> scalar: image and text predict each other's code."""
    with torch.autocast(image.device.type, enabled=False):
        per_image = F.normalize(image.float(), dim=-1) @ prototypes.float().T
        per_text = F.normalize(text.float(), dim=-1) @ prototypes.float().T
        image_code = sinkhorn(per_image, epsilon, iterations)
        text_code = sinkhorn(per_text, epsilon, iterations)
        from_text = -(image_code * (per_text / temperature).log_softmax(1)).sum(1).mean()
        from_image = -(text_code * (per_image / temperature).log_softmax(1)).sum(1).mean()
        return (from_text + from_image) / 2


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """(B, K) cosines -> (B, K) soft assignments; rows sum to 1, prototypes get equal shares.

    Sinkhorn's iteration over the pairs of all devices, in log space, so that no epsilon overflows.
    Source: sinkhorn and distributed_sinkhorn, whose constants cancel.
    """
    logs = _gather_scores(scores) / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    start = distributed.get_rank() * len(scores) if distributed.is_initialized() else 0
    return logs[start : start + len(scores)].exp()


def _gather_scores(scores: Tensor) -> Tensor:
    """(B, K) -> (M, K), without gradient; all devices have the same batch size."""
    if not distributed.is_initialized():
        return scores
    parts = [torch.empty_like(scores) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, scores.contiguous())
    return torch.cat(parts)
