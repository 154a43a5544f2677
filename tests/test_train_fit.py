"""Training: the same seed gives the same bits, also after an interruption; failures have words."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.cards import DatasetCard, MethodCard
from g2dbench.dataset import COLUMNS
from g2dbench.errors import BadCheckpoint, BadData, Misuse, Stopped
from g2dbench.method import Batch, Method
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.tokenizer import Tokenize
from g2dbench.pretrained.weights import digest
from g2dbench.recipes.recipe import Recipe, override
from g2dbench.registry import Entry, Registry
from g2dbench.runs import folder as runs
from g2dbench.runs.folder import RunFolder, load_run, newest_run
from g2dbench.sample import Sample
from g2dbench.training import fit as train
from g2dbench.training.optimizer import groups

CPU = torch.device("cpu")
WORDS = ("left", "right", "effusion", "nodule", "clear", "lungs", "heart", "normal")
CARD = MethodCard(name="toy", summary="a toy", paper="none", capabilities=("embeds",))


class Radiographs:
    """Bright left or bright right half, and a report that says which; in memory."""

    card = DatasetCard(
        name="fake", summary="", offers=("reports",), findings=(), url="", licence=""
    )
    size = 32

    def __init__(self, samples: list[Sample], fingerprint: str = "f" * 64) -> None:
        self.samples, self.fingerprint = samples, fingerprint
        rows = [{name: getattr(sample, name, False) for name in COLUMNS} for sample in samples]
        self.table = pd.DataFrame(rows, columns=list(COLUMNS))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def take(self, indices: Any) -> "Radiographs":
        return Radiographs([self.samples[index] for index in indices], self.fingerprint)

    def split(self, name: str) -> "Radiographs":
        return Radiographs([s for s in self.samples if s.split == name], self.fingerprint)


def some(train_count: int = 34, valid_count: int = 10, fingerprint: str = "f" * 64) -> Radiographs:
    rng = np.random.default_rng(0)
    samples = []
    for number in range(train_count + valid_count):
        image = rng.integers(0, 128, (32, 32), dtype=np.uint8)
        side = number % 2
        image[:, 16 * side : 16 * side + 16] += 100
        said = " ".join(rng.choice(WORDS[2:], 3))
        samples.append(
            Sample(
                id=f"i{number:03d}",
                image=image,
                patient=f"p{number}",
                view="PA",
                split="train" if number < train_count else "valid",
                report=f"{WORDS[side]} {said} {number}.",
            )
        )
    return Radiographs(samples, fingerprint)


class Toy(Method):
    """A convolution, a bag of words, dropout on both, and batch norm: everything with state."""

    def __init__(self, config: dict[str, Any], tokenizer: Any) -> None:
        super().__init__()
        width = config.get("width", 8)
        self.conv = nn.Conv2d(3, width, 8, 8)
        self.norm = nn.BatchNorm2d(width)
        self.words = nn.Embedding(len(tokenizer), width)
        self.tied = self.words.weight  # one storage under two names
        self.dropout = nn.Dropout(0.2)
        self.preprocess = Preprocess(size=32)
        self.tokenize = Tokenize(tokenizer, 16)
        self.architecture = dict(config)
        self.blow_up = config.get("blow_up_at", -1)

    def image(self, images: Tensor) -> Tensor:
        return F.normalize(self.dropout(self.norm(self.conv(images))).mean((2, 3)), dim=-1)

    def text(self, tokens: Tensor, attention: Tensor) -> Tensor:
        mask = attention.unsqueeze(-1)
        return F.normalize((self.dropout(self.words(tokens)) * mask).sum(1), dim=-1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.image(batch.images) @ self.text(batch.tokens, batch.attention).T / 0.1
        found = {"vla": F.cross_entropy(logits, torch.arange(len(logits)))}
        if batch.step >= 6:
            found["pa"] = self.conv.weight.square().mean()
        if batch.step == self.blow_up:
            found["vla"] = found["vla"] * float("nan")
        return found

    def monitors(self, batch: Batch) -> dict[str, float]:
        assert not self.training
        return {"attention_entropy": 0.999}

    def as_model(self) -> Model:
        return ToyModel(self)


class ToyModel(Model):
    def __init__(self, toy: Toy) -> None:
        super().__init__()
        self.toy, self.preprocess = toy, toy.preprocess

    def embed_images(self, images: Tensor) -> Tensor:
        return self.toy.image(images)

    def embed_texts(self, texts: Any) -> Tensor:
        return self.toy.text(*self.toy.tokenize(list(texts)))


def build(config: Any, tokenizer: Any, seed: int) -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy(dict(config), tokenizer)


class Toys(Registry):
    """A registry that knows the toy."""

    def find(self, kind: Any, name: str) -> Entry:
        if name == "toy":
            return SimpleNamespace(card=CARD, load=lambda: SimpleNamespace(build=build))  # type: ignore[return-value]
        return super().find(kind, name)


def recipe(**model: Any) -> Recipe:
    table = {"text": {"vocab_size": 80}, **model}
    return Recipe.model_validate(
        {
            "name": "toy-tiny",
            "method": "toy",
            "data": {"name": "fake", "size": 32},
            "model": table,
            "optim": {"lr": 0.05, "epochs": 3, "batch_size": 8, "warmup_steps": 2},
        }
    )


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit(out: Path | None, dataset: Radiographs | None = None, **changes: Any) -> RunFolder:
    chosen = changes.pop("recipe", None) or recipe()
    settings: dict[str, Any] = {
        "seed": 0, "device": CPU, "precision": "fp32", "registry": Toys(), "echo": lambda _: None,
    }  # fmt: skip
    return train.fit(chosen, dataset or some(), out, **{**settings, **changes})


def weights(run: RunFolder) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run.folder / runs.WEIGHTS_FILE)


def log_of(run: RunFolder) -> list[dict[str, str]]:
    with (run.folder / runs.LOG_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def newest(folder: Path) -> Path:
    return max((folder / runs.CHECKPOINTS).glob("step-*.pt"))


def interrupt_at(step: int) -> Callable[..., Iterator[Batch]]:
    """A progress that sends this process Ctrl-C while a step is running."""

    def progress(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    return progress


def test_a_run_is_whole_and_loads_as_the_model_that_was_trained(workplace: Path) -> None:
    said: list[str] = []
    run = fit(None, echo=said.append)
    assert run.folder == Path("runs/toy-tiny-s0")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"run.json", "model.safetensors", "tokenizer.json", "log.csv", "checkpoints"}
    model = load_run(run.folder, Toys())
    assert not model.training
    assert (model.identity.label, model.identity.seed) == ("toy-tiny", 0)
    assert model.identity.digest == run.info.digest
    assert model.card.trained_on == ("fake",)
    assert model.card.capabilities == ("embeds",)
    assert digest(model.toy) == run.info.digest  # type: ignore[arg-type]
    assert sum(line.startswith("epoch ") for line in said) == 3
    assert newest_run(Path("runs")) == run.folder


def test_the_log_has_a_row_per_epoch_with_what_was_watched(workplace: Path) -> None:
    rows = log_of(fit(None))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert rows[0]["pa"] == ""
    assert float(rows[1]["pa"]) > 0
    assert float(rows[2]["lr"]) < float(rows[1]["lr"])
    for name in ("vla", "r1", "r10", "chance_r10", "attention_entropy", "images_per_s"):
        assert all(float(row[name]) >= 0 for row in rows)
    assert float(rows[0]["pool"]) == 10


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(workplace: Path) -> None:
    first = fit(None)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    second, other = fit(None), fit(None, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert second.folder.name == "toy-tiny-s0-2"
    assert second.info.digest == first.info.digest
    assert other.info.digest != first.info.digest


@pytest.mark.parametrize("step", [0, 3, 5, 7, 11])
def test_an_interrupted_run_goes_on_to_the_same_weights(workplace: Path, step: int) -> None:
    whole = fit(workplace / "whole")
    out = workplace / "part"
    with pytest.raises(Stopped, match="--resume --out"):
        fit(out, progress=interrupt_at(step))
    with pytest.raises(BadCheckpoint, match="not finished"):
        load_run(out, Toys())
    resumed = fit(out, resume=True)
    assert resumed.info.digest == whole.info.digest
    left, right = weights(whole), weights(resumed)
    assert all(torch.equal(left[name], right[name]) for name in left)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in rows]
        for rows in (log_of(whole), log_of(resumed))
    ]
    assert timeless[0] == timeless[1]


def test_a_killed_run_goes_on_from_its_last_epoch(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(workplace / "whole")

    def die(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == 6:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        fit(None, progress=die)
    resumed = fit(None, resume=True)
    assert resumed.folder == Path("runs/toy-tiny-s0")
    assert resumed.info.digest == whole.info.digest


def test_a_checkpoint_holds_nothing_that_must_be_executed(workplace: Path) -> None:
    run = fit(None)
    kept = torch.load(newest(run.folder), weights_only=True)
    assert kept["epoch"] == 3


def test_resume_refuses_another_recipe_seed_or_data(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(5))
    with pytest.raises(Misuse, match=r"optim.lr: 0.05 / 0.01"):
        fit(out, resume=True, recipe=override(recipe(), ["optim.lr=0.01"]))
    with pytest.raises(Misuse, match="seed: 0 / 1"):
        fit(out, resume=True, seed=1)
    with pytest.raises(Misuse, match="data: fake ffffffff / fake eeeeeeee"):
        fit(out, some(fingerprint="e" * 64), resume=True)
    with pytest.raises(Misuse, match="precision: fp32 / bf16"):
        fit(out, resume=True, precision="bf16")
    with pytest.raises(Misuse, match=r"optim.epochs: 3 / 4"):
        fit(out, resume=True, epochs=4)


def test_resume_says_where_there_is_nothing_to_resume(workplace: Path) -> None:
    with pytest.raises(Misuse, match="no unfinished run of toy-tiny"):
        fit(None, resume=True)
    with pytest.raises(Misuse, match="no run to resume"):
        fit(workplace / "nowhere", resume=True)
    run = fit(workplace / "run")
    said: list[str] = []
    assert fit(run.folder, resume=True, echo=said.append).info == run.info
    assert "complete already" in said[0]


def test_broken_checkpoints_are_refused(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(5))
    for path in (out / runs.CHECKPOINTS).iterdir():
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadCheckpoint, match="broken"):
        fit(out, resume=True)


def test_a_run_folder_that_is_taken_is_refused(workplace: Path) -> None:
    run = fit(workplace / "run")
    with pytest.raises(Misuse, match="already holds a run"):
        fit(run.folder)
    (workplace / "full").mkdir()
    (workplace / "full" / "thesis.tex").touch()
    with pytest.raises(Misuse, match="holds other files"):
        fit(workplace / "full")
    with pytest.raises(Misuse, match="cannot be made"):
        fit(workplace / "full" / "thesis.tex")


def test_changed_recipes_and_other_data_get_labels_of_their_own(workplace: Path) -> None:
    assert fit(None, epochs=3).label == "toy-tiny"
    one = fit(None, epochs=1)
    assert one.label.startswith("toy-tiny+")
    assert one.folder.name == f"{one.label}-s0"
    elsewhere = recipe().model_copy(update={"data": recipe().data.model_copy(update={"name": "x"})})
    assert fit(None, recipe=elsewhere, epochs=1).label.endswith("@fake")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(workplace: Path) -> None:
    with pytest.raises(Stopped, match=r"not finite in epoch 2, batch 2 \(vla nan\).*optim.lr"):
        fit(workplace / "run", recipe=recipe(blow_up_at=5))
    kept = torch.load(newest(workplace / "run"), weights_only=True)
    assert kept["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in kept["method"].values())


def test_a_full_disk_leaves_the_last_checkpoint_whole(workplace: Path) -> None:
    whole = fit(workplace / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            yield batch

    try:
        with pytest.raises(Stopped, match=r"cannot be written .*make room.*--resume"):
            fit(workplace / "run", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = {path.name for path in (workplace / "run").iterdir()}
    assert names == {"run.json", "tokenizer.json", "log.csv", "checkpoints"}
    assert fit(workplace / "run", resume=True).info.digest == whole.info.digest


def test_warnings_say_in_words_what_went_wrong(workplace: Path) -> None:
    said: list[str] = []
    fit(None, epochs=1, echo=said.append)
    assert any("attention is all but uniform" in line for line in said)


def test_without_held_out_pairs_training_goes_on(workplace: Path) -> None:
    rows = log_of(fit(None, some(valid_count=0), epochs=1))
    assert "r10" not in rows[0]


def test_no_reports_and_an_unknown_method_are_said_before_anything_is_written(
    workplace: Path,
) -> None:
    with pytest.raises(BadData, match="no frontal training image"):
        fit(None, some(train_count=0))
    with pytest.raises(Misuse, match="no method 'g2'"):
        fit(None, recipe=recipe().model_copy(update={"method": "g2"}))
    assert not (workplace / "runs").exists()


def test_mixed_precision_trains_and_settings_may_change_in_one_process(workplace: Path) -> None:
    low = fit(None, precision="bf16", epochs=1)
    full = fit(None, epochs=1)
    assert low.info.digest != full.info.digest
    assert {value.dtype for value in weights(low).values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("run.json", b"{", "cannot be read"),
        ("run.json", b"[]", "schema version None"),
        ("run.json", b'{"schema_version": 9}', "schema version 9"),
        ("run.json", b'{"schema_version": 1}', "describes no run: label"),
        ("run.json", None, "cannot be read"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", b"{}", "cannot be rebuilt"),
        ("model.safetensors", None, "cannot read the weights"),
        ("model.safetensors", b"\x80\x04cos\nsystem\n(S'true'\ntR.", "safetensors"),
    ],
)
def test_a_broken_run_folder_is_refused_in_words(
    workplace: Path, file: str, content: bytes | None, said: str
) -> None:
    run = fit(None, epochs=1)
    path = run.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=said):
        load_run(run.folder, Toys())


def test_files_of_two_runs_are_refused(workplace: Path) -> None:
    one, two = fit(None, epochs=1), fit(None, epochs=1, seed=1)
    wide = fit(None, epochs=1, recipe=recipe(width=4))
    (one.folder / runs.WEIGHTS_FILE).write_bytes((two.folder / runs.WEIGHTS_FILE).read_bytes())
    with pytest.raises(BadCheckpoint, match="belong to two runs"):
        load_run(one.folder, Toys())
    (one.folder / runs.WEIGHTS_FILE).write_bytes((wide.folder / runs.WEIGHTS_FILE).read_bytes())
    with pytest.raises(BadCheckpoint, match=r"conv.weight is"):
        load_run(one.folder, Toys())
    lacking = weights(two)
    del lacking["norm.bias"]
    from safetensors.torch import save_file

    save_file(lacking, two.folder / runs.WEIGHTS_FILE)
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(norm.bias\)"):
        load_run(two.folder, Toys())


def test_the_newest_run_is_the_one_that_was_completed_last(workplace: Path) -> None:
    assert newest_run(workplace / "runs") is None
    first, second = fit(None, epochs=1), fit(None, epochs=1, seed=1)
    with pytest.raises(Stopped):
        fit(None, seed=2, progress=interrupt_at(5))
    assert newest_run(Path("runs")) == second.folder
    info = json.loads((first.folder / "run.json").read_text())
    info["finished"] = "2999-01-01T00:00:00+00:00"
    (first.folder / "run.json").write_text(json.dumps(info))
    assert newest_run(Path("runs")) == first.folder


def test_weight_decay_spares_biases_and_norms() -> None:
    toy = build({}, list(range(20)), 0)
    decayed, spared = groups(toy, 0.1)
    assert {tuple(w.shape) for w in decayed["params"]} == {(8, 3, 8, 8), (20, 8)}
    assert all(w.ndim == 1 for w in spared["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_importing_the_recipes_loads_no_torch() -> None:
    code = "import sys, g2dbench.recipes.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
