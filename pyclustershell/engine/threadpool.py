"""A few threads for calls that may block."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Callable

from .forking import abandon_in_child

logger = logging.getLogger("pyclustershell.engine")


class ThreadPool:
    """Runs jobs on a few threads, which end when no job is left.

    Args:
        name: the name of its threads.
        limit: the number of jobs that run at once.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._reset()
        abandon_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], Any]] = deque()
        self._threads = 0

    def abandon(self) -> None:
        """In a forked child: the jobs are the parent's. Later jobs get new threads."""
        self._reset()

    def submit(self, job: Callable[[], Any]) -> None:
        """Call ``job()`` on one of the threads. Jobs start in order.

        May be called on any thread.
        """
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
                # There is no caller to raise to, and the other jobs must still run.
                logger.exception("a job in the background failed")
