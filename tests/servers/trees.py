"""Processes with their descendants, of Linux: whether they run, and their end.

This module imports nothing but the standard library: tests/windows/linuxside.py uses it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STOP_DEADLINE = 5.0


def process_runs(pid: int) -> bool:
    """True if a process is running: neither gone nor a zombie.

    An orphan can stay a zombie for long if the system's first process does not wait for its
    children, as in containers.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    # "pid (name) state ...": the name may hold blanks and parentheses.
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def local_process_runs(pid: int) -> bool:
    """True if a process of this system is running; under wine, of Windows."""
    if sys.platform != "win32":
        return process_runs(pid)
    synchronize, timed_out = 0x00100000, 0x102
    handle = _kernel32().OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return bool(_kernel32().WaitForSingleObject(handle, 0) == timed_out)
    finally:
        _kernel32().CloseHandle(handle)


def end_local_process(pid: int) -> None:
    """End a process of this system; under wine, of Windows."""
    os.kill(pid, signal.SIGTERM)


def _kernel32() -> Any:
    import ctypes

    library = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
    library.OpenProcess.restype = ctypes.c_void_p
    library.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.CloseHandle.argtypes = [ctypes.c_void_p]
    return library


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a server and every process that it started, and wait until they are gone."""
    if sys.platform == "win32":  # tests end only programs of Linux with this
        raise NotImplementedError
    if process.poll() is not None:
        return
    # A listener that is stopped cannot start another session while we count the old ones.
    process.send_signal(signal.SIGSTOP)
    sessions = _descendants(process.pid)
    process.kill()
    for pid in sessions:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(STOP_DEADLINE)
    # Killed is not yet gone.
    deadline = time.monotonic() + STOP_DEADLINE
    while any(map(process_runs, sessions)) and time.monotonic() < deadline:
        time.sleep(0.005)


def _descendants(ancestor: int) -> list[int]:
    """The processes below one, as far as the system has /proc to tell."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...": the name may hold blanks and parentheses.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(ancestor, []))
    for pid in found:  # grows while we walk it: breadth first
        found += children.get(pid, [])
    return found
