"""Topologies: routes from gateways to nodes, and the tree that they form.

A topology file has one section ``[routes]`` with lines ``gateways: nodes behind them``.
"""

from __future__ import annotations

import configparser
import warnings
from collections.abc import Iterator
from typing import Optional, Union

from ..exceptions import TopologyError
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
        parent: the group of their gateways; None for the root.
    """

    def __init__(self, nodeset: Optional[NodeSet] = None) -> None:
        self.nodeset = NodeSet() if nodeset is None else nodeset
        self.parent: Optional[TopologyNodeGroup] = None
        self._children: list[TopologyNodeGroup] = []

    def __str__(self) -> str:
        return f"<TopologyNodeGroup ({self.nodeset})>"

    def add_child(self, child: TopologyNodeGroup) -> None:
        """Add a child group.

        Raises:
            TypeError: the child is not a group.
            ValueError: the child has no nodes.
        """
        if not isinstance(child, TopologyNodeGroup):
            raise TypeError(f"a child is a TopologyNodeGroup, not {child!r}")
        if not child.nodeset:
            raise ValueError("a group without nodes cannot be a child")
        if child not in self._children:
            child.parent = self
            self._children.append(child)

    def clear_child(self, child: TopologyNodeGroup, strict: bool = False) -> None:
        """Remove a child group.

        Args:
            child: the group.
            strict: True if it must be a child of this group.

        Raises:
            ValueError: strict, and it is not a child of this group.
        """
        if child in self._children:
            self._children.remove(child)
        elif strict:
            raise ValueError(f"{child} is not below {self}")

    def clear_children(self) -> None:
        """Remove all child groups."""
        self._children = []

    def children(self) -> list[TopologyNodeGroup]:
        """The child groups."""
        return self._children

    def children_ns(self) -> Optional[NodeSet]:
        """The nodes of the child groups; None if there are none."""
        nodes = NodeSet()
        for child in self._children:
            nodes.update(child.nodeset)
        return nodes or None

    def children_len(self) -> int:
        """The number of nodes in the child groups."""
        return len(self.children_ns() or ())

    def printable_subtree(self, prefix: str = "") -> str:
        """This group and all below it, drawn as a tree, with one group on each line.

        Args:
            prefix: the text before every line but the first.
        """
        lines = [f"{self.nodeset}\n"]
        for child in self._children:
            last = child is self._children[-1]
            lines.append(f"{prefix}{'`' if last else '|'}- ")
            lines.append(child.printable_subtree(prefix + ("   " if last else "|  ")))
        return "".join(lines)


class Route:
    """The way to some nodes: alternative gateways, and the way to these.

    All nodes that are reached in the same way share one route. Routes are compared by identity.

    Args:
        gateways: the names of the alternatives, in the order of the topology.
        previous: the way to the gateways; None if they are reached directly.
    """

    __slots__ = ("gateways", "previous")

    def __init__(self, gateways: tuple[str, ...], previous: Optional[Route] = None) -> None:
        self.gateways = gateways
        self.previous = previous

    def __repr__(self) -> str:
        return f"<Route {' -> '.join(','.join(level) for level in self.levels())}>"

    def levels(self) -> list[tuple[str, ...]]:
        """The gateways of each level; first those that are reached directly."""
        before = [] if self.previous is None else self.previous.levels()
        return [*before, self.gateways]


class Router:
    """Finds the route to each node of a topology. A lookup takes the same time in any topology.

    Args:
        start: the group at which the routes begin. Its children are reached directly.
    """

    def __init__(self, start: TopologyNodeGroup) -> None:
        self._routes: dict[str, Route] = {}
        for group in start.children():
            self._add_below(group, None)

    def _add_below(self, group: TopologyNodeGroup, route: Optional[Route]) -> None:
        """Add all nodes below a group that is itself reached by a route."""
        if group.children():
            below = Route(tuple(group.nodeset), route)
            for child in group.children():
                self._routes.update(dict.fromkeys(child.nodeset, below))
                self._add_below(child, below)

    def route(self, node: str) -> Optional[Route]:
        """Return the route to a node; None if it is reached directly.

        A node that the topology does not contain is reached directly, as in ClusterShell.
        """
        return self._routes.get(node)


class TopologyTree:
    """A tree of node groups.

    Attributes:
        root: the root group; None for an empty tree.
        groups: all groups of the tree.
    """

    def __init__(self) -> None:
        self.root: Optional[TopologyNodeGroup] = None
        self.groups: list[TopologyNodeGroup] = []
        self._routers: dict[Optional[str], Router] = {}

    def load(self, rootnode: TopologyNodeGroup) -> None:
        """Make a group the root, and add all groups below it."""
        self.root = rootnode
        self.groups += self
        self._routers.clear()

    def router(self, start: Optional[str] = None) -> Router:
        """Return the router of the tree. It is made at the first call.

        Args:
            start: the name of a node: the routes begin at its group. None for the root.

        Raises:
            TopologyError: the tree is empty, or does not contain the node.
        """
        router = self._routers.get(start)
        if router is None:
            group = self.root if start is None else self.find_nodegroup(start)
            if group is None:
                raise TopologyError("the topology is empty: load a topology file first")
            router = self._routers[start] = Router(group)
        return router

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
        """The group that contains a node.

        Raises:
            TopologyError: no group contains it.
        """
        for group in self.groups:
            if node in group.nodeset:
                return group
        raise TopologyError(f"there is no node {node} in the topology")

    def inner_node_count(self) -> int:
        """The number of nodes with nodes below them."""
        return sum(len(group.nodeset) for group in self.groups if group.children())

    def leaf_node_count(self) -> int:
        """The number of nodes without nodes below them."""
        return sum(len(group.nodeset) for group in self.groups if not group.children())


class TopologyRoute:
    """A route: gateways, and the nodes that are reached through them.

    Attributes:
        src: the gateways.
        dst: the nodes behind them.

    Raises:
        TopologyError: a node is on both sides of the route.
    """

    def __init__(self, src_ns: NodeSet, dst_ns: NodeSet) -> None:
        if src_ns & dst_ns:
            raise TopologyError(f"{src_ns & dst_ns} cannot be reached through itself")
        self.src = src_ns
        self.dst = dst_ns

    def __str__(self) -> str:
        return f"{self.src} -> {self.dst}"

    def dest(self, nodeset: Optional[NodeSet] = None) -> Optional[NodeSet]:
        """The nodes that are reached through some of the gateways (default: all of them).

        Returns:
            None if these are not gateways of this route.
        """
        return self.dst if nodeset is None or nodeset in self.src else None


class TopologyRoutingTable:
    """Routes that can form a tree.

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
            TopologyError: the route would close a loop, or be a second route to a node.
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
        """The nodes directly behind these gateways; None if there are none."""
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
            # Some of the gateways would be reached through other nodes than the rest.
            route.src > other.dst
            or route.dst < other.src
            or (route.dst & other.dst and route.src != other.src)
        )


class TopologyGraph:
    """All routes of a topology. With a root, they form a tree."""

    def __init__(self) -> None:
        self._routing = TopologyRoutingTable()

    def __str__(self) -> str:
        return f"<TopologyGraph>\n{self._routing}"

    def add_route(self, src_ns: Union[NodeSet, str], dst_ns: Union[NodeSet, str]) -> None:
        """Add a route.

        Args:
            src_ns: the gateways: a NodeSet, or a value that NodeSet takes.
            dst_ns: the nodes behind them.

        Raises:
            TopologyError: the route and those added before cannot form a tree.
        """
        self._routing.add_route(TopologyRoute(NodeSet(src_ns), NodeSet(dst_ns)))

    def dest(self, from_nodeset: NodeSet) -> Optional[NodeSet]:
        """The nodes directly behind these gateways; None if there are none."""
        return self._routing.connected(from_nodeset)

    def to_tree(self, root: str) -> TopologyTree:
        """The tree with a node as its root.

        Raises:
            TopologyError: there are no routes, or no route contains this node.
        """
        groups = self._groups()
        if not groups:
            raise TopologyError("there are no routes in the topology")
        for group in groups:
            below = self.dest(group.nodeset)
            for child in groups if below else ():
                if child.nodeset in (below or ()):
                    group.add_child(child)
        for group in groups:
            if root in group.nodeset:
                tree = TopologyTree()
                tree.load(group)
                return tree
        raise TopologyError(
            f"there is no node {root!r} in the topology to begin at: add a route from this host, "
            "by its name without the domain"
        )

    def _groups(self) -> list[TopologyNodeGroup]:
        """All nodes, in groups with the same parent and the same children."""
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
        graph: the routes of the file; None before :meth:`load`.

    Raises:
        TopologyError: see :meth:`load`.
    """

    def __init__(self, filename: Optional[str] = None) -> None:
        # A percent sign has no meaning in a topology file.
        super().__init__(interpolation=None)
        self.graph: Optional[TopologyGraph] = None
        self._tree: Optional[TopologyTree] = None
        self._filename = ""
        if filename:
            self.load(filename)

    def optionxform(self, optionstr: str) -> str:
        """Keep the case of node names, which are the keys of the file."""
        return optionstr

    def load(self, filename: str) -> None:
        """Read a topology file.

        Raises:
            TopologyError: the file cannot be read, or is invalid.
            NodeSetParseError: a pattern in it cannot be parsed.
        """
        try:
            with open(filename, encoding="utf-8-sig") as file:
                self.read_file(file, filename)
        except OSError as error:
            raise TopologyError(f"{filename}: {error.strerror}") from error
        except (configparser.Error, UnicodeDecodeError) as error:
            raise TopologyError(f"{filename} is no topology file: {error}") from error
        if self.has_section("Main") and not self.has_section("routes"):
            text = f"{filename}: the section [Main] is an old form: call it [routes]"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        elif not self.has_section("routes"):
            found = ", ".join(f"[{name}]" for name in self.sections()) or "no section"
            raise TopologyError(f"{filename} has no section [routes], but {found}: add it")
        routes = self.items("routes" if self.has_section("routes") else "Main")
        self._filename = filename
        self.graph = TopologyGraph()
        self._tree = None
        for gateways, nodes in routes:
            src, dst = NodeSet(gateways), NodeSet(nodes)
            # A node group may be empty.
            if src and dst:
                try:
                    self.graph.add_route(src, dst)
                except TopologyError as error:
                    raise TopologyError(f"{filename}: {error}: correct this route") from error

    def tree(self, root: str, force_rebuild: bool = False) -> TopologyTree:
        """The tree with a node as its root. It is built once.

        Args:
            root: the root; ignored if the tree is already built.
            force_rebuild: True to build the tree again.

        Raises:
            TopologyError: no file was loaded, or there is no such tree.
        """
        if self.graph is None:
            raise TopologyError("no topology file has been loaded")
        if self._tree is None or force_rebuild:
            try:
                self._tree = self.graph.to_tree(root)
            except TopologyError as error:
                raise TopologyError(f"{self._filename}: {error}") from error
        return self._tree
