"""Owners and rights of files on Windows. Loaded only there."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Optional

from .winapi import DWORD, HANDLE, describe, last_error, library

_QUERY_TOKEN, _TOKEN_USER = 0x0008, 1
_FILE_OBJECT, _OWNER_AND_LIST = 1, 0x0001 | 0x0004

# The kinds of entries that grant rights: to an account; and to an account under a condition, which
# is not looked at (winnt.h). The other kinds deny, audit, or are for objects of directory services.
_GRANTING = {0x00, 0x09}
# The flag of an entry that is only for the files of a directory, not for the directory.
_INHERIT_ONLY = 0x08


@cache
def _libraries() -> tuple[Any, Any]:
    """Load advapi32 and kernel32. Not at import: tests import every module on every system."""
    advapi32, kernel32 = library("advapi32"), library("kernel32")
    advapi32.OpenProcessToken.argtypes = (HANDLE, DWORD, HANDLE)
    advapi32.GetTokenInformation.argtypes = (HANDLE, ctypes.c_int, HANDLE, DWORD, HANDLE)
    advapi32.ConvertSidToStringSidW.argtypes = (HANDLE, HANDLE)
    advapi32.GetNamedSecurityInfoW.argtypes = (ctypes.c_wchar_p, ctypes.c_int, DWORD, *[HANDLE] * 5)
    advapi32.GetAce.argtypes = (HANDLE, DWORD, HANDLE)
    kernel32.GetCurrentProcess.restype = HANDLE
    kernel32.LocalFree.argtypes = (HANDLE,)
    kernel32.CloseHandle.argtypes = (HANDLE,)
    return advapi32, kernel32


class _List(ctypes.Structure):
    """ACL: the head of a list of rights."""

    _fields_ = (
        ("revision", ctypes.c_uint16),
        ("size", ctypes.c_uint16),
        ("count", ctypes.c_uint16),
    )


class _Entry(ctypes.Structure):
    """ACCESS_ALLOWED_ACE without its account, which follows."""

    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("size", ctypes.c_uint16),
        ("rights", DWORD),
    )


@cache
def current_user() -> str:
    """Return the identifier of this process's user.

    Raises:
        OSError: the system does not tell.
    """
    advapi32, kernel32 = _libraries()
    token, size = HANDLE(), DWORD()
    process = kernel32.GetCurrentProcess()
    _check(advapi32.OpenProcessToken(process, _QUERY_TOKEN, ctypes.byref(token)))
    try:
        buffer = ctypes.create_string_buffer(256)  # a pointer, and an identifier of 68 bytes
        _check(
            advapi32.GetTokenInformation(
                token, _TOKEN_USER, buffer, len(buffer), ctypes.byref(size)
            )
        )
        return _text(HANDLE.from_buffer(buffer))
    finally:
        kernel32.CloseHandle(token)


def security_of(path: str) -> tuple[str, Optional[list[tuple[str, int]]]]:
    """Return the owner of a file, and the rights that its list grants; None if it has no list.

    Raises:
        OSError: they cannot be read.
    """
    advapi32, kernel32 = _libraries()
    owner, rights, everything = HANDLE(), HANDLE(), HANDLE()
    code = advapi32.GetNamedSecurityInfoW(
        path,
        _FILE_OBJECT,
        _OWNER_AND_LIST,
        ctypes.byref(owner),
        None,
        ctypes.byref(rights),
        None,
        ctypes.byref(everything),
    )
    if code:
        raise OSError(code, describe(code) or f"Windows error {code}", path, code)
    try:
        return _text(owner), _grants(rights) if rights else None
    finally:
        kernel32.LocalFree(everything)


def _grants(rights: Any) -> list[tuple[str, int]]:
    advapi32, _ = _libraries()
    grants = []
    for number in range(_List.from_address(rights.value).count):
        address = HANDLE()
        _check(advapi32.GetAce(rights, number, ctypes.byref(address)))
        entry = _Entry.from_address(address.value or 0)
        if entry.kind in _GRANTING and not entry.flags & _INHERIT_ONLY:
            account = HANDLE((address.value or 0) + ctypes.sizeof(_Entry))
            grants.append((_text(account), int(entry.rights)))
    return grants


def _text(account: Any) -> str:
    advapi32, kernel32 = _libraries()
    text = ctypes.c_wchar_p()
    _check(advapi32.ConvertSidToStringSidW(account, ctypes.byref(text)))
    try:
        return text.value or ""
    finally:
        kernel32.LocalFree(text)


def _check(done: int) -> None:
    if not done:
        raise last_error()
