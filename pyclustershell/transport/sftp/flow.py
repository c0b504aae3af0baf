"""Answers that are still to come, and functions that wait for them without blocking anybody.

A copy is a sequence of requests, each of which depends on answers. Written as coroutines, such
sequences read from top to bottom. They are run by the engine's own callbacks: whoever gets an
answer resolves what is waiting for it, and the coroutine goes on there and then. There is no loop
here, and no thread; everything is on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Callable, Generic, Optional, TypeVar

from ...exceptions import CopyError

T = TypeVar("T")

Steps = Coroutine[Any, None, None]


class Pending(Generic[T]):
    """An answer that will come: ``await`` it, once."""

    __slots__ = ("_error", "_value", "done", "waiter")

    def __init__(self) -> None:
        self.done = False
        #: Called when it has come.
        self.waiter: Optional[Callable[[], Any]] = None
        self._value: Optional[T] = None
        self._error: Optional[CopyError] = None

    def __await__(self) -> Generator[Pending[T], None, T]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def resolve(self, value: T) -> None:
        """It has come."""
        self._value = value
        self._finish()

    def fail(self, error: CopyError) -> None:
        """It will not come: awaiting it raises the error."""
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter()


class Strand:
    """A coroutine on its way.

    Args:
        steps: the coroutine; it awaits nothing but :class:`Pending`.
        on_end: called when it has ended, with the CopyError that left it, if any. Any other
            exception is a bug, and leaves the callback that brought the answer.
    """

    __slots__ = ("_on_end", "_steps")

    def __init__(self, steps: Steps, on_end: Callable[[Optional[CopyError]], Any]) -> None:
        self._steps = steps
        self._on_end = on_end

    def go_on(self) -> None:
        """Run until an answer is awaited that has not come."""
        try:
            while True:
                pending: Pending[Any] = self._steps.send(None)
                if not pending.done:
                    pending.waiter = self.go_on
                    return
        except StopIteration:
            error = None
        except CopyError as raised:
            error = raised
        self._on_end(error)

    def close(self) -> None:
        """End it where it waits; what it holds open on this host is closed."""
        self._steps.close()


class Group:
    """Coroutines side by side, no more of them than is good.

    Args:
        count: how many at the most.
        weight: how much they may weigh together; one alone may weigh more.
        on_error: called with what leaves one of them.
    """

    def __init__(self, count: int, weight: int, on_error: Callable[[CopyError], Any]) -> None:
        self._count = count
        self._weight = weight
        self._on_error = on_error
        self._strands: dict[Strand, int] = {}
        self._change: Optional[Pending[None]] = None

    async def start(self, steps: Steps, weight: int) -> None:
        """Start one as soon as there is room for it."""
        try:
            while self._is_full(weight):
                await self._next_end()
        except BaseException:
            steps.close()
            raise
        strand = Strand(steps, lambda error: self._ended(strand, error))
        self._strands[strand] = weight
        strand.go_on()

    def _is_full(self, weight: int) -> bool:
        strands = self._strands
        return bool(strands) and (
            len(strands) >= self._count or sum(strands.values()) + weight > self._weight
        )

    def _next_end(self) -> Pending[None]:
        self._change = Pending()
        return self._change

    def _ended(self, strand: Strand, error: Optional[CopyError]) -> None:
        del self._strands[strand]
        if error is not None:
            self._on_error(error)
        change, self._change = self._change, None
        if change is not None:
            change.resolve(None)

    async def join(self) -> None:
        """Wait until all of them have ended."""
        while self._strands:
            await self._next_end()

    def close(self) -> None:
        """End them all where they wait."""
        strands, self._strands = self._strands, {}
        for strand in strands:
            strand.close()
