"""The topology of a task: the gateways that lead to nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from socket import gethostname
from typing import TYPE_CHECKING, Callable, Optional

from ..defaults import config_paths
from .settings import TaskSettings

if TYPE_CHECKING:
    from ..nodeset.topology import TopologyTree


class TaskTopology:
    """The topology of a task. The first command that may need it searches for its file.

    Args:
        settings: the task's settings.
        configs: returns the files to search for a topology, the most important last; None for
            ClusterShell's places (see :func:`~.defaults.config_paths`).

    Attributes:
        tree: the tree that was loaded, or None.
    """

    def __init__(
        self, settings: TaskSettings, configs: Callable[[], Optional[Sequence[str]]]
    ) -> None:
        self.tree: Optional[TopologyTree] = None
        self._settings = settings
        self._configs = configs
        # What named the places that have been searched; a tuple before the first search.
        self._searched: Optional[Sequence[str]] = ()

    def load(self, topology_file: str) -> None:
        """Read a topology file: see ``Task.load_topology()``."""
        # Not at the top: few tasks have a topology.
        from ..nodeset.topology import TopologyParser

        self.tree = TopologyParser(topology_file).tree(gethostname().partition(".")[0])

    def find(self, tree: Optional[bool]) -> Optional[TopologyTree]:
        """Return the topology for the nodes of a command or copy; None to connect directly.

        Args:
            tree: False if the caller asks for direct connections, True for gateways, if there are
                any; None for the default key ``auto_tree``.

        Raises:
            TopologyError: the topology file is wrong.
        """
        if tree is False or (tree is None and not self._settings.get_default("auto_tree", None)):
            return None
        return self.current()

    def current(self) -> Optional[TopologyTree]:
        """Return the topology: see ``Task.topology``."""
        if self.tree is None:
            # Compared before the places are made out: each command comes here.
            given = self._configs()
            configs = None if given is None else list(given)
            if configs != self._searched:
                for filename in reversed(configs or config_paths("topology.conf")):
                    if os.path.exists(filename):
                        self.load(filename)
                        break
                self._searched = configs
        return self.tree
