"""Timers on a monotonic clock."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Callable, Optional

from ..arguments import check_handler, check_interval, check_number
from ..event import interruptible
from ..exceptions import EngineIllegalOperationError

Clock = Callable[[], float]


class Timer:
    """A call after a delay, once or at intervals.

    Args:
        callback: called without arguments on the engine's thread when the timer fires.
        autoclose: True if the engine may end its loop although this timer has not fired.
    """

    __slots__ = ("_callback", "_case", "_queue", "autoclose", "interval")

    def __init__(self, callback: Callable[[], Any], autoclose: bool = True) -> None:
        self._callback = callback
        self._queue: Optional[TimerQueue] = None
        # The valid heap entry; any other entry of this timer is stale.
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
        """True if the timer will fire, or is firing now."""
        return self._queue is not None

    def invalidate(self) -> None:
        """Never fire again. Harmless if the timer has fired or was invalidated."""
        if self._queue is not None:
            self._queue.discard(self)

    cancel = invalidate

    def set_nextfire(self, fire_delay: float, interval: float = -1.0) -> None:
        """Fire after a new delay. The timer's own event may call this as well.

        Args:
            fire_delay: seconds from now.
            interval: seconds between further firings; none if not positive.

        Raises:
            EngineIllegalOperationError: the timer is no longer valid.
            TypeError: an argument is not a number.
        """
        fire_delay = check_number("fire_delay", fire_delay)
        interval = check_interval("interval", interval)
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
        check_handler(handler)
        if not hasattr(handler, "ev_timer"):
            raise TypeError(f"a timer needs an event handler with ev_timer(), not {handler!r}")
        super().__init__(interruptible(lambda: handler.ev_timer(self)), autoclose)
        self.eh = handler


class TimerQueue:
    """The timers of an engine, the next one first.

    A cancelled timer leaves its entry in the heap; the entry is dropped when it reaches the top:
    with one deadline per node, cancelling must be cheap.
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
        """Let a timer of this queue fire after ``delay`` seconds, and not as planned before."""
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
        # Free the objects that the callback refers to now, not when the entry reaches the top.
        timer._callback = lambda: None
        self.holding -= not timer.autoclose

    def clear(self) -> None:
        """Drop all timers."""
        for case in self._heap:
            if case[2]._case is case:
                self.discard(case[2])
        self._heap.clear()
        # Counts may be wrong if an exception has cut a change in two (see interrupts).
        self._armed = self.holding = 0

    def next_delay(self) -> Optional[float]:
        """Seconds until the next timer fires, 0.0 if it is due, None if there is none."""
        heap = self._heap
        while heap and heap[0][2]._case is not heap[0]:
            heapq.heappop(heap)
        return max(0.0, heap[0][0] - self.clock()) if heap else None

    def fire_expired(self) -> None:
        """Fire the timers that are due, each once. Timers armed meanwhile fire in a later call."""
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
