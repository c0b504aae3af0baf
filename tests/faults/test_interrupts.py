"""Real SIGINTs at random moments: ``python -m tests.faults.interrupts --runs 2000`` for many more.

``PYCLUSTERSHELL_INTERRUPTS=2000 python -m pytest tests/faults/test_interrupts.py`` does the same.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.programs import ROOT

RUNS = int(os.environ.get("PYCLUSTERSHELL_INTERRUPTS", "60"))

pytestmark = [
    pytest.mark.posix_only("needs os.kill with SIGINT"),
    pytest.mark.timeout(60 + RUNS),
]


def test_a_task_works_after_each_interrupt() -> None:
    # In a new interpreter: pytest has an opinion on KeyboardInterrupt.
    command = [sys.executable, "-m", "tests.faults.interrupts", "--runs", str(RUNS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
