"""Shared by the cells of one process: plug-ins, open data sets, the model in memory."""

from collections.abc import Mapping
from pathlib import Path

from g2dbench.cards import TaskCard
from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.model_reference import ModelReference, resolve
from g2dbench.model import Model
from g2dbench.registry import Registry
from g2dbench.task import Task


class Workbench:
    """Loads what a `CellSpec` names, and keeps it for the next cell.

    Only the last model stays in memory, so order cells by model. datasets: open data sets by their
    name in the specs; others are opened from the spec's store.
    """

    def __init__(self, registry: Registry, datasets: Mapping[str, Dataset] | None = None) -> None:
        self.registry = registry
        self._datasets: dict[tuple[str, Path | None, int | None], Dataset] = {}
        self._given = dict(datasets or {})
        self._references: dict[str, ModelReference] = {}
        self._models: dict[str, Model] = {}
        self._loaded: tuple[str, int, Model] | None = None

    @classmethod
    def of(cls, spec: CellSpec) -> "Workbench":
        """A workbench for a new process, with the plug-ins that the spec names."""
        return cls(Registry(spec.plugins))

    def add_dataset(self, name: str, dataset: Dataset) -> None:
        """Use an open data set for the specs that name it so."""
        self._given[name] = dataset

    def add_model(self, text: str, model: Model) -> None:
        """Use a loaded model for the specs that name it so."""
        self._models[text] = model
        self._references[text] = ModelReference(text, name=text)

    def has_dataset(self, name: str) -> bool:
        """Whether `add_dataset` was called with this name."""
        return name in self._given

    def task(self, name: str) -> Task:
        """The task's module."""
        module: Task = self.registry.find(TaskCard, name).load()
        return module

    def reference(self, text: str) -> ModelReference:
        """The model that `--model TEXT` names; a weights file is examined once."""
        if text not in self._references:
            self._references[text] = resolve(text, self.registry)
        return self._references[text]

    def model(self, spec: CellSpec) -> Model:
        """The spec's model; passes on any exception of its loader."""
        if spec.model in self._models:
            return self._models[spec.model]
        if self._loaded is None or self._loaded[:2] != (spec.model, spec.model_seed):
            self._loaded = None  # never two large models in memory
            loaded = self.reference(spec.model).load(self.registry, spec.model_seed)
            self._loaded = (spec.model, spec.model_seed, loaded)
        return self._loaded[2]

    def dataset(self, spec: CellSpec) -> Dataset:
        """The spec's data set; BadData if it is not prepared."""
        if spec.data in self._given:
            return self._given[spec.data]
        if spec.store is None:
            raise Misuse(f"the cell names the data set {spec.data!r} but no store that contains it")
        key = (spec.data, spec.store, spec.size)
        if key not in self._datasets:
            self._datasets[key] = open_prepared(
                spec.data, spec.store, self.registry, size=spec.size
            )
        return self._datasets[key]
