"""What a RangeSet holds: spans, and what was added to them and has not been sorted in yet."""

from __future__ import annotations

from . import spans as sp
from .spans import Spans

#: What was added waits until the set is looked at, or has so many more spans than the set.
_MANY = 10_000


class LazySpans:
    """A set of codes, whose additions wait until it is looked at.

    Scripts add indices and sets one by one, thousands of them. Sorting each into a long list is
    slow; together they cost as much as one.
    """

    __slots__ = ("_joining", "_known", "_looked", "_pending", "_ranks", "_shared")

    def _hold(self, spans: Spans) -> None:
        """Be these spans from now on, which others may hold as well."""
        self._known = spans
        # Whether others may hold the same lists, so that they must not be changed in place.
        self._shared = True
        # Indices added one by one, and whether the set was looked at since. See _add_code().
        self._pending: list[int] = []
        self._looked = False
        # Sets that were added, unsorted. See _unite().
        self._joining: Spans | None = None
        self._ranks: list[int] | None = None

    def _current(self) -> Spans:
        """The set as spans, for looking only."""
        if self._pending or self._joining is not None:
            self._take_in()
        self._looked = True
        return self._known

    def _take_in(self) -> None:
        """Put what waits into the set."""
        # Several threads may look. So the lists are not changed in place; what waits is read before
        # what is known, and forgotten after that is set: at worst, it is taken in twice.
        joining, pending = self._joining, self._pending
        known = self._known
        if joining is not None and len(joining.starts) > sp.FEW:
            known = sp.union_all((known, joining))
        elif joining is not None:
            known = sp.union(known, sp.union_all((joining,)))
        self._known = sp.union(known, sp.from_codes(pending))
        self._shared = False
        self._pending = []
        self._joining = None

    def _add_code(self, code: int) -> None:
        """Add an index by its code.

        Adding indices one by one, thousands of them, is what scripts do. Putting each in its place
        in a long list is slow; so they wait until the set is looked at, and go in together. But
        where a script looks after each of them, there is only one at a time, to put in its place.
        """
        if self._looked:
            sp.put(self._own(), code, code + 1)
            self._looked = False
        else:
            self._pending.append(code)
        self._ranks = None

    def _unite(self, spans: Spans) -> None:
        """Add spans; as _add_code(), for scripts that add one set after the other."""
        if not spans.starts:
            return
        self._ranks = None
        if self._joining is None:
            self._joining = sp.copy(spans)
        else:
            self._joining.starts.extend(spans.starts)
            self._joining.ends.extend(spans.ends)
        if len(self._joining.starts) > _MANY + len(self._known.starts):
            self._take_in()  # for they may be the same spans over and over

    def _own(self) -> Spans:
        """The set as spans that may be changed in place."""
        self._current()
        self._ranks = None
        if self._shared:
            self._known = sp.copy(self._known)
            self._shared = False
        return self._known

    @property
    def _spans(self) -> Spans:
        """The set as spans, for keeping: they will not change."""
        self._current()
        self._shared = True
        return self._known

    @_spans.setter
    def _spans(self, spans: Spans) -> None:
        self._hold(spans)

    def _positions(self) -> list[int]:
        """spans.positions() of this set, computed once between two changes."""
        spans = self._current()
        if self._ranks is None:
            self._ranks = sp.positions(spans)
        return self._ranks
