"""ClusterShell's sentences about wrong patterns.

This package's own errors say more: the position, and what was expected there. But scripts and
people know ClusterShell's, so the programs under its names print them. They name the part of the
pattern at which ClusterShell's scanner stops, so that scanner is followed here, for a pattern that
is known to be wrong.
"""

from __future__ import annotations

import re
from typing import Optional

from ..exceptions import RangeSetParseError
from ..rangeset import RangeSet

_OPERATOR = re.compile(r"[,!&^]")
_NUMBER = re.compile(r"[0-9]+")


def _fault(sentence: str, part: str) -> ValueError:
    """The error at which the scanner stops. Its text is the whole sentence."""
    return ValueError(f'{sentence}: "{part}"' if part else sentence)


def pattern_error(pattern: str) -> Optional[str]:
    """ClusterShell's sentence about a wrong node set pattern; None if it would accept it."""
    rest: Optional[str] = pattern.strip().replace("%", "%%")  # its patterns are formats
    try:
        while rest:
            rest = _term(rest.lstrip())
    except ValueError as fault:
        return str(fault)
    return None


def range_error(pattern: str) -> Optional[str]:
    """ClusterShell's sentence about a wrong range set; None if it would accept it."""
    for part in map(str.strip, pattern.split(",")):
        sentence = _range_fault(part)
        if sentence is not None:
            return f'{sentence} : "{part}"' if part else sentence
    return None


def _term(text: str) -> Optional[str]:
    """Check the first term of a pattern; returns the text after its operator."""
    operator = _OPERATOR.search(text)
    bracket = text.find("[")
    if bracket >= 0 and (operator is None or bracket < operator.start()):
        return _bracketed(text)
    if operator is None:
        name, rest = text, None
    else:
        name, rest = text[: operator.start()], text[operator.end() :]
        if not name or not rest:
            sentence = f"missing nodeset operand with '{operator[0]}' operator"
            raise _fault(sentence, name or rest)
    if "]" in name:
        raise _fault("illegal closing bracket", name)
    if not name.rstrip():
        raise ValueError("parse error")
    return rest


def _bracketed(text: str) -> Optional[str]:
    """Check a term with brackets; returns the text after its operator."""
    after = text
    while True:
        operator = _OPERATOR.search(after)
        bracket = after.find("[")
        if bracket < 0 or (operator is not None and operator.start() < bracket):
            break
        before, _, after = after.partition("[")
        inside, close, after = after.partition("]")
        if not close:
            raise _fault("missing bracket", text)
        if "]" in before:
            raise _fault("illegal closing bracket", before)
        closing, opening = after.find("]"), after.find("[")
        if closing >= 0 and (opening < 0 or closing < opening):
            raise _fault("illegal closing bracket", after)
        inside, after = _with_digits_after(inside, after)
        inside = _with_digits_before(before, inside)
        if after.startswith("["):
            raise _fault("illegal reopening bracket", after)
        _check_ranges(inside)
    operator = _OPERATOR.search(after)
    if operator is None:
        return None
    rest = after[operator.end() :]
    if not rest:
        raise ValueError(f"missing nodeset operand with '{operator[0]}' operator")
    return rest


def _check_ranges(text: str) -> None:
    sentence = range_error(text)
    if sentence is not None:
        raise _fault("bad range", sentence)


def _with_digits_after(inside: str, after: str) -> tuple[str, str]:
    """The ranges with the digits that follow the bracket, and the text after these."""
    digits = _NUMBER.match(after)
    if digits is None:
        return inside, after
    if "/" in inside:
        raise _fault("illegal trailing digits after range with steps", after)
    parts = []
    for part in inside.split(","):
        ends = [end + digits[0] for end in part.split("-")]
        step = "/1" + "0" * len(digits[0]) if len(ends) > 1 else ""
        parts.append("-".join(ends) + step)
    return ",".join(parts), after[digits.end() :]


def _with_digits_before(before: str, inside: str) -> str:
    """The ranges with the digits that stand before the bracket."""
    digits = before[len(before.rstrip("0123456789")) :]
    if not digits:
        return inside
    _check_ranges(inside)
    try:
        parts = [str(part) for part in RangeSet(inside).contiguous()]
    except RangeSetParseError:
        return inside  # only this package refuses it
    return ",".join("-".join(digits + end for end in part.split("-")) for part in parts)


def _range_fault(part: str) -> Optional[str]:
    """The sentence about one range; None if ClusterShell accepts it."""
    base, slash, step_text = part.partition("/")
    step = _integer(step_text) if slash else 1
    if step is None:
        return "cannot convert string to integer"
    first, last, minus_first, minus_last = base, base, False, False
    ends = [end.strip() for end in base.split("-")]
    if len(ends) == 1:
        if step != 1:
            return "invalid step usage"
    elif len(ends) == 2:
        first, last = ends
        if not first:  # a negative number
            first, minus_first, minus_last = last, True, True
    elif len(ends) == 3:
        _, first, last = ends
        minus_first = True
    elif len(ends) == 4:
        _, first, _, last = ends
        minus_first = minus_last = True
    start, stop = _integer(first), _integer(last)
    if start is None or stop is None:
        return "cannot convert string to integer" if part else "empty range"
    padded = first != "0" and first.startswith("0")
    last_padded = stop != 0 and last.startswith("0")
    if (padded or last_padded) and len(first) != len(last):
        return "padding length mismatch"
    if padded and minus_first:
        return "padding not supported in negative ranges"
    start, stop = (-start if minus_first else start), (-stop if minus_last else stop)
    return "invalid values in range" if start > stop or step < 1 else None


def _integer(text: str) -> Optional[int]:
    try:
        return int(text)
    except ValueError:
        return None
