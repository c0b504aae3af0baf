"""Waiting for what another thread or process does, without fixed sleeps."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable


def wait_until(condition: Callable[[], Any], deadline: float = 10.0) -> None:
    """Wait until a condition holds; fail if it does not in so many seconds."""
    limit = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        threading.Event().wait(0.01)
