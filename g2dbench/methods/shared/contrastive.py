"""The contrastive loss, with weighted directions and a fixed or learned temperature.

Shapes: B pairs of this device, N pairs of all devices, D width.
"""

import math

import torch
from open_clip.loss import ClipLoss
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from g2dbench.methods.shared.settings import ContrastiveSettings

_SHARPEST = 100.0
"""Upper limit of a learned inverse temperature, as in CLIP."""


class Contrastive(nn.Module):
    """a * CE(image -> text) + b * CE(text -> image) over cosines / temperature; always fp32.

    a = b = 1/2 is CLIP's loss, a = b = 1 that of G2D's released code, a = 1 and b = 0 the G2D
    paper's equation 1, a = 3/4 and b = 1/4 ConVIRT's. Logits and the gathering across devices
    are open_clip's.
    """

    log_scale: Tensor

    def __init__(self, contrastive: ContrastiveSettings) -> None:
        super().__init__()
        self._settings = contrastive
        start = torch.tensor(-math.log(contrastive.temperature))
        if contrastive.learned:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start, persistent=False)

    def scale(self) -> Tensor:
        """1 / temperature, a scalar."""
        if not self._settings.learned:
            return self.log_scale.exp()
        return self.log_scale.clamp(max=math.log(_SHARPEST)).exp()

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, D) and (B, D), where row i of both is a pair -> scalar."""
        with torch.autocast(image.device.type, enabled=False):
            image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
            logits = self._devices()
            per_image, per_text = logits.get_logits(image, text, self.scale())
            own = logits.get_ground_truth(image.device, len(per_image))
            return self._settings.image_to_text * F.cross_entropy(
                per_image, own
            ) + self._settings.text_to_image * F.cross_entropy(per_text, own)

    def _devices(self) -> ClipLoss:
        """Logits of the device's own B rows and all N columns; gathering keeps gradients."""
        if self._settings.negatives == "local" or not distributed.is_initialized():
            return ClipLoss()
        return ClipLoss(
            local_loss=True,
            gather_with_grad=True,
            rank=distributed.get_rank(),
            world_size=distributed.get_world_size(),
        )
