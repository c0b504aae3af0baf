"""The scripts of ClusterShell's "Task management" page, and the loops that its readers write."""

from __future__ import annotations

import re
from typing import Any

from ClusterShell.Event import EventHandler
from ClusterShell.NodeSet import NodeSet
from ClusterShell.Task import Task, TimeoutError, task_self, task_wait
from ClusterShell.Worker.Ssh import WorkerSsh

from tests.differential.trace import Trace, TraceHandler


def configuring_the_task(trace: Trace) -> None:
    task = task_self()
    task.set_info("debug", True)
    trace.note("debug", task.info("debug"))
    lines: list[str] = []

    def print_debug(task: Any, s: str) -> None:
        match = re.search(r"(\w+): SHINE:\d:(\w+):", s)
        lines.append(f"{match.group(0)}<pickle>" if match else s)

    task_self().set_info("print_debug", print_debug)
    task.run("echo 'x: SHINE:1:abc:'", nodes="node1")
    trace.note("pickles", [line for line in lines if line.startswith("x: ")])


def submitting_a_command_with_a_timeout(trace: Trace) -> None:
    class TimeoutHandler(EventHandler):
        def ev_timeout(self, worker: Any) -> None:
            nodes = NodeSet.fromlist(worker.iter_keys_timeout())
            trace.note("ev_timeout", nodes)

        def ev_close(self, worker: Any, timedout: bool) -> None:
            trace.note("ev_close", timedout)

    task = task_self()
    task.shell("exec sleep 60", nodes="node[1-2]", handler=TimeoutHandler(), timeout=1)
    task.resume()
    trace.note("num_timeout", task.num_timeout())


def running_with_a_timeout(trace: Trace) -> None:
    task = task_self()
    task.shell("exec sleep 60", nodes="node1")
    try:
        task.resume(timeout=1)
    except TimeoutError:
        trace.note("timed out", [task.num_timeout(), list(task.iter_keys_timeout())])


def gathering_results(trace: Trace) -> None:
    task = task_self()
    task.run("uname -s; echo err >&2", nodes="node[1-3]", stderr=True)
    for buffer, nodelist in task.iter_buffers():
        trace.note(str(NodeSet.fromlist(nodelist)), [buffer.message().decode(), len(buffer)])
        trace.note("lines", [line.decode() for line in buffer])
    for error, nodelist in task.iter_errors():
        trace.note(str(NodeSet.fromlist(nodelist)), bytes(error))
    trace.note("max_retcode", task.max_retcode())
    trace.note("node", [task.node_buffer("node1"), task.node_error("node1")])


def explicit_workers(trace: Trace) -> None:
    task = task_self()
    worker = WorkerSsh("node3", handler=None, command="/bin/echo alright")
    task.schedule(worker)
    task.resume()
    trace.note("buffer", worker.node_buffer("node3"))
    trace.note("keywords", WorkerSsh(nodes="node3", handler=None, timeout=5, command="x").nodes)


def a_repeating_timer(trace: Trace) -> None:
    class Tick(EventHandler):
        count = 0

        def ev_timer(self, timer: Any) -> None:
            self.count += 1
            trace.note("tick", self.count)
            if self.count == 3:
                timer.invalidate()

    task = task_self()
    task.timer(fire=0.05, handler=Tick(), interval=0.05)
    task.resume()


def the_default_worker(trace: Trace) -> None:
    task_self().set_default("distant_worker", WorkerSsh)
    trace.note("class", type(task_self().shell("echo x", nodes="node1")))
    task_self().resume()
    trace.note("buffer", task_self().node_buffer("node1"))


def two_tasks_at_once(trace: Trace) -> None:
    tasks = [Task() for _ in range(2)]
    for task in tasks:
        task.set_info("ssh_options", trace.ssh_options)
        task.shell("echo done", nodes="node[1-2]")
        task.resume()
    task_wait()
    for task in tasks:
        trace.note("nodes", [NodeSet.fromlist(nodes) for _, nodes in task.iter_buffers()])
        task.abort(kill=True)


def live_output(trace: Trace) -> None:
    class MyHandler(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            trace.note(f"{node} {sname}", msg.decode())

        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            if rc != 0:
                trace.note(f"{node}: returned with error code", rc)

        def ev_close(self, worker: Any, timedout: bool) -> None:
            for buf, nodes in worker.iter_buffers():
                trace.note(f"---- {nodes}", buf.message())

    task_self().run("echo out; exit 5", nodes="node1", handler=MyHandler())


def a_worker_of_the_users_own(trace: Trace) -> None:
    class Timed(WorkerSsh):
        def __init__(self, nodes: Any, handler: Any, timeout: Any = None, **kwargs: Any) -> None:
            kwargs["command"] = f"echo mine: && {kwargs['command']}"
            WorkerSsh.__init__(self, nodes, handler, timeout, **kwargs)

    task_self().set_default("distant_worker", Timed)
    task_self().run("echo out", nodes="node1", handler=TraceHandler(trace))
    trace.note("buffer", task_self().node_buffer("node1"))


def a_chain_of_commands(trace: Trace) -> None:
    class Chain(TraceHandler):
        def ev_close(self, worker: Any, timedout: bool) -> None:
            super().ev_close(worker, timedout)
            good = NodeSet()
            for rc, nodes in worker.iter_retcodes():
                if rc == 0:
                    good.update(nodes)
            if good and worker.command == "echo first":
                worker.task.shell("echo second", nodes=good, handler=self)

    task_self().shell("echo first", nodes="node[1-2]", handler=Chain(trace))
    task_self().resume()
    trace.note_unordered("buffers", ((bytes(b), sorted(n)) for b, n in task_self().iter_buffers()))
