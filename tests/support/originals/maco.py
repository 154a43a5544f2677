"""MaCo: SZUHvern/MaCo at 7f64d95 with small encoders.

Patched: the BERT class (transformers' own with the pooler's width of the released file, because the
published class needs transformers 4 and another width), packages that are imported but unused here,
einops (one pattern), `.cuda()`, `np.float`, the shuffling of sentences, and the paths of the
vocabulary and of the image.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import tokenizers
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from support.models import golden
from support.originals import seeded
from support.originals.imports import imported

WIDTH, DEPTH, JOINT = 64, 2, 768
SIZES: dict[str, Any] = {
    "patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 1, "mlp_ratio": 4,
    "norm_layer": partial(nn.LayerNorm, eps=1e-6),
}  # fmt: skip
DECODER = {"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 1}
FINDINGS = ("Pneumonia", "Pleural Effusion")
PHRASE = "There is pneumonia. No. Effusion of the LEFT lung"


def write_vocabulary(folder: Path) -> Path:
    """A small vocabulary with the settings of the repository's `mimic_wordpiece.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: number for number, word in enumerate(seeded.WORDS)}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.NFKD(), normalizers.StripAccents()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False)]
    )
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[MASK]"])
    made.save(str(folder / "mimic_wordpiece.json"))
    return folder


class Bert(nn.Module):
    """`MyBertMaskedLM` without its head for masked words, whose result nothing uses."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.bert = BertModel(seeded.bert_config(WIDTH, DEPTH, positions=100))
        self.bert.pooler.dense = nn.Linear(WIDTH, JOINT)

    def forward(
        self, latent: Any, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor,
        labels: None = None,
    ) -> SimpleNamespace:  # fmt: skip
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        return SimpleNamespace(logits=self.bert(**given, token_type_ids=token_type_ids)[1])


def outputs(
    checkout: Path, folder: Path, images: Tensor, texts: Sequence[str]
) -> tuple[Mapping[str, tuple[int, ...]], dict[str, Tensor]]:
    """Shapes of the released file, and all that our wrapper computes too, by the authors' code."""
    with _code(checkout, write_vocabulary(folder) / "mimic_wordpiece.json") as load:
        whole = load("model_MaCo").MaCo(**SIZES, **DECODER).eval()
        shapes = {k: tuple(v.shape) for k, v in golden.weights_of(whole).items()}
        state = golden.seeded_state(shapes)
        whole.load_state_dict(state, strict=False)
        zero = load("ZeroShot.model_MaCo").MaCo(**SIZES, **DECODER, num_classes=len(FINDINGS))
        zero.load_state_dict(state, strict=False)
        prompts = load("ZeroShot.utils.prompts").get_all_text_prompts
        zero.eval().set_cls_feature(prompts(FINDINGS, SimpleNamespace(text_prompt="default")))
        probabilities, projected = zero(images)[:2]
        coded = [zero.bert_encoder.encode(text) for text in texts]
        embedded = torch.cat([zero.bert_encoder(*each).logits for each in coded])
        tuned = load("models_vit").VisionTransformer(**SIZES, qkv_bias=True, global_pool=True)
        tuned.load_state_dict(state, strict=False)
        pooled = tuned.eval().forward_features(images)
        maps = torch.stack([_ground(checkout, whole, image) for image in images])
    found = {
        "images": F.normalize(projected, dim=-1), "texts": F.normalize(embedded, dim=-1),
        "match": probabilities[:, :, 0], "pooled": pooled, "maps": maps[:, None].float(),
    }  # fmt: skip
    return shapes, found


@contextmanager
def _code(checkout: Path, vocabulary: Path) -> Iterator[Any]:
    given: dict[str, Any] = {
        "einops": {"rearrange": lambda x, pattern, h, w: x.view(h, w, -1)},
        "matplotlib": {"use": lambda name: None},
        "ml_collections": {},
        "ZeroShot.utils.misc": {"gather": None, "get_rank": None},
        "bert.bert": {"MyBertMaskedLM": Bert},
        "ZeroShot.bert.bert": {"MyBertMaskedLM": Bert},
    }
    from_file = tokenizers.Tokenizer.from_file
    with ExitStack() as stack:
        load = stack.enter_context(imported([checkout], ("eval.utils", "eval.metric"), given))
        redirected = SimpleNamespace(from_file=lambda path: from_file(str(vocabulary)))
        stack.enter_context(mock.patch.object(tokenizers, "Tokenizer", redirected))
        stack.enter_context(mock.patch.object(torch.Tensor, "cuda", lambda self: self))
        stack.enter_context(mock.patch.object(np, "float", float, create=True))
        for name in ("bert.bert_encoder", "ZeroShot.bert.bert_encoder"):
            stack.enter_context(mock.patch.object(load(name), "BertConfig", return_value=None))
        yield load


def _ground(checkout: Path, model: Any, image: Tensor) -> Tensor:
    """The smoothed map of one image by the engine of "Phrase Grounding.py"."""
    spec = importlib.util.spec_from_file_location("grounding", checkout / "Phrase Grounding.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = module.Engine()
    engine.model = model
    with (
        mock.patch.object(module, "trans", return_value=lambda picture: picture),
        mock.patch.object(engine, "pil_loader", return_value=image),
        mock.patch.object(module.random, "shuffle"),
    ):
        patches, text = engine.get_emb(Path("image"), PHRASE, "cpu")
    found: Tensor = engine._get_similarity_map_from_embeddings(patches, text)
    return found
