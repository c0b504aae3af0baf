"""The value of --axis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from ..defaults import DEFAULTS
from ..rangeset import RangeSet

#: What the value should be, for messages.
AXIS_WANTED = "write ranges of dimensions, counted from 1, or one negative number"


def parse_fold_axis(text: str) -> tuple[int, ...]:
    """The dimensions that --axis names, as NodeSet.fold_axis has them.

    Args:
        text: numbers and ranges, counted from 1; 0 stands for no dimension. Or one negative
            number, counted from the end.

    Raises:
        RangeSetParseError, ValueError: the text is neither.
    """
    if text.startswith("-"):
        return (int(text),)
    return tuple(axis - 1 for axis in RangeSet(text).intiter() if axis > 0)


@contextmanager
def folded_along(text: Optional[str]) -> Iterator[None]:
    """Fold all node sets along some dimensions only, while the with block lasts.

    Args:
        text: the value of --axis; None or '': change nothing. Errors as in parse_fold_axis().
    """
    if not text:
        yield
        return
    before = DEFAULTS.fold_axis
    DEFAULTS.fold_axis = parse_fold_axis(text)
    try:
        yield
    finally:
        DEFAULTS.fold_axis = before
