"""docs/manners.md has the table of the manners and the names of all programs."""

from __future__ import annotations

from pathlib import Path

from pyclustershell.cli.manner import CLUSTERSHELL, OWN, Manner
from pyclustershell.cli.wrappers import PROGRAMS

PAGE = (Path(__file__).parents[2] / "docs" / "manners.md").read_text(encoding="utf-8")


def test_the_table_has_all_fields_and_no_others() -> None:
    rows = [line.split("|") for line in PAGE.partition("## Where they differ")[2].splitlines()]
    documented = [row[1].strip(" `") for row in rows if len(row) > 3]
    assert documented[2:] == list(Manner._fields)


def test_the_manners_differ_in_all_fields() -> None:
    same = [name for name in Manner._fields if getattr(OWN, name) == getattr(CLUSTERSHELL, name)]
    assert same == []


def test_all_programs_are_named() -> None:
    assert [name for name in PROGRAMS if f"`{name}`" not in PAGE] == []
