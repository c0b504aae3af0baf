"""The notation of node sets, ``node[1-9]-ib0,@login!node3``: text to terms.

A *term* is the text between two operators. It stands for names that differ only in their indices:
the text around the indices (the *literals*), and a set of indices for each gap between them. Groups
and wildcards are resolved in parser.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..exceptions import NodeSetParseError, NodeSetParseRangeError
from . import spans as sp
from .rangesyntax import ExpansionBudget, RangeSyntaxError, parse_ranges
from .spans import Spans

#: A host name has at most 253 characters, and so at most 127 numbers with something between them.
MAX_DIMENSIONS = 127

#: The number of characters of a pattern that error messages show at most.
_SHOWN = 60

_DIGITS = re.compile(r"([0-9]+)")
_SPECIAL = re.compile(r"[\[\],!&^]")
# The text after the bracket of an IPv6 address has two colons at least; ranges have none.
_ADDRESS = re.compile(r"[0-9A-Fa-f]{0,4}:[^\],!&^@/\s]*:")
_LEADING_DIGITS = re.compile(r"[0-9]*")
_NOT_PLAIN = re.compile(r"[\[\],!&^@*?\s]")
_PATTERN_PIECE = re.compile(r"%s|(?:%%|[^%])+")


class Term(NamedTuple):
    """The operator before a term, its literals, and the indices between them."""

    operator: str
    literals: tuple[str, ...]
    indices: tuple[Spans, ...]


def pattern_of(literals: tuple[str, ...]) -> str:
    """The literals as one format string, with %s for each index."""
    if any("%" in literal for literal in literals):
        literals = tuple(literal.replace("%", "%%") for literal in literals)
    return "%s".join(literals)


def literals_of(pattern: str) -> list[str]:
    """The text between the %s of a pattern; a percent sign stays doubled."""
    literals = [""]
    for piece in _PATTERN_PIECE.findall(pattern):
        if piece == "%s":
            literals.append("")
        else:
            literals[-1] = piece
    return literals


def split_name(name: str) -> tuple[tuple[str, ...], list[str]]:
    """The literals and the indices of a node's name."""
    pieces = _DIGITS.split(name)
    return tuple(pieces[::2]), pieces[1::2]


def is_plain(literals: tuple[str, ...]) -> bool:
    """True if names with these literals are plain: no operators, groups or wildcards."""
    return literals != ("",) and not _NOT_PLAIN.search("".join(literals))


def encode_name(name: str, indices: list[str]) -> tuple[int, ...]:
    """The codes of the indices of a name.

    Raises:
        NodeSetParseError: there are too many of them.
        NodeSetParseRangeError: one of them has too many digits.
    """
    if len(indices) > MAX_DIMENSIONS:
        raise NodeSetParseError(
            excerpt(name), f"too many numbers in a name: at most {MAX_DIMENSIONS} are supported"
        )
    try:
        return tuple([sp.encode(index) for index in indices])
    except ValueError as exc:
        raise NodeSetParseRangeError(excerpt(name), f"bad range: {exc}") from None


def excerpt(text: str, position: int = 0) -> str:
    """The text; if it is long, only the part around the position."""
    if len(text) <= _SHOWN:
        return text
    begin = max(0, min(position - _SHOWN // 2, len(text) - _SHOWN))
    end = begin + _SHOWN
    return ("..." if begin else "") + text[begin:end] + ("..." if end < len(text) else "")


def scan(text: str, budget: ExpansionBudget) -> Iterator[Term]:
    """Iterate over the terms of a pattern.

    Args:
        text: the pattern.
        budget: how many indices its ranges may add.

    Raises:
        NodeSetParseError: an operand is missing, or brackets do not match.
        NodeSetParseRangeError: the text between brackets is not a list of ranges.
    """
    position, operator = 0, ","
    if not text or text.isspace():
        return
    while True:
        try:
            term, position, following = _scan_term(text, position, operator, budget)
        except NodeSetParseError as exc:
            exc.pattern = text
            raise
        yield term
        if not following:
            return
        operator = following


def _scan_term(
    text: str, begin: int, operator: str, budget: ExpansionBudget
) -> tuple[Term, int, str]:
    """The term at a position, the position after the operator that ends it, and that operator."""
    literals: list[str] = []
    brackets: list[tuple[str, int]] = []
    start = position = begin
    following = ""
    address = -1  # the position of the bracket around an IPv6 address, if one is open
    while True:
        match = _SPECIAL.search(text, position)
        if address >= 0 and (match is None or match.group() not in "[]"):
            raise _error(text, address, "unbalanced bracket: expected a ']' after it")
        if match is None:
            literals.append(text[start:])
            break
        char, at = match.group(), match.start()
        if char == "]" and address >= 0:
            address, position = -1, at + 1
            continue
        if char == "[" and address < 0 and _opens_address(text, begin, at):
            # The brackets around an IPv6 address are part of the name.
            address, position = at, at + 1
            continue
        if char == "]":
            raise _error(text, at, "illegal closing bracket: expected a '[' before it")
        if char != "[":
            literals.append(text[start:at])
            following, position = char, at + 1
            break
        close = text.find("]", at)
        if close < 0:
            raise _error(text, at, "unbalanced bracket: expected a ']' after it")
        literals.append(text[start:at])
        brackets.append((text[at + 1 : close], at + 1))
        if len(brackets) > MAX_DIMENSIONS:
            raise _error(text, at, f"too many brackets in a name: at most {MAX_DIMENSIONS}")
        start = position = close + 1
    literals[0] = literals[0].lstrip()
    literals[-1] = literals[-1].rstrip()
    if literals == [""]:
        where = f"before {following!r}" if following else f"after {operator!r}"
        raise _error(text, begin, f"missing nodeset operand: expected a node set {where}")
    return Term(operator, *_resolve(text, literals, brackets, budget)), position, following


def _opens_address(text: str, begin: int, at: int) -> bool:
    """True if a bracket stands before an IPv6 address, at the beginning of the host's name."""
    before = text[begin:at].lstrip()
    return (not before or before[-1] in "@/") and _ADDRESS.match(text, at + 1) is not None


def _resolve(
    text: str, literals: list[str], brackets: list[tuple[str, int]], budget: ExpansionBudget
) -> tuple[tuple[str, ...], tuple[Spans, ...]]:
    """The literals without any digits, and the indices, of a term."""
    clean: list[str] = []
    indices: list[Spans] = []
    before = literals[0]
    for (body, at), after in zip(brackets, literals[1:]):
        trailing = _LEADING_DIGITS.match(after).group()  # type: ignore[union-attr]
        rest = after[len(trailing) :]
        if not rest and at != brackets[-1][1]:
            reopened = at + len(body) + 1 + len(after)
            raise _error(text, reopened, "illegal reopening bracket: expected text before it")
        if trailing and "/" in body:
            message = "illegal trailing digits after a range with steps: expected text"
            raise _error(text, at + len(body) + 1, message)
        stem = before.rstrip("0123456789")
        try:
            spans = parse_ranges(body, budget)
            if trailing:
                spans = _append_digits(spans, trailing, budget)
            if len(stem) < len(before):
                spans = _prepend_digits(spans, before[len(stem) :])
        except RangeSyntaxError as exc:
            place = f"at character {at + exc.position + 1} of {excerpt(text, at)!r}"
            raise NodeSetParseRangeError(excerpt(exc.part), f"bad range: {exc} {place}") from None
        except ValueError as exc:
            place = f"at character {at} of {excerpt(text, at)!r}"
            raise NodeSetParseRangeError(excerpt(body), f"bad range: {exc} {place}") from None
        _add_literal(stem, clean, indices)
        indices.append(spans)
        before = rest
    _add_literal(before, clean, indices)
    if len(indices) > MAX_DIMENSIONS:
        raise NodeSetParseError(
            excerpt(text), f"too many numbers in a name: at most {MAX_DIMENSIONS} are supported"
        )
    return tuple(clean), tuple(indices)


def _add_literal(literal: str, clean: list[str], indices: list[Spans]) -> None:
    """Add the text between two brackets, which may contain numbers."""
    names, numbers = split_name(literal)
    if numbers:
        indices += [Spans([code], [code + 1]) for code in encode_name(literal, numbers)]
    clean += names


def _append_digits(spans: Spans, digits: str, budget: ExpansionBudget) -> Spans:
    """The indices with digits appended: [1-3]5 is 15,25,35."""
    _check_digits(spans, digits)
    budget.spend(sp.count(spans))
    power, value = 10 ** len(digits), int(digits)
    codes: list[int] = []
    for length, firsts, stops in sp.blocks(spans):
        shift = sp.BASES[length + len(digits)] + value
        for first, stop in zip(firsts, stops):
            codes += range(first * power + shift, stop * power + shift, power)
    return sp.from_codes(codes)


def _prepend_digits(spans: Spans, digits: str) -> Spans:
    """The indices with digits prepended: 1[8-10] is 18,19,110."""
    _check_digits(spans, digits)
    starts: list[int] = []
    ends: list[int] = []
    for length, firsts, stops in sp.blocks(spans):
        shift = sp.BASES[length + len(digits)] + int(digits) * 10**length
        starts += [first + shift for first in firsts]
        ends += [stop + shift for stop in stops]
    return Spans(starts, ends)


def _check_digits(spans: Spans, digits: str) -> None:
    if spans.starts[0] < 0:
        raise ValueError("negative numbers cannot be joined with digits")
    if sp.digits_of(spans.starts[-1]) + len(digits) > sp.MAX_DIGITS:
        raise ValueError(f"a number of too many digits: at most {sp.MAX_DIGITS} are supported")


def _error(text: str, position: int, message: str) -> NodeSetParseError:
    return NodeSetParseError(
        excerpt(text, position), f"{message}, at character {position + 1} of the pattern"
    )
