"""Mends faults of wine in every Python process; .ci/windows copies it to Python for Windows.

Not in the tests' own code: they start processes as well.
"""

from __future__ import annotations

import errno
import msvcrt  # type: ignore[import-not-found, unused-ignore]
import os

_locking = msvcrt.locking  # type: ignore[attr-defined, unused-ignore]


def locking(descriptor: int, mode: int, count: int) -> None:
    """Call msvcrt.locking(), whose error has no errno under wine if the bytes are locked."""
    try:
        _locking(descriptor, mode, count)
    except OSError as error:
        if error.errno:
            raise
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


msvcrt.locking = locking  # type: ignore[attr-defined, unused-ignore]
