"""Tells whether a file has changed since it was read.

The engine's thread must not wait for a disk (NFS). It uses the stamps that other threads have taken
within the last second.
"""

from __future__ import annotations

import os
import time
from typing import Optional

from .memo import LookupPending

Stamp = Optional[tuple[int, int]]
"""Modification time in nanoseconds and size of a file; None if there is no such file."""

# The age in seconds from which a stamp is taken anew.
_FRESH = 1.0

# The stamps by path, each with the time just before it was taken.
_taken: dict[str, tuple[Stamp, float]] = {}


def file_stamp(path: str, wait: bool = True) -> Stamp:
    """Return the stamp of a file. It differs after a change of the file.

    Args:
        path: the file's path.
        wait: True to ask the disk; False for the stamp that another thread has taken within the
            last second.

    Raises:
        LookupPending: the calling thread may not wait, and no thread has asked within the last
            second.
    """
    now = time.monotonic()
    if not wait:
        known = _taken.get(path)
        if known is None or now - known[1] > _FRESH:
            raise LookupPending
        return known[0]
    stamp: Stamp
    try:
        status = os.stat(path)
    except OSError:
        stamp = None
    else:
        stamp = status.st_mtime_ns, status.st_size
    _taken[path] = stamp, now
    return stamp


def forget_stamps() -> None:
    """Forget all stamps, before a run: then a change before the run is noticed in any case."""
    _taken.clear()
