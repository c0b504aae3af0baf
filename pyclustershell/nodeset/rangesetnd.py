"""RangeSetND: a set of index vectors, such as the (rack, node) pairs of ``r[1-3]n[1-9]``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, product
from typing import Any, overload

from . import ndfold
from . import spans as sp
from .ndfold import Box, Vector
from .rangeset1d import AUTOSTEP_DISABLED, RangeSet
from .spans import Spans

#: Set operations on more pairs of boxes than this work row by row.
_MANY_PAIRS = 1000


class RangeSetND:
    """A set of index vectors, kept as boxes: products of range sets, one for each dimension.

    Vectors are tuples of strings. They are ordered as the folded boxes are: larger boxes first.
    Node sets use this class for names with several numbers; scripts seldom need it.

    >>> RangeSetND([['1-2', '1-3'], ['3', '1-3']]).veclist
    [[1-3, 1-3]]
    """

    __slots__ = ("_autostep", "_boxes", "_folded", "_vectors")

    def __init__(
        self,
        args: Iterable[Sequence[Any]] | None = None,
        pads: Sequence[int] | None = None,
        autostep: float | None = None,
        copy_rangeset: bool = True,
    ) -> None:
        """Make a set of boxes and vectors.

        Args:
            args: boxes; each is a sequence of range sets, of range patterns, or of numbers, one for
                each dimension.
            pads: for each dimension, the number of digits to which numbers are padded.
            autostep: as in RangeSet(); None: as in the given range sets.
            copy_rangeset: ignored, accepted for compatibility with ClusterShell: copies are cheap.

        Raises:
            RangeSetParseError: a pattern is not a range.
            ValueError: the boxes differ in the number of dimensions.
        """
        self._boxes: list[Box] = []
        # Vectors that were added one by one; they become boxes when the set is folded.
        self._vectors: list[Vector] = []
        self._folded = True
        self._autostep = AUTOSTEP_DISABLED
        if autostep is not None:
            self.autostep = autostep
        for box in args or ():
            sets = _range_sets(box, pads)
            if autostep is None and sets and sets[0].autostep is not None:
                self.autostep = sets[0].autostep
            self._add_box(tuple(rangeset._spans for rangeset in sets))

    @classmethod
    def _of(
        cls,
        boxes: list[Box],
        vectors: Iterable[Vector] = (),
        autostep: float = AUTOSTEP_DISABLED,
        folded: bool = False,
    ) -> RangeSetND:
        """Make a set of these boxes and vectors; for internal use."""
        inst = cls()
        inst._boxes = boxes
        inst._vectors = list(vectors)
        inst._autostep = autostep
        inst._folded = folded
        return inst

    def _add_box(self, box: Box) -> None:
        if not box or not all(spans.starts for spans in box):
            return
        if self and len(box) != self.dim():
            raise ValueError(f"expected {self.dim()} dimensions, not {len(box)}")
        if all(spans.ends[0] - spans.starts[-1] == 1 for spans in box):
            self._vectors.append(tuple([spans.starts[0] for spans in box]))
        else:
            self._boxes.append(box)
        self._folded = False

    def _get_boxes(self) -> list[Box]:
        """The set as disjoint, folded boxes in order."""
        if not self._folded:
            self._boxes = ndfold.fold(self._boxes, self._vectors)
            self._vectors = []
            self._folded = True
        return self._boxes

    # -- state -------------------------------------------------------------------------------------

    @property
    def autostep(self) -> float | None:
        """The least number of equidistant indices written as a range with a step; None: never."""
        return None if self._autostep >= AUTOSTEP_DISABLED else self._autostep + 1

    @autostep.setter
    def autostep(self, value: float | None) -> None:
        if value is None or value >= AUTOSTEP_DISABLED:
            self._autostep = AUTOSTEP_DISABLED
        else:
            self._autostep = int(value) - 1

    @property
    def veclist(self) -> list[list[RangeSet]]:
        """The folded boxes, each as a list of range sets. Changing these does not change the set.

        Can be set to another list of lists of range sets.
        """
        return [[RangeSet._of(spans, self._autostep) for spans in box] for box in self._get_boxes()]

    @veclist.setter
    def veclist(self, value: Iterable[Sequence[RangeSet]]) -> None:
        boxes = [tuple(rangeset._spans for rangeset in box) for box in value]
        self.clear()
        for box in boxes:
            self._add_box(box)

    def vectors(self) -> Iterator[list[RangeSet]]:
        """Iterate over the folded boxes, each as a list of range sets."""
        return iter(self.veclist)

    def fold(self) -> None:
        """Fold now. Not necessary: sets are folded when they are read."""
        self._get_boxes()

    def dim(self) -> int:
        """The number of dimensions; 0 if the set is empty."""
        if self._boxes:
            return len(self._boxes[0])
        return len(self._vectors[0]) if self._vectors else 0

    def pads(self) -> tuple[int, ...]:
        """For each dimension, the length of the longest index with leading zeros, or 0."""
        paddings = ([rangeset.padding or 0 for rangeset in box] for box in self.veclist)
        return tuple(map(max, zip(*paddings)))

    def copy(self) -> RangeSetND:
        """A copy, with the same autostep."""
        return self._of(list(self._boxes), self._vectors, self._autostep, self._folded)

    __copy__ = copy

    def clear(self) -> None:
        """Remove all vectors."""
        self._boxes, self._vectors, self._folded = [], [], True

    def __getstate__(self) -> tuple[list[list[tuple[list[int], list[int]]]], float]:
        boxes = [[(spans.starts, spans.ends) for spans in box] for box in self._get_boxes()]
        return boxes, self._autostep

    def __setstate__(self, state: tuple[list[list[tuple[list[int], list[int]]]], float]) -> None:
        boxes, self._autostep = state
        self._boxes = [tuple(Spans(*spans) for spans in box) for box in boxes]
        self._vectors, self._folded = [], True

    # -- reading -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(map(ndfold.size, self._get_boxes()))

    def __bool__(self) -> bool:
        return bool(self._boxes or self._vectors)

    def __str__(self) -> str:
        """One line for each folded box."""
        return "".join("; ".join(map(str, box)) + "\n" for box in self.veclist)

    def __repr__(self) -> str:
        return f"RangeSetND({[list(map(str, box)) for box in self.veclist]})"

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """Iterate over the vectors, as tuples of indices."""
        return chain.from_iterable(product(*map(sp.indices, box)) for box in self._get_boxes())

    def iter_padding(self) -> Iterator[tuple[tuple[str, ...], list[int | None]]]:
        """Iterate over (vector, paddings): the paddings of its box, one for each dimension.

        Nothing here uses it: ClusterShell's class has it.
        """
        for box in self.veclist:
            pads = [rangeset.padding for rangeset in box]
            for vector in product(*box):
                yield vector, pads

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> RangeSetND: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | RangeSetND:
        """The vector at a position, or the set of the vectors of a slice.

        Raises:
            IndexError: there is no such position.
            TypeError: the position is not an integer or a slice.
        """
        if isinstance(index, slice):
            return self._slice(range(*index.indices(len(self))))
        if not isinstance(index, int):
            raise TypeError(f"RangeSetND indices must be integers or slices, not {type(index)}")
        positions = range(len(self))
        try:
            position = positions[index]
        except IndexError:
            raise IndexError(f"{index} out of range") from None
        return next(iter(self._slice(range(position, position + 1))))

    def _slice(self, wanted: range) -> RangeSetND:
        """The vectors at these positions, all of which exist."""
        if wanted.step < 0:
            wanted = wanted[::-1]
        if wanted.step > 1:
            pieces = [range(position, position + 1) for position in wanted]
        else:
            pieces = [wanted] if wanted else []
        boxes = self._get_boxes()
        ends = list(accumulate(map(ndfold.size, boxes)))
        result: list[Box] = []
        for piece in pieces:
            at = bisect_right(ends, piece.start)
            while at < len(boxes):
                before = ends[at - 1] if at else 0
                if before >= piece.stop:
                    break
                begin, end = max(piece.start - before, 0), min(piece.stop, ends[at]) - before
                result += ndfold.cut(boxes[at], begin, end)
                at += 1
        return self._of(result, autostep=self._autostep)

    def index(self, elem: Iterable[object], start: int = 0, stop: int | None = None) -> int:
        """The position of a vector in the set.

        Args:
            elem: the vector, as a sequence of indices (strings or numbers).
            start: the first position to look at; negative: from the end.
            stop: the position after the last one to look at; None: the end of the set.

        Raises:
            TypeError: ``elem`` is not a sequence of indices.
            ValueError: the vector is not there.
        """
        if isinstance(elem, str) or not hasattr(elem, "__iter__"):
            raise TypeError("RangeSetND.index() needs a vector of indices")
        vector = [str(index) for index in elem]
        position = 0
        for box in self.veclist:
            if len(vector) == len(box) and all(map(RangeSet.__contains__, box, vector)):
                offset = 0
                for rangeset, index in zip(box, vector):
                    offset = offset * len(rangeset) + rangeset.index(index)
                if position + offset in range(*slice(start, stop).indices(len(self))):
                    return position + offset
                break
            position += ndfold.size(tuple(rangeset._spans for rangeset in box))
        raise ValueError(f"{elem} is not in RangeSetND")

    def contiguous(self) -> Iterator[RangeSetND]:
        """Iterate over the boxes that are contiguous in each dimension."""
        for box in self.veclist:
            for ranges in product(*[list(rangeset.contiguous()) for rangeset in box]):
                yield self._of([tuple(rangeset._spans for rangeset in ranges)])

    # -- comparing ---------------------------------------------------------------------------------

    def __contains__(self, element: object) -> bool:
        """True if the set contains all of this set; or, in one dimension, this index."""
        if not isinstance(element, RangeSetND):
            element = RangeSetND([[str(element)]])
        return element.issubset(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSetND):
            return NotImplemented
        return self._get_boxes() == other._get_boxes() or (
            len(self) == len(other) and self.issubset(other)
        )

    __hash__ = None  # type: ignore[assignment]

    def issubset(self, other: RangeSetND) -> bool:
        """True if all vectors of this set are in the other.

        Raises:
            TypeError: the other is not a RangeSetND.
        """
        _check(other)
        return not self.difference(other)

    def issuperset(self, other: RangeSetND) -> bool:
        """True if all vectors of the other set are in this one.

        Raises:
            TypeError: the other is not a RangeSetND.
        """
        _check(other)
        return not other.difference(self)

    __le__ = issubset
    __ge__ = issuperset

    def __lt__(self, other: RangeSetND) -> bool:
        return self.issubset(other) and len(self) < len(other)

    def __gt__(self, other: RangeSetND) -> bool:
        return self.issuperset(other) and len(self) > len(other)

    # -- set operations ----------------------------------------------------------------------------

    def update(self, other: RangeSetND | Iterable[Sequence[RangeSet]]) -> None:
        """Add the vectors of a set, or of an iterable of boxes (sequences of range sets).

        Raises:
            ValueError: the numbers of dimensions differ.
        """
        if isinstance(other, RangeSetND):
            if self and other and self.dim() != other.dim():
                raise ValueError(f"expected {self.dim()} dimensions, not {other.dim()}")
            self._folded = self._folded and not other
            if other is not self:
                self._boxes += other._boxes
                self._vectors += other._vectors
            return
        for box in other:
            self._add_box(tuple(rangeset._spans for rangeset in box))

    union_update = update

    def difference_update(self, other: RangeSetND, strict: bool = False) -> None:
        """Remove the vectors of the other set.

        Args:
            other: the vectors to remove.
            strict: True if all of them must be in this set.

        Raises:
            KeyError: strict, and a vector is not in this set, which is unchanged then.
        """
        if strict:
            missing = other.difference(self)
            if missing:
                raise KeyError(missing[0])
        mine, others = self._get_boxes(), other._get_boxes()
        if self._by_rows(mine, others):
            rows, removed = ndfold.rows_of(mine, ()), ndfold.rows_of(others, ())
            rest = {
                prefix: sp.difference(spans, removed[prefix]) if prefix in removed else spans
                for prefix, spans in rows.items()
            }
            self._set_rows(rest)
            return
        for theirs in others:
            mine = [piece for box in mine for piece in ndfold.difference(box, theirs)]
        self._set_boxes(mine)

    def intersection_update(self, other: RangeSetND) -> None:
        """Keep only the vectors that are also in the other set."""
        mine, others = self._get_boxes(), other._get_boxes()
        if self._by_rows(mine, others):
            rows, kept = ndfold.rows_of(mine, ()), ndfold.rows_of(others, ())
            self._set_rows(
                {
                    prefix: sp.intersection(spans, kept[prefix])
                    for prefix, spans in rows.items()
                    if prefix in kept
                }
            )
            return
        common = (ndfold.intersection(box, theirs) for box in mine for theirs in others)
        self._set_boxes([box for box in common if box is not None])

    def symmetric_difference_update(self, other: RangeSetND) -> None:
        """Keep the vectors that are in exactly one of both sets."""
        added = other.difference(self)
        self.difference_update(other)
        self.update(added)

    @staticmethod
    def _by_rows(mine: list[Box], others: list[Box]) -> bool:
        """True if visiting the rows of both sets is cheaper than visiting all pairs of boxes."""
        pairs = len(mine) * len(others)
        if pairs <= _MANY_PAIRS:
            return False
        return ndfold.count_rows(mine) + ndfold.count_rows(others) < min(pairs, ndfold.MAX_ROWS)

    def _set_boxes(self, boxes: list[Box]) -> None:
        self._boxes, self._vectors, self._folded = boxes, [], False

    def _set_rows(self, rows: ndfold.Rows) -> None:
        kept = {prefix: spans for prefix, spans in rows.items() if spans.starts}
        self._boxes, self._vectors, self._folded = ndfold.fold_rows(kept), [], True

    def union(self, other: RangeSetND) -> RangeSetND:
        """A new set of the vectors in either set."""
        result = self.copy()
        result.update(other)
        return result

    def intersection(self, other: RangeSetND) -> RangeSetND:
        """A new set of the vectors in both sets."""
        result = self.copy()
        result.intersection_update(other)
        return result

    def difference(self, other: RangeSetND) -> RangeSetND:
        """A new set of the vectors in this set that are not in the other."""
        result = self.copy()
        result.difference_update(other)
        return result

    def symmetric_difference(self, other: RangeSetND) -> RangeSetND:
        """A new set of the vectors in exactly one of both sets."""
        result = self.copy()
        result.symmetric_difference_update(other)
        return result

    def __or__(self, other: RangeSetND) -> RangeSetND:
        return self.union(other) if isinstance(other, RangeSetND) else NotImplemented

    def __and__(self, other: RangeSetND) -> RangeSetND:
        return self.intersection(other) if isinstance(other, RangeSetND) else NotImplemented

    def __sub__(self, other: RangeSetND) -> RangeSetND:
        return self.difference(other) if isinstance(other, RangeSetND) else NotImplemented

    def __xor__(self, other: RangeSetND) -> RangeSetND:
        return self.symmetric_difference(other) if isinstance(other, RangeSetND) else NotImplemented

    def __ior__(self, other: RangeSetND) -> RangeSetND:
        _check(other)
        self.update(other)
        return self

    def __iand__(self, other: RangeSetND) -> RangeSetND:
        _check(other)
        self.intersection_update(other)
        return self

    def __isub__(self, other: RangeSetND) -> RangeSetND:
        _check(other)
        self.difference_update(other)
        return self

    def __ixor__(self, other: RangeSetND) -> RangeSetND:
        _check(other)
        self.symmetric_difference_update(other)
        return self


def _check(other: object) -> None:
    if not isinstance(other, RangeSetND):
        raise TypeError(f"expected a RangeSetND, not {type(other).__name__}")


def _range_sets(box: Sequence[Any], pads: Sequence[int] | None) -> list[RangeSet]:
    """The range sets of a box, in any of the forms that RangeSetND() takes."""
    return [
        item
        if isinstance(item, RangeSet)
        else RangeSet(item)
        if isinstance(item, str)
        else RangeSet.fromone(item, pads[axis] if pads else 0)
        for axis, item in enumerate(box)
    ]
