"""MAE: which patches are hidden, which have a loss, and training with reports."""

import torch
from support.methods.networks import batch
from support.methods.other_methods import MAE, build
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.model import capabilities


def test_mae_hides_the_given_share_of_patches(tokenizer: PreTrainedTokenizerFast) -> None:
    painter = build("mae", tokenizer).painter
    with torch.no_grad():
        painter.token.copy_(torch.tensor([7.0, 8.0, 9.0]))
    images = torch.rand(4, 3, 64, 64)
    hidden = painter.sample_hidden(images)
    assert hidden.sum(1).tolist() == [12] * 4
    assert not torch.equal(hidden[0], hidden[1])
    covered = painter.hide(images, hidden)
    patches = F.unfold(covered, 16, stride=16).view(4, 3, 256, 16)
    plain = F.unfold(images, 16, stride=16).view(4, 3, 256, 16)
    gone = hidden[:, None, None].expand_as(plain)
    assert torch.equal(patches[~gone], plain[~gone])
    for colour, value in enumerate((7.0, 8.0, 9.0)):
        assert (patches[:, colour][gone[:, colour]] == value).all()


def test_mae_has_no_loss_on_visible_patches(tokenizer: PreTrainedTokenizerFast) -> None:
    grey, hidden = torch.rand(2, 1, 32, 32), torch.zeros(2, 4, dtype=torch.bool)
    hidden[:, 3] = True
    painted = torch.zeros(2, 1, 32, 32, requires_grad=True)
    MAE.masked_error(painted, grey, hidden, MAE.MaskSettings(target="grey")).backward()
    assert painted.grad is not None
    assert painted.grad[..., :16, :].abs().sum() == 0
    assert (painted.grad[..., 16:, 16:] != 0).all()


def test_mae_with_reports_embeds_and_locates_too(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("mae", tokenizer, contrastive={"weight": 0.5}).train()
    losses = method.losses(batch(method))
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == {"reconstruction", "contrastive"}
    assert not [n for n, p in method.named_parameters() if p.grad is None]
    model = method.as_model().eval()
    assert capabilities(model) == ("embeds", "features", "locates", "decodes")
    alone = build("mae", tokenizer)
    assert not any(name.startswith("text") for name, _ in alone.named_parameters())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        decoded = model.pretrained_decoder()(model.features(images))
    assert decoded.shape == (2, 1, 64, 64)
