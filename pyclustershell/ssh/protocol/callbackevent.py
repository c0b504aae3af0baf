"""A threading.Event for paramiko that calls a function."""

from __future__ import annotations

import threading
from typing import Any, Callable


class CallbackEvent(threading.Event):
    """Replaces a threading.Event: ``set()`` calls a function, the next step.

    paramiko sets an event when an answer has come, for a thread that waits for it. Here no thread
    waits: the step runs on the thread that sets the event, which is the one that feeds the
    transport.

    Args:
        step: the function.
    """

    def __init__(self, step: Callable[[], Any]) -> None:
        # Not super().__init__(): without state, no lock is needed.
        self._step = step

    def set(self) -> None:
        """Call the function."""
        self._step()

    def clear(self) -> None:
        """Do nothing: there is no state to clear."""

    def is_set(self) -> bool:
        """Return False: code that polls uses the channel's own attributes instead."""
        return False
