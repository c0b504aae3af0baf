"""EventHandler: what a user's code is told while a task runs."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from .engine.timer import EngineTimer
    from .worker.worker import Worker


class EventHandler:
    """Base class of event handlers: override the events that you want to hear of.

    All of them are called on the thread of the task that runs the worker, timer or port, one at a
    time: no locks are needed between them. While one runs, nothing else of the task does; what may
    take long belongs into another thread, which reports through a port.

    For each worker the order is: ``ev_start`` once; then for each node ``ev_pickup``, any number of
    ``ev_read`` and ``ev_written``, and ``ev_hup``; and ``ev_close`` once, when all nodes have
    ended. Between nodes there is no order. A node that timed out, or was aborted, has no
    ``ev_hup``. A worker that was ended before any of its nodes had its turn (see the fanout) has no
    event.

    An event may schedule workers and timers (they start before the call returns, as far as the
    fanout allows), write to workers, abort them or the task, and read results. Not so
    ``Task.resume()``: the task is running.

    An exception that leaves one ends the run: every worker of the run is closed first, with an
    ``ev_close`` for each that had started, and every timer is dropped; then it leaves
    ``Task.resume()``, or goes to ``Task.excepthook`` in a task's own thread. The task can be used
    again. Exceptions in the events of that ending itself are dropped.
    """

    def ev_start(self, worker: Worker) -> None:
        """A worker begins.

        When: once, when the first command of the worker has started, or could not be; then follows
        its :meth:`ev_pickup`. Of a worker that is scheduled from a handler, a local command starts
        before ``Task.shell()`` returns; a command over SSH has to be connected to first.

        Args:
            worker: the worker; what is written to it from here on reaches every node.
        """

    def ev_pickup(self, worker: Worker, node: str) -> None:
        """A node's command has started.

        When: once per node, before its output. Where no command could be started (a connection
        failed, time ran out before there was one), it comes just before that is told, so that every
        :meth:`ev_hup` has had its ev_pickup.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
        """

    def ev_read(self, worker: Worker, node: str, sname: str, msg: bytes) -> None:
        """A line of output has come.

        When: for each line, in the order of the stream; a last line without a newline counts, when
        its stream has ended. The line is in the buffers already (``worker.read(node)``). Why a
        connection failed comes as a line of 'stderr', too.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdout' or 'stderr' (or the name given to a stream of a StreamWorker).
            msg: the line, without its newline, as the bytes that were sent.
        """

    def ev_error(self, worker: Worker) -> None:
        """A line of stderr has come, ``worker.current_errmsg``: the older form.

        When: before :meth:`ev_read`, which tells of the same line (unless it has the older form,
        too, and hears of stdout only).

        Args:
            worker: the worker.
        """

    def ev_written(self, worker: Worker, node: str, sname: str, size: int) -> None:
        """Bytes given to ``worker.write()`` have been sent to a node, or files have been copied.

        When: each time that some were, perhaps from within ``worker.write()`` itself. Who has much
        to write goes on here, while ``worker.input_full`` is False.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdin' (or the name given to a stream of a StreamWorker), or 'copy' for a copy's
                progress.
            size: how many bytes were sent now; of a copy, how many bytes of files have been copied
                on this node so far, either way.
        """

    def ev_hup(self, worker: Worker, node: str, rc: Optional[int]) -> None:
        """A node's command has ended; all its output has been read.

        When: once per node, as its last event, but not for one that timed out or was aborted. Its
        place in the fanout is free: what is scheduled from here may start at once.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            rc: its exit status; 128 + n if signal n ended it; 255 if no command could be run; None
                for a StreamWorker.
        """

    def ev_close(self, worker: Worker, timedout: bool) -> None:
        """The worker has ended on all its nodes.

        When: once, after every other event of the worker, also where it was aborted or the run is
        being ended; but only if it had started. Its results are complete.

        Args:
            worker: the worker, whose results can now be read.
            timedout: whether any node timed out; see ``worker.iter_keys_timeout()``.
        """

    def ev_port_start(self, port: Any) -> None:
        """A port is ready for messages.

        When: once, before the port's first message: as ``Task.port()`` is called in a running task,
        or else when the next run begins.

        Args:
            port: the port.
        """

    def ev_msg(self, port: Any, msg: Any) -> None:
        """A message was sent to a port, from any thread.

        When: for each message, in the order in which they were sent. Who waits in ``port.msg()``
        goes on just before this is called.

        Args:
            port: the port.
            msg: what was sent.
        """

    def ev_timer(self, timer: EngineTimer) -> None:
        """A timer fires.

        When: when its time has come and the task is running; late, where another handler took long,
        but once for each time. Afterwards a timer without an interval is no longer valid, unless
        ``timer.set_nextfire()`` is called here.

        Args:
            timer: the timer.
        """


#: By handler class, which of its methods have the old form: the signatures are read once per class.
_old_forms: weakref.WeakKeyDictionary[type, dict[str, bool]] = weakref.WeakKeyDictionary()


def _has_old_form(handler: Any, name: str, method: Callable[..., Any]) -> bool:
    """Whether a handler's method has the old form, whose only argument is the worker."""
    if name in getattr(handler, "__dict__", ()):
        return _takes_worker_only(method)  # this one's own, whatever others of its class have
    forms = _old_forms.setdefault(type(handler), {})
    if name not in forms:
        forms[name] = _takes_worker_only(method)
    return forms[name]


def _takes_worker_only(method: Callable[..., Any]) -> bool:
    """Whether a callable takes one argument by its place, and no more."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
    except (TypeError, ValueError):
        # A callable without a readable signature, such as a builtin: the new form.
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        inspect.Parameter.VAR_POSITIONAL not in kinds
        and sum(kind in by_place for kind in kinds) == 1
    )


def _line_reader(
    read: Optional[Callable[..., Any]], error: Optional[Callable[..., Any]], old: bool
) -> Callable[[Worker, Any, str, bytes], Any]:
    """What takes a line: ev_read, which may have its old form, and ev_error, or one of them."""
    if read is not None and error is None and not old:
        return read

    def take(worker: Worker, node: Any, sname: str, msg: bytes) -> None:
        if error is not None and sname == "stderr":
            error(worker)
        if read is None:
            return
        if not old:
            read(worker, node, sname, msg)
        elif sname != "stderr":
            # The old ev_read heard stdout only; stderr went to ev_error.
            read(worker)

    return take


class Dispatcher:
    """Calls one handler's events in the form that the handler defines.

    ClusterShell's older forms are still heard: ev_pickup, ev_read, ev_hup and ev_close with the
    worker as only argument, ev_error(worker) and ev_timeout(worker). They read
    ``worker.current_node`` and its siblings, which the worker sets before it calls.

    Attributes:
        reads: whether the handler wants lines at all; where it does not, none is dispatched.
        read: called with worker, node, stream name and line, for each line: the handler's own
            ev_read wherever that will do.
    """

    __slots__ = (
        "_close",
        "_hup",
        "_pickup",
        "_start",
        "_timeout",
        "_written",
        "read",
        "reads",
    )

    def __init__(self, handler: Any) -> None:
        def event(name: str) -> Optional[Callable[..., Any]]:
            method = getattr(handler, name, None)
            if getattr(method, "__func__", None) is getattr(EventHandler, name, None):
                return None
            return method

        def either(name: str) -> Optional[Callable[..., Any]]:
            method = event(name)
            if method is None or not _has_old_form(handler, name, method):
                return method
            old = method
            return lambda worker, *_details: old(worker)

        self._start = event("ev_start")
        self._pickup = either("ev_pickup")
        self._hup = either("ev_hup")
        self._close = either("ev_close")
        self._written = event("ev_written")
        self._timeout = event("ev_timeout")
        read = event("ev_read")
        error = event("ev_error")
        self.reads = read is not None or error is not None
        old = read is not None and _has_old_form(handler, "ev_read", read)
        self.read = _line_reader(read, error, old)

    def start(self, worker: Worker) -> None:
        """Call ev_start."""
        if self._start is not None:
            self._start(worker)

    def pickup(self, worker: Worker, node: str) -> None:
        """Call ev_pickup."""
        if self._pickup is not None:
            self._pickup(worker, node)

    def written(self, worker: Worker, node: str, sname: str, size: int) -> None:
        """Call ev_written."""
        if self._written is not None:
            self._written(worker, node, sname, size)

    def hup(self, worker: Worker, node: str, rc: Optional[int]) -> None:
        """Call ev_hup."""
        if self._hup is not None:
            self._hup(worker, node, rc)

    def close(self, worker: Worker, timedout: bool) -> None:
        """Call ev_close, after ev_timeout if any node timed out and the handler has one."""
        if timedout and self._timeout is not None:
            self._timeout(worker)
        if self._close is not None:
            self._close(worker, timedout)
