"""One run of a task: checks before it, the engine's loop, and the end, also by abort."""

from __future__ import annotations

import threading
from typing import Optional

from ..engine.interrupts import interrupts
from ..exceptions import AlreadyRunningError, EngineCapacityError, TaskError
from ..worker.context import WorkerContext
from ..worker.store import RunResults
from .capacity import Capacity
from .connections import TaskConnections
from .incoming import IncomingWorkers


class RunAborted(BaseException):
    """Carries ``Task.abort()`` from a handler up to ``Task.resume()``.

    Attributes:
        kill: True to close the task's connections and engine as well.
    """

    def __init__(self, kill: bool) -> None:
        super().__init__("Task.abort() was called: let this exception leave the handler")
        self.kill = kill


class TaskRunner:
    """Runs the engine of a task, on the task's thread.

    Args:
        context: engine, results, thread and settings of the task.
        connections: the task's connections. The engine watches them during a run.
        run_results: the results of the run.
        incoming: the workers that other threads have scheduled.
        capacity: the open files of the task.
    """

    def __init__(
        self,
        context: WorkerContext,
        connections: TaskConnections,
        run_results: RunResults,
        incoming: IncomingWorkers,
        capacity: Capacity,
    ) -> None:
        self._capacity = capacity
        self._context = context
        self._engine = context.engine
        self._connections = connections
        self._results = run_results
        self._incoming = incoming

    def run(self, timeout: Optional[float]) -> None:
        """Run until everything has ended: see ``Task.resume()``.

        Raises:
            TaskError: the calling thread is not the task's.
            AlreadyRunningError: the task is running.
            EngineCapacityError: the fanout needs more open files than the system allows.
            TimeoutError: the timeout has passed.
            KeyboardInterrupt: SIGINT has come.
            Exception: an exception from a handler.
        """
        with interrupts:
            self._run(timeout)

    def check_thread(self) -> None:
        """Check that the calling thread may run the task.

        Raises:
            TaskError: it is another thread than the task's.
        """
        if threading.current_thread() is not self._context.thread:
            raise TaskError(
                f"{self._context.task!r} runs in its own thread only: call resume() there, or make "
                "a task for other threads, Task(), and use its submit()"
            )

    def _run(self, timeout: Optional[float]) -> None:
        self.check_thread()
        if self._engine.running:
            raise AlreadyRunningError(
                "the task is already running: call resume() after the run; "
                "task.shell() starts a command in this one"
            )
        self._results.clear()
        self._context.placed.clear()
        self.apply_limits()
        try:
            self._capacity.check()
            self._incoming.take()
        except EngineCapacityError as error:
            self._incoming.take_unchecked()
            self._engine.clear(error)
            raise
        self._connections.on_run_begins()
        kill = False
        try:
            self._engine.run(timeout or None)
        except RunAborted as abort:
            self._results.drop()
            kill = abort.kill
        except BaseException as error:
            self._connections.on_run_ends()
            # Only if the run could not begin (no descriptor for the selector) is anything left.
            self._engine.clear(error)
            self._engine.free_descriptors()
            raise
        self._connections.on_run_ends()
        if kill:
            self.close()

    def apply_limits(self) -> None:
        """Apply the current values of the info keys that limit engine and pool."""
        self._engine.fanout = self._context.info["fanout"]
        self._connections.apply_limits()
        self._capacity.forget()

    def abort(self, kill: bool) -> None:
        """End everything, on the task's thread: see ``Task.abort()``.

        Raises:
            RunAborted: the task is running; this ends the run.
        """
        if self._engine.running:
            raise RunAborted(kill)
        self.clear(kill)

    def clear(self, kill: bool) -> None:
        """Drop the scheduled work and the results. The task must not be running."""
        self._drop_scheduled(kill)
        self._results.drop()
        if kill:
            self.close()

    def _drop_scheduled(self, kill: bool) -> None:
        self._incoming.take_unchecked()
        self._engine.clear(RunAborted(kill))

    def close(self) -> None:
        """Close connections and engine: see ``Task.close()``."""
        self._connections.close()
        self._drop_scheduled(kill=True)
        self._engine.close()
