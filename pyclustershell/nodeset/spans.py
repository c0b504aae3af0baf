"""Sets of node indices as sorted spans of integers: the arithmetic under RangeSet.

An index is the text of a number in a node's name: ``7``, ``07`` and ``007`` are three different
indices. Indices sort by length first, then by value. Each index has an integer *code*, in the same
order. All indices of one length form a block of consecutive codes::

    length 1 (and negative numbers)    0 ..  9           code = value
    length 2                          00 .. 99           code = value + 11
    length 3                         000 .. 999          code = value + 112
    ...

One code is left out between two blocks, so that codes of different lengths are never neighbours.
A set of indices is then two lists, ``starts`` and ``ends``: sorted, half-open spans of codes that
neither overlap nor touch. ``1-100000`` is six spans, and the cost of most operations grows with the
number of spans. The functions here leave the work on long lists to sorted(), map() and compress(),
which run at the speed of C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, compress, filterfalse, islice, repeat
from operator import and_, gt, lt, ne, sub
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")

#: The most digits of an index. No node name needs more, and big numbers cost time.
MAX_DIGITS = 100

#: By length: code minus value. (Length 0 does not occur.)
_BASES = [0, 0]
for _digits in range(1, MAX_DIGITS + 1):
    _BASES.append(_BASES[-1] + 10**_digits + 1)
BASES = tuple(_BASES[: MAX_DIGITS + 1])

#: Up to this many spans, inserting one after the other into a set is quicker than a merge.
FEW = 8


class Spans(NamedTuple):
    """A set of codes. Only insert() and remove() change the lists; the others make new ones."""

    starts: list[int]
    ends: list[int]


def digits_of(code: int) -> int:
    """The length of the indices in the block of this code; 1 for negative numbers."""
    return max(1, bisect_right(BASES, code, 2) - 1)


def encode(index: str) -> int:
    """The code of an index.

    Raises:
        ValueError: it is not a number of ASCII digits, with or without a minus sign; it has more
            than MAX_DIGITS digits; or it is a negative number with leading zeros.
    """
    if index.isdigit() and index.isascii():
        if len(index) > MAX_DIGITS:
            raise ValueError(f"an index of {len(index)} digits: at most {MAX_DIGITS} are supported")
        return BASES[len(index)] + int(index)
    digits = index[1:]
    if index[:1] == "-" and digits.isdigit() and digits.isascii() and len(digits) <= MAX_DIGITS:
        if digits[0] != "0":
            return int(index)
        if len(digits) == 1:
            return 0
        raise ValueError(f"padding is not supported in negative numbers: {index!r}")
    raise ValueError(f"not an index: {index[:MAX_DIGITS]!r}")


def encode_number(number: int, pad: int = 0) -> int:
    """The code of a number, zero-padded to ``pad`` digits. Errors are encode()'s."""
    if number < 0 and pad > len(str(number)) - 1:
        raise ValueError(f"padding is not supported in negative numbers: {number}")
    return encode(f"{number:0{pad}d}" if pad > 0 else str(number))


def decode(code: int) -> str:
    """The index of a code."""
    digits = digits_of(code)
    return f"{code - BASES[digits]:0{digits}d}"


def blocks(spans: Spans) -> Iterator[tuple[int, Iterable[int], Iterable[int]]]:
    """Iterate over (length, first values, values after the last) of each length in the set."""
    starts, ends = spans
    begin = 0
    while begin < len(starts):
        digits = digits_of(starts[begin])
        end = len(starts)
        if digits < MAX_DIGITS and starts[-1] >= BASES[digits + 1]:
            end = bisect_right(starts, BASES[digits + 1] - 1, begin)
        base = repeat(BASES[digits])
        yield (
            digits,
            map(sub, islice(starts, begin, end), base),
            map(sub, islice(ends, begin, end), base),
        )
        begin = end


def values(spans: Spans) -> Iterator[int]:
    """Iterate over the numbers, in the order of the indices; padding is lost."""
    return chain.from_iterable(
        chain.from_iterable(map(range, firsts, stops)) for _, firsts, stops in blocks(spans)
    )


def indices(spans: Spans, prefix: str = "", suffix: str = "") -> Iterator[str]:
    """Iterate over the indices in order, each with a prefix and a suffix (% is written %%)."""
    singles = _are_singles(spans)
    return chain.from_iterable(
        map(
            f"{prefix}%0{digits}d{suffix}".__mod__,
            firsts if singles else chain.from_iterable(map(range, firsts, stops)),
        )
        for digits, firsts, stops in blocks(spans)
    )


def codes(spans: Spans) -> Iterator[int]:
    """Iterate over the codes."""
    return chain.from_iterable(map(range, *spans))


def count(spans: Spans) -> int:
    """The number of indices in the set."""
    return sum(spans.ends) - sum(spans.starts)


def cumulative_counts(spans: Spans) -> list[int]:
    """For each span, the number of indices up to its end."""
    return list(accumulate(map(sub, spans.ends, spans.starts)))


def from_number_range(start: int, stop: int, pad: int = 0) -> Spans:
    """The indices of the numbers from start to stop - 1, each padded to at least ``pad`` digits.

    Raises:
        ValueError: as encode() does.
    """
    return between(encode_number(start, pad), encode_number(stop - 1, pad))


def between(first_code: int, last_code: int) -> Spans:
    """The indices from one code to another; padded only if both codes have the same length."""
    first_digits, last_digits = digits_of(first_code), digits_of(last_code)
    if first_digits == last_digits:
        return Spans([first_code], [last_code + 1])
    starts, ends = [], []
    for digits in range(first_digits, last_digits + 1):
        base = BASES[digits]
        starts.append(first_code if digits == first_digits else base + 10 ** (digits - 1))
        ends.append(last_code + 1 if digits == last_digits else base + 10**digits)
    return Spans(starts, ends)


def from_codes(unsorted: Iterable[int]) -> Spans:
    """The set of these codes, in any order; repetitions are allowed."""
    ordered = sorted(unsorted)
    if not ordered:
        return Spans([], [])
    gaps = [distance > 1 for distance in map(sub, _tail(ordered), ordered)]
    return Spans(
        [ordered[0], *compress(_tail(ordered), gaps)],
        [*[code + 1 for code in compress(ordered, gaps)], ordered[-1] + 1],
    )


def _join(starts: list[int], ends: list[int]) -> Spans:
    """The union of spans, given as their sorted starts and their sorted ends.

    Sorting loses the pairs of start and end, but not the union: if the i-th start lies after the
    (i-1)-th end, then i spans began before it and all of them have ended, so there is a gap.
    """
    if len(starts) <= 1:
        return Spans(starts, ends)
    gaps = list(map(gt, _tail(starts), ends))
    return Spans(
        [starts[0], *compress(_tail(starts), gaps)],
        [*compress(ends, gaps), ends[-1]],
    )


def _tail(items: list[Item]) -> Iterator[Item]:
    """All items but the first, quicker than islice()."""
    tail = iter(items)
    next(tail, None)
    return tail


def union(one: Spans, two: Spans) -> Spans:
    """The codes in either set."""
    if len(one.starts) < len(two.starts):
        one, two = two, one
    if len(two.starts) > FEW:
        starts = one.starts + two.starts
        starts.sort()
        ends = one.ends + two.ends
        ends.sort()
        return _join(starts, ends)
    if two.starts:
        one = copy(one)
    for start, end in zip(*two):
        insert(one, start, end)
    return one


def union_all(sets: Iterable[Spans]) -> Spans:
    """The codes in any of the sets. Spans may touch or overlap, even within one set."""
    starts: list[int] = []
    ends: list[int] = []
    for spans in sets:
        starts += spans.starts
        ends += spans.ends
    starts.sort()
    ends.sort()
    return _join(starts, ends)


def intersection(one: Spans, two: Spans) -> Spans:
    """The codes in both sets.

    Starts and ends are sorted as in _join(), and at most two spans cover any code. So if the i-th
    start lies before the (i-1)-th end, then two spans are open from that start to that end.
    """
    if not one.starts or not two.starts:
        return Spans([], [])
    one, two = _within(one, two), _within(two, one)
    if _are_singles(one) and _are_singles(two):
        others = set(two.starts)
        if others.isdisjoint(one.starts):
            return Spans([], [])
        starts = list(filter(others.__contains__, one.starts))
        return Spans(starts, [start + 1 for start in starts])
    starts = one.starts + two.starts
    starts.sort()
    ends = one.ends + two.ends
    ends.sort()
    overlaps = list(map(lt, _tail(starts), ends))
    return Spans(
        list(compress(_tail(starts), overlaps)),
        list(compress(ends, overlaps)),
    )


def difference(one: Spans, two: Spans) -> Spans:
    """The codes in the first set that are not in the second."""
    if not one.starts or not two.starts:
        return one
    if len(two.starts) <= FEW:
        one = copy(one)
        for start, end in zip(*two):
            remove(one, start, end)
        return one
    two = _within(two, one)
    if not two.starts:
        return one
    if _are_singles(one) and _are_singles(two):
        removed = set(two.starts)
        if removed.isdisjoint(one.starts):
            return one
        starts = list(filterfalse(removed.__contains__, one.starts))
        return Spans(starts, [start + 1 for start in starts])
    # The codes that are not in `two` lie between its spans, before them and after them.
    before = min(one.starts[0], two.starts[0]) - 1
    after = max(one.ends[-1], two.ends[-1]) + 1
    return intersection(one, Spans([before, *two.ends], [*two.starts, after]))


def symmetric_difference(one: Spans, two: Spans) -> Spans:
    """The codes in exactly one of the sets.

    Membership changes at the start and at the end of a span. It changes in the result if it
    changes in exactly one of the two sets.
    """
    if not one.starts or not two.starts:
        return union(one, two)
    if _are_singles(one) and _are_singles(two):
        singles = set(one.starts)
        if singles.isdisjoint(two.starts):
            return union(one, two)
        return from_codes(singles.symmetric_difference(two.starts))
    edges = [*chain(*one, *two)]
    edges.sort()
    # An edge of both sets is in the list twice, and is left out.
    alone = [True, *map(ne, _tail(edges), edges), True]
    edges = list(compress(edges, map(and_, alone, _tail(alone))))
    return Spans(edges[::2], edges[1::2])


def insert(spans: Spans, start: int, end: int) -> None:
    """Add the codes from start to end - 1. Changes the lists, to save a copy of a large set."""
    starts, ends = spans
    first = bisect_left(ends, start)
    after = bisect_right(starts, end)
    if first < after:
        start, end = min(start, starts[first]), max(end, ends[after - 1])
    starts[first:after] = [start]
    ends[first:after] = [end]


def remove(spans: Spans, start: int, end: int) -> None:
    """Remove the codes from start to end - 1. Changes the lists, to save a copy of a large set."""
    starts, ends = spans
    first = bisect_right(ends, start)
    after = bisect_left(starts, end)
    if first < after:
        rest = [(starts[first], start), (end, ends[after - 1])]
        rest = [(begin, stop) for begin, stop in rest if begin < stop]
        starts[first:after] = [begin for begin, _ in rest]
        ends[first:after] = [stop for _, stop in rest]


def copy(spans: Spans) -> Spans:
    """A copy, for insert() and remove()."""
    return Spans(spans.starts.copy(), spans.ends.copy())


def _within(spans: Spans, other: Spans) -> Spans:
    """The spans that may overlap the other set: those between its first and last code."""
    starts, ends = spans
    first = bisect_right(ends, other.starts[0])
    after = bisect_left(starts, other.ends[-1])
    if after - first > len(starts) // 2:
        return spans  # a copy would cost more than a few spans too many
    return Spans(starts[first:after], ends[first:after])


def _are_singles(spans: Spans) -> bool:
    """True if no code has a neighbour in the set. Such sets are quicker to hash than to sort."""
    return count(spans) == len(spans.starts)


def is_subset(one: Spans, two: Spans) -> bool:
    """True if all codes of the first set are in the second."""
    starts, ends = two
    if len(one.starts) > FEW and contains(two, one.starts[0]) and _are_singles(two):
        return _are_singles(one) and set(starts).issuperset(one.starts)
    for start, end in zip(*one):
        at = bisect_right(starts, start) - 1
        if at < 0 or ends[at] < end:
            return False
    return True


def contains(spans: Spans, code: int) -> bool:
    """True if the code is in the set."""
    at = bisect_right(spans.starts, code) - 1
    return at >= 0 and code < spans.ends[at]


def cut(spans: Spans, counts: list[int], begin: int, end: int) -> Spans:
    """The codes at the positions from ``begin`` to ``end`` - 1.

    Args:
        spans: the set.
        counts: its cumulative_counts().
        begin: the first position wanted, counted from 0.
        end: the position after the last one wanted; at most the size of the set.
    """
    if begin >= end:
        return Spans([], [])
    first = bisect_right(counts, begin)
    last = bisect_right(counts, end - 1)
    starts, ends = spans.starts[first : last + 1], spans.ends[first : last + 1]
    starts[0] = spans.ends[first] - (counts[first] - begin)
    ends[-1] = spans.ends[last] - (counts[last] - end)
    return Spans(starts, ends)
