"""Near names, for errors about names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[object], similarity: float = 0.6) -> str:
    """Return the end of an error message: ``: did you mean 'fanout'?``, or an empty string.

    Args:
        name: the name that does not exist.
        known: the names that exist. Only strings count.
        similarity: how similar a name must be, from 0 to 1; see difflib.get_close_matches().
    """
    if not isinstance(name, str):
        return ""
    import difflib  # only needed for errors

    names = [it for it in known if isinstance(it, str)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=similarity)
    return f": did you mean {near[0]!r}?" if near else ""
