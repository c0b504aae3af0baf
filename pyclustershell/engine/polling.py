"""Selectors, by the names that ClusterShell gives its engines.

ClusterShell does not know kqueue; platforms that have it use it for 'auto'.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from .. import platform


class HasFileno(Protocol):
    """Anything with a descriptor: a socket, a pipe, a channel."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


# The best first. A platform that lacks one (Windows has select only) uses the next.
POLLING: dict[str, type[selectors.BaseSelector]] = {
    name: getattr(selectors, f"{name.capitalize()}Selector")
    for name in ("epoll", "kqueue", "poll", "select")
    if hasattr(selectors, f"{name.capitalize()}Selector")
}
if platform.WINDOWS:
    from .winsock import WinsockSelector

    POLLING["select"] = WinsockSelector  # Python's own takes 512 sockets there
_SELECTOR_WITHOUT_DESCRIPTOR = POLLING.get("poll", POLLING["select"])
# Seconds.
_DAY = 86400.0
_NAMES = ("auto", "epoll", "poll", "select")


def polling_name(name: str = "auto") -> str:
    """Return the name of the selector that a name stands for on this platform.

    Args:
        name: 'epoll', 'poll', 'select', or 'auto' for the platform's best. A selector that the
            platform lacks is replaced by its best, as in ClusterShell.

    Raises:
        ValueError: there is no such name.
    """
    if name not in _NAMES:
        raise ValueError(f"engine must be one of {', '.join(_NAMES)}, not {name!r}")
    return name if name in POLLING else next(iter(POLLING))


def make_selector(name: str = "auto") -> selectors.BaseSelector:
    """Make the selector that :func:`polling_name` finds.

    Raises:
        ValueError: there is no such name.
    """
    return POLLING[polling_name(name)]()


def longest_wait(seconds: float) -> float:
    """A time that selectors and locks can wait: at most a day.

    epoll counts milliseconds in 32 bits, which are 24.8 days, and raises OverflowError for more.
    The callers look at their clock again after each wait.
    """
    return min(seconds, _DAY)


def wait_readable(fileobjs: Iterable[HasFileno], timeout: float) -> None:
    """Wait until one of several descriptors is readable, or the time is over.

    Args:
        fileobjs: objects with a descriptor; several may share one. Objects whose descriptor was
            freed are ignored.
        timeout: seconds.
    """
    # Not the platform's best: epoll takes a descriptor, and there may be none left.
    with _SELECTOR_WITHOUT_DESCRIPTOR() as selector:
        for fileobj in fileobjs:
            with suppress(ValueError, KeyError):
                selector.register(fileobj, selectors.EVENT_READ)
        selector.select(timeout)
