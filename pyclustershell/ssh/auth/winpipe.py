"""A client of a named pipe, with time limits. Loaded only on Windows.

Python's ``open()`` does for pipes what it does for files: the C library reports every error as one
of its own numbers (a busy pipe as EINVAL), and reading has no time limit.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Callable, Optional

from ...winapi import BOOL, DWORD, HANDLE, last_code, last_error, library, system_error

_kernel32 = library("kernel32")

_READ_WRITE = 0xC0000000  # GENERIC_READ | GENERIC_WRITE
_OPEN_EXISTING = 3
# The pipe's server may see who its client is, but not act as its client.
_OVERLAPPED, _IDENTIFICATION_ONLY = 0x40000000, 0x00110000
_INVALID_HANDLE = ctypes.c_void_p(-1).value

_FILE_NOT_FOUND, _PIPE_BUSY, _IO_PENDING = 2, 231, 997
_WAIT_TIMEOUT = 258

# The longest wait for a free instance of a pipe, in milliseconds, before its time limit is checked.
_LONGEST_WAIT = 1000

# The seconds that a pipe may be away between two instances, and those between two looks for it.
_LONGEST_ABSENCE = 0.5
_ABSENCE_INTERVAL = 0.01


class _Overlapped(ctypes.Structure):
    """OVERLAPPED: one operation under way."""

    _fields_ = (
        ("status", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("offset", DWORD * 2),
        ("event", HANDLE),
    )


_kernel32.CreateFileW.argtypes = (ctypes.c_wchar_p, DWORD, DWORD, HANDLE, DWORD, DWORD, HANDLE)
_kernel32.CreateFileW.restype = HANDLE
_kernel32.WaitNamedPipeW.argtypes = (ctypes.c_wchar_p, DWORD)
_kernel32.CreateEventW.argtypes = (HANDLE, BOOL, BOOL, HANDLE)
_kernel32.CreateEventW.restype = HANDLE
_kernel32.ReadFile.argtypes = _kernel32.WriteFile.argtypes = (HANDLE, HANDLE, DWORD, HANDLE, HANDLE)
_kernel32.WaitForSingleObject.argtypes = (HANDLE, DWORD)
_kernel32.WaitForSingleObject.restype = DWORD
_kernel32.GetOverlappedResult.argtypes = (HANDLE, HANDLE, HANDLE, BOOL)
_kernel32.CancelIoEx.argtypes = (HANDLE, HANDLE)
_kernel32.CloseHandle.argtypes = (HANDLE,)


# The pipes that were there before.
_seen: set[str] = set()


def pipe_exists(path: str) -> bool:
    """Return True if a pipe has this name, also if all its instances are busy.

    A pipe that was there once counts as there: a server that makes a new instance for each client
    has none for a moment.
    """
    if path not in _seen and (_kernel32.WaitNamedPipeW(path, 1) or last_code() != _FILE_NOT_FOUND):
        _seen.add(path)
    return path in _seen


class WindowsPipe:
    """A connection to the server of a named pipe, with the methods of a socket. For one thread.

    Args:
        path: the name of the pipe. It may have slashes in place of backslashes, as in
            OpenSSH's configuration, where a backslash is an escape.
        timeout: seconds to wait for a free instance of the pipe, and for each read and write; None
            for no limit.

    Raises:
        TimeoutError: from the constructor and each method: the time is over.
        OSError: from the constructor and each method: the error of the system, in its words.
    """

    def __init__(self, path: str, timeout: Optional[float]) -> None:
        self._timeout = timeout
        self._handle: Optional[int] = None
        self._event: Optional[int] = None
        path = path.replace("/", "\\")
        self._handle = _open(path, None if timeout is None else time.monotonic() + timeout)
        self._event = _kernel32.CreateEventW(None, True, False, None)
        if not self._event:
            error = last_error()
            self.close()
            raise error

    def settimeout(self, timeout: Optional[float]) -> None:
        """Set the seconds that each read and write may take; None for no limit."""
        self._timeout = timeout

    def sendall(self, data: bytes) -> None:
        """Write all bytes."""
        while data:
            buffer = ctypes.create_string_buffer(data, len(data))
            data = data[self._transfer(_kernel32.WriteFile, buffer, len(data)) :]

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes; b'' if the server has closed the pipe."""
        buffer = ctypes.create_string_buffer(size)
        try:
            size = self._transfer(_kernel32.ReadFile, buffer, size)
        except BrokenPipeError:
            return b""
        return buffer.raw[:size]

    def _transfer(self, function: Callable[..., int], buffer: Any, size: int) -> int:
        """Read or write once; return the number of bytes."""
        overlapped = _Overlapped(event=self._event)
        under_way = ctypes.byref(overlapped)
        at_once = function(self._handle, buffer, size, None, under_way)
        if not at_once and last_code() != _IO_PENDING:
            raise last_error()
        limit = -1 if self._timeout is None else max(0, int(self._timeout * 1000))
        waited = _kernel32.WaitForSingleObject(self._event, limit & 0xFFFFFFFF)
        if waited == _WAIT_TIMEOUT:
            _kernel32.CancelIoEx(self._handle, under_way)
        done = DWORD()
        # This waits for the end of a cancelled operation: until then, the system uses the buffer.
        if not _kernel32.GetOverlappedResult(self._handle, under_way, ctypes.byref(done), True):
            if waited == _WAIT_TIMEOUT:
                raise TimeoutError("timed out")
            raise last_error()
        return int(done.value)

    def close(self) -> None:
        """Close the connection."""
        for handle in (self._handle, self._event):
            if handle is not None:
                _kernel32.CloseHandle(handle)
        self._handle = self._event = None


def _open(path: str, deadline: Optional[float]) -> int:
    """Open a pipe; wait for a free instance of it.

    Raises:
        OSError: there is no such pipe, it stays busy, or its server refuses this user.
    """
    gone_since: Optional[float] = None
    while True:
        handle = _kernel32.CreateFileW(
            path, _READ_WRITE, 0, None, _OPEN_EXISTING, _OVERLAPPED | _IDENTIFICATION_ONLY, None
        )
        if handle != _INVALID_HANDLE:
            _seen.add(path)
            return int(handle)
        code, now = last_code(), time.monotonic()
        if code == _FILE_NOT_FOUND and path in _seen:
            gone_since = now if gone_since is None else gone_since
            if now - gone_since < _LONGEST_ABSENCE:
                time.sleep(_ABSENCE_INTERVAL)
                continue
        gone_since = None
        left = _LONGEST_WAIT if deadline is None else int((deadline - now) * 1000)
        if code != _PIPE_BUSY or left <= 0:
            raise system_error(code)
        # If an instance becomes free, another client may be faster.
        _kernel32.WaitNamedPipeW(path, min(left, _LONGEST_WAIT))
