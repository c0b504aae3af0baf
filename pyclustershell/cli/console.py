"""The terminal of the program, which is a console on Windows."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Callable

from .. import platform

# The numbers of standard output and standard error (GetStdHandle), and the flags of a console
# that obeys line breaks and escape sequences (SetConsoleMode).
_STREAMS = (-11, -12)
_PROCESSED, _ESCAPES = 0x0001, 0x0004


def has_terminal(stream: Any) -> bool:
    """True if a stream is the terminal of this process, which is in its foreground."""
    if stream is None or not stream.isatty():
        return False
    if not hasattr(os, "tcgetpgrp"):
        return True  # Windows has no background
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:
        return False  # not the terminal that controls this process


def obey_escapes() -> Callable[[], None]:
    """Have the console obey escape sequences: colours, and the progress line.

    Does nothing on other systems, and for streams that are no console. Windows before version 10
    cannot do it, and shows the sequences.

    Returns:
        A function that gives the console back as it was.
    """
    if not platform.WINDOWS:
        return _nothing
    from ..winapi import DWORD, HANDLE, library

    kernel32 = library("kernel32")
    kernel32.GetStdHandle.argtypes = (DWORD,)
    kernel32.GetStdHandle.restype = HANDLE
    kernel32.GetConsoleMode.argtypes = (HANDLE, HANDLE)
    kernel32.SetConsoleMode.argtypes = (HANDLE, DWORD)
    changed = []
    for stream in _STREAMS:
        handle, mode = kernel32.GetStdHandle(stream & 0xFFFFFFFF), DWORD()
        if (
            kernel32.GetConsoleMode(handle, ctypes.byref(mode))
            and not mode.value & _ESCAPES
            and kernel32.SetConsoleMode(handle, mode.value | _PROCESSED | _ESCAPES)
        ):
            changed.append((handle, mode.value))

    def restore() -> None:
        for handle, mode in changed:
            kernel32.SetConsoleMode(handle, mode)

    return restore


def _nothing() -> None:
    pass
