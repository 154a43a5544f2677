"""Stored embeddings give the scores of the model that computed them, and faults are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.models import embeddings as stored_embeddings
from support.models.small_baselines import load

from g2dbench.data.store.store import Store
from g2dbench.errors import BadCheckpoint, BadData, Misuse, Unsupported
from g2dbench.evaluation.prompts import load_prompts
from g2dbench.evaluation.sweep import grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.model import Model, capabilities
from g2dbench.registry import Registry
from g2dbench.system.machine import Machine

pytestmark = pytest.mark.integration

IDS, IMAGES = ["b", "a", "c"], np.array([[3, 4, 0], [1, 0, 0], [0, 0, 2]], np.float64)
TEXTS, ROWS = ["no Edema", "Edema"], np.array([[0, 5, 0], [0, 0, 3]], np.float32)


def write(file: Path, **changes: Any) -> Path:
    """The three images and two texts above, or what `changes` says instead."""
    arrays = {"ids": IDS, "images": IMAGES, "texts": TEXTS, "text_embeddings": ROWS, **changes}
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    return file


def write_parquet(file: Path) -> Path:
    named = [{"id": i, "embedding": row} for i, row in zip(IDS, IMAGES.tolist(), strict=True)]
    texts = [{"text": t, "embedding": row} for t, row in zip(TEXTS, ROWS.tolist(), strict=True)]
    pd.DataFrame([*texts, *named]).to_parquet(file)
    return file


class Named:
    def __init__(self, name: str) -> None:
        self.id = name


def rows(model: Any, *names: str) -> torch.Tensor:
    return model.inputs([Named(name) for name in names])


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_both_formats_give_each_id_its_vector_and_each_text_its_own(
    tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"e.{form}"
    model: Any = load("embeddings", write(file) if form == "npz" else write_parquet(file))
    assert model.pooled(rows(model, "c", "b", "a")).tolist() == [[0, 0, 2], [3, 4, 0], [1, 0, 0]]
    torch.testing.assert_close(
        model.embed_images(rows(model, "b")), torch.tensor([[0.6, 0.8, 0.0]])
    )
    assert model.embed_texts(["Edema", "no Edema"]).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert capabilities(model) == ("embeds", "features") == model.card.capabilities
    assert model.identity.label == f"embeddings:{file.name}"
    with pytest.raises(Unsupported, match=r"one vector for each image"):
        model.features(rows(model, "a"))


def test_a_file_without_texts_offers_features_alone(tmp_path: Path) -> None:
    model = load("embeddings", write(tmp_path / "e.npz", texts=None, text_embeddings=None))
    assert capabilities(model) == ("features",) == model.card.capabilities


def test_an_unknown_id_or_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    model: Any = load("embeddings", write(tmp_path / "e.npz"))
    with pytest.raises(BadData, match=r"e\.npz has no embedding of 2 of 3 images \('d', ''\)"):
        rows(model, "a", "d", "")
    with pytest.raises(BadData, match=r"no embedding of the text 'edema'; it has 2 texts"):
        model.embed_texts(["Edema", "edema"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["a", "b", "a"]}, "several embeddings of one id: 'a'"),
        ({"ids": ["a", "b"]}, "2 ids and 3 embeddings"),
        ({"images": IMAGES * [[1], [np.nan], [1]]}, "zero values: 'a'"),
        ({"images": IMAGES * [[1], [0], [1]]}, "zero values: 'a'"),
        ({"images": IMAGES[:, :2] + 1}, "2 numbers and text embeddings of 3"),
        ({"images": IMAGES[0]}, r"shape \(3,\)"),
        ({"images": np.array([["x"]])}, "expected"),
        ({"images": None}, "images"),
        ({"ids": np.array([{}, {}, {}])}, "not a readable file of embeddings"),
        ({"texts": ["x", "x"]}, "several embeddings of one text: 'x'"),
        ({"text_embeddings": None}, "text_embeddings"),
    ],
)
def test_an_inconsistent_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadCheckpoint, match=message) as caught:
        load("embeddings", write(tmp_path / "e.npz", **changes))
    assert "e.npz" in str(caught.value)


@pytest.mark.parametrize("name", ["e.npz", "e.parquet", "e.csv"])
@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCheckpoint, match=name):
        load("embeddings", tmp_path / name)


def test_parquet_without_columns_or_with_both_names_in_a_row_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    pd.DataFrame({"id": ["a"]}).to_parquet(file)
    with pytest.raises(BadCheckpoint, match="embedding"):
        load("embeddings", file)
    pd.DataFrame({"id": ["a"], "text": ["b"], "embedding": [[1.0]]}).to_parquet(file)
    with pytest.raises(BadCheckpoint, match="either an `id` or a `text`"):
        load("embeddings", file)
    with pytest.raises(Misuse, match=r"embeddings:FILE\.npz"):
        load("embeddings")


def outcomes(
    model: str, store: Path, out: Path, *tasks: str, protocol: str | None = None
) -> list[grid.Outcome]:
    requested = grid.Grid(
        models=[model],
        datasets=["synthetic:120"],
        tasks=tasks,
        store=store,
        size=64,
        protocol=protocol,
    )
    bench = Workbench(Registry())
    machine = Machine(device=torch.device("cpu"))
    return list(grid.run(requested.cells(bench), bench, machine, out))


def test_scores_are_those_of_the_model_that_computed_the_embeddings(
    small_store: Path, tmp_path: Path
) -> None:
    original: Any = load("random-init")
    file = tmp_path / "e.npz"
    data = next(Store(f.parent) for f in small_store.rglob("manifest.json"))
    # One by one, as a user would: the engine encodes in chunks, so the last bits differ.
    embedded = [embed(original, sample.image) for sample in data]
    prompts = [
        text
        for name in load_prompts("g2d").promptable(data.card.findings)
        for text in (name, f"no {name}")
    ]
    write(
        file, ids=[sample.id for sample in data], images=np.stack(embedded),
        texts=prompts, text_embeddings=original.embed_texts(prompts).detach().numpy(),
    )  # fmt: skip
    stored = outcomes(f"embeddings:{file}", small_store, tmp_path / "r", "zeroshot", "cls", "seg")
    computed = outcomes("random-init", small_store, tmp_path / "o", "zeroshot")
    assert [cell.result.status for cell in stored] == ["done", "done", "unsupported"]
    for name, score in computed[0].result.scores.items():
        assert stored[0].result.scores[name].value == pytest.approx(score.value, abs=0.02), name


@pytest.mark.parametrize(
    ("task", "protocol", "reason"),
    [
        ("finetune", "g2d", "fine-tuning changes the encoder"),
        ("cls", "lora", "cls lora changes the encoder"),
        ("cls", "mgca", "the augmentation 'mgca' changes the images"),
        ("robustness", "probe", "robustness corrupts the images"),
        ("robustness", "zeroshot", "robustness corrupts the images"),
    ],
)
def test_a_task_that_changes_pixels_or_weights_is_unsupported(
    small_store: Path, tmp_path: Path, task: str, protocol: str, reason: str
) -> None:
    """The stored outputs would be scored as those of images that nothing was computed from."""
    file = stored_embeddings.write(tmp_path)
    (cell,) = outcomes(f"embeddings:{file}", small_store, tmp_path / "r", task, protocol=protocol)
    assert cell.result.status == "unsupported"
    assert f"has stored outputs by image id, but {reason}" in str(cell.result.reason)
    assert not cell.result.scores


@torch.no_grad()
def embed(model: Model, image: Any) -> Any:
    images = model.preprocess(image)[None]
    return model.embed_images(images)[0].numpy()  # type: ignore[operator]
