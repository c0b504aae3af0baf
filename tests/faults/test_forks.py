"""Programs that fork: ``python -m tests.faults.forks`` for many more rounds.

``PYCLUSTERSHELL_FORKS=50 python -m pytest tests/faults/test_forks.py`` runs each pattern 50 times.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.faults.forks import PATTERNS
from tests.helpers.programs import ROOT

RUNS = int(os.environ.get("PYCLUSTERSHELL_FORKS", "1"))

pytestmark = [
    pytest.mark.posix_only("Windows has no fork"),
    pytest.mark.timeout(60 + 20 * RUNS),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_parent_and_child_share_nothing(pattern: str) -> None:
    # In a new interpreter: the children end in the ordinary way, with all handlers of atexit.
    # Old paramiko with new cryptography warns when it is imported.
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.forks", pattern]
    command += ["--runs", str(RUNS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
