"""ClusterShell's engines: the one engine, with the polling method of each name."""

from __future__ import annotations

from typing import Any

from ..engine.engine import Engine
from ..engine.polling import POLLING, make_selector


class _NamedEngine(Engine):
    """An engine with a fixed polling method.

    Args:
        info: the info keys of a task; reads 'fanout', sets 'engine'.
    """

    identifier = "auto"

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(
            make_selector=lambda: make_selector(self.identifier), fanout=info.get("fanout", 64)
        )
        info["engine"] = self.identifier


class EngineEPoll(_NamedEngine):
    """An engine that waits with epoll(7)."""

    identifier = "epoll"


class EnginePoll(_NamedEngine):
    """An engine that waits with poll(2)."""

    identifier = "poll"


class EngineSelect(_NamedEngine):
    """An engine that waits with select(2)."""

    identifier = "select"


class PreferredEngine:
    """Makes the engine that a task's default key 'engine' names."""

    engines = {  # noqa: RUF012 ClusterShell's attribute
        engine.identifier: engine for engine in (EngineEPoll, EnginePoll, EngineSelect)
    }

    def __new__(cls, hint: str, info: dict[str, Any]) -> Engine:  # type: ignore[misc]
        """Make an engine.

        Args:
            hint: its identifier; 'auto' or '': the best one of this platform.
            info: the info keys of a task.

        Raises:
            KeyError: there is no engine of this name.
        """
        if not hint or hint == "auto":
            hint = next(name for name in POLLING if name in cls.engines)
        if hint not in cls.engines:
            raise KeyError(f"there is no engine {hint!r}, but {', '.join(cls.engines)}")
        return cls.engines[hint](info)
