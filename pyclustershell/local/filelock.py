"""A lock on an open file, against other processes that append to it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from .. import platform

# Windows locks bytes, and no other process can read or write locked bytes: lock one far beyond the
# end of any such file.
_FAR_BEYOND = 0x7FFF0000

# Seconds between two attempts on Windows, whose own wait for a lock gives up after 10 s.
_INTERVAL = 0.01


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the file's lock in a with block; wait for it without a limit.

    The lock is advisory: it keeps out only processes that ask for it.

    Args:
        descriptor: of a file that is open for writing.

    Raises:
        OSError: the file system has no locks.
    """
    if platform.WINDOWS:
        msvcrt = import_module("msvcrt")
        _wait_for_byte(msvcrt, descriptor)
        try:
            yield
        finally:
            os.lseek(descriptor, _FAR_BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return
    fcntl = import_module("fcntl")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _wait_for_byte(msvcrt: object, descriptor: int) -> None:
    while True:
        os.lseek(descriptor, _FAR_BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
        else:
            return
        time.sleep(_INTERVAL)
