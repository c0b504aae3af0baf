"""The trace of a scenario: every event with its arguments, and the notes of the scenario.

``ClusterShell`` is the real one or this package: tests.differential.run chooses before the import.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any, Callable, Optional

from ClusterShell.Event import EventHandler
from ClusterShell.NodeSet import NodeSet
from ClusterShell.RangeSet import RangeSet

CURRENT = ("current_node", "current_msg", "current_errmsg", "current_rc", "current_sname")


class Trace:
    """Collects events and notes, in a form that two implementations have in common."""

    def __init__(self, ssh_config: str) -> None:
        self.ssh_options = f"-F {ssh_config}"
        self.events: list[list[Any]] = []
        self.notes: list[list[Any]] = []
        self._labels: dict[int, str] = {}
        self._kept: list[Any] = []

    def label(self, thing: Any, name: str) -> Any:
        """Call a worker, timer or port by a name from now on."""
        self._labels[id(thing)] = name
        self._kept.append(thing)
        return thing

    def event(self, name: str, source: Any, *arguments: Any) -> None:
        """Record an event of a worker, timer or port."""
        self.events.append([name, self.plain(source), *map(self.plain, arguments)])

    def note(self, what: str, value: Any = None) -> None:
        """Record a result."""
        self.notes.append([what, self.plain(value)])

    def note_unordered(self, what: str, values: Iterable[Any]) -> None:
        """Record results in no defined order."""
        self.notes.append([what, sorted(map(self.plain, values), key=repr)])

    def catch(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Record the result of a call, or its error."""
        try:
            value = call(*args, **kwargs)
        except Exception as error:
            self.notes.append([what, f"raises {public_error(error)}"])
            return None
        self.note(what, value)
        return value

    def plain(self, value: Any) -> Any:
        """A value as JSON can hold it."""
        if id(value) in self._labels:
            return f"<{self._labels[id(value)]}>"
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return value
        if isinstance(value, (bytes, bytearray)):
            return repr(bytes(value))
        if isinstance(value, (NodeSet, RangeSet)):
            return f"{type(value).__name__}({value})"
        if isinstance(value, BaseException):
            return public_error(value)
        if isinstance(value, dict):
            return sorted(([self.plain(k), self.plain(v)] for k, v in value.items()), key=repr)
        if isinstance(value, (set, frozenset)):
            return sorted(map(self.plain, value), key=repr)
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        if type(value).__name__ == "MsgTreeElem":
            return repr(bytes(value))
        if isinstance(value, type):
            return f"class {value.__name__}"
        if hasattr(value, "command"):
            return f"<{value.command}>"  # a worker
        return f"{type(value).__name__} object"


# The one module of ClusterShell has the class under several names; scripts catch any of them.
_SAME = {
    "EngineAlreadyRunningError": "AlreadyRunningError",
    "EngineTimeoutException": "TimeoutError",
    # "Bad arguments raise ValueError or TypeError, never assert" (API.md).
    "AssertionError": "ValueError",
    "ConfigurationError": "ValueError",
}


def public_error(error: BaseException) -> str:
    """The class of an exception, as a script's except clause would name it."""
    name = type(error).__name__
    return _SAME.get(name, name)


class TraceHandler(EventHandler):
    """Records every event in a trace, and calls a scenario's own function for some of them.

    It cannot be the Recorder of tests.helpers: that is a handler of this package, which the process
    that runs the real ClusterShell must not import.

    Args:
        trace: the record.
        actions: functions by the name of the event ("ev_read"). Each is called after its event is
            recorded, with the event's arguments.
    """

    def __init__(self, trace: Trace, **actions: Callable[..., Any]) -> None:
        self.trace = trace
        self.actions = actions

    def _record(self, name: str, source: Any, *arguments: Any) -> None:
        self.trace.event(name, source, *arguments)
        action = self.actions.get(name)
        if action is not None:
            action(source, *arguments)

    def ev_start(self, worker: Any) -> None:
        self._record("ev_start", worker)

    def ev_pickup(self, worker: Any, node: Any) -> None:
        self._record("ev_pickup", worker, node)

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        self._record("ev_read", worker, node, sname, msg)

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        self._record("ev_written", worker, node, sname, size)

    def ev_hup(self, worker: Any, node: Any, rc: Optional[int]) -> None:
        self._record("ev_hup", worker, node, rc)

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self._record("ev_close", worker, timedout)

    def ev_port_start(self, port: Any) -> None:
        self._record("ev_port_start", port)

    def ev_msg(self, port: Any, msg: Any) -> None:
        self._record("ev_msg", port, msg)

    def ev_timer(self, timer: Any) -> None:
        self._record("ev_timer", timer)


def old_handler(trace: Trace) -> Any:
    """A handler in the form of ClusterShell 1.7 and before."""

    class Old(EventHandler):
        def ev_start(self, worker: Any) -> None:
            trace.event("ev_start", worker)

        def ev_pickup(self, worker: Any) -> None:
            trace.event("ev_pickup", worker, worker.current_node)

        def ev_read(self, worker: Any) -> None:
            trace.event("ev_read", worker, worker.current_node, "stdout", worker.current_msg)

        def ev_error(self, worker: Any) -> None:
            trace.event("ev_read", worker, worker.current_node, "stderr", worker.current_errmsg)

        def ev_hup(self, worker: Any) -> None:
            trace.event("ev_hup", worker, worker.current_node, worker.current_rc)

        def ev_timeout(self, worker: Any) -> None:
            trace.event("ev_timeout", worker)

        def ev_close(self, worker: Any) -> None:
            trace.event("ev_close", worker, worker.did_timeout())

    return Old()


def note_task(trace: Trace, task: Any) -> None:
    """Note the results of all getters of a task."""
    trace.note("max_retcode", task.max_retcode())
    trace.note("num_timeout", task.num_timeout())
    trace.note_unordered("iter_keys_timeout", task.iter_keys_timeout())
    for name in ("iter_buffers", "iter_errors"):
        trace.note_unordered(
            name, ((bytes(b), plain_keys(trace, k)) for b, k in getattr(task, name)())
        )
    trace.note_unordered(
        "iter_retcodes", ((rc, plain_keys(trace, k)) for rc, k in task.iter_retcodes())
    )


def note_worker(trace: Trace, worker: Any, nodes: Iterable[str] = ()) -> None:
    """Note the results of all getters of a distant worker."""
    trace.note("did_timeout", worker.did_timeout())
    trace.note("num_timeout", worker.num_timeout())
    trace.note_unordered("worker iter_keys_timeout", worker.iter_keys_timeout())
    trace.note_unordered("worker iter_buffers", ((bytes(b), n) for b, n in worker.iter_buffers()))
    trace.note_unordered("worker iter_errors", ((bytes(b), n) for b, n in worker.iter_errors()))
    trace.note_unordered("iter_node_buffers", worker.iter_node_buffers())
    trace.note_unordered("iter_node_errors", worker.iter_node_errors())
    trace.note_unordered("worker iter_retcodes", worker.iter_retcodes())
    trace.note_unordered("iter_node_retcodes", worker.iter_node_retcodes())
    for node in nodes:
        trace.catch(f"node_buffer {node}", worker.node_buffer, node)
        trace.catch(f"node_error {node}", worker.node_error, node)
        trace.catch(f"node_retcode {node}", worker.node_retcode, node)
        trace.catch(f"node_rc {node}", worker.node_rc, node)
        trace.catch(f"read {node}", worker.read, node)


def plain_keys(trace: Trace, keys: Iterable[Any]) -> list[Any]:
    """Keys of one result, in no order."""
    return sorted(map(trace.plain, keys), key=repr)


def without_numbers(line: str) -> str:
    """A debug line without its numbers, which differ from run to run."""
    return re.sub(r"\d+", "N", line)


def in_thread(function: Callable[[], Any]) -> None:
    """Call a function in another thread and wait for it."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
