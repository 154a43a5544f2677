"""The registry: reads cards without running plug-ins, suggests names, refuses duplicates."""

import subprocess
import sys
from pathlib import Path

import pytest

from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.errors import BadData, Misuse
from g2dbench.registry import Registry, read_card, unknown_name

CARD = (
    'CARD = ModelCard(name="{name}", summary="s", paper="p", source="u", licence="l", '
    'capabilities=("embeds",))\n'
)


def plugin(folder: Path, name: str, before: str = "", file: str = "plug.py") -> Path:
    path = folder / file
    path.write_text(before + CARD.format(name=name))
    return path


def test_a_card_is_read_without_running_the_file(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    file = plugin(tmp_path, "mine", before=f"open({str(marker)!r}, 'w').close()\n")
    registry = Registry([file])
    assert "mine" in [card.name for card in registry.cards(ModelCard)]
    assert not marker.exists()
    registry.find(ModelCard, "mine")
    assert not marker.exists()


def test_a_card_with_a_computed_value_is_refused_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "plug.py"
    file.write_text("\nCARD = ModelCard(name=make_name())\n")
    with pytest.raises(BadData, match=r"plug\.py, line 2.*literal"):
        read_card(file)


def test_a_card_with_an_unknown_capability_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plug.py"
    file.write_text(CARD.format(name="x").replace("embeds", "emmbeds"))
    with pytest.raises(BadData, match="emmbeds"):
        read_card(file)


def test_a_file_without_a_card_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plug.py"
    file.write_text("x = 1\n")
    with pytest.raises(Misuse, match="not a g2dbench plug-in"):
        Registry([file])


def test_an_unreadable_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "plug.py"
    file.write_bytes(b"\xff\xfe\x00(")
    with pytest.raises(BadData, match=r"plug\.py"):
        Registry([file])


def test_two_plugins_with_the_same_name_are_refused(tmp_path: Path) -> None:
    one = plugin(tmp_path, "same", file="one.py")
    other = plugin(tmp_path, "same", file="other.py")
    with pytest.raises(Misuse, match=r"two plug-ins are called 'same'"):
        Registry([one, other])


@pytest.mark.parametrize(
    ("kind", "typo", "meant"),
    [
        (TaskCard, "sge", "seg"),
        (ModelCard, "random_init", "random-init"),
        (DatasetCard, "sintetic", "synthetic"),
        (MethodCard, "convrit", "convirt"),
    ],
)
def test_a_typo_is_answered_with_the_closest_name(kind: type, typo: str, meant: str) -> None:
    with pytest.raises(Misuse, match=f"did you mean '{meant}'"):
        Registry().find(kind, typo)


def test_a_long_list_of_names_is_left_to_its_command() -> None:
    with pytest.raises(Misuse) as caught:
        Registry().find(ModelCard, "biovill")
    count = len(Registry().cards(ModelCard))
    assert str(caught.value) == (
        "there is no model 'biovill': did you mean 'biovil' or 'biovil-t'? "
        f"`g2dbench list models` lists all {count}"
    )
    assert "Known: attention, cls, " in _refusal(TaskCard, "zzz")
    assert "did you mean" not in _refusal(ModelCard, "zzz")
    names = [f"name-{number}" for number in range(40)]
    assert unknown_name("thing", "zzz", names).endswith("name-15 and 24 others")


def _refusal(kind: type, name: str) -> str:
    with pytest.raises(Misuse) as caught:
        Registry().find(kind, name)
    return str(caught.value)


def test_every_builtin_plugin_exports_its_interface() -> None:
    registry = Registry()
    exports = {
        ModelCard: ("load",),
        TaskCard: ("predict", "score", "PROTOCOLS"),
        MethodCard: ("build",),
    }
    for kind, names in exports.items():
        assert registry.cards(kind)
        for card in registry.cards(kind):
            module = registry.find(kind, card.name).load()
            assert card == module.CARD
            assert all(hasattr(module, name) for name in names), card.name


def test_a_task_card_lists_its_protocols_in_order() -> None:
    registry = Registry()
    for card in registry.cards(TaskCard):
        module = registry.find(TaskCard, card.name).load()
        assert tuple(module.PROTOCOLS) == card.protocols


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from g2dbench.registry import Registry; from g2dbench import cards;"
        "[Registry().cards(k) for k in (cards.ModelCard, cards.TaskCard, cards.DatasetCard)];"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["baselines", "tasks"])
def test_plugin_folders_cannot_be_imported_by_their_bare_names(name: str, project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"g2dbench.{name}" in done.stderr
