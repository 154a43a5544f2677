"""An image encoder and a BERT, each with a projection of two layers: M-FLAG and Med-UniC.

Shapes: B batch, S input side, D width of the shared space, T texts, h w the last map.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from g2dbench.errors import BadCheckpoint
from g2dbench.model import Model
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.vit import patch_grid
from g2dbench.pretrained.text.checkpoint_bert import bert_config
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, load_state


class ProjectedNetwork(nn.Module):
    """Both encoders and their projections, with the key names of `NAME_total.pth`."""

    def __init__(self, trunk: Any, state: State, bert: BertConfig) -> None:
        super().__init__()
        self.encoder = trunk
        self.lm_model: Any = BertModel(bert, add_pooling_layer=False)
        self.proj_v = _make_head(state, "proj_v.")
        self.proj_t = _make_head(state, "proj_t.")


class ProjectedEncoder(Model):
    """The image encoder: torchvision's ResNet-50, or timm's vision transformer."""

    def __init__(self, network: nn.Module) -> None:
        """network: has the image encoder as its part `encoder`."""
        super().__init__()
        self.network: Any = network
        trunk: Any = network.encoder
        self.fixed_size = self.is_vit = hasattr(trunk, "patch_embed")
        self.channels: tuple[int, ...] = resnet.CHANNELS
        self.strides: tuple[int, ...] = resnet.STRIDES
        if self.is_vit:
            self.channels, self.strides = (trunk.embed_dim,), (trunk.patch_embed.patch_size[0],)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, or one map of patch tokens."""
        if self.is_vit:
            return [patch_grid(self.network.encoder, images)]
        return resnet.pyramid(self.network.encoder, images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the mean of the last map, or the class token."""
        if self.is_vit:
            tokens: Tensor = self.network.encoder.forward_features(images)
            return tokens[:, 0]
        return self.features(images)[-1].mean(dim=(2, 3))


class Projected(ProjectedEncoder):
    """The whole model: also embeds texts, and projects each cell of the last map."""

    def __init__(
        self, network: ProjectedNetwork, tokenizer: PreTrainedTokenizerFast, max_tokens: int
    ) -> None:
        super().__init__(network)
        positions = network.lm_model.config.max_position_embeddings
        self.tokenize = Tokenize(tokenizer, min(max_tokens, positions))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.network.proj_v(self.pooled(images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1: the projected [CLS] state."""
        return encode_in_batches(self._embed_few, texts)

    def project_cells(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w): each cell of the last map in the shared space."""
        cells = self.features(images)[-1].permute(0, 2, 3, 1)
        projected = self.network.proj_v(cells.reshape(-1, cells.shape[-1]))
        by_cell: Tensor = projected.view(*cells.shape[:3], -1).permute(0, 3, 1, 2)
        return by_cell

    def _embed_few(self, texts: Sequence[str]) -> Tensor:
        device = self.network.lm_model.embeddings.word_embeddings.weight.device
        tokens, mask = (part.to(device) for part in self.tokenize(texts))
        states = self.network.lm_model(tokens, mask).last_hidden_state
        return F.normalize(self.network.proj_t(states[:, 0]), dim=-1)


def read_projected(state: State, trunk: Any, file: Path, ignore: Sequence[str]) -> ProjectedNetwork:
    """The network of `NAME_total.pth` with this image encoder.

    ignore: regular expressions of keys that it does not need. Raises BadCheckpoint for a file
    without projections or that does not fit.
    """
    try:
        network = ProjectedNetwork(trunk, state, bert_config(state, "lm_model.", file))
    except (KeyError, IndexError) as error:
        raise BadCheckpoint(f"{file} has no complete projections; missing: {error}") from error
    load_state(network, state, file, ignore)
    return network


def _make_head(state: State, prefix: str) -> nn.Sequential:
    first, last = state[f"{prefix}0.weight"], state[f"{prefix}3.weight"]
    return nn.Sequential(
        nn.Linear(first.shape[1], len(first)),
        nn.BatchNorm1d(len(first)),
        nn.ReLU(),
        nn.Linear(last.shape[1], len(last)),
        nn.BatchNorm1d(len(last), affine=False),
    )
