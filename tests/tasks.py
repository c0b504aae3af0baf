"""A task for one test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pyclustershell.task import Task, task_self


@contextlib.contextmanager
def fresh_task() -> Iterator[Task]:
    """The calling thread's task, new, and given up at the end with all that it holds."""
    task_self().abort(kill=True)
    task = task_self()
    try:
        yield task
    finally:
        task.abort(kill=True)
