"""Files and directories that options name: what is wrong with them, in plain words."""

from __future__ import annotations

import errno
import os
from typing import Optional

from ..suggestions import did_you_mean
from .program import Call, UsageError

_DENIED = (errno.EACCES, errno.EPERM)


def read_problem(option: str, path: str, error: Exception) -> str:
    """The message about a file that cannot be read.

    Args:
        option: the option that names it.
        path: its path, as it was given.
        error: what reading it has raised.

    Returns:
        The option, the path, the cause and the fix.
    """
    return f"{option} {path!r}: {_why_unreadable(path, error)}"


def write_problem(option: str, path: str, error: OSError) -> str:
    """The same about a directory that cannot be made, or in which no file can be written."""
    return f"{option} {path!r}: {_why_not_written(path, error)}: name another directory"


def problem_of(option: str, path: str) -> Optional[str]:
    """Try to read a file; returns the message of :func:`read_problem`, or None if all is well."""
    if not path:
        return f"{option} '': the value is empty: write it, or leave out {option}"
    if os.path.isdir(path):  # Windows does not say so
        return read_problem(option, path, IsADirectoryError())
    if os.path.exists(path) and not os.path.isfile(path):
        return None  # it may be a pipe, which can be read only once
    try:
        with open(path, "rb"):
            return None
    except (OSError, ValueError) as error:
        return read_problem(option, path, error)


def check_readable(option: str, path: str) -> None:
    """Refuse a file that cannot be read, before anything else is done.

    Raises:
        UsageError: the path is empty, or there is no such file, or it cannot be read.
    """
    problem = problem_of(option, path)
    if problem is not None:
        raise UsageError(problem)


def check_groupsconf(call: Call, path: Optional[str]) -> None:
    """Refuse a file of --groupsconf that cannot be read. To ClusterShell it is like an empty one.

    Raises:
        UsageError: as in check_readable().
    """
    if path is not None and call.manner.own_words:
        check_readable("--groupsconf", path)


def _why_unreadable(path: str, error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "this file is not text in UTF-8: convert it"
    if not isinstance(error, OSError):
        return f"it cannot be read: {error}"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: name a file"
    file_above = _file_above(path)
    if file_above is not None:
        return f"{file_above!r} is a file, not a directory: correct the path"
    if isinstance(error, FileNotFoundError):
        directory, name = os.path.split(path)
        if directory and not os.path.isdir(directory):
            return f"there is no directory {directory!r}: correct the path"
        return f"there is no such file{_near(directory, name) or ': correct the path'}"
    if error.errno in _DENIED:
        return "you have no permission to read it: change its mode, or run this as another user"
    return f"it cannot be read: {error.strerror or error}"


def _why_not_written(path: str, error: OSError) -> str:
    blocking = _file_above(os.path.join(path, ""))
    if blocking is not None:
        return f"{blocking!r} is a file, not a directory"
    if error.errno in _DENIED:
        return "you have no permission to write there"
    return f"it cannot be written to: {error.strerror or error}"


def _file_above(path: str) -> Optional[str]:
    """The part of a path that should be a directory, and is a file; None if there is none."""
    above = os.path.dirname(path)
    while above:
        if os.path.exists(above):
            return None if os.path.isdir(above) else above
        if os.path.dirname(above) == above:
            return None
        above = os.path.dirname(above)
    return None


def _near(directory: str, name: str) -> str:
    """A question about a file of the directory whose name resembles this one; or ''."""
    try:
        return did_you_mean(name, os.listdir(directory or os.curdir))
    except OSError:
        return ""
