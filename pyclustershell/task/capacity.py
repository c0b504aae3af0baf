"""The open files that a task's clients need, at the begin of a run and during it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.descriptors import ensure_descriptors
from ..engine.engine import Engine, EngineClient


class Capacity:
    """Raises the limit of open files as far as a task needs, before its clients start.

    All methods are for the task's thread.

    Args:
        engine: the task's engine.
        info: the task's info keys, as they are now (a live view).
    """

    def __init__(self, engine: Engine, info: Mapping[str, Any]) -> None:
        self._engine = engine
        self._info = info
        # The number of descriptors that were ensured: checks of fewer ones cost nothing.
        self._ensured = 0

    def __repr__(self) -> str:
        return f"<Capacity: {self._ensured} descriptors>"

    def forget(self) -> None:
        """Check anew: a run begins, or a limit has changed."""
        self._ensured = 0

    def check(self, clients: Sequence[EngineClient] = ()) -> None:
        """Check that the clients of the engine can run, and further ones with them.

        Args:
            clients: the further clients.

        Raises:
            EngineCapacityError: they need more open files than the system allows.
        """
        engine = self._engine
        count = engine.active + engine.backlog + len(clients)
        at_once = min(engine.fanout, count)
        pooled = min(self._info["ssh_pool_size"] or 0, count)
        needed = engine.descriptors_needed(clients) + max(0, pooled - at_once)
        if needed <= self._ensured:
            return
        advice = ""
        if max(at_once, pooled) > 1:
            advice = f"use a smaller fanout (now {engine.fanout}) or pool"
        ensure_descriptors(needed, advice, self._info["fd_max"])
        self._ensured = needed
