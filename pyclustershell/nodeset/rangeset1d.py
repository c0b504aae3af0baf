"""RangeSet: a set of node indices, such as ``1-9,15`` or ``001-100``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Union, overload

from ..exceptions import RangeSetParseError
from . import spans as sp
from .lazyspans import LazySpans
from .rangesyntax import ExpansionBudget, RangeSyntaxError, number_range, parse_ranges
from .spans import Spans

#: A value for ``autostep``: never write steps, not even if other sets of an operation do.
AUTOSTEP_DISABLED = 1e100

#: The operands of set operations: range sets, and sets of indices (strings or numbers).
IndexSet = Union["RangeSet", set[Any], frozenset[Any]]

_NOTHING = Spans([], [])

#: Numbers below this one never have too many digits.
_SHORT = 10**18


class RangeSet(LazySpans):
    """A set of indices, kept as ranges.

    An index is a number together with its zero padding: ``1``, ``01`` and ``001`` are three
    indices. They are ordered by length first, then by value. Methods return indices as strings; an
    argument that is a number means the index without padding.

    The cost of most operations grows with the number of ranges, not of indices. Several threads
    may read a set at once, but none may change it meanwhile.

    >>> RangeSet('5,10-42')
    5,10-42
    >>> len(RangeSet('0-100/10'))
    11
    >>> list(RangeSet('8-10,008-010'))
    ['8', '9', '10', '008', '009', '010']
    """

    __slots__ = ("_autostep",)

    def __init__(
        self, pattern: str | Iterable[object] | None = None, autostep: float | None = None
    ) -> None:
        """Make a set from a pattern or from an iterable.

        Args:
            pattern: ranges separated by commas, or an iterable of indices, of numbers and of
                ranges; None: the set is empty.
            autostep: the least number of equidistant indices to write as a range with a step;
                None: never.

        Raises:
            RangeSetParseError: the pattern, or one of the items, is not a range.
        """
        self._reset(_NOTHING)
        self.autostep = autostep
        if isinstance(pattern, RangeSet):
            self._merged = pattern._spans
        elif isinstance(pattern, str):
            self._merged = _parse(pattern)
        elif pattern is not None:
            items = [str(item) for item in pattern]
            if items:
                self._merged = _parse(",".join(items))

    @classmethod
    def fromlist(
        cls, rnglist: Iterable[str | Iterable[object]], autostep: float | None = None
    ) -> RangeSet:
        """Make the union of these range sets, patterns or iterables.

        Raises:
            RangeSetParseError: one of them is not a range.
        """
        inst = cls(autostep=autostep)
        inst.updaten(rnglist)
        return inst

    @classmethod
    def fromone(
        cls, index: str | int | slice, pad: int = 0, autostep: float | None = None
    ) -> RangeSet:
        """Make a set of one index, or of one slice.

        Args:
            index: a number, an index as a string, or a slice of numbers (without its stop).
            pad: the number of digits to which numbers are zero-padded.
            autostep: as in RangeSet().

        Raises:
            ValueError: the index is not a number, or the slice has no end or is empty.
        """
        inst = cls(autostep=autostep)
        if isinstance(index, slice):
            if not index.stop:
                raise ValueError(f"a slice with an end is needed, not {index}")
            inst.add_range(index.start or 0, index.stop, index.step or 1, pad)
        else:
            inst.add(index, pad)
        return inst

    @classmethod
    def _of(cls, spans: Spans, autostep: float = AUTOSTEP_DISABLED) -> RangeSet:
        """Make a set of these spans; for internal use."""
        inst = cls.__new__(cls)
        inst._reset(spans)
        inst._autostep = autostep
        return inst

    @property
    def autostep(self) -> float | None:
        """The least number of equidistant indices written as a range with a step; None: never."""
        return None if self._autostep >= AUTOSTEP_DISABLED else self._autostep + 1

    @autostep.setter
    def autostep(self, value: float | None) -> None:
        # Stored as the number of steps, which is one less than the number of indices.
        if value is None or value >= AUTOSTEP_DISABLED:
            self._autostep: float = AUTOSTEP_DISABLED
        else:
            self._autostep = int(value) - 1

    @property
    def padding(self) -> int | None:
        """The length of the longest index with leading zeros; None if there is none.

        Setting it pads all indices to that length; None removes all padding.
        """
        longest = None
        for digits, firsts, _ in sp.blocks(self._spans):
            if digits > 1 and next(iter(firsts)) < 10 ** (digits - 1):
                longest = digits
        return longest

    @padding.setter
    def padding(self, value: int | None) -> None:
        pad = value or 0
        self._spans = sp.union_all(
            sp.from_number_range(first, stop, pad)
            for _, firsts, stops in sp.blocks(self._spans)
            for first, stop in zip(firsts, stops)
        )

    def dim(self) -> int:
        """The number of dimensions: 1, or 0 if the set is empty."""
        return int(bool(self))

    def copy(self) -> RangeSet:
        """A copy, with the same autostep."""
        return type(self)._of(self._spans, self._autostep)

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> RangeSet:
        return self.copy()

    def __getstate__(self) -> tuple[list[int], list[int], float]:
        return (*self._spans, self._autostep)

    def __setstate__(self, state: tuple[list[int], list[int], float]) -> None:
        starts, ends, self._autostep = state
        self._spans = Spans(starts, ends)

    # -- reading -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        spans = self._current()
        if self._counts is not None:
            return self._counts[-1] if self._counts else 0
        return sp.count(spans)

    def __bool__(self) -> bool:
        return bool(self._pending_codes or self._pending_spans or self._merged.starts)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the indices as strings, in order."""
        return sp.indices(self._spans)

    striter = __iter__

    def intiter(self) -> Iterator[int]:
        """Iterate over the numbers, in the order of the indices, without padding."""
        return sp.values(self._spans)

    def __contains__(self, element: object) -> bool:
        """True if the set contains this index (a string or a number), or all of this range set."""
        if isinstance(element, (RangeSet, set, frozenset)):
            return self.issuperset(element)
        try:
            code = sp.encode(str(element))
        except ValueError:
            return False
        return sp.contains(self._current(), code)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> RangeSet: ...
    def __getitem__(self, index: int | slice) -> str | RangeSet:
        """The index at a position, or the set of the indices of a slice.

        Raises:
            IndexError: there is no such position.
            TypeError: the position is not an integer or a slice.
        """
        if isinstance(index, slice):
            return RangeSet._of(self._slice(range(*index.indices(len(self)))), self._autostep)
        if not isinstance(index, int):
            raise TypeError(f"RangeSet indices must be integers or slices, not {type(index)}")
        positions = range(len(self))
        try:
            position = positions[index]
        except IndexError:
            raise IndexError(f"{index} out of range") from None
        return sp.decode(self._slice(range(position, position + 1)).starts[0])

    def _slice(self, wanted: range) -> Spans:
        """The codes at these positions, all of which exist."""
        if wanted.step < 0:
            wanted = wanted[::-1]
        if wanted.step == 1:
            return sp.cut(self._current(), self._cumulative_counts(), wanted.start, wanted.stop)
        return sp.from_codes(
            islice(sp.codes(self._spans), wanted.start, wanted.stop, wanted.step) if wanted else ()
        )

    def index(self, elem: object, start: int = 0, stop: int | None = None) -> int:
        """The position of an index in the set.

        Args:
            elem: the index, as a string or as a number.
            start: the first position to look at; negative: from the end.
            stop: the position after the last one to look at; None: the end of the set.

        Raises:
            ValueError: the index is not there.
        """
        if elem in self and not isinstance(elem, (RangeSet, set, frozenset)):
            position = self._rank(sp.encode(str(elem)))
            if position in range(*slice(start, stop).indices(len(self))):
                return position
        raise ValueError(f"{elem} is not in RangeSet")

    def _rank(self, code: int) -> int:
        """The position of a code that is in the set."""
        spans = self._current()
        at = bisect_right(spans.starts, code) - 1
        return self._cumulative_counts()[at] - (spans.ends[at] - code)

    def split(self, nbr: int) -> Iterator[RangeSet]:
        """Iterate over at most ``nbr`` parts of the set, whose sizes differ by at most one.

        Raises:
            ValueError: ``nbr`` is not positive.
        """
        return (self[begin:end] for begin, end in split_points(len(self), nbr))

    def contiguous(self) -> Iterator[RangeSet]:
        """Iterate over the contiguous ranges of the set, each as a range set."""
        for first, last, pad in self._runs():
            yield RangeSet._of(sp.from_number_range(first, last + 1, pad))

    def slices(self) -> Iterator[slice]:
        """Iterate over the ranges that str() writes, as slices, without padding."""
        for first, last, step, _ in self._ranges():
            yield slice(first, last + 1, step)

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Iterate over contiguous ranges as (first number, last number, padding or 0)."""
        run: tuple[int, int, int] | None = None
        for digits, firsts, stops in sp.blocks(self._spans):
            unpadded = 10 ** (digits - 1)
            for first, stop in zip(firsts, stops):
                pad = digits if digits > 1 and first < unpadded else 0
                if run is not None:
                    # As in ClusterShell, the padding of a single index applies to the indices of
                    # the same length that follow it: 08,99,100 but 08-09,99-100.
                    if run[0] == run[1] and run[2] == digits:
                        pad = digits
                    # 8-12 is two spans, for numbers of one and of two digits. A padded range ends
                    # with the last index of its length.
                    if run[1] + 1 == first and not run[2] and not pad:
                        run = (run[0], stop - 1, 0)
                        continue
                    yield run
                run = (first, stop - 1, pad)
        if run is not None:
            yield run

    def _ranges(self) -> Iterator[tuple[int, int, int, int]]:
        """Iterate over ranges as (first, last, step, padding); autostep decides on steps."""
        if self._autostep >= AUTOSTEP_DISABLED:
            for first, last, pad in self._runs():
                yield first, last, 1, pad
        else:
            yield from _stepped(self._spans, self._autostep)

    def __str__(self) -> str:
        """The set as ranges separated by commas, with steps if autostep is set."""
        texts = []
        for first, last, step, pad in self._ranges():
            if first == last:
                texts.append(f"{first:0{pad}d}" if pad else str(first))
            elif pad:
                texts.append(f"{first:0{pad}d}-{last:0{pad}d}")
            else:
                texts.append(f"{first}-{last}")
            if step != 1 and first != last:
                texts[-1] += f"/{step}"
        return ",".join(texts)

    # The pattern of an equal set.
    __repr__ = __str__

    # -- comparing ---------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._spans == other._spans

    __hash__ = None  # type: ignore[assignment]

    def issubset(self, other: IndexSet) -> bool:
        """True if all indices of this set are in the other.

        Raises:
            TypeError: the other is not a set.
        """
        return sp.is_subset(self._current(), _spans_of(other))

    def issuperset(self, other: IndexSet) -> bool:
        """True if all indices of the other set are in this one.

        Raises:
            TypeError: the other is not a set.
        """
        return sp.is_subset(_spans_of(other), self._current())

    __le__ = issubset
    __ge__ = issuperset

    def __lt__(self, other: IndexSet) -> bool:
        return self.issubset(other) and len(self) < len(other)

    def __gt__(self, other: IndexSet) -> bool:
        return self.issuperset(other) and len(self) > len(other)

    # -- set operations ----------------------------------------------------------------------------

    def union(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set of the indices in either set."""
        return self._of(sp.union(self._spans, _spans_of_iterable(other)), self._autostep)

    def intersection(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set of the indices in both sets."""
        return self._of(sp.intersection(self._spans, _spans_of_iterable(other)), self._autostep)

    def difference(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set of the indices in this set that are not in the other."""
        return self._of(sp.difference(self._spans, _spans_of_iterable(other)), self._autostep)

    def symmetric_difference(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set of the indices in exactly one of both sets."""
        other_spans = _spans_of_iterable(other)
        return self._of(sp.symmetric_difference(self._spans, other_spans), self._autostep)

    def __or__(self, other: IndexSet) -> RangeSet:
        return self.union(other) if _is_set(other) else NotImplemented

    def __and__(self, other: IndexSet) -> RangeSet:
        return self.intersection(other) if _is_set(other) else NotImplemented

    def __sub__(self, other: IndexSet) -> RangeSet:
        return self.difference(other) if _is_set(other) else NotImplemented

    def __xor__(self, other: IndexSet) -> RangeSet:
        return self.symmetric_difference(other) if _is_set(other) else NotImplemented

    def update(self, iterable: IndexSet | Iterable[object]) -> None:
        """Add the indices of a set, or of an iterable of indices (strings or numbers).

        Raises:
            ValueError: one of them is not an index.
            TypeError: the argument is a string; RangeSet(pattern) parses patterns.
        """
        spans = _spans_of_iterable(iterable)
        if len(spans.starts) == 1 and spans.ends[0] - spans.starts[0] == 1:
            self._add_code(spans.starts[0])
        else:
            self._unite(spans)

    union_update = update

    def updaten(self, rangesets: Iterable[str | Iterable[object]]) -> None:
        """Add the indices of several range sets, patterns or iterables.

        Raises:
            RangeSetParseError: one of them is not a range.
        """
        added = [item if _is_set(item) else RangeSet(item) for item in rangesets]
        self._spans = sp.union_all([self._spans, *map(_spans_of_iterable, added)])

    def intersection_update(self, other: IndexSet | Iterable[object]) -> None:
        """Keep only the indices that are also in the other set."""
        self._spans = sp.intersection(self._spans, _spans_of_iterable(other))

    def difference_update(self, other: IndexSet | Iterable[object], strict: bool = False) -> None:
        """Remove the indices of the other set.

        Args:
            other: the indices to remove.
            strict: True if all of them must be in this set.

        Raises:
            KeyError: strict, and an index is not in this set, which is unchanged then.
        """
        other_spans = _spans_of_iterable(other)
        if strict and not sp.is_subset(other_spans, self._current()):
            raise KeyError(sp.decode(sp.difference(other_spans, self._spans).starts[0]))
        if len(other_spans.starts) > sp.FEW or other is self:
            self._spans = sp.difference(self._spans, other_spans)
            return
        spans = self._writable()
        for start, end in zip(*other_spans):
            sp.remove(spans, start, end)

    def symmetric_difference_update(self, other: IndexSet | Iterable[object]) -> None:
        """Keep the indices that are in exactly one of both sets."""
        self._spans = sp.symmetric_difference(self._spans, _spans_of_iterable(other))

    def __ior__(self, other: IndexSet) -> RangeSet:
        self._unite(_spans_of(other))
        return self

    def __iand__(self, other: IndexSet) -> RangeSet:
        self._spans = sp.intersection(self._spans, _spans_of(other))
        return self

    def __isub__(self, other: IndexSet) -> RangeSet:
        self._spans = sp.difference(self._spans, _spans_of(other))
        return self

    def __ixor__(self, other: IndexSet) -> RangeSet:
        self._spans = sp.symmetric_difference(self._spans, _spans_of(other))
        return self

    def clear(self) -> None:
        """Remove all indices."""
        self._spans = _NOTHING

    # -- single indices ----------------------------------------------------------------------------

    def add_range(self, start: int, stop: int, step: int = 1, pad: int = 0) -> None:
        """Add the numbers of range(start, stop, step).

        Args:
            start: the first number.
            stop: the number after the last one.
            step: the distance between two numbers.
            pad: the number of digits to which they are zero-padded.

        Raises:
            ValueError: the range is empty or too large, the step is not positive, or the padding
                is negative.
        """
        self._spans = sp.union(self._spans, number_range(start, stop, step, pad, ExpansionBudget()))

    def add(self, element: str | int, pad: int = 0) -> None:
        """Add an index.

        Args:
            element: the index as a string, or a number.
            pad: the number of digits to which a number is zero-padded.

        Raises:
            ValueError: the element is not an index.
        """
        self._add_code(_code(element, pad))

    def remove(self, element: str | int, pad: int = 0) -> None:
        """Remove an index; arguments as in add().

        Raises:
            KeyError: the index is not in the set, or the string is not an index.
            ValueError: the padding or the number is out of range.
        """
        try:
            code = _code(element, pad)
        except ValueError:
            if isinstance(element, str):
                raise KeyError(element) from None  # not in the set, like any other string
            raise
        if not sp.contains(self._current(), code):
            raise KeyError(sp.decode(code))
        sp.remove(self._writable(), code, code + 1)

    def discard(self, element: object, pad: int = 0) -> None:
        """Remove an index if it is in the set; arguments as in add()."""
        try:
            code = _code(element, pad)
        except (TypeError, ValueError):
            return
        sp.remove(self._writable(), code, code + 1)


def split_points(size: int, parts: int) -> Iterator[tuple[int, int]]:
    """Iterate over (begin, end) of at most ``parts`` parts; the first ones may be larger by one.

    Raises:
        ValueError: the number of parts is not positive.
    """
    if parts < 1:
        raise ValueError(f"the number of parts must be positive, not {parts}")
    quotient, left = divmod(size, int(parts))

    def points() -> Iterator[tuple[int, int]]:
        begin = 0
        for part in range(min(parts, size)):
            end = begin + quotient + (part < left)
            yield begin, end
            begin = end

    return points()


def _parse(pattern: str) -> Spans:
    try:
        return parse_ranges(pattern, ExpansionBudget())
    except RangeSyntaxError as exc:
        place = f"at character {exc.position + 1}"
        error = RangeSetParseError(exc.part, f"{exc} {place}")
        error.pattern = pattern
        raise error from None


def _code(element: Any, pad: int) -> int:
    if isinstance(element, str):
        return sp.encode(element)
    number = int(element)
    if 0 <= number < _SHORT and not pad:
        return sp.BASES[len(str(number))] + number
    return sp.encode_number(number, pad)


def _is_set(value: object) -> bool:
    return isinstance(value, (RangeSet, set, frozenset))


def _spans_of(value: IndexSet) -> Spans:
    """The spans of a set.

    Raises:
        TypeError: the value is not a set.
    """
    if not _is_set(value):
        raise TypeError(f"expected a RangeSet or another set, not {type(value).__name__}")
    return _spans_of_iterable(value)


def _spans_of_iterable(value: IndexSet | Iterable[object]) -> Spans:
    """The spans of a set or of an iterable of indices.

    Raises:
        TypeError: the value is a string.
        ValueError: one of the items is not an index.
    """
    if isinstance(value, RangeSet):
        return value._spans
    if isinstance(value, str):
        raise TypeError("expected a set or an iterable of indices, not a string")
    return sp.from_codes(sp.encode(str(item)) for item in value)


def _stepped(spans: Spans, autostep: float) -> Iterator[tuple[int, int, int, int]]:
    """Iterate over ranges (first, last, step, padding), with a step if there are enough indices.

    Indices are visited in order, and a range grows as long as the distance stays the same. When
    the distance changes, the range is kept if it is contiguous or has enough steps. If not, its
    indices become single ones, and the last of them may begin the next range.
    """
    first = last = pad = 0
    step: int | None = None
    begun = False

    def finished(keep_last: bool) -> Iterator[tuple[int, int, int, int]]:
        """The range from first to last; without its last index if that begins the next range."""
        if step is None:
            yield first, last, 1, pad
        elif step == 1 or last - first >= autostep * step:
            yield first, last, step, pad
        else:
            for number in range(first, last + (0 if keep_last else 1), step):
                yield number, number, 1, pad

    for digits, firsts, stops in sp.blocks(spans):
        for low, stop in zip(firsts, stops):
            # Within a span all distances are 1: its first two indices are enough.
            for number in range(low, min(low + 2, stop)):
                padded = digits if digits > 1 and number < 10 ** (digits - 1) else 0
                mismatch = begun and (digits != pad if pad else bool(padded))
                if not begun:
                    begun, first, pad = True, number, padded
                elif mismatch:
                    yield from finished(keep_last=False)
                    first, pad, step = number, padded, None
                elif step is not None and step != number - last:
                    taken = step == 1 or last - first >= autostep * step
                    yield from finished(keep_last=True)
                    if taken:
                        first, pad = number, padded
                    else:
                        first = last
                    step = number - last
                else:
                    step = number - last
                last = number
            last = stop - 1
    if begun:
        yield from finished(keep_last=False)
