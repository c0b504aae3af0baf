"""What paramiko takes for an event, and is a step."""

from __future__ import annotations

import threading
from typing import Any, Callable


class Then(threading.Event):
    """Stands in for a threading.Event: ``set()`` goes straight on to the next step.

    paramiko sets an event when an answer has come, for a thread that waits for it. Nobody waits
    here: the step is made on the thread that sets the event, the one that feeds the transport.
    """

    def __init__(self, step: Callable[[], Any]) -> None:
        # Not super().__init__(): there is no state, and so no lock to make.
        self._step = step

    def set(self) -> None:
        """Take the step."""
        self._step()

    def clear(self) -> None:
        """Do nothing: there is no state to clear."""

    def is_set(self) -> bool:
        """Say no: whoever looks instead of waiting uses the channel's own attributes."""
        return False
