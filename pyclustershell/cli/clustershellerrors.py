"""The errors of the programs in ClusterShell's words, line by line."""

from __future__ import annotations

import configparser
import errno
from typing import Optional

from ..exceptions import (
    EngineCapacityError,
    EngineNotSupportedError,
    GroupResolverConfigError,
    GroupResolverError,
    GroupResolverIllegalCharError,
    GroupResolverSourceError,
    GroupSourceError,
    GroupSourceNoUpcall,
    GroupSourceQueryFailed,
    NodeSetExternalError,
    NodeSetParseError,
    RangeSetParseError,
    TopologyError,
    WorkerError,
)

# The first class that an error belongs to counts. %s is the error's text.
_LINES: tuple[tuple[type[Exception], str], ...] = (
    (EngineNotSupportedError, "I/O events engine '%s' not supported on this host"),
    (NodeSetExternalError, "External error: %s"),
    (NodeSetParseError, "Parse error: %s"),
    (RangeSetParseError, "Parse error: %s"),
    (GroupResolverIllegalCharError, 'Illegal group character: "%s"'),
    (GroupResolverConfigError, "Group resolver error: %s"),
    (GroupResolverSourceError, 'Unknown group source: "%s"'),
    (GroupSourceNoUpcall, "No %s"),
    (GroupSourceError, "Group error: %s"),
    (TopologyError, "TREE MODE: %s"),
    (configparser.Error, "%s"),
    (TypeError, "%s"),
    (ValueError, "%s"),
    (WorkerError, "%s"),
)


def message_of(
    prog: str, error: BaseException, bare_errors: tuple[type[Exception], ...] = ()
) -> Optional[str]:
    """The lines that ClusterShell's programs print about an error.

    Args:
        prog: the program's name.
        error: the error.
        bare_errors: the errors that the program prints without its name.

    Returns:
        The lines; None if ClusterShell's programs do not expect such an error.
    """
    cause = error.__cause__
    if isinstance(error, GroupResolverConfigError) and isinstance(
        cause, (configparser.Error, UnicodeDecodeError)
    ):
        error = cause  # ClusterShell does not wrap it
    if isinstance(error, bare_errors):
        return f"ERROR: {error}"
    if isinstance(error, (OSError, EngineCapacityError)):
        return _of_system(error)
    for kind, line in _LINES:
        if isinstance(error, kind):
            return f"{prog}: {line % text_of(error)}"
    return None


def _of_system(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else errno.EMFILE
    message = f"ERROR: {error}"
    if number != errno.EMFILE:
        return message
    import resource  # Windows has no such limit, and no such error

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{message}\nERROR: maximum number of open file descriptors: soft={soft} hard={hard}"


def text_of(error: BaseException) -> str:
    """The text of an error as ClusterShell has it; this package's text if it has none."""
    cause = error.__cause__
    if isinstance(error, (NodeSetParseError, RangeSetParseError)):
        return _of_pattern(error)
    if isinstance(error, GroupResolverSourceError):
        return error.source or "<default>"
    if isinstance(error, GroupResolverConfigError):
        return error.fault or str(error)
    if isinstance(error, GroupResolverIllegalCharError):
        return error.characters
    if isinstance(error, GroupSourceNoUpcall) and error.query:
        name = getattr(error.group_source, "name", None)
        return f'{error.query} upcall defined for group source "{name}"'
    if isinstance(error, GroupSourceQueryFailed) and error.command:
        return error.command
    if isinstance(error, NodeSetExternalError) and cause is not None:
        if isinstance(cause, GroupResolverError):
            return f"Group source error ({type(cause).__name__}: {text_of(cause)})"
        if isinstance(cause, GroupSourceNoUpcall):
            return "Not enough working methods (all or map + list) to get all nodes"
        message = str(error).replace(str(cause), text_of(cause))
        return message.replace("listed: ", "listed\n\tFailed command: ", 1)
    return str(error)


def _of_pattern(error: Exception) -> str:
    from .clustershellpatterns import pattern_error, range_error

    cause = error.__cause__
    pattern = getattr(error, "pattern", None)
    if isinstance(cause, GroupSourceQueryFailed):
        return f'{text_of(cause)}: "{pattern}"'
    found = None
    if pattern is not None:
        find = range_error if isinstance(error, RangeSetParseError) else pattern_error
        found = find(pattern)
    return str(error) if found is None else found
