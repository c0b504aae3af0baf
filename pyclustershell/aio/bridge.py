"""Calls from the task's thread to the event loop of asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

from ..exceptions import TaskError

if TYPE_CHECKING:
    from ..engine.engine import Engine


class Bridge:
    """Makes calls on an event loop, posted by any thread.

    ``call_soon_threadsafe()`` writes to a socket at each call, and wakes the loop's thread. Here,
    all calls of one pass of the task's loop share one such write.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._scheduled = False

    def check_loop(self) -> None:
        """Check that the caller runs on this event loop: futures of another one never wake it.

        Raises:
            TaskError: it runs on another event loop, or on none.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self.loop:
            raise TaskError("this session belongs to another event loop: make one per loop")

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback(*args)`` on the event loop. Dropped if the loop is closed."""
        # First the call, then the flag; _make_calls() has the opposite order: no call is left over.
        self._calls.append((callback, args))
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def post_with_pass(self, engine: Engine, callback: Callable[..., Any], *args: Any) -> None:
        """Like :meth:`post`, at the end of this pass of the task's loop. On the task's thread."""
        self._calls.append((callback, args))
        if not self._scheduled:
            self._scheduled = True
            engine.call_at_end_of_pass(self._schedule)

    def _schedule(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._make_calls)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            self._calls.clear()

    def _make_calls(self) -> None:
        self._scheduled = False
        while self._calls:
            callback, args = self._calls.popleft()
            callback(*args)


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, also if this task is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: this task was cancelled, and the future is done now.
    """
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
