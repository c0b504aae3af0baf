"""A disk that is slow for one thread: for tests of what the engine's thread may do."""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import pytest

from pyclustershell.ssh.config import filestamp

_QUESTIONS = (
    (os, "stat"),
    (os, "lstat"),
    (os, "open"),
    (os, "listdir"),
    (os, "scandir"),
    (builtins, "open"),
)

TAKES = 10.0
"""Seconds of :class:`SlowDisk` for one question."""


class SlowDisk:
    """A disk that takes ten seconds for each question of the thread that has made this object.

    Nobody waits: the seconds pass on a clock of its own. The answers are those of the real disk.
    Imports are not counted.

    Attributes:
        now: the time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._thread = threading.current_thread()
        for module, name in _QUESTIONS:
            monkeypatch.setattr(module, name, self._slow(getattr(module, name)))

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def _slow(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is self._thread:
                self.now += TAKES
            return ask(*args, **options)

        return call


@contextmanager
def no_disk() -> Iterator[None]:
    """The test fails if a disk is asked meanwhile."""

    def fail(*_args: object, **_options: object) -> None:
        pytest.fail("the disk was asked")

    with pytest.MonkeyPatch.context() as patch:
        for module, name in _QUESTIONS:
            patch.setattr(module, name, fail)
        yield


def stamp_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no stamp of a file be known, and return the time that stamps see, in a list of one."""
    now = [1000.0]
    monkeypatch.setattr(filestamp.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(filestamp, "_taken", {})
    return now
