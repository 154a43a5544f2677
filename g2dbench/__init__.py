"""g2dbench: trains G2D and evaluates vision-language models on chest radiographs.

The names below are the interface for plug-ins and for Python programs. They are imported on first
use, so that `import g2dbench` and listing are fast; a test pins the list.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2dbench.api import evaluate, leaderboard, load_results
    from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
    from g2dbench.dataset import Dataset
    from g2dbench.errors import BadCheckpoint, BadData, G2DBenchError, Misuse, Unsupported
    from g2dbench.method import Batch, Method
    from g2dbench.model import Grounding, Identity, Model, capabilities
    from g2dbench.preprocess import Preprocess
    from g2dbench.result import Score
    from g2dbench.sample import Box, Record, Sample
    from g2dbench.task import Run

__version__ = "0.1.0"

_HOME = {
    "g2dbench.api": ("evaluate", "leaderboard", "load_results"),
    "g2dbench.cards": ("DatasetCard", "MethodCard", "ModelCard", "TaskCard"),
    "g2dbench.sample": ("Box", "Record", "Sample"),
    "g2dbench.dataset": ("Dataset",),
    "g2dbench.errors": ("BadCheckpoint", "BadData", "G2DBenchError", "Misuse", "Unsupported"),
    "g2dbench.method": ("Batch", "Method"),
    "g2dbench.model": ("Grounding", "Identity", "Model", "capabilities"),
    "g2dbench.preprocess": ("Preprocess",),
    "g2dbench.result": ("Score",),
    "g2dbench.task": ("Run",),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "BadCheckpoint",
    "BadData",
    "Batch",
    "Box",
    "Dataset",
    "DatasetCard",
    "G2DBenchError",
    "Grounding",
    "Identity",
    "Method",
    "MethodCard",
    "Misuse",
    "Model",
    "ModelCard",
    "Preprocess",
    "Record",
    "Run",
    "Sample",
    "Score",
    "TaskCard",
    "Unsupported",
    "capabilities",
    "evaluate",
    "leaderboard",
    "load_results",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'g2dbench' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
