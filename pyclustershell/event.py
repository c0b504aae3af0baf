"""EventHandler: the events that a task reports to a user's code while it runs."""

from __future__ import annotations

import inspect
import warnings
import weakref
from types import CodeType
from typing import Any, Callable, Optional, TypeVar

from .suggestions import did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])

#: The code of the functions that :func:`interruptible` marks.
INTERRUPTIBLE: set[CodeType] = set()


def interruptible(function: Function) -> Function:
    """Mark a function that calls users' code, or waits for another thread: it costs nothing.

    Ctrl-C may raise KeyboardInterrupt in the code that the function calls, if that is not this
    package's, but not in the function itself. See :mod:`.engine.interrupts`.
    """
    INTERRUPTIBLE.add(function.__code__)
    return function


class EventHandler:
    """Base class of event handlers: override the events that you need.

    All events are called on the thread of the task that runs the worker, timer or port. They are
    called one at a time, so they need no locks between them. The task does nothing else during an
    event. Long work belongs in another thread, which reports its results through a port.

    The order for each worker is: ``ev_start`` once; then for each node ``ev_pickup``, any number of
    ``ev_read`` and ``ev_written``, ``ev_hup``, and ``ev_result``; then ``ev_close`` once, when all
    nodes have ended. There is no order between nodes. A node that timed out or was aborted has no
    ``ev_hup``. A worker that ended before any of its nodes started (see the fanout) has no event
    but ``ev_result``.

    Ctrl-C (SIGINT) interrupts an event at once, even one that runs long, and so ends the run. If
    the event is in a call of this package, ``KeyboardInterrupt`` comes when the event has returned.
    This is for programs with Python's own handler of SIGINT, and for tasks of the main thread.

    An event may schedule workers and timers (they start before the call returns, as far as the
    fanout allows), write to workers, abort workers or the task, and read results. It may not call
    ``Task.resume()``, because the task is running.

    An exception in an event ends the run. First every worker of the run is closed, with an
    ``ev_result`` for each node and an ``ev_close`` for each started worker (but for a worker whose
    ``ev_hup`` or ``ev_result`` has raised), and every timer is dropped. Then ``Task.resume()``
    raises the exception; in a task's own thread, ``Task.excepthook`` receives it. The task can be
    used again. Further exceptions in events during this end of the run are dropped.
    """

    def ev_start(self, worker: Any) -> None:
        """The worker has started.

        When: once, when the first command of the worker has started or could not be started. The
        command's :meth:`ev_pickup` follows. If a handler schedules a local command, this is called
        before ``Task.shell()`` returns; a command over SSH needs a connection first.

        Args:
            worker: the worker. Bytes that are written to it here reach every node.
        """

    def ev_pickup(self, worker: Any, node: str) -> None:
        """A node's command has started.

        When: once per node, before its output. If no command could be started (the connection
        failed, or the time ran out before it was made), this is called just before the failure is
        reported, so that an ev_pickup precedes every :meth:`ev_hup`.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
        """

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        """A line of output has arrived.

        When: for each line, in the order of the stream; for a last line without a newline, at the
        end of the stream. The line is already in the buffers (``worker.read(node)``). The reason
        for a failed connection is also reported as a line of 'stderr'.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdout' or 'stderr' (or the name given to a stream of a StreamWorker).
            msg: the line, as bytes, without its newline.
        """

    def ev_error(self, worker: Any) -> None:
        """A line of stderr has arrived: ``worker.current_errmsg``. This is an older form.

        When: for each line of stderr, before :meth:`ev_read` is called for the same line. An
        ev_read of the older form is not called for stderr.

        Args:
            worker: the worker.
        """

    def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
        """Bytes from ``worker.write()`` have been sent to a node, or bytes of files were copied.

        When: after each such step, possibly during the call of ``worker.write()``. Resume large
        writes here, while ``worker.input_full`` is False.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdin' (or the name given to a stream of a StreamWorker); 'copy' for the
                progress of a copy.
            size: the number of bytes sent in this step; for a copy to or from the node, the number
                of bytes of files that have been copied so far.
        """

    def ev_hup(self, worker: Any, node: str, rc: Any) -> None:
        """A node's command has ended, and all its output has been read.

        When: once per node, as its last event; never for a node that timed out or was aborted. The
        node's place in the fanout is free, so work that is scheduled here may start at once.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            rc: the exit status; 128 + n if signal n ended the command; 255 if no command could be
                run; None for a StreamWorker.
        """

    def ev_result(self, worker: Any, node: str, result: Any) -> None:
        """A node has ended, in whatever way; this is its result.

        When: exactly once for each node of each worker, as its last event: after its
        :meth:`ev_hup`; in its place for a node that timed out or was aborted; and for a node that
        never started, because its worker was aborted or the run ended before its turn came. So this
        event may come without any other one of the node, and without an ``ev_start`` and
        ``ev_close`` of the worker. A handler that does not have this event costs nothing.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            result: a :class:`~.results.NodeResult`: output, return code, failure, and the seconds
                of each phase. It does not change any more, and can be kept.
        """

    def ev_routing(self, worker: Any, arg: dict[str, Any]) -> None:
        """A gateway has failed, and nodes are reached through another one.

        When: before the :meth:`ev_pickup` of these nodes, once for all nodes of the worker that
        waited for the gateway. Nothing has been started on them. If no gateway is left, the nodes
        fail in place of this event. It is also called for the alternatives of a ``ProxyJump`` that
        code gives (``proxy_jump=["gw1", "gw2"]``). A handler may also have ClusterShell's
        ``_ev_routing`` in place of this method.

        Args:
            worker: the worker.
            arg: a dict: ``event`` is 'reroute', ``gateway`` the name of the gateway that failed,
                ``targets`` the NodeSet of the nodes, and ``error`` the gateway's failure, a
                :class:`~.exceptions.NodeError`.
        """

    def ev_close(self, worker: Any, timedout: bool) -> None:
        """The worker has ended on all its nodes.

        When: once, after every other event of the worker, also if the worker was aborted or the run
        is being ended; never for a worker that has not started. The results are complete.

        Args:
            worker: the worker. Its results can now be read.
            timedout: True if a node timed out: see ``worker.iter_keys_timeout()``.
        """

    def ev_port_start(self, port: Any) -> None:
        """A port is ready for messages.

        When: once, before the port's first message: during the call of ``Task.port()`` if the task
        is running, or else at the start of the next run.

        Args:
            port: the port.
        """

    def ev_msg(self, port: Any, msg: Any) -> None:
        """A message has arrived at a port. Any thread may have sent it.

        When: for each message, in the order of sending. A thread that waits in ``port.msg()`` for
        this message is released just before this is called.

        Args:
            port: the port.
            msg: the object that was sent.
        """

    def ev_timer(self, timer: Any) -> None:
        """A timer has fired.

        When: once for each firing time, while the task is running; late if another event took long.
        Afterwards a timer without an interval is no longer valid, unless ``timer.set_nextfire()``
        is called here.

        Args:
            timer: the timer.
        """


#: Events that ClusterShell had before.
_OLD_EVENTS = ("ev_timeout", "ev_error")

# Two names that are this similar differ by a typing error.
_TYPO = 0.8

#: For each handler class: True for a method of the old form. Signatures are read once per class.
_old_forms: weakref.WeakKeyDictionary[type, dict[str, bool]] = weakref.WeakKeyDictionary()


def _has_old_form(handler: Any, name: str, method: Callable[..., Any]) -> bool:
    """Return True if a method has the old form, with the worker as its only argument."""
    if name in getattr(handler, "__dict__", ()):
        return _takes_worker_only(method)  # an attribute of this handler, not of its class
    forms = _old_forms.setdefault(type(handler), {})
    if name not in forms:
        forms[name] = _takes_worker_only(method)
    return forms[name]


def _takes_worker_only(method: Callable[..., Any]) -> bool:
    """Return True if a callable takes exactly one positional argument."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
    except (TypeError, ValueError):
        # A callable without a readable signature, such as a builtin, has the new form.
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        inspect.Parameter.VAR_POSITIONAL not in kinds
        and sum(kind in by_place for kind in kinds) == 1
    )


#: The handler classes whose methods have been looked at.
_checked: weakref.WeakSet[type] = weakref.WeakSet()


def _check_names(kind: type) -> None:
    """Warn of a method whose name is nearly that of an event: it is never called."""
    if kind is EventHandler or kind in _checked:
        return
    _checked.add(kind)
    known = [name for name in dir(EventHandler) if name.startswith("ev_")]
    for name in dir(kind):
        if name.startswith("ev_") and name not in known and name not in _OLD_EVENTS:
            near = did_you_mean(name, known, _TYPO)
            if near:
                text = f"{kind.__name__}.{name} is no event, and is never called{near}"
                warnings.warn(text, UserWarning, stacklevel=4)


#: The arguments of the new form of each method that has an old one.
_NEW_FORMS = {
    "ev_pickup": "ev_pickup(self, worker, node)",
    "ev_read": "ev_read(self, worker, node, sname, msg)",
    "ev_hup": "ev_hup(self, worker, node, rc)",
    "ev_close": "ev_close(self, worker, timedout)",
    "ev_timeout": "ev_close(self, worker, timedout)",
}


def _deprecated(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a method of the old form, and warns at the first call.

    ClusterShell warns when it calls such a method, for each call. A warning for each line would
    cost more than the line, and a filter shows it once anyway.
    """
    warned = False

    @interruptible
    def call(worker: Any, *_details: Any) -> Any:
        nonlocal warned
        if not warned:
            warned = True
            handler = type(getattr(method, "__self__", method)).__name__
            message = f"{handler}.{name}(worker) is an old form: define {_NEW_FORMS[name]} instead"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        return method(worker)

    return call


def _line_reader(
    read: Optional[Callable[..., Any]], error: Optional[Callable[..., Any]], old: bool
) -> Callable[[Any, Any, str, bytes], Any]:
    """Return the function that takes each line: it calls ev_error and ev_read, as they exist."""
    if read is not None and error is None and not old:
        return read

    @interruptible
    def take(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        if error is not None and sname == "stderr":
            error(worker)
        if read is None:
            return
        if not old:
            read(worker, node, sname, msg)
        elif sname != "stderr":
            # The old ev_read is for stdout only; lines of stderr go to ev_error.
            read(worker)

    return take


class Dispatcher:
    """Calls one handler's events in the form that the handler defines.

    ClusterShell's older forms are supported: ev_pickup, ev_read, ev_hup and ev_close with the
    worker as the only argument, ev_error(worker) and ev_timeout(worker). The first call of each,
    except for ev_error, gives a DeprecationWarning. They read
    ``worker.current_node`` and the other ``current_*`` attributes, which the worker sets before
    each call. All methods are called on the task's thread.

    Attributes:
        reads: True if the handler takes lines. If False, no lines are dispatched.
        takes_results: True if the handler takes results. If False, none are made.
        read: takes the worker, the node, the stream's name and the line, for each line. It is the
            handler's own ev_read if possible, which saves a call per line.
    """

    __slots__ = (
        "_close",
        "_hup",
        "_pickup",
        "_result",
        "_routing",
        "_start",
        "_timeout",
        "_written",
        "read",
        "reads",
        "takes_results",
    )

    def __init__(self, handler: Any) -> None:
        _check_names(type(handler))

        def event(name: str) -> Optional[Callable[..., Any]]:
            method = getattr(handler, name, None)
            if getattr(method, "__func__", None) is getattr(EventHandler, name, None):
                return None
            return method

        def either(name: str) -> Optional[Callable[..., Any]]:
            method = event(name)
            if method is None or not _has_old_form(handler, name, method):
                return method
            return _deprecated(name, method)

        self._start = event("ev_start")
        self._pickup = either("ev_pickup")
        self._hup = either("ev_hup")
        self._close = either("ev_close")
        self._written = event("ev_written")
        self._result = event("ev_result")
        self._routing = event("ev_routing") or event("_ev_routing")
        self.takes_results = self._result is not None
        timeout = event("ev_timeout")
        self._timeout = None if timeout is None else _deprecated("ev_timeout", timeout)
        read = event("ev_read")
        error = event("ev_error")
        self.reads = read is not None or error is not None
        old = read is not None and _has_old_form(handler, "ev_read", read)
        if read is not None and old:
            read = _deprecated("ev_read", read)
        self.read = _line_reader(read, error, old)

    @interruptible
    def start(self, worker: Any) -> None:
        """Call ev_start."""
        if self._start is not None:
            self._start(worker)

    @interruptible
    def pickup(self, worker: Any, node: str) -> None:
        """Call ev_pickup."""
        if self._pickup is not None:
            self._pickup(worker, node)

    @interruptible
    def written(self, worker: Any, node: str, sname: str, size: int) -> None:
        """Call ev_written."""
        if self._written is not None:
            self._written(worker, node, sname, size)

    @interruptible
    def hup(self, worker: Any, node: str, rc: Optional[int]) -> None:
        """Call ev_hup."""
        if self._hup is not None:
            self._hup(worker, node, rc)

    @interruptible
    def routing(self, worker: Any, arg: dict[str, Any]) -> None:
        """Call ev_routing."""
        if self._routing is not None:
            self._routing(worker, arg)

    @interruptible
    def result(self, worker: Any, node: str, result: Any) -> None:
        """Call ev_result."""
        if self._result is not None:
            self._result(worker, node, result)

    @interruptible
    def close(self, worker: Any, timedout: bool) -> None:
        """Call ev_close, after ev_timeout if any node timed out and the handler has one."""
        if timedout and self._timeout is not None:
            self._timeout(worker)
        if self._close is not None:
            self._close(worker, timedout)
