"""Patterns of host names: ssh_config(5), PATTERNS."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def lower_ascii(text: str) -> str:
    """Return the text with A to Z in lower case, as OpenSSH folds host names.

    ``str.lower`` also folds other letters, some of them to ASCII: the Kelvin sign becomes 'k'.
    """
    return text.lower() if text.isascii() else text.translate(_LOWER)


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of ssh_config(5) PATTERNS: only ``*`` and ``?`` are special."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped, re.DOTALL)


def matches(text: str, pattern: str) -> bool:
    """True if the whole text matches this pattern of ``*`` and ``?``."""
    if "*" not in pattern and "?" not in pattern:
        return (
            text == pattern
        )  # mostly the name of a node: a regular expression each would cost more
    return _pattern(pattern).fullmatch(text) is not None


def matches_list(text: str, patterns: Iterable[str]) -> bool:
    """True if the text matches a pattern, and none of those negated by a leading ``!``."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if matches(text, pattern[1:]):
                return False
        elif not found:
            found = matches(text, pattern)
    return found
