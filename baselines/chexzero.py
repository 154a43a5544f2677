"""CheXzero: OpenAI's CLIP trained on chest X-rays and their reports (Tiu et al., 2022).

Shapes: B batch, S input side, D embedding width, T texts, h w the patch grid.
Source: rajpurkarlab/CheXzero at 5c341db (zero_shot.py, data_process.py). SOURCE is one of the
released files, or a folder of them: the published figures are those of an ensemble of ten files,
whose probabilities are averaged. One file and the ensemble are different rows. A file alone also
embeds texts, and is a CLIP whose patches were never aligned with texts: its maps are ours.

Differences from the original: a text is truncated to 77 tokens; the original refuses a longer one.
Images are resized on tensors without anti-aliasing, as in the torchvision of its time. Its code
also builds a ViT-B/16 at 320 pixels, whose files are recognized by their shapes. A bare file is not
recognized as CheXzero, because every CLIP of OpenAI has the same keys.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.pretrained.image.feature_maps import cosine_similarity, to_grid
from g2dbench.pretrained.image.two_step_preprocess import chexzero_preprocess
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="chexzero",
    summary="CheXzero: CLIP ViT-B/32 on MIMIC-CXR; one file, or a folder as an ensemble",
    paper="Tiu et al., Expert-level detection of pathologies from unannotated chest X-ray images "
    "via self-supervised learning, Nature Biomedical Engineering 2022",
    source="github.com/rajpurkarlab/CheXzero (README: Google Drive folder chexzero_weights)",
    licence="MIT",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    files=(
        "best_64_5e-05_original_22000_0.864.pt",
        "best_64_0.0001_original_35000_0.864.pt",
        "best_64_0.0001_original_17000_0.863.pt",
        "best_64_5e-05_original_18000_0.862.pt",
        "best_64_0.0001_original_16000_0.861.pt",
        "best_128_0.0002_original_15000_0.859.pt",
        "best_64_5e-05_original_16000_0.858.pt",
        "best_128_0.0002_original_8000_0.857.pt",
        "best_128_5e-05_original_22000_0.855.pt",
        "best_64_0.0002_original_23000_0.854.pt",
    ),
    input_size=224,
    tested_with=("torch 2.14", "open_clip 3.3"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "The published figures are those of the ensemble of ten files; one file alone is a "
        "different model.",
        "The authors' prompt for the absence of 'No Finding' is 'no No Finding', whose published "
        "AUC is 0.07 (issue 19): its zero-shot score means nothing.",
        "The original's zero-shot is a softmax of cosines without CLIP's temperature.",
    ),
)

POSITIVE, NEGATIVE = "{}", "no {}"
"""Prompts of a finding's presence and absence (zero_shot.py)."""
_NON_WEIGHTS = (r"^input_resolution$", r"^context_length$", r"^vocab_size$")
_HEAD_WIDTH = 64


class CheXzero(Model):
    """One released file: global embeddings of images and texts, and its patch tokens."""

    card = CARD
    fixed_size = True
    grounding = Grounding("bilinear", None)
    """The publication gives none."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        visual = clip.visual
        self.preprocess = chexzero_preprocess(visual.image_size[0])
        self.channels = (visual.conv1.out_channels,)
        self.strides = (visual.patch_size[0],)
        self._tokenize = open_clip.SimpleTokenizer(context_length=clip.context_length)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        embedded: Tensor = self.clip.encode_image(images, normalize=True)
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return encode_in_batches(self._embed_few, texts)

    def probabilities(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): softmax over the cosines of the two prompts.

        It is no `match`: for one file, the task's protocol chooses the prompts.
        """
        embedded = self.embed_images(images)
        positive, negative = (
            embedded @ self.embed_texts([prompt.format(name) for name in findings]).T
            for prompt in (POSITIVE, NEGATIVE)
        )
        return torch.sigmoid(positive - negative)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of patch tokens, after the final norm."""
        return [self._patches(images)]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the image embedding, not normalized."""
        encoded: Tensor = self.clip.encode_image(images)
        return encoded

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): cosine of each projected patch and text."""
        projected = torch.einsum("bchw,cd->bdhw", self._patches(images), self.clip.visual.proj)
        return cosine_similarity(projected, self.embed_texts(texts))

    def _patches(self, images: Tensor) -> Tensor:
        visual = self.clip.visual
        output = visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        grid: Tensor = output["image_intermediates"][0]
        return grid if grid.ndim == 4 else to_grid(grid)

    def _embed_few(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenize(list(texts)).to(self.clip.logit_scale.device)
        embedded: Tensor = self.clip.encode_text(tokens, normalize=True)
        return embedded


class CheXzeroEnsemble(Model):
    """Several released files, whose probabilities of a finding are averaged."""

    def __init__(self, members: Sequence[CheXzero]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._members = tuple(members)
        self.preprocess = members[0].preprocess
        self.card = replace(CARD, capabilities=("matches",))

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the mean of the members' probabilities."""
        each = [member.probabilities(images, findings) for member in self._members]
        return torch.stack(each).mean(dim=0)


def load(source: str | None, seed: int) -> Model:
    """CheXzero from one file, or the ensemble of a folder's files; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit, a folder without
    files, and members with different input sizes.
    """
    if source is None:
        raise Misuse(
            "chexzero needs its weights: --model chexzero:FILE for one of the files of "
            f"{CARD.source}, or chexzero:FOLDER for the ensemble of all of them"
        )
    path = Path(source).expanduser()
    if not path.is_dir():
        model: Model = _read(path)
        model.identity = Identity("chexzero", digest(model))
        return model.eval()
    files = sorted(path.glob("*.pt"))
    if not files:
        raise BadCheckpoint(f"{path} contains no .pt file: put the files of {CARD.source} there")
    members = [_read(file) for file in files]
    if len({member.preprocess for member in members}) > 1:
        raise BadCheckpoint(
            f"the files in {path} have different input sizes: they are no ensemble; give one file"
        )
    model = CheXzeroEnsemble(members)
    model.identity = Identity(f"chexzero:ensemble-of-{len(files)}", digest(model))
    return model.eval()


def _read(file: Path) -> CheXzero:
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_to(state, "visual.conv1.weight", file)
    clip = _build(state, file)
    load_state(clip, state, file, _NON_WEIGHTS)
    return CheXzero(clip).eval()


def _build(state: State, file: Path) -> Any:
    """The CLIP of these shapes, with random weights and QuickGELU."""
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        context, text_width = state["positional_embedding"].shape
        vision = CLIPVisionCfg(
            layers=_count(state, "visual.transformer.resblocks."),
            width=width,
            head_width=min(_HEAD_WIDTH, width),
            patch_size=patch,
            image_size=patch * grid,
        )
        text = CLIPTextCfg(
            context_length=context,
            vocab_size=len(state["token_embedding.weight"]),
            width=text_width,
            heads=max(1, text_width // _HEAD_WIDTH),
            layers=_count(state, "transformer.resblocks."),
        )
        return open_clip.CLIP(state["text_projection"].shape[1], vision, text, quick_gelu=True)
    except (KeyError, ValueError, TypeError) as error:
        raise BadCheckpoint(
            f"{file} is not a CheXzero file, a CLIP with a ViT (missing or malformed: {error})"
        ) from error


def _count(state: State, prefix: str) -> int:
    """Number of blocks under a prefix."""
    return len({key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)})
