"""Task: engine, connections, workers and results of one thread, behind one object."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from traceback import print_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, Union, overload

from ..arguments import (
    check_delay,
    check_flags,
    check_function,
    check_handler,
    check_interval,
    check_limit,
)
from ..defaults import Defaults
from ..engine.delayed import process_delayed_calls
from ..engine.engine import Engine
from ..engine.interrupts import uninterrupted
from ..engine.polling import make_selector
from ..engine.port import EnginePort
from ..engine.timer import EngineTimer
from ..exceptions import TaskAbortedError, TaskError
from ..nodeset import NodeSet, NodeSetBase
from ..worker.context import WorkerContext
from ..worker.store import RunResults
from ..worker.worker import Worker
from .capacity import Capacity
from .connections import TaskConnections
from .getters import TaskGetters
from .incoming import IncomingWorkers
from .registry import ThreadRegistry, find_thread
from .runner import RunAborted, TaskRunner
from .scheduling import make_command_worker, make_copy_worker
from .settings import TaskSettings, check_info
from .thread import TaskThread, on_task_thread
from .topology import TaskTopology

if TYPE_CHECKING:
    from ..nodeset.topology import TopologyTree
    from ..ssh.config.configline import Setting
    from ..ssh.config.options import SSHOptions
    from ..ssh.config.settings import ConnectionSettings
    from ..ssh.stats import PoolStats
    from ..worker.popen import WorkerPopen
    from ..worker.worker import DistantWorker
    from .submission import Outcome, ResultsFuture

ExceptHook = Callable[
    [Optional[type[BaseException]], Optional[BaseException], Optional[TracebackType]], Any
]

#: Nodes, as NodeSet takes them.
Nodes = Union[str, NodeSetBase]


class Task(TaskGetters):
    """Runs workers in one thread, and keeps their results.

    There is one task per thread. :func:`task_self` returns the calling thread's task; its
    :meth:`resume` runs in that thread and returns when everything has ended. ``Task()`` creates a
    task with a thread of its own; its resume() returns at once, and :meth:`join` or
    :func:`task_wait` wait for it. A program does not end before such a run has ended.

    Scheduled work (:meth:`shell`, :meth:`copy`, :meth:`schedule`, :meth:`timer`) waits for the next
    resume(). If a handler schedules it while the task runs, it starts before the call returns, as
    far as the fanout allows. Clients start in the order of scheduling, then in that of the node
    set.

    Handlers are called on the task's thread only, one at a time; see :class:`~.event.EventHandler`.
    An exception in a handler ends the run and leaves resume(); in a task's own thread it goes to
    :attr:`excepthook`. Either way all workers have been ended, and the task can be used again.

    Results last until the next resume() or :meth:`abort`. Handlers can read them, and so can any
    code after the run. Other threads can read them when the task has been joined.

    From other threads, ``shell``, ``submit``, ``copy``, ``rcopy``, ``schedule``, ``timer``,
    ``port``, ``remove_port``, ``post``, ``set_info``, ``set_default``, ``resume``, ``suspend``,
    ``join``, ``abort`` and a port's messages are safe; so are ``abort``, ``write``,
    ``set_write_eof`` and ``when_closed`` of a worker. They take effect in the loop's next pass, or
    at the start of the next run.

    Connections are made when the first worker needs them. They outlive the run and serve the next
    one, until :meth:`close`, the end of a ``with`` block, or the end of the process. The end of a
    ``with`` block also ends the thread of a task that has one of its own.

    Args:
        thread: the thread whose task is wanted (created at first use); None for a task with a
            thread of its own.
        defaults: the info and default keys of a new task; None for :data:`~.defaults.DEFAULTS`.
        thread_id: the identifier of that thread (``threading.get_ident()``), in place of
            ``thread``.
        daemon: for a task with a thread of its own: True if the program may end during its runs, as
            during those of a daemon thread. What runs then is aborted, and
            :func:`task_wait` does not wait for it.

    Raises:
        TypeError: both ``thread`` and ``thread_id`` are given, or one has a wrong type, or
            ``daemon`` is given with one of them.
        ValueError: no running thread has the identifier ``thread_id``.
    """

    #: The files to search for a topology, the most important last; None for ClusterShell's places.
    TOPOLOGY_CONFIGS: ClassVar[Optional[Sequence[str]]] = None

    thread: threading.Thread

    def __new__(
        cls,
        thread: Optional[threading.Thread] = None,
        defaults: Optional[Defaults] = None,
        *,
        thread_id: Optional[int] = None,
        daemon: bool = False,
    ) -> Task:
        """Find the thread's task, or create one."""
        thread = _named_thread(thread, thread_id)
        if thread is not None and daemon:
            raise TypeError("daemon= is for a task with a thread of its own: leave thread= out")
        if thread is None:
            return super().__new__(cls)
        return _tasks.find_or_make(thread, functools.partial(super().__new__, cls))

    def __init__(
        self,
        thread: Optional[threading.Thread] = None,
        defaults: Optional[Defaults] = None,
        *,
        thread_id: Optional[int] = None,
        daemon: bool = False,
    ) -> None:
        # Other threads may ask for the same task: they wait until it is complete.
        with _tasks.lock:
            if hasattr(self, "_runner"):
                return  # __new__ has found an existing task
            thread = _named_thread(thread, thread_id)
            try:
                self._set_up(thread, defaults, daemon)
            except BaseException:
                if thread is not None:
                    _tasks.remove(thread, self)
                raise

    def _set_up(
        self, thread: Optional[threading.Thread], defaults: Optional[Defaults], daemon: bool
    ) -> None:
        self._settings = TaskSettings(defaults)
        self._engine = Engine(make_selector=lambda: make_selector(self.default("engine")))
        delayed_calls = process_delayed_calls()
        self._connections = TaskConnections(self._engine, delayed_calls, self._settings)
        topology = self._topology = TaskTopology(self._settings, lambda: self.TOPOLOGY_CONFIGS)
        self._excepthook: ExceptHook = self.default_excepthook
        capacity = Capacity(self._engine, self._settings.info)
        self._incoming_workers = IncomingWorkers(self._engine, capacity)
        # The exception of the last run that a future has: the excepthook does not report it.
        self._reported_error: Optional[BaseException] = None
        # None if the task runs in a thread that it did not create.
        self._own_thread: Optional[TaskThread] = None
        if thread is None:
            self._own_thread = TaskThread(
                self._run_guarded, self.post, self._incoming_workers.needs_run, daemon
            )
            thread = self._own_thread.thread
            _tasks.add(thread, self)
        self.thread = thread
        run_results = RunResults()
        context = WorkerContext(
            task=self,
            thread=thread,
            engine=self._engine,
            results=run_results,
            info=self._settings.info,
            defaults=self._settings.default,
            connections=self._connections,
            delayed_calls=delayed_calls,
            topology=lambda: topology.tree,
        )
        super().__init__(context, run_results)
        # Of submitted commands: their results are not those of the run.
        self._submission_context = dataclasses.replace(context, results=None)
        self._runner = TaskRunner(
            context, self._connections, run_results, self._incoming_workers, capacity
        )
        if self._own_thread is not None:
            self._own_thread.start()
            if daemon:
                self._connections.call_at_exit(functools.partial(self.abort, kill=True))

    def __repr__(self) -> str:
        return f"<Task of {self.thread.name}: {self._engine!r}, {self._connections!r}>"

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close(quit_thread=True)

    # -- settings --

    def info(self, info_key: str, def_val: Any = None) -> Any:
        """Return the value of an info key; ``def_val`` if there is no such key."""
        return self._settings.info.get(info_key, def_val)

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key: a key that the task reads, or your own key (``USER_*``).

        Raises:
            ValueError, TypeError, ConfigurationError: the value is wrong for this key.
            ValueError: the key is unknown, and similar to one that the task reads.
        """
        check_info(info_key, value)
        self._store_info(info_key, value)

    @on_task_thread
    def _store_info(self, info_key: str, value: Any) -> None:
        self._settings.set_info(info_key, value)
        self._connections.forget_settings()
        if self._engine.running:
            self._runner.apply_limits()

    def default(self, default_key: str, def_val: Any = None) -> Any:
        """Return the value of a default key; ``def_val`` if there is no such key.

        ``local_worker`` and ``distant_worker`` are worker classes. By default they are the classes
        named by ``local_workername`` and ``distant_workername``.
        """
        return self._settings.get_default(default_key, def_val)

    def set_default(self, default_key: str, value: Any) -> None:
        """Set a default key. Workers that are created later use it.

        Raises:
            ImportError: ``*_workername`` is the name of no worker.
            ValueError: ``engine`` is not 'auto', 'epoll', 'poll' or 'select'; a value is wrong for
                its key; the key is unknown, and similar to one that the task reads.
            TypeError: the value has a wrong type.
        """
        self._settings.set_default(default_key, value)

    def configure_ssh(self, nodes: Any = None, **options: Any) -> None:
        """Set SSH options, for all nodes or for some.

        Later options win over earlier ones, and options for some nodes over options for all nodes.
        A worker's own ``ssh=`` wins over both.

        Args:
            nodes: the nodes, as NodeSet takes them; None for all nodes.
            **options: fields of SSHOptions.

        Raises:
            TypeError: an option is unknown, or has a value of a wrong type.
            ValueError: an option has a wrong value.
        """
        self._connections.configure(nodes, options)

    def connection_settings(
        self, node: str, ssh: Optional[SSHOptions] = None, copying: bool = False
    ) -> ConnectionSettings:
        """Resolve the settings that a connection to a node would use.

        No connection is made. The call blocks if the settings depend on a command (``Match exec``)
        or on the lookup of a name (CanonicalizeHostname). To be called on the task's thread.

        Args:
            node: the node's name.
            ssh: options of one worker; they win over all others.
            copying: True for a copy: ``scp_user`` and ``scp_options``, if set, take the place of
                ``ssh_user`` and ``ssh_options``.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
            TopologyError: the topology file is wrong.
        """
        # Not at the top: a program that runs local commands only does not need it.
        from ..worker.ssh import route_of

        topology = self._topology.find(None)
        route = None if topology is None else route_of(topology.router(), node)
        return self._connections.settings_of(node, ssh, copying=copying, route=route)

    def connection_sources(self, node: str) -> list[Setting]:
        """Return what has decided on the settings of a node's connection.

        The rest are defaults. No connection is made; the call may block as
        :meth:`connection_settings` does. To be called on the task's thread.

        Args:
            node: the node's name.

        Returns:
            A record for each setting of ssh_config(5) that counts: ``keyword``, ``value``,
            ``filename``, ``line``, and ``place``: both in words. Options of code and of
            ``ssh_options`` have the place 'the command line'.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
        """
        return self._connections.sources_of(node)

    # -- commands and copies --

    @uninterrupted
    def schedule(self, worker: Worker) -> None:
        """Schedule a worker that you have created yourself.

        Raises:
            WorkerError: it has been scheduled before.
            TypeError: it is not a worker.
            EngineCapacityError: the task runs, and the worker needs more open files than the system
                allows; nothing of it has been started. On another thread than the task's, the error
                ends the run.
        """
        if not isinstance(worker, Worker):
            raise TypeError(
                f"schedule() takes a worker such as WorkerSsh(...), not {worker!r}: see shell()"
            )
        clients = worker.bind(self._context)
        if threading.current_thread() is self.thread:
            if self._engine.running:
                self._incoming_workers.start(worker, clients)
            else:
                # The begin of the run checks the open files of all workers.
                self._engine.add(*clients)
        else:
            self._incoming_workers.add(worker, clients, needs_run=False)
            self._incoming_workers.announce()

    @overload
    def shell(
        self,
        command: Union[str, bytes],
        nodes: None = None,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: None = None,
    ) -> WorkerPopen: ...

    @overload
    def shell(
        self,
        command: Union[str, bytes],
        nodes: Nodes,
        key: None = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> DistantWorker: ...

    def shell(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes] = None,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> Union[WorkerPopen, DistantWorker]:
        """Schedule a command: on nodes, or (without ``nodes``) on this host.

        It starts when the task runs; at once, if the task runs already and the fanout allows.

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            key: the key of a local command's results.
            handler: an EventHandler.
            timeout: seconds that the command may take on each node; None for no limit.
            autoclose: True if the run may end before this command has ended.
            stderr: True to keep stderr apart from stdout; None for the task's default.
            stdin: True if the command's standard input can be written to; False if it is empty.
                None for the task's default.
            remote: False to run the command on this host, once for each node: see ExecWorker.
            tree: False to connect directly in spite of a topology: see :meth:`load_topology`.
            ssh: options for this command's connections; they win over all others.

        Returns:
            The scheduled worker: a DistantWorker for nodes, a WorkerPopen for a local command.

        Raises:
            ValueError: an argument is wrong, or arguments do not fit together. This includes an
                empty ``nodes``: the command is not run on this host instead.
            NodeSetParseError: the nodes cannot be parsed.
            TaskError: the task has a topology, and gateways are not supported.
            TypeError: an argument has a wrong type, such as a handler that is a class.
        """
        worker = self.command_worker(
            command,
            nodes,
            key=key,
            handler=handler,
            timeout=timeout,
            autoclose=autoclose,
            stderr=stderr,
            stdin=stdin,
            remote=remote,
            tree=tree,
            ssh=ssh,
        )
        self.schedule(worker)
        return worker

    def command_worker(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes] = None,
        *,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> Union[WorkerPopen, DistantWorker]:
        """Return the worker of :meth:`shell`, for :meth:`submit` or :meth:`schedule`.

        It is not scheduled, so its attributes can be changed. The arguments and the exceptions are
        those of :meth:`shell`. May be called from any thread.
        """
        options: dict[str, Any] = {
            "handler": handler,
            "timeout": timeout,
            "autoclose": autoclose,
            "stderr": stderr,
            "stdin": stdin,
            "remote": remote,
        }
        if ssh is not None:
            options["ssh"] = ssh
        node_set = None
        if nodes is not None:
            node_set = NodeSet(nodes)
            if not node_set:
                raise ValueError(
                    f"{_no_node(nodes)}: name a node, or leave nodes= out for a local command"
                )
            if key is None:
                options["topology"] = self._topology.find(tree)
        return make_command_worker(self._settings, command, node_set, key=key, **options)

    def submit(
        self,
        command: Union[str, bytes, Worker],
        nodes: Optional[Nodes] = None,
        *,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> ResultsFuture:
        """Run a command and return a future of its results. May be called from any thread.

        ::

            with Task() as task:
                futures = [task.submit(f"backup {kind}", nodes=nodes) for kind, nodes in jobs]
                for future in concurrent.futures.as_completed(futures):
                    future.result().check()

        For a task with a thread of its own, ``Task()``. If the task does not run, a run begins, as
        by :meth:`resume`: it also runs the other scheduled work. Commands that are submitted at the
        same time share the fanout and the connections.

        The results belong to the future. The task's getters do not know them, and the task keeps
        nothing of a submitted command that has ended.

        The future fails if an exception ends the run: a handler's, an EngineCapacityError, the
        TimeoutError of ``resume(timeout)``; if the task is aborted or closed, it is a
        TaskAbortedError. The excepthook is not called for an exception that a future has.
        If the task runs and the command needs too many open files, only this future fails, with an
        EngineCapacityError.

        Args:
            command: the command, for a shell; or a worker that you have created yourself.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            key: the key of a local command's results.
            handler: an EventHandler; its events are called on the task's thread.
            timeout: seconds that the command may take on each node; None for no limit.
            autoclose: True if the run may end before this command has ended.
            stderr: as for :meth:`shell`.
            stdin: as for :meth:`shell`.
            remote: as for :meth:`shell`.
            tree: as for :meth:`shell`.
            ssh: as for :meth:`shell`.

        Returns:
            A future, as of ``concurrent.futures``. ``cancel()`` ends the command on its nodes.

        Raises:
            TaskError: the task has no thread of its own, or was given up.
            ValueError: an argument is wrong, or arguments do not fit together.
            NodeSetParseError: the nodes cannot be parsed.
            WorkerError: the worker has been scheduled before.
        """
        # Not at the top: concurrent.futures is imported by programs that need it.
        from .submission import ResultsFuture

        if self._own_thread is None:
            raise TaskError("only a task with a thread of its own, Task(), takes submit()")
        options: dict[str, Any] = {
            "key": key,
            "handler": handler,
            "timeout": timeout,
            "autoclose": autoclose,
            "stderr": stderr,
            "stdin": stdin,
            "remote": remote,
            "tree": tree,
            "ssh": ssh,
        }
        if isinstance(command, Worker):
            worker = command
        else:
            worker = self.command_worker(command, nodes, **options)
        future = ResultsFuture(worker)
        self.enqueue(worker, future)
        try:
            self.start_enqueued()
        except BaseException as error:
            self.withdraw(worker, future, error)
            raise
        return future

    def enqueue(self, worker: Worker, outcome: Outcome) -> None:
        """Submit a worker with any kind of future, without starting it: see :meth:`start_enqueued`.

        To start many workers by one call is cheaper. May be called from any thread.

        Args:
            worker: the worker.
            outcome: takes the worker's end, on the task's thread.

        Raises:
            TaskError: the task has no thread of its own, or was forked.
            WorkerError: the worker has been scheduled before.
        """
        if self._own_thread is None:
            raise TaskError("only a task with a thread of its own, Task(), takes submit()")
        self._own_thread.check_exists()
        clients = worker.bind(self._submission_context)
        worker.on_close(functools.partial(self._conclude, outcome))
        self._incoming_workers.add(worker, clients, needs_run=True)

    def start_enqueued(self) -> None:
        """Start the workers of :meth:`enqueue`, in a run that begins if there is none.

        Raises:
            TaskError: the task was given up.
        """
        self._incoming_workers.announce()
        if self._own_thread is not None:
            self._own_thread.on_work()

    def withdraw(self, worker: Worker, outcome: Outcome, error: BaseException) -> None:
        """Take a worker back that could not be started, and conclude its outcome with the error."""
        # Otherwise abort(kill=True) has just taken it, and concludes it.
        if self._incoming_workers.remove(worker):
            outcome.conclude(error)

    def _conclude(self, future: Outcome, worker: Worker) -> None:
        """A submitted worker has closed: its future is done. On the task's thread."""
        error = worker.handler_error or worker.own_error or self._engine.ended_by
        if isinstance(error, RunAborted):
            future.conclude(
                TaskAbortedError(
                    "the submitted command had not ended when the task was aborted or closed; "
                    "future.worker.results() has the nodes that had"
                )
            )
        elif future.conclude(error):
            self._reported_error = error

    @overload
    def run(self, command: Optional[float] = None, *, timeout: Optional[float] = None) -> None: ...

    @overload
    def run(
        self,
        command: Union[str, bytes],
        *,
        nodes: None = None,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: None = None,
    ) -> WorkerPopen: ...

    @overload
    def run(
        self,
        command: Union[str, bytes],
        *,
        nodes: Nodes,
        key: None = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> DistantWorker: ...

    @uninterrupted
    def run(
        self, command: Union[str, bytes, float, None] = None, **kwargs: Any
    ) -> Union[WorkerPopen, DistantWorker, None]:
        """Schedule a command as :meth:`shell` does, and :meth:`resume`.

        Without a command, run the scheduled work: ``run(timeout=10)`` and ``run(10)`` are
        ``resume(10)``.

        Args:
            command: the command; a number, or None, for no command.
            **kwargs: as for :meth:`shell`, such as ``nodes``, ``handler`` and ``timeout``.

        Returns:
            The command's worker; None without a command.
        """
        if command is None or isinstance(command, (int, float)):
            timeout = kwargs.pop("timeout", command)
            if kwargs:
                raise TypeError(f"run() without a command does not take {', '.join(kwargs)}")
            self.resume(timeout)
            return None
        if self._own_thread is None:
            self._runner.check_thread()  # before anything is scheduled
        worker: Union[WorkerPopen, DistantWorker] = self.shell(command, **kwargs)
        self.resume()
        return worker

    def copy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        handler: Any = None,
        timeout: Optional[float] = None,
        preserve: Optional[bool] = None,
        reverse: bool = False,
        stderr: Optional[bool] = None,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> DistantWorker:
        """Schedule a copy of a file or a directory of this host to nodes, over SFTP.

        Args:
            source: the file or directory.
            dest: the destination on the nodes: an existing directory, or the name of the copy.
            nodes: the nodes, as NodeSet takes them.
            handler: an EventHandler; its ``ev_written`` reports progress.
            timeout: seconds that the copy may take on each node; None for no limit.
            preserve: True to give copies the source's times and modes.
            reverse: True to copy from the nodes: see :meth:`rcopy`.
            stderr: True to keep stderr apart from stdout; None for the task's default.
            tree: False to connect directly in spite of a topology: see :meth:`load_topology`.
            ssh: options for this copy's connections; they win over all others.
            **options: ``follow_symlinks``, ``inplace``, ``skip_unchanged``, ``checksum``,
                ``fsync``: see WorkerSsh.

        Returns:
            The scheduled worker.

        Raises:
            ValueError: an argument is wrong, or arguments do not fit together.
            TypeError: the ``distant_worker`` does not know an option.
            NodeSetParseError: the nodes cannot be parsed.
            TaskError: the task has a topology, and gateways are not supported.
        """
        worker = self.copy_worker(
            source,
            dest,
            nodes,
            handler=handler,
            timeout=timeout,
            preserve=preserve,
            reverse=reverse,
            stderr=stderr,
            tree=tree,
            ssh=ssh,
            **options,
        )
        self.schedule(worker)
        return worker

    def copy_worker(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        *,
        stderr: Optional[bool] = None,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> DistantWorker:
        """Return the worker of :meth:`copy`, for :meth:`submit` or :meth:`schedule`.

        It is not scheduled. The arguments and the exceptions are those of :meth:`copy`. May be
        called from any thread.
        """
        if nodes is None or not len(node_set := NodeSet(nodes)):
            raise ValueError(f"{_no_node(nodes)}: name the nodes to copy to or from")
        if ssh is not None:
            options["ssh"] = ssh
        return make_copy_worker(
            *(self._settings, source, dest, node_set),
            topology=self._topology.find(tree),
            stderr=stderr,
            **options,
        )

    def rcopy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        **options: Any,
    ) -> DistantWorker:
        """Schedule a copy of a file or a directory from nodes to this host, over SFTP.

        Args:
            source: the file or directory on each node.
            dest: a directory of this host; the copy from a node is named ``NAME.NODE``.
            nodes: the nodes.
            **options: as for :meth:`copy`.

        Returns:
            The scheduled worker.

        Raises:
            ValueError: an argument is wrong; dest is no directory.
        """
        options["reverse"] = True
        return self.copy(source, dest, nodes, **options)

    @property
    def topology(self) -> Optional[TopologyTree]:
        """The topology that was set or loaded, or else that of ``topology.conf``; None without one.

        Raises:
            TopologyError: the file is wrong, or this host is not in it.
        """
        return self._topology.current()

    @topology.setter
    def topology(self, tree: Optional[TopologyTree]) -> None:
        if tree is not None and not hasattr(tree, "router"):
            raise TypeError(
                f"a topology is a TopologyTree, not {tree!r}: see load_topology() for a file, and "
                "TopologyGraph.to_tree()"
            )
        self._topology.tree = tree

    def load_topology(self, topology_file: str) -> None:
        """Read a topology file; :attr:`topology` is then the tree that begins at this host.

        Commands and copies then reach the nodes behind gateways through these: see WorkerTree. With
        ``tree=False``, or if the default key ``auto_tree`` is False, they connect directly.

        Raises:
            TopologyError: the file is wrong, or this host is not in it. The topology does not
                change.
        """
        self._topology.load(topology_file)

    # -- timers and ports --

    def timer(
        self, fire: float, handler: Any, interval: float = -1.0, autoclose: bool = False
    ) -> EngineTimer:
        """Schedule a timer, which calls ``handler.ev_timer(timer)``.

        Args:
            fire: seconds until it fires, from now if the task is running, else from its start.
            handler: an EventHandler.
            interval: seconds between further firings; 0 or less for a single firing.
            autoclose: True if the run may end before the timer has fired.

        Raises:
            ValueError: a delay is negative.
            TypeError: a delay is not a number; the handler has no ev_timer().
        """
        check_flags(autoclose=autoclose)
        delays = check_delay("fire", fire), check_interval("interval", interval)
        timer = EngineTimer(handler, autoclose)
        self._add_timer(timer, *delays)
        return timer

    @on_task_thread
    def _add_timer(self, timer: EngineTimer, fire: float, interval: float) -> None:
        self._engine.timers.add(timer, fire, interval)

    def port(self, handler: Any = None, autoclose: bool = False) -> EnginePort:
        """Open a port, through which other threads send messages to this task's handler.

        The port stays open after a run, until :meth:`remove_port`. A run does not end while a port
        is open that is not autoclose.

        Args:
            handler: an EventHandler, whose ``ev_port_start(port)`` and ``ev_msg(port, message)``
                are called.
            autoclose: True if the run may end while the port is open.

        Raises:
            TypeError: the handler is a class, or has no event.
        """
        check_handler(handler)
        check_flags(autoclose=autoclose)
        limit = self.default("port_qlimit")
        port = EnginePort(self.post, handler, autoclose, limit, self.thread)
        self._add_port(port)
        return port

    @on_task_thread
    def _add_port(self, port: EnginePort) -> None:
        self._engine.add_port(port)

    @on_task_thread
    def remove_port(self, port: EnginePort) -> None:
        """Close a port. Messages that were not delivered are dropped; ``msg()`` returns False."""
        self._engine.remove_port(port)

    # -- running --

    def resume(self, timeout: Optional[float] = None) -> None:
        """Run the scheduled work; return when all of it has ended.

        The run ends when no worker, timer or port is left that is not autoclose. The results of the
        previous run are dropped first.

        A task with a thread of its own runs there, and this method does not wait. After
        :meth:`suspend` it continues the run.

        Args:
            timeout: seconds that the whole run may take; None, 0 or less for no limit.

        Raises:
            TimeoutError: the timeout has passed. Every worker and timer has been ended.
            AlreadyRunningError: the task is running.
            EngineCapacityError: the fanout needs more open files than the system allows; nothing
                has been started.
            Exception: an exception from a handler. Every worker and timer has been ended.
        """
        limit = check_limit("timeout", timeout)
        if self._own_thread is not None and threading.current_thread() is not self.thread:
            self._own_thread.resume(limit)
        else:
            _warn_in_event_loop()
            self._runner.run(limit)

    def _run_guarded(self, timeout: Optional[float]) -> None:
        """Run in the task's own thread: an exception goes to futures, or to the excepthook."""
        try:
            self._runner.run(timeout)
        except BaseException as error:
            if self._reported_error is not error:
                self.excepthook(*sys.exc_info())
        finally:
            self._reported_error = None

    @property
    def excepthook(self) -> ExceptHook:
        """Called with type, value and traceback of an exception that ends a run.

        Only a task with a thread of its own uses it, and calls it on that thread, with the
        arguments of ``sys.excepthook``. The default hook prints the exception. The task can then be
        run again. Any other task raises the exception from :meth:`resume`; to set its hook sets
        ``sys.excepthook``.
        """
        return self._excepthook

    @excepthook.setter
    def excepthook(self, hook: ExceptHook) -> None:
        check_function("excepthook", hook)
        self._excepthook = hook
        if self._own_thread is None:
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

    def running(self) -> bool:
        """Return True while the task runs."""
        return self._engine.running

    def suspend(self) -> bool:
        """Pause the run of a task with a thread of its own; :meth:`resume` continues it.

        Commands continue on their nodes. Returns when the task has stopped.

        Returns:
            True if the task is suspended; False if it was not running.

        Raises:
            TaskError: the task has no thread of its own.
        """
        if self._own_thread is None:
            raise TaskError("only a task with a thread of its own, Task(), can be suspended")
        return self._own_thread.suspend()

    def join(self) -> None:
        """Wait until a task with a thread of its own has run. Returns at once for other tasks."""
        if self._own_thread is not None:
            self._own_thread.join()

    @uninterrupted
    def abort(self, kill: bool = False) -> None:
        """End every worker and timer, and drop the results.

        In a handler this method does not return; :meth:`resume` does. In another thread it returns
        when the run has ended (at once for a task without a thread of its own).

        Args:
            kill: True to give the task up as well: its ports and connections are closed, its own
                thread ends, and :func:`task_self` creates a new task.
        """
        if kill:
            _tasks.remove(self.thread, self)
        abort = functools.partial(self._runner.abort, kill)
        if threading.current_thread() is self.thread:
            if kill and self._own_thread is not None:
                self._own_thread.quit()
            abort()
        elif self._own_thread is not None:
            clear = functools.partial(self._runner.clear, kill)
            self._own_thread.end_run(abort, clear, quit_thread=kill)
        elif self._engine.running:
            self.post(abort)

    @staticmethod
    def wait(from_thread: threading.Thread) -> None:
        """Wait until every task with a thread of its own has run, except ``from_thread``'s.

        Tasks that are daemons are not waited for: their runs may have no end.
        """
        for thread, task in _tasks.items():
            own = task._own_thread
            if thread is not from_thread and not (own is not None and own.daemon):
                task.join()

    @uninterrupted
    def close(self) -> None:
        """Close every connection and free the task's resources. The task can be used again.

        A task with a thread of its own is aborted if it runs. This method waits at most
        ``ssh_kill_grace`` seconds for commands that are being killed.
        """
        self._close()

    def _close(self, quit_thread: bool = False) -> None:
        if quit_thread and self._own_thread is not None:
            _tasks.remove(self.thread, self)
        if self._own_thread is None or threading.current_thread() is self.thread:
            self._runner.close()
            if quit_thread and self._own_thread is not None:
                self._own_thread.quit()
        else:
            abort = functools.partial(self._runner.abort, kill=False)
            self._own_thread.end_run(abort, self._runner.close, quit_thread)

    def iter_left_running(self) -> Iterator[tuple[str, list[str]]]:
        """Iterate over the nodes on which a command may still run that timed out or was aborted.

        The nodes are complete after :meth:`close`: a command has ``ssh_kill_grace`` seconds to end.
        They include those of earlier runs of this task. Commands that are left running on purpose
        (``ssh_kill_grace`` is None) are not included.

        Yields:
            The reason, and all its nodes. An example of a reason: 'the server does not run /bin/sh,
            and the signals that it was sent had no effect'.
        """
        reasons: dict[str, list[str]] = {}
        for node, reason in self._connections.left_running().items():
            reasons.setdefault(reason, []).append(node)
        return iter(reasons.items())

    def iter_gateways(self) -> Iterator[tuple[str, NodeSet]]:
        """Iterate over the gateways and jump hosts that are used now. On the task's thread.

        Yields:
            The name of a gateway with an open connection, and the nodes that are reached through
            it: other gateways, and nodes whose connections are open or being opened.
        """
        for name, nodes in self._connections.gateways().items():
            yield name, NodeSet.fromlist(nodes)

    def stats(self) -> PoolStats:
        """Count the task's connections: now, and since the task was created.

        Returns:
            A frozen record: connections ``open``, ``idle`` and in ``handshakes``, ``jump_hosts``,
            and commands ``waiting`` for a connection; the numbers of connections ``opened``,
            ``reused``, ``evicted`` and ``retried``; ``bytes_sent`` and ``bytes_received`` on the
            wire.
        """
        return self._connections.stats()

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback(*args)`` on the task's thread. May be called from any thread.

        The callback runs in the loop's next pass, or at the start of the next run. An exception in
        it ends the run.

        Raises:
            TypeError: the callback cannot be called, or is a coroutine function.
        """
        check_function("post()", callback)
        self._engine.post(callback, *args)


# -- one task per thread --

_tasks: ThreadRegistry[Task] = ThreadRegistry()


def _named_thread(
    thread: Optional[threading.Thread], thread_id: Optional[int]
) -> Optional[threading.Thread]:
    """Return the thread that the arguments of ``Task()`` name; None for a new thread."""
    if thread_id is not None:
        if thread is not None:
            raise TypeError("Task() takes thread= or thread_id=, not both")
        return find_thread(thread_id)
    if thread is not None and not isinstance(thread, threading.Thread):
        raise TypeError(f"thread= takes a threading.Thread, not {thread!r}: see thread_id=")
    return thread


def _warn_in_event_loop() -> None:
    """Warn a caller of resume() whose thread runs an event loop of asyncio: the loop will block."""
    # A program that has not imported it has no such loop.
    asyncio = sys.modules.get("asyncio")
    running_loop = getattr(asyncio, "_get_running_loop", None)
    if running_loop is not None and running_loop() is not None:
        warnings.warn(
            "this run blocks the event loop of asyncio: use pyclustershell.aio.Session, or a "
            "Task() with a thread of its own",
            RuntimeWarning,
            stacklevel=3,
        )


def _no_node(nodes: object) -> str:
    """The beginning of the error for nodes= without a node."""
    text = "" if nodes is None else str(nodes)
    reason = " (a group in it is empty or unknown)" if "@" in text else ""
    return f"there is no node in nodes={text!r}{reason}"


@uninterrupted
def task_self(defaults: Optional[Defaults] = None) -> Task:
    """Return the calling thread's task. It is created at first use.

    Args:
        defaults: the info and default keys of a new task; None for :data:`~.defaults.DEFAULTS`. An
            existing task does not change.
    """
    return Task(thread=threading.current_thread(), defaults=defaults)


def task_wait() -> None:
    """Wait until every other task with a thread of its own has run."""
    Task.wait(threading.current_thread())


def task_terminate() -> None:
    """End the calling thread's task and give it up: ``task_self().abort(kill=True)``."""
    task_self().abort(kill=True)


def task_cleanup() -> None:
    """End every task and give it up. To be called at a program's end, from the main thread."""
    for task in _tasks.all():
        task.abort(kill=True)
