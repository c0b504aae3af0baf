"""Errors of sockets in the system's words.

On Windows, ``os.strerror()`` knows the numbers of the C library only, and Python has one text for
all errors of ``socket.getaddrinfo()``.
"""

from __future__ import annotations

import errno
import os
import socket

from .. import platform

#: The peer, or a machine on the way, has ended a connection. Windows has two errors for this.
RESETS = (ConnectionResetError, ConnectionAbortedError)


def socket_error(code: int) -> OSError:
    """Return the error with a number from SO_ERROR or connect_ex()."""
    if not platform.WINDOWS:
        return OSError(code, os.strerror(code))
    # Python finds the class by the last number: ConnectionRefusedError ...
    return OSError(code, _windows_words(code), None, code)


def lookup_error(error: OSError) -> OSError:
    """Return an error of ``socket.getaddrinfo()`` with the reason as its text."""
    if not platform.WINDOWS or not isinstance(error, socket.gaierror):
        return error
    code = error.errno or 0
    return socket.gaierror(code, _windows_words(code))


def _windows_words(code: int) -> str:
    from ..winapi import describe

    return describe(code) or errno.errorcode.get(code, f"Windows error {code}")
