"""ALTA: DopamineLcy/ALTA at 0f474b8; model.py, adapter_block.py, cxrbert.py, zero-shot scripts."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import PIL
import timm
import torch
import transformers
from functorch.einops import rearrange
from torch import Tensor, nn
from torchvision import transforms
from transformers import modeling_outputs
from transformers.activations import ACT2FN
from transformers.models.bert import modeling_bert

from g2dbench.pretrained.text.report_words import clean_report
from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "alta", "DopamineLcy/ALTA", "0f474b8"
WIDTH, DEPTH, HEADS, LAYERS = 128, 2, 2, 2
TEXTS = (*seeded.TEXTS, "1. No effusion;\nclear lungs.")


def adapters(prefix: str, width: int) -> dict[str, Tensor]:
    layers = {"D_fc1": nn.Linear(width, width // 4), "D_fc2": nn.Linear(width // 4, width)}
    return {
        key: value
        for place in ("attn_adapter", "mlp_adapter")
        for name, layer in layers.items()
        for key, value in seeded.placed(f"{prefix}.{place}.{name}.", layer).items()
    }


def head(prefix: str) -> dict[str, Tensor]:
    return {
        **seeded.placed(f"{prefix}.dense_to_hidden.", nn.Linear(WIDTH, 128)),
        **seeded.placed(f"{prefix}.LayerNorm.", nn.LayerNorm(128)),
        **seeded.placed(f"{prefix}.dense_to_output.", nn.Linear(128, 128)),
    }


def state() -> dict[str, Tensor]:
    """The layout of ALTA.pth; of its reconstruction, one of each kind of key."""
    trunk = timm.models.VisionTransformer(
        embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, global_pool="token"
    )
    bert = "bert_encoder.bert"
    layout = {
        **seeded.placed("", trunk),
        **seeded.placed(f"{bert}.", seeded.bert(WIDTH, LAYERS, pooler=False)),
        "missing_token": torch.empty(1, 196, WIDTH),
        "mask_token": torch.empty(1, 1, WIDTH),
        "decoder_pos_embed": torch.empty(1, 197, WIDTH),
        "temporal_embedding": torch.empty(1, 2, WIDTH),
        "view_embedding": torch.empty(1, 2, WIDTH),
        **{f"logit_scale{name}": torch.empty(()) for name in ("", "_local1")},
        **seeded.placed("bert_embed.", nn.Linear(WIDTH, WIDTH)),
        **seeded.placed("decoder_norm.", nn.LayerNorm(WIDTH)),
        "bert_encoder.cls.predictions.bias": torch.empty(len(seeded.WORDS)),
    }
    for place in ("", "local_"):
        layout |= head(f"{place}projection_head")
    for place in ("cls", "local"):
        layout |= head(f"bert_encoder.{place}_projection_head")
    for i in range(DEPTH):
        layout |= adapters(f"blocks.{i}", WIDTH)
    for i in range(LAYERS):
        layout |= adapters(f"{bert}.encoder.layer.{i}", WIDTH)
    return seeded.fill(layout)


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "BiomedVLP-CXR-BERT-specialized")
    torch.save({"model": state(), "epoch": 40}, folder / "ALTA.pth")
    return folder / "ALTA.pth"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs())
    return {
        "input": images,
        "images": model.embed_images(images),
        "texts": model.project_texts(TEXTS),
        "cosines": model.embed_images(images) @ model.embed_texts(TEXTS).T,
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class, smaller.

    Patched: einops (torch's copy), an import of timm that is not used, `.cuda()`, the weights and
    tokenizer of CXR-BERT (not downloaded), and what cxrbert.py takes from transformers 4: the
    decorators of its documentation, the signatures of BERT's attention and embeddings, masks, the
    initialization of weights, and its output, a class that is no dataclass.
    """
    given = {
        "einops": {"rearrange": rearrange},
        "timm.models.layers.helpers": {"to_2tuple": None},
        "transformers.models.bert.modeling_bert": old_bert(),
    }
    with ExitStack() as stack:
        for patch in patches():
            stack.enter_context(patch)
        load = stack.enter_context(imported([checkout], (), given))
        text = load("cxrbert")
        text.CXRBertOutput = SimpleNamespace
        config = text.CXRBertConfig(**seeded.bert_config(WIDTH, LAYERS).to_dict())
        made = text.CXRBertModel(config)
        with mock.patch.object(text.CXRBertModel, "from_pretrained", return_value=made):
            model = load("model").ALTA(
                embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, decoder_embed_dim=WIDTH,
                decoder_depth=1, decoder_num_heads=HEADS,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
            )  # fmt: skip
        found = model.load_state_dict(state(), strict=False)
        assert not found.unexpected_keys
        assert not [key for key in found.missing_keys if needed(key)], found.missing_keys
        return answers(model.eval())


def needed(key: str) -> bool:
    """Whether a key belongs to what embeddings need."""
    return not key.startswith(("decoder_", "logit_scale")) and "bert_encoder.cls.pred" not in key


def answers(model: Any) -> dict[str, Tensor]:
    images = torch.stack([prepare(picture) for picture in seeded.radiographs()])
    vocabulary = {word: i for i, word in enumerate(seeded.WORDS)}
    tokenizer: Any = transformers.BertTokenizerFast(vocab=vocabulary)
    texts = [clean_report(text) for text in TEXTS]
    coded = tokenizer(texts, padding="max_length", max_length=128, return_tensors="pt")
    rows = {name: coded[name][None] for name in ("input_ids", "attention_mask")}
    embedded, projected = model.forward_img_feature(images, 1), model.forward_txt_feature(rows)[0]
    return {
        "input": images,
        "images": embedded,
        "texts": projected,
        "cosines": embedded @ nn.functional.normalize(projected, dim=-1).T,
    }


def patches() -> list[Any]:
    base = transformers.BertPreTrainedModel
    hide = torch.finfo(torch.float32).min
    methods = {
        "post_init": lambda self: None,
        "init_weights": lambda self: None,
        "get_head_mask": lambda self, mask, count: [None] * count,
        "get_extended_attention_mask": lambda self, mask, shape: (
            (1 - mask[:, None, None].float()) * hide
        ),
        "warn_if_padding_and_no_attention_mask": lambda self, ids, mask: None,
    }
    return [
        *(mock.patch.object(base, name, each, create=True) for name, each in methods.items()),
        mock.patch.object(transformers.BertTokenizer, "from_pretrained", return_value=None),
        mock.patch.object(torch.Tensor, "cuda", lambda self: self),
    ]


def old_bert() -> ModuleType:
    """The names of transformers 4 that cxrbert.py reads from its module of BERT."""
    module = ModuleType("transformers.models.bert.modeling_bert")
    real = ("BertPreTrainedModel", "BertPooler", "BertOnlyMLMHead")
    outputs = (
        "BaseModelOutputWithPastAndCrossAttentions",
        "BaseModelOutputWithPoolingAndCrossAttentions",
        "MaskedLMOutput",
    )
    names: Mapping[str, Any] = {
        **{name: getattr(modeling_bert, name) for name in real},
        **{name: getattr(modeling_outputs, name) for name in outputs},
        "ACT2FN": ACT2FN, "CrossEntropyLoss": nn.CrossEntropyLoss, "List": list,
        "BertAttention": Attention, "BertEmbeddings": Embeddings, "BERT_INPUTS_DOCSTRING": "",
        "add_code_sample_docstrings": lambda **_: lambda function: function,
        "add_start_docstrings_to_model_forward": lambda _: lambda function: function,
        "apply_chunking_to_forward": lambda function, size, dim, states: function(states),
        "logger": None,
    }  # fmt: skip
    module.__dict__.update(names)
    return module


class Attention(modeling_bert.BertAttention):
    """With the arguments of transformers 4."""

    def forward(self, states: Tensor, mask: Tensor, *_: Any, **__: Any) -> Any:
        return super().forward(states, mask)


class Embeddings(modeling_bert.BertEmbeddings):
    """With the arguments of transformers 4."""

    def forward(self, past_key_values_length: int = 0, **given: Any) -> Any:
        return super().forward(**given)


def prepare(picture: Any) -> Tensor:
    """As build_transform of its 5x200 data set."""
    steps = [
        transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.Grayscale(num_output_channels=3),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.4785], std=[0.2834]),
    ]
    values: Tensor = transforms.Compose(steps)(PIL.Image.fromarray(picture))
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, 0, ::31, ::31],
        "images": results["images"][:, ::4],
        "texts": results["texts"][:, ::4],
    }
