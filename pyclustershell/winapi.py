"""Calls into Windows' own libraries. Loaded only on Windows."""

from __future__ import annotations

import ctypes
from typing import Any

# Any: the type stubs of other systems lack the names of Windows.
_ctypes: Any = ctypes

HANDLE = ctypes.c_void_p
DWORD = ctypes.c_uint32
BOOL = ctypes.c_int


def library(name: str) -> Any:
    """Load a library of the system, such as 'kernel32'. Its functions keep their errors.

    Raises:
        ImportError: this system is not Windows.
    """
    if not hasattr(ctypes, "WinDLL"):
        raise ImportError(f"{name} is a library of Windows")
    return _ctypes.WinDLL(name, use_last_error=True)


def last_error() -> OSError:
    """Return the error of this thread's last call, in the system's words."""
    return system_error(last_code())


def system_error(code: int) -> OSError:
    """Return the error with a number, in the system's words."""
    return OSError(code, describe(code) or f"Windows error {code}", None, code)


def last_code() -> int:
    """Return the number of this thread's last error (Microsoft, "System Error Codes")."""
    code: int = _ctypes.get_last_error()
    return code


def describe(code: int) -> str:
    """Return the system's words for the number of an error; '' if it has none."""
    text: str = _ctypes.FormatError(code)
    return "" if text == "<no description>" else text.strip().rstrip(".")
