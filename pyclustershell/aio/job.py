"""One command or copy of a session, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Callable, Optional, Union

from ..results import Results
from ..worker.worker import Worker
from .bridge import Bridge, settled


class Job:
    """A submitted worker, for the event loop: the future of ``Task.enqueue()``.

    All methods but :meth:`conclude` are for the loop's thread.

    Args:
        worker: the worker.
        bridge: posts to the event loop.
        on_end: called on the event loop when the job has ended, in whatever way; if it is being
            ended, when its kills are over. It may be called twice.
    """

    def __init__(self, worker: Worker, bridge: Bridge, on_end: Callable[[Job], Any]) -> None:
        self.worker = worker
        self._bridge = bridge
        self._on_end = on_end
        self._done: asyncio.Future[Results] = bridge.loop.create_future()
        self._gone: Optional[asyncio.Future[None]] = None

    def __repr__(self) -> str:
        return f"<Job {self.worker!r}: {'ended' if self.ended else 'running'}>"

    @property
    def ended(self) -> bool:
        """True if the job has ended, or is being ended."""
        return self._gone is not None or self._done.done()

    def conclude(self, error: Optional[BaseException]) -> bool:
        """The worker has closed: pass its results on, or the error. On the task's thread."""
        outcome = self.worker.results() if error is None else error
        self._bridge.post_with_pass(self.worker.context.engine, self._conclude, outcome)
        return True

    def _conclude(self, outcome: Union[Results, BaseException]) -> None:
        if self._gone is None:
            self._on_end(self)
        if self._done.done():
            return  # it was cancelled
        if isinstance(outcome, BaseException):
            self._done.set_exception(outcome)
            # Nobody may wait for it, which is no reason for a message.
            self._done.exception()
        else:
            self._done.set_result(outcome)

    def outcome(self) -> Optional[Results]:
        """Return the results; None before the end, or if the task's run ended with an error."""
        done = self._done
        if not done.done() or done.cancelled() or done.exception() is not None:
            return None
        return done.result()

    def results(self) -> Coroutine[Any, Any, Results]:
        """Wait for the results. A cancellation ends the commands before it goes on.

        Raises:
            TaskError: this is another event loop.
            Exception: what ended the task's run.
        """
        self._bridge.check_loop()
        return self._guarded(asyncio.shield(self._done))

    def only_results(self) -> Coroutine[Any, Any, Results]:
        """Wait for the results, as the only one who does: this is a little cheaper."""
        return self._guarded(self._done)

    async def _guarded(self, done: asyncio.Future[Results]) -> Results:
        try:
            return await done
        except asyncio.CancelledError:
            await self.end()
            raise
        except GeneratorExit:
            # The loop has ended without a cancellation.
            self.worker.abort()
            raise

    async def end(self) -> None:
        """End the commands on their nodes, and wait until they have been ended.

        A cancellation meanwhile does not cut this short. Does nothing if the job has ended.

        Raises:
            TaskError: this is another event loop.
            asyncio.CancelledError: this task was cancelled meanwhile.
        """
        self._bridge.check_loop()
        if self._gone is None:
            if self._done.done() and not self._done.cancelled():
                return
            self._gone = self._bridge.loop.create_future()
            self.worker.abort()
            self.worker.when_gone(self._post_gone)
        await settled(self._gone)

    def _post_gone(self, _worker: Worker) -> None:
        self._bridge.post(self._set_gone)

    def _set_gone(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
            self._on_end(self)
