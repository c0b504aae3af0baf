"""WorkerPdsh, over the real pdsh and ssh."""

from __future__ import annotations

import os
from typing import Any

from ClusterShell.Task import task_self
from ClusterShell.Worker.EngineClient import EngineClientError
from ClusterShell.Worker.Pdsh import WorkerPdsh

from tests.differential.trace import Trace, TraceHandler, note_task, note_worker


def _run(trace: Trace, command: str, nodes: str = "node[1-2]", **kwargs: Any) -> None:
    os.environ["PDSH_RCMD_TYPE"] = "ssh"
    os.environ["PDSH_SSH_ARGS"] = f"{trace.ssh_options} %h"
    kwargs.setdefault("handler", TraceHandler(trace))
    worker = WorkerPdsh(nodes, command=command, **kwargs)
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    note_worker(trace, worker, ["node1"])


def output(trace: Trace) -> None:
    _run(trace, "echo one; echo two")


def status(trace: Trace) -> None:
    _run(trace, "exit 3")


def different_outputs(trace: Trace) -> None:
    _run(trace, "echo $SSH_CONNECTION | cut -d. -f7 | cut -c1", "node[1-3]")


def stderr_apart(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2", stderr=True)


def timeout(trace: Trace) -> None:
    _run(trace, "echo before; exec sleep 60", timeout=5)


def abort_in_ev_read(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_read=lambda worker, *_: worker.abort())
    _run(trace, "echo one; exec sleep 60", "node1", handler=handler)


def no_standard_input(trace: Trace) -> None:
    worker = WorkerPdsh("node1", None, command="cat")
    for call in (lambda: worker.write(b"x"), worker.set_write_eof):
        try:
            call()
        except EngineClientError:
            trace.note("refused")


def stdin_off(trace: Trace) -> None:
    task_self().set_default("distant_worker", WorkerPdsh)
    trace.catch("shell", lambda: task_self().shell("cat", nodes="node1", stdin=False) and None)


def command_timeout(trace: Trace) -> None:
    task_self().set_info("command_timeout", 1)
    _run(trace, "exec sleep 60")


def a_name_with_a_domain(trace: Trace) -> None:
    _run(trace, "echo one", "no-such-host.invalid")
