"""Any image encoder that timm can build, with weights from a local file (ImageNet or your own).

SOURCE is ARCH@FILE, for example `encoder:resnet50@weights.pth`, or ARCH@FILE#PREFIX, for example
`encoder:resnet50@run.ckpt#img_encoder.`. ARCH is a name of timm; ResNets and DenseNets of
torchvision have the same names and keys. Without a PREFIX it is found from the keys. Everything
outside of the prefix (heads, decoders, momentum copies) and the classifier are ignored; the encoder
itself must be complete. Preprocessing is timm's default for the architecture, because a weights
file does not specify any.
"""

from pathlib import Path

import timm

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Identity, Model
from g2dbench.pretrained.image.timm_encoder import (
    TimmEncoder,
    classifier_patterns,
    find_encoder_state,
    select_encoder,
    timm_preprocess,
)
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights
from g2dbench.registry import unknown_name

CARD = ModelCard(
    name="encoder",
    summary="Any timm or torchvision image encoder: encoder:ARCH@FILE, or ARCH@FILE#PREFIX",
    paper="Wightman, PyTorch Image Models, 2019",
    source="huggingface.co/timm, pytorch.org/vision, or your own training",
    licence="that of the weights file",
    capabilities=("features",),
    source_kind="file",
    source_pattern="ARCH@FILE[#PREFIX]",
)


HEADS = (r"^(head|head_dist|fc|fc_norm|classifier|pre_logits)\.", r"^mask_token$", r"^decoder")
"""Keys beside the encoder under a prefix that the user names: heads, mask tokens, decoders."""


def load(source: str | None, seed: int) -> Model:
    """The encoder of ARCH@FILE or ARCH@FILE#PREFIX; `seed` is unused.

    Raises Misuse for a SOURCE without a known ARCH or without @FILE, BadCheckpoint for weights
    that are not the architecture's and for a PREFIX that no key has.
    """
    name, at, place = (source or "").partition("@")
    if not at or not name or not place:
        raise Misuse(
            f"the model is written encoder:ARCH@FILE (encoder:resnet50@weights.pth), not {source!r}"
        )
    if not timm.is_model(name):
        raise Misuse(unknown_name("timm architecture", name, timm.list_models(f"{name[:4]}*")[:20]))
    trunk = timm.create_model(name, pretrained=False, num_classes=0).eval()
    if not hasattr(trunk, "forward_intermediates"):
        raise Misuse(f"timm's {name} has no intermediate feature maps; choose another architecture")
    file, prefix = _split(place)
    state = find_state(read_weights(file), file)
    ignore = classifier_patterns(trunk)
    if prefix:
        state, ignore = select_encoder(state, prefix, trunk, file), [*ignore, *HEADS]
    else:
        state = find_encoder_state(state, trunk, file)
    load_state(trunk, state, file, ignore=ignore)
    model = TimmEncoder(CARD, trunk, timm_preprocess(trunk))
    model.fixed_size = bool(trunk.pretrained_cfg.get("fixed_input_size", False))
    model.identity = Identity(f"encoder:{name}@{file.name}{prefix and '#'}{prefix}", digest(model))
    return model.eval()


def _split(place: str) -> tuple[Path, str]:
    """FILE or FILE#PREFIX; a file whose own name contains "#" is taken as it is."""
    name, mark, prefix = place.rpartition("#")
    whole = Path(place).expanduser()
    return (whole, "") if not mark or whole.is_file() else (Path(name).expanduser(), prefix)
