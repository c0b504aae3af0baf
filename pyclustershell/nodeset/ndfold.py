"""Folding of sets in several dimensions: many index vectors into few boxes.

A *vector* is one index (as its code, see spans.py) for each dimension. A *box* is one set of
indices for each dimension, and stands for all vectors with one index out of each set. Folding
writes a set of vectors as disjoint boxes, as few as can be found quickly. The boxes and their order
are those of ClusterShell: users compare the strings.

The rule: two boxes that differ in only one dimension can be merged into one. Boxes are sorted,
largest first, and neighbours are merged, until nothing changes. Then each box is merged with any
later box that fits, until nothing changes. Starting with single vectors and comparing all pairs of
boxes takes quadratic time. So this module starts with rows (all vectors that differ only in their
last index, the result of the first pass), and looks partners up in dictionaries.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Optional

from ..exceptions import RangeSetException
from . import spans as sp
from .spans import Spans

Vector = tuple[int, ...]
Box = tuple[Spans, ...]
#: The set of last indices by the indices before.
Rows = dict[Vector, Spans]

#: The most rows to make. With more, folding is left incomplete.
MAX_ROWS = 1_000_000

#: The most boxes of a set with more rows than MAX_ROWS. Overlapping boxes are then cut into pieces
#: that do not overlap, and the number of pieces grows quickly with the number of boxes.
MAX_LARGE_BOXES = 50


def fold(boxes: Sequence[Box], vectors: Sequence[Vector]) -> list[Box]:
    """The union of boxes, which may overlap, and of vectors, as disjoint boxes in order.

    Raises:
        RangeSetException: see check_size().
    """
    if vectors:
        if not boxes:
            return fold_rows(rows_of((), vectors))
        boxes = [*boxes, *fold_rows(rows_of((), vectors))]
    if len(boxes) <= 1:
        return list(boxes)
    varying = [axis for axis, sets in enumerate(zip(*boxes)) if any(s != sets[0] for s in sets)]
    if len(varying) <= 1:
        first = list(boxes[0])
        for axis in varying:
            first[axis] = sp.union_all(box[axis] for box in boxes)
        return [tuple(first)]
    if count_rows(boxes) <= MAX_ROWS:
        return fold_rows(rows_of(boxes, ()))
    check_size(boxes)
    return _merge(_disjoint(boxes))


def check_size(boxes: Sequence[Box]) -> None:
    """Refuse boxes that could not be folded in reasonable time.

    Raises:
        RangeSetException: there are too many boxes, and they are too large.
    """
    if len(boxes) > MAX_LARGE_BOXES and count_rows(boxes) > MAX_ROWS:
        raise RangeSetException(
            f"too large to be folded: more than {MAX_LARGE_BOXES} ranges in several dimensions, "
            f"and more than {MAX_ROWS} numbers in all dimensions but the last"
        )


def size(box: Box) -> int:
    """The number of vectors in a box."""
    return prod(map(sp.count, box))


def count_rows(boxes: Iterable[Box]) -> int:
    """The number of rows that rows_of() would make, if no two boxes share a row."""
    return sum(size(box[:-1]) for box in boxes)


def rows_of(boxes: Iterable[Box], vectors: Iterable[Vector]) -> Rows:
    """The union of boxes and vectors by rows."""
    singles: dict[Vector, list[int]] = {}
    for vector in vectors:
        singles.setdefault(vector[:-1], []).append(vector[-1])
    rows = {prefix: sp.from_codes(lasts) for prefix, lasts in singles.items()}
    for box in boxes:
        last = box[-1]
        for prefix in product(*map(sp.codes, box[:-1])):
            known = rows.get(prefix)
            rows[prefix] = last if known is None or known == last else sp.union(known, last)
    return rows


def difference(box: Box, other: Box) -> list[Box]:
    """The vectors of a box that are not in the other, as disjoint boxes."""
    if any(not sp.intersection(mine, theirs).starts for mine, theirs in zip(box, other)):
        return [box]
    rest = []
    for axis, (mine, theirs) in enumerate(zip(box, other)):
        outside = sp.difference(mine, theirs)
        if outside.starts:
            rest.append((*box[:axis], outside, *box[axis + 1 :]))
            box = (*box[:axis], sp.intersection(mine, theirs), *box[axis + 1 :])
    return rest


def intersection(box: Box, other: Box) -> Optional[Box]:
    """The vectors that are in both boxes; None if there are none."""
    common = tuple(sp.intersection(mine, theirs) for mine, theirs in zip(box, other))
    return common if all(spans.starts for spans in common) else None


def cut(box: Box, begin: int, end: int) -> Iterator[Box]:
    """The vectors of a box at the positions from ``begin`` to ``end`` - 1, as disjoint boxes."""
    if begin >= end:
        return
    head, rest = box[0], box[1:]
    counts = sp.cumulative_counts(head)
    if not rest:
        yield (sp.cut(head, counts, begin, end),)
        return
    width = size(rest)
    (first, begin), (last, end) = divmod(begin, width), divmod(end, width)
    if first == last:
        for part in cut(rest, begin, end):
            yield (sp.cut(head, counts, first, first + 1), *part)
        return
    if begin:
        for part in cut(rest, begin, width):
            yield (sp.cut(head, counts, first, first + 1), *part)
        first += 1
    if first < last:
        yield (sp.cut(head, counts, first, last), *rest)
    for part in cut(rest, 0, end):
        yield (sp.cut(head, counts, last, last + 1), *part)


def _disjoint(boxes: Iterable[Box]) -> list[Box]:
    """The same set as disjoint boxes, not folded."""
    result: list[Box] = []
    for box in boxes:
        pieces = [box]
        for known in result:
            pieces = [rest for piece in pieces for rest in difference(piece, known)]
        result += pieces
    return result


# -- merging ---------------------------------------------------------------------------------------


class _SpansTable:
    """Numbers the different sets of indices, so that comparing two sets compares two integers."""

    def __init__(self) -> None:
        self.spans: list[Spans] = []
        self.sizes: list[int] = []
        # Sort keys: more indices first, then the text of the first and of the last index.
        self.keys: list[tuple[int, str, str]] = []
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, spans: Spans) -> int:
        """The number of a set; equal sets have the same number."""
        identity = (*spans.starts, *spans.ends)
        number = self._numbers.get(identity)
        if number is None:
            number = self._numbers[identity] = len(self.spans)
            self.spans.append(spans)
            self.sizes.append(sp.count(spans))
            first, last = sp.decode(spans.starts[0]), sp.decode(spans.ends[-1] - 1)
            self.keys.append((-self.sizes[-1], first, last))
        return number

    def sort(self, boxes: list[Vector]) -> None:
        """Sort boxes, given as numbers of sets: the larger first, then by the keys of the sets."""
        used = sorted({self.keys[number] for box in boxes for number in box})
        rank_of = {key: rank for rank, key in enumerate(used)}
        ranks = [rank_of.get(key, -1) for key in self.keys]
        sizes = self.sizes

        def order(box: Vector) -> list[int]:
            key = [-1]
            for number in box:
                key[0] *= sizes[number]
                key.append(ranks[number])
            return key

        boxes.sort(key=order)


class _MergingBox:
    """A box that is being merged with others.

    Its growing set is computed only when it is needed: a thousand single indices are one union,
    not a thousand.
    """

    _UNFINISHED = -1

    def __init__(self, sets: _SpansTable, box: Vector) -> None:
        self.sets = sets
        self.box = list(box)
        self.axis = 0
        self.pieces: list[int] = []
        self.size = 0

    def try_merge(self, other: Vector) -> bool:
        """Merge a disjoint box into this one, if the two differ in only one dimension."""
        differing = [axis for axis, mine in enumerate(self.box) if mine != other[axis]]
        if len(differing) == 1:
            axis = differing[0]
            if not self.pieces:
                self.axis = axis
                self.pieces = [self.box[axis]]
                self.size = self.sets.sizes[self.box[axis]]
                self.box[axis] = self._UNFINISHED
            self.pieces.append(other[axis])
            self.size += self.sets.sizes[other[axis]]
            return True
        if self.pieces and self.sets.sizes[other[self.axis]] == self.size:
            # The grown set may be equal to the other's.
            self.finish()
            return self.try_merge(other)
        return False

    def finish(self) -> Vector:
        """This box, with its grown set computed."""
        if self.pieces:
            grown = sp.union_all(self.sets.spans[piece] for piece in self.pieces)
            self.box[self.axis] = self.sets.number(grown)
            self.pieces = []
        return tuple(self.box)


def fold_rows(rows: Rows) -> list[Box]:
    """A set given by rows, as disjoint boxes in order."""
    sets = _SpansTable()
    number_of: dict[int, int] = {}
    text_of: dict[int, str] = {}
    for code in {code for prefix in rows for code in prefix}:
        number_of[code] = sets.number(Spans([code], [code + 1]))
        text_of[code] = sp.decode(code)
    boxes: list[Vector] = []
    current: Optional[_MergingBox] = None
    for prefix in sorted(rows, key=lambda prefix: [text_of[code] for code in prefix]):
        head = tuple([number_of[code] for code in prefix])
        spans = rows[prefix]
        if current is not None and sets.sizes[current.box[-1]] == 1:
            # Merging vector by vector, the box before takes the first vector of this row if it
            # fits; the rest of the row is then a box of its own.
            first = _first_by_text(spans)
            if current.try_merge((*head, sets.number(Spans([first], [first + 1])))):
                spans = sp.difference(spans, Spans([first], [first + 1]))
                if not spans.starts:
                    continue
        if current is not None:
            boxes.append(current.finish())
        current = _MergingBox(sets, (*head, sets.number(spans)))
    if current is not None:
        boxes.append(current.finish())
    return _merge_numbered(sets, boxes)


def _first_by_text(spans: Spans) -> int:
    """The code of the index that sorts first as text: 10 comes before 9."""
    if len(spans.starts) == 1 and spans.starts[0] >= 0:
        return spans.starts[0]
    candidates = []
    for start, end in zip(*spans):
        candidates.append(start)
        if start < 0:
            # Negative numbers of one length: the text of the largest one comes first.
            candidates += [-(10**n) for n in range(sp.MAX_DIGITS) if start <= -(10**n) < end]
            candidates.append(min(end, 0) - 1)
    return min(candidates, key=sp.decode)


def _merge(boxes: Iterable[Box]) -> list[Box]:
    """Merge disjoint boxes."""
    sets = _SpansTable()
    return _merge_numbered(sets, [tuple(map(sets.number, box)) for box in boxes])


def _merge_numbered(sets: _SpansTable, boxes: list[Vector]) -> list[Box]:
    """Merge disjoint boxes, given as numbers of sets, until nothing changes."""
    before = 0
    while len(boxes) > 1 and len(boxes) != before:
        before = len(boxes)
        sets.sort(boxes)
        boxes = _merge_neighbours(sets, boxes)
    before = 0
    while len(boxes) > 1 and len(boxes) != before:
        before = len(boxes)
        sets.sort(boxes)
        boxes = _merge_partners(sets, boxes)
    return [tuple([sets.spans[number] for number in box]) for box in boxes]


def _merge_neighbours(sets: _SpansTable, boxes: list[Vector]) -> list[Vector]:
    """One pass that merges each box with the boxes that follow it, as long as they fit."""
    merged: list[Vector] = []
    current = _MergingBox(sets, boxes[0])
    for box in boxes[1:]:
        if not current.try_merge(box):
            merged.append(current.finish())
            current = _MergingBox(sets, box)
    merged.append(current.finish())
    return merged


def _merge_partners(sets: _SpansTable, boxes: list[Vector]) -> list[Vector]:
    """One pass that merges each box, from left to right, with all later boxes that fit."""
    axes = range(len(boxes[0]))
    # For each dimension: the positions of the boxes that are equal in all other dimensions.
    partners: list[dict[Vector, list[int]]] = [{} for _ in axes]
    for position, box in enumerate(boxes):
        for axis in axes:
            partners[axis].setdefault(box[:axis] + box[axis + 1 :], []).append(position)
    sizes = [{sets.sizes[box[axis]] for box in boxes} for axis in axes]
    taken = [False] * len(boxes)
    merged: list[Vector] = []

    def next_partner(current: _MergingBox, position: int) -> Optional[int]:
        """The position of the first box after this one that fits."""
        if current.pieces and current.size in sizes[current.axis]:
            current.finish()
        found = None
        for axis in axes:
            if current.pieces and axis != current.axis:
                continue  # No box has that many indices there: none equals the grown set.
            rest = tuple(current.box[:axis] + current.box[axis + 1 :])
            positions = partners[axis].get(rest, ())
            for at in range(bisect_right(positions, position), len(positions)):
                if not taken[positions[at]]:
                    if found is None or positions[at] < found:
                        found = positions[at]
                    break
        return found

    for start, box in enumerate(boxes):
        if taken[start]:
            continue
        current = _MergingBox(sets, box)
        partner = next_partner(current, start)
        while partner is not None:
            current.try_merge(boxes[partner])
            taken[partner] = True
            partner = next_partner(current, partner)
        merged.append(current.finish())
    return merged
