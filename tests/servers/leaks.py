"""A check for leaked threads and file descriptors."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from tests.windows import linuxside

DEADLINE = 5.0
INTERVAL = 0.02


@contextlib.contextmanager
def no_leaks(deadline: float = DEADLINE) -> Iterator[None]:
    """Fail if the with block leaves threads or file descriptors behind.

    Threads get the time to end. The garbage collector is not called: an object that only it would
    close is a leak.

    Args:
        deadline: seconds that threads and descriptors get to end.

    Raises:
        AssertionError: something is left; the text names each thread and descriptor.
    """
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    limit = time.monotonic() + deadline
    for thread in set(threading.enumerate()) - threads:
        # A thread cannot be joined while it starts. The loop below finds it again.
        with contextlib.suppress(RuntimeError):
            thread.join(max(0.0, limit - time.monotonic()))
    while True:
        left = [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
        left += [
            f"fd {fd} -> {target}{_connection(target)}"
            for fd, target in open_descriptors().items()
            if descriptors.get(fd) != target
        ]
        if not left:
            return
        if time.monotonic() > limit:
            stacks = [_stack(thread) for thread in set(threading.enumerate()) - threads]
            raise AssertionError(
                "\n".join([f"left behind after {deadline} s: {', '.join(sorted(left))}", *stacks])
            )
        time.sleep(INTERVAL)


def _connection(target: str) -> str:
    """The ports and the state of a TCP connection, if the system has /proc/net/tcp."""
    with contextlib.suppress(OSError), open("/proc/net/tcp", encoding="ascii") as table:
        for row in table:
            words = row.split()
            if target == f"socket:[{words[9]}]":
                (here, there), state = (w.rpartition(":")[2] for w in words[1:3]), words[3]
                return f" (port {int(here, 16)} to {int(there, 16)}, state {state})"
    return ""


def _stack(thread: threading.Thread) -> str:
    """The stack of a thread, as text."""
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread.name}:\n{''.join(traceback.format_stack(frame))}"


def open_descriptors() -> dict[int, str]:
    """This process's open file descriptors and their targets, if the system knows them.

    The target distinguishes an old descriptor from a new one with the same number.
    """
    if sys.platform == "win32":
        return {**_files_of_windows(), **_sockets_of_windows()}
    found = {}
    for name in os.listdir("/dev/fd"):
        # Listing the directory opened a descriptor that is closed by now.
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/dev/fd/{name}")
    return found


def _files_of_windows() -> dict[int, str]:
    """The descriptors of the C library: files and pipes."""
    found = {}
    for number in range(512):  # the library's limit
        with contextlib.suppress(OSError):
            status = os.fstat(number)
            found[number] = f"file {status.st_ino} of device {status.st_dev}"
    return found


def _sockets_of_windows() -> dict[int, str]:
    """Sockets are no descriptors there: those of Python's objects, with numbers below zero."""
    found = {}
    for thing in gc.get_objects():
        # Not isinstance(): it asks some objects for their class, and some have side effects.
        if not issubclass(type(thing), socket.socket) or thing.fileno() < 0:
            continue
        if not linuxside.serves(thing):  # sshd is that of a fixture, and runs on
            found[-1 - thing.fileno()] = f"{thing!r} {id(thing)}"
    return found
