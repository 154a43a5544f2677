"""CXR-CLIP and MedCLIP beside the originals, and beside their stored outputs."""

import types
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from support.models import golden
from support.models.image_text.towers_with_bert import CASES, write
from support.models.small_baselines import TEXTS, load, save_bert_files
from transformers import BertConfig, BertModel, BertTokenizerFast, SwinConfig, SwinModel

from g2dbench.errors import BadCheckpoint, Misuse

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

SWIN = {"image_size": 224, "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]}
OLD = (
    ("attention.q_proj.", "attention.self.query."), ("attention.k_proj.", "attention.self.key."),
    ("attention.v_proj.", "attention.self.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("attention.relative_position_bias.", "attention.self."), ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)  # fmt: skip
"""A Swin's names in transformers 5 -> those of the versions that wrote the files."""
NOTES = {
    "cxr-clip": "kakaobrain/cxr-clip 955ab93, CXRClip; from_pretrained replaced by small configs",
    "medclip": "RyanWangZf/MedCLIP 9c3396f, MedCLIPModel; from_pretrained replaced by small "
    "configs, .cuda() by nothing; texts one by one",
}


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    side = 224 if model.fixed_size else 96
    images = golden.seeded_images(side)
    return {
        "images": model.embed_images(images),
        "texts": model.embed_texts(TEXTS),
        "pooled": model.pooled(images),
    }


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path, case: str) -> None:
    model = load(CASES[case], write(tmp_path / "m", case))
    golden.check_golden(case, outputs(model))


def test_a_wrapped_checkpoint_gives_the_same_model(tmp_path: Path) -> None:
    plain = load("medclip", write(tmp_path / "a", "medclip_swin"))
    wrapped = load("medclip", write(tmp_path / "b", "medclip_swin", "module._orig_mod."))
    assert plain.identity.digest == wrapped.identity.digest


@pytest.mark.parametrize("case", ["cxr_clip_swin", "medclip_swin"])
def test_faults_of_a_folder_are_named(tmp_path: Path, case: str) -> None:
    card, folder = CASES[case], write(tmp_path / "m", case)
    file = next(f for f in folder.iterdir() if f.is_file())
    (folder / "second.pth").write_bytes(b"x")
    with pytest.raises(Misuse, match=f"choose one of them, as --model {card}:"):
        load(card, folder)
    torch.save({"image_encoder.x": torch.zeros(1)}, folder / "second.pth")
    with pytest.raises(BadCheckpoint, match=r"is not (CXR-CLIP|MedCLIP)"):
        load(card, folder / "second.pth")
    (folder / "Bio_ClinicalBERT" / "vocab.txt").unlink()
    (folder / "Bio_ClinicalBERT" / "tokenizer.json").unlink()
    with pytest.raises(BadCheckpoint, match="hf download emilyalsentzer/Bio_ClinicalBERT"):
        load(card, file)
    file.unlink()
    (folder / "second.pth").unlink()
    with pytest.raises(BadCheckpoint, match="contains no checkpoint"):
        load(card, folder)


def released(network: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released file: a Swin has its older names."""
    shapes = {}
    for key, value in golden.weights_of(network).items():
        if "layers." in key and ".blocks." in key:
            for new, old in OLD:
                key = key.replace(new, old)
        shapes[key] = tuple(value.shape)
    return shapes


def fill(network: Any) -> dict[str, tuple[int, ...]]:
    """Seeded weights by the released names, in the original network."""
    shapes = released(network)
    state = golden.seeded_state(shapes)
    own = dict(zip(golden.weights_of(network), state.values(), strict=True))
    network.load_state_dict(own, strict=False)
    network.eval()
    return shapes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Small networks wherever an original downloads one; tokens as ours."""
    folder = tmp_path / "bert"
    folder.mkdir()
    save_bert_files(folder)

    def from_pretrained(name: str, **options: Any) -> Any:
        if "swin" in name:
            return SwinModel(SwinConfig(**SWIN))
        return BertModel(BertConfig.from_pretrained(folder, **options))

    resnet = torchvision.models.resnet50
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", from_pretrained)
    monkeypatch.setattr("transformers.SwinModel.from_pretrained", from_pretrained)
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained", lambda name: BertTokenizerFast(vocab_size=9)
    )
    for place in ("torchvision.models.resnet50", "torchvision.models.resnet.resnet50"):
        monkeypatch.setattr(place, lambda pretrained=True, weights=None: resnet(weights=None))
    monkeypatch.setattr("torch.Tensor.cuda", lambda self: self)
    return folder


def tokens(folder: Path, texts: list[str], **options: Any) -> Any:
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    return tokenizer(texts, return_tensors="pt", truncation=True, max_length=16, **options)


@torch.no_grad()
@pytest.mark.parametrize("size", ["r50", "swin"])
def test_cxr_clip_gives_the_outputs_of_the_original(tmp_path: Path, small: Path, size: str) -> None:
    package = types.ModuleType("cxrclip")
    package.__path__ = [str(golden.original("CXR_CLIP") / "cxrclip")]
    with golden.importable(golden.original("CXR_CLIP"), cxrclip=package):
        from cxrclip.model.clip import CXRClip as clip

        vision = {"r50": {"source": "cnn", "name": "resnet"}, "swin": {"name": "swin"}}[size]
        network = clip.__new__(clip)
        torch.nn.Module.__init__(network)
        assemble(network, vision)
        shapes = fill(network)
        images = golden.seeded_images(224 if size == "swin" else 96)
        pooled = network.encode_image(images)
        text = network.encode_text(tokens(small, TEXTS, padding=True))
        theirs = {
            "images": network.image_projection(pooled),
            "texts": network.text_projection(text),
        }
        theirs = {k: v / v.norm(dim=1, keepdim=True) for k, v in theirs.items()}
        theirs["pooled"] = pooled
    golden.check_live(f"cxr_clip_{size}", shapes, theirs, NOTES["cxr-clip"])
    golden.same(outputs(load("cxr-clip", write(tmp_path / "m", f"cxr_clip_{size}"))), theirs)


def assemble(network: Any, vision: dict[str, str]) -> None:
    """The parts of CXRClip with its own classes; its constructor reads configurations."""
    from cxrclip.model.modules import image_encoder, projection, text_encoder

    is_swin = vision["name"] == "swin"
    network.image_encoder = (
        image_encoder.HuggingfaceImageEncoder("swin", model_type="swin")
        if is_swin
        else image_encoder.ResNet50()
    )
    network.text_encoder = text_encoder.HuggingfaceTextEncoder("bert")
    network.text_pooling = "eos"
    network.model_config = {"image_encoder": vision}
    head = projection.LinearProjectionHead if is_swin else projection.MLPProjectionHead
    more = {} if is_swin else {"dropout": 0.1}
    network.image_projection = head(network.image_encoder.out_dim, 12, **more)
    network.text_projection = head(network.text_encoder.out_dim, 12, **more)
    network.logit_scale = torch.nn.Parameter(torch.zeros([]))


@torch.no_grad()
@pytest.mark.parametrize("size", ["r50", "swin"])
def test_medclip_gives_the_outputs_of_the_original(tmp_path: Path, small: Path, size: str) -> None:
    stub = types.SimpleNamespace
    package = types.ModuleType("medclip")
    package.__path__ = [str(golden.original("MEDCLIP") / "medclip")]
    with golden.importable(golden.original("MEDCLIP"), medclip=package, requests=stub()):
        from medclip import modeling_medclip as code

        widths(code, size)
        kind = code.MedCLIPVisionModel if size == "r50" else code.MedCLIPVisionModelViT
        network = code.MedCLIPModel(vision_cls=kind)
        shapes = fill(network)
        images = golden.seeded_images(224 if size == "swin" else 96)
        coded = [tokens(small, [text]) for text in TEXTS]
        texts = [network.encode_text(c["input_ids"], c["attention_mask"]) for c in coded]
        vision = network.vision_model
        theirs = {"images": network.encode_image(images), "texts": torch.cat(texts)}
        if size == "r50":
            vision.model.fc = torch.nn.Identity()
            theirs["pooled"] = vision(images)
        else:
            theirs["pooled"] = vision(images, project=False)
    golden.check_live(f"medclip_{size}", shapes, theirs, NOTES["medclip"])
    golden.same(outputs(load("medclip", write(tmp_path / "m", f"medclip_{size}"))), theirs)


def widths(code: Any, size: str) -> None:
    """Its projections expect 768 features; the small networks have 16 and 64."""
    calls = iter([64, 16] if size == "swin" else [16])

    def linear(inputs: int, outputs: int, bias: bool = True) -> Any:
        return torch.nn.Linear(next(calls) if inputs == 768 else inputs, outputs, bias=bias)

    names = {name: getattr(torch.nn, name) for name in dir(torch.nn)}
    code.nn = types.SimpleNamespace(**{**names, "Linear": linear})
