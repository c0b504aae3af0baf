"""Waiting for an event in another thread or process, without fixed sleeps."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable


def wait_until(condition: Callable[[], Any], deadline: float = 20.0) -> None:
    """Wait until a condition is true.

    Args:
        condition: called every 10 ms.
        deadline: seconds after which the test fails.
    """
    limit = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < limit, f"it did not happen within {deadline} s"
        threading.Event().wait(0.01)
