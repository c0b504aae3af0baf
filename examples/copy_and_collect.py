"""Copy a directory to nodes, and collect a file from them: python copy_and_collect.py [NODES]."""

from __future__ import annotations

import tempfile
from pathlib import Path

from where import cluster

from pyclustershell import EventHandler, NodeSet, WorkerSsh, task_self


class Progress(EventHandler):
    """Keeps the number of bytes that were copied to each node."""

    def __init__(self) -> None:
        self.copied: dict[str, int] = {}

    def ev_written(self, worker: WorkerSsh, node: str, sname: str, size: int) -> None:
        self.copied[node] = size


with cluster() as nodes, tempfile.TemporaryDirectory() as directory:
    task = task_self()
    settings = Path(directory, "settings")
    (settings / "conf.d").mkdir(parents=True)
    (settings / "main.conf").write_text("level = 3\n")

    progress = Progress()
    task.copy(str(settings), ".", nodes=nodes, handler=progress, preserve=True)
    task.resume()
    print(f"bytes copied to each: {set(progress.copied.values())}")

    # Again: a file that is there, with the same size and time, is not copied.
    worker = task.copy(str(settings), ".", nodes=nodes, preserve=True, skip_unchanged=True)
    task.resume()
    skipped = {path for node in nodes for path in worker.skipped(node)}
    print(f"skipped: {skipped}")

    task.run('echo "name = $PYCLUSTERSHELL_NODE" >> settings/main.conf', nodes=nodes)
    task.rcopy("settings/main.conf", directory, nodes=nodes)
    task.rcopy("settings/missing.conf", directory, nodes=nodes)
    task.resume()
    for path in sorted(Path(directory).glob("main.conf.*")):
        print(f"{path.name}: {path.read_text().splitlines()}")
    for failure, failed in task.iter_failures():
        print(f"{NodeSet.fromlist(failed)}: {failure.cause}")
