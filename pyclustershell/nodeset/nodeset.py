"""NodeSet: a set of nodes, made from patterns such as ``node[1-9],@login!node3``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

from ..defaults import config_paths
from ..exceptions import (
    GroupResolverError,
    GroupSourceError,
    GroupSourceQueryFailed,
    NodeSetExternalError,
    NodeSetParseError,
)
from .base import NodeSetBase
from .groups import GroupResolver, GroupResolverConfig
from .groupsources import skip_group
from .parser import ParsingEngine

__all__ = [
    "ILLEGAL_GROUP_CHARS",
    "RESOLVER_NOGROUP",
    "NodeSet",
    "expand",
    "fold",
    "grouplist",
    "set_std_group_resolver",
    "set_std_group_resolver_config",
    "std_group_resolver",
]

#: A value for ``resolver``: no groups and no wildcards. ``@``, ``*`` and ``?`` are plain text.
RESOLVER_NOGROUP = -1

#: The characters that the names of groups may not contain.
ILLEGAL_GROUP_CHARS = frozenset("@,!&^*")

Resolver = Union[GroupResolver, int, None]


class _StandardResolver:
    """The resolver of node sets that name no other. Reads configuration when it is first needed."""

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

    The notation: ``node[1-9,11]`` numbers and ranges, ``node[0-8/2]`` a step,
    ``node[001-100]`` zero padding, ``r[1-3]n[1-9]`` several dimensions; ``a,b`` union,
    ``a!b`` difference, ``a&b`` intersection, ``a^b`` symmetric difference, from left to right;
    ``@group``, ``@source:group``, ``@*`` groups; ``node*`` and ``node?`` wildcards, matched against
    all nodes of the group source.

    A method that takes another set also takes a pattern; operators (``|``) take only sets. Groups
    are resolved when a pattern is parsed. Several threads may read a set at once, but none may
    change it meanwhile.

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
            autostep: the least number of equidistant numbers to write as a range with a step:
                with 3, ``n[2,4,6]`` is ``n[2-6/2]``. None: as in the sets that are added;
                AUTOSTEP_DISABLED: never.
            resolver: resolves the groups; None: the standard resolver; RESOLVER_NOGROUP: no
                groups.
            fold_axis: the dimensions that str() folds, counted from 0, or from the end if
                negative; None: all.

        Raises:
            NodeSetParseError: the pattern is wrong, or a group in it could not be resolved.
            NodeSetExternalError: a group source failed.
            GroupResolverSourceError: there is no group source of that name.
            TypeError: ``nodes`` has another type.
        """
        super().__init__(autostep=autostep, fold_axis=fold_axis)
        if resolver is None:
            self._resolver: GroupResolver | None = _standard.get()
        else:
            # Any object with a resolver's methods is accepted.
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
        """Make the union of patterns or sets. Other arguments and errors: as in NodeSet()."""
        inst = cls(autostep=autostep, resolver=resolver)
        inst.updaten(nodelist)
        return inst

    #: The name that scripts modelled on clush call.
    _fromlist1 = fromlist

    @classmethod
    def fromall(
        cls,
        groupsource: str | None = None,
        autostep: float | None = None,
        resolver: Resolver = None,
    ) -> NodeSet:
        """Make the set of all nodes of a group source.

        Args:
            groupsource: the name of the source; None: the default one.
            autostep: as in NodeSet().
            resolver: as in NodeSet().

        Raises:
            NodeSetExternalError: the source failed, or there is no such source.
        """
        inst = cls(autostep=autostep, resolver=resolver)
        if inst._resolver is None:
            raise NodeSetExternalError("Group resolver is not defined")
        try:
            parser = inst._parser
            for text in parser.all_nodes(groupsource):
                inst.update(parser.parse_string(text, autostep, groupsource))
        except GroupResolverError as exc:
            raise NodeSetExternalError(f"Group source error: {exc}") from exc
        return inst

    @property
    def _parser(self) -> ParsingEngine:
        return ParsingEngine(self._resolver)

    def _new(self) -> NodeSet:
        resolver = RESOLVER_NOGROUP if self._resolver is None else self._resolver
        return type(self)(autostep=self._autostep, resolver=resolver, fold_axis=self.fold_axis)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: all but the resolver, which may hold objects that cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_resolver"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore without a resolver: in patterns parsed later, groups are plain text."""
        self.__dict__.update(state)
        self._resolver = None

    def _operand(self, other: Any) -> NodeSetBase:
        if isinstance(other, NodeSetBase):
            return other
        return self._parser.parse(other, self._autostep)

    def updaten(self, others: Iterable[Any]) -> None:
        """Add the nodes of several patterns or sets: the fastest way to add many names."""
        self.update(self._parser.parse_many(others, self._autostep))

    # -- groups ------------------------------------------------------------------------------------

    def groups(
        self, groupsource: str | None = None, noprefix: bool = False
    ) -> dict[str, tuple[NodeSet, NodeSet]]:
        """The groups that contain nodes of this set.

        Args:
            groupsource: the source of the groups; None: the default one.
            noprefix: True to leave the source out of the names.

        Returns:
            For each group name, with its @ (and source): all nodes of the group, and those of them
            in this set.

        Raises:
            NodeSetExternalError: the source failed, or there is no such source.
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
        """The set as a pattern of groups: those entirely in the set, the largest first.

        Args:
            groupsource: the source of the groups; None: the default one.
            autostep: as in NodeSet().
            overlap: True to use groups that share nodes with a group used before.
            noprefix: True to leave the source out of the names.

        Raises:
            NodeSetExternalError: the source failed, or there is no such source.
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
        """The groups that contain nodes of this set, by name."""
        resolver, parser = self._resolver, self._parser
        if resolver is None:
            raise NodeSetExternalError("No node group resolver")
        try:
            names: list[str] | None = parser.grouplist(groupsource)
        except GroupSourceError:
            names = None  # Queries node by node may still work.
        # One query for each node is cheaper if there are more groups than nodes.
        by_node = resolver.has_node_groups(groupsource) and (not names or len(names) >= len(self))
        try:
            if by_node:
                names = sorted(
                    {name for node in self for name in resolver.node_groups(node, groupsource)}
                )
        except GroupSourceQueryFailed as exc:
            raise NodeSetExternalError(f"Group source query failed: {exc}") from exc
        try:
            groups = self._resolve_groups(names or (), groupsource, autostep)
        except GroupSourceQueryFailed as exc:
            raise NodeSetExternalError(f"Unable to map a group previously listed: {exc}") from exc
        if by_node:
            return groups
        return {name: nodes for name, nodes in groups.items() if self.intersection(nodes)}

    def _resolve_groups(
        self, names: Iterable[str], groupsource: str | None, autostep: float | None
    ) -> dict[str, NodeSetBase]:
        """The nodes of groups by name. A group that cannot be resolved is left out with a warning.

        Raises:
            GroupSourceQueryFailed, NodeSetParseError: none of them can be resolved, or the resolver
                is strict and one cannot.
        """
        parser = self._parser
        groups: dict[str, NodeSetBase] = {}
        failed: dict[str, GroupSourceQueryFailed | NodeSetParseError] = {}
        for name in names:
            try:
                groups[name] = parser.parse_group(name, groupsource, autostep)
            except (GroupSourceQueryFailed, NodeSetParseError) as exc:
                failed[name] = exc
        if failed and (not groups or getattr(self._resolver, "strict", False)):
            raise next(iter(failed.values()))
        for name, error in failed.items():
            skip_group(groupsource, name, str(error))
        return groups


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
        resolver: resolves the groups; None: the standard resolver.
    """
    return ParsingEngine(resolver or _standard.get()).grouplist(namespace)


def std_group_resolver() -> GroupResolver:
    """The standard resolver. By default, it reads groups.conf when it is first needed."""
    return _standard.get()


def set_std_group_resolver(new_resolver: GroupResolver | None) -> None:
    """Set the standard resolver of node sets made later; None: the default resolver."""
    _standard.chosen = new_resolver


def set_std_group_resolver_config(
    groupsconf: str | None, illegal_chars: Iterable[str] | None = None
) -> None:
    """Set the configuration file that the standard resolver reads.

    Args:
        groupsconf: the file; None or '': do nothing.
        illegal_chars: the characters that group names may not contain; None:
            ILLEGAL_GROUP_CHARS.
    """
    if groupsconf:
        chars = ILLEGAL_GROUP_CHARS if illegal_chars is None else illegal_chars
        set_std_group_resolver(GroupResolverConfig(groupsconf, chars))
