"""Names of nodes and groups that begin with a text, to complete what a user types."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Optional

from ..exceptions import GroupResolverError, GroupSourceError
from ..nodeset import NodeSet, grouplist, std_group_resolver

#: The most names that are offered. Of more names, only the next character is.
_OFFERED = 200


def node_names(text: str, nodes: Optional[NodeSet] = None) -> list[str]:
    """The patterns that a text may become: its last part is completed to a node or a group.

    Args:
        text: the begin of a pattern, such as ``node1,@ra``.
        nodes: the nodes to choose from; None: all nodes of the default group source.

    Raises:
        GroupResolverError, GroupSourceError, NodeSetException: a group source fails.
    """
    lead, last = last_part(text)
    if last.startswith("@"):
        names = _group_names(last)
    else:
        names = narrowed(NodeSet.fromall() if nodes is None else nodes, last)
    return [lead + name for name in names]


def last_part(text: str) -> tuple[str, str]:
    """The text up to the last operator of a pattern, and the rest."""
    end, in_brackets = 0, False  # in brackets, a comma is no operator
    for position, char in enumerate(text, 1):
        if char in "[]":
            in_brackets = char == "["
        elif char in ",!&^" and not in_brackets:
            end = position
    return text[:end], text[end:]


def narrowed(names: Iterable[str], begin: str) -> list[str]:
    """The names that begin with a text. If they are many: their next different characters only."""
    found = [name for name in names if name.startswith(begin)]
    if len(found) <= _OFFERED:
        return found
    # To leave some out is no way: the shell would take what the others have in common for certain.
    pairs = zip(min(found), max(found))  # what these have in common, all have
    length = 1 + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return sorted({name[:length] for name in found})


def _group_names(text: str) -> list[str]:
    """The groups, and the sources, that begin with a text such as @rack or @source:rack."""
    source, colon, _ = text[1:].rpartition(":")
    sources = [] if colon else [f"@{each}:" for each in std_group_resolver().sources()]
    try:
        groups = [f"@{source}{colon}{each}" for each in grouplist(source or None)]
    except (GroupResolverError, GroupSourceError):
        groups = []  # a source that lists no groups
    return narrowed([*groups, *sources], text)
