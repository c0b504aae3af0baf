"""Task: engine, connections, workers and results of one thread, behind one object."""

from __future__ import annotations

from ..exceptions import AlreadyRunningError, TaskError, TaskMsgTreeError, TimeoutError
from .task import Task, task_cleanup, task_self, task_terminate, task_wait

__all__ = [
    "AlreadyRunningError",
    "Task",
    "TaskError",
    "TaskMsgTreeError",
    "TimeoutError",
    "task_cleanup",
    "task_self",
    "task_terminate",
    "task_wait",
]
