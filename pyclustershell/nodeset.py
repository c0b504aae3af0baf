"""NodeSet: the set of nodes that a pattern such as ``node[1-9],@login!node3`` stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

from .defaults import config_paths
from .exceptions import (
    GroupResolverError,
    GroupSourceError,
    GroupSourceQueryFailed,
    NodeSetError,
    NodeSetException,
    NodeSetExternalError,
    NodeSetParseError,
    NodeSetParseRangeError,
)
from .groups import GroupResolver, GroupResolverConfig
from .nodesets.nodeparser import ParsingEngine
from .nodesets.nodesetbase import NodeSetBase
from .rangeset import AUTOSTEP_DISABLED, RangeSet, RangeSetND, RangeSetParseError

__all__ = [
    "AUTOSTEP_DISABLED",
    "ILLEGAL_GROUP_CHARS",
    "RESOLVER_NOGROUP",
    "NodeSet",
    "NodeSetBase",
    "NodeSetError",
    "NodeSetException",
    "NodeSetExternalError",
    "NodeSetParseError",
    "NodeSetParseRangeError",
    "ParsingEngine",
    "RangeSet",
    "RangeSetND",
    "RangeSetParseError",
    "expand",
    "fold",
    "grouplist",
    "set_std_group_resolver",
    "set_std_group_resolver_config",
    "std_group_resolver",
]

#: As ``resolver``: no groups and no wildcards, ``@``, ``*`` and ``?`` are plain text.
RESOLVER_NOGROUP = -1

#: What the names of groups may not contain.
ILLEGAL_GROUP_CHARS = frozenset("@,!&^*")

Resolver = Union[GroupResolver, int, None]


class _StandardResolver:
    """Who resolves groups where nobody else is named. Configuration is read when it is needed."""

    def __init__(self) -> None:
        self.chosen: GroupResolver | None = None
        self.configured: GroupResolver | None = None

    def get(self) -> GroupResolver:
        if self.chosen is not None:
            return self.chosen
        if self.configured is None:
            paths = config_paths("groups.conf")
            self.configured = GroupResolverConfig(paths, ILLEGAL_GROUP_CHARS)
        return self.configured


_standard = _StandardResolver()


class NodeSet(NodeSetBase):
    """A set of nodes, made from patterns.

    The notation: ``node[1-9,11]`` numbers and ranges, ``node[0-8/2]`` with a step,
    ``node[001-100]`` padded with zeros, ``r[1-3]n[1-9]`` in several dimensions; ``a,b`` union,
    ``a!b`` difference, ``a&b`` intersection, ``a^b`` symmetric difference, from left to right;
    ``@group``, ``@source:group``, ``@*``; ``node*`` and ``node?`` of all nodes that the group
    source knows.

    Wherever a method takes another set, it takes a pattern as well; operators (``|``) take sets.
    Groups are resolved when a pattern is parsed. Not safe for use by several threads at once while
    one of them changes the set.

    >>> nodes = NodeSet('blue[1-50]')
    >>> nodes.remove('blue[36-40]')
    >>> print(nodes)
    blue[1-35,41-50]
    """

    def __init__(
        self,
        nodes: str | NodeSetBase | None = None,
        autostep: float | None = None,
        resolver: Resolver = None,
        fold_axis: Iterable[int] | None = None,
    ) -> None:
        """Make a set.

        Args:
            nodes: a pattern or another set; None: the set is empty.
            autostep: write ranges with a step from so many equidistant numbers on: with 3,
                ``n[2,4,6]`` is ``n[2-6/2]``. None: as in the sets put in; AUTOSTEP_DISABLED:
                never.
            resolver: who knows the groups; None: the standard resolver; RESOLVER_NOGROUP: nobody.
            fold_axis: the dimensions that are folded when the set is written, counted from 0, or
                from the end if negative; None: all.

        Raises:
            NodeSetParseError: the pattern is wrong, or a group in it could not be resolved.
            NodeSetExternalError: a group source failed.
            GroupResolverSourceError: there is no group source of that name.
            TypeError: nodes is neither of these.
        """
        super().__init__(autostep=autostep, fold_axis=fold_axis)
        if resolver is None:
            self._resolver: GroupResolver | None = _standard.get()
        else:
            # Any object with a resolver's methods will do.
            self._resolver = None if isinstance(resolver, int) else resolver
        if nodes is not None:
            self.update(nodes)

    @classmethod
    def fromlist(
        cls,
        nodelist: Iterable[str | NodeSetBase],
        autostep: float | None = None,
        resolver: Resolver = None,
    ) -> NodeSet:
        """Make the union of these patterns or sets. Other arguments and errors as in NodeSet()."""
        inst = cls(autostep=autostep, resolver=resolver)
        inst.updaten(nodelist)
        return inst

    #: What scripts call that were written after clush's example.
    _fromlist1 = fromlist

    @classmethod
    def fromall(
        cls,
        groupsource: str | None = None,
        autostep: float | None = None,
        resolver: Resolver = None,
    ) -> NodeSet:
        """Make the set of all nodes that a group source knows.

        Args:
            groupsource: its name; None: the default one.
            autostep: as in NodeSet().
            resolver: as in NodeSet().

        Raises:
            NodeSetExternalError: the source failed, or there is none.
        """
        inst = cls(autostep=autostep, resolver=resolver)
        if inst._resolver is None:
            raise NodeSetExternalError("Group resolver is not defined")
        try:
            parser = inst._parser
            for text in parser.all_nodes(groupsource):
                inst.update(parser.parse_string(text, autostep, groupsource))
        except GroupResolverError as exc:
            message = f"Group source error ({type(exc).__name__}: {exc})"
            raise NodeSetExternalError(message) from exc
        return inst

    @property
    def _parser(self) -> ParsingEngine:
        return ParsingEngine(self._resolver)

    def _new(self) -> NodeSet:
        resolver = RESOLVER_NOGROUP if self._resolver is None else self._resolver
        return type(self)(autostep=self._autostep, resolver=resolver, fold_axis=self.fold_axis)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: all but the resolver, which may hold anything."""
        return {name: value for name, value in self.__dict__.items() if name != "_resolver"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After unpickling there is no resolver; patterns with groups are then plain text."""
        self.__dict__.update(state)
        self._resolver = None

    def _operand(self, other: Any) -> NodeSetBase:
        if isinstance(other, NodeSetBase):
            return other
        return self._parser.parse(other, self._autostep)

    def updaten(self, others: Iterable[Any]) -> None:
        """Add the nodes of several patterns or sets; the quick way to add many names."""
        self.update(self._parser.parse_many(others, self._autostep))

    # -- groups ------------------------------------------------------------------------------------

    def groups(
        self, groupsource: str | None = None, noprefix: bool = False
    ) -> dict[str, tuple[NodeSet, NodeSet]]:
        """The groups to which nodes of this set belong.

        Args:
            groupsource: the source of the groups; None: the default one.
            noprefix: leave the source out of the names.

        Returns:
            By name of the group, with its @ (and source): all its nodes, and those in this set.

        Raises:
            NodeSetExternalError: the source failed, or there is none.
        """
        prefix = f"@{groupsource}:" if groupsource and not noprefix else "@"
        resolver = RESOLVER_NOGROUP if self._resolver is None else self._resolver
        return {
            prefix + name: (NodeSet(nodes, resolver=resolver), self.intersection(nodes))
            for name, nodes in self._find_groups(groupsource, self._autostep).items()
        }

    def regroup(
        self,
        groupsource: str | None = None,
        autostep: float | None = None,
        overlap: bool = False,
        noprefix: bool = False,
    ) -> str:
        """The set written with groups: those that are wholly in it, the largest first.

        Args:
            groupsource: the source of the groups; None: the default one.
            autostep: as in NodeSet().
            overlap: take also groups that share nodes with a group taken before.
            noprefix: leave the source out of the names.

        Raises:
            NodeSetExternalError: the source failed, or there is none.
        """
        groups = self._find_groups(groupsource, autostep)
        whole = {name: nodes for name, nodes in groups.items() if nodes and self._holds(nodes)}
        prefix = f"@{groupsource}:" if groupsource and not noprefix else "@"
        rest = NodeSet(self, autostep=self._autostep, resolver=RESOLVER_NOGROUP)
        rest.fold_axis = self.fold_axis
        taken = NodeSet(resolver=RESOLVER_NOGROUP)
        for name, nodes in sorted(whole.items(), key=lambda item: (-len(item[1]), item[0])):
            if overlap or nodes in rest:
                taken.update(prefix + name)
                rest.difference_update(nodes)
                if not rest:
                    break
        return ",".join(str(part) for part in (taken, rest) if part)

    def _find_groups(
        self, groupsource: str | None, autostep: float | None
    ) -> dict[str, NodeSetBase]:
        """The groups, by name, that hold nodes of this set."""
        resolver, parser = self._resolver, self._parser
        if resolver is None:
            raise NodeSetExternalError("No node group resolver")
        try:
            names: list[str] | None = parser.grouplist(groupsource)
        except GroupSourceError:
            names = None  # Asking node by node may still work.
        by_node = resolver.has_node_groups(groupsource)
        try:
            # Asking for each node pays where there are more groups than nodes.
            if by_node and (not names or len(names) >= len(self)):
                names = sorted(
                    {name for node in self for name in resolver.node_groups(node, groupsource)}
                )
            groups = {
                name: parser.parse_string(
                    ",".join(resolver.group_nodes(name, groupsource)), autostep, groupsource
                )
                for name in names or ()
            }
        except GroupSourceQueryFailed as exc:
            raise NodeSetExternalError(f"Group source query failed: {exc}") from exc
        if by_node:
            return groups
        return {name: nodes for name, nodes in groups.items() if self.intersection(nodes)}


def expand(pat: str) -> list[str]:
    """The names of the nodes of a pattern. Errors are NodeSet()'s."""
    return list(NodeSet(pat))


def fold(pat: str) -> str:
    """The pattern, folded: each node once, in order. Errors are NodeSet()'s."""
    return str(NodeSet(pat))


def grouplist(namespace: str | None = None, resolver: GroupResolver | None = None) -> list[str]:
    """The names of all groups, without @, in order.

    Args:
        namespace: the group source; None: the default one.
        resolver: who knows the groups; None: the standard resolver.
    """
    return ParsingEngine(resolver or _standard.get()).grouplist(namespace)


def std_group_resolver() -> GroupResolver:
    """The standard resolver: by default, one that reads groups.conf when it is first needed."""
    return _standard.get()


def set_std_group_resolver(new_resolver: GroupResolver | None) -> None:
    """Set the standard resolver, for the node sets made from now on; None: the default one."""
    _standard.chosen = new_resolver


def set_std_group_resolver_config(
    groupsconf: str | None, illegal_chars: Iterable[str] | None = None
) -> None:
    """Make a configuration file the one that the standard resolver reads.

    Args:
        groupsconf: the file; if it is None or empty, nothing happens.
        illegal_chars: what group names may not contain; None: ILLEGAL_GROUP_CHARS.
    """
    if groupsconf:
        chars = ILLEGAL_GROUP_CHARS if illegal_chars is None else illegal_chars
        set_std_group_resolver(GroupResolverConfig(groupsconf, chars))
