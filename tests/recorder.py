"""An event handler that writes down what it hears."""

from __future__ import annotations

from typing import Any

from pyclustershell import EventHandler


class Recorder(EventHandler):
    """Writes down every event; ``of(node)`` are those of one node, in their order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def of(self, node: Any) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[1:2] == (node,)]

    def ev_start(self, worker: Any) -> None:
        self.events.append(("start",))

    def ev_pickup(self, worker: Any, node: Any) -> None:
        self.events.append(("pickup", node))

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        self.events.append(("read", node, sname, msg))

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        self.events.append(("written", node, sname, size))

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        self.events.append(("hup", node, rc))

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self.events.append(("close", type(worker).__name__, timedout))
