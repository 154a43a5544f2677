"""MGCA's token-wise and prototype losses; pure functions, always fp32.

Shapes: B pairs, N regions, W words, Q queries (of either kind), D width, K prototypes, M pairs of
all devices. Source: HKU-MedAI/MGCA at 680fe4a, mgca/models/mgca/mgca_module.py.
"""

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def token_loss(
    regions: Tensor, words: Tensor, exist: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Rows of length 1 (B, N, D), (B, W, D); (B, W), (B, W) -> scalar: words plus regions.

    exist: words that are no padding; weights: of the words, those of a report sum to 1 (or all are
    0). Regions weigh the same. Padding, which in the source is attended to as a negative, counts
    nowhere, so its length does not matter. A report without words adds nothing.
    """
    with torch.autocast(regions.device.type, enabled=False):
        regions, words = regions.float(), words.float()
        seen, _ = cross_attended(words, regions, None, temperature)
        read, _ = cross_attended(regions, words, exist, temperature)
        even = regions.new_full(regions.shape[:2], 1 / regions.shape[1])
        even = even * exist.any(1, keepdim=True)
        every = torch.ones_like(even, dtype=torch.bool)
        return _matched(words, seen, exist, weights, temperature) + _matched(
            regions, read, every, even, temperature
        )


def cross_attended(
    queries: Tensor, keys: Tensor, exist: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """(B, Q, D), (B, N, D), (B, N) -> what each query attends to, of length 1, and the attention.

    exist: keys that may be attended to; all where it is None, or where there is none.
    """
    logits = queries @ keys.transpose(1, 2) / temperature
    if exist is not None:
        some = exist | ~exist.any(1, keepdim=True)
        logits = logits.masked_fill(~some[:, None], -torch.inf)
    attention = logits.softmax(-1)
    return F.normalize(attention @ keys, dim=-1), attention


def _matched(
    queries: Tensor, attended: Tensor, exist: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """(B, Q, D) twice, (B, Q) twice -> scalar: query i belongs to what query i attended to.

    Cross-entropy among the queries of one pair, in both directions; mean over the pairs.
    """
    logits = queries @ attended.transpose(1, 2) / temperature
    # The smallest number instead of -inf: rows of padding stay finite, and weigh nothing.
    least = torch.finfo(logits.dtype).min
    forth = logits.masked_fill(~exist[:, None], least).log_softmax(-1)
    back = logits.masked_fill(~exist[:, :, None], least).log_softmax(-2)
    right = (forth + back).diagonal(dim1=1, dim2=2).masked_fill(~exist, 0.0)
    return -(right * weights).sum() / (2 * len(queries))


def prototype_loss(
    image: Tensor,
    text: Tensor,
    prototypes: Tensor,
    temperature: float,
    epsilon: float,
    iterations: int,
) -> Tensor:
    """(B, D), (B, D), (K, D) of length 1 -> scalar: each side predicts the other's assignment."""
    with torch.autocast(image.device.type, enabled=False):
        per_image = F.normalize(image.float(), dim=-1) @ prototypes.float().T
        per_text = F.normalize(text.float(), dim=-1) @ prototypes.float().T
        image_code = assignments(per_image, epsilon, iterations)
        text_code = assignments(per_text, epsilon, iterations)
        forth = -(image_code * (per_text / temperature).log_softmax(1)).sum(1).mean()
        back = -(text_code * (per_image / temperature).log_softmax(1)).sum(1).mean()
        return (forth + back) / 2


@torch.no_grad()
def assignments(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """(B, K) cosines -> (B, K) soft assignments, rows sum to 1, prototypes with like shares.

    Sinkhorn's iteration over the pairs of all devices, in logarithms, so that no epsilon overflows.
    Source: sinkhorn and distributed_sinkhorn, whose constants cancel.
    """
    logs = _gathered(scores) / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    start = distributed.get_rank() * len(scores) if distributed.is_initialized() else 0
    return logs[start : start + len(scores)].exp()


def _gathered(scores: Tensor) -> Tensor:
    """(B, K) -> (M, K), without gradient; batches of all devices are of one size."""
    if not distributed.is_initialized():
        return scores
    parts = [torch.empty_like(scores) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, scores.contiguous())
    return torch.cat(parts)
