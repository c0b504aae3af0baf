"""ParsingEngine: turns patterns into node sets, and resolves groups and wildcards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import translate
from re import compile as compile_pattern

from ..exceptions import (
    GroupSourceNoUpcall,
    GroupSourceQueryFailed,
    NodeSetExternalError,
    NodeSetParseError,
    NodeSetParseRangeError,
    RangeSetException,
)
from . import spans as sp
from .base import Indices, NodeSetBase
from .groups import GroupResolver
from .groupsources import skip_group
from .ndfold import Box, check_size
from .rangeset1d import AUTOSTEP_DISABLED, RangeSet
from .rangesetnd import RangeSetND
from .rangesyntax import ExpansionBudget
from .spans import Spans
from .syntax import Term, encode_name, excerpt, is_plain, pattern_of, scan, split_name

#: The most characters of a host name.
_LONGEST_NAME = 253

#: The deepest nesting of groups in groups.
MAX_GROUP_DEPTH = 100

_OPERATIONS = {
    ",": NodeSetBase.update,
    "!": NodeSetBase.difference_update,
    "&": NodeSetBase.intersection_update,
    "^": NodeSetBase.symmetric_difference_update,
}


class _UnionBuilder:
    """Builds the union of many terms: collects them by pattern, and merges them at the end."""

    def __init__(self, autostep: float | None) -> None:
        steps = AUTOSTEP_DISABLED if autostep is None else RangeSet(autostep=autostep)._autostep
        self.steps = steps
        # Plain names that end with their only number: the codes by the text before it. Most names
        # are of this kind, and need no lookup but that of their stem.
        self.stems: dict[str, list[int]] = {}
        # Other plain names, by their literals.
        self.names: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
        self.boxes: dict[tuple[str, ...], list[Box]] = {}
        self.others: list[NodeSetBase] = []

    def add_plain(self, name: str) -> bool:
        """Add a name if it is plain; returns True if it is.

        Raises:
            NodeSetParseError: there are too many numbers in it.
            NodeSetParseRangeError: one of them has too many digits.
        """
        stem = name.rstrip("0123456789")
        known = self.stems.get(stem)
        if known is not None and len(stem) < len(name):
            number = name[len(stem) :]
            if len(number) <= sp.MAX_DIGITS:
                known.append(sp.BASES[len(number)] + int(number))
                return True
        literals, indices = split_name(name)
        if literals not in self.names:
            if not is_plain(literals):
                return False
            if literals == (stem, ""):
                self.stems[stem] = [*encode_name(name, indices)]
                return True
            self.names[literals] = []
        self.names[literals].append(encode_name(name, indices))
        return True

    def result(self) -> NodeSetBase:
        """The union."""
        nodes = NodeSetBase._of({})
        for stem, codes in self.stems.items():
            rangeset = RangeSet._of(sp.from_codes(codes), self.steps)
            nodes._add(pattern_of((stem, "")), rangeset, False)
        for literals, names in self.names.items():
            nodes._add(pattern_of(literals), self._of_names(names), False)
        for literals, boxes in self.boxes.items():
            try:
                nodes._add(pattern_of(literals), self._of_boxes(boxes), False)
            except RangeSetException as exc:
                raise NodeSetParseRangeError(excerpt("*".join(literals)), str(exc)) from None
        for other in self.others:
            nodes.update(other)
        return nodes

    def _of_names(self, names: list[tuple[int, ...]]) -> Indices:
        if not names[0]:
            return None
        if len(names[0]) == 1:
            return RangeSet._of(sp.from_codes(code for (code,) in names), self.steps)
        return RangeSetND._of([], names, self.steps)

    def _of_boxes(self, boxes: list[Box]) -> Indices:
        if not boxes[0]:
            return None
        if len(boxes[0]) == 1:
            spans = boxes[0][0] if len(boxes) == 1 else sp.union_all(spans for (spans,) in boxes)
            return RangeSet._of(spans, self.steps)
        rangeset = RangeSetND._of([], autostep=self.steps)
        check_size(boxes)
        for box in boxes:
            rangeset._add_box(box)
        return rangeset


class _ParseState:
    """The state of parsing one pattern and all groups that it leads to."""

    def __init__(self, autostep: float | None) -> None:
        self.autostep = autostep
        self.budget = ExpansionBudget()
        # The groups being resolved, outermost first: a group that leads to itself is an error.
        self.open_groups: list[tuple[str | None, str]] = []
        # A group that occurs a thousand times is resolved once.
        self.resolved: dict[tuple[str | None, str], NodeSetBase] = {}
        self.all_names: dict[str | None, list[str]] = {}
        # False while the list of all nodes is made: wildcards are then plain text.
        self.wildcards = True


class ParsingEngine:
    """Parses node set patterns, with a group resolver or without one."""

    def __init__(
        self, group_resolver: GroupResolver | None, node_wildcard_enable: bool = True
    ) -> None:
        """Make a parser.

        Args:
            group_resolver: resolves the groups; None: ``@``, ``*`` and ``?`` are plain text.
            node_wildcard_enable: True if ``*`` and ``?`` are wildcards.
        """
        self.group_resolver = group_resolver
        self.node_wc = node_wildcard_enable

    def parse(self, nsobj: object, autostep: float | None = None) -> NodeSetBase:
        """The node set of a pattern; an empty one for None; a given node set unchanged.

        Args:
            nsobj: the pattern.
            autostep: passed on to the range sets.

        Raises:
            NodeSetParseError: the pattern is wrong, or a group in it could not be resolved.
            NodeSetExternalError: the group source cannot list all nodes.
            TypeError: ``nsobj`` has another type.
        """
        if isinstance(nsobj, NodeSetBase):
            return nsobj
        if nsobj is None:
            return NodeSetBase()
        if not isinstance(nsobj, str):
            hint = "" if isinstance(nsobj, (int, float)) else ": see NodeSet.fromlist()"
            raise TypeError(
                f"expected a node set or a string such as 'node[1-9]', not {nsobj!r}{hint}"
            )
        # A single plain name is the most frequent pattern, and takes a shortcut.
        if len(nsobj) <= _LONGEST_NAME:
            literals, indices = split_name(nsobj)
            if is_plain(literals):
                return _single(nsobj, literals, indices, autostep)
        try:
            return self.parse_string(nsobj, autostep)
        except GroupSourceQueryFailed as exc:
            error = NodeSetParseError(excerpt(nsobj), str(exc))
            error.pattern = nsobj
            raise error from exc

    def parse_string(
        self, nsstr: str, autostep: float | None = None, namespace: str | None = None
    ) -> NodeSetBase:
        """The node set of a pattern. Errors of group sources are not wrapped.

        Args:
            nsstr: the pattern.
            autostep: passed on to the range sets.
            namespace: the source of groups without a source; None: the default one.
        """
        return self._parse_string(nsstr, namespace, _ParseState(autostep))

    def parse_group(
        self, group: str, namespace: str | None = None, autostep: float | None = None
    ) -> NodeSetBase:
        """The nodes of a group, given by its name alone. Errors as in parse_string()."""
        nodes = self._resolver().group_nodes(group, namespace)
        return self.parse_string(",".join(nodes), autostep, namespace)

    def parse_string_single(self, nsstr: str, autostep: float | None = None) -> NodeSetBase:
        """The node set of one name, in which only digits are special."""
        name = nsstr.strip()
        if not name:
            raise NodeSetParseError(nsstr, "empty node name")
        literals, indices = split_name(name)
        return _single(name, literals, indices, autostep)

    def parse_many(self, items: Iterable[object], autostep: float | None = None) -> NodeSetBase:
        """The union of patterns and node sets; see parse().

        Fast enough for a list of a hundred thousand plain names.
        """
        builder = _UnionBuilder(autostep)
        for item in items:
            if not isinstance(item, str) or not builder.add_plain(item):
                builder.others.append(self.parse(item, autostep))
        return builder.result()

    def _parse_string(self, text: str, namespace: str | None, state: _ParseState) -> NodeSetBase:
        nodes: NodeSetBase | None = None
        builder = _UnionBuilder(state.autostep)
        collecting = True
        for term in self._terms(text, builder, state):
            operand = self._expand(term, namespace, state)
            if term.operator == ",":
                if not collecting:
                    builder, collecting = _UnionBuilder(state.autostep), True
                if operand is None:
                    builder.boxes.setdefault(term.literals, []).append(term.indices)
                else:
                    builder.others.append(operand)
                continue
            if collecting:
                # The terms so far are one operand, this one is the other.
                nodes, collecting = _union(nodes, builder.result()), False
            if operand is None:
                operand = _nodes_of(term, state.autostep)
            _OPERATIONS[term.operator](nodes, operand)  # type: ignore[arg-type]
        return _union(nodes, builder.result()) if collecting or nodes is None else nodes

    def _terms(self, text: str, builder: _UnionBuilder, state: _ParseState) -> Iterator[Term]:
        """Iterate over the terms of a pattern; plain names of a list go to the builder."""
        if text.isspace() or any(char in text for char in "[]!&^"):
            yield from scan(text, state.budget)
            return
        for name in text.split(",") if text else ():
            if not builder.add_plain(name):
                if not name.strip():
                    break
                yield from scan(name, state.budget)
        else:
            return
        # An operand is missing: scan() finds its position, and raises.
        for _ in scan(text, state.budget):
            pass

    def _expand(self, term: Term, namespace: str | None, state: _ParseState) -> NodeSetBase | None:
        """The nodes of a term with groups or wildcards; None for a term without them."""
        if self.group_resolver is None:
            return None
        if term.literals[0].startswith("@"):
            nodes = NodeSetBase()
            for group in _nodes_of(term, None):
                nodes.update(self._expand_group(group[1:], namespace, state))
            return nodes
        if (
            self.node_wc
            and state.wildcards
            and any("*" in literal or "?" in literal for literal in term.literals)
        ):
            return self._expand_wildcards(term, namespace, state)
        return None

    def _expand_group(self, name: str, namespace: str | None, state: _ParseState) -> NodeSetBase:
        """The nodes of a group, given without its @, and with its source if it has one."""
        key = (namespace, name)
        known = state.resolved.get(key)
        if known is not None:
            return known
        if key in state.open_groups:
            circle = [*state.open_groups[state.open_groups.index(key) :], key]
            names = " -> ".join("@" + group for _, group in circle[:10])
            raise NodeSetParseError("@" + name, f"group loop: {names}")
        if len(state.open_groups) >= MAX_GROUP_DEPTH:
            raise NodeSetParseError("@" + name, f"groups nested more than {MAX_GROUP_DEPTH} deep")
        text, source = self.parse_group_string("@" + name, namespace)
        state.open_groups.append(key)
        nodes = self._parse_string(text, source, state)
        state.open_groups.pop()
        state.resolved[key] = nodes
        return nodes

    def _expand_wildcards(
        self, term: Term, namespace: str | None, state: _ParseState
    ) -> NodeSetBase:
        """The nodes of the group source that match a term with wildcards."""
        if namespace not in state.all_names:
            state.wildcards = False
            try:
                texts = self.all_nodes(namespace)
                nodes = NodeSetBase()
                for text in texts:
                    nodes.update(self._parse_string(text, namespace, state))
            finally:
                state.wildcards = True
            state.all_names[namespace] = list(nodes)
        builder = _UnionBuilder(state.autostep)
        remaining = state.all_names[namespace]
        for mask in _nodes_of(term, None):
            matches = compile_pattern(translate(mask)).match
            for name in filter(matches, remaining):
                if not builder.add_plain(name):
                    builder.others.append(self.parse_string_single(name, state.autostep))
        return builder.result()

    # -- groups ------------------------------------------------------------------------------------

    @staticmethod
    def named_groups(pattern: str) -> Iterator[tuple[str, str]]:
        """The groups that a pattern itself names, also by ranges; those inside of them are not.

        Yields:
            The operator before the group, one of ``,!&^``; and the group with its @.

        Raises:
            NodeSetParseError: the pattern is wrong.
        """
        for term in scan(pattern, ExpansionBudget()):
            if term.literals[0].startswith("@"):
                for group in _nodes_of(term, None):
                    yield term.operator, group

    def _resolver(self) -> GroupResolver:
        if self.group_resolver is None:
            raise NodeSetExternalError("no node group resolver")
        return self.group_resolver

    def parse_group_string(
        self, nodegroup: str, namespace: str | None = None
    ) -> tuple[str, str | None]:
        """The pattern of a group, which may contain other groups, and the source of these.

        Args:
            nodegroup: the group with its @: ``@group``, ``@source:group``, ``@*`` or
                ``@source:*`` for all nodes, ``@@source`` for the names of the groups.
            namespace: the source of groups without a source.
        """
        name = nodegroup[1:]
        if name.startswith("@"):
            return ",".join(self.grouplist(name[1:] or None)), namespace
        source, colon, group = name.partition(":")
        if colon:
            namespace = source
        else:
            group = name
        if group == "*":
            return ",".join(self.all_nodes(namespace)), namespace
        return ",".join(self._resolver().group_nodes(group, namespace)), namespace

    def grouplist(self, namespace: str | None = None) -> list[str]:
        """The names of all groups of a source, without @, in order.

        Names that are no patterns are left out, with a warning for each.
        """
        parser = ParsingEngine(None)
        names = self._resolver().grouplist(namespace)
        try:
            return list(parser.parse_many(names))
        except NodeSetParseError:
            pass  # One name or several are wrong.
        groups = []
        for name in names:
            try:
                groups.append(parser.parse(name))
            except NodeSetParseError as exc:
                skip_group(namespace, name, f"its name is no pattern: {exc}")
        return list(parser.parse_many(groups))

    def all_nodes(self, namespace: str | None = None) -> list[str]:
        """All nodes of a source, as patterns.

        Raises:
            NodeSetExternalError: the source failed, or cannot list them.
        """
        resolver = self._resolver()
        try:
            return resolver.all_nodes(namespace)
        except GroupSourceNoUpcall:
            pass  # then all nodes are the union of all groups
        except GroupSourceQueryFailed as exc:
            raise NodeSetExternalError(f"Failed to get all nodes: {exc}") from exc
        try:
            return [
                nodes
                for group in self.grouplist(namespace)
                for nodes in resolver.group_nodes(group, namespace)
            ]
        except GroupSourceNoUpcall as exc:
            message = f"neither all nodes nor all groups and their nodes can be listed: {exc}"
            raise NodeSetExternalError(message) from exc


def _single(
    name: str, literals: tuple[str, ...], indices: list[str], autostep: float | None
) -> NodeSetBase:
    """The set of one node."""
    codes = encode_name(name, indices)
    steps = AUTOSTEP_DISABLED if autostep is None else RangeSet(autostep=autostep)._autostep
    rangeset: Indices = None
    if len(codes) == 1:
        rangeset = RangeSet._of(Spans([codes[0]], [codes[0] + 1]), steps)
    elif codes:
        rangeset = RangeSetND._of([], [codes], steps)
    return NodeSetBase._of({pattern_of(literals): rangeset})


def _union(nodes: NodeSetBase | None, more: NodeSetBase) -> NodeSetBase:
    """The union of both sets; changes the first one if it is not None."""
    if nodes is None:
        return more
    nodes.update(more)
    return nodes


def _nodes_of(term: Term, autostep: float | None) -> NodeSetBase:
    builder = _UnionBuilder(autostep)
    builder.boxes[term.literals] = [term.indices]
    return builder.result()
