"""WorkerRsh, over a program that stands in for rsh."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ClusterShell.Task import task_self
from ClusterShell.Worker.Rsh import WorkerRsh

from tests.differential.trace import Trace, TraceHandler, note_task, note_worker

# rsh [-l user] host command; it has no return code of the command's own.
PROGRAM = """#!/bin/sh
user=nobody
if [ "$1" = -l ]; then user=$2; shift 2; fi
NODE=$1 RSH_USER=$user
export NODE RSH_USER
shift
exec sh -c "$*"
"""


@contextmanager
def _program() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rsh")
        with open(path, "w") as file:
            file.write(PROGRAM)
        os.chmod(path, 0o700)
        task_self().set_info("rsh_path", path)
        yield path


def _run(trace: Trace, command: str, **kwargs: Any) -> None:
    with _program():
        worker = WorkerRsh("node[1-2]", TraceHandler(trace), command=command, **kwargs)
        task_self().schedule(worker)
        task_self().resume()
        note_task(trace, task_self())
        note_worker(trace, worker, ["node1"])


def output_and_status(trace: Trace) -> None:
    _run(trace, "echo on $NODE as $RSH_USER; exit 3")


def with_a_user(trace: Trace) -> None:
    task_self().set_info("ssh_user", "somebody")
    _run(trace, "echo on $NODE as $RSH_USER")


def stderr_apart(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2", stderr=True)


def timeout(trace: Trace) -> None:
    _run(trace, "echo before; exec sleep 60", timeout=0.4)


def write(trace: Trace) -> None:
    with _program():
        worker = WorkerRsh("node[1-2]", TraceHandler(trace), command="cat")
        worker.write(b"input\n")
        worker.set_write_eof()
        task_self().schedule(worker)
        task_self().resume()
        note_task(trace, task_self())


def as_the_default_worker(trace: Trace) -> None:
    with _program():
        task_self().set_default("distant_worker", WorkerRsh)
        worker = task_self().run("echo on $NODE", nodes="node[1-2]", handler=TraceHandler(trace))
        trace.note("class", type(worker))
        note_task(trace, task_self())


def no_such_program(trace: Trace) -> None:
    task = task_self()
    task.set_info("rsh_path", "/no/such/rsh")
    task.set_default("distant_workername", "rsh")
    task.run("echo one", nodes="node1", handler=TraceHandler(trace))
    note_task(trace, task)
