"""What goes on in the background after the end of a job: commands that are being killed."""

from __future__ import annotations

import threading
from typing import Any, Callable


class Aftermath:
    """Counts the ends of commands that are under way after a job has been aborted.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._callbacks: list[Callable[[], Any]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Aftermath: {self._under_way} under way>"

    def begin(self) -> None:
        """A command is being ended."""
        with self._lock:
            self._under_way += 1

    def end(self) -> None:
        """A command has been ended, or is given up."""
        with self._lock:
            self._under_way -= 1
            if self._under_way:
                return
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_over(self, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` once when nothing is under way: now, or where the last end is noted.

        Args:
            callback: it must not raise.
        """
        with self._lock:
            if self._under_way:
                self._callbacks.append(callback)
                return
        callback()
