"""The examples of the programs' pages: each command prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["pynodeset.md", "pyclubak.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: The file that a block of this kind is.
FILES = {"ini": "groups.conf", "text": "log"}


def blocks(page: str) -> list[tuple[str, str]]:
    """The kinds and the texts of a page's blocks."""
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def examples() -> Iterator[tuple[str, str, str]]:
    """The page, the command and the output of each example."""
    for page in PAGES:
        for kind, text in blocks(page):
            if kind == "console":
                for example in text.split("$ ")[1:]:
                    command, _, output = example.partition("\n")
                    yield page, command, output


EXAMPLES = list(examples())


@pytest.mark.posix_only("the examples run in a Unix shell")
@pytest.mark.parametrize(("page", "command", "output"), EXAMPLES)
def test_an_example(page: str, command: str, output: str, tmp_path: Path) -> None:
    for kind, text in blocks(page):
        if kind in FILES:
            (tmp_path / FILES[kind]).write_text(text)
    for name in ("pynodeset", "pyclubak"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pyclustershell {name} "$@"\n')
        script.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "CLUSTERSHELL_CFGDIR": str(tmp_path),
        },
    )
    assert done.stdout == output


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 25
