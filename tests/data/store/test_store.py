"""A prepared store as a data set: rows, table, splits, subsets, pickling, speed."""

import pickle
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from packaging.version import Version
from support.data.stores import REGISTRY, make_root, quiet

from g2dbench.data.prepare import prepare
from g2dbench.data.store.manifest import ROWS_FILE
from g2dbench.data.store.store import Store
from g2dbench.dataset import COLUMNS, Dataset
from g2dbench.errors import BadData, Misuse

pytestmark = pytest.mark.integration


def test_the_store_is_a_data_set_in_id_order(store: Store) -> None:
    data: Dataset = store
    assert len(data) == 40
    assert [sample.id for sample in data] == [f"p{index:03d}" for index in range(40)]
    assert (data.size, data.card.name) == (32, "rsna")
    assert data[0].image.shape == (32, 32)
    assert data[-1].id == "p039"
    assert [sample.id for sample in data.take([3, 1])] == ["p003", "p001"]
    with pytest.raises(IndexError):
        data[40]


def test_annotation_is_in_stored_pixels(store: Store) -> None:
    sample = store[0]
    box = sample.boxes[0]
    assert box[1:] == pytest.approx((100 / 32, 200 / 32, 400 / 32, 600 / 32))
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    assert sample.masks["Pneumonia"].sum() == pytest.approx(area, rel=0.15)
    assert (store[1].boxes, store[1].masks, store[1].labels) == ((), {}, {"Pneumonia": 0})


def test_the_table_has_the_contracts_columns(store: Store) -> None:
    assert list(store.table.columns) == [*COLUMNS, "label:Pneumonia"]
    assert store.table["label:Pneumonia"].sum() == 14
    assert store.table["report"].isna().all()
    assert store.table["has_boxes"].all()
    part = store.split("valid").take([2, 0])
    assert list(part.table["id"]) == [part[0].id, part[1].id]


def test_splits_are_stratified_and_hold_each_patient_once(store: Store) -> None:
    parts = [store.split(name) for name in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [24, 8, 8]
    positive = [int(part.table["label:Pneumonia"].sum()) for part in parts]
    np.testing.assert_allclose(positive, [14 * share for share in (0.6, 0.2, 0.2)], atol=1)
    with pytest.raises(Misuse, match="no split 'dev'"):
        store.split("dev")
    with pytest.raises(BadData, match="no test images"):
        store.split("train").split("test")


def test_images_can_be_written_to_without_touching_the_store(store: Store) -> None:
    before = store[0].image
    store[0].image[:] = 0
    np.testing.assert_array_equal(store[0].image, before)


def test_a_subset_can_be_pickled(store: Store) -> None:
    part = store.split("valid")
    again = pickle.loads(pickle.dumps(part))  # noqa: S301
    assert [sample.id for sample in again] == [sample.id for sample in part]
    assert again.fingerprint == store.fingerprint
    assert len(pickle.dumps(part)) < 1500


def test_a_renamed_store_keeps_its_rows_and_its_name_in_every_part(store: Store) -> None:
    part = store.named("rsna:40").split("valid")
    assert part.card.name == "rsna:40"
    assert pickle.loads(pickle.dumps(part)).card == part.card  # noqa: S301
    assert (store.card.name, part.fingerprint) == ("rsna", store.fingerprint)


@pytest.mark.skipif(
    Version(datasets.__version__) < Version("5.1"), reason="datasets knows digests from 5.1 on"
)
def test_hugging_face_datasets_opens_the_file(store: Store) -> None:
    opened = datasets.Dataset.from_file(str(store.folder / ROWS_FILE))
    assert opened[5]["id"] == "p005"
    assert opened[5]["pixels"] == store[5].image.tobytes()


def test_random_reads_decode_nothing(tmp_path: Path) -> None:
    store = prepare(
        "rsna", make_root(tmp_path / "root", 60, side=128), tmp_path / "s", progress=quiet,
        registry=REGISTRY, size=128,
    )  # fmt: skip
    places = np.random.default_rng(0).integers(0, 60, 500).tolist()
    best = min(timed(lambda: [store[place] for place in places]) for _ in range(5))
    # 40 us on a quiet core; the bound only catches decoding or pandas on the way.
    assert best / len(places) < 500e-6


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
