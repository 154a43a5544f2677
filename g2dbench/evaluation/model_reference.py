"""From what stands after `--model` to a loaded model.

NAME            a registered model that needs no weights (random-init)
NAME:SOURCE     a registered model with its weights: a file, a folder, or a hub id
RUN_DIR         a folder that `g2dbench pretrain` wrote
FILE.py         a plug-in file with a ModelCard
FILE            a weights file whose layout one registered model recognises
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.evaluation.fingerprint import fingerprint
from g2dbench.model import Model
from g2dbench.registry import Registry, unknown
from g2dbench.runs.folder import RUN_FILE, load_run

_FOLDERS = re.compile(r"[^@:]*/")
"""What labels leave out of `encoder:resnet50@folder/best.pth`."""


@dataclass(frozen=True)
class Reference:
    """A model that can be loaded: a run folder, or a registered name with its source."""

    text: str
    run: Path | None = None
    name: str | None = None
    source: str | None = None
    per_seed: bool = False

    def load(self, registry: Registry, seed: int) -> Model:
        """The model on the CPU in eval mode; `seed` matters only where `per_seed`.

        Its digest is measured here, whatever the wrapper says of it.
        """
        model = self._loaded(registry, seed).eval()
        model.identity = replace(
            model.identity, digest=fingerprint(model).weights, source=self.text
        )
        return model

    def _loaded(self, registry: Registry, seed: int) -> Model:
        if self.run is not None:
            return load_run(self.run, registry)
        assert self.name is not None
        model: Model = registry.find(ModelCard, self.name).load().load(self.source, seed)
        return model


def same_names(references: Sequence[Reference]) -> list[str]:
    """Labels that several of these models will have: their texts differ in folders alone.

    Known before a model is loaded; a label that leaves out more than the folder is not foreseen.
    """
    counts = Counter(_FOLDERS.sub("", reference.text) for reference in references)
    return [label for label, count in counts.items() if count > 1]


def resolve(text: str, registry: Registry) -> Reference:
    """What `--model TEXT` means; Misuse with the nearest name where it means nothing."""
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
        return _recognised(path, registry)
    raise Misuse(unknown("model, run folder or weights file", text, names))


def _named(text: str, name: str, source: str | None, registry: Registry) -> Reference:
    card = registry.find(ModelCard, name).card
    if card.needs_weights and source is None:
        raise Misuse(
            f"model {name!r} needs weights: --model {name}:SOURCE, SOURCE a "
            f"{'folder or hub id' if card.source_kind == 'hub' else card.source_kind} "
            f"({card.source}). It is: {card.summary}"
        )
    return Reference(text, name=name, source=source, per_seed=not card.needs_weights)


def _folder(path: Path) -> Reference:
    if not (path / RUN_FILE).is_file():
        raise Misuse(
            f"{path} is no run folder: it has no {RUN_FILE}; "
            "for a folder of published weights say --model NAME:FOLDER"
        )
    return Reference(str(path), run=path)


def _recognised(path: Path, registry: Registry) -> Reference:
    if path.name in (RUN_FILE, "model.safetensors") and (path.parent / RUN_FILE).is_file():
        return _folder(path.parent)
    from g2dbench.pretrained.weights import find_state, read_weights, recognise

    fitting = recognise(find_state(read_weights(path), path), registry.cards(ModelCard))
    if len(fitting) != 1:
        found = f"{' and '.join(fitting)} both recognise" if fitting else "no model recognises"
        raise BadCheckpoint(
            f"{found} the layout of {path}: name its model, --model NAME:{path} "
            "(`g2dbench list models` lists the names and what each takes)"
        )
    return _named(f"{fitting[0]}:{path}", fitting[0], str(path), registry)
