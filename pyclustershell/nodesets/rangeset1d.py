"""RangeSet: a set of node indices, such as ``1-9,15`` or ``001-100``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Union, overload

from ..exceptions import RangeSetParseError
from . import spans as sp
from .lazyspans import LazySpans
from .rangesyntax import Budget, RangeSyntaxError, number_range, parse_ranges
from .spans import Spans

#: As ``autostep``: never write steps, not even where other sets in an operation would.
AUTOSTEP_DISABLED = 1e100

#: What the set operations take beside range sets: sets of indices, as strings or as numbers.
IndexSet = Union["RangeSet", set[Any], frozenset[Any]]

_NOTHING = Spans([], [])

#: Numbers below this one are known not to have too many digits.
_SHORT = 10**18


class RangeSet(LazySpans):
    """A set of indices, kept as ranges.

    An index is a number together with its zero padding: ``1``, ``01`` and ``001`` are three
    indices. They are ordered by length first, then by value, and given out as strings; where a
    method takes an index as a number, it means the one without padding.

    Most operations cost what the number of ranges costs, not the number of indices. Not safe for
    use by several threads at once while one of them changes the set.

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
            autostep: from how many equidistant indices on to write them as a range with a step;
                None: never.

        Raises:
            RangeSetParseError: the pattern, or one of the items, is no range.
        """
        self._hold(_NOTHING)
        self.autostep = autostep
        if isinstance(pattern, RangeSet):
            self._known = pattern._spans
        elif isinstance(pattern, str):
            self._known = _parse(pattern)
        elif pattern is not None:
            items = [str(item) for item in pattern]
            if items:
                self._known = _parse(",".join(items))

    @classmethod
    def fromlist(
        cls, rnglist: Iterable[str | Iterable[object]], autostep: float | None = None
    ) -> RangeSet:
        """Make the union of these range sets, patterns or iterables.

        Raises:
            RangeSetParseError: one of them is no range.
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
            index: a number, an index as a string, or a slice of numbers (its stop is not in it).
            pad: the digits to which numbers are zero-padded.
            autostep: as in RangeSet().

        Raises:
            ValueError: the index is not a number, or the slice has no end or nothing in it.
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
        """Make a set of these spans; for this package's own use."""
        inst = cls.__new__(cls)
        inst._hold(spans)
        inst._autostep = autostep
        return inst

    @property
    def autostep(self) -> float | None:
        """From how many equidistant indices on they are written with a step; None: never."""
        return None if self._autostep >= AUTOSTEP_DISABLED else self._autostep + 1

    @autostep.setter
    def autostep(self, value: float | None) -> None:
        # Kept as the number of steps, one less than the number of indices.
        if value is None or value >= AUTOSTEP_DISABLED:
            self._autostep: float = AUTOSTEP_DISABLED
        else:
            self._autostep = int(value) - 1

    @property
    def padding(self) -> int | None:
        """The length of the longest index with leading zeros; None if there is none.

        Setting it pads all indices to that length; None takes all padding away.
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
        """The number of dimensions: 1, or 0 where the set is empty."""
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

    # -- looking -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        spans = self._current()
        if self._ranks is not None:
            return self._ranks[-1] if self._ranks else 0
        return sp.count(spans)

    def __bool__(self) -> bool:
        return bool(self._pending or self._joining or self._known.starts)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the indices as strings, in order."""
        return sp.indices(self._spans)

    striter = __iter__

    def intiter(self) -> Iterator[int]:
        """Iterate over the numbers, in the order of the indices; padding is lost."""
        return sp.values(self._spans)

    def __contains__(self, element: object) -> bool:
        """Whether the set holds this index (a string or a number), or all of this range set."""
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
            TypeError: positions are whole numbers.
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
            return sp.cut(self._current(), self._positions(), wanted.start, wanted.stop)
        return sp.from_codes(
            islice(sp.codes(self._spans), wanted.start, wanted.stop, wanted.step) if wanted else ()
        )

    def index(self, elem: object, start: int = 0, stop: int | None = None) -> int:
        """The position of an index in the set.

        Args:
            elem: the index, as a string or as a number.
            start: where the part of the set begins in which to look; negative: from the end.
            stop: where that part ends; None: at the end of the set.

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
        return self._positions()[at] - (spans.ends[at] - code)

    def split(self, nbr: int) -> Iterator[RangeSet]:
        """Iterate over at most ``nbr`` parts of the set, of sizes that differ by one at most.

        Raises:
            ValueError: the number is not positive.
        """
        return (self[begin:end] for begin, end in split_points(len(self), nbr))

    def contiguous(self) -> Iterator[RangeSet]:
        """Iterate over the contiguous ranges of the set, each as a range set."""
        for first, last, pad in self._runs():
            yield RangeSet._of(sp.from_number_range(first, last + 1, pad))

    def slices(self) -> Iterator[slice]:
        """Iterate over the ranges, as written by str(), as slices. Padding is lost."""
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
                    # ClusterShell lets a padded index that stands alone rule what follows it, up to
                    # the longer indices: 08,99,100 but 08-09,99-100.
                    if run[0] == run[1] and run[2] == digits:
                        pad = digits
                    # 8-12 is two spans, for numbers of one digit and of two. A padded range ends
                    # with its length.
                    if run[1] + 1 == first and not run[2] and not pad:
                        run = (run[0], stop - 1, 0)
                        continue
                    yield run
                run = (first, stop - 1, pad)
        if run is not None:
            yield run

    def _ranges(self) -> Iterator[tuple[int, int, int, int]]:
        """Iterate over ranges, with steps as autostep allows, as (first, last, step, padding)."""
        if self._autostep >= AUTOSTEP_DISABLED:
            for first, last, pad in self._runs():
                yield first, last, 1, pad
        else:
            yield from _stepped(self._spans, self._autostep)

    def __str__(self) -> str:
        """The set as ranges separated by commas, with steps where autostep is set."""
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

    # A pattern that makes an equal set.
    __repr__ = __str__

    # -- comparing ---------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._spans == other._spans

    __hash__ = None  # type: ignore[assignment]

    def issubset(self, other: IndexSet) -> bool:
        """Whether all indices of this set are in the other.

        Raises:
            TypeError: the other is not a set.
        """
        return sp.is_subset(self._current(), _spans_of(other))

    def issuperset(self, other: IndexSet) -> bool:
        """Whether all indices of the other set are in this one.

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
        """A new set, of the indices in either."""
        return self._of(sp.union(self._spans, _spans_of_iterable(other)), self._autostep)

    def intersection(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set, of the indices in both."""
        return self._of(sp.intersection(self._spans, _spans_of_iterable(other)), self._autostep)

    def difference(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set, of the indices in this one that are not in the other."""
        return self._of(sp.difference(self._spans, _spans_of_iterable(other)), self._autostep)

    def symmetric_difference(self, other: IndexSet | Iterable[object]) -> RangeSet:
        """A new set, of the indices in exactly one of both."""
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
            ValueError: one of them is no index.
            TypeError: a string is given; RangeSet(pattern) parses patterns.
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
            RangeSetParseError: one of them is no range.
        """
        added = [item if _is_set(item) else RangeSet(item) for item in rangesets]
        self._spans = sp.union_all([self._spans, *map(_spans_of_iterable, added)])

    def intersection_update(self, other: IndexSet | Iterable[object]) -> None:
        """Keep only the indices that are also in the other."""
        self._spans = sp.intersection(self._spans, _spans_of_iterable(other))

    def difference_update(self, other: IndexSet | Iterable[object], strict: bool = False) -> None:
        """Remove the indices of the other.

        Args:
            other: the indices to remove.
            strict: all of them must be there.

        Raises:
            KeyError: strict, and one of them is not there; the set is unchanged then.
        """
        other_spans = _spans_of_iterable(other)
        if strict and not sp.is_subset(other_spans, self._current()):
            raise KeyError(sp.decode(sp.difference(other_spans, self._spans).starts[0]))
        if len(other_spans.starts) > sp.FEW or other is self:
            self._spans = sp.difference(self._spans, other_spans)
            return
        own = self._own()
        for start, end in zip(*other_spans):
            sp.take(own, start, end)

    def symmetric_difference_update(self, other: IndexSet | Iterable[object]) -> None:
        """Keep the indices that are in exactly one of both."""
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
            step: their distance.
            pad: the digits to which they are zero-padded.

        Raises:
            ValueError: there is nothing in that range, it is too large, or the step or the padding
                is negative.
        """
        self._spans = sp.union(self._spans, number_range(start, stop, step, pad, Budget()))

    def add(self, element: str | int, pad: int = 0) -> None:
        """Add an index.

        Args:
            element: the index as a string, or a number.
            pad: the digits to which a number is zero-padded.

        Raises:
            ValueError: this is no index.
        """
        self._add_code(_code(element, pad))

    def remove(self, element: str | int, pad: int = 0) -> None:
        """Remove an index, given as in add().

        Raises:
            KeyError: the index is not there.
            ValueError: this is no index.
        """
        code = _code(element, pad)
        if not sp.contains(self._current(), code):
            raise KeyError(sp.decode(code))
        sp.take(self._own(), code, code + 1)

    def discard(self, element: object, pad: int = 0) -> None:
        """Remove an index, given as in add(), if it is there."""
        try:
            code = _code(element, pad)
        except (TypeError, ValueError):
            return
        sp.take(self._own(), code, code + 1)


def split_points(size: int, parts: int) -> Iterator[tuple[int, int]]:
    """Iterate over the (begin, end) of at most ``parts`` parts; the first ones are larger by one.

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
        return parse_ranges(pattern, Budget())
    except RangeSyntaxError as exc:
        place = f"at character {exc.position + 1}"
        raise RangeSetParseError(exc.part, f"{exc} {place}") from None


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
        TypeError: it is none.
    """
    if not _is_set(value):
        raise TypeError(f"expected a RangeSet or another set, not {type(value).__name__}")
    return _spans_of_iterable(value)


def _spans_of_iterable(value: IndexSet | Iterable[object]) -> Spans:
    """The spans of a set or of an iterable of indices.

    Raises:
        TypeError: it is a string.
        ValueError: one of the items is no index.
    """
    if isinstance(value, RangeSet):
        return value._spans
    if isinstance(value, str):
        raise TypeError("expected a set or an iterable of indices, not a string")
    return sp.from_codes(sp.encode(str(item)) for item in value)


def _stepped(spans: Spans, autostep: float) -> Iterator[tuple[int, int, int, int]]:
    """Iterate over ranges (first, last, step, padding), taking steps where they are long enough.

    Going through the indices in order, a range takes in the next index as long as the distance
    stays the same. When it does not, what was taken in is one range if it is contiguous or has
    enough steps; else its indices stand alone, and the last one may begin the next range.
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
            # Within a span all distances are 1: its first two indices tell all.
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
