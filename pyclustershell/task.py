"""Task: engine, pool, workers and results of one thread, behind one object."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from traceback import print_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from .defaults import Defaults
from .engine.engine import Engine
from .engine.limits import ensure_descriptors
from .engine.polling import make_selector
from .exceptions import (
    AlreadyRunningError,
    EngineCapacityError,
    TaskError,
    TaskMsgTreeError,
    TimeoutError,
)
from .results import Results
from .taskconnections import TaskConnections
from .taskresults import TaskResults
from .taskscheduling import TaskScheduling
from .tasksettings import TaskSettings, check_info
from .taskthread import TaskThread, on_tasks_thread
from .transport.reaper import Reaper, process_reaper

if TYPE_CHECKING:
    from .transport.config.answers import Unanswered
    from .transport.config.options import SSHOptions
    from .transport.config.settings import ConnectionSettings
    from .transport.pool import TransportPool
    from .transport.stats import PoolStats
    from .worker.worker import Worker

__all__ = [
    "AlreadyRunningError",
    "Task",
    "TaskError",
    "TaskMsgTreeError",
    "TimeoutError",
    "task_cleanup",
    "task_self",
    "task_terminate",
    "task_wait",
]

ExceptHook = Callable[
    [Optional[type[BaseException]], Optional[BaseException], Optional[TracebackType]], Any
]

# For Python, the engine, the pool's files and the user's own.
_DESCRIPTORS_SPARE = 64


class _Abort(BaseException):
    """Carries ``Task.abort()`` from a handler up to ``Task.resume()``."""

    def __init__(self, kill: bool) -> None:
        super().__init__(kill)
        self.kill = kill


class Task(TaskScheduling, TaskResults):
    """Runs workers in one thread, and keeps their results.

    There is one task per thread. :func:`task_self` gives the calling thread's, in which
    :meth:`resume` runs and returns when everything has ended. ``Task()`` makes one with a thread of
    its own: there resume() returns at once, and :meth:`join` or :func:`task_wait` wait. A program
    does not end before such a run has.

    What is scheduled (:meth:`shell`, :meth:`copy`, :meth:`schedule`, :meth:`timer`) waits for the
    next resume(); in a running task, from a handler, it starts before the call returns, as far as
    the fanout allows. Clients start in the order of scheduling, then in that of the node set.

    Handlers are called on the task's thread only, one at a time; :class:`~.event.EventHandler` says
    when, and what follows. What one raises ends the run, and leaves resume(); in a task's own
    thread it goes to :attr:`excepthook`. Either way all workers have been ended, and the task can
    be used again.

    Results last until the next resume(), or :meth:`abort`. They can be read from handlers, and
    after the run; from other threads when the task has been joined.

    From other threads, ``shell``, ``schedule``, ``timer``, ``port``, ``remove_port``, ``set_info``,
    ``set_default``, ``resume``, ``suspend``, ``join``, ``abort`` and a port's messages are safe.
    What they ask for is done in the loop's next pass, or at the start of the next run.

    Connections are made when the first worker needs them; they outlive the run and serve the next
    one, until :meth:`close`, the end of a ``with`` block, or the end of the process.

    Args:
        thread: the thread whose task is wanted (made at first use); None for a task with a thread
            of its own.
        defaults: what a new task's info and default keys are; None for
            :data:`~.defaults.DEFAULTS`.
    """

    def __new__(
        cls, thread: Optional[threading.Thread] = None, defaults: Optional[Defaults] = None
    ) -> Task:
        """Find the thread's task, or make one."""
        if thread is None:
            return super().__new__(cls)
        with _tasks_lock:
            task = _threads_tasks.get(thread)
            if task is None:
                task = _threads_tasks[thread] = super().__new__(cls)
            return task

    def __init__(
        self, thread: Optional[threading.Thread] = None, defaults: Optional[Defaults] = None
    ) -> None:
        if hasattr(self, "_engine"):
            return  # found, not made
        self.results = Results()
        self._settings = TaskSettings(defaults)
        self._engine = Engine(make_selector=lambda: make_selector(self.default("engine")))
        self._connections = TaskConnections(self._engine, self.reaper, self._settings)
        self._excepthook: ExceptHook = self.default_excepthook
        self._runner: Optional[TaskThread] = None
        if thread is not None:
            self.thread = thread
            return
        self._runner = TaskThread(self._run_guarded, self.post)
        self.thread = self._runner.thread
        with _tasks_lock:
            _threads_tasks[self.thread] = self
        self._runner.start()

    def __repr__(self) -> str:
        return f"<Task of {self.thread.name}: {self._engine!r}, {self._connections!r}>"

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- settings --

    def info(self, info_key: str, def_val: Any = None) -> Any:
        """The value of an info key, or ``def_val`` where there is no such key."""
        return self._settings.info.get(info_key, def_val)

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key: one of those that the task reads, or a key of your own (``USER_*``).

        Raises:
            ValueError, TypeError, ConfigurationError: the value is wrong for this key.
        """
        check_info(info_key, value)
        self._store_info(info_key, value)

    @on_tasks_thread
    def _store_info(self, info_key: str, value: Any) -> None:
        self._settings.set_info(info_key, value)
        self._connections.forget_settings()
        if self._engine.running:
            self._apply_limits()

    def default(self, default_key: str, def_val: Any = None) -> Any:
        """The value of a default key, or ``def_val`` where there is no such key.

        ``local_worker`` and ``distant_worker`` are worker classes, by default those that
        ``local_workername`` and ``distant_workername`` name.
        """
        return self._settings.get_default(default_key, def_val)

    def set_default(self, default_key: str, value: Any) -> None:
        """Set a default key: what later workers are made with.

        Raises:
            ImportError: there is no worker of the name given as ``*_workername``.
            ValueError: ``engine`` is none of 'auto', 'epoll', 'poll' and 'select'.
        """
        self._settings.set_default(default_key, value)

    def configure_ssh(self, nodes: Any = None, **options: Any) -> None:
        """Say how connections are made: for all nodes, or for some.

        What is said later wins over what was said before, and what is said for some nodes over
        what is said for all; a worker's own ``ssh=`` wins over both.

        Args:
            nodes: the nodes (what NodeSet takes); None for all.
            **options: fields of SSHOptions.

        Raises:
            TypeError: an option is unknown, or has a value of a wrong type.
            ValueError: an option has a wrong value.
        """
        self._connections.configure(nodes, options)

    def connection_settings(
        self,
        node: str,
        ssh: Optional[SSHOptions] = None,
        wait: bool = True,
        copying: bool = False,
    ) -> ConnectionSettings:
        """What a node's connection would be made with.

        Args:
            node: the node's name.
            ssh: options of one worker, before all others.
            wait: whether to wait where that depends on a command (``Match exec``) or on a name to
                be looked up (CanonicalizeHostname).
            copying: whether it is for a copy: then ``scp_user`` and ``scp_options``, where they are
                set, take the place of ``ssh_user`` and ``ssh_options``.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
            Unanswered: something would have to be waited for; :meth:`when_found_out` does that.
        """
        return self._connections.settings_of(node, ssh, wait, copying)

    def when_found_out(self, question: Unanswered, then: Callable[[], Any]) -> None:
        """Call ``then()`` on the task's thread when somebody has found out what was asked.

        Args:
            question: what :meth:`connection_settings` has raised.
            then: asks it again.
        """
        self._connections.find_out(question, lambda: self.post(then))

    # -- running --

    @on_tasks_thread
    def schedule(self, worker: Worker) -> None:
        """Schedule a worker that you made yourself.

        Raises:
            WorkerError: it has been scheduled before.
        """
        self._engine.add(*worker.bind(self))

    def run(
        self, command: Union[str, bytes, float, None] = None, **kwargs: Any
    ) -> Optional[Worker]:
        """Schedule a command as :meth:`shell` does, and :meth:`resume`.

        Without a command, run what has been scheduled: ``run(timeout=10)`` and ``run(10)`` are
        ``resume(10)``.

        Returns:
            The command's worker, or None without a command.
        """
        if command is None or isinstance(command, (int, float)):
            timeout = kwargs.pop("timeout", command)
            if kwargs:
                raise TypeError(f"run() without a command does not take {', '.join(kwargs)}")
            self.resume(timeout)
            return None
        worker = self.shell(command, **kwargs)
        self.resume()
        return worker

    def resume(self, timeout: Optional[float] = None) -> None:
        """Run what has been scheduled; return when all of it has ended.

        That is when no worker, timer or port is left that is not autoclose. The results of the run
        before are forgotten first.

        For a task with a thread of its own, that is where it runs: this method does not wait. After
        :meth:`suspend` it lets the run go on.

        Args:
            timeout: seconds that the whole run may take; None or 0 for no limit.

        Raises:
            TimeoutError: time ran out. Every worker and timer has been ended.
            AlreadyRunningError: the task is running.
            EngineCapacityError: the fanout needs more open files than the system allows; nothing
                has been started.
            Exception: what a handler raised. Every worker and timer has been ended.
        """
        if self._runner is not None and threading.current_thread() is not self.thread:
            self._runner.resume(timeout)
            return
        self._run(timeout)

    def _run(self, timeout: Optional[float]) -> None:
        if threading.current_thread() is not self.thread:
            raise TaskError(f"{self!r} runs in its own thread only: call resume() there")
        if self._engine.running:
            raise AlreadyRunningError("the task is already running: call resume() after the run")
        self.results.clear()
        self._apply_limits()
        try:
            self._check_capacity()
        except EngineCapacityError:
            self._engine.clear()
            raise
        self._connections.on_run_begins()
        kill = False
        try:
            self._engine.run(timeout or None)
        except _Abort as abort:
            self.results.clear()
            kill = abort.kill
        finally:
            self._connections.on_run_ends()
        if kill:
            self.close()

    def _run_guarded(self, timeout: Optional[float]) -> None:
        """Run in a thread of its own: what a handler raises goes to the excepthook."""
        try:
            self._run(timeout)
        except BaseException:
            self.excepthook(*sys.exc_info())

    @property
    def excepthook(self) -> ExceptHook:
        """Called with type, value and traceback of what left a run in the task's own thread.

        As ``sys.excepthook``; the default one prints it. The task can be run again. For a task
        without a thread of its own, whose :meth:`resume` raises, what is set here becomes
        ``sys.excepthook`` itself.
        """
        return self._excepthook

    @excepthook.setter
    def excepthook(self, hook: ExceptHook) -> None:
        self._excepthook = hook
        if self._runner is None:
            sys.excepthook = hook

    def default_excepthook(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        tb: Optional[TracebackType],
    ) -> None:
        """Print an exception on stderr, with the name of the task's thread."""
        print(f"Exception in thread {self.thread.name}:", file=sys.stderr)
        print_exception(exc_type, exc_value, tb)

    def _apply_limits(self) -> None:
        self._engine.fanout = self.info("fanout")
        self._connections.apply_limits()

    def _check_capacity(self) -> None:
        at_once = min(self._engine.fanout, self._engine.backlog)
        pooled = min(self.info("ssh_pool_size") or 0, self._engine.backlog)
        ensure_descriptors(
            self._engine.descriptors_needed + max(0, pooled - at_once) + _DESCRIPTORS_SPARE,
            f"use a smaller fanout (now {self._engine.fanout}) or pool, or raise the limit of open "
            "files (ulimit -n)",
        )

    def running(self) -> bool:
        """Whether the task is running."""
        return self._engine.running

    def suspend(self) -> bool:
        """Stop the run of a task with a thread of its own where it is; :meth:`resume` goes on.

        Commands go on on their nodes. Returns when the task has stopped.

        Returns:
            Whether it is suspended: False where it was not running.

        Raises:
            TaskError: the task has no thread of its own.
        """
        if self._runner is None:
            raise TaskError("only a task with a thread of its own, Task(), can be suspended")
        return self._runner.suspend()

    def join(self) -> None:
        """Wait until a task with a thread of its own has run; at once for any other."""
        if self._runner is not None:
            self._runner.join()

    def abort(self, kill: bool = False) -> None:
        """End every worker and timer, and forget the results.

        From a handler, it does not return: :meth:`resume` does. From another thread, it returns
        when the run has ended (for a task without a thread of its own: at once).

        Args:
            kill: also give the task up: close its ports and connections, and end its thread if it
                is its own; :func:`task_self` makes a new task.
        """
        if kill:
            _forget(self)
            if self._runner is not None:
                self._runner.quit()
        if threading.current_thread() is self.thread:
            if self._engine.running:
                raise _Abort(kill)
            self._clear(kill)
        elif self._runner is not None:
            self._runner.end_run(functools.partial(_raise_abort, kill))
            if not self._engine.running:
                self._clear(kill)
        elif self._engine.running:
            self.post(_raise_abort, kill)

    def _clear(self, kill: bool) -> None:
        self._engine.clear()
        self.results.clear()
        if kill:
            self.close()

    @staticmethod
    def wait(from_thread: threading.Thread) -> None:
        """Wait until every task with a thread of its own has run, but for ``from_thread``'s."""
        with _tasks_lock:
            tasks = list(_threads_tasks.items())
        for thread, task in tasks:
            if thread is not from_thread:
                task.join()

    def close(self) -> None:
        """Close every connection and free what the task holds. It can be used again.

        Waits, for ``ssh_kill_grace`` seconds at the most, for commands that are being killed.
        """
        self._connections.close()
        self._engine.close()

    def stats(self) -> PoolStats:
        """What the task's connections do now, and have done since the task was made: in numbers.

        Returns:
            A record that does not change: connections ``open``, ``idle``, in ``handshakes``, and
            commands ``waiting`` for one; how many were ``opened``, ``reused``, ``evicted`` and
            ``retried``; ``bytes_sent`` and ``bytes_received``, as they are on the wire.
        """
        return self._connections.stats()

    # -- what workers need of their task --

    @property
    def pool(self) -> TransportPool:
        """The pool of transports, made at first use."""
        return self._connections.pool

    @property
    def reaper(self) -> Reaper:
        """Who sees to what comes after the end of a run."""
        return process_reaper()

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have ``callback(*args)`` called on the task's thread. May be called from any thread.

        It is called in the loop's next pass, or at the start of the next run. What it raises ends
        the run.
        """
        self._engine.post(callback, *args)

    def debug(self, line: str) -> None:
        """Hand a line to ``print_debug``, where the info key ``debug`` is set."""
        if self.info("debug"):
            self.info("print_debug")(self, line)


# -- one task per thread --

_threads_tasks: weakref.WeakKeyDictionary[threading.Thread, Task] = weakref.WeakKeyDictionary()
_tasks_lock = threading.Lock()


def task_self(defaults: Optional[Defaults] = None) -> Task:
    """The calling thread's task, made at first use.

    Args:
        defaults: what a new task's info and default keys are; None for
            :data:`~.defaults.DEFAULTS`. A task that is there already stays as it is.
    """
    return Task(thread=threading.current_thread(), defaults=defaults)


def task_wait() -> None:
    """Wait until every other task with a thread of its own has run."""
    Task.wait(threading.current_thread())


def task_terminate() -> None:
    """End the calling thread's task and give it up: ``task_self().abort(kill=True)``."""
    task_self().abort(kill=True)


def task_cleanup() -> None:
    """End every task and give it up. For the end of a program, from its main thread."""
    with _tasks_lock:
        tasks = list(_threads_tasks.values())
    for task in tasks:
        task.abort(kill=True)


def _raise_abort(kill: bool) -> None:
    raise _Abort(kill)


def _forget(task: Task) -> None:
    with _tasks_lock:
        if _threads_tasks.get(task.thread) is task:
            del _threads_tasks[task.thread]
