"""Names, options and splits of user data."""

from collections import Counter
from pathlib import Path

import pytest
from support.data.custom_data import write_pairs

from g2dbench.data.custom._splits import UserSplits
from g2dbench.data.prepare import find_store, prepare, require_store
from g2dbench.errors import Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

REGISTRY = Registry()


def test_user_data_are_prepared_and_found_under_their_name(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "root", "image,text,caption\n" + "".join(
        f"img/{i}.png,Text {i} here.,Other {i} options.\n" for i in range(6)
    ))  # fmt: skip
    ask = {"progress": quiet, "registry": REGISTRY, "size": 16, "own_name": "my_set"}
    store = prepare("pairs", root, tmp_path / "store", **ask)
    assert (store.card.name, store.card.offers) == ("my_set", ("reports",))
    assert "No column names the patient" in store.card.summary
    again = require_store("my_set", None, tmp_path / "store", registry=REGISTRY)
    assert again.fingerprint == store.fingerprint
    assert find_store("my_set", root, tmp_path / "store").folder == store.folder
    assert find_store("my_set", tmp_path, tmp_path / "store") is None
    other = prepare("pairs", root, tmp_path / "store", options={"text": "caption"}, **ask)
    assert other.folder != store.folder
    assert {sample.report[:5] for sample in other} == {"Other"}
    assert 'with {"text": "caption"}' in other.manifest.origin
    with pytest.raises(Misuse, match="more than once"):
        require_store("my_set", root, tmp_path / "store", registry=REGISTRY)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pairs", {}, "needs a name"),
        ("pairs", {"own_name": "a/b"}, "letters, digits"),
        ("pairs", {"own_name": "rsna"}, "taken by a data set"),
        ("pairs", {"own_name": "x", "options": {"imag": "a"}}, "did you mean 'image'"),
        ("rsna", {"own_name": "x"}, "omit it for the data set"),
        ("rsna", {"options": {"image": "x"}}, "there is no option of 'rsna'"),
    ],
)
def test_impossible_requests_are_misuse(
    tmp_path: Path, name: str, options: dict, message: str
) -> None:
    with pytest.raises(Misuse, match=message):
        prepare(name, tmp_path, tmp_path / "s", progress=quiet, registry=REGISTRY, **options)


def test_a_missing_validation_split_is_added() -> None:
    names = [f"p{index}" for index in range(400)]
    two = UserSplits(["training", "test"])
    counts = Counter(two.of("Training", name) for name in names)
    assert set(counts) == {"train", "valid"}
    assert 50 < counts["valid"] < 110
    assert {two.of("test", name) for name in names} == {"test"}
    assert [two.of("train", name) for name in names] == [two.of("train", name) for name in names]
    assert UserSplits(["train"]).of("train", "p") is None
    assert UserSplits(["train", "dev", "test"]).of("dev", "p") == "valid"
