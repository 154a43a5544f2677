"""UniMed-CLIP: mbzuai-oryx/UniMed-CLIP at 6f09177, its fork of OpenCLIP with small encoders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertModel

from support.models import golden
from support.originals import seeded
from support.originals.imports import imported

WIDTH, LAYERS, EMBED, SIDE, TOKENS = 64, 2, 24, 64, 256


def outputs(
    checkout: Path, folder: Path, pictures: Sequence[np.ndarray], texts: Sequence[str]
) -> tuple[Mapping[str, tuple[int, ...]], dict[str, Tensor]]:
    """Shapes of the released file, and embeddings of pictures and texts by the authors' code.

    Patched: the name `open_clip`, which is installed too, and from_pretrained of the text encoder,
    which has small sizes.
    """
    bert = seeded.bert(WIDTH, LAYERS, pooler=False, positions=TOKENS)
    seeded.write_bert_repository(folder, bert)
    package = ModuleType("unimed")
    package.__path__ = [str(checkout / "src" / "open_clip")]
    with imported([], (), {"unimed": package}) as load:
        clip = _build(load("unimed.model"), folder)
        shapes = {k: tuple(v.shape) for k, v in golden.weights_of(clip).items()}
        clip.load_state_dict(golden.seeded_state(shapes), strict=False)
        prepare = load("unimed.transform").image_transform(SIDE, is_train=False)
        images = torch.stack([prepare(Image.fromarray(picture)) for picture in pictures])
        tokens = load("unimed.tokenizer").HFTokenizer(str(folder), context_length=TOKENS)(
            list(texts)
        )
        found = clip.eval()(images, tokens)
    return shapes, {"input": images, "images": found[0], "texts": found[1]}


def _build(module: Any, folder: Path) -> nn.Module:
    vision = {"width": WIDTH, "layers": LAYERS, "patch_size": 16, "image_size": SIDE}
    config = AutoConfig.from_pretrained(folder)
    with mock.patch.object(
        AutoModel, "from_pretrained", lambda name, **options: BertModel(config, **options)
    ):
        clip: nn.Module = module.CLIP(
            EMBED, vision, {}, quick_gelu=True, text_encoder_name=str(folder)
        )
    return clip
