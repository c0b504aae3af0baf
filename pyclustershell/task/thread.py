"""The own thread of a task, and calls to the task from other threads."""

from __future__ import annotations

import functools
import threading
from collections import deque
from typing import Any, Callable, Optional, TypeVar, cast

from ..engine.forking import abandon_in_child
from ..engine.interrupts import interrupts, uninterrupted
from ..event import interruptible
from ..exceptions import TaskError

Method = TypeVar("Method", bound=Callable[..., Any])


def on_task_thread(method: Method) -> Method:
    """Decorate a method of a task, so that it can be called from any thread.

    A call from another thread is posted to the task's thread and returns None. The method then runs
    in the loop's next pass, or at the start of the next run. An exception in it ends the run.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is self.thread:
            with interrupts:
                return method(self, *args, **kwargs)
        self.post(functools.partial(method, self, *args, **kwargs))
        return None

    return cast(Method, call)


class _Call:
    """A call on the task's thread, between two runs.

    Attributes:
        made: True when it was made.
        error: what it raised, or None.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.made = False
        self.error: Optional[BaseException] = None

    def make(self) -> None:
        """Make the call."""
        try:
            self._function()
        except BaseException as error:
            self.error = error
        finally:
            self.made = True


class TaskThread:
    """Runs the task at each :meth:`resume`, until :meth:`quit`.

    All methods may be called from any thread. The thread is a daemon, so a program can end without
    ending its tasks. But the program does not end during a run, unless the run is suspended, or the
    task is a daemon.

    Args:
        run: runs the task, with a timeout in seconds or None. Called on the new thread. It must not
            raise.
        post: the engine's :meth:`~.engine.engine.Engine.post`.
        needs_run: True if there is work that needs a run, although no resume() asks for it.
        daemon: True if the program may end during a run.
    """

    def __init__(
        self,
        run: Callable[[Optional[float]], Any],
        post: Callable[..., Any],
        needs_run: Callable[[], bool],
        daemon: bool = False,
    ) -> None:
        self.daemon = daemon
        self._run = run
        self._post = post
        self._needs_run = needs_run
        # All mutable state; the condition guards it.
        self._changed = threading.Condition()
        self._queued_runs: deque[Optional[float]] = deque()
        self._calls: deque[_Call] = deque()
        self._running = False
        #: The number of runs that have begun.
        self._run_number = 0
        self._suspends = 0
        self._suspended = False
        self._quit = False
        self._ended = False
        self._abandoned = False
        self._keep_alive_thread: Optional[threading.Thread] = None
        abandon_in_child(self)
        self.thread = threading.Thread(target=self._work, name="pyclustershell task", daemon=True)

    def __repr__(self) -> str:
        state = "suspended" if self._suspended else "running" if self._running else "idle"
        return f"<TaskThread {self.thread.name}: {state}, {len(self._queued_runs)} runs queued>"

    def start(self) -> None:
        """Start the thread. It waits for :meth:`resume`."""
        self.thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._quit or self._is_run_wanted())
                call = self._calls.popleft() if self._calls else None
                if call is None:
                    if self._quit:
                        self._ended = True
                        return
                    timeout = self._queued_runs.popleft() if self._queued_runs else None
                    self._running = True
                    self._run_number += 1
            if call is not None:
                call.make()
                with self._changed:
                    self._changed.notify_all()
                continue
            try:
                self._run(timeout)
            finally:
                with self._changed:
                    self._running = False
                    self._suspends = 0
                    self._changed.notify_all()

    def _is_run_wanted(self) -> bool:
        return bool(self._queued_runs) or self._needs_run()

    @uninterrupted
    def resume(self, timeout: Optional[float]) -> None:
        """Continue a suspended run, or else queue a run with this timeout. Does not wait for it.

        Raises:
            TaskError: this process was forked after the task had been made, or the task was given
                up.
        """
        self.check_exists()
        with self._changed:
            self._check_not_quit()
            if self._suspends:
                self._suspends -= 1
            else:
                self._queued_runs.append(timeout)
            self._changed.notify_all()
            self._keep_alive()

    @uninterrupted
    def on_work(self) -> None:
        """There is work that needs a run: begin one, unless the task runs. Does not wait for it.

        Raises:
            TaskError: the task was given up.
        """
        with self._changed:
            self._check_not_quit()
            self._changed.notify_all()
            self._keep_alive()

    def _check_not_quit(self) -> None:
        if self._quit:
            raise TaskError(
                "this task's thread has ended (abort(kill=True), or a with block): use a new Task()"
            )

    def check_exists(self) -> None:
        """Check that the thread exists.

        Raises:
            TaskError: this process was forked after the task had been made.
        """
        if self._abandoned:
            raise TaskError(
                "this task's thread does not exist in a forked process: make a new Task() there"
            )

    def _keep_alive(self) -> None:
        """Keep the program from ending before the run. The lock is held."""
        if self._keep_alive_thread is None and not self.daemon:
            # At a program's end, Python stops a daemon thread even during a run. It waits for other
            # threads, so this one lives as long as the run.
            self._keep_alive_thread = threading.Thread(
                target=self._keep_program_alive, name="pyclustershell task keeper", daemon=False
            )
            self._keep_alive_thread.start()

    def _keep_program_alive(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_suspended() or self._is_at_rest())
            self._keep_alive_thread = None

    def _is_suspended(self) -> bool:
        # resume() changes the first at once; the task's thread clears the second a little later.
        return self._suspends > 0 and self._suspended

    def _is_at_rest(self) -> bool:
        return self._quit or not (self._running or self._is_run_wanted())

    @interruptible
    def suspend(self) -> bool:
        """Pause the run, and wait until it has paused. On the task's thread, do not wait.

        Returns:
            True if the run is suspended; False if the task was not running, or has ended meanwhile.
        """
        with self._changed:
            if not self._running:
                return False
            self._suspends += 1
            self._post(self._block_while_suspended)
            if threading.current_thread() is not self.thread:
                self._changed.wait_for(lambda: self._suspended or not self._running)
                return self._suspended
        return True

    def _block_while_suspended(self) -> None:
        """Block the task's thread until the run is resumed. Called on the task's thread."""
        with self._changed:
            self._suspended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._suspends or self._quit)
            self._suspended = False
            self._changed.notify_all()

    @interruptible
    def end_run(
        self, abort: Callable[[], Any], then: Callable[[], Any], quit_thread: bool = False
    ) -> None:
        """End the current run, also a suspended one; wait until it has ended, and make a call.

        Queued runs are dropped. To be called on another thread.

        Args:
            abort: ends the run. Called on the task's thread, in its loop.
            then: called on the task's thread when no run is under way; on the calling thread if the
                task's thread has ended before. What it raises is raised here.
            quit_thread: True to end the thread after the call.
        """
        call = _Call(then)
        with self._changed:
            ended = self._ended
            self._quit = self._quit or quit_thread
            if not ended:
                self._queued_runs.clear()
                self._calls.append(call)
                if self._running:
                    self._suspends = 0
                    self._post(self._abort_run, self._run_number, abort)
                self._changed.notify_all()
                self._changed.wait_for(lambda: call.made)
        if ended:
            call.make()
        if call.error is not None:
            raise call.error

    def _abort_run(self, number: int, abort: Callable[[], Any]) -> None:
        # The run may have ended by itself before this call was made: it is not for the next one.
        if number == self._run_number:
            abort()

    @interruptible
    def join(self) -> None:
        """Wait until all queued runs have ended. Returns at once on the task's thread."""
        if threading.current_thread() is self.thread:
            return
        with self._changed:
            self._changed.wait_for(self._is_at_rest)

    def abandon(self) -> None:
        """In a forked child: the thread does not exist, and nothing waits for it."""
        self._changed = threading.Condition()
        self._abandoned = self._quit = self._ended = True
        self._queued_runs.clear()
        self._calls.clear()
        self._running = self._suspended = False
        self._suspends = 0

    @uninterrupted
    def quit(self) -> None:
        """Drop the queued runs, and end the thread after the current run."""
        with self._changed:
            self._quit = True
            self._queued_runs.clear()
            self._changed.notify_all()
