"""Workers: one job, on this host or on many nodes, and what it brought."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Optional

from ..engine.client import EngineClient
from ..event import Dispatcher
from ..exceptions import NodeError, WorkerError
from ..msgtree import MsgTreeElem
from ..nodeset import NodeSet
from ..transport.state import (
    Aborted,
    Copied,
    Exited,
    Failed,
    Output,
    Record,
    Started,
    TimedOut,
    Written,
)

if TYPE_CHECKING:
    from ..task import Task


class Worker:
    """A job of a task: it is scheduled once, has clients in the engine, and brings results.

    Attributes:
        eh: the event handler, or None.
        task: the task that the worker was scheduled in, or None.
        started: whether the job has begun.
        current_node: the node (or key) of the event that is being handled.
        current_msg: its last line of stdout, in bytes.
        current_errmsg: its last line of stderr, in bytes.
        current_rc: its return code.
        current_sname: the name of its stream.
    """

    # The names of the streams. Before the start, a worker can be given others: handlers hear of
    # those, and the task keeps no output of streams that it does not know.
    SNAME_STDIN = "stdin"
    SNAME_STDOUT = "stdout"
    SNAME_STDERR = "stderr"
    #: The stream of a copy's ``ev_written``.
    SNAME_COPY = "copy"

    def __init__(self, handler: Any = None) -> None:
        self.eh = handler
        self.task: Optional[Task] = None
        self.started = False
        self.current_node: Any = None
        self.current_msg: Optional[bytes] = None
        self.current_errmsg: Optional[bytes] = None
        self.current_rc: Optional[int] = 0
        self.current_sname: Optional[str] = None
        #: Whether :meth:`abort` was called.
        self.aborted = False
        self._open_clients = 0
        self._renamed: dict[str, str] = {}

    @property
    def eh(self) -> Any:
        """The event handler, or None."""
        return self._eh

    @eh.setter
    def eh(self, handler: Any) -> None:
        self._eh = handler
        self._events = None if handler is None else Dispatcher(handler)

    # -- for the task --

    def bind(self, task: Task) -> list[EngineClient]:
        """Become a job of a task. Called by ``Task.schedule``.

        Returns:
            The clients to add to the task's engine, in the order in which they shall start.

        Raises:
            WorkerError: the worker has been scheduled before.
        """
        if self.task is not None:
            raise WorkerError(f"{self!r} has already been scheduled: make a new worker")
        self.task = task
        clients = self._make_clients(task)
        self._open_clients = len(clients)
        return clients

    def _make_clients(self, task: Task) -> list[EngineClient]:
        raise NotImplementedError(f"{type(self).__name__} does not say what it runs")

    def bound_task(self) -> Task:
        """The task that the worker was scheduled in.

        Raises:
            WorkerError: it was not.
        """
        if self.task is None:
            raise WorkerError(f"{self!r} has not been scheduled: see Task.schedule()")
        return self.task

    # -- what the clients tell --

    def deliver(self, key: Any, record: Record) -> None:
        """Take what a client tells of a node: results first, then the handler's event.

        Called on the task's thread. After a node's last record the worker closes, if it was the
        last node.
        """
        results = self.bound_task().results
        source = (self, key)
        if isinstance(record, Output):
            self._deliver_output(key, record.sname, record.lines)
        elif isinstance(record, Started):
            self._set_current_node(key)
            aborted = self.aborted
            self._begin()
            if self._events is not None and self.aborted == aborted:
                # Not where the handler has just aborted it: then this node has ended already.
                self._events.pickup(self, key)
        elif isinstance(record, Exited):
            results.add_retcode(source, record.rc)
            self._hang_up(key, record.rc)
        elif isinstance(record, Written):
            self._deliver_written(key, self.SNAME_STDIN, record.size)
        elif isinstance(record, Copied):
            self._deliver_written(key, self.SNAME_COPY, record.size)
        elif isinstance(record, Failed):
            results.add_failure(source, record.error)
            results.add_retcode(source, record.rc)
            self._deliver_output(key, self.SNAME_STDERR, [record.error.sentence.encode()])
            self._hang_up(key, record.rc)
        elif isinstance(record, TimedOut):
            results.add_timeout(source)
            self._set_current_node(key)
            self._client_closed()
        elif isinstance(record, Aborted):
            # As in ClusterShell: it has no return code, and no ev_hup tells of it.
            self._set_current_node(key)
            self._client_closed()

    def _deliver_output(self, key: Any, sname: str, lines: list[bytes]) -> None:
        task = self.bound_task()
        if self._renamed:
            sname = self._renamed.get(sname, sname)
        if task.keeps(sname):
            task.results.add_lines((self, key), sname, lines)
        if task.info("debug"):
            for line in lines:
                task.debug(f"{self._debug_name(key)} {line!r}")
        self._set_current_node(key)
        self.current_sname = sname
        events = self._events
        if events is None or not events.reads:
            self._set_current_message(sname, lines[-1])
            return
        # A line costs the handler's own call, and next to nothing else.
        read = events.read
        is_error = sname == self.SNAME_STDERR
        for line in lines:
            if is_error:
                self.current_errmsg = line
            else:
                self.current_msg = line
            read(self, key, sname, line)
            if self.aborted:
                # By the handler: it has heard of the node's end, which comes after its output.
                return

    def _deliver_written(self, key: Any, sname: str, size: int) -> None:
        self._set_current_node(key)
        self.current_sname = sname
        if self._events is not None:
            self._events.written(self, key, sname, size)

    def _debug_name(self, key: Any) -> str:
        return f"{key}:"

    def _set_current_node(self, key: Any) -> None:
        self.current_node = key

    def _set_current_message(self, sname: str, line: bytes) -> None:
        if sname == self.SNAME_STDERR:
            self.current_errmsg = line
        else:
            self.current_msg = line

    def _begin(self) -> None:
        if not self.started:
            self.started = True
            # A worker may call its streams otherwise: their output is not kept then.
            names = {"stdout": self.SNAME_STDOUT, "stderr": self.SNAME_STDERR}
            self._renamed = {name: own for name, own in names.items() if own != name}
            if self._events is not None:
                self._events.start(self)

    def _hang_up(self, key: Any, rc: Optional[int]) -> None:
        self._set_current_node(key)
        self.current_rc = rc
        if self._events is not None:
            self._events.hup(self, key, rc)
        self._client_closed()

    def forget_client(self) -> None:
        """A client ended before its turn came: no event tells of it but the worker's own end."""
        self._client_closed()

    def _client_closed(self) -> None:
        self._open_clients -= 1
        if self._open_clients == 0 and self.started and self._events is not None:
            self._events.close(self, self.did_timeout())

    # -- for users --

    def did_timeout(self) -> bool:
        """Whether any node of this worker timed out."""
        return bool(self.bound_task().results.timeouts(self))

    def read(self, node: Any = None, sname: str = SNAME_STDOUT) -> Optional[bytes]:
        """The output of a node so far, lines joined by newlines; None if there is none.

        Args:
            node: the node's name (or the key).
            sname: 'stdout' or 'stderr'.

        Raises:
            TaskMsgTreeError: it is not kept.
        """
        task = self.bound_task()
        task.check_kept(sname)
        return task.results.message(sname, (self, node))

    def abort(self) -> None:
        """End the job on all its nodes. Harmless where it has ended. On the task's thread."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is aborted")

    def flush_buffers(self) -> None:
        """Forget this worker's standard output."""
        self.bound_task().results.flush(self.SNAME_STDOUT, self)

    def flush_errors(self) -> None:
        """Forget this worker's standard error."""
        self.bound_task().results.flush(self.SNAME_STDERR, self)


class DistantWorker(Worker):
    """A worker with a node set.

    Attributes:
        nodes: the nodes, a NodeSet.
    """

    nodes: NodeSet

    def node_buffer(self, node: str) -> Optional[bytes]:
        """A node's standard output so far, None if there is none."""
        return self.read(node, self.SNAME_STDOUT)

    def node_error(self, node: str) -> Optional[bytes]:
        """A node's standard error so far, None if there is none."""
        return self.read(node, self.SNAME_STDERR)

    node_error_buffer = node_error

    def node_retcode(self, node: str) -> int:
        """A node's return code.

        Raises:
            KeyError: the node is not one of this worker's, or has none (yet).
        """
        return self.bound_task().results.retcode(node, self)

    node_rc = node_retcode

    def node_failure(self, node: str) -> Optional[NodeError]:
        """Why no command could be run on a node (or why it was lost); None if one was run."""
        return self.bound_task().results.failure(node, self)

    def iter_failures(self) -> Iterator[tuple[NodeError, NodeSet]]:
        """Each different cause of failure: the exception of its first node, and all its nodes."""
        for failure, nodes in self.bound_task().results.iter_failures(self):
            yield failure, NodeSet.fromlist(nodes)

    def iter_buffers(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        """Each different standard output, with the nodes that gave it."""
        return self._iter_messages(self.SNAME_STDOUT, match_keys)

    def iter_errors(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        """Each different standard error, with the nodes that gave it."""
        return self._iter_messages(self.SNAME_STDERR, match_keys)

    def _iter_messages(
        self, sname: str, match_keys: Optional[Collection[str]]
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        task = self.bound_task()
        task.check_kept(sname)
        for message, nodes in task.results.iter_messages(sname, self, match_keys):
            yield message, NodeSet.fromlist(nodes)

    def iter_node_buffers(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        """Each node with its standard output."""
        return self._iter_items(self.SNAME_STDOUT, match_keys)

    def iter_node_errors(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        """Each node with its standard error."""
        return self._iter_items(self.SNAME_STDERR, match_keys)

    def _iter_items(
        self, sname: str, match_keys: Optional[Collection[str]]
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        task = self.bound_task()
        task.check_kept(sname)
        return task.results.iter_items(sname, self, match_keys)

    def iter_retcodes(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[int, NodeSet]]:
        """Each different return code, with its nodes."""
        for rc, nodes in self.bound_task().results.iter_retcodes(self, match_keys):
            yield rc, NodeSet.fromlist(nodes)

    def iter_node_retcodes(self) -> Iterator[tuple[str, int]]:
        """Each node with its return code."""
        return self.bound_task().results.iter_key_retcodes(self)

    def num_timeout(self) -> int:
        """How many nodes timed out."""
        return len(self.bound_task().results.timeouts(self))

    def iter_keys_timeout(self) -> Iterator[str]:
        """The nodes that timed out."""
        return iter(self.bound_task().results.timeouts(self))
