"""Node sets and gathering beside ClusterShell's: random patterns and operations, equal results.

Strings, order, lengths, indices, slices, parts and the classes of errors are compared. Intended
differences are tests at the end of the file, with the results of both.
"""

from __future__ import annotations

import operator
from importlib import import_module
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyclustershell import msgtree, nodeset, rangeset
from pyclustershell.nodeset.groups import GroupResolver, GroupSource, YAMLGroupLoader
from tests.helpers.needs import require

require("ClusterShell")
their_nodeset: Any = import_module("ClusterShell.NodeSet")
their_groups: Any = import_module("ClusterShell.NodeUtils")
their_msgtree: Any = import_module("ClusterShell.MsgTree")
their_rangeset: Any = import_module("ClusterShell.RangeSet")

compared = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

OPERATIONS = {
    "union": operator.or_,
    "intersection": operator.and_,
    "difference": operator.sub,
    "symmetric_difference": operator.xor,
}
COMPARISONS = [operator.lt, operator.le, operator.eq, operator.ge, operator.gt]

GROUPS = {
    "all4": "n[1-4]",
    "odd": "n[1-9/2]",
    "two": "r[1-2]n[1-2]",
    "deep": "@all4,@odd!n3",
    "g1": "foo",
    "g2": "n[01-03]",
}


# -- strategies ------------------------------------------------------------------------------------

small = st.one_of(st.integers(0, 4), st.integers(0, 12), st.integers(0, 120))
pads = st.sampled_from([0, 0, 0, 2, 3])


@st.composite
def ranges(draw: Any, negative: bool = False) -> str:
    """One range, or one number, as it stands between brackets."""
    if negative and draw(st.integers(0, 9)) == 0:
        return f"-{draw(st.integers(1, 12))}-{draw(st.integers(0, 12))}"
    pad = draw(pads)
    first = draw(small)
    last = first + draw(st.sampled_from([0, 0, 1, 2, 3, 9, 30]))
    low, high = f"{first:0{pad}d}", f"{last:0{pad}d}"
    if first == last or len(low) != len(high):
        return low
    step = draw(st.sampled_from(["", "", "", "/2", "/3"]))
    return f"{low}-{high}{step}"


def range_lists(negative: bool = False) -> st.SearchStrategy[str]:
    return st.lists(ranges(negative), min_size=1, max_size=4).map(",".join)


brackets = range_lists().map("[{}]".format)
numbers = st.builds("{:0{}d}".format, small, pads)
indices = st.one_of(brackets, numbers)
stems = st.sampled_from(["n", "n", "rack-", "a%b", ""])
ends = st.sampled_from(["", "", "-ib", "x"])

terms = st.one_of(
    st.builds("{}{}{}".format, stems, indices, ends),
    st.builds(
        "{}{}{}{}{}".format, st.sampled_from("nr"), indices, st.sampled_from("nr"), indices, ends
    ),
    st.builds("x{}y{}z{}".format, indices, numbers, brackets),
    st.sampled_from(["foo", "bar", "login-node", "a%b"]),
)
broken = st.text(alphabet="n1-0,[]/!&^ ", max_size=12)
group_terms = st.sampled_from(
    [*(f"@{name}" for name in GROUPS), "@g[1-2]", "@*", "n*", "n[1-2]*", "?oo"]
)


def patterns(*kinds: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from([",", ",", ", ", " ,", "!", "&", "^"])
    rest = st.lists(st.tuples(operators, st.one_of(kinds)).map("".join), max_size=5)
    return st.builds(lambda first, more: first + "".join(more), st.one_of(kinds), rest)


bounds = st.one_of(st.none(), st.integers(-30, 30))
slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, 3, 7, -1, -2]))
autosteps = st.sampled_from([None, None, 2, 3, 4])


def outcome(action: Callable[[], Any]) -> Any:
    """The result of an action as text, or the class of its error."""
    try:
        result = action()
        return result if isinstance(result, (int, str)) else str(result)
    except Exception as exc:
        return type(exc).__name__


def texts(items: Any) -> list[str]:
    return [str(item) for item in items]


# -- range sets ------------------------------------------------------------------------------------


@compared
@given(range_lists(negative=True), range_lists(negative=True), autosteps, slices)
def test_range_sets(pattern: str, other: str, autostep: int | None, part: slice) -> None:
    ours = rangeset.RangeSet(pattern, autostep=autostep)
    theirs = their_rangeset.RangeSet(pattern, autostep=autostep)
    assert str(ours) == str(theirs)
    assert list(ours) == list(theirs)
    assert list(ours.intiter()) == list(theirs.intiter())
    assert (len(ours), ours.padding, ours.dim()) == (len(theirs), theirs.padding, theirs.dim())
    assert str(ours[part]) == str(theirs[part])
    assert texts(ours.split(3)) == texts(theirs.split(3))
    assert [ours.index(index) for index in ours] == [theirs.index(index) for index in theirs]
    assert [(s.start, s.stop) for s in ours.slices()] == [
        (s.start, s.stop) for s in theirs.slices()
    ]
    mine, its = rangeset.RangeSet(other), their_rangeset.RangeSet(other)
    for name, operation in OPERATIONS.items():
        expected = str(operation(theirs, its))
        assert str(operation(ours, mine)) == expected
        assert str(getattr(ours, name)(mine)) == expected
    for compare in COMPARISONS:
        assert compare(ours, mine) == compare(theirs, its)


@compared
@given(range_lists())
def test_contiguous_ranges(pattern: str) -> None:
    ours, theirs = rangeset.RangeSet(pattern), their_rangeset.RangeSet(pattern)
    assert texts(ours.contiguous()) == texts(theirs.contiguous())


@compared
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["1", "2", "3", "02", "03", "10", "4"]))))
def test_indices_added_and_removed_one_by_one(changes: list[tuple[bool, str]]) -> None:
    ours, theirs = rangeset.RangeSet(), their_rangeset.RangeSet()
    for added, index in changes:
        (ours.add if added else ours.discard)(index)
        (theirs.add if added else theirs.discard)(index)
        if index == "4":
            assert str(ours) == str(theirs)
    assert str(ours) == str(theirs)


vectors = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(8, 11)), max_size=40
)


@compared
@given(vectors, vectors, slices)
def test_sets_of_vectors(some: list[Any], others: list[Any], part: slice) -> None:
    ours, theirs = rangeset.RangeSetND(some), their_rangeset.RangeSetND(some)
    mine, its = rangeset.RangeSetND(others), their_rangeset.RangeSetND(others)
    assert str(ours) == str(theirs)
    assert list(ours) == list(theirs)
    assert (len(ours), ours.dim(), ours.pads()) == (len(theirs), theirs.dim(), theirs.pads())
    assert str(ours[part]) == str(theirs[part])
    assert [ours.index(vector) for vector in ours] == list(range(len(theirs)))
    assert texts(ours.contiguous()) == texts(theirs.contiguous())
    for operation in OPERATIONS.values():
        assert str(operation(ours, mine)) == str(operation(theirs, its))
    for compare in COMPARISONS:
        assert compare(ours, mine) == compare(theirs, its)


# -- node sets -------------------------------------------------------------------------------------


@compared
@given(patterns(terms), patterns(terms), slices)
def test_node_sets(pattern: str, other: str, part: slice) -> None:
    ours, theirs = nodeset.NodeSet(pattern), their_nodeset.NodeSet(pattern)
    assert str(ours) == str(theirs)
    names = list(theirs)
    assert list(ours) == names
    assert len(ours) == len(theirs)
    assert outcome(lambda: ours[part]) == outcome(lambda: theirs[part])
    for parts in (1, 3, 64):
        assert texts(ours.split(parts)) == texts(theirs.split(parts))
    assert texts(ours.contiguous()) == texts(theirs.contiguous())
    assert texts(ours.nsiter()) == texts(theirs.nsiter())
    for position, name in enumerate(names[:20]):
        assert ours[position] == name
        assert ours.index(name) == theirs.index(name) == position
    mine, its = nodeset.NodeSet(other), their_nodeset.NodeSet(other)
    for name, operation in OPERATIONS.items():
        expected = str(operation(theirs, its))
        assert str(operation(ours, mine)) == expected
        assert str(getattr(ours, name)(other)) == expected
    for compare in COMPARISONS:
        assert compare(ours, mine) == compare(theirs, its)
    assert str(nodeset.NodeSet.fromlist(names)) == str(theirs)


@compared
@given(patterns(terms), autosteps, st.sampled_from([None, (), (0,), (1,), (-1,), (0, 2)]))
def test_steps_and_axes_in_strings(pattern: str, autostep: int | None, axes: Any) -> None:
    ours = nodeset.NodeSet(pattern, autostep=autostep, fold_axis=axes)
    theirs = their_nodeset.NodeSet(pattern, autostep=autostep, fold_axis=axes)
    assert str(ours) == str(theirs)
    assert ours.autostep == theirs.autostep


@compared
@given(patterns(terms), patterns(terms))
def test_strict_removal(pattern: str, other: str) -> None:
    ours, theirs = nodeset.NodeSet(pattern), their_nodeset.NodeSet(pattern)
    assert outcome(lambda: ours.remove(other)) == outcome(lambda: theirs.remove(other))


@compared
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2)), max_size=60))
def test_folding_names_of_three_dimensions(names: list[tuple[int, int, int]]) -> None:
    pattern = ",".join(f"a{x}b{y}c{z:02d}" for x, y, z in names)
    assert nodeset.fold(pattern) == their_nodeset.fold(pattern)
    assert nodeset.expand(pattern) == their_nodeset.expand(pattern)


@settings(compared, max_examples=500)
@given(patterns(terms, broken))
def test_patterns_with_errors(pattern: str) -> None:
    ours = outcome(lambda: nodeset.NodeSet(pattern))
    theirs = outcome(lambda: their_nodeset.NodeSet(pattern))
    if ours != theirs and not known_difference(pattern):
        raise AssertionError(f"{pattern!r}: {ours!r}, ClusterShell: {theirs!r}")


def known_difference(pattern: str) -> bool:
    """True if the pattern has one of the things that the tests at the end list."""
    if pattern.count("[") + pattern.count("]") > 2:
        return True  # two errors in one pattern: which is told first
    bodies = [piece.partition("]")[0] for piece in pattern.split("[")[1:]]
    digits_around = any(
        before[-1:].isdigit() or after[:1].isdigit()
        for before, after in zip(
            pattern.split("["), (p.partition("]")[2] for p in pattern.split("[")[1:])
        )
    )
    return digits_around or any(body.count("-") > 1 or " " in body for body in bodies)


# -- groups ----------------------------------------------------------------------------------------


@compared
@given(patterns(group_terms, terms), st.booleans())
def test_groups(pattern: str, overlap: bool) -> None:
    our_resolver = GroupResolver(GroupSource("s", GROUPS))
    their_resolver = their_groups.GroupResolver(their_groups.GroupSource("s", dict(GROUPS)))
    ours = nodeset.NodeSet(pattern, resolver=our_resolver)
    theirs = their_nodeset.NodeSet(pattern, resolver=their_resolver)
    assert str(ours) == str(theirs)
    assert ours.regroup(overlap=overlap) == theirs.regroup(overlap=overlap)
    our_groups, their_found = ours.groups(), theirs.groups()
    assert {name: texts(sets) for name, sets in our_groups.items()} == {
        name: texts(sets) for name, sets in their_found.items()
    }
    assert nodeset.grouplist(resolver=our_resolver) == their_nodeset.grouplist(
        resolver=their_resolver
    )


# -- gathering -------------------------------------------------------------------------------------

lines = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([b"a", b"b", b"", b"c"])), max_size=40
)


@compared
@given(lines, st.sampled_from([0, 1, 2]), st.integers(0, 40))
def test_message_trees(added: list[tuple[int, bytes]], mode: int, walked_after: int) -> None:
    ours, theirs = msgtree.MsgTree(mode), their_msgtree.MsgTree(mode)

    def check() -> None:
        for match in (None, lambda key: key > 2):
            assert [(bytes(m), sorted(keys)) for m, keys in ours.walk(match)] == [
                (bytes(m), sorted(keys)) for m, keys in theirs.walk(match)
            ]
        assert ours.mode == theirs.mode
        assert [(key, bytes(m)) for key, m in ours.items()] == [
            (key, bytes(m)) for key, m in theirs.items()
        ]
        if mode == msgtree.MODE_TRACE:
            assert [(line, sorted(keys), *rest) for line, keys, *rest in ours.walk_trace()] == [
                (line, sorted(keys), *rest) for line, keys, *rest in theirs.walk_trace()
            ]

    for number, (key, line) in enumerate(added):
        ours.add(key, line)
        theirs.add(key, line)
        if number == walked_after:
            check()
    check()
    ours.remove(lambda key: key < 3)
    theirs.remove(lambda key: key < 3)
    check()


pieces = st.lists(
    st.tuples(st.integers(1, 5), st.lists(st.sampled_from([b"a", b"b"]), max_size=6)), max_size=20
)


@compared
@given(pieces)
def test_message_trees_that_get_several_lines_at_once(added: list[tuple[int, list[bytes]]]) -> None:
    ours, theirs = msgtree.MsgTree(), their_msgtree.MsgTree()
    for key, some in added:
        if some:
            ours.extend(key, some)
        for line in some:
            theirs.add(key, line)
    assert [(bytes(m), sorted(keys)) for m, keys in ours.walk()] == [
        (bytes(m), sorted(keys)) for m, keys in theirs.walk()
    ]
    assert [(key, bytes(m)) for key, m in ours.items()] == [
        (key, bytes(m)) for key, m in theirs.items()
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "user@host[1-3]",
            "user@host1,host[1-2]:2222",
            "ssh://user@host[01-02]:22",
            "::1",
            "a@b@c",
        ),
        *("fe80::1%eth0", "node[1:5]", "[1:5]", "a[::1]", "[::1", "[1-2]:3", "user@[1-2]:3"),
    ],
)
def test_names_with_users_and_ports(pattern: str) -> None:
    def nodes(module: Any) -> Any:
        return outcome(lambda: list(module.NodeSet(pattern)))

    assert nodes(nodeset) == nodes(their_nodeset)


# -- differences on purpose ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "ours", "theirs"),
    [
        # Digits before a bracket go before each number. ClusterShell puts them before both ends
        # of the range, and so names nodes that the pattern does not mean.
        ("node1[9-10]", "node[19,110]", "node[19-110]"),
        # Text that is not a range is an error; ClusterShell drops the first number.
        ("node[1-2-3]", "NodeSetParseRangeError", "node[-2-3]"),
        # Numbers are digits; ClusterShell accepts all texts that int() accepts.
        ("node[1_0]", "NodeSetParseRangeError", "node10"),
        ("node[+1]", "NodeSetParseRangeError", "node1"),
        ("node\u0661", "node\u0661", "node1"),
        ("node[0-00]", "NodeSetParseRangeError", "node0"),
        # Empty brackets are an error, even if digits follow.
        ("node[]5", "NodeSetParseRangeError", "node5"),
        # A range that is too large is a parse error, not an AssertionError.
        ("node[1-99999999999]", "NodeSetParseRangeError", "AssertionError"),
        # Numbers of more than 100 digits are refused, also with leading zeros.
        ("node" + "0" * 100 + "1", "NodeSetParseRangeError", "node" + "0" * 100 + "1"),
        # The brackets around an IPv6 address belong to the name.
        ("user@[::1]:[22-23]", "user@[::1]:[22-23]", "NodeSetParseRangeError"),
    ],
)
def test_patterns_that_are_read_differently(pattern: str, ours: str, theirs: str) -> None:
    assert outcome(lambda: nodeset.NodeSet(pattern)) == ours
    assert outcome(lambda: their_nodeset.NodeSet(pattern)) == theirs


@pytest.mark.parametrize(
    ("action", "ours", "theirs"),
    [
        # A percent sign comes out of an index as it went in.
        (lambda ns, rs: ns.NodeSet("a%b")[0], "a%b", "a%%b"),
        # Iterables with nothing in them are empty sets.
        (lambda ns, rs: len(rs.RangeSet([])), 0, "RangeSetParseError"),
        # Contiguous parts have no steps, and may end with -1.
        (
            lambda ns, rs: texts(rs.RangeSet("0-4/2", autostep=3).contiguous()),
            "['0', '2', '4']",
            "['0,2,4']",
        ),
        (lambda ns, rs: texts(rs.RangeSet("-3--1").contiguous()), "['-3--1']", "ValueError"),
        # Wrong arguments are ValueErrors at once, not AssertionErrors, nor later ones.
        (lambda ns, rs: rs.RangeSet("1-3").split(0) and "", "ValueError", ""),
        (lambda ns, rs: rs.RangeSet().add_range(5, 1), "ValueError", "AssertionError"),
        (lambda ns, rs: rs.RangeSet("1").add("x"), "ValueError", "None"),
        # Numbers can be given to set operations; ClusterShell mixes them with strings.
        (lambda ns, rs: rs.RangeSet("1-3").union([4]), "1-4", "AttributeError"),
        # A slice keeps fold_axis, as a copy does.
        (
            lambda ns, rs: ns.NodeSet("a[1-2]b[1-2]", fold_axis=[0])[:],
            "a[1-2]b1,a[1-2]b2",
            "a[1-2]b[1-2]",
        ),
        # The error names all elements that could not be removed.
        (lambda ns, rs: error_text(lambda: ns.NodeSet("n1").remove("n2")), "'n2'", "'2'"),
    ],
)
def test_calls_that_come_out_differently(
    action: Callable[[Any, Any], Any], ours: object, theirs: object
) -> None:
    assert outcome(lambda: action(nodeset, rangeset)) == ours
    assert outcome(lambda: action(their_nodeset, their_rangeset)) == theirs


def error_text(action: Callable[[], Any]) -> str:
    with pytest.raises(KeyError) as caught:
        action()
    return str(caught.value)


def test_groups_in_groups_of_a_named_source_are_of_that_source_everywhere() -> None:
    definitions = {"a": "@b", "b": "n1"}
    found = []
    for groups, nodesets in ((None, nodeset), (their_groups, their_nodeset)):
        make = GroupResolver if groups is None else groups.GroupResolver
        source = GroupSource if groups is None else groups.GroupSource
        resolver = make(source("main", {}))
        resolver.add_source(source("s", dict(definitions)))
        nodes = nodesets.NodeSet("@s:a", resolver=resolver)
        assert str(nodes) == "n1"
        found.append(sorted(nodes.groups("s")))
    assert found == [["@s:a", "@s:b"], ["@s:b"]]


def test_yaml_group_files_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text("one: {a: n1}\ntwo: {b: [n2, n3]}\n")
    classes = (YAMLGroupLoader, their_groups.YAMLGroupLoader)
    loaders = [loader(str(path), cache_time=60) for loader in classes]
    for loader in loaders:
        assert [source.name for source in loader] == ["one", "two"]
        assert [source.name for source in loader] == ["one", "two"]
    path.write_text("one: {a: n5}\nthree: {c: n9}\n")
    for loader in loaders:
        source = loader.sources["one"]
        assert source.resolv_map("a") == "n1"
        loader.cache_expiry = 0
        assert source.resolv_map("a") == "n5"
        assert loader.groups("one") == {"a": "n5"}
        assert list(loader.sources) == ["one", "two"]


def test_a_group_that_leads_to_itself_is_named() -> None:
    ours = GroupResolver(GroupSource("s", {"a": "@a"}))
    theirs = their_groups.GroupResolver(their_groups.GroupSource("s", {"a": "@a"}))
    with pytest.raises(nodeset.NodeSetParseError, match="@a -> @a"):
        nodeset.NodeSet("@a", resolver=ours)
    with pytest.raises(their_nodeset.NodeSetParseError, match="recursion"):
        their_nodeset.NodeSet("@a", resolver=theirs)


def test_keys_that_are_false_are_gathered() -> None:
    ours, theirs = msgtree.MsgTree(), their_msgtree.MsgTree()
    for tree in (ours, theirs):
        tree.add(0, b"x")
    assert [keys for _, keys in ours.walk()] == [[0]]
    assert [keys for _, keys in theirs.walk()] == []
