"""A profile in which this system plays Windows, as far as that can be: ``--windows-profile``.

Selectors take sockets only, ``poll`` and ``epoll`` do not exist, the modules that Windows lacks
cannot be imported by this package nor by paramiko, and paramiko's pipes are its socket pairs for
Windows. What cannot be played: paths, process groups and signals, ``AF_UNIX``.
"""

from __future__ import annotations

import builtins
import os
import select
import selectors
import stat
from importlib import import_module
from typing import Any

import pytest

MISSING_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "syslog"}
WHO = {"pyclustershell", "paramiko"}

#: Tests that need what Windows has not, by a part of their name, and why.
DESELECTED = {
    "test_worker_stream": "StreamWorker waits for the files that it is given: pipes",
    "[stream-": "StreamWorker waits for the files that it is given: pipes",
    "differential": "starts programs of its own, which do not play Windows",
    "test_worker_pdsh": "there is no pdsh for it",
    "test_examples": "starts programs of its own, which do not play Windows",
}


class SocketSelector(selectors.SelectSelector):
    """select() as Windows has it: WSAENOTSOCK for whatever is no socket."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a socket."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd >= 0 and not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(10038, f"descriptor {fd} ({fileobj!r}) is not a socket")
        return super().register(fileobj, events, data)


def play() -> None:
    """Become Windows, before this package and paramiko are imported."""
    for name in ("EpollSelector", "PollSelector", "DevpollSelector", "KqueueSelector"):
        if hasattr(selectors, name):
            delattr(selectors, name)
    for name in ("epoll", "poll", "devpoll", "kqueue"):
        if hasattr(select, name):
            delattr(select, name)
    # Any: which of these names there are is a matter of the platform, and of the type stubs.
    choices: Any = selectors
    choices.SelectSelector = choices.DefaultSelector = SocketSelector
    original = builtins.__import__

    def restricted(name: str, *rest: Any, **options: Any) -> Any:
        importing = (rest[0] if rest else options.get("globals")) or {}
        importer = str(importing.get("__name__", "")).split(".")[0]
        if importer in WHO and name.split(".", maxsplit=1)[0] in MISSING_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r} (on Windows)", name=name)
        return original(name, *rest, **options)

    builtins.__import__ = restricted
    pipe: Any = import_module("paramiko.pipe")
    pipe.make_pipe = pipe.WindowsPipe
    from pyclustershell import platform

    platform.SOCKETS_ONLY = True
    platform.LONGEST_SLEEP = 0.5


def deselect(items: list[pytest.Item]) -> None:
    """Skip what Windows cannot do, and say why."""
    for item in items:
        for part, reason in DESELECTED.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=f"not on Windows: {reason}"))
