"""Groups without nodes that a command line names: mistyped ones are errors, empty ones are told."""

from __future__ import annotations

from typing import Optional

from ..exceptions import GroupResolverError, GroupSourceError, NodeSetException
from ..nodeset import ParsingEngine, grouplist, std_group_resolver
from ..suggestions import did_you_mean
from .program import Failure


def check_groups(pattern: str, excluded: bool = False) -> list[str]:
    """Look for groups without nodes among those that a pattern names.

    Args:
        pattern: the pattern, which has been resolved without an error.
        excluded: True if the nodes of the pattern are left out.

    Returns:
        A message for each group that has no nodes, which may be as it should be.

    Raises:
        Failure: a group is not among those of its source. If the source cannot list them, this is
            raised for nodes to leave out only: otherwise the nodes to spare would not be spared.
    """
    if "@" not in pattern:
        return []
    empty = []
    for line in pattern.splitlines():
        for operator, name in ParsingEngine.named_groups(line):
            source, _, group = name[1:].rpartition(":")
            if group == "*" or group.startswith("@"):
                continue  # all nodes, or the names of all groups
            if std_group_resolver().group_nodes(group, source or None):
                continue
            known = _groups_of(source)
            if known is None:
                if excluded or operator == "!":
                    raise Failure(
                        f"group {name!r} is empty or unknown, and its source cannot list its "
                        "groups: leave it out if no node is to be spared"
                    )
                empty.append(f"group {name!r} is empty or unknown")
            elif group not in known:
                prefix = name[: len(name) - len(group)]
                near = did_you_mean(name, [prefix + each for each in known])
                raise Failure(f"there is no group {name!r}{near}")
            else:
                empty.append(f"group {name!r} has no nodes")
    return empty


def _groups_of(source: str) -> Optional[list[str]]:
    """The groups of a source; None if it cannot list them."""
    try:
        return grouplist(source or None)
    except (GroupSourceError, GroupResolverError, NodeSetException):
        return None
