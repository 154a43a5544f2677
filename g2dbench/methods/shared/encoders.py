"""The encoders that a method trains: smp's CNNs for images, BERT for reports.

Shapes: B pairs, S image side, L tokens, E the encoder's width.
"""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, BertConfig, BertModel

from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.methods.shared.frozen_text_cache import FrozenTextCache, HostReports, run_layers
from g2dbench.methods.shared.settings import ImageSettings, TextSettings
from g2dbench.pretrained.text.tokenizer import SCRATCH
from g2dbench.pretrained.weights import find_state, load_state, read_weights
from g2dbench.registry import unknown_name
from g2dbench.system.device import to_device

_ATTENTION = "sdpa"
"""PyTorch's own attention, which takes a boolean mask; transformers' default may change."""


def image_encoder(image: ImageSettings) -> nn.Module:
    """An smp encoder: (B, 3, S, S) -> maps of strides 1 (the input itself), 2, 4, to 2^depth.

    image.weights: "" for random weights, a set that smp publishes for this encoder ("imagenet"), or
    a file with the keys of the encoder.
    """
    names = smp.encoders.get_encoder_names()
    if image.encoder not in names and not image.encoder.startswith("tu-"):
        raise Misuse(unknown_name("image encoder", image.encoder, names))
    published = image.weights if image.weights and not Path(image.weights).is_file() else None
    try:
        encoder: nn.Module = smp.encoders.get_encoder(
            image.encoder, depth=image.depth, weights=published, **image.options
        )
    except KeyError as error:
        raise Misuse(
            f"image.weights is {image.weights!r}: no such file, and smp has no such weights for "
            f"{image.encoder}: {error.args[0]}"
        ) from error
    except TypeError as error:
        raise Misuse(
            f"image.options holds {', '.join(image.options)}, but the image encoder "
            f"{image.encoder!r} does not accept all of them: {error}"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise BadCheckpoint(f"image encoder {image.encoder!r} cannot be built: {error}") from error
    if image.weights and published is None:
        state = find_state(read_weights(image.weights), image.weights)
        load_state(encoder, state, image.weights, ignore=(r"^fc\.",))
    return encoder


class TextEncoder(nn.Module):
    """A BERT: (B, L) tokens -> (B, L, E), the last hidden layer.

    Either random with the sizes of the settings, or published. The first `frozen_layers` layers are
    frozen, and the embeddings with `frozen_embeddings`. In training, `frozen_cache` and `buckets`
    save time and change the output only by rounding; hidden states of padding are then undefined.
    """

    def __init__(self, text: TextSettings, vocabulary: int) -> None:
        super().__init__()
        make = _scratch if text.source == SCRATCH else _published
        self.bert = make(text, vocabulary)
        config = self.bert.config
        self.width: int = config.hidden_size
        if text.max_length > config.max_position_embeddings:
            raise Misuse(
                f"text.max_length is {text.max_length}, the text encoder {text.source!r} has "
                f"{config.max_position_embeddings} positions"
            )
        self._settings = text
        layers = config.num_hidden_layers
        self._frozen_layers = layers if text.frozen_layers < 0 else text.frozen_layers
        self._frozen = self._freeze(text)
        self._frozen_cache: FrozenTextCache | None = None
        if text.frozen_cache:
            self._frozen_cache = FrozenTextCache(
                self.bert, self._frozen_layers, text.frozen_cache * 2**20
            )

    def train(self, mode: bool = True) -> "TextEncoder":
        """Set the mode; with `frozen_mode` "eval" the frozen part stays in eval mode."""
        super().train(mode)
        if self._settings.frozen_mode == "eval":
            for module in self._frozen:
                module.eval()
        return self

    def read(self, tokens: Tensor, attention: Tensor) -> HostReports | None:
        """What `forward` reads on the host, (B, L) and (B, L); None if it reads nothing.

        It waits for the device, so call it before the image encoder has filled the device's queue.
        """
        saves = self._frozen_cache is not None or self._settings.buckets > 1
        return HostReports.read(tokens, attention) if self.training and saves else None

    def forward(self, tokens: Tensor, attention: Tensor, host: HostReports | None = None) -> Tensor:
        """(B, L) and (B, L) -> (B, L, E); host: of `read`, which is called if it is None."""
        host = host or self.read(tokens, attention)
        if host is None or self._settings.buckets == 1:
            return self._encode(tokens, attention, host)
        order, width, device = host.lengths.argsort(stable=True), tokens.shape[1], tokens.device
        parts = []
        for rows in order.tensor_split(min(self._settings.buckets, len(order))):
            longest, chosen = int(host.lengths[rows].max()), to_device(rows, device)
            part = self._encode(
                tokens[chosen, :longest], attention[chosen, :longest], host.take(rows, longest)
            )
            parts.append(F.pad(part, (0, 0, 0, width - longest)))
        return torch.cat(parts)[to_device(order.argsort(), device)]

    def _encode(self, tokens: Tensor, attention: Tensor, host: HostReports | None) -> Tensor:
        if host is None or self._frozen_cache is None:
            whole: Tensor = self.bert(input_ids=tokens, attention_mask=attention).last_hidden_state
            return whole
        hidden = self._frozen_cache(host, tokens.device)
        full = int(host.lengths.min()) == tokens.shape[1]
        allowed = None if full else attention.bool()[:, None, None]
        return run_layers(self.bert.encoder.layer[self._frozen_layers :], hidden, allowed)

    def states(self, tokens: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        """(B, L) and (B, L) -> the embeddings and the output of every layer, each (B, L, E).

        `frozen_cache` and `buckets` are not used here.
        """
        hidden: tuple[Tensor, ...] = self.bert(
            input_ids=tokens, attention_mask=attention, output_hidden_states=True
        ).hidden_states
        return hidden

    def sizes(self) -> dict[str, Any]:
        """The settings that build an encoder of this shape with random weights."""
        config = self.bert.config
        return {
            "source": SCRATCH,
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "heads": config.num_attention_heads,
            "feed_forward": config.intermediate_size,
            "dropout": config.hidden_dropout_prob,
            "positions": config.max_position_embeddings,
        }

    def _freeze(self, text: TextSettings) -> list[nn.Module]:
        layers = self.bert.encoder.layer
        if text.frozen_layers > len(layers):
            raise Misuse(
                f"text.frozen_layers is {text.frozen_layers}, the text encoder has {len(layers)}"
            )
        frozen = list(layers[: self._frozen_layers])
        if text.frozen_embeddings:
            frozen.append(self.bert.embeddings)
        for module in frozen:
            module.requires_grad_(False)
        return frozen


def _scratch(text: TextSettings, vocabulary: int) -> BertModel:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=text.hidden,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        intermediate_size=text.feed_forward or 4 * text.hidden,
        hidden_dropout_prob=text.dropout,
        attention_probs_dropout_prob=text.dropout,
        max_position_embeddings=text.positions or text.max_length,
        attn_implementation=_ATTENTION,
    )
    return BertModel(config, add_pooling_layer=False)


def _published(text: TextSettings, vocabulary: int) -> BertModel:
    """A BERT from a folder or the hub, with its vocabulary reduced to that of the tokenizer."""
    try:
        config = AutoConfig.from_pretrained(text.source)
        _check_standard_bert(config, text.source)
        model: BertModel = BertModel.from_pretrained(
            text.source,
            add_pooling_layer=False,
            hidden_dropout_prob=text.dropout,
            attention_probs_dropout_prob=text.dropout,
            attn_implementation=_ATTENTION,
        )
    except OSError as error:
        raise BadCheckpoint(
            f"text.source {text.source!r} is not a folder with a BERT, and neither the hub nor its "
            f"local cache has it: {str(error).splitlines()[0]}"
        ) from error
    if vocabulary > config.vocab_size:
        raise Misuse(
            f"the tokenizer has {vocabulary} tokens, the text encoder {text.source!r} only "
            f"{config.vocab_size}: use the tokenizer of the same source"
        )
    model.resize_token_embeddings(vocabulary)
    return model


def _check_standard_bert(config: Any, source: str) -> None:
    """Raise Misuse for a BERT that its sizes do not fully describe: a run is rebuilt from them."""
    standard = BertConfig()
    for key in ("model_type", "hidden_act", "layer_norm_eps", "type_vocab_size"):
        found, wanted = getattr(config, key, None), getattr(standard, key)
        if found != wanted:
            raise Misuse(
                f"text.source {source!r} has {key} {found!r}; methods train BERT text encoders, "
                f"which have {wanted!r}"
            )
