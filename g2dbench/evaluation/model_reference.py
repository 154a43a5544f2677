"""Resolves the argument of `--model` to a model that can be loaded.

NAME            a registered model that needs no weights (random-init)
NAME:SOURCE     a registered model with its weights: a file, a folder, or a hub id
RUN_DIR         a run folder of `g2dbench pretrain`
FILE.py         a plug-in file with a ModelCard
FILE            a weights file whose layout matches one registered model
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.evaluation.fingerprint import fingerprint
from g2dbench.model import Model
from g2dbench.registry import Registry, unknown_name
from g2dbench.runs.folder import RUN_FILE, load_run

_FOLDERS = re.compile(r"[^@:]*/")
"""What labels leave out of `encoder:resnet50@folder/best.pth`."""


class LicenseNote(UserWarning):
    """What the license of a loaded model forbids; the command line prints it as a note."""


@dataclass(frozen=True)
class ModelReference:
    """A model that can be loaded: a run folder, or a registered name with its source.

    per_seed: whether the seed determines the weights (random initialization).
    """

    text: str
    run: Path | None = None
    name: str | None = None
    source: str | None = None
    per_seed: bool = False

    def load(self, registry: Registry, seed: int) -> Model:
        """The model on the CPU in eval mode; seed: used only if `per_seed`.

        Computes the digest of the weights here and ignores the one that the wrapper states. Warns
        with a `LicenseNote` if the license of the weights forbids commercial use.
        """
        model = self.load_as_written(registry, seed).eval()
        if model.card.noncommercial:
            note = f"{model.identity.label}: no commercial use (license: {model.card.licence})"
            warnings.warn(note, LicenseNote, stacklevel=2)
        model.identity = replace(
            model.identity, digest=fingerprint(model).weights, source=self.text
        )
        return model

    def load_as_written(self, registry: Registry, seed: int) -> Model:
        """The model exactly as its `load` returns it: mode and identity are not changed."""
        if self.run is not None:
            return load_run(self.run, registry)
        assert self.name is not None
        model: Model = registry.find(ModelCard, self.name).load().load(self.source, seed)
        return model


def same_names(references: Sequence[ModelReference]) -> list[str]:
    """Labels that several of these models will have: their texts differ in folders alone.

    Known before a model is loaded; a label that leaves out more than the folder is not foreseen.
    """
    counts = Counter(_FOLDERS.sub("", reference.text) for reference in references)
    return [label for label, count in counts.items() if count > 1]


def resolve(text: str, registry: Registry) -> ModelReference:
    """The model that `--model TEXT` names; Misuse with the closest name if there is none."""
    names = [card.name for card in registry.cards(ModelCard)]
    name, colon, source = text.partition(":")
    if name in names and (colon or not Path(text).exists()):
        return _named(text, name, source or None, registry)
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".py" and path.is_file():
        card = registry.add_file(path).card
        if not isinstance(card, ModelCard):
            raise Misuse(
                f"{path} holds a {type(card).__name__}, not a ModelCard: pass it as --plugin {path}"
            )
        return _named(text, card.name, None, registry)
    if path.is_file():
        return _recognized(path, registry)
    noun = "model, run folder or weights file"
    raise Misuse(unknown_name(noun, text, names, "g2dbench list models"))


def _named(text: str, name: str, source: str | None, registry: Registry) -> ModelReference:
    card = registry.find(ModelCard, name).card
    if card.needs_weights and source is None:
        raise Misuse(
            f"model {name!r} needs weights: --model {name}:SOURCE, SOURCE a "
            f"{'folder or hub id' if card.source_kind == 'hub' else card.source_kind} "
            f"({card.source}). It is: {card.summary}"
        )
    return ModelReference(text, name=name, source=source, per_seed=not card.needs_weights)


def _folder(path: Path) -> ModelReference:
    if not (path / RUN_FILE).is_file():
        raise Misuse(
            f"{path} is not a run folder: it has no {RUN_FILE}; "
            "for a folder of published weights use --model NAME:FOLDER"
        )
    return ModelReference(str(path), run=path)


def _recognized(path: Path, registry: Registry) -> ModelReference:
    if path.name in (RUN_FILE, "model.safetensors") and (path.parent / RUN_FILE).is_file():
        return _folder(path.parent)
    from g2dbench.pretrained.weights import find_state, matching_cards, read_weights

    fitting = matching_cards(find_state(read_weights(path), path), registry.cards(ModelCard))
    if len(fitting) != 1:
        found = f"{' and '.join(fitting)} both recognize" if fitting else "no model recognizes"
        raise BadCheckpoint(
            f"{found} the layout of {path}: name its model, --model NAME:{path} "
            "(`g2dbench list models` lists the names and what each takes)"
        )
    return _named(f"{fitting[0]}:{path}", fitting[0], str(path), registry)
