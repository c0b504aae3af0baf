"""LazySpans: the contents of a RangeSet, with additions that are sorted in later."""

from __future__ import annotations

from . import spans as sp
from .spans import Spans

#: Added spans are merged when the set is read, or when there are this many more than in the set.
_MANY = 10_000


class LazySpans:
    """A set of codes that merges additions when it is next read.

    Scripts add thousands of indices and sets one by one. Sorting each into a long list is slow;
    sorting all of them at once costs as much as sorting one.
    """

    __slots__ = (
        "_counts",
        "_is_shared",
        "_merged",
        "_pending_codes",
        "_pending_spans",
        "_was_read",
    )

    def _reset(self, spans: Spans) -> None:
        """Replace the contents by these spans, which other sets may share."""
        self._merged = spans
        # True if other sets may hold the same lists: they must not be changed in place.
        self._is_shared = True
        # Indices added one by one, and whether the set was read since. See _add_code().
        self._pending_codes: list[int] = []
        self._was_read = False
        # The spans of added sets, unsorted. See _unite().
        self._pending_spans: Spans | None = None
        self._counts: list[int] | None = None

    def _current(self) -> Spans:
        """The set as spans, for reading only."""
        if self._pending_codes or self._pending_spans is not None:
            self._merge_pending()
        self._was_read = True
        return self._merged

    def _merge_pending(self) -> None:
        """Merge all pending additions into the set."""
        # Several threads may read the set at once. So the lists are not changed in place. The
        # pending additions are read before the merged spans and cleared after these are set: at
        # worst, two threads merge the same additions.
        pending_spans, pending_codes = self._pending_spans, self._pending_codes
        merged = self._merged
        if pending_spans is not None and len(pending_spans.starts) > sp.FEW:
            merged = sp.union_all((merged, pending_spans))
        elif pending_spans is not None:
            merged = sp.union(merged, sp.union_all((pending_spans,)))
        self._merged = sp.union(merged, sp.from_codes(pending_codes))
        self._is_shared = False
        self._pending_codes = []
        self._pending_spans = None

    def _add_code(self, code: int) -> None:
        """Add an index by its code.

        Scripts add thousands of indices one by one. Inserting each into a long list is slow, so
        they are merged together when the set is next read. But if a script reads the set after
        each addition, only one index is pending at a time: it is then inserted at once.
        """
        if self._was_read:
            sp.insert(self._writable(), code, code + 1)
            self._was_read = False
        else:
            self._pending_codes.append(code)
        self._counts = None

    def _unite(self, spans: Spans) -> None:
        """Add spans; like _add_code(), for scripts that add one set after the other."""
        if not spans.starts:
            return
        self._counts = None
        if self._pending_spans is None:
            self._pending_spans = sp.copy(spans)
        else:
            self._pending_spans.starts.extend(spans.starts)
            self._pending_spans.ends.extend(spans.ends)
        if len(self._pending_spans.starts) > _MANY + len(self._merged.starts):
            self._merge_pending()  # they may be the same spans over and over

    def _writable(self) -> Spans:
        """The set as spans that the caller may change in place."""
        self._current()
        self._counts = None
        if self._is_shared:
            self._merged = sp.copy(self._merged)
            self._is_shared = False
        return self._merged

    @property
    def _spans(self) -> Spans:
        """The set as spans that the caller may keep: they will not change."""
        self._current()
        self._is_shared = True
        return self._merged

    @_spans.setter
    def _spans(self, spans: Spans) -> None:
        self._reset(spans)

    def _cumulative_counts(self) -> list[int]:
        """spans.cumulative_counts() of this set, computed once after each change."""
        spans = self._current()
        if self._counts is None:
            self._counts = sp.cumulative_counts(spans)
        return self._counts
