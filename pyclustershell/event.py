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

    All of them are called on the thread of the task that runs the worker, one at a time: no locks
    are needed between them. An exception that leaves one ends the run: it leaves ``Task.resume()``,
    every worker and timer of the run is closed first, and the task can be used again.
    """

    def ev_start(self, worker: Worker) -> None:
        """A worker begins: once, just before its first node's :meth:`ev_pickup`."""

    def ev_pickup(self, worker: Worker, node: str) -> None:
        """A node's command has started.

        Called once per node, before its output. Where no command could be started (a connection
        failed), it comes just before the failure is reported through :meth:`ev_read` and
        :meth:`ev_hup`, so that every ev_hup has had its ev_pickup.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
        """

    def ev_read(self, worker: Worker, node: str, sname: str, msg: bytes) -> None:
        """A line of output has come.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdout' or 'stderr' (or the name given to a stream of a StreamWorker).
            msg: the line, without its newline, as the bytes that were sent.
        """

    def ev_error(self, worker: Worker) -> None:
        """A line of stderr has come, ``worker.current_errmsg``: the older form.

        Called before :meth:`ev_read`, which tells of the same line (unless it has the older form,
        too, and hears of stdout only).
        """

    def ev_written(self, worker: Worker, node: str, sname: str, size: int) -> None:
        """Bytes given to ``worker.write()`` have been sent to a node.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            sname: 'stdin'.
            size: how many bytes were sent, in bytes.
        """

    def ev_hup(self, worker: Worker, node: str, rc: Optional[int]) -> None:
        """A node's command has ended; all its output has been read.

        Not called for a node that timed out.

        Args:
            worker: the worker.
            node: the node's name, or the worker's key for a local command.
            rc: its exit status; 128 + n if signal n ended it; 255 if no command could be run.
        """

    def ev_close(self, worker: Worker, timedout: bool) -> None:
        """The worker has ended on all its nodes: once, after every other event of the worker.

        Args:
            worker: the worker, whose results can now be read.
            timedout: whether any node timed out; see ``worker.iter_keys_timeout()``.
        """

    def ev_port_start(self, port: Any) -> None:
        """A port is ready for messages."""

    def ev_msg(self, port: Any, msg: Any) -> None:
        """A message was sent to a port, from any thread."""

    def ev_timer(self, timer: EngineTimer) -> None:
        """A timer fires."""


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


class Dispatcher:
    """Calls one handler's events in the form that the handler defines.

    ClusterShell's older forms are still heard: ev_pickup, ev_read, ev_hup and ev_close with the
    worker as only argument, ev_error(worker) and ev_timeout(worker). They read
    ``worker.current_node`` and its siblings, which the worker sets before it calls.

    Attributes:
        reads: whether the handler wants lines at all; where it does not, none is dispatched.
    """

    __slots__ = (
        "_close",
        "_error",
        "_hup",
        "_pickup",
        "_read",
        "_start",
        "_timeout",
        "_written",
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
        self._error = event("ev_error")
        self._read = event("ev_read")
        if self._read is not None and _has_old_form(handler, "ev_read", self._read):
            # The old ev_read heard stdout only; stderr went to ev_error.
            old_read = self._read
            self._read = lambda worker, _node, sname, _msg: (
                None if sname == "stderr" else old_read(worker)
            )
        self.reads = self._read is not None or self._error is not None

    def start(self, worker: Worker) -> None:
        """Call ev_start."""
        if self._start is not None:
            self._start(worker)

    def pickup(self, worker: Worker, node: str) -> None:
        """Call ev_pickup."""
        if self._pickup is not None:
            self._pickup(worker, node)

    def read(self, worker: Worker, node: str, sname: str, msg: bytes) -> None:
        """Call ev_read (and ev_error for a line of stderr, where the handler has one)."""
        if self._error is not None and sname == "stderr":
            self._error(worker)
        if self._read is not None:
            self._read(worker, node, sname, msg)

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
