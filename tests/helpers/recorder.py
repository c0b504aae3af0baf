"""An event handler that records its events."""

from __future__ import annotations

import threading
from typing import Any

from pyclustershell import EventHandler


class Recorder(EventHandler):
    """Records every event, and checks that each is called on the thread that made the recorder.

    Make it on the task's thread. A test that reacts to an event overrides its method and calls
    ``super()`` there. The programs under differential/ have a TraceHandler of their own: they run
    in two processes, one of which must not import this package.

    Attributes:
        events: one tuple for each event, in their order: its name without "ev_" and its arguments.
            The worker is left out, but for the name of its class in "close".
    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._thread = threading.current_thread()

    def of(self, node: Any) -> list[tuple[Any, ...]]:
        """The events of one node, in their order."""
        return [event for event in self.events if event[1:2] == (node,)]

    def _record(self, *event: Any) -> None:
        assert threading.current_thread() is self._thread
        self.events.append(event)

    def ev_start(self, worker: Any) -> None:
        self._record("start")

    def ev_pickup(self, worker: Any, node: Any) -> None:
        self._record("pickup", node)

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        self._record("read", node, sname, msg)

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        self._record("written", node, sname, size)

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        self._record("hup", node, rc)

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self._record("close", type(worker).__name__, timedout)
