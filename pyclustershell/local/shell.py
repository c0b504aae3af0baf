"""Runs the local commands of node group sources."""

from __future__ import annotations

import os
import subprocess
import threading
import time

from .child import ChildProcess
from .group import SIGKILL

#: A command that writes more than this many bytes is killed.
MAX_OUTPUT = 64 * 1024 * 1024

_CHUNK = 65536


def run_upcall(command: str, directory: str | None, timeout: float) -> tuple[int, str]:
    """Run a command in a shell, without standard input, and wait for it.

    It inherits this process's standard error. A command that takes too long is killed, with all
    its descendants.

    Args:
        command: for the shell; from the configuration, never text from a node set.
        directory: its working directory; None or '' for this process's.
        timeout: how many seconds it may take.

    Returns:
        Its exit code and its standard output.

    Raises:
        TimeoutError: it took too long.
        OSError: it could not be started, wrote more than MAX_OUTPUT bytes, or its exit status is
            lost.
    """
    process = ChildProcess(  # noqa: S604 - upcalls are shell commands, by ClusterShell's format
        command,
        shell=True,
        cwd=directory or None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + timeout
    chunks: list[bytes] = []
    # Pipes cannot be polled on Windows: a thread reads, and this one waits with a timeout.
    reader = threading.Thread(target=_read, args=(process, chunks), daemon=True)
    reader.start()
    try:
        reader.join(timeout)
        if reader.is_alive():
            raise TimeoutError(f"no answer within {timeout:g} s")
        if sum(map(len, chunks)) > MAX_OUTPUT:
            raise OSError(f"more than {MAX_OUTPUT} bytes of output")
        # The command may have closed its output and still run.
        code = process.wait(max(0.0, deadline - time.monotonic()))
        if process.why_lost:
            raise OSError(process.why_lost)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise TimeoutError(f"no end within {timeout:g} s") from None
    except BaseException:
        # Also after an interrupt: no caller waits for the command any more.
        _kill(process)
        raise
    return code, b"".join(chunks).decode("utf-8", "surrogateescape")


def _read(process: ChildProcess, chunks: list[bytes]) -> None:
    """Read the output up to its end, or until it is longer than MAX_OUTPUT."""
    stream = process.stdout
    if stream is None:
        return
    size = 0
    with stream:
        while size <= MAX_OUTPUT:
            chunk = os.read(stream.fileno(), _CHUNK)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)


def _kill(process: ChildProcess) -> None:
    """Kill a command with its descendants, and wait for it."""
    process.group.signal(SIGKILL)
    process.wait()
