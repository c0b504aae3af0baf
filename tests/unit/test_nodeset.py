"""NodeSet: the notation, the operations, and hostile patterns. tests/oracle/test_nodeset.py
compares it with ClusterShell's; test_groups.py tests groups."""

from __future__ import annotations

import copy
import doctest
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.defaults import DEFAULTS, config_paths
from pyclustershell.exceptions import NodeSetError, NodeSetParseError, NodeSetParseRangeError
from pyclustershell.nodeset import (
    AUTOSTEP_DISABLED,
    RESOLVER_NOGROUP,
    NodeSet,
    NodeSetBase,
    expand,
    fold,
    ndfold,
    nodeset,
    rangeset1d,
    rangesetnd,
    spans,
)
from pyclustershell.nodeset import base as nodesetbase
from pyclustershell.rangeset import RangeSet, RangeSetND

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ""),
        ("  ", ""),
        ("login", "login"),
        ("node7", "node7"),
        ("node[1-3,7]", "node[1-3,7]"),
        ("node[3-3]", "node3"),
        ("node3,node1,node2", "node[1-3]"),
        ("node[001-003,1-3]", "node[1-3,001-003]"),
        ("node[0-6/2]", "node[0,2,4,6]"),
        ("node[1-3]-ib0", "node[1-3]-ib0"),
        ("user@host[1-3]", "user@host[1-3]"),
        ("host[1-3]:2222,user@host1", "host[1-3]:2222,user@host1"),
        ("ssh://user@host[01-03]:22", "ssh://user@host[01-03]:22"),
        ("::1,fe80::1%eth0", "::1,fe80::1%eth0"),
        ("[::1]", "[::1]"),
        (" [::1]:[22-24] , x!x", "[::1]:[22-24]"),
        ("user@[2001:db8::[1-3]]:22", "user@[2001:db8::[1-3]]:22"),
        ("ssh://user@[fe80::1%eth0]:22/", "ssh://user@[fe80::1%eth0]:22/"),
        ("[::1],[::3],[::2]", "[::[1-3]]"),
        ("[1-2]:3", "[1-2]:3"),
        ("r[1-2]n[1-2],r3n[1-2]", "r[1-3]n[1-2]"),
        ("r1n1,r1n2,r2n1,r2n2", "r[1-2]n[1-2]"),
        ("[1-3]", "[1-3]"),
        ("node1[0-9]", "node[10-19]"),
        ("node[1-2]5", "node[15,25]"),
        ("node1[8-10]", "node[18-19,110]"),
        ("node0[1-2]0", "node[010,020]"),
        ("a b", "a b"),
        ("50%,a%", "50%,a%"),
        ("a%sb[1-2]", "a%sb[1-2]"),
        ("node[1-9]!node[2-8]", "node[1,9]"),
        ("node[1-5]&node[4-8]", "node[4-5]"),
        ("node[1-5]^node[4-8]", "node[1-3,6-8]"),
        ("a[1-9]!a[2-8],a3&a[1-5]^a5", "a[1,3,5]"),
        (" node1 , node2 ! node1", "node2"),
        ("node[ 1 - 3, 5 ]", "node[1-3,5]"),
        ("node[-2-1]", "node[-2-1]"),
        ("node\u0661", "node\u0661"),
    ],
)
def test_the_notation(pattern: str, expected: str) -> None:
    assert str(NodeSet(pattern)) == expected
    assert fold(pattern) == expected
    assert expand(pattern) == list(NodeSet(expected))


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (
            "node[1-",
            NodeSetParseError,
            "unbalanced bracket: expected a ']' after it, at character 5",
        ),
        ("a,node[1-3", NodeSetParseError, "at character 7"),
        (
            "a,[::1",
            NodeSetParseError,
            "unbalanced bracket: expected a ']' after it, at character 3",
        ),
        ("[::1,a]", NodeSetParseError, "unbalanced bracket"),
        ("[::1]]", NodeSetParseError, "expected a '[' before it, at character 6"),
        ("node[1:5]", NodeSetParseRangeError, "bad range"),
        ("[1:5]:2", NodeSetParseRangeError, "bad range"),
        ("a[::1]", NodeSetParseRangeError, "bad range"),
        ("node1-3]", NodeSetParseError, "expected a '[' before it, at character 8"),
        ("node[1]]", NodeSetParseError, "illegal closing bracket"),
        ("node[1][2]", NodeSetParseError, "illegal reopening bracket"),
        ("node[1]5[2]", NodeSetParseError, "illegal reopening bracket"),
        ("node[0-4/2]5", NodeSetParseError, "illegal trailing digits"),
        ("a,,b", NodeSetParseError, "expected a node set before ',', at character 3"),
        (",", NodeSetParseError, "missing nodeset operand"),
        ("a!", NodeSetParseError, "expected a node set after '!'"),
        ("a[1],&b", NodeSetParseError, "missing nodeset operand"),
        ("node[]", NodeSetParseRangeError, "empty range"),
        ("node[1-]", NodeSetParseRangeError, "at character 6 of 'node[1-]'"),
        ("node[1,x]", NodeSetParseRangeError, "at character 8 of 'node[1,x]'"),
        ("node[5-1]", NodeSetParseRangeError, "expected the smaller number first"),
        ("node[01-1]", NodeSetParseRangeError, "same number of digits"),
        ("node[1-99999999999]", NodeSetParseRangeError, "range too large"),
        ("node" + "1" * 101, NodeSetParseRangeError, "digits"),
        ("node1[" + "1" * 100 + "]", NodeSetParseRangeError, "digits"),
        ("node1[-5-3]", NodeSetParseRangeError, "negative"),
        ("n1" * 128, NodeSetParseError, "too many numbers"),
    ],
)
def test_errors_say_where_and_what_was_expected(
    pattern: str, error: type[NodeSetError], message: str
) -> None:
    with pytest.raises(error) as caught:
        NodeSet(pattern)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "[" * 10_000_000,
        "[::" * 3_000_000,
        "[:" + "1" * 10_000_000,
        "]" * 10_000_000,
        "a[1]" * 2_500_000,
        "a[1" * 3_000_000,
        "a[" + " " * 10_000_000 + "]",
        "a[" + "-" * 10_000_000 + "]",
        "a[" + "1" * 10_000_000 + "]",
        "a" + "1" * 10_000_000,
        "a1" * 5_000_000,
        "," * 10_000_000,
        "!" * 10_000_000,
        "a[" + "," * 10_000_000 + "]",
        ",".join(f"a{n}[0-7999998/2]" for n in range(100_000)),
        "a[0-999999999]5",
        ",".join(f"x[{n}-{n + 900000}]y[{n}-{n + 900000}]" for n in range(100_000)),
        "a[1-999999999/3]b[1-999999999/3]",
    ],
    ids=lambda pattern: pattern[:12],
)
def test_hostile_patterns_end_with_an_error_that_can_be_read(pattern: str) -> None:
    with pytest.raises(NodeSetParseError) as caught:
        NodeSet(pattern, resolver=RESOLVER_NOGROUP)
    assert len(str(caught.value)) < 1000


def test_huge_sets_cost_what_their_ranges_cost() -> None:
    nodes = NodeSet("n[1-900000000]!n[5-7]")
    assert (len(nodes), nodes[4], nodes.index("n8")) == (899999997, "n8", 4)
    assert str(nodes[-3:]) == "n[899999998-900000000]"
    assert len(NodeSet("x[1-900000000]y[1-900000000]z[1-9]")) == 900000000**2 * 9


def test_order_is_by_pattern_then_by_length_of_the_index_then_by_value() -> None:
    nodes = NodeSet("b2,b10,b1,a,b-x1,b02")
    assert list(nodes) == ["a", "b1", "b2", "b02", "b10", "b-x1"]
    assert [nodes[position] for position in range(6)] == list(nodes)
    assert [nodes.index(name) for name in nodes] == list(range(6))
    assert list(nodes.striter()) == list(nodes)
    assert [str(each) for each in nodes.nsiter()] == list(nodes)


def test_index_and_slice() -> None:
    nodes = NodeSet("a,b[1-5],c[1-2]d[1-2]")
    assert (nodes[-1], nodes[0], nodes[3]) == ("c2d2", "a", "b3")
    assert str(nodes[1:3]) == "b[1-2]"
    assert str(nodes[:2]) == "a,b1"
    assert list(nodes[::3]) == list(nodes)[::3]
    assert set(nodes[::-4]) == set(list(nodes)[::-4])
    assert not nodes[5:2]
    assert isinstance(nodes[1:3], NodeSet)
    assert nodes.index("c1d2") == 7
    for arguments in [("b9",), ("a", 1), ("b5", 0, 5), ("b[1-2]",), ("x",), ("c9d9",)]:
        with pytest.raises(ValueError, match=r"not in|single"):
            nodes.index(*arguments)
    with pytest.raises(IndexError):
        nodes[10]
    with pytest.raises(IndexError):
        nodes[-11]
    with pytest.raises(IndexError):
        nodes[3::-1]
    with pytest.raises(TypeError):
        nodes["a"]  # type: ignore[call-overload]


def test_split_and_contiguous() -> None:
    nodes = NodeSet("a,b[1-3,5]")
    assert list(map(str, nodes.split(3))) == ["a,b1", "b[2-3]", "b5"]
    assert list(map(str, nodes.split(99))) == list(nodes)
    assert list(map(str, nodes.contiguous())) == ["a", "b[1-3]", "b5"]
    with pytest.raises(ValueError, match="positive"):
        nodes.split(0)


def test_set_operations_in_all_forms() -> None:
    one, two = NodeSet("a,b[1-5]"), NodeSet("a,b[4-8],c")
    expected = {"|": "a,b[1-8],c", "&": "a,b[4-5]", "-": "b[1-3]", "^": "b[1-3,6-8],c"}
    assert {
        "|": str(one | two),
        "&": str(one & two),
        "-": str(one - two),
        "^": str(one ^ two),
    } == expected
    for name, method, in_place in [
        ("|", NodeSet.union, NodeSet.update),
        ("&", NodeSet.intersection, NodeSet.intersection_update),
        ("-", NodeSet.difference, NodeSet.difference_update),
        ("^", NodeSet.symmetric_difference, NodeSet.symmetric_difference_update),
    ]:
        assert str(method(one, str(two))) == expected[name]
        changed = one.copy()
        in_place(changed, two)
        assert str(changed) == expected[name]
    changed = one.copy()
    changed |= two
    changed -= NodeSet("a")
    changed &= NodeSet("b[1-99],c")
    changed ^= NodeSet("c,d")
    assert str(changed) == "b[1-8],d"
    assert (str(one), str(two)) == ("a,b[1-5]", "a,b[4-8],c")
    changed ^= changed
    assert not changed
    with pytest.raises(TypeError):
        one |= "a"  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        one - "a"  # type: ignore[operator]


def test_update_remove_and_clear() -> None:
    nodes = NodeSet()
    nodes.add("b1")
    nodes.update("b[2-3]")
    nodes.updaten(["a", NodeSet("c[1-2]"), "b5!b5", "r1n1", "r1n2"])
    assert str(nodes) == "a,b[1-3],c[1-2],r1n[1-2]"
    nodes.remove("b[1-2],a")
    with pytest.raises(KeyError, match="b4"):
        nodes.remove("b[3-4]")
    assert str(nodes) == "b3,c[1-2],r1n[1-2]"
    nodes.difference_update("nothing")
    nodes.difference_update(nodes)
    assert (len(nodes), bool(nodes), list(nodes)) == (0, False, [])
    nodes.update("a")
    nodes.clear()
    assert not nodes


def test_comparisons() -> None:
    small, large = NodeSet("b[2-3]"), NodeSet("a,b[1-5]")
    assert small < large
    assert small <= large
    assert large > small
    assert large >= small
    assert small != large
    assert NodeSet("b[1-5],a") == large
    assert small != "b[2-3]"
    assert "b3" in large
    assert "b[3-9]" not in large
    assert "a1" not in large
    assert small.issubset("b[1-9]")
    assert large.issuperset("a,b1")
    with pytest.raises(TypeError):
        _ = small < "b[1-5]"  # type: ignore[operator]
    with pytest.raises(TypeError):
        hash(small)
    with pytest.raises(TypeError, match="not 5"):
        NodeSet(5)  # type: ignore[arg-type]


def test_fromlist_takes_names_patterns_and_sets() -> None:
    names = ["n3", "n1", "n2", " n4 ", "n[6-7]", "", "r2c1", "r1c1", "login", "n08", "x1y", "50%"]
    nodes = NodeSet.fromlist([*names, NodeSet("z")], autostep=3)
    assert str(nodes) == "50%,login,n[1-4,6-7,08],r[1-2]c1,x1y,z"
    with pytest.raises(NodeSetParseError):
        NodeSet.fromlist(["n1", "n[2"])
    with pytest.raises(NodeSetParseRangeError):
        NodeSet.fromlist(["n1", "n" + "1" * 101])
    with pytest.raises(TypeError):
        NodeSet.fromlist(["n1", 3])  # type: ignore[list-item]


def test_autostep() -> None:
    nodes = NodeSet("n[2,4,6],x1", autostep=3)
    assert str(nodes) == "n[2-6/2],x1"
    assert str(nodes.copy()) == "n[2-6/2],x1"
    assert str(nodes | NodeSet("n8")) == "n[2-8/2],x1"
    assert str(NodeSet(nodes)) == "n[2-6/2],x1"
    assert str(NodeSet(nodes, autostep=AUTOSTEP_DISABLED)) == "n[2,4,6],x1"
    nodes.autostep = 4
    assert str(nodes) == "n[2,4,6],x1"
    nodes.autostep = None
    assert nodes.autostep is None
    assert str(NodeSet("r[2,4,6]n[1-2]", autostep=3)) == "r[2-6/2]n[1-2]"


def test_fold_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = NodeSet("r[1-2]n[1-2]", fold_axis=[-1])
    assert str(nodes) == "r1n[1-2],r2n[1-2]"
    assert str(nodes.copy()) == "r1n[1-2],r2n[1-2]"
    assert str(nodes[:]) == "r1n[1-2],r2n[1-2]"
    nodes.fold_axis = (0,)
    assert str(nodes) == "r[1-2]n1,r[1-2]n2"
    nodes.fold_axis = ()
    assert str(nodes) == "r1n1,r2n1,r1n2,r2n2"
    assert str(NodeSet("n[1-2]", fold_axis=(1,))) == "n1,n2"
    nodes.fold_axis = "x"
    with pytest.raises(NodeSetParseError, match="fold_axis"):
        str(nodes)
    monkeypatch.setattr(DEFAULTS, "fold_axis", (0,))
    assert str(NodeSet("r[1-2]n[1-2]")) == "r[1-2]n1,r[1-2]n2"


@pytest.mark.parametrize("pattern", ["", "a", "n[1-9,007]", "r[1-2]n[1-9],x"])
def test_pickling_leaves_the_resolver_behind(pattern: str) -> None:
    nodes = NodeSet(pattern, autostep=3, fold_axis=(0,))
    again = pickle.loads(pickle.dumps(nodes))  # noqa: S301
    assert again == nodes
    assert (again.autostep, again.fold_axis) == (3, (0,))
    again.update("@group")
    assert "@group" in list(again)


def test_copies_do_not_change_with_the_original() -> None:
    nodes = NodeSet("n[1-9],r[1-3]c[1-3]")
    copies = [nodes.copy(), copy.copy(nodes), NodeSet(nodes), nodes | NodeSet()]
    nodes.remove("n5,r2c2")
    assert [len(each) for each in copies] == [18] * 4


def test_node_set_base_is_made_of_patterns_and_range_sets() -> None:
    indices = RangeSet("1-5")
    nodes = NodeSetBase("node%s-ipmi", indices)
    indices.add(9)
    assert str(nodes) == "node[1-5]-ipmi"
    assert str(NodeSetBase("r%sn%s", RangeSetND([["1-2", "3"]]))) == "r[1-2]n3"
    assert str(NodeSetBase("login")) == "login"
    with pytest.raises(ValueError, match="pattern"):
        NodeSetBase(None, indices)
    with pytest.raises(NodeSetError):
        NodeSetBase("login")._add("login", indices)
    with pytest.raises(TypeError):
        nodes.update("node1")


def test_without_a_resolver_groups_and_wildcards_are_plain_text() -> None:
    assert list(NodeSet("@a,b*,c?", resolver=RESOLVER_NOGROUP)) == ["@a", "b*", "c?"]


def test_neither_paramiko_nor_yaml_nor_processes_nor_files_for_node_sets() -> None:
    program = """
import sys
opened = []
def hook(event, args):
    name = str(args[0]) if args else ""
    if event == "open" and not name.endswith((".py", ".pyc")) and ".pyc." not in name:
        opened.append(name)
import pyclustershell.nodeset, pyclustershell.rangeset, pyclustershell.msgtree
sys.addaudithook(hook)
from pyclustershell import NodeSet
assert str(NodeSet("n[1-5]!n3") | NodeSet.fromlist(["n9", "r1c2"])) == "n[1-2,4-5,9],r1c2"
assert not opened, opened
unwanted = {"paramiko", "yaml", "subprocess", "configparser", "selectors"} & set(sys.modules)
assert not unwanted, unwanted
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_configuration_is_looked_for_where_clustershell_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", "/there")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/config")
    monkeypatch.setattr(platform, "WINDOWS", True)
    monkeypatch.setenv("PROGRAMDATA", "/programdata")
    monkeypatch.setenv("APPDATA", "/appdata")
    monkeypatch.setattr(sys, "prefix", "/venv")
    paths = [Path(path).as_posix() for path in config_paths("groups.conf")]
    assert paths[0] == "/programdata/clustershell/groups.conf"
    assert paths[2:] == [
        "/venv/etc/clustershell/groups.conf",
        "/appdata/clustershell/groups.conf",
        "/home/me/config/clustershell/groups.conf",
        "/there/groups.conf",
    ]
    # Not C:\\etc: any user may make that.
    assert len(paths) == 6


@pytest.mark.parametrize(
    "module",
    [ndfold, nodeset, nodesetbase, rangeset1d, rangesetnd, spans],
    ids=lambda m: m.__name__,
)
def test_the_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_the_examples_in_the_manual_hold() -> None:
    failed, tried = doctest.testfile(str(ROOT / "docs" / "nodesets.md"), module_relative=False)
    assert tried > 30
    assert failed == 0
