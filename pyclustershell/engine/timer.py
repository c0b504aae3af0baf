"""Timers on a monotonic clock."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Callable, Optional

from ..exceptions import EngineIllegalOperationError

Clock = Callable[[], float]


class Timer:
    """Something that happens after a delay, once or at intervals.

    Args:
        callback: called without arguments on the engine's thread when the timer fires.
        autoclose: whether the engine may end its loop although this timer has still to fire.
    """

    __slots__ = ("_callback", "_case", "_queue", "autoclose", "interval")

    def __init__(self, callback: Callable[[], Any], autoclose: bool = True) -> None:
        self._callback = callback
        self._queue: Optional[TimerQueue] = None
        # The heap entry that is in force; any other entry of this timer is stale.
        self._case: Optional[tuple[float, int, Timer]] = None
        self.autoclose = autoclose
        #: Seconds between two firings; not positive for a timer that fires once.
        self.interval = -1.0

    def __repr__(self) -> str:
        if self._queue is None:
            return f"<{type(self).__name__} (invalid)>"
        if self._case is None:
            return f"<{type(self).__name__} (firing)>"
        return f"<{type(self).__name__} fires in {self._case[0] - self._queue.clock():.3f} s>"

    def is_valid(self) -> bool:
        """Whether the timer will still fire (or is being fired)."""
        return self._queue is not None

    def invalidate(self) -> None:
        """Never fire again. Harmless where the timer has already fired or was invalidated."""
        if self._queue is not None:
            self._queue.discard(self)

    cancel = invalidate

    def set_nextfire(self, fire_delay: float, interval: float = -1.0) -> None:
        """Fire after another delay than was planned. Allowed from the timer's own event, too.

        Args:
            fire_delay: seconds from now.
            interval: seconds between further firings; none if not positive.

        Raises:
            EngineIllegalOperationError: the timer is no longer valid.
        """
        if self._queue is None:
            raise EngineIllegalOperationError(
                f"{self!r} has fired for the last time or was invalidated: make a new timer"
            )
        self.interval = interval
        self._queue.arm(self, fire_delay)


class EngineTimer(Timer):
    """A timer of ``Task.timer()``: calls ``handler.ev_timer(timer)``.

    Attributes:
        eh: the event handler.
    """

    __slots__ = ("eh",)

    def __init__(self, handler: Any, autoclose: bool = False) -> None:
        if not hasattr(handler, "ev_timer"):
            raise TypeError(f"a timer needs an event handler with ev_timer(), not {handler!r}")
        super().__init__(lambda: handler.ev_timer(self), autoclose)
        self.eh = handler


class TimerQueue:
    """The timers of an engine, the next one first.

    A timer that is cancelled leaves its entry in the heap, to be dropped when it comes up: with
    one deadline per node, cancelling must be cheap.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = count()
        self._armed = 0
        #: How many valid timers keep the engine's loop running.
        self.holding = 0

    def __len__(self) -> int:
        return self._armed

    def add(self, timer: Timer, delay: float, interval: float = -1.0) -> None:
        """Arm a new timer to fire after ``delay`` seconds, then every ``interval`` if positive.

        Raises:
            EngineIllegalOperationError: the timer is armed already.
        """
        if timer._queue is not None:
            raise EngineIllegalOperationError(f"{timer!r} is already armed")
        timer._queue = self
        timer.interval = interval
        self.holding += not timer.autoclose
        self.arm(timer, delay)

    def arm(self, timer: Timer, delay: float) -> None:
        """Let a timer of this queue fire after ``delay`` seconds, whatever was planned before."""
        self._push(timer, self.clock() + delay)

    def _push(self, timer: Timer, when: float) -> None:
        self._armed += timer._case is None
        timer._case = (when, next(self._sequence), timer)
        heapq.heappush(self._heap, timer._case)
        if len(self._heap) > 64 and len(self._heap) > 4 * self._armed:
            self._heap = [case for case in self._heap if case[2]._case is case]
            heapq.heapify(self._heap)

    def discard(self, timer: Timer) -> None:
        """Drop a timer of this queue."""
        if timer._queue is not self:
            return
        self._armed -= timer._case is not None
        timer._queue = timer._case = None
        # What it refers to need not wait until its entry comes up.
        timer._callback = lambda: None
        self.holding -= not timer.autoclose

    def clear(self) -> None:
        """Drop all timers."""
        for case in self._heap:
            if case[2]._case is case:
                self.discard(case[2])
        self._heap.clear()

    def next_delay(self) -> Optional[float]:
        """Seconds until the next timer fires, 0.0 if it is due, None if there is none."""
        heap = self._heap
        while heap and heap[0][2]._case is not heap[0]:
            heapq.heappop(heap)
        return max(0.0, heap[0][0] - self.clock()) if heap else None

    def fire_expired(self) -> None:
        """Fire what is due now, each timer once; one that is armed meanwhile waits its turn."""
        if self.next_delay() != 0.0:
            return
        now = self.clock()
        due = []
        while self._heap and self._heap[0][0] <= now:
            case = heapq.heappop(self._heap)
            if case[2]._case is case:
                due.append(case)
        for case in due:
            timer = case[2]
            # An earlier timer of this pass may have cancelled or rearmed this one.
            if timer._case is not case:
                continue
            timer._case = None
            self._armed -= 1
            try:
                timer._callback()
            finally:
                if timer._queue is self and timer._case is None:
                    if timer.interval > 0:
                        # From the planned time, not from now: intervals do not drift.
                        self._push(timer, case[0] + timer.interval)
                    else:
                        self.discard(timer)
