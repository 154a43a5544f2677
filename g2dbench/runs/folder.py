"""The run folder that a pre-training writes, and the model that is loaded from it.

    run.json           what was trained on which data, and whether training is complete; `RunInfo`
    model.safetensors  the method's weights, once training is complete
    tokenizer.json     the tokenizer
    log.csv            one row per epoch
    checkpoints/       training states, read only by `--resume`

A folder may be untrusted: no code in it is executed, and invalid content is refused.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

import g2dbench
from g2dbench.cards import MethodCard, ModelCard
from g2dbench.dataset import DataSource
from g2dbench.errors import BadCheckpoint
from g2dbench.field_errors import first_sentence
from g2dbench.method import Method
from g2dbench.model import Identity, Model
from g2dbench.pretrained.tensor_files import save_tensors
from g2dbench.pretrained.text.tokenizer import MAX_VOCAB_SIZE, TOKENIZER_FILE, load_tokenizer
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights, state_digest
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.system.bounded_files import read_json
from g2dbench.system.environment import source_state
from g2dbench.system.files import replace_file
from g2dbench.system.memory import bounded_memory, out_of_memory
from g2dbench.system.offline import no_network

SCHEMA = 1
RUN_FILE, WEIGHTS_FILE, LOG_FILE = "run.json", "model.safetensors", "log.csv"
CHECKPOINTS = "checkpoints"
MAX_BYTES = 1 << 20
MAX_SETTING = 1 << 16
"""Largest number in `architecture`: widths, depths, image sizes; vocabularies may be larger."""
SPARE_BYTES = 2 << 30
"""What building a model may take besides four times its weights."""
RUNS = Path("runs")
"""Default parent of run folders, relative to the working directory."""


class RunInfo(BaseModel):
    """The content of `run.json`.

    label: row of the leaderboard. architecture: the `[model]` table that rebuilds the method.
    data, fingerprint, pairs: name and fingerprint of the data set, number of training pairs.
    digest: of the weights, once complete. processes: number of processes, each with batches of
    `optim.batch_size`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    label: str
    recipe: Recipe
    architecture: dict[str, Any]
    seed: int = Field(ge=0)
    data: str
    fingerprint: str
    pairs: int
    status: Literal["running", "complete"] = "running"
    digest: str | None = None
    precision: str
    device: str
    processes: int = 1
    version: str = g2dbench.__version__
    commit: str | None = None
    dirty: bool | None = None
    created: str = ""
    finished: str | None = None


class RunFolder:
    """A run on disk."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.folder, self.info = folder, info

    @property
    def label(self) -> str:
        """The row of the leaderboard."""
        return self.info.label

    def write_info(self) -> None:
        """Write `run.json` atomically."""
        text = self.info.model_dump_json(indent=1)
        replace_file(self.folder / RUN_FILE, lambda path: path.write_text(text, encoding="utf-8"))

    def finish(self, weights: Mapping[str, Tensor]) -> None:
        """Write the weights, a full state_dict, then mark the run as complete."""
        # Clones, because safetensors refuses two names for the same storage.
        state = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        save_tensors(self.folder / WEIGHTS_FILE, state)
        done = {"status": "complete", "digest": state_digest(weights), "finished": now()}
        self.info = self.info.model_copy(update=done)
        self.write_info()


def label_of(recipe: Recipe, dataset: DataSource) -> str:
    """The recipe's name, plus "@data" if it is not trained on the data set it was written for."""
    name = dataset.card.name
    return recipe.name if name == recipe.data.name else f"{recipe.name}@{name}"


def now() -> str:
    """The time in UTC, to the microsecond, so that runs can be sorted."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def new_run_info(
    recipe: Recipe,
    dataset: DataSource,
    method: Method,
    seed: int,
    pairs: int,
    *,
    device: str,
    precision: str,
    processes: int = 1,
) -> RunInfo:
    """The `run.json` of a training that starts now, on this many pairs."""
    commit, dirty = source_state()
    return RunInfo(
        label=label_of(recipe, dataset),
        recipe=recipe,
        architecture=method.architecture,
        seed=seed,
        data=dataset.card.name,
        fingerprint=dataset.fingerprint,
        pairs=pairs,
        commit=commit,
        dirty=dirty,
        created=now(),
        precision=precision,
        device=device,
        processes=processes,
    )


def scan_runs(parent: Path) -> tuple[list[tuple[Path, RunInfo]], list[str]]:
    """All runs in a folder of runs, sorted by name, and a sentence for each broken `run.json`."""
    found, problems = [], []
    for file in sorted(parent.glob(f"*/{RUN_FILE}")):
        try:
            found.append((file.parent, read_info(file.parent)))
        except BadCheckpoint as error:
            problems.append(str(error))
    return found, problems


def all_runs(parent: Path) -> list[tuple[Path, RunInfo]]:
    """All readable runs in a folder of runs, complete or not, sorted by name."""
    return scan_runs(parent)[0]


def newest_run(parent: Path) -> Path | None:
    """The run folder in `parent` that was completed last; None if none is complete."""
    runs = [(info.finished, folder) for folder, info in all_runs(parent) if info.finished]
    return max(runs)[1] if runs else None


def read_info(folder: Path) -> RunInfo:
    """Read a folder's `run.json`; raises BadCheckpoint if it is invalid."""
    path = folder / RUN_FILE
    try:
        raw = read_json(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{path} cannot be read: {error}") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version not in range(1, SCHEMA + 1):
        raise BadCheckpoint(
            f"{path} has schema version {version!r}; this g2dbench reads 1 to {SCHEMA}"
        )
    try:
        return RunInfo.model_validate(raw)
    except ValidationError as error:
        raise BadCheckpoint(f"{path} does not describe a run: {first_sentence(error)}") from error


def load_run(folder: Path, registry: Registry | None = None) -> Model:
    """The model of a complete run, on the CPU in eval mode, with card and identity.

    Raises BadCheckpoint for a run that is incomplete or damaged, or whose files do not belong
    together, with the missing and unexpected keys.
    """
    info = read_info(folder)
    if info.status != "complete":
        raise BadCheckpoint(
            f"the run in {folder} is not finished: continue it with `g2dbench pretrain --resume "
            f"--out {folder}` and the options that it started with"
        )
    registry = registry or Registry()
    method = _rebuild(folder, info, registry)
    file = folder / WEIGHTS_FILE
    load_state(method, find_state(read_weights(file), file, inside=()), file)
    if digest(method) != info.digest:
        raise BadCheckpoint(
            f"{file} holds other weights than {folder / RUN_FILE} says (digest "
            f"{digest(method)[:12]}, not {str(info.digest)[:12]}): the files are of different runs"
        )
    model = method.as_model()
    model.card = _card(info, registry)
    model.identity = Identity(info.label, str(info.digest), info.seed)
    return model.eval()


def _rebuild(folder: Path, info: RunInfo, registry: Registry) -> Method:
    """The method that `run.json` describes, with fresh weights."""
    module = registry.find(MethodCard, info.recipe.method).load()
    file = folder / WEIGHTS_FILE
    weights = file.stat().st_size if file.is_file() else 0
    _check_sizes(folder, "architecture", info.architecture)
    with no_network() as refused, bounded_memory(4 * weights + SPARE_BYTES):
        try:
            tokenizer = load_tokenizer(_required_file(folder, TOKENIZER_FILE))
            method: Method = module.build(info.architecture, tokenizer, info.seed)
        except Exception as error:  # a stranger's values may raise anything in the libraries
            if isinstance(error, BadCheckpoint):
                raise
            detail: object = _network_sentence(refused) if refused else error
            if out_of_memory(error):
                detail = f"its {RUN_FILE} describes a model larger than its {WEIGHTS_FILE}"
            raise BadCheckpoint(f"the run in {folder} cannot be rebuilt: {detail}") from error
    if refused:
        raise BadCheckpoint(f"the run in {folder} was not rebuilt: {_network_sentence(refused)}")
    return method


def _check_sizes(folder: Path, name: str, value: object) -> None:
    """BadCheckpoint for a number in `architecture` that no model has."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_sizes(folder, f"{name}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            _check_sizes(folder, name, inner)
    elif isinstance(value, int | float):
        most = MAX_VOCAB_SIZE if name.endswith(".vocab_size") else MAX_SETTING
        if not abs(value) <= most:
            raise BadCheckpoint(
                f"{folder / RUN_FILE}: {name} is {value:g}; the numbers of a model are at most "
                f"{most:,}"
            )


def _network_sentence(refused: list[str]) -> str:
    return (
        f"its {RUN_FILE} names something on the network ({refused[0]}), but a run has all its "
        f"files; if you trust it, replace the entry of `architecture` by a local file"
    )


def _required_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise BadCheckpoint(f"the run in {folder} has no {name}")
    return path


def _card(info: RunInfo, registry: Registry) -> ModelCard:
    """The card of a run's model, derived from its method's card."""
    method = registry.find(MethodCard, info.recipe.method).card
    return ModelCard(
        name=info.label,
        summary=f"{info.recipe.method} pre-trained on {info.data} by g2dbench {info.version}",
        paper=method.paper,
        source="a g2dbench run folder",
        licence="that of the training data",
        capabilities=method.capabilities,
        trained_on=(info.data,),
        source_kind="folder",
    )
