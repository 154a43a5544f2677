"""TorchXRayVision's classifiers: DenseNet-121 and ResNet-50 (Cohen et al., MIDL 2022).

Shapes: B batch, S input side (224, ResNet 512), T findings. Source: mlmed/torchxrayvision at
f4087a0, models.py. SOURCE is a file of its GitHub release v1 under its published name, which says
which of its 18 outputs were trained. DenseNet files are pickled modules: they are read without
executing them.

Inputs have one channel and run from -1024 to 1024. `match` is the sigmoid of the head with the
finding's name, not rescaled by operating points: the original's rescaling changes calibration, not
the AUC. Difference from the original: the crop is resized by PIL, not by scikit-image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import DenseNet

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.layouts import layers_in, unwrapped
from g2dbench.pretrained.restricted_unpickler import Inert, module_state
from g2dbench.pretrained.towers import ResNetTower
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="torchxrayvision",
    summary="TorchXRayVision: a supervised DenseNet-121 or ResNet-50 with 18 named findings",
    paper="Cohen et al., TorchXRayVision: A Library of Chest X-ray Datasets and Models, MIDL 2022",
    source="github.com/mlmed/torchxrayvision/releases/tag/v1",
    licence="Apache-2.0",
    capabilities=("features", "matches"),
    trained_on=("nih_cxr14", "padchest", "chexpert", "mimic_cxr", "rsna", "open_i", "siim"),
    files=(
        "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-"
        "best.pt",
        "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
    ),
    tested_with=("torch 2.14", "torchvision 0.29"),
    openness="weights, code and licence public",
    notes=(
        "The file's name says its training sets; those of the card are the union. The model `all` "
        "saw nearly every public set.",
        "Its zero-shot score is a supervised head of the same name: not comparable with prompts.",
        "Inputs from 0 to 1 are a frequent error of its users; here the range is -1024 to 1024.",
        "Outputs are plain sigmoids; the library rescales them by operating points, which changes "
        "calibration and thresholds, not the AUC.",
    ),
)

FINDINGS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
_CHEXPERT = frozenset((0, 1, 3, 4, 7, 8, 10, 14, 15, 16, 17))
TRAINED: dict[str, frozenset[int]] = {
    "nih-pc-chex-mimic_ch-google-openi-kaggle-": frozenset(range(18)),
    "pc-nih-rsna-siim-vin-": frozenset(range(18)),
    "nih-densenet": frozenset(range(14)),
    "pc-densenet": frozenset((*range(14), 15)),
    "chex-densenet": _CHEXPERT,
    "mimic_nb-densenet": _CHEXPERT,
    "mimic_ch-densenet": _CHEXPERT,
    "kaggle-densenet": frozenset((8, 16)),
}
"""Start of a published file name -> which outputs were trained; the others are random."""
SYNONYMS = {"pleural effusion": "effusion"}
"""CheXpert's name of a finding -> the name here."""


class _DenseTower(nn.Module):
    """torchvision's DenseNet with one input channel, and the sizes of a state_dict."""

    fixed_size = False
    strides: tuple[int, ...] = (2, 4, 8, 16, 32)

    def __init__(self, state: State) -> None:
        super().__init__()
        first = state["features.conv0.weight"].shape[0]
        blocks = tuple(
            layers_in(state, rf"features\.denseblock{i}\.denselayer(\d+)\.") for i in range(1, 5)
        )
        bottleneck = state["features.denseblock1.denselayer1.conv1.weight"].shape[0]
        growth = state["features.denseblock1.denselayer1.conv2.weight"].shape[0]
        outputs = state["classifier.weight"].shape[0]
        self.network: Any = DenseNet(
            growth, blocks, first, bn_size=bottleneck // growth, num_classes=outputs
        )
        self.network.features.conv0 = nn.Conv2d(1, first, 7, stride=2, padding=3, bias=False)
        self.channels = self._channels(first, blocks, growth)

    @staticmethod
    def _channels(first: int, blocks: Sequence[int], growth: int) -> tuple[int, ...]:
        widths, width = [first], first
        for count in blocks:
            width += count * growth
            widths.append(width)
            width //= 2
        return tuple(widths)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> the stem and the blocks; the last map is before its ReLU."""
        net, maps = self.network.features, []
        x = net.relu0(net.norm0(net.conv0(images)))
        maps.append(x)
        x = net.pool0(x)
        for number in range(1, 5):
            x = net[self._place(f"denseblock{number}")](x)
            maps.append(x if number < 4 else net.norm5(x))
            if number < 4:
                x = net[self._place(f"transition{number}")](x)
        return maps

    def _place(self, name: str) -> int:
        return [key for key, _ in self.network.features.named_children()].index(name)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, C): `features2`, the mean of the last map after its ReLU."""
        return F.relu(self.pyramid(images)[-1]).mean(dim=(2, 3))


class TorchXRayVision(Model):
    """A supervised classifier: feature maps, and probabilities of its trained findings."""

    card = CARD

    def __init__(self, tower: Any, head: nn.Linear, trained: frozenset[int], size: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = head
        self.columns = {
            _normalized(name): index for index, name in enumerate(FINDINGS) if index in trained
        }
        self.preprocess = Preprocess(
            size=size, fit="crop", mean=(0.5,), std=(0.5 / 1024,), channels=1
        )
        self.channels, self.strides = tower.channels, tower.strides
        self.fixed_size = tower.fixed_size

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> maps of strides 2 to 32."""
        maps: list[Tensor] = self.tower.pyramid(images)
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, C): the input of the classifier."""
        pooled: Tensor = self.tower.pooled(images)
        return pooled

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 1, S, S), T findings -> (B, T); Unsupported for a finding without a trained head."""
        columns = [self._column(name) for name in findings]
        probabilities: Tensor = self.head(self.pooled(images)).sigmoid()[:, columns]
        return probabilities

    def _column(self, finding: str) -> int:
        name = _normalized(finding)
        found = self.columns.get(SYNONYMS.get(name, name))
        if found is None:
            raise Unsupported(
                f"{self.identity.label} has no trained output for {finding!r}; it has "
                f"{', '.join(self.columns)}"
            )
        return found


def _normalized(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def load(source: str | None, seed: int) -> Model:
    """A classifier from a published file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file of another name or other weights.
    """
    if source is None:
        raise Misuse("torchxrayvision needs its weights: --model torchxrayvision:FILE")
    file = Path(source).expanduser()
    content = read_weights(file)
    trained = next((heads for name, heads in TRAINED.items() if file.name.startswith(name)), None)
    if trained is None:
        raise BadCheckpoint(
            f"the name of {file} must start as published, with one of {', '.join(TRAINED)}: it "
            "says which of the 18 outputs were trained"
        )
    state = unwrapped(
        module_state(content) if isinstance(content, Inert) else find_state(content, file)
    )
    if "features.conv0.weight" in state:
        tower: Any = _DenseTower(state)
        head, name, size, unused = tower.network.classifier, "classifier", 224, r"^op_threshs$"
    else:
        tower, name, size, unused = ResNetTower(in_channels=1), "fc", 512, r"^fc\."
        head = nn.Linear(2048, len(FINDINGS))
        state = {key.removeprefix("model."): value for key, value in state.items()}
    return _assemble(tower, head, name, size, unused, state, trained, file)


def _assemble(
    tower: Any, head: Any, name: str, size: int, unused: str, state: State,
    trained: frozenset[int], file: Path,
) -> Model:  # fmt: skip
    load_state(tower.network, state, file, (unused,))
    if name == "fc":
        own = {key[3:]: value for key, value in state.items() if key.startswith("fc.")}
        load_state(head, own, file)
    model = TorchXRayVision(tower, head, trained, size)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()
