"""Running the commands of node group sources. Not SSH: these are local commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

from .. import platform

#: A command that says more than this many bytes is ended.
MAX_OUTPUT = 64 * 1024 * 1024

_CHUNK = 65536


def run_upcall(command: str, directory: str | None, timeout: float) -> tuple[int, str]:
    """Run a command in a shell, without standard input, and wait for it.

    Its standard error is this process's. A command that takes too long is killed, with all that it
    started (on Windows: the shell only).

    Args:
        command: for the shell: configuration, never text from a node set.
        directory: in which to run it; None or '': this process's.
        timeout: how long it may take, in seconds.

    Returns:
        Its exit code and its standard output.

    Raises:
        TimeoutError: it took too long.
        OSError: it could not be started, or said more than MAX_OUTPUT.
    """
    process = subprocess.Popen(  # noqa: S602 - upcalls are shell commands, by ClusterShell's format
        command,
        shell=True,
        cwd=directory or None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=platform.PROCESS_GROUPS,
    )
    deadline = time.monotonic() + timeout
    chunks: list[bytes] = []
    # Pipes cannot be polled on Windows: a thread reads, this one watches the clock.
    reader = threading.Thread(target=_read, args=(process, chunks), daemon=True)
    reader.start()
    reader.join(timeout)
    try:
        if reader.is_alive():
            raise TimeoutError(f"no answer within {timeout:g} s")
        if sum(map(len, chunks)) > MAX_OUTPUT:
            raise OSError(f"more than {MAX_OUTPUT} bytes of output")
        # The command may have closed its output and go on.
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _kill(process)
        raise TimeoutError(f"no end within {timeout:g} s") from None
    except OSError:
        _kill(process)
        raise
    return code, b"".join(chunks).decode("utf-8", "surrogateescape")


def _read(process: subprocess.Popen[bytes], chunks: list[bytes]) -> None:
    """Read the output up to its end, or up to MAX_OUTPUT."""
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


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command, with all that it started where there are process groups, and wait for it."""
    if platform.PROCESS_GROUPS:
        # The group may be gone, or hold nothing but zombies, which some systems refuse to signal.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
