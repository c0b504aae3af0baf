"""Topology files and the trees that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyclustershell.exceptions import TopologyError
from pyclustershell.nodeset import NodeSet
from pyclustershell.nodeset.topology import (
    TopologyGraph,
    TopologyNodeGroup,
    TopologyParser,
    TopologyRoute,
    TopologyTree,
)

FLAT = "[routes]\nadmin: n[0-9]\n"
TWO_LEVELS = "[routes]\nadmin: gw[0-1]\ngw0: n[0-9]\ngw1: n[10-19]\n"
THREE_LEVELS = """[routes]
admin: first[0-1]
first[0-1]: second[0-3],leaf[1-2]
second[0-1]: n[0-9]
second[2-3]: m[0-9]
"""
TWO_ROOTS = "[routes]\na1,a2: gw[0-1]\ngw[0-1]: n[0-9]\n"
OLD = "[Main]\nadmin: n[0-9]\n"
GOOD = [FLAT, TWO_LEVELS, THREE_LEVELS, TWO_ROOTS]
LOOP = "[routes]\na: b\nb: c\nc: a\n"
CONVERGENT = "[routes]\na: b,c\nb: n1\nc: n1\n"


def parse(directory: Path, text: str) -> TopologyParser:
    path = directory / "topology.conf"
    path.write_text(text)
    return TopologyParser(str(path))


def test_a_tree_is_drawn(tmp_path: Path) -> None:
    assert str(parse(tmp_path, THREE_LEVELS).tree("admin")).splitlines() == [
        "admin",
        "`- first[0-1]",
        "   |- leaf[1-2]",
        "   |- second[0-1]",
        "   |  `- n[0-9]",
        "   `- second[2-3]",
        "      `- m[0-9]",
    ]


@pytest.mark.needs("ClusterShell")
@pytest.mark.parametrize("text", GOOD)
def test_trees_are_those_of_clustershell(tmp_path: Path, text: str) -> None:
    from ClusterShell.Topology import TopologyParser as Theirs

    ours = parse(tmp_path, text)
    theirs = Theirs(str(tmp_path / "topology.conf"))
    for root in ("admin", "a1", "gw0", "n5"):
        try:
            expected = theirs.tree(root, force_rebuild=True)
        except Exception:
            with pytest.raises(TopologyError):
                ours.tree(root, force_rebuild=True)
            continue
        tree = ours.tree(root, force_rebuild=True)
        assert sorted(str(g.nodeset) for g in tree) == sorted(str(g.nodeset) for g in expected)
        if expected.root.parent is None:  # it cannot draw part of a tree
            assert sorted(str(tree).splitlines()) == sorted(str(expected).splitlines())
        assert tree.inner_node_count() == expected.inner_node_count()
        assert tree.leaf_node_count() == expected.leaf_node_count()


def test_nodes_are_found(tmp_path: Path) -> None:
    tree = parse(tmp_path, TWO_LEVELS).tree("admin")
    group = tree.find_nodegroup("n12")
    assert str(group.nodeset) == "n[10-19]"
    assert group.parent is not None
    assert str(group.parent.nodeset) == "gw1"
    with pytest.raises(TopologyError, match="no node n99"):
        tree.find_nodegroup("n99")
    assert tree.inner_node_count() == 3
    assert tree.leaf_node_count() == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LOOP, "close a loop"),
        (CONVERGENT, "lead to the same nodes"),
        ("[routes]\na: a,b\n", "a cannot be reached through itself"),
        ("[other]\n", r"no section \[routes\]"),
        ("nonsense", "no topology file"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        parse(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="nothing"):
        TopologyParser(str(tmp_path / "nothing"))
    with pytest.raises(TopologyError, match="no topology file has been loaded"):
        TopologyParser().tree("admin")


def test_wrong_roots(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="no node 'other'"):
        parse(tmp_path, FLAT).tree("other")
    with pytest.raises(TopologyError, match="no routes"):
        parse(tmp_path, "[routes]\n").tree("admin")


def test_the_old_section(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="call it"):
        parser = parse(tmp_path, OLD)
    assert str(parser.tree("admin")) == "admin\n`- n[0-9]\n"


def test_errors_of_files_name_the_file_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"nothing\.conf: No such file"):
        TopologyParser(str(tmp_path / "nothing.conf"))
    with pytest.raises(
        TopologyError, match=r"topology.conf has no section \[routes\], but \[route\]"
    ):
        parse(tmp_path, "[route]\nadmin: n1\n")
    with pytest.raises(TopologyError, match=r"topology.conf: there is no node 'x' .*: add a route"):
        parse(tmp_path, FLAT).tree("x")


def test_routes_of_texts() -> None:
    graph = TopologyGraph()
    graph.add_route("a[1-2]", "b")
    assert str(graph.dest(NodeSet("a1"))) == "b"


def test_routes(tmp_path: Path) -> None:
    tree = parse(tmp_path, THREE_LEVELS).tree("admin")
    router = tree.router()
    assert router is tree.router()
    for node in ("admin", "first0", "elsewhere"):
        assert router.route(node) is None
    first, second = router.route("leaf1"), router.route("m3")
    assert first is not None
    assert second is not None
    assert first.levels() == [("first0", "first1")]
    assert second.levels() == [("first0", "first1"), ("second2", "second3")]
    assert second.previous is first is router.route("second3")
    assert router.route("m9") is second
    assert repr(second) == "<Route first0,first1 -> second2,second3>"
    # From another group on.
    below = tree.router("first0").route("m3")
    assert below is not None
    assert below.levels() == [("second2", "second3")]
    with pytest.raises(TopologyError, match="no node x"):
        tree.router("x")
    with pytest.raises(TopologyError, match="empty"):
        TopologyTree().router()


def test_a_tree_that_is_loaded_anew_has_a_new_router(tmp_path: Path) -> None:
    tree = parse(tmp_path, FLAT).tree("admin")
    assert tree.router().route("n0") is None
    root = parse(tmp_path, TWO_LEVELS).tree("admin").root
    assert root is not None
    tree.load(root)
    assert tree.router().route("n0") is not None


def test_groups_of_nodes() -> None:
    parent, child = TopologyNodeGroup(NodeSet("a")), TopologyNodeGroup(NodeSet("b[1-3]"))
    parent.add_child(child)
    parent.add_child(child)
    assert (parent.children(), parent.children_len()) == ([child], 3)
    assert str(parent.children_ns()) == "b[1-3]"
    parent.clear_child(child)
    assert parent.children_ns() is None
    parent.clear_child(child)
    with pytest.raises(ValueError, match="is not below"):
        parent.clear_child(child, strict=True)
    with pytest.raises(TypeError, match="TopologyNodeGroup"):
        parent.add_child("b")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without nodes"):
        parent.add_child(TopologyNodeGroup())
    parent.add_child(child)
    parent.clear_children()
    assert parent.children_len() == 0


def test_routes_and_graphs() -> None:
    route = TopologyRoute(NodeSet("a[1-2]"), NodeSet("b"))
    assert str(route) == "a[1-2] -> b"
    assert str(route.dest(NodeSet("a1"))) == "b"
    assert route.dest(NodeSet("c")) is None
    graph = TopologyGraph()
    graph.add_route(NodeSet("a"), NodeSet("b"))
    assert str(graph) == "<TopologyGraph>\na -> b"
    assert str(graph.dest(NodeSet("a"))) == "b"
    assert graph.dest(NodeSet("b")) is None
    assert str(TopologyTree()) == "<TopologyTree instance (empty)>"
    assert list(TopologyTree()) == []
