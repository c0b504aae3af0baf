"""Sets of node indices as sorted spans of integers: the arithmetic under RangeSet.

An index is what stands for a number in a node's name: ``7``, ``07`` and ``007`` are three different
indices, and they sort by length first, then by value. Each index has an integer *code*, in the same
order. All indices of one length form a block of consecutive codes::

    length 1 (and negative numbers)    0 ..  9           code = value
    length 2                          00 .. 99           code = value + 11
    length 3                         000 .. 999          code = value + 112
    ...

One code is left out between two blocks, so that codes of different lengths are never neighbours.
A set of indices is then two lists, ``starts`` and ``ends``: sorted, half-open spans of codes that
neither overlap nor touch. ``1-100000`` is six spans, and most operations cost what the number of
spans costs. The functions here leave the work on long lists to sorted(), map() and compress(),
which run at the speed of C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, compress, islice
from operator import gt, lt, sub
from typing import NamedTuple

#: Indices of more digits are refused: no node name needs them, and big numbers cost time.
MAX_DIGITS = 100

#: By length: code minus value. (Length 0 does not occur.)
_BASES = [0, 0]
for _digits in range(1, MAX_DIGITS + 1):
    _BASES.append(_BASES[-1] + 10**_digits + 1)
BASES = tuple(_BASES[: MAX_DIGITS + 1])

#: Up to so many spans, putting one after the other into a set is quicker than a merge.
_FEW = 8

_INFINITY = float("inf")


class Spans(NamedTuple):
    """A set of codes. The lists are never changed in place by the functions of this module."""

    starts: list[int]
    ends: list[int]


def digits_of(code: int) -> int:
    """The length of the indices in the block of this code; 1 for negative ones too."""
    return max(1, bisect_right(BASES, code, 2) - 1)


def encode(index: str) -> int:
    """The code of an index.

    Raises:
        ValueError: it is not a number of ASCII digits, with a minus sign or not; it has more than
            MAX_DIGITS digits; or it is a negative number with leading zeros.
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
    """The code of a number, zero-padded to ``pad`` digits; see encode() for what is raised."""
    if number < 0 and pad > len(str(number)) - 1:
        raise ValueError(f"padding is not supported in negative numbers: {number}")
    return encode(f"{number:0{pad}d}" if pad > 0 else str(number))


def decode(code: int) -> str:
    """The index of a code."""
    digits = digits_of(code)
    return f"{code - BASES[digits]:0{digits}d}"


def blocks(spans: Spans) -> Iterator[tuple[int, list[int], list[int]]]:
    """Iterate over (length, first values, values after the last) of each length in the set."""
    starts, ends = spans
    begin = 0
    while begin < len(starts):
        digits = digits_of(starts[begin])
        base = BASES[digits]
        if digits < MAX_DIGITS and starts[-1] >= BASES[digits + 1]:
            end = bisect_right(starts, BASES[digits + 1] - 1, begin)
        else:
            end = len(starts)
        if base:
            firsts = [start - base for start in starts[begin:end]]
            yield digits, firsts, [stop - base for stop in ends[begin:end]]
        else:
            yield digits, starts[begin:end], ends[begin:end]
        begin = end


def values(spans: Spans) -> Iterator[int]:
    """Iterate over the numbers, in the order of the indices; padding is lost."""
    return chain.from_iterable(
        chain.from_iterable(map(range, firsts, stops)) for _, firsts, stops in blocks(spans)
    )


def indices(spans: Spans, prefix: str = "", suffix: str = "") -> Iterator[str]:
    """Iterate over the indices in order, each between these texts (in which % is written %%)."""
    return chain.from_iterable(
        map(
            f"{prefix}%0{digits}d{suffix}".__mod__,
            chain.from_iterable(map(range, firsts, stops)),
        )
        for digits, firsts, stops in blocks(spans)
    )


def codes(spans: Spans) -> Iterator[int]:
    """Iterate over the codes."""
    return chain.from_iterable(map(range, *spans))


def count(spans: Spans) -> int:
    """The number of indices in the set."""
    return sum(spans.ends) - sum(spans.starts)


def positions(spans: Spans) -> list[int]:
    """By span: the number of indices up to and including it."""
    return list(accumulate(map(sub, spans.ends, spans.starts)))


def from_number_range(start: int, stop: int, pad: int = 0) -> Spans:
    """The indices of the numbers from start to stop - 1, each padded to at least ``pad`` digits.

    Raises:
        ValueError: as encode() does.
    """
    last = stop - 1
    first_code, last_code = encode_number(start, pad), encode_number(last, pad)
    first_digits, last_digits = digits_of(first_code), digits_of(last_code)
    starts, ends = [], []
    for digits in range(first_digits, last_digits + 1):
        base = BASES[digits]
        starts.append(first_code if digits == first_digits else base + 10 ** (digits - 1))
        ends.append(last_code + 1 if digits == last_digits else base + 10**digits)
    return Spans(starts, ends)


def from_codes(unsorted: Iterable[int]) -> Spans:
    """The set of these codes, given in any order, with repetitions or without."""
    starts = sorted(unsorted)
    return _join(starts, [code + 1 for code in starts])


def _join(starts: list[int], ends: list[int]) -> Spans:
    """The union of spans of which the starts and the ends have been sorted, each for themselves.

    That loses which end belongs to which start, but not what the union is: if the i-th start lies
    after the (i-1)-th end, then i spans began before it and all of them have ended: a gap.
    """
    if len(starts) <= 1:
        return Spans(starts, ends)
    gaps = list(map(gt, islice(starts, 1, None), ends))
    return Spans(
        starts[:1] + list(compress(islice(starts, 1, None), gaps)),
        list(compress(ends, gaps)) + ends[-1:],
    )


def union(one: Spans, two: Spans) -> Spans:
    """The codes in either set."""
    if len(one.starts) < len(two.starts):
        one, two = two, one
    if len(two.starts) > _FEW:
        return union_all((one, two))
    for start, end in zip(*two):
        one = added(one, start, end)
    return one


def union_all(sets: Iterable[Spans]) -> Spans:
    """The codes in any of the sets. Spans may touch or overlap, also within one set."""
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

    With starts and ends sorted as in _join(), and at most two spans covering any code: if the i-th
    start lies before the (i-1)-th end, then two spans are open there, until that end.
    """
    starts = sorted(one.starts + two.starts)
    ends = sorted(one.ends + two.ends)
    overlaps = list(map(lt, islice(starts, 1, None), ends))
    return Spans(
        list(compress(islice(starts, 1, None), overlaps)),
        list(compress(ends, overlaps)),
    )


def difference(one: Spans, two: Spans) -> Spans:
    """The codes in the first set that are not in the second."""
    if not one.starts or len(two.starts) <= _FEW:
        for start, end in zip(*two):
            one = removed(one, start, end)
        return one
    # What is not in `two` lies between its spans, and on both sides of them.
    outside: Spans = Spans([-_INFINITY, *two.ends], [*two.starts, _INFINITY])  # type: ignore[list-item]
    return intersection(one, outside)


def symmetric_difference(one: Spans, two: Spans) -> Spans:
    """The codes in exactly one of the sets.

    Membership changes at the start and at the end of a span. It changes in the result where it
    changes in one set and not in the other at the same time.
    """
    edges = sorted({*one.starts, *one.ends} ^ {*two.starts, *two.ends})
    return Spans(edges[::2], edges[1::2])


def added(spans: Spans, start: int, end: int) -> Spans:
    """The set with the codes from start to end - 1: union() with one span, for large sets."""
    starts, ends = spans
    first = bisect_left(ends, start)
    after = bisect_right(starts, end)
    if first < after:
        start, end = min(start, starts[first]), max(end, ends[after - 1])
    return Spans(
        [*starts[:first], start, *starts[after:]],
        [*ends[:first], end, *ends[after:]],
    )


def removed(spans: Spans, start: int, end: int) -> Spans:
    """The set without the codes from start to end - 1: difference() with one span."""
    starts, ends = spans
    first = bisect_right(ends, start)
    after = bisect_left(starts, end)
    if first >= after:
        return spans
    kept = [(starts[first], start), (end, ends[after - 1])]
    kept = [(begin, stop) for begin, stop in kept if begin < stop]
    return Spans(
        [*starts[:first], *(begin for begin, _ in kept), *starts[after:]],
        [*ends[:first], *(stop for _, stop in kept), *ends[after:]],
    )


def contains(spans: Spans, code: int) -> bool:
    """Whether the code is in the set."""
    at = bisect_right(spans.starts, code) - 1
    return at >= 0 and code < spans.ends[at]


def cut(spans: Spans, ranks: list[int], begin: int, end: int) -> Spans:
    """The codes from position ``begin`` up to before ``end``.

    Args:
        spans: the set.
        ranks: its positions().
        begin: the first position wanted, counted from 0.
        end: the position after the last one wanted; at most the size of the set.
    """
    if begin >= end:
        return Spans([], [])
    first = bisect_right(ranks, begin)
    last = bisect_right(ranks, end - 1)
    starts, ends = spans.starts[first : last + 1], spans.ends[first : last + 1]
    starts[0] = spans.ends[first] - (ranks[first] - begin)
    ends[-1] = spans.ends[last] - (ranks[last] - end)
    return Spans(starts, ends)
