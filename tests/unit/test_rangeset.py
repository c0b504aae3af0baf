"""RangeSet and RangeSetND, as sets of indices. tests/oracle/test_nodeset.py compares them with
ClusterShell's."""

from __future__ import annotations

import copy
import pickle
from random import Random

import pytest

from pyclustershell.exceptions import RangeSetParseError
from pyclustershell.rangeset import AUTOSTEP_DISABLED, RangeSet, RangeSetND


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("3", "3"),
        ("1-5", "1-5"),
        (" 1 - 5 , 7 ", "1-5,7"),
        ("5,3,4,4", "3-5"),
        ("0-8/2", "0,2,4,6,8"),
        ("8-12", "8-12"),
        ("001-010", "001-010"),
        ("1-3,001-003", "1-3,001-003"),
        ("099-101,1099", "099-101,1099"),
        ("98-102,098-102", "98-99,098-102"),
        ("-3", "-3"),
        ("-3-2", "-3-2"),
        ("-8--4", "-8--4"),
        ("5/1", "5"),
        ("10000000000-10000000003", "10000000000-10000000003"),
    ],
)
def test_patterns_are_written_folded(pattern: str, expected: str) -> None:
    assert str(RangeSet(pattern)) == expected


def test_padding_makes_different_indices_ordered_by_length() -> None:
    assert list(RangeSet("8-11,08-11,009")) == ["8", "9", "08", "09", "10", "11", "009"]
    assert list(RangeSet("8-11,08-11").intiter()) == [8, 9, 8, 9, 10, 11]
    assert 9 in RangeSet("9")
    assert 9 not in RangeSet("09")
    assert "09" in RangeSet("09")


@pytest.mark.parametrize(
    ("pattern", "part", "place"),
    [
        ("", "", "at character 1"),
        ("1,,2", "", "at character 3"),
        ("1,5-", "5-", "at character 3"),
        ("5-1", "5-1", "smaller number first"),
        ("1-5/0", "1-5/0", "positive"),
        ("5/2", "5/2", "needs a range"),
        ("01-005", "01-005", "same number of digits"),
        ("-05", "-05", "padding"),
        ("-05-3", "-05-3", "padding"),
        ("1-2-3", "1-2-3", "expected a number"),
        ("x", "x", "expected a number"),
        ("1_0", "1_0", "expected a number"),
        ("\u0663", "\u0663", "expected a number"),
        ("1-99999999999", "1-99999999999", "too large"),
        ("0-999999998/2", "0-999999998/2", "not contiguous"),
        ("1" * 101, "1" * 101, "digits"),
        ("1" * 10_000, "1" * 10_000, "digits"),
    ],
)
def test_errors_name_the_part_and_the_place(pattern: str, part: str, place: str) -> None:
    with pytest.raises(RangeSetParseError) as caught:
        RangeSet(pattern)
    assert caught.value.part == part
    assert place in str(caught.value)


def test_making_range_sets_of_other_things() -> None:
    assert str(RangeSet()) == ""
    assert str(RangeSet([3, "5-7", 4])) == "3-7"
    assert str(RangeSet(RangeSet("1-3"))) == "1-3"
    assert not RangeSet([])
    assert str(RangeSet.fromlist(["1-3", RangeSet("9"), [5]])) == "1-3,5,9"
    assert str(RangeSet.fromone(7, pad=3)) == "007"
    assert str(RangeSet.fromone("07")) == "07"
    assert str(RangeSet.fromone(slice(1, 9, 2), autostep=3)) == "1-7/2"
    with pytest.raises(ValueError, match="slice"):
        RangeSet.fromone(slice(None))


def test_autostep() -> None:
    indices = RangeSet("0,2,4,6,10", autostep=3)
    assert str(indices) == "0-6/2,10"
    assert indices.autostep == 3
    assert list(indices.slices()) == [slice(0, 7, 2), slice(10, 11, 1)]
    indices.autostep = 5
    assert str(indices) == "0,2,4,6,10"
    indices.autostep = None
    assert indices.autostep is None
    indices.autostep = AUTOSTEP_DISABLED
    assert indices.autostep is None


def test_contiguous_takes_no_steps() -> None:
    parts = RangeSet("0-6/2,8-12,010-012", autostep=3).contiguous()
    assert list(map(str, parts)) == ["0", "2", "4", "6", "8-12", "010-012"]


def test_padding_property() -> None:
    indices = RangeSet("1-3,09,100")
    assert indices.padding == 2
    indices.padding = 4
    assert str(indices) == "0001-0003,0009,0100"
    indices.padding = None
    assert (str(indices), indices.padding) == ("1-3,9,100", None)


def test_index_and_slice() -> None:
    indices = RangeSet("1-5,010-020")
    assert (indices[0], indices[5], indices[-1]) == ("1", "010", "020")
    assert str(indices[3:7]) == "4-5,010-011"
    assert str(indices[::-5]) == "1,010,015,020"
    assert str(indices[9:3]) == ""
    assert indices.index("010") == 5
    assert indices.index(5) == 4
    assert indices.index("010", -11) == 5
    for wanted, start in [("10", 0), ("010", 6), ("x", 0)]:
        with pytest.raises(ValueError, match="not in RangeSet"):
            indices.index(wanted, start)
    with pytest.raises(IndexError):
        indices[16]
    with pytest.raises(TypeError):
        indices["1"]  # type: ignore[call-overload]


def test_split() -> None:
    assert list(map(str, RangeSet("1-5,7").split(4))) == ["1-2", "3-4", "5", "7"]
    assert list(map(str, RangeSet("1-2").split(4))) == ["1", "2"]
    with pytest.raises(ValueError, match="positive"):
        RangeSet("1-2").split(0)


def test_set_operations_in_all_forms() -> None:
    one, two = RangeSet("1-5,010"), RangeSet("4-8,10")
    expected = {"|": "1-8,10,010", "&": "4-5", "-": "1-3,010", "^": "1-3,6-8,10,010"}
    assert {
        "|": str(one | two),
        "&": str(one & two),
        "-": str(one - two),
        "^": str(one ^ two),
    } == expected
    for name, method in [
        ("|", RangeSet.update),
        ("&", RangeSet.intersection_update),
        ("-", RangeSet.difference_update),
        ("^", RangeSet.symmetric_difference_update),
    ]:
        changed = one.copy()
        method(changed, two)
        assert str(changed) == expected[name]
    changed = one
    changed |= two
    changed -= RangeSet("1")
    changed &= RangeSet("1-9")
    changed ^= RangeSet("9")
    assert changed is one
    assert str(changed) == "2-9"
    assert str(RangeSet("1-3").union([5, "07"])) == "1-3,5,07"
    with pytest.raises(TypeError):
        one |= [1]  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        RangeSet("1") | [1]  # type: ignore[operator]
    with pytest.raises(TypeError):
        RangeSet("1").update("2")


@pytest.mark.parametrize("most", [40, 400, 4000], ids=["dense", "mixed", "sparse"])
def test_operations_on_many_ranges_are_those_of_sets(most: int) -> None:
    random = Random(most)  # noqa: S311
    for _ in range(100):
        numbers = [set(random.choices(range(most), k=random.randrange(200))) for _ in range(2)]
        numbers.append(numbers[0] | numbers[1])
        sets = [RangeSet(each) for each in numbers]
        for one, theirs in zip(sets, numbers):
            for two, others in zip(sets, numbers):
                assert one | two == RangeSet(theirs | others)
                assert one & two == RangeSet(theirs & others)
                assert one - two == RangeSet(theirs - others)
                assert one ^ two == RangeSet(theirs ^ others)
                assert (one <= two) == (theirs <= others)
                assert (one == two) == (theirs == others)
            assert sorted(map(int, one)) == sorted(theirs)
            assert list(one[3:90]) == list(one)[3:90]


def test_changes_one_by_one_are_those_of_sets() -> None:
    random = Random(1)  # noqa: S311
    indices, numbers = RangeSet(), set[int]()
    for number in random.choices(range(300), k=3000):
        if random.random() < 0.5:
            indices.add(number)
            numbers.add(number)
        elif number in numbers:
            assert number in indices
            indices.remove(number)
            numbers.remove(number)
        else:
            indices.discard(number)
        if number < 30:
            assert set(indices.intiter()) == numbers
            assert len(indices) == len(numbers)
    assert indices == RangeSet(numbers)


def test_comparisons() -> None:
    small, large = RangeSet("2-3"), RangeSet("1-5")
    assert small < large
    assert small <= large
    assert large > small
    assert large >= small
    assert small != large
    assert small in large
    assert small.issubset(large)
    assert {"2", "3"} == set(small)
    assert RangeSet("1-5") == large
    assert large not in small
    assert {2, 9} not in large
    assert RangeSet("1") != "1"
    with pytest.raises(TypeError):
        _ = small < [1]  # type: ignore[operator]
    with pytest.raises(TypeError):
        hash(small)


def test_single_indices() -> None:
    indices = RangeSet()
    for number in (5, 3, 4):
        indices.add(number)
    indices.add("07")
    indices.add(7, pad=3)
    assert str(indices) == "3-5,07,007"
    indices.remove(4)
    indices.discard("07")
    indices.discard("nothing")
    indices.discard(4)
    assert str(indices) == "3,5,007"
    for absent in ("07", "x", "", "1-3", "-", "1,2", "-05"):
        with pytest.raises(KeyError, match=f"^'{absent}'$"):
            indices.remove(absent)
    with pytest.raises(TypeError):
        indices.remove(None)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        indices.difference_update(RangeSet("3,9"), strict=True)
    assert str(indices) == "3,5,007"
    for wrong in ("x", "-05", "1" * 101):
        with pytest.raises(ValueError, match=r"index|padding|digits"):
            indices.add(wrong)
    indices.add_range(10, 20, step=5, pad=3)
    assert str(indices) == "3,5,007,010,015"
    for start, stop, step, pad in [(5, 5, 1, 0), (1, 9, 0, 0), (1, 9, 1, -1), (0, 10**10, 1, 0)]:
        with pytest.raises(ValueError, match=r"invalid|large"):
            indices.add_range(start, stop, step, pad)
    indices.clear()
    assert (len(indices), indices.dim(), bool(indices)) == (0, 0, False)


def test_a_copy_and_a_result_do_not_change_with_the_original() -> None:
    original = RangeSet("1-9", autostep=3)
    copies = [original.copy(), copy.copy(original), copy.deepcopy(original), original | RangeSet()]
    part, names = original[:], iter(original)
    original.remove(5)
    original.add(20)
    assert str(original) == "1-4,6-9,20"
    assert [str(each) for each in copies] == ["1-9"] * 4
    assert str(part) == "1-9"
    assert list(names) == list("123456789")
    copies[0].remove(1)
    assert 1 in original
    assert copies[0].autostep == 3


@pytest.mark.parametrize("indices", [RangeSet(), RangeSet("1-9,007,-3", autostep=4)])
def test_pickling(indices: RangeSet) -> None:
    again = pickle.loads(pickle.dumps(indices))  # noqa: S301
    assert again == indices
    assert again.autostep == indices.autostep
    again.add(99)
    assert 99 not in indices


def test_vectors_are_folded_into_boxes() -> None:
    vectors = RangeSetND([("1-2", "1-3"), ("3", "1-3"), ("9", "9")])
    assert str(vectors) == "1-3; 1-3\n9; 9\n"
    assert (len(vectors), vectors.dim()) == (10, 2)
    assert list(vectors)[:2] == [("1", "1"), ("1", "2")]
    assert vectors[0] == ("1", "1")
    assert vectors[-1] == ("9", "9")
    assert str(vectors[2:8]) == "2; 1-3\n3; 1-2\n1; 3\n"
    assert vectors.index(("3", 3)) == 8
    assert str(RangeSetND([(1, 2), (1, 3)], pads=(0, 2))) == "1; 02-03\n"
    assert RangeSetND([("01", "1"), ("2", "003")]).pads() == (2, 3)
    assert not RangeSetND()
    assert RangeSetND().dim() == 0
    with pytest.raises(IndexError):
        vectors[10]
    with pytest.raises(TypeError):
        vectors.index("11")
    with pytest.raises(ValueError, match="dimensions"):
        RangeSetND([("1", "2"), ("1", "2", "3")])


def test_set_operations_on_vectors() -> None:
    one, two = RangeSetND([("1-3", "1-3")]), RangeSetND([("2-4", "2-4")])
    assert len(one | two) == 14
    assert str(one & two) == "2-3; 2-3\n"
    assert len(one - two) == 5
    assert len(one ^ two) == 10
    assert (one - two) < one
    assert one >= RangeSetND([("1", "1-3")])
    assert RangeSetND([("1", "1-3")]) in one
    assert two not in one
    assert (one | two) - two == one - two
    with pytest.raises(KeyError):
        one.difference_update(two, strict=True)
    with pytest.raises(TypeError):
        one.issubset(RangeSet("1"))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301


def test_many_boxes_are_handled_row_by_row_with_the_same_result() -> None:
    board = [(x, y) for x in range(80) for y in range(80)]
    dark = RangeSetND([(x, y) for x, y in board if (x * x + y) % 3])
    light = RangeSetND([(x, y) for x, y in board if (x + y * y) % 5])
    in_dark, in_light = set(dark), set(light)
    assert set(dark & light) == in_dark & in_light
    assert set(dark - light) == in_dark - in_light


def test_boxes_too_large_to_be_gone_through_are_kept_apart() -> None:
    one = RangeSetND([("1-900000000", "1-900000000")])
    two = RangeSetND([("5-900000005", "2-900000001")])
    both = one | two
    assert len(both) == len(one) + len(two) - len(one & two)
    assert both >= one
    assert both >= two
    assert both[-1] in set(both[-3:])
