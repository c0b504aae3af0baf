"""Calls that block, on threads of their own: name resolution, agents, prompts."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable


class BlockingCalls:
    """Makes calls in a few threads, which end when there is none left to make.

    Args:
        name: what the calls are for, for the names of the threads.
        limit: how many calls are made at once; the others wait, in order.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._threads = 0

    def run(self, call: Callable[[], None]) -> None:
        """Have ``call()`` made on one of the threads. It must not raise."""
        with self._lock:
            self._queue.append(call)
            if self._threads < self._limit:
                self._threads += 1
                threading.Thread(
                    target=self._work, name=f"pyclustershell {self._name}", daemon=True
                ).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                call = self._queue.popleft()
            call()
