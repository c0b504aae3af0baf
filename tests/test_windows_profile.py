"""The profile that plays Windows takes away what Windows has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import importlib, os, select, selectors, socket
import pytest
from pyclustershell.engine.engine import READ, Engine
from pyclustershell.engine.limits import ensure_descriptors
from pyclustershell.engine.polling import POLLING
from tests.tasks import fresh_task

def test_selectors_take_sockets_only():
    assert list(POLLING) == ["select"]
    assert not hasattr(select, "poll")
    engine = Engine()
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="not a socket"):
        engine.register(reading, READ, print)
    engine.close()
    os.close(reading), os.close(writing)

def test_modules_are_missing():
    ensure_descriptors(10**9, "no such limit there")
    for name in ("fcntl", "pwd", "resource"):
        with pytest.raises(ImportError):
            exec(f"import {name}", {"__name__": "pyclustershell.probe"})

def test_a_local_command_goes_through_sockets():
    with fresh_task() as task:
        worker = task.shell("cat; echo err >&2; exit 3", key="local", stderr=True)
        worker.write(b"x" * 1000000)
        worker.set_write_eof()
        task.resume()
        assert task.key_buffer("local") == b"x" * 1000000
        assert task.key_error("local") == b"err"
        assert task.key_retcode("local") == 3
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows need not be played there")
def test_the_profile_plays_windows() -> None:
    root = Path(__file__).parents[1]
    # Below tests/, for its conftest.
    probe = root / "tests" / "test_probe_of_the_windows_profile.py"
    probe.write_text(PROBE)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--windows-profile", str(probe)),
                *("-p", "no:cacheprovider"),
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        probe.unlink()
    assert "3 passed" in done.stdout, done.stdout
