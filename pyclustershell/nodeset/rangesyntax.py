"""The notation of ranges, ``1-9,015,0-8/2``: text to spans."""

from __future__ import annotations

import re

from . import spans as sp
from .spans import Spans

#: The most numbers of a single range. No cluster has so many nodes, and iterating over them would
#: take for ever.
MAX_SPAN = 10**9

#: The most indices that the ranges with a step of one pattern may have: they are not contiguous,
#: so each index costs memory.
MAX_STEPPED = 4_000_000

#: The longest text of one range, with some room for blanks.
_MAX_LENGTH = 3 * sp.MAX_DIGITS + 50

_RANGE = re.compile(
    r"(?P<minus>-?)\s*(?P<first>[0-9]+)"
    r"(?:\s*-\s*(?P<last_minus>-?)\s*(?P<last>[0-9]+))?"
    r"(?:\s*/\s*(?P<step>[0-9]+))?"
)

_EXPECTED = "expected a number, a range as 1-9, or a range with a step as 0-8/2"


class RangeSyntaxError(ValueError):
    """A range could not be parsed.

    Attributes:
        part: the faulty range.
        position: the index of its first character in the text.
    """

    def __init__(self, part: str, position: int, message: str) -> None:
        super().__init__(message)
        self.part = part
        self.position = position


class ExpansionBudget:
    """How many indices that are not contiguous one pattern may still have.

    Each of them costs memory: a hostile pattern ends with an error.
    """

    def __init__(self, stepped: int = MAX_STEPPED) -> None:
        self.stepped = stepped

    def spend(self, amount: int) -> None:
        """Take an amount from the budget.

        Raises:
            ValueError: less than that amount is left.
        """
        self.stepped -= amount
        if self.stepped < 0:
            raise ValueError(f"more than {MAX_STEPPED} numbers that are not contiguous")


def parse_ranges(text: str, budget: ExpansionBudget) -> Spans:
    """Parse ranges separated by commas.

    Args:
        text: the ranges, without brackets.
        budget: how many indices the ranges may add.

    Raises:
        RangeSyntaxError: the text is not a list of ranges, or the ranges are too large.
    """
    codes: list[int] = []
    ranges: list[Spans] = []
    position = 0
    for part in text.split(","):
        try:
            if part.isdigit() and part.isascii():
                codes.append(sp.encode(part))
            else:
                ranges.append(_parse_range(part.strip(), budget))
        except ValueError as exc:
            raise RangeSyntaxError(part.strip(), position, str(exc)) from None
        position += len(part) + 1
    if not ranges:
        return sp.from_codes(codes)
    if codes:
        ranges.append(sp.from_codes(codes))
    return ranges[0] if len(ranges) == 1 else sp.union_all(ranges)


def _parse_range(text: str, budget: ExpansionBudget) -> Spans:
    """Parse one range; raises ValueError."""
    if not text:
        raise ValueError("empty range: " + _EXPECTED)
    if len(text) > _MAX_LENGTH:
        raise ValueError("range too long: " + _EXPECTED)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError("invalid range: " + _EXPECTED)
    minus, first, last_minus, last, step = match.groups()
    start = sp.encode(minus + first)  # checks the number of digits and padding
    if last is None:
        if step is not None and int(step) != 1 and not minus:
            raise ValueError("a step needs a range: expected for instance 0-8/2")
        return Spans([start], [start + 1])
    stop = sp.encode(last_minus + last)
    padded = _is_padded(first) or _is_padded(last)
    if padded and minus:
        raise ValueError("padding is not supported in negative ranges")
    if padded and len(first) != len(last):
        raise ValueError(
            f"padding mismatch: expected {first!r} and {last!r} to have the same number of digits"
        )
    if start > stop:
        raise ValueError("invalid range: expected the smaller number first")
    low, high = int(minus + first), int(last_minus + last)
    if step is None and high - low < MAX_SPAN:
        return sp.between(start, stop)
    pad = len(first) if padded else 0
    return number_range(low, high + 1, int(step or 1), pad, budget)


def _is_padded(number: str) -> bool:
    return len(number) > 1 and number[0] == "0"


def number_range(start: int, stop: int, step: int, pad: int, budget: ExpansionBudget) -> Spans:
    """The indices of range(start, stop, step), padded to at least ``pad`` digits.

    Raises:
        ValueError: the range is empty or too large, the step is not positive, or an index has too
            many digits.
    """
    if start >= stop:
        raise ValueError("invalid range: expected the smaller number first")
    if step < 1:
        raise ValueError("invalid step: expected a positive number")
    if pad < 0:
        raise ValueError("invalid padding: expected zero or a positive number")
    if stop - start > MAX_SPAN:
        raise ValueError(f"range too large: at most {MAX_SPAN} numbers are supported")
    if step == 1:
        return sp.from_number_range(start, stop, pad)
    numbers = range(start, stop, step)
    budget.spend(len(numbers))
    # Within one block, the distance of two codes is that of their numbers.
    pieces: list[int] = []
    whole = sp.from_number_range(start, stop, pad)
    for first, end in zip(*whole):
        shift = sp.BASES[sp.digits_of(first)]
        offset = (start - (first - shift)) % step
        pieces += range(first + offset, end, step)
    return sp.from_codes(pieces)
