"""Columns on demand: what a reader wants to know of an entry beside its score.

A fact is a text about one model in one column of the leaderboard, "" where it is not known.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.data import prepared_stores, reference
from g2dbench.data.shared_patients import shared_test_patients
from g2dbench.data.store.store import Store
from g2dbench.errors import BadResult, G2DBenchError, Misuse
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.registry import Registry, unknown_name
from g2dbench.reporting import reproduction
from g2dbench.reporting.class_sizes import class_sizes
from g2dbench.reporting.leaderboard.entries import Column
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard
from g2dbench.reporting.stored_results import StoredResult
from g2dbench.result import Result


@dataclass
class FactSources:
    """Where facts are read: model cards, stored predictions, prepared data sets in `store`."""

    registry: Registry
    store: Path
    places: Mapping[int, StoredResult]
    _cards: dict[str, ModelCard] = field(default_factory=dict)
    _stores: dict[str, Store | None] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: Registry, store: Path, stored: Iterable[StoredResult]) -> "FactSources":
        """The sources of these results."""
        cards = {card.name: card for card in registry.cards(ModelCard)}
        return cls(registry, store, {id(each.result): each for each in stored}, cards)

    def card(self, run: Result) -> ModelCard | None:
        """The card of a run's model: the one that the result names, or that of its label."""
        stated = _model(run).get("card")
        label = run.cell.model.partition(":")[0].partition("#")[0]
        return self._cards.get(str(stated) if stated else label)

    def prepared(self, name: str) -> Store | None:
        """The prepared data set of a name; None if there is none, or several that differ."""
        if name not in self._stores:
            try:
                data = reference.parse(name)
                self._stores[name] = prepared_stores.find_store(
                    data.name, None, self.store, split=data.split
                )
            except G2DBenchError:
                self._stores[name] = None
        return self._stores[name]


def _model(run: Result) -> Mapping[str, object]:
    """What the result says of its model; empty in results of older versions."""
    found = run.provenance.config.get("model")
    return found if isinstance(found, dict) else {}


Runs = Sequence[Result]


def _images(runs: Runs, sources: FactSources) -> str:
    return _joined(str(run.counts["test"]) for run in runs if "test" in run.counts)


def _positives(runs: Runs, sources: FactSources) -> str:
    """Patients with each finding, from the predictions of the first run that has some."""
    for run in runs:
        place = sources.places.get(id(run))
        if place is None or (path := place.predictions()) is None:
            continue
        try:
            sizes = class_sizes(read_predictions(path))
        except (G2DBenchError, ValueError, TypeError):
            return "unreadable"
        return ", ".join(f"{finding} {present}" for finding, (present, _) in sizes.items())
    return ""


def _parameters(runs: Runs, sources: FactSources) -> str:
    numbers = [_model(run).get("parameters") for run in runs]
    return _joined(f"{n / 1e6:.1f} M" for n in numbers if isinstance(n, int))


def _cost(runs: Runs, sources: FactSources) -> str:
    """Seconds of all runs together, and the largest peak memory."""
    done = [run.provenance for run in runs if run.status == "done"]
    if not done:
        return ""
    memory = max(origin.peak_memory_mib for origin in done)
    return f"{sum(origin.seconds for origin in done):.0f} s, {memory:.0f} MiB"


def _openness(runs: Runs, sources: FactSources) -> str:
    cards = (sources.card(run) for run in runs)
    return _joined(card.openness for card in cards if card is not None)


def _overlap(runs: Runs, sources: FactSources) -> str:
    return _joined(text for run in runs for text in _overlaps(run, sources))


def _overlaps(run: Result, sources: FactSources) -> list[str]:
    """One text for each pre-training data set of a run's model."""
    stated = _model(run).get("trained_on")
    card = sources.card(run)
    names = stated if isinstance(stated, list) else card.trained_on if card is not None else ()
    tested = sources.prepared(run.cell.data)
    found = []
    for name in map(str, names):
        pretraining = sources.prepared(name)
        same = _base(name) == _base(run.cell.data)
        if tested is not None and pretraining is not None:
            shared, every = shared_test_patients(pretraining, tested)
            found.append(f"{name}: {shared} of {every} test patients")
        else:
            found.append(f"{name}: the same data set" if same else f"{name}: not prepared here")
    return found


def _base(data: str) -> str:
    """A data set's name without its split and count."""
    return data.partition("@")[0].partition(":")[0]


def _oracle(runs: Runs, sources: FactSources) -> str:
    return "yes" if any("oracle" in run.metric for run in runs) else "no"


def _imported(runs: Runs, sources: FactSources) -> str:
    return "yes" if any(run.details.get("imported") is True for run in runs) else "no"


def _command(runs: Runs, sources: FactSources) -> str:
    """The command of the first run; the other runs differ in seeds."""
    try:
        return shlex.join(["g2dbench", *reproduction.command_of(runs[0])])
    except BadResult as error:
        return str(error)


def _versions(runs: Runs, sources: FactSources) -> str:
    every = [{"g2dbench": r.provenance.version, **r.provenance.packages} for r in runs]
    return _joined(", ".join(f"{name} {text}" for name, text in each.items()) for each in every)


def _split(runs: Runs, sources: FactSources) -> str:
    """Digests of the data and of the training subsets, shortened."""
    return _joined(f"{r.provenance.data[:8]}/{r.provenance.subset[:8]}" for r in runs)


def _joined(texts: Iterable[str]) -> str:
    """The different texts of several runs."""
    return "; ".join(dict.fromkeys(filter(None, texts)))


FACTS: Mapping[str, Callable[[Runs, FactSources], str]] = {
    "n": _images,
    "positives": _positives,
    "params": _parameters,
    "cost": _cost,
    "openness": _openness,
    "overlap": _overlap,
    "oracle": _oracle,
    "imported": _imported,
    "command": _command,
    "versions": _versions,
    "split": _split,
}
"""Names for --columns."""


def parse_facts(text: str) -> tuple[str, ...]:
    """`n,params` -> ("n", "params"); Misuse for an unknown name."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FACTS:
            raise Misuse(unknown_name("column", name, list(FACTS)))
    return names


def collect_facts(
    board: Leaderboard, names: Sequence[str], sources: FactSources
) -> dict[tuple[str, Column], dict[str, str]]:
    """The named facts of every model and column with a result."""
    return {
        key: {name: FACTS[name](runs, sources) for name in names}
        for key, runs in board.runs.items()
    }
