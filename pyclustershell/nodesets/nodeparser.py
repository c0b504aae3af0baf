"""ParsingEngine: patterns to node sets, with groups and wildcards resolved."""

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
from ..groups import GroupResolver
from . import spans as sp
from .ndfold import Box, check_size
from .nodesetbase import Indices, NodeSetBase
from .nodesyntax import (
    Term,
    encode_name,
    excerpt,
    is_plain,
    pattern_of,
    scan,
    split_name,
)
from .rangeset1d import AUTOSTEP_DISABLED, RangeSet
from .rangesetnd import RangeSetND
from .rangesyntax import Budget
from .spans import Spans

#: The names of hosts are no longer than this.
_LONGEST_NAME = 253

#: Groups may hold groups that hold groups, so deep.
MAX_GROUP_DEPTH = 100

_OPERATIONS = {
    ",": NodeSetBase.update,
    "!": NodeSetBase.difference_update,
    "&": NodeSetBase.intersection_update,
    "^": NodeSetBase.symmetric_difference_update,
}


class _Collector:
    """A union in the making. What it is given is kept by pattern, and put together at the end."""

    def __init__(self, autostep: float | None) -> None:
        steps = AUTOSTEP_DISABLED if autostep is None else RangeSet(autostep=autostep)._autostep
        self.steps = steps
        # Plain names with one number: the codes by what stands before and after it. Most names end
        # with their number, and are found by their stem alone.
        self.stems: dict[str, list[int]] = {}
        self.names: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
        self.boxes: dict[tuple[str, ...], list[Box]] = {}
        self.others: list[NodeSetBase] = []

    def add_plain(self, name: str) -> bool:
        """Add a name if it means itself; tell whether it does.

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


class _Run:
    """What belongs to the parsing of one pattern, with all the groups that it leads to."""

    def __init__(self, autostep: float | None) -> None:
        self.autostep = autostep
        self.budget = Budget()
        # The groups being resolved, outermost first: one that leads to itself is an error.
        self.open_groups: list[tuple[str | None, str]] = []
        # A group that is named a thousand times is resolved once.
        self.resolved: dict[tuple[str | None, str], NodeSetBase] = {}
        self.all_names: dict[str | None, list[str]] = {}
        # While the list of all nodes is made, wildcards stand for themselves.
        self.wildcards = True


class ParsingEngine:
    """Parses node set patterns, with a group resolver or without one."""

    def __init__(
        self, group_resolver: GroupResolver | None, node_wildcard_enable: bool = True
    ) -> None:
        """Make a parser.

        Args:
            group_resolver: what knows the groups; None: ``@``, ``*`` and ``?`` are plain text.
            node_wildcard_enable: whether ``*`` and ``?`` are wildcards.
        """
        self.group_resolver = group_resolver
        self.node_wc = node_wildcard_enable

    def parse(self, nsobj: object, autostep: float | None = None) -> NodeSetBase:
        """The node set of a pattern; None gives an empty one, a node set is given back as it is.

        Args:
            nsobj: the pattern.
            autostep: passed on to the range sets.

        Raises:
            NodeSetParseError: the pattern is wrong, or a group in it could not be resolved.
            NodeSetExternalError: there is no way to know all nodes.
            TypeError: this is neither of the three.
        """
        if isinstance(nsobj, NodeSetBase):
            return nsobj
        if nsobj is None:
            return NodeSetBase()
        if not isinstance(nsobj, str):
            raise TypeError(f"expected a node set or a string, not {type(nsobj).__name__}")
        # A single name is the most frequent pattern, and needs none of what others need.
        if len(nsobj) <= _LONGEST_NAME:
            literals, indices = split_name(nsobj)
            if is_plain(literals):
                return _single(nsobj, literals, indices, autostep)
        try:
            return self.parse_string(nsobj, autostep)
        except GroupSourceQueryFailed as exc:
            raise NodeSetParseError(excerpt(nsobj), str(exc)) from exc

    def parse_string(
        self, nsstr: str, autostep: float | None = None, namespace: str | None = None
    ) -> NodeSetBase:
        """The node set of a pattern. Errors of group sources are not wrapped.

        Args:
            nsstr: the pattern.
            autostep: passed on to the range sets.
            namespace: the source of groups that do not name theirs; None: the default one.
        """
        return self._parse_string(nsstr, namespace, _Run(autostep))

    def parse_string_single(self, nsstr: str, autostep: float | None = None) -> NodeSetBase:
        """The node set of one name, in which only digits mean something."""
        name = nsstr.strip()
        if not name:
            raise NodeSetParseError(nsstr, "empty node name")
        literals, indices = split_name(name)
        return _single(name, literals, indices, autostep)

    def parse_many(self, items: Iterable[object], autostep: float | None = None) -> NodeSetBase:
        """The union of patterns and node sets; see parse().

        A list of a hundred thousand plain names is what this is made for.
        """
        collector = _Collector(autostep)
        for item in items:
            if not isinstance(item, str) or not collector.add_plain(item):
                collector.others.append(self.parse(item, autostep))
        return collector.result()

    def _parse_string(self, text: str, namespace: str | None, run: _Run) -> NodeSetBase:
        nodes: NodeSetBase | None = None
        collector = _Collector(run.autostep)
        collecting = True
        for term in self._terms(text, collector, run):
            operand = self._expand(term, namespace, run)
            if term.operator == ",":
                if not collecting:
                    collector, collecting = _Collector(run.autostep), True
                if operand is None:
                    collector.boxes.setdefault(term.literals, []).append(term.indices)
                else:
                    collector.others.append(operand)
                continue
            if collecting:
                # The terms so far are one operand, this one is the other.
                nodes, collecting = _union(nodes, collector.result()), False
            if operand is None:
                operand = _nodes_of(term, run.autostep)
            _OPERATIONS[term.operator](nodes, operand)  # type: ignore[arg-type]
        return _union(nodes, collector.result()) if collecting or nodes is None else nodes

    def _terms(self, text: str, collector: _Collector, run: _Run) -> Iterator[Term]:
        """Iterate over the terms of a pattern; long lists of plain names take a short cut."""
        if text.isspace() or any(char in text for char in "[]!&^"):
            yield from scan(text, run.budget)
            return
        for name in text.split(",") if text else ():
            if not collector.add_plain(name):
                if not name.strip():
                    break
                yield from scan(name, run.budget)
        else:
            return
        # An operand is missing: this finds where, and raises.
        for _ in scan(text, run.budget):
            pass

    def _expand(self, term: Term, namespace: str | None, run: _Run) -> NodeSetBase | None:
        """The nodes of a term with groups or wildcards; None if there are none in it."""
        if self.group_resolver is None:
            return None
        if term.literals[0].startswith("@"):
            nodes = NodeSetBase()
            for group in _nodes_of(term, None):
                nodes.update(self._expand_group(group[1:], namespace, run))
            return nodes
        if (
            self.node_wc
            and run.wildcards
            and any("*" in literal or "?" in literal for literal in term.literals)
        ):
            return self._expand_wildcards(term, namespace, run)
        return None

    def _expand_group(self, name: str, namespace: str | None, run: _Run) -> NodeSetBase:
        """The nodes of a group, given without its @ but with its source, if any."""
        key = (namespace, name)
        known = run.resolved.get(key)
        if known is not None:
            return known
        if key in run.open_groups:
            circle = [*run.open_groups[run.open_groups.index(key) :], key]
            names = " -> ".join("@" + group for _, group in circle[:10])
            raise NodeSetParseError("@" + name, f"group loop: {names}")
        if len(run.open_groups) >= MAX_GROUP_DEPTH:
            raise NodeSetParseError("@" + name, f"groups nested more than {MAX_GROUP_DEPTH} deep")
        text, source = self.parse_group_string("@" + name, namespace)
        run.open_groups.append(key)
        nodes = self._parse_string(text, source, run)
        run.open_groups.pop()
        run.resolved[key] = nodes
        return nodes

    def _expand_wildcards(self, term: Term, namespace: str | None, run: _Run) -> NodeSetBase:
        """The nodes, of all that the group source knows, that match a term with wildcards."""
        if namespace not in run.all_names:
            run.wildcards = False
            try:
                texts = self.all_nodes(namespace)
                nodes = NodeSetBase()
                for text in texts:
                    nodes.update(self._parse_string(text, namespace, run))
            finally:
                run.wildcards = True
            run.all_names[namespace] = list(nodes)
        collector = _Collector(run.autostep)
        remaining = run.all_names[namespace]
        for mask in _nodes_of(term, None):
            matches = compile_pattern(translate(mask)).match
            for name in filter(matches, remaining):
                if not collector.add_plain(name):
                    collector.others.append(self.parse_string_single(name, run.autostep))
        return collector.result()

    # -- groups ------------------------------------------------------------------------------------

    def _resolver(self) -> GroupResolver:
        if self.group_resolver is None:
            raise NodeSetExternalError("no node group resolver")
        return self.group_resolver

    def parse_group(
        self, group: str, namespace: str | None = None, autostep: float | None = None
    ) -> NodeSetBase:
        """The nodes of a group, given without its @.

        Raises:
            NodeSetParseError: the group could not be resolved.
        """
        try:
            text = ",".join(self._resolver().group_nodes(group, namespace))
            return self.parse_string(text, autostep, namespace)
        except GroupSourceQueryFailed as exc:
            raise NodeSetParseError(f"@{group}", str(exc)) from exc

    def parse_group_string(
        self, nodegroup: str, namespace: str | None = None
    ) -> tuple[str, str | None]:
        """What a group stands for, which may hold more groups, and the source to find these in.

        Args:
            nodegroup: the group with its @: ``@group``, ``@source:group``, ``@*`` or
                ``@source:*`` for all nodes, ``@@source`` for the names of the groups.
            namespace: the source of groups that do not name theirs.
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
        """The names of all groups of a source, without @, in order."""
        groups = ParsingEngine(None).parse_many(self._resolver().grouplist(namespace))
        return list(groups)

    def all_nodes(self, namespace: str | None = None) -> list[str]:
        """All nodes of a source, as patterns.

        Raises:
            NodeSetExternalError: the source failed, or has no way to tell.
        """
        resolver = self._resolver()
        try:
            return resolver.all_nodes(namespace)
        except GroupSourceNoUpcall:
            pass  # then the sum of all groups
        except GroupSourceQueryFailed as exc:
            raise NodeSetExternalError(f"Failed to get all nodes: {exc}") from exc
        try:
            return [
                nodes
                for group in self.grouplist(namespace)
                for nodes in resolver.group_nodes(group, namespace)
            ]
        except GroupSourceNoUpcall as exc:
            message = "the group source can tell neither all nodes nor all groups and their nodes"
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
    """The second set put into the first, if there is one."""
    if nodes is None:
        return more
    nodes.update(more)
    return nodes


def _nodes_of(term: Term, autostep: float | None) -> NodeSetBase:
    collector = _Collector(autostep)
    collector.boxes[term.literals] = [term.indices]
    return collector.result()
