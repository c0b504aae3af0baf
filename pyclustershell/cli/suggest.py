"""Questions about mistyped names of groups and group sources, to append to errors."""

from __future__ import annotations

import re

from ..exceptions import (
    GroupResolverError,
    GroupResolverSourceError,
    GroupSourceError,
    GroupSourceQueryFailed,
    NodeSetException,
)
from ..nodeset import grouplist, std_group_resolver
from ..suggestions import did_you_mean

# The names of groups in a pattern, with their source if there is one.
_GROUP = re.compile(r"@(?:([^@:,!&^\[\]]+):)?([^@:,!&^\[\]*]+)")


def near_name(error: BaseException) -> str:
    """The end of a message about an error: a name that resembles the wrong one, or ''."""
    cause = error.__cause__
    if isinstance(error, GroupResolverSourceError) and error.source:
        return did_you_mean(error.source, std_group_resolver().sources())
    if isinstance(cause, GroupResolverSourceError):
        return near_name(cause)
    if isinstance(cause, GroupSourceQueryFailed):
        return near_group(getattr(error, "pattern", None) or "")
    return ""


def near_group(pattern: str) -> str:
    """The end of a message about a pattern whose groups have no nodes.

    Args:
        pattern: the pattern. Its first group that its source does not list counts.

    Returns:
        A group that resembles that one: ": did you mean '@web'?"; or ''.
    """
    for source, group in _GROUP.findall(pattern):
        try:
            known = grouplist(source or None)
        except (GroupSourceError, GroupResolverError, NodeSetException):
            continue  # this source cannot list its groups
        if group not in known:
            prefix = f"@{source}:" if source else "@"
            return did_you_mean(prefix + group, [prefix + name for name in known])
    return ""
