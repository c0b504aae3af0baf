"""Topologies of a task: they are read, and what would need gateways is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from socket import gethostname
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from .defaults import config_paths
from .exceptions import TaskError

if TYPE_CHECKING:
    from .topology import TopologyTree


class TaskTopology:
    """What :class:`~.task.Task` knows of gateways.

    Attributes:
        topology: the tree that was loaded, None if none was.
    """

    #: Where topologies are looked for; None for ClusterShell's places (see config_paths()).
    TOPOLOGY_CONFIGS: ClassVar[Optional[Sequence[str]]] = None

    topology: Optional[TopologyTree] = None
    _looked_for_topology = False

    def default(self, default_key: str, def_val: Any = None) -> Any:
        """The value of a default key."""
        raise NotImplementedError

    def load_topology(self, topology_file: str) -> None:
        """Read a topology file; :attr:`topology` is then the tree that begins at this host.

        There are no gateways here: with a topology, commands for nodes are refused unless they are
        given ``tree=False``, or the default key ``auto_tree`` is False.

        Raises:
            TopologyError: the file is wrong, or this host is not in it. The topology stays as it
                was.
        """
        # Here, not at the top: few tasks have one.
        from .topology import TopologyParser

        self.topology = TopologyParser(topology_file).tree(gethostname().partition(".")[0])

    def refuse_tree(self, tree: Optional[bool]) -> None:
        """Refuse to connect directly to nodes that ClusterShell would reach through gateways.

        Args:
            tree: whether gateways were asked for; None where nothing was said.

        Raises:
            TaskError: there is a topology to go by.
            TopologyError: there is one, and it is wrong.
        """
        if tree is False:
            return
        if self.topology is None and not self._looked_for_topology:
            for filename in reversed(self.TOPOLOGY_CONFIGS or config_paths("topology.conf")):
                if os.path.exists(filename):
                    self.load_topology(filename)
                    break
            self._looked_for_topology = True
        if self.topology is not None and self.default("auto_tree"):
            raise TaskError(
                "there is a topology, but gateways are not supported: with tree=False, or "
                "set_default('auto_tree', False), nodes are connected to directly"
            )
