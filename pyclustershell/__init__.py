"""Run commands and copy files on thousands of hosts, over SSH, with nothing but Python.

The names below are imported when they are first used: ``import pyclustershell`` reads no file and
does not import paramiko.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .compat import install_as_clustershell
    from .event import EventHandler
    from .exceptions import AlreadyRunningError, TaskError, TaskMsgTreeError, TimeoutError
    from .msgtree import MsgTree
    from .nodeset import NodeSet, expand, fold, grouplist
    from .rangeset import RangeSet, RangeSetND
    from .results import NodeResult, Results
    from .ssh.config.askonce import AskOnce
    from .ssh.config.options import SSHOptions
    from .task import Task, task_cleanup, task_self, task_terminate, task_wait
    from .worker.exec import ExecWorker
    from .worker.pdsh import WorkerPdsh
    from .worker.popen import WorkerPopen
    from .worker.rsh import WorkerRsh
    from .worker.ssh import WorkerSsh
    from .worker.stream import StreamWorker

_MODULE_OF = {
    "AlreadyRunningError": "exceptions",
    "AskOnce": "ssh.config.askonce",
    "EventHandler": "event",
    "ExecWorker": "worker.exec",
    "MsgTree": "msgtree",
    "NodeResult": "results",
    "NodeSet": "nodeset",
    "RangeSet": "rangeset",
    "RangeSetND": "rangeset",
    "Results": "results",
    "SSHOptions": "ssh.config.options",
    "StreamWorker": "worker.stream",
    "Task": "task",
    "TaskError": "exceptions",
    "TaskMsgTreeError": "exceptions",
    "TimeoutError": "exceptions",
    "WorkerPdsh": "worker.pdsh",
    "WorkerPopen": "worker.popen",
    "WorkerRsh": "worker.rsh",
    "WorkerSsh": "worker.ssh",
    "expand": "nodeset",
    "fold": "nodeset",
    "grouplist": "nodeset",
    "install_as_clustershell": "compat",
    "task_cleanup": "task",
    "task_self": "task",
    "task_terminate": "task",
    "task_wait": "task",
}

__all__ = [
    "AlreadyRunningError",
    "AskOnce",
    "EventHandler",
    "ExecWorker",
    "MsgTree",
    "NodeResult",
    "NodeSet",
    "RangeSet",
    "RangeSetND",
    "Results",
    "SSHOptions",
    "StreamWorker",
    "Task",
    "TaskError",
    "TaskMsgTreeError",
    "TimeoutError",
    "WorkerPdsh",
    "WorkerPopen",
    "WorkerRsh",
    "WorkerSsh",
    "__version__",
    "expand",
    "fold",
    "grouplist",
    "install_as_clustershell",
    "task_cleanup",
    "task_self",
    "task_terminate",
    "task_wait",
]


# No output unless the program configures logging: without a handler, Python prints warnings on
# standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
