"""What CLIP-like models do to a text before its tokenizer is bound to the model, not to the folder.

SigLIP 2 was trained on lower-case text, and its folders name GemmaTokenizer, which keeps the case
(big_vision issues 166 and 187, transformers issue 43054). SigLIP dropped punctuation as well.
"""

import json
import random
import string
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from open_clip.tokenizer import canonicalize_text
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel

from g2dbench.cards import ModelCard
from g2dbench.pretrained.hf_clip import canonicalize
from g2dbench.registry import Registry

PLAIN = "there is no left sided effusion"
LOUD = "There is NO left-sided effusion."
CASED = "There is NO left sided effusion"
LETTERS = [*string.ascii_letters, *".,-?!"]
SPECIAL = {"siglip": ["</s>", "<unk>"], "siglip2": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]}
LENGTH = 40


def words(kind: str) -> Tokenizer:
    """A letter-by-letter tokenizer with the special tokens of SigLIP or SigLIP 2."""
    pieces = [*SPECIAL[kind], "\u2581", *LETTERS]
    tokenizer = Tokenizer(
        models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    end = SPECIAL[kind][1 if kind == "siglip2" else 0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, pieces.index(end))]
    )
    return tokenizer


def settings(kind: str, tokenizer_class: str) -> dict[str, Any]:
    """`tokenizer_config.json` as the published folders have it."""
    if kind == "siglip":
        return {
            "tokenizer_class": tokenizer_class, "pad_token": "</s>", "eos_token": "</s>",
            "unk_token": "<unk>",
        }  # fmt: skip
    return {
        "tokenizer_class": tokenizer_class, "pad_token": "<pad>", "eos_token": "<eos>",
        "bos_token": "<bos>", "unk_token": "<unk>", "padding_side": "right",
        "add_bos_token": False, "add_eos_token": True,
    }  # fmt: skip


def make_hf(folder: Path, kind: str, tokenizer_class: str) -> Path:
    size = len(SPECIAL[kind]) + 1 + len(LETTERS)
    text = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": LENGTH, "pad_token_id": 0,
            "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 56, "patch_size": 14}  # fmt: skip
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    words(kind).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings(kind, tokenizer_class)))
    return folder


def load(card: str, folder: Path) -> Any:
    return Registry().find(ModelCard, card).load().load(str(folder), 0)


def ids(kind: str, text: str) -> torch.Tensor:
    """Token ids by hand: a letter each, the end of text, padding up to the context length."""
    pieces = [*SPECIAL[kind], "\u2581", *LETTERS]
    end, pad = (1, 0) if kind == "siglip2" else (0, 0)
    body = [pieces.index("\u2581" if letter == " " else letter) for letter in text]
    return torch.tensor([[*body, end, *[pad] * (LENGTH - len(body) - 1)]])


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "tokenizer_class", "text"),
    [
        ("siglip2", "GemmaTokenizer", CASED),
        ("siglip2", "GemmaTokenizerFast", CASED),
        pytest.param(
            "siglip2",
            "Siglip2Tokenizer",
            CASED,
            marks=pytest.mark.skipif(
                not hasattr(transformers, "Siglip2Tokenizer"),
                reason="transformers before 5 lacks it",
            ),
        ),
        ("siglip2", "PreTrainedTokenizerFast", CASED),
        ("siglip", "PreTrainedTokenizerFast", LOUD.replace("-", " ")),
        ("siglip", "PreTrainedTokenizerFast", CASED),
    ],
)
def test_siglip_reads_texts_as_it_was_trained(
    tmp_path: Path, kind: str, tokenizer_class: str, text: str
) -> None:
    model = load("hf_clip", make_hf(tmp_path, kind, tokenizer_class))
    by_hand = model.clip.text_model(input_ids=ids(kind, PLAIN)).pooler_output
    wanted = torch.nn.functional.normalize(by_hand, dim=-1)
    for texts in ([PLAIN], [text], [text, "no"], ["a much longer text about the lower lobe", text]):
        found = model.embed_texts(texts)[texts.index(text if text in texts else PLAIN)]
        torch.testing.assert_close(found[None], wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_siglip_2_keeps_punctuation(tmp_path: Path) -> None:
    """Its training lower-cased and no more (transformers, Siglip2Tokenizer)."""
    model = load("hf_clip", make_hf(tmp_path, "siglip2", "GemmaTokenizer"))
    plain, dotted = model.embed_texts(["no effusion", "no effusion."])
    assert not torch.allclose(plain, dotted, atol=1e-4)


@pytest.mark.parametrize("frame", ["$A", "<bos> $A", "<bos> $A <eos>"])
@torch.no_grad()
def test_special_tokens_are_those_of_the_settings_where_two_files_disagree(
    tmp_path: Path, frame: str
) -> None:
    folder = make_hf(tmp_path, "siglip2", "GemmaTokenizer")
    wanted = load("hf_clip", folder).embed_texts([PLAIN])
    tokenizer = words("siglip2")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=frame, special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.testing.assert_close(load("hf_clip", folder).embed_texts([PLAIN]), wanted)


def test_canonical_texts_are_those_of_big_vision() -> None:
    """open_clip keeps a copy of big_vision's function, which makes a blank of an underscore."""
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(string.printable.replace("_", "") + "äÉß", k=draw.randrange(9)))
        assert canonicalize(text) == canonicalize_text(text)
        assert canonicalize(canonicalize(text)) == canonicalize(text)


def test_the_tokenizer_of_clip_lowers_the_case_itself(tmp_path: Path) -> None:
    vocabulary = {p: i for i, p in enumerate([*"aA", "a</w>", "A</w>", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    tokenizer = CLIPTokenizer.from_pretrained(str(tmp_path))
    assert tokenizer("A")["input_ids"] == tokenizer("a")["input_ids"]


def make_open_clip(folder: Path, kind: str, **kwargs: Any) -> Path:
    """An OpenCLIP folder; with a `kind`, its tokenizer is one of transformers, as SigLIP's is."""
    text: dict[str, Any] = {
        "context_length": LENGTH, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
        "tokenizer_kwargs": kwargs,
    }  # fmt: skip
    if kind:
        text |= {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "vocab_size": 80, "pad_id": 0}
        words(kind).save(str(folder / "tokenizer.json"))
        told = settings(kind, "GemmaTokenizer" if kind == "siglip2" else "PreTrainedTokenizerFast")
        (folder / "tokenizer_config.json").write_text(json.dumps(told))
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_an_open_clip_folder_s_own_cleaning_is_done(tmp_path: Path, kind: str) -> None:
    model = load("open_clip", make_open_clip(tmp_path, kind, clean="canonicalize"))
    plain, loud = model.embed_texts([PLAIN, LOUD.replace("-", " ")])
    torch.testing.assert_close(plain, loud)
    tokens = model.tokenizer([LOUD.replace("-", " ")])
    assert torch.equal(tokens, ids(kind, PLAIN))


@torch.no_grad()
@pytest.mark.parametrize("mask", ["simple", "random", "shuffle"])
def test_a_long_text_is_cut_and_never_thinned_at_random(tmp_path: Path, mask: str) -> None:
    """A reduction mask belongs to training; with one, a text would embed otherwise every time."""
    model = load("open_clip", make_open_clip(tmp_path, "", reduction_mask=mask))
    long = "effusion and edema and " * 30
    cut = open_clip.get_tokenizer("ViT-B-32", context_length=LENGTH)([long])
    assert torch.equal(model.tokenizer([long]), cut)
