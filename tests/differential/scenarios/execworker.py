"""ExecWorker: a local command per node."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ClusterShell.Task import task_self
from ClusterShell.Worker.Exec import ExecWorker

from tests.differential.trace import Trace, TraceHandler, note_task, note_worker, old_handler


def _run(trace: Trace, nodes: str, command: str, **kwargs: Any) -> Any:
    kwargs.setdefault("handler", TraceHandler(trace))
    worker = ExecWorker(nodes, command=command, **kwargs)
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    note_worker(trace, worker, worker.nodes)
    return worker


def placeholders(trace: Trace) -> None:
    _run(trace, "node[1-3]", "echo %h %host %n %rank %%; exit %n")


def placeholders_in_braces(trace: Trace) -> None:
    _run(trace, "node[1-2]", "echo %{h}x %{host}s %{n}th %{rank}")


def all_nodes_at_once(trace: Trace) -> None:
    _run(trace, "node[1-3]", "echo %hosts; exit 2")


def all_nodes_at_once_in_braces(trace: Trace) -> None:
    _run(trace, "node[1-3]", "echo %{hosts}; echo err >&2", stderr=True)


def unknown_placeholder(trace: Trace) -> None:
    def run() -> None:
        # ClusterShell raises the error from resume(), this package when the worker is made.
        task_self().schedule(ExecWorker("node1", None, command="echo %unknown"))
        task_self().resume()

    trace.catch("run", run)


def stderr_apart(trace: Trace) -> None:
    _run(trace, "node[1-2]", "echo out; echo err >&2; exit 3", stderr=True)


def timeout(trace: Trace) -> None:
    _run(trace, "node[1-2]", "echo before; exec sleep 60", timeout=0.4)


def timeout_on_one_of_two(trace: Trace) -> None:
    _run(trace, "node[1-2]", "test %n = 1 || exec sleep 60; echo quick", timeout=0.6)


def timeout_with_all_nodes_at_once(trace: Trace) -> None:
    command = "echo %hosts; exec sleep 60"
    task_self().schedule(ExecWorker("node[1-2]", TraceHandler(trace), timeout=0.4, command=command))
    task_self().resume()
    trace.note_unordered("iter_keys_timeout", task_self().iter_keys_timeout())


def killed_by_a_signal(trace: Trace) -> None:
    _run(trace, "node1", "kill -9 $$")


def write(trace: Trace) -> None:
    worker = ExecWorker("node[1-2]", TraceHandler(trace), command="cat")
    worker.write(b"one\n")
    task_self().schedule(worker)
    worker.write(b"two\n")
    worker.set_write_eof()
    task_self().resume()
    note_task(trace, task_self())


def abort_in_ev_read(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_read=lambda worker, *_: worker.abort())
    _run(trace, "node1", "echo one; exec sleep 60", handler=handler)


def old_handlers(trace: Trace) -> None:
    _run(trace, "node[1-2]", "echo out; exit 2", handler=old_handler(trace))


def old_handlers_and_a_timeout(trace: Trace) -> None:
    _run(trace, "node1", "echo out; exec sleep 60", handler=old_handler(trace), timeout=0.4)


def without_command_or_source(trace: Trace) -> None:
    trace.catch("neither", ExecWorker, "node1", None)


def remote_false(trace: Trace) -> None:
    worker = task_self().shell(
        "echo %h %n; exit 1", nodes="node[1-2]", handler=TraceHandler(trace), remote=False
    )
    trace.note("class", type(worker))
    task_self().resume()
    note_task(trace, task_self())
    note_worker(trace, worker, ["node1"])


def as_distant_worker(trace: Trace) -> None:
    task_self().set_default("distant_worker", ExecWorker)
    worker = task_self().run("echo on %h", nodes="node[1-2]", handler=TraceHandler(trace))
    trace.note("class", type(worker))
    note_task(trace, task_self())


def by_name(trace: Trace) -> None:
    task_self().set_default("distant_workername", "exec")
    trace.note("class", task_self().default("distant_worker"))
    task_self().run("echo on %h", nodes="node[1-2]", handler=TraceHandler(trace))
    note_task(trace, task_self())
    trace.catch("unknown", task_self().set_default, "distant_workername", "nosuchworker")


def copies(trace: Trace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, "source")
        with open(source, "w") as file:
            file.write("contents")
        worker = ExecWorker(
            "node[1-2]", TraceHandler(trace), source=source, dest=os.path.join(directory, "copy-%h")
        )
        task_self().schedule(worker)
        task_self().resume()
        trace.note("files", sorted(os.listdir(directory)))
        trace.note_unordered("retcodes", worker.iter_retcodes())
