"""Reports callbacks that keep the engine's thread for too long: a debugging aid.

One thread serves all nodes, so a callback that waits makes every node wait, and timeouts as well.
Agents, prompts, disks and name servers are asked on other threads. Set the environment variable
:data:`VARIABLE` to find a callback that breaks this rule.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any, Callable, Optional

from .timer import Clock

logger = logging.getLogger("pyclustershell.engine")

VARIABLE = "PYCLUSTERSHELL_SLOW_CALLBACKS"
"""Its value is the limit in seconds, or 'yes' for :data:`DEFAULT_LIMIT`; unset for no reports."""

DEFAULT_LIMIT = 0.05


class SlowCalls:
    """Logs a warning after each callback that takes longer than the limit.

    Args:
        limit: seconds.
        clock: monotonic time in seconds.
    """

    def __init__(self, limit: float, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock

    def timed(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callback that does the same and is reported if it takes too long."""

        def call(*args: Any) -> Any:
            start = self._clock()
            try:
                return callback(*args)
            finally:
                seconds = self._clock() - start
                if seconds > self._limit:
                    logger.warning(
                        "%s kept the engine's thread for %.3f s", _describe(callback), seconds
                    )

        return call


def slow_calls(clock: Clock) -> Optional[SlowCalls]:
    """Return what the environment variable asks for, or None.

    Raises:
        ValueError: its value is not a number of seconds.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        limit = DEFAULT_LIMIT if text == "yes" else float(text)
    except ValueError:
        raise ValueError(f"{VARIABLE}={text!r} is not a number of seconds, such as 0.05") from None
    return SlowCalls(limit, clock)


def _describe(callback: Callable[..., Any]) -> str:
    while isinstance(callback, functools.partial):
        callback = callback.func
    name = getattr(callback, "__qualname__", None)
    text = f"{callback.__module__}.{name}" if name else repr(callback)
    owner = getattr(callback, "__self__", None)
    return text if owner is None else f"{text} of {owner!r}"
