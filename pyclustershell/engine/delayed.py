"""Calls that are made later, even if the engine has stopped by then."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from functools import cache
from itertools import count
from typing import Any, Callable, Optional

from .forking import abandon_in_child
from .polling import longest_wait

logger = logging.getLogger("pyclustershell.engine")


class DelayedCalls:
    """Calls functions after a delay, on a thread that exists only while a call is due.

    A run ends when its last node has ended or timed out. The KILL that follows a timed-out
    command's TERM, and the end of an idle transport, come later: the engine may have stopped by
    then.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sequence = count()
        self._reset()
        abandon_in_child(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Callable[[], Any]]] = []
        self._cancelled: set[int] = set()
        self._thread: Optional[threading.Thread] = None

    def abandon(self) -> None:
        """In a forked child: the calls are the parent's. Later calls get a new thread."""
        self._reset()

    def call_later(self, delay: float, function: Callable[[], Any]) -> Callable[[], None]:
        """Call ``function()`` after ``delay`` seconds, on the thread of the delayed calls.

        May be called on any thread.

        Returns:
            A function that cancels the call. It does nothing if the call has been made.
        """
        number = next(self._sequence)
        with self._changed:
            heapq.heappush(self._heap, (self._clock() + delay, number, function))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="pyclustershell delayed calls", daemon=True
                )
                self._thread.start()
            self._changed.notify()

        def cancel() -> None:
            with self._changed:
                if any(entry[1] == number for entry in self._heap):
                    self._cancelled.add(number)
                    self._changed.notify()

        return cancel

    def _work(self) -> None:
        while True:
            with self._changed:
                self._drop_cancelled()
                if not self._heap:
                    self._thread = None
                    return
                delay = self._heap[0][0] - self._clock()
                if delay > 0:
                    self._changed.wait(longest_wait(delay))
                    continue
                function = heapq.heappop(self._heap)[2]
            try:
                function()
            except Exception:
                # There is no caller to raise to, and the other calls must still be made.
                logger.exception("a delayed call failed")

    def _drop_cancelled(self) -> None:
        if self._cancelled:
            self._heap = [entry for entry in self._heap if entry[1] not in self._cancelled]
            heapq.heapify(self._heap)
            self._cancelled.clear()


@cache
def process_delayed_calls() -> DelayedCalls:
    """The delayed calls of this process. Their thread exists only while a call is due."""
    return DelayedCalls()
