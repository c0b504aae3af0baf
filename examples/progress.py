"""A progress bar that ev_result moves, with the package rich: python progress.py [NODES]."""

from __future__ import annotations

import sys

from rich.progress import Progress
from where import cluster

from pyclustershell import EventHandler, NodeResult, NodeSet, WorkerSsh, task_self

CHECK = 'sleep 0.1; case "$PYCLUSTERSHELL_NODE" in node2) exit 1;; node3) exec sleep 60;; esac'


class Bar(EventHandler):
    """Counts each node once, however it ended."""

    def __init__(self, progress: Progress, nodes: NodeSet) -> None:
        self._progress = progress
        self._bar = progress.add_task("checking", total=len(nodes))
        self._failed = 0

    def ev_result(self, worker: WorkerSsh, node: str, result: NodeResult) -> None:
        if not result.ok:
            self._failed += 1
            self._progress.console.print(f"{node}: {result.cause}", highlight=False)
        self._progress.update(self._bar, advance=1, description=f"{self._failed} failed")


# In a pipe or a file, there are the lines only.
with cluster() as nodes, Progress(disable=not sys.stdout.isatty()) as progress:
    task = task_self()
    if "node4" in nodes:
        task.configure_ssh("node4", port=1)  # no server listens there
    worker = task.run(CHECK, nodes=nodes, timeout=5, handler=Bar(progress, nodes))
    progress.console.print(f"healthy: {worker.results().ok}", highlight=False)
