"""Topologies: which nodes reach which others, and the tree of gateways that follows.

A topology file has one section ``[routes]`` with lines ``gateways: nodes behind them``.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from typing import Optional, Union

from .exceptions import TopologyError
from .nodeset import NodeSet

__all__ = [
    "TopologyError",
    "TopologyGraph",
    "TopologyNodeGroup",
    "TopologyParser",
    "TopologyRoute",
    "TopologyRoutingTable",
    "TopologyTree",
]


class TopologyNodeGroup:
    """Nodes of a tree that share their parent and their children.

    Attributes:
        nodeset: the nodes.
        parent: the group through which they are reached; None for the root.
    """

    def __init__(self, nodeset: Optional[NodeSet] = None) -> None:
        self.nodeset = NodeSet() if nodeset is None else nodeset
        self.parent: Optional[TopologyNodeGroup] = None
        self._children: list[TopologyNodeGroup] = []

    def __str__(self) -> str:
        return f"<TopologyNodeGroup ({self.nodeset})>"

    def add_child(self, child: TopologyNodeGroup) -> None:
        """Put a group below this one.

        Raises:
            ValueError: it has no nodes.
        """
        if not child.nodeset:
            raise ValueError("a group without nodes cannot be a child")
        if child not in self._children:
            child.parent = self
            self._children.append(child)

    def clear_child(self, child: TopologyNodeGroup, strict: bool = False) -> None:
        """Remove a group from below this one.

        Args:
            child: the group.
            strict: whether it must be there.

        Raises:
            ValueError: it is not there, though it must be.
        """
        if child in self._children:
            self._children.remove(child)
        elif strict:
            raise ValueError(f"{child} is not below {self}")

    def clear_children(self) -> None:
        """Remove all groups from below this one."""
        self._children = []

    def children(self) -> list[TopologyNodeGroup]:
        """The groups below this one."""
        return self._children

    def children_ns(self) -> Optional[NodeSet]:
        """The nodes of the groups below this one; None if there are none."""
        nodes = NodeSet()
        for child in self._children:
            nodes.update(child.nodeset)
        return nodes or None

    def children_len(self) -> int:
        """How many nodes there are just below this group."""
        return len(self.children_ns() or ())

    def printable_subtree(self, prefix: str = "") -> str:
        """This group and all below it, drawn as a tree, one group on a line.

        Args:
            prefix: what stands before every line below the first.
        """
        lines = [f"{self.nodeset}\n"]
        for child in self._children:
            last = child is self._children[-1]
            lines.append(f"{prefix}{'`' if last else '|'}- ")
            lines.append(child.printable_subtree(prefix + ("   " if last else "|  ")))
        return "".join(lines)


class TopologyTree:
    """A tree of node groups.

    Attributes:
        root: the group at which it begins; None for an empty tree.
        groups: all its groups.
    """

    def __init__(self) -> None:
        self.root: Optional[TopologyNodeGroup] = None
        self.groups: list[TopologyNodeGroup] = []

    def load(self, rootnode: TopologyNodeGroup) -> None:
        """Take a group and all below it."""
        self.root = rootnode
        self.groups += self

    def __iter__(self) -> Iterator[TopologyNodeGroup]:
        """Iterate over the groups, depth first, the last child first."""
        stack = [] if self.root is None else [self.root]
        while stack:
            group = stack.pop()
            stack += group.children()
            yield group

    def __str__(self) -> str:
        if self.root is None:
            return "<TopologyTree instance (empty)>"
        return self.root.printable_subtree()

    def find_nodegroup(self, node: Union[str, NodeSet]) -> TopologyNodeGroup:
        """The group that a node is in.

        Raises:
            TopologyError: it is in none.
        """
        for group in self.groups:
            if node in group.nodeset:
                return group
        raise TopologyError(f"there is no node {node} in the topology")

    def inner_node_count(self) -> int:
        """How many nodes have others below them."""
        return sum(len(group.nodeset) for group in self.groups if group.children())

    def leaf_node_count(self) -> int:
        """How many nodes have none below them."""
        return sum(len(group.nodeset) for group in self.groups if not group.children())


class TopologyRoute:
    """Nodes that are reached through others.

    Attributes:
        src: the gateways.
        dst: the nodes behind them.

    Raises:
        TopologyError: a node is on both sides.
    """

    def __init__(self, src_ns: NodeSet, dst_ns: NodeSet) -> None:
        if src_ns & dst_ns:
            raise TopologyError(f"{src_ns & dst_ns} cannot be reached through itself")
        self.src = src_ns
        self.dst = dst_ns

    def __str__(self) -> str:
        return f"{self.src} -> {self.dst}"

    def dest(self, nodeset: Optional[NodeSet] = None) -> Optional[NodeSet]:
        """The nodes that are reached through some of the gateways (by default, all of them).

        Returns:
            None where these are not gateways of this route.
        """
        return self.dst if nodeset is None or nodeset in self.src else None


class TopologyRoutingTable:
    """Routes that fit together: they can be a tree.

    Attributes:
        aggregated_src: all gateways.
        aggregated_dst: all nodes behind gateways.
    """

    def __init__(self) -> None:
        self._routes: list[TopologyRoute] = []
        self.aggregated_src = NodeSet()
        self.aggregated_dst = NodeSet()

    def __str__(self) -> str:
        return "\n".join(map(str, self._routes))

    def __iter__(self) -> Iterator[TopologyRoute]:
        return iter(self._routes)

    def add_route(self, route: TopologyRoute) -> None:
        """Add a route.

        Raises:
            TopologyError: it would close a loop, or open a second way to some node.
        """
        if self._closes_a_loop(route):
            raise TopologyError(f"the route {route} would close a loop")
        for other in self._routes:
            if self._converge(route, other):
                raise TopologyError(f"the routes {other} and {route} lead to the same nodes")
        self._routes.append(route)
        self.aggregated_src.update(route.src)
        self.aggregated_dst.update(route.dst)

    def connected(self, src_ns: NodeSet) -> Optional[NodeSet]:
        """The nodes that are reached through others directly, None if there are none."""
        reached = NodeSet()
        for route in self._routes:
            reached.update(route.dest(src_ns) or NodeSet())
        return reached or None

    def _closes_a_loop(self, route: TopologyRoute) -> bool:
        reached: Optional[NodeSet] = route.dst
        while reached:
            if reached & route.src:
                return True
            reached = self.connected(reached)
        return False

    @staticmethod
    def _converge(route: TopologyRoute, other: TopologyRoute) -> bool:
        return bool(
            # Part of the gateways would be reached through other nodes than the rest.
            route.src > other.dst
            or route.dst < other.src
            or (route.dst & other.dst and route.src != other.src)
        )


class TopologyGraph:
    """What reaches what; from this, and a root, follows a tree."""

    def __init__(self) -> None:
        self._routing = TopologyRoutingTable()

    def __str__(self) -> str:
        return f"<TopologyGraph>\n{self._routing}"

    def add_route(self, src_ns: NodeSet, dst_ns: NodeSet) -> None:
        """Let nodes be reached through others.

        Raises:
            TopologyError: this does not fit together with what was added before.
        """
        self._routing.add_route(TopologyRoute(src_ns, dst_ns))

    def dest(self, from_nodeset: NodeSet) -> Optional[NodeSet]:
        """The nodes that are reached through others directly, None if there are none."""
        return self._routing.connected(from_nodeset)

    def to_tree(self, root: str) -> TopologyTree:
        """The tree that begins at a node.

        Raises:
            TopologyError: there are no routes, or none begins or ends at this node.
        """
        groups = self._groups()
        if not groups:
            raise TopologyError("there are no routes in the topology")
        for group in groups:
            for child in groups:
                if child.nodeset in (self.dest(group.nodeset) or ()):
                    group.add_child(child)
        for group in groups:
            if root in group.nodeset:
                tree = TopologyTree()
                tree.load(group)
                return tree
        raise TopologyError(f"there is no node {root!r} in the topology to begin at")

    def _groups(self) -> list[TopologyNodeGroup]:
        """All nodes, in groups with the same gateways before and the same nodes behind them."""
        nodesets: dict[str, NodeSet] = {}
        for route in self._routing:
            leaves = route.dst - self._routing.aggregated_src
            for nodes in (route.src, leaves):
                if nodes:
                    nodesets[str(nodes)] = nodes
        return [TopologyNodeGroup(nodes) for nodes in nodesets.values()]


class TopologyParser(configparser.ConfigParser):
    """Reads topology files.

    Args:
        filename: a file to read at once, or None.

    Attributes:
        graph: what the file says; None before :meth:`load`.

    Raises:
        TopologyError: see :meth:`load`.
    """

    def __init__(self, filename: Optional[str] = None) -> None:
        # A percent sign is one; node names are as they are written.
        super().__init__(interpolation=None)
        self.graph: Optional[TopologyGraph] = None
        self._tree: Optional[TopologyTree] = None
        if filename:
            self.load(filename)

    def optionxform(self, optionstr: str) -> str:
        """Leave node names as they are written."""
        return optionstr

    def load(self, filename: str) -> None:
        """Read a topology file.

        Raises:
            TopologyError: it cannot be read, or is wrong.
            NodeSetParseError: nodes in it cannot be parsed.
        """
        try:
            found = self.read(filename, encoding="utf-8")
            section = "routes" if self.has_section("routes") else "Main"
            routes = self.items(section)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise TopologyError(f"{filename} is no topology file: {error}") from error
        if not found:
            raise TopologyError(f"{filename} cannot be read")
        self.graph = TopologyGraph()
        self._tree = None
        for gateways, nodes in routes:
            src, dst = NodeSet(gateways), NodeSet(nodes)
            # A group may have no nodes.
            if src and dst:
                self.graph.add_route(src, dst)

    def tree(self, root: str, force_rebuild: bool = False) -> TopologyTree:
        """The tree that begins at a node. It is made once.

        Args:
            root: the node; it counts when the tree is made.
            force_rebuild: make it again.

        Raises:
            TopologyError: no file was loaded, or there is no such tree.
        """
        if self.graph is None:
            raise TopologyError("no topology file has been loaded")
        if self._tree is None or force_rebuild:
            self._tree = self.graph.to_tree(root)
        return self._tree
