"""KAD: xiaoman-zhang/KAD at 591d999; A3_CLIP/models/clip_tqn.py, test_chestxray14.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
import torchvision
import transformers
from functorch.einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "kad", "xiaoman-zhang/KAD", "591d999"
WIDTH, LAYERS, SIDE = 768, 1, 128
FINDINGS = ("Pneumonia", "Effusion", "Mass", "Pleural_Thickening")
QUERIES = ["pneumonia", "pleural effusion", "lung mass", "pleural thicken"]


def decoder_layers(width: int) -> dict[str, Tensor]:
    """Four layers of a query decoder, as KAD and the models built on its code store them."""
    layer = {
        **seeded.placed("self_attn.", nn.MultiheadAttention(width, 4)),
        **seeded.placed("multihead_attn.", nn.MultiheadAttention(width, 4)),
        **seeded.placed("linear1.", nn.Linear(width, 1024)),
        **seeded.placed("linear2.", nn.Linear(1024, width)),
    }
    for norm in ("norm1.", "norm2.", "norm3."):
        layer |= seeded.placed(norm, nn.LayerNorm(width))
    return {f"decoder.layers.{i}.{key}": v for i in range(4) for key, v in layer.items()}


def decoder_layout() -> dict[str, Tensor]:
    return {
        "logit_scale": torch.empty(()),
        **seeded.placed("decoder_norm.", nn.LayerNorm(WIDTH)),
        **decoder_layers(WIDTH),
        **seeded.placed("mlp_head.0.", nn.Linear(WIDTH, 2)),
    }


def states() -> dict[str, dict[str, Tensor]]:
    """The three state_dicts of best_valid.pt; norm and ResNet occur twice, as one parameter."""
    trunk = torchvision.models.resnet50(weights=None)
    resnet = seeded.fill(seeded.placed("resnet.", trunk))
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    features = {
        f"res_features.{places[stage]}.{rest}": value
        for key, value in resnet.items()
        for stage, _, rest in [key.removeprefix("resnet.").partition(".")]
        if stage in places
    }
    decoder = seeded.fill(decoder_layout())
    for part in ("weight", "bias"):
        decoder[f"decoder.norm.{part}"] = decoder[f"decoder_norm.{part}"]
    heads = {
        **seeded.placed("res_l1.", nn.Linear(2048, 2048)),
        **seeded.placed("res_l2.", nn.Linear(2048, WIDTH)),
    }
    text = {
        "logit_scale": torch.empty(()),
        **seeded.placed("bert_model.", seeded.bert(WIDTH, LAYERS)),
        **seeded.placed("mlp_embed.0.", nn.Linear(WIDTH, WIDTH)),
        **seeded.placed("mlp_embed.2.", nn.Linear(WIDTH, WIDTH)),
    }
    return {
        "model": decoder,
        "image_encoder": resnet | features | seeded.fill(heads),
        "text_encoder": seeded.fill(text),
    }


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Med-KEBERT")
    content = {**states(), "optimizer": {}, "config": {"img_res": SIDE}, "epoch": 1}
    torch.save(content, folder / "best_valid.pt")
    return folder / "best_valid.pt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs())
    return {
        "input": images,
        "patches": model.image.patches(images),
        "texts": model.encode_texts(QUERIES),
        "probabilities": model.match(images, FINDINGS),
        "maps": model.locate(images, QUERIES[:2]),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' three classes, put together as in test_chestxray14.py.

    Patched: petrel_client and pytorch_pretrained_vit (imported, unused here), einops (torch's
    copy), ImageNet's weights (not downloaded), and `pad_to_max_length`, gone from transformers 5
    (`padding="max_length"`).
    """
    stand_ins = ("petrel_client", "petrel_client.client", "pytorch_pretrained_vit")
    given = {"einops": {"rearrange": rearrange}}
    plain, weights = torchvision.models.resnet50(weights=None), states()
    with (
        TemporaryDirectory() as name,
        imported([checkout / "A3_CLIP"], stand_ins, given) as load,
        mock.patch.object(torchvision.models, "resnet50", return_value=plain),
    ):
        folder = seeded.write_bert_repository(Path(name), seeded.bert(WIDTH, LAYERS))
        module = load("models.clip_tqn")
        image = module.ModelRes512("resnet50").eval()
        text = module.CLP_clinical(str(folder)).eval()
        decoder = module.TQN_Model().eval()
        image.load_state_dict(weights["image_encoder"])
        text.load_state_dict(weights["text_encoder"])
        decoder.load_state_dict(weights["model"])
        tokens = transformers.BertTokenizer.from_pretrained(folder)(
            QUERIES, padding="max_length", max_length=128, return_tensors="pt"
        )
        images = torch.stack([prepare(picture) for picture in seeded.radiographs()])
        patches, _ = image(images)
        texts = text.encode_text(tokens)
        logits = decoder(patches, texts)
        maps = [decoder(patches, texts[i : i + 1], return_atten=True)[1][:, 0] for i in range(2)]
    side = SIDE // 32
    return {
        "input": images,
        "patches": patches,
        "texts": texts,
        "probabilities": torch.softmax(logits, dim=-1)[:, :, 1],
        "maps": torch.stack(maps, dim=1).unflatten(2, (side, side)),
    }


def prepare(picture: Any) -> Tensor:
    """As CheXpert_Dataset after reading."""
    steps = [transforms.Resize([SIDE, SIDE], interpolation=Image.BICUBIC), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    values: Tensor = transforms.Compose(steps)(Image.fromarray(picture).convert("RGB"))
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, :, ::31, ::31],
        "patches": results["patches"][:, ::5, ::32],
        "texts": results["texts"][:, ::16],
        "maps": 16 * results["maps"],
    }
