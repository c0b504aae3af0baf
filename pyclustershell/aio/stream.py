"""Items from the task's thread to one consumer on the event loop, within a budget of bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, Optional, TypeVar

from ..task.task import Task
from ..worker.worker import Worker
from .bridge import Bridge

Item = TypeVar("Item")

#: What an item costs besides the bytes of its line, about: empty lines count as well.
ITEM_SIZE = 100

# The smallest window of a node, in bytes: a smaller one makes a fast network slow.
_LEAST_WINDOW = 1 << 16


class Stream(Generic[Item]):
    """Passes items on, one batch for each pass of the task's loop.

    If the consumer is slow, and the items that it has not taken exceed the budget, the commands of
    the worker are held back (``Worker.pause_output()``) until it has taken half of them.

    Args:
        task: the worker's task.
        worker: the worker, not yet scheduled.
        bridge: posts to the event loop.
        budget: how many bytes of items may wait for the consumer, before the commands are held
            back. What is in the windows of the connections is added.
        streams: how many nodes print at the same time, at most.
    """

    def __init__(
        self, task: Task, worker: Worker, bridge: Bridge, budget: int, streams: int
    ) -> None:
        self._task = task
        self._worker = worker
        self._bridge = bridge
        self._budget = budget
        worker.read_ahead = max(_LEAST_WINDOW, budget // max(1, streams))
        # Of the task's thread.
        self._fresh: list[Item] = []
        self._fresh_size = 0
        self._sent = 0
        # Shared: one thread adds, the other takes.
        self._batches: deque[tuple[Sequence[Item], int]] = deque()
        self._closed = False
        self._paused = False
        self._discarding = False
        # Of the event loop's thread.
        self._taken = 0
        self._held = 0
        self._waiter: Optional[asyncio.Future[None]] = None
        # Before anybody hears of the results, all items are there.
        worker.when_closed(self._close)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._paused else "open"
        return f"<Stream {state}: {self._sent - self._taken} bytes wait>"

    # -- on the task's thread --

    def put(self, item: Item, size: int) -> None:
        """Add an item."""
        if not self._fresh:
            # The batch goes up in the loop's next pass, with all items of this one.
            self._task.post(self._flush)
        self._fresh.append(item)
        self._fresh_size += size

    def _flush(self) -> None:
        if not self._fresh:
            return
        batch, size = self._fresh, self._fresh_size
        self._fresh, self._fresh_size = [], 0
        if self._discarding:
            return
        self._sent += size
        self._batches.append((batch, size))
        self._bridge.post(self._wake)
        if self._is_over(self._budget) and not self._paused:
            # First the flag, then the sizes once more; the consumer has the opposite order. So one
            # of both sees what the other has done, and the commands are not held back for ever.
            self._paused = True
            if self._is_over(self._budget) and not self._discarding:
                self._worker.pause_output()
            else:
                self._paused = False

    def _is_over(self, size: int) -> bool:
        return self._sent - self._taken > size

    def _close(self, _worker: Worker) -> None:
        self._flush()
        self._closed = True
        self._bridge.post(self._wake)

    def _resume(self) -> None:
        # The budget may have been exceeded again meanwhile: then another call follows.
        if self._discarding or not self._paused:
            self._worker.resume_output()

    # -- on the event loop's thread --

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_batch(self) -> Sequence[Item]:
        """Wait for items; the batch before has been processed. An empty batch is the end.

        Raises:
            RuntimeError: another iteration waits already. Only one of both would be woken.
        """
        if self._waiter is not None:
            raise RuntimeError(
                "another iteration over this run is under way: iterate once, and pass the events on"
            )
        self._taken += self._held
        self._held = 0
        if self._paused and not self._is_over(self._budget // 2):
            self._paused = False
            self._task.post(self._resume)
        while not self._batches:
            if self._closed:
                # What came just before the end.
                if self._batches:
                    break
                return ()
            self._waiter = self._bridge.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        batch, self._held = self._batches.popleft()
        return batch

    def discard(self) -> None:
        """Drop all items that wait, and those to come: nobody takes them."""
        self._discarding = True
        self._batches.clear()
        self._paused = False
        self._task.post(self._resume)
