"""The futures of submitted commands."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Optional, Protocol

from ..exceptions import TaskError
from ..results import Results
from ..worker.worker import Worker


class Outcome(Protocol):
    """What a submitted worker reports its end to: a future of any kind."""

    def conclude(self, error: Optional[BaseException]) -> bool:
        """The worker has closed. Called once, on the task's thread; it must not raise.

        Args:
            error: the exception to fail with, or None.

        Returns:
            False if nobody hears of the error.
        """
        ...


class ResultsFuture(Future[Results]):
    """The results of a submitted command, when it has ended: see ``Task.submit()``.

    A failed node is a result and no exception: ``future.result().check()`` raises one. The future
    itself fails with the exception that ended the task's run, if one did: from a handler, an
    EngineCapacityError, the TimeoutError of ``resume(timeout)``, or a TaskAbortedError.

    Callbacks (``add_done_callback``) are called on the task's thread, or at once on the calling
    thread if the future is done.

    Args:
        worker: the command's worker.

    Attributes:
        worker: the command's worker.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker

    def cancel(self) -> bool:
        """End the command on its nodes: TERM, then KILL after ``ssh_kill_grace`` seconds.

        ``result()`` raises CancelledError from now on. ``concurrent.futures.wait()`` returns when
        the command has been ended. May be called from any thread.

        Returns:
            False if the command has ended.
        """
        if not super().cancel():
            return False
        self.worker.abort()
        return True

    def result(self, timeout: Optional[float] = None) -> Results:
        """Wait for the results: see ``concurrent.futures.Future``.

        Raises:
            TaskError: this is the task's own thread, as in an event: it would wait for itself.
        """
        self._check_thread("result")
        return super().result(timeout)

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """Wait for the end, and return the exception: see ``concurrent.futures.Future``.

        Raises:
            TaskError: this is the task's own thread, as in an event: it would wait for itself.
        """
        self._check_thread("exception")
        return super().exception(timeout)

    def _check_thread(self, method: str) -> None:
        if not self.done() and threading.current_thread() is self.worker.context.thread:
            raise TaskError(
                f"{method}() would wait for itself on the task's thread: use add_done_callback(), "
                "or an event such as ev_result"
            )

    def running(self) -> bool:
        """Return True if the command has started on a node and has not ended."""
        return self.worker.started and not self.done()

    def conclude(self, error: BaseException | None) -> bool:
        """The worker has closed: set the results. On the task's thread.

        Args:
            error: the exception to fail with, or None.

        Returns:
            False if the future was cancelled.
        """
        if not self.set_running_or_notify_cancel():
            return False
        if error is None:
            self.set_result(self.worker.results())
        else:
            self.set_exception(error)
        return True
