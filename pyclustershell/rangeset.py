"""Sets of node indices: RangeSet of one dimension, RangeSetND of several, and their errors."""

from __future__ import annotations

from .exceptions import RangeSetException, RangeSetPaddingError, RangeSetParseError
from .nodeset.rangeset1d import AUTOSTEP_DISABLED, RangeSet
from .nodeset.rangesetnd import RangeSetND

__all__ = [
    "AUTOSTEP_DISABLED",
    "RangeSet",
    "RangeSetException",
    "RangeSetND",
    "RangeSetPaddingError",
    "RangeSetParseError",
]
