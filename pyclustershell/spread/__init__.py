"""Commands and copies on many nodes by several processes, or several hosts: :class:`Spread`."""

from __future__ import annotations

from .shard import run_shard
from .spread import Spread, SpreadRun

__all__ = ["Spread", "SpreadRun", "run_shard"]
