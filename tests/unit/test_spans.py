"""Sorted spans of codes, and range sets made of them, do what Python's sets do."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyclustershell.nodeset import lazyspans
from pyclustershell.nodeset import spans as sp
from pyclustershell.rangeset import RangeSet

reproducible = settings(max_examples=300, derandomize=True, deadline=None, database=None)

# Scattered codes, for which there are ways of their own, and codes that make long spans.
CODES = st.one_of(
    st.sets(st.integers(0, 40).map(lambda half: 2 * half), max_size=40),
    st.sets(st.integers(0, 40).map(lambda half: 2 * half + 1), max_size=40),
    st.sets(st.integers(0, 80), max_size=70),
    st.sets(st.integers(0, 10**6), max_size=40),
)


@pytest.mark.parametrize("name", ["union", "intersection", "difference", "symmetric_difference"])
@reproducible
@given(one=CODES, two=CODES)
def test_operations_are_those_of_sets(name: str, one: set[int], two: set[int]) -> None:
    first, second = sp.from_codes(one), sp.from_codes(two)
    before = sp.copy(first), sp.copy(second)
    result = getattr(sp, name)(first, second)
    expected = getattr(one, name)(two)
    assert list(sp.codes(result)) == sorted(expected)
    assert result == sp.from_codes(expected)  # no span touches another
    assert (first, second) == before
    assert sp.is_subset(first, second) == one.issubset(two)


@reproducible
@given(codes=st.lists(st.integers(0, 60)))
def test_spans_of_codes_in_any_order(codes: list[int]) -> None:
    spans = sp.from_codes(codes)
    assert list(sp.codes(spans)) == sorted(set(codes))
    assert all(end < start for end, start in zip(spans.ends, spans.starts[1:]))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "update", "ior", "itself", "discard", "look", "copy"]),
        st.sets(st.integers(0, 99), max_size=25),
    ),
    max_size=15,
)


@pytest.mark.parametrize("many", [5, lazyspans._MANY])
@reproducible
@given(steps=STEPS)
def test_what_is_added_waits_unseen(many: int, steps: list[tuple[str, set[int]]]) -> None:
    rangeset, model = RangeSet(), set[int]()
    copies = []
    with mock.patch.object(lazyspans, "_MANY", many):
        for what, numbers in steps:
            if what == "add":
                for number in numbers:
                    rangeset.add(number)
                model |= numbers
            elif what == "update":
                rangeset.update(numbers)
                model |= numbers
            elif what == "ior":
                rangeset |= RangeSet(numbers)
                model |= numbers
            elif what == "itself":
                rangeset.update(rangeset)
            elif what == "discard":
                for number in numbers:
                    rangeset.discard(number)
                model -= numbers
            elif what == "copy":
                copies.append((rangeset.copy(), set(model)))
            else:
                assert (len(rangeset), list(rangeset.intiter())) == (len(model), sorted(model))
            assert bool(rangeset) == bool(model)
    assert set(rangeset.intiter()) == model
    for other, numbers in copies:
        assert set(other.intiter()) == numbers
