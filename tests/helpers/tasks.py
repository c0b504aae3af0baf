"""Tasks for tests: one for each test, and short ways to run workers and to read results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from pyclustershell.ssh.pool import TransportPool
from pyclustershell.task import Task, task_self

WorkerT = TypeVar("WorkerT")


@contextlib.contextmanager
def fresh_task() -> Iterator[Task]:
    """A new task for the calling thread; it is closed at the end."""
    task_self().abort(kill=True)
    task = task_self()
    try:
        yield task
    finally:
        task.abort(kill=True)


def run_worker(task: Task, worker: WorkerT) -> WorkerT:
    """Schedule a worker, run the task until its end, and return the worker."""
    task.schedule(worker)  # type: ignore[arg-type]
    task.resume()
    return worker


def outputs(task: Task) -> dict[str, bytes]:
    """The standard output of each node."""
    return {node: bytes(buffer) for buffer, nodes in task.iter_buffers() for node in nodes}


def connect_to(task: Task, address: tuple[str, int], *known_hosts: str) -> None:
    """Let every node of a task be one server.

    Args:
        task: the task.
        address: the server's host and port.
        known_hosts: the only known_hosts lines that the task has.
    """
    host, port = address
    task.configure_ssh(hostname=host, port=port, known_hosts=[*known_hosts])


def pool_of(task: Task) -> TransportPool:
    """The pool of a task's connections, for tests that look into it."""
    return task._connections.pool
