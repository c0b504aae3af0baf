"""Show each line when it comes, and each failed node's return code: python live.py [NODES]."""

from __future__ import annotations

from typing import Optional

from where import cluster

from pyclustershell import EventHandler, WorkerSsh, task_self


class Live(EventHandler):
    """Its methods run in the thread that called run(): no locks are needed."""

    def ev_read(self, worker: WorkerSsh, node: str, sname: str, msg: bytes) -> None:
        mark = "!" if sname == "stderr" else ":"
        print(f"{node}{mark} {msg.decode(errors='replace')}", flush=True)

    def ev_hup(self, worker: WorkerSsh, node: str, rc: Optional[int]) -> None:
        if rc:
            print(f"{node} exited with {rc}")

    def ev_close(self, worker: WorkerSsh, timedout: bool) -> None:
        print(f"{len(worker.nodes)} nodes are done")


with cluster() as nodes:
    command = "echo starting; sleep 0.1; echo no disk >&2; exit 3"
    task_self().run(command, nodes=nodes, stderr=True, handler=Live())
