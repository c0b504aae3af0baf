"""The base classes of workers: one job, on this host or on many nodes, and its results."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from typing import Any, Callable, Optional

from ..arguments import check_function, check_handler
from ..engine.aftermath import Aftermath
from ..engine.engine import EngineClient
from ..event import Dispatcher, interruptible
from ..exceptions import NodeError, WorkerError
from ..msgtree import MsgTreeElem
from ..nodeset import NodeSet
from ..records import (
    Aborted,
    Copied,
    Exited,
    Failed,
    Output,
    Record,
    Rerouted,
    Started,
    TimedOut,
    Written,
)
from ..results import Results
from ..suggestions import did_you_mean
from .context import WorkerContext
from .store import NO_RETCODE, OWN_KEY, ResultStore, fold_failures

logger = logging.getLogger("pyclustershell.worker")

# Guards the lists of callbacks of Worker.when_closed(): any thread may add one.
_closing = threading.Lock()


class Worker:
    """A job of a task. It is scheduled once, runs through clients in the engine, and has results.

    Attributes:
        eh: the event handler, or None.
        task: the task that the worker was scheduled in, or None.
        started: True if the job has started.
        aborted: True if :meth:`abort` was called.
        current_node: the node (or key) of the event that is being handled.
        current_msg: the last line of stdout, in bytes.
        current_errmsg: the last line of stderr, in bytes.
        current_rc: the last return code.
        current_sname: the name of the stream of the last line or write.
        keep_output: False if output is not kept for the results: handlers only get it. To be set
            before the worker is scheduled.
        keep_results: False if the task does not keep the results of this worker for its own
            getters: they are dropped with the worker. For a run without an end. To be set before
            the worker is scheduled.
        read_ahead: the number of bytes that the command of one node may print before they are
            processed, or None. Only commands over SSH heed it (their windows, RFC 4254 5.2; at
            least 32 KiB); the pipes of local ones have a size of their own. To be set before the
            worker is scheduled.
        output_paused: True between :meth:`pause_output` and :meth:`resume_output`.
        aftermath: counts the commands that were aborted and are being killed.
    """

    # The names of the streams. They can be changed before the start. Handlers then receive the new
    # names, and the output is not kept, because the task keeps streams of known names only.
    SNAME_STDIN = "stdin"
    SNAME_STDOUT = "stdout"
    SNAME_STDERR = "stderr"
    #: The stream of a copy's ``ev_written``.
    SNAME_COPY = "copy"

    def __init__(self, handler: Any = None) -> None:
        self.eh = handler
        self.task: Any = None
        self._context: Optional[WorkerContext] = None
        self._store: Optional[ResultStore] = None
        self.started = False
        self.current_node: Any = None
        self.current_msg: Optional[bytes] = None
        self.current_errmsg: Optional[bytes] = None
        self.current_rc: Optional[int] = 0
        self.current_sname: Optional[str] = None
        self.aborted = False
        self.keep_output = True
        self.keep_results = True
        self.read_ahead: Optional[int] = None
        self.output_paused = False
        self.aftermath = Aftermath()
        # The number of ends, usually one per node, before ev_close.
        self._ends_left = 0
        self._renamed: dict[str, str] = {}
        # The callbacks of when_closed(); None when the worker has closed.
        self._close_callbacks: Optional[list[Callable[[Worker], Any]]] = []
        #: The first exception of the handler while the worker ended; None if there was none.
        self.handler_error: Optional[BaseException] = None
        #: The exception because of which a submitted worker could not run; None if there was none.
        self.own_error: Optional[Exception] = None

    @property
    def eh(self) -> Any:
        """The event handler, or None. To set it raises TypeError, see ``check_handler()``."""
        return self._eh

    @eh.setter
    def eh(self, handler: Any) -> None:
        check_handler(handler)
        self._eh = handler
        self._events = None if handler is None else Dispatcher(handler)

    # -- for the task --

    def bind(self, context: WorkerContext) -> list[EngineClient]:
        """Join a task. ``Task.schedule`` calls this.

        Args:
            context: the part of the task that workers use.

        Returns:
            The clients to add to the task's engine, in the order in which they start.

        Raises:
            WorkerError: the worker has been scheduled before.
        """
        if self._context is not None:
            raise WorkerError(f"{self!r} has already been scheduled: make a new worker")
        run_results = context.results if self.keep_results else None
        self._store = ResultStore(context.engine, run_results, self, self._count_nodes())
        self._context = context
        self.task = context.task
        clients = self._make_clients(context)
        self._ends_left = len(clients)
        if not clients:
            context.engine.post(self._close)
        return clients

    def _count_nodes(self) -> int:
        """Return how many nodes or keys will have a result."""
        return 1

    def _make_clients(self, context: WorkerContext) -> list[EngineClient]:
        """Create the clients, in the order in which they start."""
        raise NotImplementedError(f"{type(self).__name__} must define _make_clients()")

    @property
    def context(self) -> WorkerContext:
        """The part of its task that the worker uses.

        Raises:
            WorkerError: the worker has not been scheduled.
        """
        if self._context is None:
            raise WorkerError(f"{self!r} has not been scheduled: see Task.schedule()")
        return self._context

    @property
    def store(self) -> ResultStore:
        """The results of this worker, while they are collected.

        Raises:
            WorkerError: the worker has not been scheduled.
        """
        if self._store is None:
            raise WorkerError(f"{self!r} has not been scheduled: see Task.schedule()")
        return self._store

    def _stored(self, key: Any) -> Any:
        """Return the key by which the store knows a key: see :data:`.store.OWN_KEY`."""
        return OWN_KEY if key is self else key

    # -- for the clients --

    def deliver(self, key: Any, record: Record) -> None:
        """Process a record of a node: update the results, then call the handler.

        Called on the task's thread. The last record of the last node also calls ``ev_close``.

        Args:
            key: the node's name, or the key of a local command.
            record: the record.
        """
        store = self.store
        stored = OWN_KEY if key is self else key
        if isinstance(record, Output):
            self._deliver_output(store, key, record.sname, record.lines)
        elif isinstance(record, Started):
            if record.running:
                store.add_start(stored)
            self._set_current_node(key)
            aborted = self.aborted
            self._start_once()
            if self._events is not None and self.aborted == aborted:
                # If ev_start has just aborted the worker, this node has already ended.
                self._events.pickup(self, key)
        elif isinstance(record, Exited):
            store.add_end(stored, record.rc)
            self._hang_up(key, record.rc)
        elif isinstance(record, Written):
            self._deliver_written(key, self.SNAME_STDIN, record.size)
        elif isinstance(record, Copied):
            self._deliver_written(key, self.SNAME_COPY, record.size)
        elif isinstance(record, Failed):
            store.add_end(stored, record.rc, record.error)
            sentence = record.error.encoded_sentence
            self._deliver_output(store, key, self.SNAME_STDERR, [sentence])
            self._hang_up(key, record.rc)
        elif isinstance(record, Rerouted):
            self._on_rerouted(key, record.error)
        elif isinstance(record, TimedOut):
            store.add_timeout(stored)
            self._set_current_node(key)
            self._end_node(key)
        elif isinstance(record, Aborted):
            # As in ClusterShell, an aborted node has no return code and no ev_hup.
            store.add_abort(stored)
            self._set_current_node(key)
            self._end_node(key)

    def _on_rerouted(self, key: Any, error: NodeError) -> None:
        """A jump host of a node has failed, and another one is tried."""

    @interruptible
    def _deliver_output(self, store: ResultStore, key: Any, sname: str, lines: list[bytes]) -> None:
        context = self.context
        if self._renamed:
            sname = self._renamed.get(sname, sname)
        if self.keep_output and context.keeps(sname):
            store.add_lines(OWN_KEY if key is self else key, sname, lines)
        if context.info.get("debug"):
            for line in lines:
                context.debug(f"{self._debug_name(key)} {line!r}")
        self._set_current_node(key)
        self.current_sname = sname
        events = self._events
        if events is None or not events.reads:
            self._set_current_message(sname, lines[-1])
            return
        # This loop runs once per line, so it does little more than call the handler.
        read = events.read
        is_error = sname == self.SNAME_STDERR
        for line in lines:
            if is_error:
                self.current_errmsg = line
            else:
                self.current_msg = line
            read(self, key, sname, line)
            if self.aborted:
                # The handler has aborted the worker, so the node's end has been reported. No output
                # follows an end.
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

    def _start_once(self) -> None:
        """Call ``ev_start``, at the first call."""
        if not self.started:
            self.started = True
            # The output of renamed streams is not kept: see SNAME_STDOUT.
            names = {"stdout": self.SNAME_STDOUT, "stderr": self.SNAME_STDERR}
            self._renamed = {name: own for name, own in names.items() if own != name}
            if self._events is not None:
                self._events.start(self)

    def _hang_up(self, key: Any, rc: Optional[int]) -> None:
        self._set_current_node(key)
        self.current_rc = rc
        if self._events is not None:
            try:
                self._events.hup(self, key, rc)
            except BaseException as error:
                self._end_after(error, self._end_node, key)
                raise
        self._end_node(key)

    def _end_node(self, key: Any) -> None:
        """Call ``ev_result``, and count the end."""
        if self._events is not None and self._events.takes_results:
            try:
                self._events.result(self, key, self.store.result(self._stored(key)))
            except BaseException as error:
                self._end_after(error, self.count_end)
                raise
        self.count_end()

    def _end_after(self, error: BaseException, end: Callable[..., Any], *args: Any) -> None:
        """Take the last steps of an end although the handler has raised: the first error counts."""
        if self.handler_error is None:
            self.handler_error = error
        try:
            end(*args)
        except Exception:
            logger.debug("after %r in a handler of %r", error, self, exc_info=True)

    def keep_error(self, error: Exception) -> bool:
        """Keep an exception for the future of this worker, because the worker cannot run.

        Returns:
            False if the worker was not submitted. Then the caller raises the exception, which ends
            the run, as in ClusterShell.
        """
        if not self.context.submitted:
            return False
        self.own_error = self.own_error or error
        return True

    def end_unstarted(self, key: Any) -> None:
        """A node was aborted before its start: no event but ``ev_result`` reports its end."""
        self.store.add_abort(self._stored(key))
        self._end_node(key)

    def count_end(self) -> None:
        """Count the end of one node; the last one calls ``ev_close`` and closes the worker."""
        self._ends_left -= 1
        if self._ends_left:
            return
        # As in ClusterShell, there is no ev_close if ev_hup of the same worker has raised.
        if self.started and self._events is not None and self.handler_error is None:
            try:
                self._events.close(self, self.did_timeout())
            except BaseException as error:
                self._end_after(error, self._close)
                raise
        self._close()

    def _close(self) -> None:
        """Call the callbacks of :meth:`when_closed`."""
        self.store.close()
        with _closing:
            callbacks, self._close_callbacks = self._close_callbacks, None
        for index, callback in enumerate(callbacks or ()):
            try:
                callback(self)
            except BaseException as error:
                for other in (callbacks or ())[index + 1 :]:
                    self._end_after(error, other, self)
                raise

    # -- for users --

    def did_timeout(self) -> bool:
        """Return True if a node of this worker timed out."""
        return bool(self.store.timeouts)

    def results(self) -> Results:
        """Return the results of the nodes that have ended, as a mapping that does not change.

        The results live as long as this worker: they can be read after the run, and after later
        runs. To be called on the task's thread, or when the worker has ended.

        Returns:
            A :class:`~.results.Results`: node name to :class:`~.results.NodeResult`. For a local
            command, the only name is its key, or 'localhost' if it has none.
        """
        return self.store.results()

    def when_closed(self, callback: Callable[[Worker], Any]) -> None:
        """Call ``callback(worker)`` once when the worker has ended on all its nodes.

        It is called in any case, on the task's thread, after ``ev_close``: also if a handler has
        raised an exception, and if the worker was aborted before any of its nodes started, which no
        other event reports. If the worker has already ended, it is called at once, on the
        calling thread. May be called from any thread, before or after the worker is scheduled.

        An exception in the callback ends the run, like one in an event.

        Args:
            callback: a function that takes the worker.

        Raises:
            TypeError: it cannot be called, or is a coroutine function.
        """
        check_function("when_closed()", callback)
        self.on_close(callback)

    def on_close(self, callback: Callable[[Worker], Any]) -> None:
        """Do what :meth:`when_closed` does, without its check: for this package."""
        with _closing:
            if self._close_callbacks is not None:
                self._close_callbacks.append(callback)
                return
        callback(self)

    def when_gone(self, callback: Callable[[Worker], Any]) -> None:
        """Call ``callback(worker)`` once when the worker has ended and no kill of it is under way.

        A worker that is aborted, or times out, ends at once; TERM and KILL go on in the background.
        This waits for them: for ``ssh_kill_grace``, and one more second for a node that does not
        answer. The callback is called once in any case, on the task's thread, on the calling
        thread, or on that of the delayed calls. It must not raise. May be called from any thread.

        Args:
            callback: a function that takes the worker.

        Raises:
            TypeError: it cannot be called, or is a coroutine function.
        """
        check_function("when_gone()", callback)
        self.on_close(lambda worker: worker.aftermath.when_over(lambda: callback(worker)))

    def pause_output(self) -> None:
        """Stop reading the output of the commands on all nodes, until :meth:`resume_output`.

        For a handler that passes lines on to something slower. The commands go on until the SSH
        window or the pipe is full (see :attr:`read_ahead`); then they are held back. Other workers
        are not. Lines that have been read already are still delivered, but those that have not
        are not; a node whose command has ended is reported as ended when its output has been read.
        Timeouts go on. May be called from any thread, before or after the start.

        Raises:
            NotImplementedError: this kind of worker has no output to hold back.
        """
        self._set_paused(True)

    def resume_output(self) -> None:
        """Go on reading after :meth:`pause_output`. May be called from any thread.

        Raises:
            NotImplementedError: this kind of worker has no output to hold back.
        """
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        raise NotImplementedError(f"{type(self).__name__} cannot hold back its output")

    def read(self, node: Any = None, sname: str = SNAME_STDOUT) -> Optional[bytes]:
        """Return the output of a node so far, lines joined by newlines; None if there is none.

        Args:
            node: the node's name, or the key.
            sname: 'stdout' or 'stderr'.

        Raises:
            TaskMsgTreeError: the stream's output is not kept.
        """
        context = self.context
        context.check_kept(sname)
        return self.store.message(sname, self._stored(node))

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Send bytes to the standard input of every command, or to named streams.

        Raises:
            NotImplementedError: this kind of worker has no input.
        """
        raise NotImplementedError(f"{type(self).__name__} has no input to write to")

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close the standard input of every command, or named streams, after pending writes.

        Raises:
            NotImplementedError: this kind of worker has no input.
        """
        raise NotImplementedError(f"{type(self).__name__} has no input to close")

    def abort(self) -> None:
        """End the job on all its nodes. Does nothing if the job has ended, or was not scheduled.

        May be called from any thread. On the task's thread, the job has ended when this method
        returns. From other threads, the call does not wait: the job ends in the loop's next pass,
        or at the start of the next run.
        """
        if self._context is not None:
            self._on_task_thread(self._abort)

    def _abort(self) -> None:
        """End the job on all its nodes. Called on the task's thread."""
        raise NotImplementedError(f"{type(self).__name__} must define abort() or _abort()")

    def _on_task_thread(self, method: Callable[..., Any], *args: Any) -> None:
        """Call a method on the task's thread: now if this is it, or else post the call."""
        context = self.context
        if threading.current_thread() is context.thread:
            method(*args)
        else:
            context.engine.post(method, *args)

    def flush_buffers(self) -> None:
        """Drop the standard output of this worker."""
        self.store.flush(self.SNAME_STDOUT)

    def flush_errors(self) -> None:
        """Drop the standard error of this worker."""
        self.store.flush(self.SNAME_STDERR)


class DistantWorker(Worker):
    """The base of workers that run their job on many nodes.

    Attributes:
        nodes: the nodes, a NodeSet.
    """

    nodes: NodeSet

    def _count_nodes(self) -> int:
        return len(self.nodes)

    def node_buffer(self, node: str) -> Optional[bytes]:
        """Return a node's standard output so far; None if there is none."""
        return self.read(node, self.SNAME_STDOUT)

    def node_error(self, node: str) -> Optional[bytes]:
        """Return a node's standard error so far; None if there is none."""
        return self.read(node, self.SNAME_STDERR)

    node_error_buffer = node_error

    def node_retcode(self, node: str) -> int:
        """Return a node's return code.

        Raises:
            KeyError: the node is not one of this worker's, or it has no return code (yet).
        """
        rc = self.store.retcode(node)
        if rc is None:
            self._check_node(node)
            raise KeyError(NO_RETCODE.format(node))
        return rc

    node_rc = node_retcode

    def skipped(self, node: str) -> list[str]:
        """Return the paths that ``skip_unchanged`` skipped on a node.

        Only WorkerSsh skips files; for other workers the list is empty.

        Raises:
            KeyError: the node is not one of this worker's.
        """
        self._check_node(node)
        return []

    def node_failure(self, node: str) -> Optional[NodeError]:
        """Return why no command could be run on a node, or why its connection was lost.

        Returns:
            The exception; None if a command was run.

        Raises:
            KeyError: the node is not one of this worker's.
        """
        self._check_node(node)
        return self.store.failures.get(node)

    def _check_node(self, node: str) -> None:
        """Check that a node is one of this worker's.

        Raises:
            KeyError: it is not.
        """
        if node not in self.nodes:
            near = did_you_mean(node, self.nodes)
            raise KeyError(f"{node!r} is not one of the worker's {len(self.nodes)} nodes{near}")

    def iter_failures(self) -> Iterator[tuple[NodeError, NodeSet]]:
        """Iterate over the different causes of failure.

        Yields:
            The exception of the cause's first node, and all its nodes.
        """
        for failure, nodes in fold_failures(self.store.failures.items()):
            yield failure, NodeSet.fromlist(nodes)

    def iter_buffers(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        """Iterate over the different standard outputs, each with its nodes.

        Args:
            match_keys: the nodes to look at; None for all.

        Raises:
            TaskMsgTreeError: the output is not kept.
        """
        return self._iter_messages(self.SNAME_STDOUT, match_keys)

    def iter_errors(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        """Iterate over the different standard errors, each with its nodes.

        Args:
            match_keys: the nodes to look at; None for all.

        Raises:
            TaskMsgTreeError: the output is not kept.
        """
        return self._iter_messages(self.SNAME_STDERR, match_keys)

    def _iter_messages(
        self, sname: str, match_keys: Optional[Collection[str]]
    ) -> Iterator[tuple[MsgTreeElem, NodeSet]]:
        context = self.context
        context.check_kept(sname)
        for message, nodes in self.store.iter_messages(sname, match_keys):
            yield message, NodeSet.fromlist(nodes)

    def iter_node_buffers(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        """Iterate over the nodes, each with its standard output.

        Args:
            match_keys: the nodes to look at; None for all.

        Raises:
            TaskMsgTreeError: the output is not kept.
        """
        return self._iter_items(self.SNAME_STDOUT, match_keys)

    def iter_node_errors(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        """Iterate over the nodes, each with its standard error.

        Args:
            match_keys: the nodes to look at; None for all.

        Raises:
            TaskMsgTreeError: the output is not kept.
        """
        return self._iter_items(self.SNAME_STDERR, match_keys)

    def _iter_items(
        self, sname: str, match_keys: Optional[Collection[str]]
    ) -> Iterator[tuple[str, MsgTreeElem]]:
        context = self.context
        context.check_kept(sname)
        return self.store.iter_items(sname, match_keys)

    def iter_retcodes(
        self, match_keys: Optional[Collection[str]] = None
    ) -> Iterator[tuple[int, NodeSet]]:
        """Iterate over the different return codes, each with its nodes.

        Args:
            match_keys: the nodes to look at; None for all.
        """
        for rc, nodes in self.store.iter_retcodes(match_keys):
            yield rc, NodeSet.fromlist(nodes)

    def iter_node_retcodes(self) -> Iterator[tuple[str, int]]:
        """Iterate over the nodes that have a return code, each with it."""
        return iter(list(self.store.retcodes()))

    def num_timeout(self) -> int:
        """Return the number of nodes that timed out."""
        return len(self.store.timeouts)

    def iter_keys_timeout(self) -> Iterator[str]:
        """Iterate over the nodes that timed out."""
        return iter(list(self.store.timeouts))
