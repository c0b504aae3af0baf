"""The workers behind ``Task.shell()`` and ``Task.copy()``."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Optional, Union

from ..arguments import check_command, check_flags
from ..exceptions import TaskError, WorkerError
from ..nodeset import NodeSet
from .settings import TaskSettings

if TYPE_CHECKING:
    from ..nodeset.topology import TopologyTree
    from ..worker.popen import WorkerPopen
    from ..worker.worker import DistantWorker


def make_command_worker(
    settings: TaskSettings,
    command: Union[str, bytes],
    nodes: Optional[NodeSet],
    *,
    key: Any,
    stderr: Optional[bool],
    stdin: Optional[bool],
    remote: bool,
    topology: Optional[TopologyTree] = None,
    **options: Any,
) -> Union[WorkerPopen, DistantWorker]:
    """Create the worker of a command: see ``Task.shell()``.

    Args:
        settings: the task's settings, for the default keys and the worker classes.
        command: the command, for a shell.
        nodes: the nodes; None for a local command.
        key: the key of a local command's results.
        stderr: True to keep stderr apart from stdout; None for the task's default.
        stdin: False for an empty standard input; None for the task's default.
        remote: False to run the command on this host, or on gateways, once for each node.
        topology: the gateways that lead to the nodes; None to connect directly.
        **options: further arguments of the worker class.

    Raises:
        ValueError: an argument is wrong, or arguments do not fit together.
    """
    check_command(command)
    check_flags(stdin=stdin, remote=remote)
    options["stderr"] = settings.get_default("stderr") if stderr is None else stderr
    worker: Any
    if nodes is None:
        if "ssh" in options:
            raise ValueError("ssh is for commands on nodes: say nodes=, or leave ssh out")
        # Not at the top: a program that only copies files does not need it.
        from ..worker.popen import WorkerPopen

        text = os.fsdecode(command) if isinstance(command, bytes) else command
        worker = WorkerPopen(text, key=key, **options)
    else:
        if key is not None:
            raise ValueError("key is for local commands: the results of nodes go by their names")
        name = "distant_worker" if remote or topology else "local_worker"
        worker_class = _routed(settings.get_default(name), topology, options)
        worker = worker_class(nodes, command=command, remote=remote, **options)
    if not (settings.get_default("stdin") if stdin is None else stdin):
        # The commands of some workers have no input to close: see WorkerPdsh.
        with suppress(WorkerError):
            worker.set_write_eof()
    return worker  # type: ignore[no-any-return]


def make_copy_worker(
    settings: TaskSettings,
    source: Union[str, bytes],
    dest: Union[str, bytes, None],
    nodes: NodeSet,
    *,
    stderr: Optional[bool],
    topology: Optional[TopologyTree] = None,
    **options: Any,
) -> DistantWorker:
    """Create the worker of a copy: see ``Task.copy()``.

    Args:
        settings: the task's settings.
        source: the file or directory to copy.
        dest: the destination.
        nodes: the nodes.
        stderr: True to keep stderr apart from stdout; None for the task's default.
        topology: the gateways that lead to the nodes; None to connect directly.
        **options: further arguments of the worker class.

    Raises:
        ValueError: an argument is wrong, or arguments do not fit together.
        TypeError: the worker class does not know an option.
    """
    worker_class = _routed(settings.get_default("distant_worker"), topology, options)
    worker: DistantWorker = worker_class(
        nodes,
        source=source,
        dest=dest,
        stderr=settings.get_default("stderr") if stderr is None else stderr,
        **options,
    )
    return worker


def _routed(worker_class: Any, topology: Optional[TopologyTree], options: dict[str, Any]) -> Any:
    """Return the worker class that reaches nodes through gateways, if there is a topology.

    Args:
        worker_class: the task's worker class.
        topology: the topology, or None.
        options: the arguments of the worker; the topology is added.

    Raises:
        TaskError: workers of this class cannot use gateways.
    """
    if topology is None:
        return worker_class
    # Not at the top: few tasks have a topology.
    from ..worker.ssh import WorkerSsh
    from ..worker.tree import WorkerTree

    if not (isinstance(worker_class, type) and issubclass(worker_class, WorkerSsh)):
        name = getattr(worker_class, "__name__", repr(worker_class))
        raise TaskError(
            f"this task has a topology, and {name} cannot use gateways, as they are reached over "
            "SSH: use tree=False or set_default('auto_tree', False) to do without gateways"
        )
    options["topology"] = topology
    return WorkerTree if worker_class is WorkerSsh else worker_class
