"""NodeSetBase: node names by pattern, and the set operations on them, without parsing or groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import Any, TypeVar, Union, cast, overload

from ..defaults import DEFAULTS
from ..exceptions import NodeSetError, NodeSetParseError
from . import spans as sp
from .ndfold import Box
from .rangeset1d import AUTOSTEP_DISABLED, RangeSet, split_points
from .rangesetnd import RangeSetND
from .syntax import literals_of

#: The indices of a pattern: one dimension, several, or none.
Indices = Union[RangeSet, RangeSetND, None]

Self = TypeVar("Self", bound="NodeSetBase")


class NodeSetBase:
    """A set of node names, grouped by pattern.

    Names that differ only in their numbers share a pattern, in which ``%s`` stands for each number
    (and ``%%`` for a percent sign). Each pattern has a set of indices. Nodes are ordered by
    pattern, then by their indices.

    >>> NodeSetBase('node%s-ipmi', RangeSet('1-5,7'))
    node[1-5,7]-ipmi
    """

    def __init__(
        self,
        pattern: str | None = None,
        rangeset: Indices = None,
        copy_rangeset: bool = True,
        autostep: float | None = None,
        fold_axis: Iterable[int] | None = None,
    ) -> None:
        """Make a set of the nodes of one pattern.

        Args:
            pattern: a format string with ``%s`` for each number; None: the set is empty.
            rangeset: the indices of the pattern; None for a name without numbers.
            copy_rangeset: True to copy the indices, False to use the given object.
            autostep: the least number of equidistant indices to write as a range with a step;
                None: as in the given range sets.
            fold_axis: the dimensions that str() folds, counted from 0, or from the end if
                negative; None: all.

        Raises:
            ValueError: there are indices but no pattern.
        """
        self._patterns: dict[str, Indices] = {}
        self._autostep = autostep
        self.fold_axis = fold_axis if fold_axis is not None else DEFAULTS.fold_axis or None
        if pattern:
            self._add(pattern, rangeset, copy_rangeset)
        elif rangeset:
            raise ValueError("missing pattern")

    @classmethod
    def _of(cls: type[Self], patterns: dict[str, Indices]) -> Self:
        """A set of these patterns, without settings; for internal use."""
        inst = cls.__new__(cls)
        inst._patterns = patterns
        inst._autostep = None
        inst.fold_axis = None
        return inst

    def _new(self: Self) -> Self:
        """An empty set with the same settings."""
        return type(self)(autostep=self._autostep, fold_axis=self.fold_axis)

    def _sorted(self) -> list[tuple[str, Indices]]:
        """The patterns with their indices, in order."""
        return sorted(self._patterns.items(), key=lambda item: item[0])

    @property
    def autostep(self) -> float | None:
        """The least number of equidistant indices that are written as a range with a step.

        None: as in the sets that were added. AUTOSTEP_DISABLED: never.
        """
        return self._autostep

    @autostep.setter
    def autostep(self, value: float | None) -> None:
        self._autostep = None if value is None else min(int(value), AUTOSTEP_DISABLED)
        for rangeset in self._patterns.values():
            if rangeset is not None:
                rangeset.autostep = self._autostep

    def copy(self: Self) -> Self:
        """A copy, with the same settings."""
        result = self._new()
        result._patterns = {
            pattern: None if rangeset is None else rangeset.copy()
            for pattern, rangeset in self._patterns.items()
        }
        return result

    def __copy__(self: Self) -> Self:
        return self.copy()

    # -- reading -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of nodes."""
        return sum(_size(rangeset) for rangeset in self._patterns.values())

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the nodes, in order."""
        return chain.from_iterable(map(_names, *zip(*self._sorted())) if self._patterns else ())

    def striter(self) -> Iterator[str]:
        """Iterate over the names of the nodes, in order."""
        return iter(self)

    def nsiter(self: Self) -> Iterator[Self]:
        """Iterate over the nodes, each as a set of its own."""
        for pattern, rangeset in self._sorted():
            if isinstance(rangeset, RangeSet):
                singles: Iterable[Indices] = map(RangeSet.fromone, rangeset)
            elif rangeset is not None:
                singles = (RangeSetND([vector]) for vector in rangeset)
            else:
                singles = (None,)
            for single in singles:
                yield self._single_pattern(pattern, single)

    def contiguous(self: Self) -> Iterator[Self]:
        """Iterate over the contiguous parts of the set: one pattern, one range per dimension."""
        for pattern, rangeset in self._sorted():
            for part in (None,) if rangeset is None else rangeset.contiguous():
                yield self._single_pattern(pattern, part)

    def _single_pattern(self: Self, pattern: str, rangeset: Indices) -> Self:
        result = self._new()
        result._patterns[pattern] = rangeset
        return result

    def __str__(self) -> str:
        """The set as a folded pattern.

        Raises:
            NodeSetParseError: fold_axis is not a sequence of integers.
        """
        return (
            ",".join(chain.from_iterable(map(self._fold, *zip(*self._sorted()))))
            if (self._patterns)
            else ""
        )

    __repr__ = __str__

    def _axes(self, dimensions: int) -> set[int]:
        """The dimensions to fold, of this number of dimensions."""
        if self.fold_axis is None:
            return set(range(dimensions))
        try:
            axes = [int(axis) for axis in self.fold_axis]
        except (TypeError, ValueError) as exc:
            raise NodeSetParseError(f"fold_axis={self.fold_axis}", str(exc)) from None
        return {axis % dimensions for axis in axes if -dimensions <= axis < dimensions}

    def _fold(self, pattern: str, rangeset: Indices) -> Iterable[str]:
        """The nodes of a pattern, folded."""
        if rangeset is None:
            return (pattern % (),)
        if isinstance(rangeset, RangeSet):
            if not self._axes(1):
                return _names(pattern, rangeset)
            return (pattern % _bracketed(rangeset),)
        axes = self._axes(rangeset.dim())
        folded: list[str] = []
        for box in rangeset.vectors():
            texts = [
                [_bracketed(indices)] if axis in axes else list(indices)
                for axis, indices in enumerate(box)
            ]
            # The first dimension varies fastest.
            folded += [pattern % combination[::-1] for combination in product(*texts[::-1])]
        return folded

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self: Self, index: slice) -> Self: ...
    def __getitem__(self: Self, index: int | slice) -> str | Self:
        """The name of the node at a position, or the set of the nodes of a slice.

        Raises:
            IndexError: there is no such position, or a slice with a negative step has a start or
                a stop.
            TypeError: the position is not an integer or a slice.
        """
        if isinstance(index, slice):
            return self._slice(index)
        if not isinstance(index, int):
            raise TypeError("NodeSet indices must be integers or slices")
        position = index if index >= 0 else index + len(self)
        if position >= 0:
            for pattern, rangeset in self._sorted():
                size = _size(rangeset)
                if position < size:
                    return pattern % (() if rangeset is None else rangeset[position])
                position -= size
        raise IndexError(f"{index} out of range")

    def _slice(self: Self, index: slice) -> Self:
        length = len(self)
        backwards = index.step is not None and index.step < 0
        if backwards and (index.start is not None or index.stop is not None):
            raise IndexError("a slice with a negative step cannot have start or stop")
        wanted = range(*index.indices(length))
        if wanted.step < 0:
            wanted = wanted[::-1]
        result = self._new()
        begin = 0
        for pattern, rangeset in self._sorted():
            if not wanted:
                break
            size = _size(rangeset)
            # The number of wanted positions before the end of this pattern.
            inside = len(range(wanted.start, min(begin + size, wanted.stop), wanted.step))
            if inside:
                here, wanted = wanted[:inside], wanted[inside:]
                if rangeset is None:
                    result._patterns[pattern] = None
                else:
                    local = slice(here.start - begin, here[-1] + 1 - begin, here.step)
                    result._patterns[pattern] = rangeset[local]
            begin += size
        return result

    def split(self: Self, nbr: int) -> Iterator[Self]:
        """Iterate over at most ``nbr`` parts of the set, whose sizes differ by at most one.

        Raises:
            ValueError: ``nbr`` is not positive.
        """
        return (self[begin:end] for begin, end in split_points(len(self), nbr))

    def index(self, other: Any, start: int = 0, stop: int | None = None) -> int:
        """The position of a node in the set.

        Args:
            other: the node, as a set of one.
            start: the first position to look at; negative: from the end.
            stop: the position after the last one to look at; None: the end of the set.

        Raises:
            ValueError: the node is not there, or ``other`` is not exactly one node.
        """
        nodes = self._operand(other)
        if len(nodes) != 1:
            raise ValueError("index() argument must be a single node")
        ((wanted, single),) = nodes._patterns.items()
        position = 0
        for pattern, rangeset in self._sorted():
            if pattern != wanted:
                position += _size(rangeset)
                continue
            if rangeset is not None and single is not None:
                if single not in rangeset:
                    break
                position += rangeset.index(single[0])
            if position in range(*slice(start, stop).indices(len(self))):
                return position
            break
        raise ValueError(f"{str(nodes)!r} is not in nodeset")

    # -- comparing ---------------------------------------------------------------------------------

    def _operand(self, other: Any) -> NodeSetBase:
        """The other operand of a method as a node set; NodeSet also parses strings.

        Raises:
            TypeError: it is not a node set.
        """
        return _check(other)

    def __contains__(self, other: Any) -> bool:
        """True if all nodes of the other set are in this one."""
        return self.issuperset(other)

    def issubset(self, other: Any) -> bool:
        """True if all nodes of this set are in the other.

        Raises:
            TypeError: the other is not a node set.
        """
        return self._operand(other)._holds(self)

    def issuperset(self, other: Any) -> bool:
        """True if all nodes of the other set are in this one.

        Raises:
            TypeError: the other is not a node set.
        """
        return self._holds(self._operand(other))

    def _holds(self, other: NodeSetBase) -> bool:
        for pattern, theirs in other._patterns.items():
            if pattern not in self._patterns:
                return False
            mine = self._patterns[pattern]
            if mine is not None and not cast(Any, mine).issuperset(theirs):
                return False
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NodeSetBase):
            return NotImplemented
        return self._patterns == other._patterns

    __hash__ = None  # type: ignore[assignment]

    def __le__(self, other: NodeSetBase) -> bool:
        return _check(other)._holds(self)

    def __ge__(self, other: NodeSetBase) -> bool:
        return self._holds(_check(other))

    def __lt__(self, other: NodeSetBase) -> bool:
        return _check(other)._holds(self) and len(self) < len(other)

    def __gt__(self, other: NodeSetBase) -> bool:
        return self._holds(_check(other)) and len(self) > len(other)

    # -- set operations ----------------------------------------------------------------------------

    def _add(self, pattern: str, rangeset: Indices, copy_rangeset: bool = True) -> None:
        """Add the nodes of a pattern."""
        if pattern in self._patterns:
            known = self._patterns[pattern]
            if (known is None) is not (rangeset is None):
                raise NodeSetError(f"pattern {pattern!r} both with and without indices")
            if known is not None:
                cast(Any, known).update(rangeset)
            return
        if rangeset is not None and copy_rangeset:
            rangeset = rangeset.copy()
            if self._autostep is not None:
                rangeset.autostep = self._autostep
        self._patterns[pattern] = rangeset

    def update(self, other: Any) -> None:
        """Add the nodes of the other set."""
        nodes = self._operand(other)
        for pattern, rangeset in list(nodes._patterns.items()):
            self._add(pattern, rangeset)

    def add(self, other: Any) -> None:
        """Add the nodes of the other set."""
        self.update(other)

    def updaten(self, others: Iterable[Any]) -> None:
        """Add the nodes of several sets."""
        for other in others:
            self.update(other)

    def clear(self) -> None:
        """Remove all nodes."""
        self._patterns.clear()

    def intersection_update(self, other: Any) -> None:
        """Keep only the nodes that are also in the other set."""
        nodes = self._operand(other)
        if nodes is self:
            return
        for pattern, mine in list(self._patterns.items()):
            if pattern not in nodes._patterns:
                del self._patterns[pattern]
            elif mine is not None:
                cast(Any, mine).intersection_update(nodes._patterns[pattern])
        self._purge()

    def difference_update(self, other: Any, strict: bool = False) -> None:
        """Remove the nodes of the other set.

        Args:
            other: the nodes to remove.
            strict: True if all of them must be in this set.

        Raises:
            KeyError: strict, and a node is not in this set, which is unchanged then.
        """
        nodes = self._operand(other)
        if strict and not self._holds(nodes):
            missing = nodes.copy()
            missing.difference_update(NodeSetBase.copy(self))
            raise KeyError(str(missing))
        for pattern, theirs in list(nodes._patterns.items()):
            mine = self._patterns.get(pattern)
            if mine is not None:
                cast(Any, mine).difference_update(theirs)
            if not mine:
                self._patterns.pop(pattern, None)

    def remove(self, elem: Any) -> None:
        """Remove the nodes of the other set, all of which must be in this one.

        Raises:
            KeyError: one of them is not in this set, which is unchanged then.
        """
        self.difference_update(elem, True)

    def symmetric_difference_update(self, other: Any) -> None:
        """Keep the nodes that are in exactly one of both sets."""
        nodes = self._operand(other)
        if nodes is self:
            self.clear()
            return
        for pattern, theirs in nodes._patterns.items():
            if pattern not in self._patterns:
                self._add(pattern, theirs)
                continue
            mine = self._patterns[pattern]
            if mine is None:
                del self._patterns[pattern]
            else:
                cast(Any, mine).symmetric_difference_update(theirs)
        self._purge()

    def _purge(self) -> None:
        """Remove the patterns without nodes."""
        empty = [
            pattern
            for pattern, rangeset in self._patterns.items()
            if rangeset is not None and not rangeset
        ]
        for pattern in empty:
            del self._patterns[pattern]

    def union(self: Self, other: Any) -> Self:
        """A new set of the nodes in either set."""
        result = self.copy()
        result.update(other)
        return result

    def intersection(self: Self, other: Any) -> Self:
        """A new set of the nodes in both sets."""
        result = self.copy()
        result.intersection_update(other)
        return result

    def difference(self: Self, other: Any) -> Self:
        """A new set of the nodes in this set that are not in the other."""
        result = self.copy()
        result.difference_update(other)
        return result

    def symmetric_difference(self: Self, other: Any) -> Self:
        """A new set of the nodes in exactly one of both sets."""
        result = self.copy()
        result.symmetric_difference_update(other)
        return result

    def __or__(self: Self, other: NodeSetBase) -> Self:
        return self.union(other) if isinstance(other, NodeSetBase) else NotImplemented

    def __and__(self: Self, other: NodeSetBase) -> Self:
        return self.intersection(other) if isinstance(other, NodeSetBase) else NotImplemented

    def __sub__(self: Self, other: NodeSetBase) -> Self:
        return self.difference(other) if isinstance(other, NodeSetBase) else NotImplemented

    def __xor__(self: Self, other: NodeSetBase) -> Self:
        if not isinstance(other, NodeSetBase):
            return NotImplemented
        return self.symmetric_difference(other)

    def __ior__(self: Self, other: NodeSetBase) -> Self:
        self.update(_check(other))
        return self

    def __iand__(self: Self, other: NodeSetBase) -> Self:
        self.intersection_update(_check(other))
        return self

    def __isub__(self: Self, other: NodeSetBase) -> Self:
        self.difference_update(_check(other))
        return self

    def __ixor__(self: Self, other: NodeSetBase) -> Self:
        self.symmetric_difference_update(_check(other))
        return self


def _check(other: Any) -> NodeSetBase:
    if not isinstance(other, NodeSetBase):
        raise TypeError(f"expected a node set, not {type(other).__name__}")
    return other


def _size(rangeset: Indices) -> int:
    return 1 if rangeset is None else len(rangeset)


def _bracketed(rangeset: RangeSet) -> str:
    text = str(rangeset)
    return text if len(rangeset) == 1 else f"[{text}]"


def _names(pattern: str, rangeset: Indices) -> Iterable[str]:
    """The names of the nodes of a pattern."""
    if rangeset is None:
        return (pattern % (),)
    if isinstance(rangeset, RangeSet):
        return sp.indices(rangeset._spans, *literals_of(pattern))
    literals = [literal.replace("%%", "%") for literal in literals_of(pattern)]
    return chain.from_iterable(_box_names(literals, box) for box in rangeset._get_boxes())


def _box_names(literals: list[str], box: Box) -> Iterator[str]:
    """The names made of these literals and, between them, the indices of a box."""
    ends = [index + literals[-1] for index in sp.indices(box[-1])]
    heads: list[str] = [literals[0]]
    for spans, literal in zip(box[:-1], literals[1:]):
        middles = [index + literal for index in sp.indices(spans)]
        heads = [head + middle for head in heads for middle in middles]
    return chain.from_iterable([head + end for end in ends] for head in heads)
