"""The nodes of the examples: those that you name, or a cluster on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyclustershell import NodeSet, task_self
from pyclustershell.loopback import LoopbackCluster


@contextmanager
def cluster(default: str = "node[1-4]") -> Iterator[NodeSet]:
    """Give the nodes of the command line, or those of a cluster on 127.0.0.1."""
    if len(sys.argv) > 1:
        with task_self():
            yield NodeSet(sys.argv[1])
        return
    with LoopbackCluster(default) as loopback, task_self() as task:
        loopback.configure(task)
        yield NodeSet(default)
