"""docs/architecture.md describes the code: its layers, folders, paths and state machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from pyclustershell.ssh.sftp.sftpstates import SFTP_MOVES, SftpState
from pyclustershell.ssh.states import COMMAND_MOVES, CONNECTION_MOVES, CommandState, ConnectionState
from tests.docs.test_layering import CONFINED, LAYERS, PACKAGE, ROOT, VALUES_LAYER

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = ROOT / PACKAGE


def section(title: str) -> str:
    """The text below a heading, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[1]


def table(title: str) -> list[list[str]]:
    """The cells of the table in a section, without its heading and its rule."""
    rows = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def folders() -> set[str]:
    """The folders of the package that hold modules."""
    return {f"{path.parent.relative_to(TREE)}/" for path in TREE.glob("**/*/__init__.py")}


def test_the_layers_are_those_of_the_layering_test() -> None:
    *rows, values = table("The layers")
    assert values[:2] == [str(VALUES_LAYER), "the other modules"]
    documented = {place.strip("`").rstrip("/"): int(layer) for layer, place, *_ in rows}
    assert {place.removesuffix(".py"): layer for place, layer in documented.items()} == LAYERS
    assert [int(layer) for layer, *_ in rows] == sorted(LAYERS.values(), reverse=True)


@pytest.mark.parametrize("package", CONFINED)
def test_the_importers_of_a_confined_package(package: str) -> None:
    rows = table("The layers")
    assert {row[1].strip("`/") for row in rows if package in row[3]} == CONFINED[package]


def test_every_folder_is_described() -> None:
    described = [row[0].strip("`") for row in table("The folders")]
    assert sorted(described) == sorted(folders())


def test_a_folder_is_described_by_its_own_modules() -> None:
    strays = [
        path
        for folder, text in table("The folders")
        for path in re.findall(r"`([\w/]+\.py)`", text)
        if path.rpartition("/")[0] != folder.strip("`/")
    ]
    assert strays == []


def test_every_path_exists() -> None:
    named = re.findall(r"`([\w/]+\.py|[\w/]+/)`", PAGE)
    assert len(named) > 50
    assert [path for path in named if not any((top / path).exists() for top in (TREE, ROOT))] == []


@pytest.mark.parametrize(
    ("title", "states", "moves"),
    [
        ("States of a connection", ConnectionState, CONNECTION_MOVES),
        ("States of a command", CommandState, COMMAND_MOVES),
        ("States of an SFTP session", SftpState, SFTP_MOVES),
    ],
)
def test_the_states_and_their_moves(title: str, states: Any, moves: Mapping[Any, Any]) -> None:
    documented = {
        (state, event, after)
        for state, _, cell in table(title)
        for events, _, after in (part.partition(" → ") for part in cell.split("; "))
        for event in events.split(", ")
    }
    assert documented == {
        (state.value, event.value, after.value) for (state, event), after in moves.items()
    }
    assert [row[0] for row in table(title)] == [state.value for state in states]


def test_the_terms_are_sorted_and_explained() -> None:
    terms = [row[0] for row in table("Terms")]
    assert terms == sorted(set(terms))
    assert all(meaning for _, meaning in table("Terms"))


def test_names_of_functions_and_tables_exist() -> None:
    for module, name in re.findall(r"`(ssh/[\w/]+\.py)`, ([A-Z_]+):", PAGE):
        assert f"\n{name}: " in (TREE / module).read_text(encoding="utf-8")
    assert "\ndef decide(" in (TREE / "ssh" / "pool.py").read_text(encoding="utf-8")
