"""Key layouts: wrappers at any depth, prefixes before a known key, ResNets by number."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from support.originals import seeded
from torch import nn

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.vit import make_vit
from g2dbench.pretrained.layouts import part_with, rename_parts, strip_to, strip_wrappers, without
from g2dbench.pretrained.query_decoder import QueryLayer
from g2dbench.pretrained.text.checkpoint_bert import bert_config

FILE = Path("weights.pth")
ONE = torch.ones(1)


def test_wrappers_are_stripped_at_any_depth() -> None:
    keys = ("module.a.weight", "b._orig_mod.module.c", "submodule.d", "module")
    stripped = strip_wrappers(dict.fromkeys(keys, ONE), FILE)
    assert list(stripped) == ["a.weight", "b.c", "submodule.d", "module"]


def test_weights_with_and_without_a_wrapper_are_a_question() -> None:
    with pytest.raises(BadCheckpoint, match=r"weights\.pth contains the same weights twice"):
        strip_wrappers({"module.a": ONE, "a": ONE}, FILE)


def test_the_prefix_before_a_known_key_is_stripped_and_others_stay() -> None:
    state = dict.fromkeys(("net.gloria.stem.weight", "net.gloria.head.bias", "epoch.count"), ONE)
    assert list(strip_to(state, "stem.weight", FILE)) == ["stem.weight", "head.bias", "epoch.count"]
    assert list(strip_to(state, "absent", FILE)) == list(state)
    momentum = dict.fromkeys(("query.stem.weight", "key.stem.weight"), ONE)
    with pytest.raises(BadCheckpoint, match=r"2 times, under 'key\.', 'query\.'"):
        strip_to(momentum, "stem.weight", FILE)


def test_the_part_with_a_known_key_is_taken_without_its_prefix() -> None:
    state = dict.fromkeys(("net.visual.stem.weight", "net.visual.x", "net.text.y"), ONE)
    assert list(part_with(state, "stem.weight", FILE)) == ["stem.weight", "x"]
    with pytest.raises(BadCheckpoint, match=r"weights\.pth has no key that ends in absent"):
        part_with(state, "absent", FILE)


def test_parts_are_renamed_and_left_out() -> None:
    state = dict.fromkeys(("a.x", "ab.x", "c"), ONE)
    assert list(rename_parts(state, {"a.": "first.", "ab.": "second."})) == [
        "first.x",
        "second.x",
        "c",
    ]
    assert list(without(state, (r"^a",))) == ["c"]


def test_a_resnet_by_number_gets_torchvisions_names() -> None:
    trunk = torchvision.models.resnet18(weights=None)
    numbered = seeded.placed("f.", nn.Sequential(*list(trunk.children())[:-1]))
    named = resnet.name_stages(numbered | {"other.4.x": ONE}, "f.")
    expected = {f"f.{key}" for key in trunk.state_dict() if not key.startswith("fc.")}
    assert named.keys() == expected | {"other.4.x"}
    assert resnet.name_stages(named, "f.").keys() == named.keys()


@torch.no_grad()
def test_the_pyramid_ends_in_what_torchvision_pools() -> None:
    trunk = resnet.make_resnet(18).eval()
    images = torch.rand(1, 3, 64, 64)
    maps = resnet.pyramid(trunk, images)
    assert [part.shape[-1] for part in maps] == [32, 16, 8, 4, 2]
    torch.testing.assert_close(maps[-1].mean((2, 3)), trunk(images))


def test_the_sizes_of_a_bert_and_a_vit_are_those_of_their_weights() -> None:
    bert = seeded.bert(128, 3)
    config = bert_config(seeded.placed("text.", bert), "text.", FILE)
    for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"):
        assert getattr(config, name) == getattr(bert.config, name)
    with pytest.raises(BadCheckpoint, match="contains no BERT under 'image'"):
        bert_config(seeded.placed("text.", bert), "image", FILE)
    plain = timm.models.VisionTransformer(embed_dim=128, depth=2, num_heads=2, num_classes=0)
    vit = make_vit(seeded.placed("v.", plain), "v.", FILE)
    assert vit.state_dict().keys() == plain.state_dict().keys()
    assert (len(vit.blocks), vit.embed_dim, vit.blocks[0].attn.num_heads) == (2, 128, 2)
    with pytest.raises(BadCheckpoint, match="no vision transformer under 'x'"):
        make_vit({"y": ONE}, "x", FILE)


@torch.no_grad()
def test_a_query_layer_is_torchs_pre_norm_decoder_layer() -> None:
    ours = QueryLayer(32, 4, 48).eval()
    ours.load_state_dict(seeded.fill(ours.state_dict()))
    theirs = nn.TransformerDecoderLayer(32, 4, 48, batch_first=True, norm_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    queries, patches = torch.rand(2, 3, 32), torch.rand(2, 5, 32)
    found, attention = ours(queries, patches)
    torch.testing.assert_close(found, theirs(queries, patches), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 3))
