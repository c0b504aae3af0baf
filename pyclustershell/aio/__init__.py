"""Commands and copies for programs that use asyncio: :class:`Session`."""

from __future__ import annotations

from .run import Lines, NodeEnded, NodeOutput, NodeStarted, Run
from .session import Session

__all__ = ["Lines", "NodeEnded", "NodeOutput", "NodeStarted", "Run", "Session"]
