"""What has to happen later, also when no engine runs any more."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from functools import cache
from itertools import count
from typing import Any, Callable, Optional

logger = logging.getLogger("pyclustershell.transport")


class Reaper:
    """Calls functions after a delay, in a thread that lives only while something waits.

    A run ends when its last node has ended or timed out. The KILL that follows a timed-out
    command's TERM, and the end of a transport that nobody has used for a while, come later than
    that: no engine may be running then.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Callable[[], Any]]] = []
        self._sequence = count()
        self._cancelled: set[int] = set()
        self._thread: Optional[threading.Thread] = None

    def call_later(self, delay: float, function: Callable[[], Any]) -> Callable[[], None]:
        """Call ``function()`` on the reaper's thread after ``delay`` seconds.

        Returns:
            A function that cancels the call; harmless when it is too late.
        """
        number = next(self._sequence)
        with self._changed:
            heapq.heappush(self._heap, (self._clock() + delay, number, function))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="pyclustershell reaper", daemon=True
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
                    self._changed.wait(delay)
                    continue
                function = heapq.heappop(self._heap)[2]
            try:
                function()
            except Exception:
                # Nobody is there to hear of it, and the other calls must still be made.
                logger.exception("a delayed call failed")

    def _drop_cancelled(self) -> None:
        if self._cancelled:
            self._heap = [entry for entry in self._heap if entry[1] not in self._cancelled]
            heapq.heapify(self._heap)
            self._cancelled.clear()


@cache
def process_reaper() -> Reaper:
    """The one reaper of all tasks of this process: it has a thread only while it is needed."""
    return Reaper()
