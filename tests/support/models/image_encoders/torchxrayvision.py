"""TorchXRayVision's files with seeded weights."""

from pathlib import Path

import torch
import torchvision

from support.models import golden

ALL = "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-seed0-best.pt"
RESNET = "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt"
SMALL = {"growth_rate": 8, "block_config": (2, 2, 3, 2), "num_init_features": 16}


def densenet() -> torch.nn.Module:
    """torchvision's DenseNet with the weights of the stored outputs: no original is needed."""
    net = torchvision.models.DenseNet(**SMALL, num_classes=18)
    net.features.conv0 = torch.nn.Conv2d(1, 16, 7, stride=2, padding=3, bias=False)
    net.load_state_dict(golden.seeded_state(golden.read("xrv_dense")["shapes"]))
    return net.eval()


def write(folder: Path, name: str = ALL, zipped: bool = True) -> Path:
    """A DenseNet as a whole pickled module, as published."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(densenet(), folder / name, _use_new_zipfile_serialization=zipped)
    return folder / name


def write_resnet(folder: Path, head: float = 1) -> Path:
    """The state_dict of the ResNet-50 of 512 px.

    head: factor of the classifier's weights. The seeded ones are so large that all probabilities
    are 0 or 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = golden.seeded_state(golden.read("xrv_resnet")["shapes"])
    last = next(name for name in state if name.endswith("fc.weight"))
    torch.save(state | {last: state[last] * head}, folder / RESNET)
    return folder / RESNET
