"""Futures, and coroutines that wait for them without blocking the engine.

A copy is a sequence of requests, each of which depends on answers. Written as coroutines, such
sequences read from top to bottom. The engine's own callbacks run them: a callback that gets an
answer resolves its future, and the waiting coroutine continues during that call. There is no second
loop and no thread: all runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Callable, Generic, Optional, TypeVar

from ...exceptions import CopyError

T = TypeVar("T")

Steps = Coroutine[Any, None, None]


class Future(Generic[T]):
    """An answer that will come. A coroutine awaits it once."""

    __slots__ = ("_error", "_value", "done", "waiter")

    def __init__(self) -> None:
        self.done = False
        #: Called when the answer has come.
        self.waiter: Optional[Callable[[], Any]] = None
        self._value: Optional[T] = None
        self._error: Optional[CopyError] = None

    def __await__(self) -> Generator[Future[T], None, T]:
        if not self.done:
            yield self
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback has this frame: without this they would keep each other alive.
                del error
        return self._value  # type: ignore[return-value]

    def resolve(self, value: T) -> None:
        """Set the answer, and resume the coroutine that waits."""
        self._value = value
        self._finish()

    def fail(self, error: CopyError) -> None:
        """Set an error, which ``await`` raises, and resume the coroutine that waits."""
        self._error = error
        # The error's traceback will refer to this call's frame, if the coroutine catches it.
        del error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter()


def _ignore(_error: Optional[CopyError]) -> None:
    """In the place of a callback that is not called any more.

    The owner of a runner is often reached by that callback: such a cycle would wait for the
    collector.
    """


class CoroutineRunner:
    """Runs one coroutine.

    Args:
        steps: the coroutine; it awaits only :class:`Future` objects.
        on_end: called when it has ended, with the CopyError that it raised, or None. Any other
            exception is a bug, and propagates to the callback that brought the answer.
    """

    __slots__ = ("_on_end", "_steps")

    def __init__(self, steps: Steps, on_end: Callable[[Optional[CopyError]], Any]) -> None:
        self._steps = steps
        self._on_end = on_end

    def resume(self) -> None:
        """Run the coroutine until it awaits an answer that has not come."""
        try:
            while True:
                pending: Future[Any] = self._steps.send(None)
                if not pending.done:
                    pending.waiter = self.resume
                    return
        except StopIteration:
            error = None
        except CopyError as raised:
            # The frames of its traceback refer to it, and to the whole session.
            error = raised.with_traceback(None)
        on_end, self._on_end = self._on_end, _ignore
        on_end(error)

    def close(self) -> None:
        """End the coroutine at its await; its finally blocks run, and close local files."""
        self._on_end = _ignore
        self._steps.close()


class BoundedGroup:
    """Runs coroutines concurrently, within limits.

    Args:
        count: how many may run at once.
        weight: how much they may weigh together; one alone may weigh more.
        on_error: called with each CopyError that one of them raises.
    """

    def __init__(self, count: int, weight: int, on_error: Callable[[CopyError], Any]) -> None:
        self._count = count
        self._weight = weight
        self._on_error = on_error
        self._runners: dict[CoroutineRunner, int] = {}
        self._change: Optional[Future[None]] = None

    async def start(self, steps: Steps, weight: int) -> None:
        """Start a coroutine as soon as the limits allow."""
        try:
            while self._is_full(weight):
                await self._next_end()
        except BaseException:
            steps.close()
            raise
        runner = CoroutineRunner(steps, lambda error: self._ended(runner, error))
        self._runners[runner] = weight
        runner.resume()

    def _is_full(self, weight: int) -> bool:
        runners = self._runners
        return bool(runners) and (
            len(runners) >= self._count or sum(runners.values()) + weight > self._weight
        )

    def _next_end(self) -> Future[None]:
        self._change = Future()
        return self._change

    def _ended(self, runner: CoroutineRunner, error: Optional[CopyError]) -> None:
        del self._runners[runner]
        if error is not None:
            self._on_error(error)
        change, self._change = self._change, None
        if change is not None:
            change.resolve(None)

    async def join(self) -> None:
        """Wait until all coroutines have ended."""
        while self._runners:
            await self._next_end()

    def close(self) -> None:
        """End all coroutines at their awaits."""
        runners, self._runners = self._runners, {}
        for runner in runners:
            runner.close()
