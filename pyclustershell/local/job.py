"""Jobs of Windows: a process with all its descendants. Loaded only on Windows."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import weakref
from contextlib import suppress
from typing import Optional

from ..winapi import BOOL, DWORD, HANDLE, last_error, library

logger = logging.getLogger("pyclustershell.local")

_kernel32 = library("kernel32")
_ntdll = library("ntdll")

# The rights that this module needs on a process (winnt.h).
_TERMINATE, _SET_QUOTA, _SUSPEND_RESUME = 0x0001, 0x0100, 0x0800

#: The flag of CreateProcess() for a process that does not run before it is resumed.
CREATE_SUSPENDED = 0x00000004

# Classes of SetInformationJobObject() and QueryInformationJobObject(), and a flag of the first.
_ACCOUNTING, _EXTENDED_LIMITS = 1, 9
_BREAKAWAY_OK = 0x00000800

# The exit status of a process that is ended with its job.
_ENDED = 1


class _ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", DWORD),
        ("working_sets", ctypes.c_size_t * 2),
        ("processes", DWORD),
        ("affinity", ctypes.c_size_t),
        ("classes", DWORD * 2),
        ("io_counters", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


class _Accounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION."""

    _fields_ = (
        ("times", ctypes.c_int64 * 4),
        ("page_faults", DWORD),
        ("processes", DWORD),
        ("active", DWORD),
        ("terminated", DWORD),
    )


_kernel32.CreateJobObjectW.argtypes = (HANDLE, HANDLE)
_kernel32.CreateJobObjectW.restype = HANDLE
_kernel32.SetInformationJobObject.argtypes = (HANDLE, ctypes.c_int, HANDLE, DWORD)
_kernel32.QueryInformationJobObject.argtypes = (HANDLE, ctypes.c_int, HANDLE, DWORD, HANDLE)
_kernel32.AssignProcessToJobObject.argtypes = (HANDLE, HANDLE)
_kernel32.TerminateJobObject.argtypes = (HANDLE, ctypes.c_uint)
_kernel32.OpenProcess.argtypes = (DWORD, BOOL, DWORD)
_kernel32.OpenProcess.restype = HANDLE
_kernel32.CloseHandle.argtypes = (HANDLE,)
_ntdll.NtResumeProcess.argtypes = (HANDLE,)
_ntdll.NtResumeProcess.restype = ctypes.c_int32


class Job:
    """Some processes, and all processes that they will start.

    The job lives as long as this object. Its processes do not end with it.

    A process that asks to be outside of the job (CREATE_BREAKAWAY_FROM_JOB) is outside, like one
    that calls setsid() on POSIX.

    Raises:
        OSError: from each method except :meth:`signal`: the system refuses it.
    """

    def __init__(self) -> None:
        self._handle = _checked(_kernel32.CreateJobObjectW(None, None))
        weakref.finalize(self, _kernel32.CloseHandle, self._handle).atexit = False
        limits = _ExtendedLimits(flags=_BREAKAWAY_OK)
        _checked(
            _kernel32.SetInformationJobObject(
                self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
            )
        )

    def __repr__(self) -> str:
        return f"<Job {self._handle}: {self.size} processes>"

    def add(self, process: int) -> None:
        """Add a process, by a handle of it."""
        _checked(_kernel32.AssignProcessToJobObject(self._handle, process))

    @property
    def size(self) -> int:
        """The number of its processes that run."""
        found = _Accounting()
        _checked(
            _kernel32.QueryInformationJobObject(
                self._handle, _ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None
            )
        )
        return int(found.active)

    def signal(self, number: int) -> bool:
        """End all processes. Windows has no signals, so any number but 0 ends them.

        Args:
            number: 0 only checks whether there is a process.

        Returns:
            True if there was a process.
        """
        with suppress(OSError):
            if self.size:
                if number:
                    _checked(_kernel32.TerminateJobObject(self._handle, _ENDED))
                return True
        return False


def resume_in_job(process: subprocess.Popen[bytes]) -> Optional[Job]:
    """Put a process that was created suspended into a job of its own, and let it run.

    Args:
        process: the process.

    Returns:
        The job; None if this program runs in a job that allows no other one.

    Raises:
        OSError: the process cannot run; it has been ended.
    """
    handle = None
    try:
        # The number stays that of this process as long as Popen has a handle of it.
        rights = _TERMINATE | _SET_QUOTA | _SUSPEND_RESUME
        handle = _checked(_kernel32.OpenProcess(rights, False, process.pid))
        job = _job_with(handle)
        # Popen has closed the handle of the thread, which the documented ResumeThread() needs. This
        # function is undocumented, and in every Windows; psutil resumes with it.
        if _ntdll.NtResumeProcess(handle) < 0:
            raise OSError("Windows does not resume the process that was created suspended")
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if handle is not None:
            _kernel32.CloseHandle(handle)
    return job


def _job_with(process: int) -> Optional[Job]:
    try:
        job = Job()
        job.add(process)
    except OSError as error:
        logger.debug("a command runs outside of a job: %s", error)
        return None
    return job


def _checked(result: int) -> int:
    """Return the result of a function of kernel32.

    Raises:
        OSError: it is zero: the function has failed.
    """
    if not result:
        raise last_error()
    return result
