"""The ways of waiting for descriptors, by the names that ClusterShell gives its engines.

kqueue, which it does not know, is what the platforms that have it take for 'auto'.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol


class HasFileno(Protocol):
    """Anything with a descriptor: a socket, a pipe, a channel."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


# The best first. A platform that lacks one (Windows has select only) takes the next.
POLLING = {
    name: getattr(selectors, f"{name.capitalize()}Selector")
    for name in ("epoll", "kqueue", "poll", "select")
    if hasattr(selectors, f"{name.capitalize()}Selector")
}
_NAMES = ("auto", "epoll", "poll", "select")


def polling_name(name: str = "auto") -> str:
    """The way of waiting that a name stands for on this platform.

    Args:
        name: 'epoll', 'poll', 'select', or 'auto' for the best of this platform. One that the
            platform lacks is replaced by its best, as ClusterShell does.

    Raises:
        ValueError: there is no such name.
    """
    if name not in _NAMES:
        raise ValueError(f"engine must be one of {', '.join(_NAMES)}, not {name!r}")
    return name if name in POLLING else next(iter(POLLING))


def make_selector(name: str = "auto") -> selectors.BaseSelector:
    """Make a selector, of the way that :func:`polling_name` finds.

    Raises:
        ValueError: there is no such name.
    """
    selector: selectors.BaseSelector = POLLING[polling_name(name)]()
    return selector


def wait_readable(fileobjs: Iterable[HasFileno], timeout: float) -> None:
    """Wait until one of some descriptors is readable, or time is over.

    Args:
        fileobjs: things with a descriptor, which several may share; those whose descriptor was
            freed do not count.
        timeout: seconds.
    """
    with selectors.DefaultSelector() as selector:
        for fileobj in fileobjs:
            with suppress(ValueError, KeyError):
                selector.register(fileobj, selectors.EVENT_READ)
        selector.select(timeout)
