"""`g2dbench data ...`: every command names data in the same way."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app


def run(*words: object, store: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, words), "--store", str(store)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`synthetic:6` at 64 px, by the command."""
    folder = tmp_path_factory.mktemp("store")
    words = ("data", "prepare", "synthetic:6", "--size", 64, "--workers", 0)
    code, text = run(*words, store=folder)
    assert code == 0, text
    return folder


COMMANDS = {
    "prepare": ("data", "prepare", "{}", "--size", 64),
    "show": ("data", "show", "{}", "--size", 64),
    "verify": ("data", "verify", "{}", "--size", 64),
    "overlap": ("data", "overlap", "{}", "{}", "--size", 64),
    "export": ("data", "export", "{}", "--size", 64, "--out", "OUT"),
    "eval": ("eval", "--task", "cls", "--model", "random-init", "--data", "{}"),
    "figure": ("figure", "random-init", "--data", "{}"),
    "pretrain": ("pretrain", "--data", "{}"),
    "ablate": ("ablate", "decoder", "--data", "{}", "--out", "OUT"),
    "rm": ("data", "rm", "{}", "--yes"),
}


def words_of(command: str, name: str, folder: Path) -> list[str]:
    words = [str(word).replace("{}", name) for word in COMMANDS[command]]
    return [word.replace("OUT", str(folder / "out")) for word in words]


@pytest.mark.parametrize("command", ["prepare", "show", "verify", "overlap", "export"])
def test_a_number_of_synthetic_images_is_accepted(
    command: str, store: Path, tmp_path: Path
) -> None:
    code, text = run(*words_of(command, "synthetic:6", tmp_path), store=store)
    assert code == 0, text
    assert "synthetic" in text or "6 images" in text
    assert len(list(store.glob("synthetic-*"))) == 1


def test_the_name_of_a_store_is_accepted(store: Path, tmp_path: Path) -> None:
    (folder,) = store.glob("synthetic-*")
    for command in ("show", "verify", "overlap", "export"):
        code, text = run(*words_of(command, folder.name, tmp_path), store=store)
        assert code == 0, text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("synthetic:", "names no data set"),
        ("synthetic:6@mgca", "not both"),
        ("rsna:9", "only an embedded data set accepts a number"),
        ("synthetic:0", "can be generated"),
    ],
)
def test_a_wrong_name_is_refused_with_the_same_message(
    command: str, name: str, said: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if command == "rm" and name in ("synthetic:0", "rsna:9"):
        said = "is prepared in"
    code, text = run(*words_of(command, name, tmp_path), store=store)
    assert (code, said in text) == (2, True), text


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "pretrain"])
def test_shards_are_streamed_by_pretrain_alone(command: str, store: Path, tmp_path: Path) -> None:
    code, text = run(*words_of(command, "stream:/nowhere", tmp_path), store=store)
    assert code == 2
    assert "only `g2dbench pretrain --data` takes" in text


def test_a_recipe_of_another_method_is_refused(store: Path) -> None:
    words = ("pretrain", "--recipe", "convirt-tiny", "--method", "g2d")
    code, text = run(*words, store=store)
    assert code == 2
    assert "recipe 'convirt-tiny' trains 'convirt', not --method g2d" in text
