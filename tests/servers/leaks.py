"""What a piece of code leaves behind: threads and open file descriptors."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator

DEADLINE = 5.0
INTERVAL = 0.02


@contextlib.contextmanager
def no_leaks(deadline: float = DEADLINE) -> Iterator[None]:
    """Fail where the with block leaves threads or file descriptors behind.

    Threads that are ending get the time to do so. Nothing is collected to help: what only the
    garbage collector would close is a leak.

    Args:
        deadline: seconds within which what was begun must have ended.

    Raises:
        AssertionError: something is left; the text names each thread and descriptor.
    """
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    limit = time.monotonic() + deadline
    for thread in set(threading.enumerate()) - threads:
        # One that is being started just now cannot be joined; it is looked for again below.
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
    """What kind of TCP connection a socket is, where the system has /proc/net/tcp."""
    with contextlib.suppress(OSError), open("/proc/net/tcp", encoding="ascii") as table:
        for row in table:
            words = row.split()
            if target == f"socket:[{words[9]}]":
                (here, there), state = (w.rpartition(":")[2] for w in words[1:3]), words[3]
                return f" (port {int(here, 16)} to {int(there, 16)}, state {state})"
    return ""


def _stack(thread: threading.Thread) -> str:
    """Where a thread is."""
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread.name}:\n{''.join(traceback.format_stack(frame))}"


def open_descriptors() -> dict[int, str]:
    """This process's open file descriptors, and what each leads to where the system tells.

    The target tells a descriptor that stayed from a new one that got its number.
    """
    found = {}
    for name in os.listdir("/dev/fd"):
        # Listing the directory takes a descriptor too, which is closed by now.
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/dev/fd/{name}")
    return found
