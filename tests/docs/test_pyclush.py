"""docs/pyclush.md: its examples are run, and its tables have all options."""

from __future__ import annotations

import optparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell.cli.clush import make_parser
from pyclustershell.cli.manner import OWN
from pyclustershell.cli.program import Call

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pyclush.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.S)
HELP = {"-h", "--help", "--version"}


def options() -> list[optparse.Option]:
    parser = make_parser(Call("pyclush", [], OWN))
    groups = [parser, *parser.option_groups]
    return [
        option
        for group in groups
        for option in group.option_list
        if option.help != optparse.SUPPRESS_HELP
    ]


def test_the_tables_have_all_options_and_no_others() -> None:
    names = {name for each in options() for name in (*each._short_opts, *each._long_opts)} - HELP  # type: ignore[attr-defined]
    cells = [row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `-")]
    documented = {
        name for cell in cells for name in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", cell)
    }
    prompt = {"-NODES"}
    assert documented - prompt == names


@pytest.mark.posix_only("the examples are for a POSIX shell")
@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_an_example(command: str, shown: str, tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S602 the page's own commands
        command.replace("pyclush", f"'{sys.executable}' -m pyclustershell pyclush", 1),
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "CLUSTERSHELL_CFGDIR": str(tmp_path),
        },
    )
    assert done.stdout == shown


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 3
