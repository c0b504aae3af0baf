"""Jobs of Windows: a local command with its descendants."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pyclustershell.local.child import ChildProcess
from pyclustershell.local.group import SIGKILL

if sys.platform != "win32":
    pytest.skip("only Windows has jobs", allow_module_level=True)

from pyclustershell.local.job import Job

PYTHON = sys.executable
WAITING = "input()"
# Starts a process that waits, which is outside of the job.
LEAVING = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {WAITING!r}], creationflags={0x01000000})
print("left", flush=True)
input()
"""


def start(code: str) -> ChildProcess:
    return ChildProcess([PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def end(process: ChildProcess) -> None:
    process.group.signal(SIGKILL)
    process.wait(30)
    process.close_pipes()


def test_a_group_ends_with_its_last_process() -> None:
    process = start(WAITING)
    assert process.group.signal(0)
    assert repr(process.group).endswith(": 1 processes>")
    assert process.group.signal(SIGKILL)
    process.wait(30)
    assert not process.group.signal(0)
    assert not process.group.signal(SIGKILL)
    end(process)


def test_a_process_may_leave() -> None:
    process = start(LEAVING)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"left"
    assert isinstance(process.group, Job)
    assert process.group.size == 1
    end(process)  # the one that left ends at the end of its input, which is this process's


def test_a_command_runs_without_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError("no nested jobs")

    monkeypatch.setattr(Job, "add", refuse)
    process = start(WAITING)
    assert process.poll() is None
    assert not process.group.signal(0)
    assert process.group.signal(SIGKILL)
    assert process.wait(30)
    end(process)
