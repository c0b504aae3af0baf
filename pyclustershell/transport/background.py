"""What blocks, done in threads of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Callable

logger = logging.getLogger("pyclustershell.transport")


class Background:
    """Does jobs in a few threads, which end when there is nothing left to do.

    Args:
        name: what its threads are called.
        limit: how many jobs are done at once.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], Any]] = deque()
        self._threads = 0

    def submit(self, job: Callable[[], Any]) -> None:
        """Have ``job()`` called on one of the threads, in its turn. May be called on any thread."""
        with self._lock:
            self._jobs.append(job)
            if self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:
                # Nobody is there to hear of it, and the other jobs must still be done.
                logger.exception("a job in the background failed")
