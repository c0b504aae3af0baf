"""The thread of a task that has one of its own, and how other threads steer it."""

from __future__ import annotations

import functools
import threading
from collections import deque
from typing import Any, Callable, Optional, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def on_tasks_thread(method: Method) -> Method:
    """Let a task's method be called from any thread: from another one, it is posted to the task's.

    There it is called in the loop's next pass, or at the start of the next run. It returns None,
    and what it raises ends the run.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is self.thread:
            return method(self, *args, **kwargs)
        self.post(functools.partial(method, self, *args, **kwargs))
        return None

    return cast(Method, call)


class TaskThread:
    """Waits for resume(), runs the task, and waits again, until it is told to quit.

    All methods may be called from any thread. A program may end without having ended its tasks, as
    the thread is a daemon; but it does not end before a run has, unless that is suspended.

    Args:
        run: runs the task on the new thread, with a timeout in seconds or None; it does not raise.
        post: the engine's :meth:`~.engine.engine.Engine.post`.
    """

    def __init__(self, run: Callable[[Optional[float]], Any], post: Callable[..., Any]) -> None:
        self._run = run
        self._post = post
        # The mutable state, all of it: what is wanted, and what is.
        self._changed = threading.Condition()
        self._wanted: deque[Optional[float]] = deque()
        self._running = False
        self._suspends = 0
        self._suspended = False
        self._quit = False
        self._keeper: Optional[threading.Thread] = None
        self.thread = threading.Thread(target=self._work, name="pyclustershell task", daemon=True)

    def __repr__(self) -> str:
        state = "suspended" if self._suspended else "running" if self._running else "at rest"
        return f"<TaskThread {self.thread.name}: {state}, {len(self._wanted)} runs wanted>"

    def start(self) -> None:
        """Start the thread; it does nothing until :meth:`resume`."""
        self.thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._quit)
                if self._quit:
                    return
                timeout = self._wanted.popleft()
                self._running = True
            try:
                self._run(timeout)
            finally:
                with self._changed:
                    self._running = False
                    self._suspends = 0
                    self._changed.notify_all()

    def resume(self, timeout: Optional[float]) -> None:
        """Go on after :meth:`suspend`; otherwise run the task (again), without waiting for it."""
        with self._changed:
            if self._suspends:
                self._suspends -= 1
            else:
                self._wanted.append(timeout)
            self._changed.notify_all()
            if self._keeper is None:
                # What a program's end would do to a daemon in the middle of a run, it does not do
                # to a thread that is none: Python waits for it.
                self._keeper = threading.Thread(
                    target=self._keep_program, name="pyclustershell task keeper", daemon=False
                )
                self._keeper.start()

    def _keep_program(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_suspended() or self._is_at_rest())
            self._keeper = None

    def _is_suspended(self) -> bool:
        # The task's thread clears the second a little later than resume() the first.
        return self._suspends > 0 and self._suspended

    def _is_at_rest(self) -> bool:
        return self._quit or not (self._running or self._wanted)

    def suspend(self) -> bool:
        """Stop the task where it is, and wait until it has stopped.

        Returns:
            Whether it is suspended now: False where it was not running.
        """
        with self._changed:
            if not self._running:
                return False
            self._suspends += 1
            self._post(self._be_suspended)
            if threading.current_thread() is not self.thread:
                self._changed.wait_for(lambda: self._suspended or not self._running)
                return self._suspended
        return True

    def _be_suspended(self) -> None:
        """On the task's thread: do nothing until it is resumed."""
        with self._changed:
            self._suspended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._suspends or self._quit)
            self._suspended = False
            self._changed.notify_all()

    def end_run(self, abort: Callable[[], Any]) -> None:
        """End the run that is under way (also a suspended one), and wait until it has ended.

        Args:
            abort: called on the task's thread, in its loop.
        """
        with self._changed:
            self._wanted.clear()
            if not self._running:
                return
            self._suspends = 0
            self._post(abort)
            self._changed.notify_all()
            if threading.current_thread() is not self.thread:
                self._changed.wait_for(lambda: not self._running)

    def join(self) -> None:
        """Wait until the task has run as often as was wanted. At once, from its own thread."""
        if threading.current_thread() is self.thread:
            return
        with self._changed:
            self._changed.wait_for(self._is_at_rest)

    def quit(self) -> None:
        """Let the thread end when it has nothing to run any more."""
        with self._changed:
            self._quit = True
            self._wanted.clear()
            self._changed.notify_all()
