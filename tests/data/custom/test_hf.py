"""The reader of Hugging Face data sets."""

from pathlib import Path

import pandas as pd
import pytest
from support.data.custom_data import save_image

from g2dbench.data.custom import hf
from g2dbench.data.prepare import prepare
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box

REGISTRY = Registry()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    hf._open.cache_clear()
    return tmp_path


def hf_root(root: Path) -> Path:
    import datasets

    for index in range(6):
        save_image(root.parent / f"raw/{index}.png", 60 + index)
    rows = {
        "image": [str(root.parent / f"raw/{index}.png") for index in range(6)],
        "report": [f"Report {index}." for index in range(6)],
        "label": [0, 1, 1, 0, -1, 1],
        "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [0]}] * 5
        + [{"bbox": [], "category": []}],
    }
    features = datasets.Features({
        "image": datasets.Image(),
        "report": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["clear", "ill"]),
        "objects": {
            "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
            "category": datasets.List(datasets.ClassLabel(names=["nodule"])),
        },
    })  # fmt: skip
    dataset = datasets.Dataset.from_dict(rows, features=features)
    parts = {"train": dataset.select(range(4)), "test": dataset.select(range(4, 6))}
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return root


def test_features_are_found_by_type(hub_cache: Path) -> None:
    root = hf_root(hub_cache / "saved")
    card = hf.describe(root, {})
    assert card.offers == ("reports", "labels", "boxes")
    assert card.findings == ("clear", "ill", "nodule")
    found = list(hf.read(root, {}))
    assert [item.id for item in found[:2]] == ["train/000000000", "train/000000001"]
    assert [item.labels for item in found[3:5]] == [{"clear": 1, "ill": 0}, None]
    assert found[0].boxes == (Box("nodule", 1, 2, 4, 6),)
    assert found[5].boxes == ()
    assert {item.split for item in found[4:]} == {"test"}
    assert found[2].report == "Report 2."


def test_several_processes_prepare_the_same_store(hub_cache: Path) -> None:
    root = hf_root(hub_cache / "saved")
    request = {"progress": quiet, "registry": REGISTRY, "size": 16, "own_name": "mine"}
    one_process = prepare("hf", root, hub_cache / "one", **request)
    two_processes = prepare("hf", root, hub_cache / "two", workers=1, **request)
    assert len(one_process) == 6
    assert one_process.fingerprint == two_processes.fingerprint
    assert one_process[0].image.max() in range(55, 66)


def test_webdataset_and_class_folders_are_read(hub_cache: Path) -> None:
    import tarfile

    for index in range(3):
        save_image(hub_cache / f"raw/p{index}.png", 80)
        (hub_cache / f"raw/p{index}.txt").write_text(f"Text {index}.")
    root = hub_cache / "shards"
    root.mkdir()
    with tarfile.open(root / "train-0000.tar", "w") as tar:
        for path in sorted((hub_cache / "raw").iterdir()):
            tar.add(path, path.name)
    assert [(item.id, item.report) for item in hf.read(root, {})] == [
        ("p0", "Text 0."), ("p1", "Text 1."), ("p2", "Text 2."),
    ]  # fmt: skip
    for name in ("cat/a", "dog/b"):
        save_image(hub_cache / f"folder/{name}.png")
    found = list(hf.read(hub_cache / "folder", {}))
    assert [item.labels for item in found] == [{"cat": 1, "dog": 0}, {"cat": 0, "dog": 1}]
    assert all(item.data.read()[:4] == b"\x89PNG" for item in found)


def test_files_outside_the_data_set_are_refused(hub_cache: Path) -> None:
    save_image(hub_cache / "secret.png")
    root = hub_cache / "evil"
    root.mkdir()
    rows = {"image": [{"bytes": None, "path": str(hub_cache / "secret.png")}]}
    pd.DataFrame(rows).to_parquet(root / "train.parquet")
    (found,) = hf.read(root, {"image": "image"})
    with pytest.raises(BadData, match="outside the data set"):
        found.data.read()


def test_errors_name_the_option_or_the_folder(hub_cache: Path, monkeypatch) -> None:
    root = hf_root(hub_cache / "saved")
    with pytest.raises(Misuse, match="the features are image, report"):
        hf.describe(root, {"text": "txt"})
    with pytest.raises(Misuse, match="no ClassLabel"):
        hf.describe(root, {"label": "report"})
    with pytest.raises(BadData, match="without a network"):
        hf.describe(Path("nobody/nothing"), {})
    (hub_cache / "empty").mkdir()
    with pytest.raises(BadData, match="cannot read the folder"):
        hf.describe(hub_cache / "empty", {})
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    hf._open.cache_clear()
    with pytest.raises(Misuse, match=r"pip install \"g2dbench\[hf\]\""):
        hf.describe(root, {})
