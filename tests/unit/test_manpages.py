"""The manual pages of the programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell.cli.manpages import man_page, write_man_pages
from pyclustershell.cli.options import option_groups
from pyclustershell.cli.wrappers import PROGRAMS, parser_of
from tests.helpers.programs import ROOT

OWN = ["pyclubak", "pyclush", "pynodeset"]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_page_has_every_option(name: str) -> None:
    page = man_page(name)
    for _, options in option_groups(parser_of(name)):
        for option in options:
            for each in str(option).split("/"):
                assert "\\fB{}\\fR".format(each.replace("-", "\\-")) in page


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_page_has_all_parts_and_short_lines(name: str) -> None:
    page = man_page(name)
    parts = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
    assert [part for part in parts if f".SH {part}\n" not in page] == []
    assert [line for line in page.splitlines() if len(line) > 100] == []


@pytest.mark.needs("groff")
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_groff_has_no_warnings_and_shows_what_was_written(name: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou"],
        input=man_page(name),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    shown = letters(done.stdout)
    for _, options in option_groups(parser_of(name)):
        for option in options:
            assert letters(option.help or "") in shown, option


def letters(text: str) -> str:
    """A text without blanks and hyphens: lines are broken, also in words."""
    return re.sub(r"[\s\u2010-]", "", text)


def test_the_pages_of_the_tree_are_those_of_the_programs(tmp_path: Path) -> None:
    written = write_man_pages(str(tmp_path), OWN)
    assert [os.path.basename(path) for path in written] == [f"{name}.1" for name in OWN]
    kept = ROOT / "man" / "man1"
    assert sorted(path.name for path in kept.iterdir()) == [f"{name}.1" for name in OWN]
    for path in map(Path, written):
        same = path.read_text() == (kept / path.name).read_text()
        assert same, "run: python -m pyclustershell man man"


def test_other_pages_are_not_overwritten(tmp_path: Path) -> None:
    theirs = tmp_path / "man1" / "pyclush.1"
    theirs.parent.mkdir()
    theirs.write_text("another page")
    done = subprocess.run(
        [sys.executable, "-m", "pyclustershell", "man", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "another file of this name" in done.stderr
    assert [path.name for path in theirs.parent.iterdir()] == ["pyclush.1"]


@pytest.mark.posix_only("there is no man(1) on Windows")
def test_the_old_names_get_their_pages(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pyclustershell", "commands", str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pages = sorted(path.name for path in (tmp_path / "man" / "man1").iterdir())
    assert pages == ["clubak.1", "cluset.1", "clush.1", "nodeset.1"]
