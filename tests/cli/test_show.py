"""`g2dbench show` and `list`: the whole card, how to get the weights, and nothing heavy loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cards import Card, DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli import app
from g2dbench.registry import Registry

CARDS: dict[str, type[Card]] = {
    "model": ModelCard, "task": TaskCard, "data": DatasetCard, "method": MethodCard,
}  # fmt: skip
MODEL = """
CARD = ModelCard(
    name="radnet", summary="A model", paper="Lab, 2025", licence="CC BY-NC 4.0",
    source="huggingface.co/lab/radnet", capabilities=("embeds",), trained_on=("mimic_cxr",),
    source_kind="hub", files=("best.pt",), checksum=("best.pt sha256:00ff",), gated=True,
    noncommercial=True, input_size=512, text_needs="a tokenizer", tested_with=("torch 2.6",),
    openness="weights only", notes=("AUC .9 published, .7 reproduced.", "Another fact."),
)
"""


def shown(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("kind", CARDS)
def test_every_card_is_shown_whole(kind: str) -> None:
    for card in Registry().cards(CARDS[kind]):
        text = shown("show", kind, card.name)
        fields = [v for v in vars(card).values() if isinstance(v, str) and " " in v]
        assert card.name in text
        for value in fields:
            assert all(word in text for word in value.split()), (card.name, value)


def test_a_model_is_shown_with_the_way_to_its_weights(tmp_path: Path) -> None:
    (tmp_path / "radnet.py").write_text(MODEL)
    words = ("show", "model", "radnet", "--plugin", tmp_path / "radnet.py")
    text = shown(*words)
    for part in (
        "license: CC BY-NC 4.0; no commercial use; access on request",
        "input: 512 x 512 pixels", "texts need: a tokenizer", "open: weights only",
        "tested with: torch 2.6", "note: AUC .9 published, .7 reproduced.", "note: Another fact.",
        "download: hf download lab/radnet --local-dir FOLDER", "checksum: best.pt sha256:00ff",
        "here: not found", "give: --model radnet:FOLDER or radnet:ORGANIZATION/NAME",
        "then: g2dbench check-model radnet:FOLDER",
    ):  # fmt: skip
        assert part in text
    (tmp_path / "own" / "radnet").mkdir(parents=True)
    (tmp_path / "own" / "radnet" / "best.pt").write_bytes(b"x")
    assert "own/radnet" in shown(*words, "--weights", tmp_path / "own")


def test_a_model_without_weights_needs_no_way_to_them() -> None:
    text = shown("show", "model", "random-init")
    assert "none are needed" in text
    assert "then: g2dbench check-model random-init" in text


def test_a_suite_is_shown_with_its_rows() -> None:
    text = shown("show", "suite", "frozen")
    assert "Nearest neighbors cls:knn" in text


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    assert "did you mean 'biovil'" in shown("show", "model", "biovill", code=2)


def test_the_list_says_whether_weights_are_here(tmp_path: Path) -> None:
    (tmp_path / "radnet.py").write_text(MODEL)
    words = ("list", "models", "--plugin", tmp_path / "radnet.py")
    assert "here: not found license: CC BY-NC 4.0; no commercial use" in shown(*words)
    (tmp_path / "hub/models--lab--radnet/snapshots/a").mkdir(parents=True)
    (tmp_path / "hub/models--lab--radnet/snapshots/a/m.bin").write_bytes(b"x")
    assert "snapshots/a" in shown(*words)


@pytest.mark.parametrize("words", ["'list', 'models'", "'show', 'model', 'biovil'"])
def test_listing_and_showing_load_nothing_heavy(words: str) -> None:
    code = (
        "import sys; from g2dbench.cli import app;"
        f"app([{words}], standalone_mode=False);"
        "heavy = {'torch', 'pandas', 'transformers', 'timm'} & sys.modules.keys();"
        "sys.exit(' '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
