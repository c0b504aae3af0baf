"""File descriptors that run out in the middle of a run: ``python -m tests.faults.descriptors``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.programs import ROOT

pytestmark = [
    pytest.mark.posix_only("Windows has no such limit"),
    pytest.mark.timeout(240),
]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.faults.descriptors", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("spare", ["0", "3", "12"])
def test_each_node_has_an_outcome_and_the_task_works_afterwards(spare: str) -> None:
    assert run(spare) == f"{spare} to spare: ok\n"


def test_no_module_is_loaded_in_a_run() -> None:
    """To load one takes a descriptor: the import would fail in the middle of the run."""
    assert run("--imports") == "\n"
