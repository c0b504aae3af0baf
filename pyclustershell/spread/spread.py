"""Spread: the nodes of a command or copy, shared out among processes."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from ..arguments import check_function
from ..defaults import Defaults
from ..engine.interrupts import uninterrupted
from ..event import EventHandler, interruptible
from ..exceptions import TaskError
from ..nodeset import NodeSet
from ..results import NodeResult, Results
from ..task.task import Nodes, Task
from .plaindata import check_options, pack
from .shard import make_worker
from .slots import Processes, Slot, wait
from .worker import ExecutorCarrier, SpreadWorker

if TYPE_CHECKING:
    from ..nodeset.topology import TopologyTree
    from ..task.submission import ResultsFuture

#: How many nodes a shard has at most, for executors whose number of workers is not known.
SHARD_SIZE = 100


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: use a whole number")
    if value < 1:
        raise ValueError(f"{name}={value!r}: use 1 or more")
    return value


class _Calls(EventHandler):
    """Calls ``on_result`` and ``on_line``."""


def _handler(
    on_result: Optional[Callable[[NodeResult], Any]],
    on_line: Optional[Callable[[str, str, bytes], Any]],
) -> Optional[EventHandler]:
    """The handler that calls these functions; it has no event that nobody asked for."""
    events: dict[str, Any] = {}
    if on_result is not None:
        events["ev_result"] = lambda _self, _worker, _node, result: on_result(result)
    if on_line is not None:
        events["ev_read"] = lambda _self, _worker, node, sname, msg: on_line(node, sname, msg)
    return type("Calls", (_Calls,), events)() if events else None


class SpreadRun:
    """A command or copy that runs: see ``Spread.start()``.

    In a ``with`` block, what runs at its end is ended. All methods may be called from any thread.

    Attributes:
        worker: the worker that collects the results.
    """

    def __init__(self, worker: SpreadWorker, shards: queue.SimpleQueue[Optional[Results]]) -> None:
        self.worker = worker
        self._shards = shards
        self._future: Optional[ResultsFuture] = None

    def __repr__(self) -> str:
        return f"<SpreadRun: {self.worker!r}>"

    def submit(self, task: Task) -> None:
        """Begin."""
        self._future = task.submit(self.worker)
        self.worker.when_closed(lambda _worker: self._shards.put(None))

    def __enter__(self) -> SpreadRun:
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.cancel()
        self.wait_until_gone()

    def done(self) -> bool:
        """True if all nodes have ended."""
        return self._future is not None and self._future.done()

    def results(self, timeout: Optional[float] = None) -> Results:
        """Wait for the results of all nodes.

        Args:
            timeout: seconds to wait at most; None for no limit. The commands go on after them.

        Raises:
            concurrent.futures.TimeoutError: they have passed.
            Exception: a callback's, which has ended the run.
        """
        if self._future is None:
            raise TaskError("this run has not been started: see Spread.start()")
        if timeout is None:
            ended = threading.Event()
            self._future.add_done_callback(lambda _future: ended.set())
            wait(ended)
        return self._future.result(timeout)

    def as_completed(self) -> Iterator[Results]:
        """Iterate over the results of the shards, in the order of their ends. Each comes once.

        Raises:
            Exception: a callback's, which has ended the run.
        """
        while (results := self._shards.get()) is not None:
            yield results
        self._shards.put(None)
        self.results()

    def cancel(self) -> None:
        """End the commands on their nodes: TERM, and KILL after ``ssh_kill_grace`` seconds.

        Does not wait. The nodes that had not ended are ``aborted`` in the results. Does nothing if
        all have ended.
        """
        self.worker.abort()

    def wait_until_gone(self) -> None:
        """Wait until the commands of a cancelled run have been killed."""
        gone = threading.Event()
        self.worker.when_gone(lambda _worker: gone.set())
        wait(gone)


class Spread:
    """Runs commands and copies by several processes, or by other hosts.

    ::

        if __name__ == '__main__':
            with Spread(user='admin') as spread:
                results = spread.run('uname -r', 'node[1-20000]')
                for text, nodes in results.gathered():
                    print(f'{nodes}: {text}')

    The nodes are divided into shards. By default each core has a process that works on one shard at
    a time. A node keeps to its process, so its connection serves the next command as well. With
    ``executor``, shards go to any workers that it has, such as those of Dask on other hosts.

    Results are those of a task: see :class:`~.results.Results`. A process that dies fails the nodes
    of its shard that have not ended, each with a ShardError, and is replaced. No command is run
    twice.

    Each process imports the main module of the program, as those of :mod:`multiprocessing` do. So
    the program does its work below ``if __name__ == '__main__':``.

    Callbacks are called on a thread of this object, one at a time. A slow one holds the commands
    back. An exception in one ends the run, and leaves its ``run()`` or ``results()``.

    Args:
        processes: the number of processes; None for one for each core.
        executor: a :class:`concurrent.futures.Executor` in place of processes of its own. Which
            worker gets which nodes is up to it. It is not shut down.
        shard_size: how many nodes a shard has at most. None: as many as a process has of the nodes
            of a command; 100 with ``executor``.
        fanout: how many commands run at once in all processes together, each process having an
            equal share; with ``executor``, in each of its processes. None: the default.
        info: further info keys of the tasks.
        defaults: info and default keys; None for :data:`~.defaults.DEFAULTS`.
        topology: the gateways that lead to the nodes, a TopologyTree.
        **ssh_options: fields of SSHOptions, for all connections, as plain data.

    Raises:
        TypeError: an option is unknown, has a value of a wrong type, or one that cannot be sent to
            another process; the message says what to use instead.
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        processes: Optional[int] = None,
        *,
        executor: Optional[Executor] = None,
        shard_size: Optional[int] = None,
        fanout: Optional[int] = None,
        info: Optional[Mapping[str, Any]] = None,
        defaults: Optional[Defaults] = None,
        topology: Optional[TopologyTree] = None,
        **ssh_options: Any,
    ) -> None:
        if processes is not None:
            _check_count("processes", processes)
        if shard_size is not None:
            _check_count("shard_size", shard_size)
        if executor is not None:
            if processes is not None:
                raise ValueError(
                    "processes= is for processes of its own: leave it out, or executor="
                )
            if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
                raise TypeError(
                    f"executor={executor!r} has no submit(): use an Executor of "
                    "concurrent.futures, such as Dask's Client.get_executor()"
                )
        self._count = processes or usable_cores()
        self._executor = executor
        self._shard_size = shard_size
        self._lock = threading.Lock()
        self._processes: Optional[Processes] = None
        self._carrier: Optional[ExecutorCarrier] = None
        self._closed = False
        self._pid = os.getpid()
        # It merges the results; its settings are those of the processes.
        self._task = Task(defaults=defaults, daemon=True)
        self._info: dict[str, Any] = {}
        try:
            for key, value in (info or {}).items():
                self.set_info(key, value)
            if fanout is not None:
                self.set_info("fanout", fanout)
            if ssh_options:
                self.configure_ssh(**ssh_options)
            if topology is not None:
                self._task.topology = topology
            self._settings()
        except BaseException:
            self._task.abort(kill=True)
            raise

    def __repr__(self) -> str:
        by: Any = self._executor or self._processes or f"{self._count} processes, not started"
        return f"<Spread by {by!r}>" if not isinstance(by, str) else f"<Spread by {by}>"

    def __enter__(self) -> Spread:
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    # -- settings --

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key: see ``Task.set_info()``. The next command makes new connections.

        The fanout and the size of the pool cannot change after the first command.

        Raises:
            ValueError, TypeError, ConfigurationError: the value is wrong for this key, or cannot be
                sent to another process.
            TaskError: the processes have been started with another fanout.
        """
        if info_key in ("fanout", "ssh_pool_size") and self._processes is not None:
            raise TaskError(f"{info_key} is divided among processes that run: make a new Spread()")
        check_options({info_key: value}, same_program=self._executor is None)
        # The task checks it now, and has it in its next run.
        self._task.set_info(info_key, value)
        self._info[info_key] = value

    def set_default(self, default_key: str, value: Any) -> None:
        """Set a default key: see ``Task.set_default()``.

        Raises:
            ImportError, ValueError, TypeError: the value is wrong for this key, or cannot be sent
                to another process.
        """
        check_options({default_key: value}, same_program=self._executor is None)
        self._task.set_default(default_key, value)

    def configure_ssh(self, nodes: Any = None, **options: Any) -> None:
        """Set SSH options, for all nodes or for some: see ``Task.configure_ssh()``.

        Raises:
            TypeError, ValueError: an option is wrong, or cannot be sent to another process.
        """
        check_options(options, same_program=self._executor is None)
        self._task.configure_ssh(nodes, **options)

    def load_topology(self, topology_file: str) -> None:
        """Read a topology file: see ``Task.load_topology()``.

        Raises:
            TopologyError: the file is wrong, or this host is not in it.
        """
        self._task.load_topology(topology_file)

    def _settings(self) -> bytes:
        snapshot = self._task.settings_snapshot()
        snapshot.info.update(self._info)
        return pack(snapshot, same_program=self._executor is None)

    # -- commands and copies --

    def run(
        self,
        command: Union[str, bytes],
        nodes: Nodes,
        *,
        on_result: Optional[Callable[[NodeResult], Any]] = None,
        on_shard: Optional[Callable[[Results], Any]] = None,
        on_line: Optional[Callable[[str, str, bytes], Any]] = None,
        handler: Any = None,
        max_failures: Optional[int] = None,
        **options: Any,
    ) -> Results:
        """Run a command on nodes and return its results.

        Ctrl-C ends the commands on their nodes before it is raised.

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them.
            on_result: called with the NodeResult of each node, when it has ended.
            on_shard: called with the Results of each shard, when it has ended.
            on_line: called with node, 'stdout' or 'stderr', and each line. With ``executor``, lines
                come when their shard has ended.
            handler: an EventHandler, in place of ``on_result`` and ``on_line``.
            max_failures: after so many failed nodes nothing more is started: the nodes whose turn
                has not come are ``aborted``, and not ``started``. None for no limit.
            **options: as for ``Task.command_worker()``, as plain data: ``timeout``, ``stderr``,
                ``remote``, ``tree``, ``ssh``; and ``input``: bytes for the standard input of every
                command, which is empty otherwise.

        Raises:
            ValueError, TypeError, NodeSetParseError: an argument is wrong, or cannot be sent to
                another process. Nothing has been started.
            TaskError: a process cannot be started, or this object was closed.
        """
        return self._finish(
            self.start(
                command,
                nodes,
                on_result=on_result,
                on_shard=on_shard,
                on_line=on_line,
                handler=handler,
                max_failures=max_failures,
                **options,
            )
        )

    def copy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        **options: Any,
    ) -> Results:
        """Copy a file or a directory to nodes and return the results.

        Args:
            source: the file or directory, on the host of each process.
            dest: the destination on the nodes: an existing directory, or the name of the copy.
            nodes: the nodes.
            **options: ``on_result``, ``on_shard``, ``handler`` and ``max_failures`` as for
                :meth:`run`; the others as for ``Task.copy_worker()``.

        Raises:
            ValueError, TypeError, NodeSetParseError, TaskError: as for :meth:`run`.
        """
        return self._finish(self.start_copy(source, dest, nodes, **options))

    def rcopy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        **options: Any,
    ) -> Results:
        """Copy a file or a directory from nodes and return the results.

        Args:
            source: the file or directory on each node.
            dest: a directory of the host of each process; the copies are named ``NAME.NODE``.
            nodes: the nodes.
            **options: as for :meth:`copy`.

        Raises:
            ValueError, TypeError, NodeSetParseError, TaskError: as for :meth:`run`.
        """
        return self._finish(self.start_copy(source, dest, nodes, reverse=True, **options))

    def start(
        self,
        command: Union[str, bytes],
        nodes: Nodes,
        *,
        on_result: Optional[Callable[[NodeResult], Any]] = None,
        on_shard: Optional[Callable[[Results], Any]] = None,
        on_line: Optional[Callable[[str, str, bytes], Any]] = None,
        handler: Any = None,
        max_failures: Optional[int] = None,
        **options: Any,
    ) -> SpreadRun:
        """Start a command, and do not wait for it: arguments and errors as for :meth:`run`.

        ::

            with spread.start('uname -r', nodes) as run:
                for results in run.as_completed():
                    print(results.ok)
        """
        job = {"command": command, **options}
        return self._start(nodes, job, on_result, on_shard, on_line, handler, max_failures)

    def start_copy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        *,
        on_result: Optional[Callable[[NodeResult], Any]] = None,
        on_shard: Optional[Callable[[Results], Any]] = None,
        handler: Any = None,
        max_failures: Optional[int] = None,
        **options: Any,
    ) -> SpreadRun:
        """Start a copy, and do not wait for it: see :meth:`copy`; ``reverse=True`` for rcopy."""
        job = {"source": source, "dest": dest, **options}
        here = "dest" if options.get("reverse") else "source"
        if isinstance(job[here], (str, bytes)):
            # The processes may have another working directory.
            job[here] = os.path.abspath(job[here])
        return self._start(nodes, job, on_result, on_shard, None, handler, max_failures)

    def _start(
        self,
        nodes: Nodes,
        job: Mapping[str, Any],
        on_result: Optional[Callable[[NodeResult], Any]],
        on_shard: Optional[Callable[[Results], Any]],
        on_line: Optional[Callable[[str, str, bytes], Any]],
        handler: Any,
        max_failures: Optional[int],
    ) -> SpreadRun:
        calls = {"on_result": on_result, "on_shard": on_shard, "on_line": on_line}
        for name, call in calls.items():
            if call is not None:
                check_function(name, call)
        if handler is not None and (on_result is not None or on_line is not None):
            raise ValueError("handler= has all events: leave on_result= and on_line= out")
        if max_failures is not None:
            _check_count("max_failures", max_failures)
        check_options(job, same_program=self._executor is None)
        if nodes is None:
            raise ValueError("there is no node in nodes='': name a node")
        # Wrong arguments are told here, in the words of a task.
        plain = make_worker(self._task, NodeSet(nodes), job)
        shards: queue.SimpleQueue[Optional[Results]] = queue.SimpleQueue()

        def report(results: Results) -> None:
            shards.put(results)
            if on_shard is not None:
                on_shard(results)

        worker = SpreadWorker(
            plain,
            job,
            self._settings(),
            self._prepare(list(plain.nodes)),
            handler or _handler(on_result, on_line),
            max_failures,
            report,
        )
        run = SpreadRun(worker, shards)
        self._submit(run)
        return run

    @uninterrupted
    def _submit(self, run: SpreadRun) -> None:
        run.submit(self._task)

    @interruptible
    def _prepare(self, nodes: list[str]) -> Callable[..., Any]:
        """Start the processes that these nodes need; returns what divides nodes into shards."""
        with self._lock:
            if self._closed:
                raise TaskError("this Spread() was closed: make a new one")
            if self._executor is not None:
                if self._carrier is None:
                    size = self._shard_size or SHARD_SIZE
                    self._carrier = ExecutorCarrier(self._executor, {}, size)
                return self._carrier.share_out
            if self._processes is None:
                fanout, pool_size = (
                    self._info.get(key, self._task.info(key)) for key in ("fanout", "ssh_pool_size")
                )
                self._processes = Processes(self._count, fanout, pool_size, self._shard_size)
            processes = self._processes
        slots: list[Slot] = list(dict.fromkeys(slot for slot, _ in processes.share_out(nodes)))
        processes.start(slots)
        return processes.share_out

    @staticmethod
    def _finish(run: SpreadRun) -> Results:
        try:
            return run.results()
        except BaseException:
            run.cancel()
            run.wait_until_gone()
            raise

    # -- the end --

    def close(self) -> None:
        """End what runs, close all connections, and end the processes. Waits for that.

        An ``executor`` goes on. May be called from any thread, and more than once.
        """
        with self._lock:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
        grace = self._task.info("ssh_kill_grace") or 0.0
        self._task.abort(kill=True)
        self._task.thread.join()
        if self._processes is not None:
            self._processes.close(grace)
        if self._carrier is not None:
            self._carrier.close()

    def iter_left_running(self) -> Iterator[tuple[str, list[str]]]:
        """Iterate over the nodes on which an ended command may still run, by reason.

        They are known after :meth:`close`, for processes of this program.

        Yields:
            The reason, and all its nodes.
        """
        return iter(()) if self._processes is None else self._processes.left_running()
