"""The types of workers and handlers in a user's script. mypy checks this file; nothing runs it."""

from __future__ import annotations

from concurrent.futures import Future, as_completed
from typing import TYPE_CHECKING, Optional, Union

from pyclustershell import (
    EventHandler,
    NodeResult,
    NodeSet,
    Results,
    SSHOptions,
    Task,
    WorkerPopen,
    WorkerSsh,
    task_self,
)
from pyclustershell.engine.timer import EngineTimer
from pyclustershell.worker.worker import DistantWorker, Worker

if TYPE_CHECKING:
    from typing_extensions import assert_type


class Handler(EventHandler):
    """Overrides events with the types that its own workers have."""

    def ev_start(self, worker: Worker) -> None: ...

    def ev_read(self, worker: WorkerSsh, node: str, sname: str, msg: bytes) -> None: ...

    def ev_hup(self, worker: WorkerSsh, node: str, rc: int) -> None: ...

    def ev_result(self, worker: WorkerSsh, node: str, result: NodeResult) -> None: ...

    def ev_timer(self, timer: EngineTimer) -> None: ...


def run(task: Task, nodes: Union[str, NodeSet, None]) -> None:
    """What shell(), run() and copy() return depends on ``nodes``."""
    assert_type(task.shell("date", nodes="node[1-3]", handler=Handler()), DistantWorker)
    assert_type(task.shell("date", nodes=NodeSet("node[1-3]")), DistantWorker)
    assert_type(task.shell("date"), WorkerPopen)
    assert_type(task.shell("date", nodes=nodes), Union[WorkerPopen, DistantWorker])
    assert_type(task.run("date", nodes="node[1-3]", timeout=3), DistantWorker)
    assert_type(task.run("date", key="here"), WorkerPopen)
    assert_type(task.copy("a", "b", "node1").skipped("node1"), "list[str]")
    # Without a command, nothing is scheduled.
    task.run()
    task.run(10)
    task.run(timeout=10)
    worker = task_self().shell("cat", nodes="node1")
    worker.write(b"line\n")
    worker.set_write_eof()
    results = worker.results()
    assert_type(results, Results)
    assert_type(results["node1"], NodeResult)
    assert_type(results["node1"].rc, Optional[int])
    assert_type(results.get("node1"), Optional[NodeResult])
    assert_type(results.failures(), "list[tuple[str, NodeSet]]")
    assert_type(results.check().ok, NodeSet)
    assert_type(task.results(), Results)
    # Wrong arguments are errors: mypy reports an ignore that nothing needs.
    task.run("date", nodes="node1", timeoutt=3)  # type: ignore[call-overload]
    task.run("date", nodes="node1", timeout="five")  # type: ignore[call-overload]
    task.shell("date", ssh=SSHOptions(user="me"))  # type: ignore[call-overload]


def submit(task: Task) -> None:
    """The results of futures."""
    future = task.submit("date", nodes="node[1-3]", handler=Handler(), timeout=5)
    assert_type(future.result(), Results)
    futures: list[Future[Results]] = [future, task.submit(WorkerSsh("node1", command="date"))]
    for done in as_completed(futures):
        assert_type(done.result().ok, NodeSet)
    future.worker.when_closed(lambda worker: print(worker.results()))
    task.submit("date", nodes="node1", timeout="five")  # type: ignore[arg-type]
