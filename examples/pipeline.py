"""Feed the standard input of commands on many nodes: python pipeline.py [NODES]."""

from __future__ import annotations

from where import cluster

from pyclustershell import EventHandler, NodeSet, WorkerSsh, task_self


class Counted(EventHandler):
    """Counts the bytes that each node has taken."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}

    def ev_written(self, worker: WorkerSsh, node: str, sname: str, size: int) -> None:
        self.sent[node] = self.sent.get(node, 0) + size


with cluster() as nodes:
    task = task_self()
    handler = Counted()
    worker = task.shell("sort -n | tail -1", nodes=nodes, handler=handler)
    # Input is kept until the run. Then each node gets it as fast as it reads.
    for first in range(0, 50_000, 1000):
        worker.write(b"".join(b"%d\n" % number for number in range(first, first + 1000)))
    worker.set_write_eof()
    task.resume()

    for buffer, keys in task.iter_buffers():
        print(f"{NodeSet.fromlist(keys)}: the largest is {bytes(buffer).decode()}")
    print(f"bytes sent to each: {set(handler.sent.values())}")
