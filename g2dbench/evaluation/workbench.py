"""What the cells of one process share: plug-ins, open data sets, and the model in memory."""

from collections.abc import Mapping
from pathlib import Path

from g2dbench.cards import TaskCard
from g2dbench.data import prepared, reference
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.model_reference import Reference, resolve
from g2dbench.model import Model
from g2dbench.registry import Registry
from g2dbench.task import Task


class Workbench:
    """Opens what a `CellSpec` names, and keeps it for the next cell.

    One model is kept, the last one: order cells by model. `datasets` holds data sets that are open
    already, by the name that specs use; others are found in the spec's store.
    """

    def __init__(self, registry: Registry, datasets: Mapping[str, Dataset] | None = None) -> None:
        self.registry = registry
        self._datasets: dict[tuple[str, Path | None, int | None], Dataset] = {}
        self._given = dict(datasets or {})
        self._loaded: tuple[str, int, Model] | None = None

    @classmethod
    def of(cls, spec: CellSpec) -> "Workbench":
        """A workbench in a process of its own, with the plug-ins that the spec names."""
        return cls(Registry(spec.plugins))

    def task(self, name: str) -> Task:
        """The task's module."""
        module: Task = self.registry.find(TaskCard, name).load()
        return module

    def reference(self, text: str) -> Reference:
        """What `--model TEXT` means."""
        return resolve(text, self.registry)

    def model(self, spec: CellSpec) -> Model:
        """The spec's model; raises whatever loading it raises."""
        if self._loaded is None or self._loaded[:2] != (spec.model, spec.model_seed):
            self._loaded = None  # two large models never lie in memory together
            loaded = self.reference(spec.model).load(self.registry, spec.model_seed)
            self._loaded = (spec.model, spec.model_seed, loaded)
        return self._loaded[2]

    def dataset(self, spec: CellSpec) -> Dataset:
        """The spec's data set; BadData where it is not prepared."""
        if spec.data in self._given:
            return self._given[spec.data]
        if spec.store is None:
            raise Misuse(f"the cell names the data set {spec.data!r} and no store to find it in")
        key = (spec.data, spec.store, spec.size)
        if key not in self._datasets:
            asked = reference.parse(spec.data)
            self._datasets[key] = prepared.prepared(
                asked.name,
                None,
                spec.store,
                registry=self.registry,
                size=spec.size,
                split=asked.split,
            ).named(spec.data)
        return self._datasets[key]
