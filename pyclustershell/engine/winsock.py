"""A selector of any number of sockets for Windows. Loaded only there.

Python's ``select.select()`` takes 512 sockets on Windows: its C code has room for so many. Winsock
itself has no such limit: its sets are a count and an array of any length (Microsoft, "Maximum
Number of Sockets Supported"). So this module makes the sets, and calls Winsock's ``select()``.

WSAPoll() has no limit either, but Windows Server 2016 and 2019, which are still in use, do not
report there that an attempt to connect has failed.
"""

from __future__ import annotations

import ctypes
import math
import selectors
import time
from collections.abc import Iterable
from functools import cache
from typing import Any, Optional

from ..winapi import last_error, library

_select = library("ws2_32").select

# The longest timeout that fits into Winsock's timeval: signed numbers of 32 bits.
_LONGEST = 2**31 - 1

# A set begins with its size: an unsigned number of 32 bits in the place of a socket, which may have
# 64. The bytes between have no meaning.
_SIZE_BITS = 2**32 - 1


class WinsockSelector(selectors.SelectSelector):
    """Winsock's ``select()``, for as many sockets as the system has."""

    def __init__(self) -> None:
        super().__init__()
        # The registered sockets as two sets of Winsock: to read, and to write. None after a change.
        self._sets: Optional[tuple[Any, Any]] = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a socket."""
        self._sets = None
        return super().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget a socket."""
        self._sets = None
        return super().unregister(fileobj)

    def select(self, timeout: Optional[float] = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until sockets are ready. A socket that failed to connect is ready to write.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            OSError: a registered socket has been closed.
        """
        keys = self.get_map()
        if not keys:
            # Winsock refuses to wait for nothing.
            time.sleep(max(0.0, timeout or 0.0))
            return []
        if self._sets is None:
            readers, writers = (
                _make_set(key.fd for key in keys.values() if key.events & event)
                for event in (selectors.EVENT_READ, selectors.EVENT_WRITE)
            )
            self._sets = readers, writers
        try:
            readable, writable = _wait(*self._sets, timeout)
        except InterruptedError:
            return []
        ready = dict.fromkeys(readable, selectors.EVENT_READ)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | selectors.EVENT_WRITE
        return [(keys[fd], events) for fd, events in ready.items()]


def _make_set(sockets: Iterable[int]) -> Any:
    """Make an fd_set: the number of the sockets, then the sockets."""
    handles = list(sockets)
    # For more sockets than these, so that a few classes serve all numbers.
    capacity = 1 << len(handles).bit_length()
    return _array_of(ctypes.c_size_t, 1 + capacity)(len(handles), *handles)


@cache
def _array_of(item: Any, size: int) -> Any:
    """The class of arrays of this type and size. Kept: only the garbage collector frees classes."""
    return item * size


def _members(fd_set: Any) -> list[int]:
    size = fd_set[0] & _SIZE_BITS
    members: list[int] = fd_set[1 : 1 + size]
    return members


def _wait(readers: Any, writers: Any, timeout: Optional[float]) -> tuple[list[int], list[int]]:
    """Wait for sockets.

    Args:
        readers: an fd_set, which is not changed.
        writers: another one.
        timeout: seconds; None for no limit.

    Returns:
        The readable and the writable sockets. Those that failed to connect are writable.

    Raises:
        OSError: WSAENOTSOCK: one of them has been closed.
    """
    # Winsock writes its answers into the sets.
    readable, writable, failed = (type(s).from_buffer_copy(s) for s in (readers, writers, writers))
    limit = None
    if timeout is not None:
        # Rounded up: a timer must not have the loop run a thousand times before it is due.
        micros = math.ceil(min(max(0.0, timeout), _LONGEST) * 1_000_000)
        limit = _array_of(ctypes.c_long, 2)(*divmod(micros, 1_000_000))
    if _select(0, readable, writable, failed, limit) < 0:
        raise last_error()
    return _members(readable), _members(writable) + _members(failed)
