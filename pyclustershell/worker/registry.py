"""Worker classes by name: ``ssh``, ``rsh``, ``pdsh``, ``exec``, ``popen``, or a module of yours."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker import Worker

# Module and class. Imported at first use: whoever runs no command over SSH does not pay for it.
_BUILT_IN = {
    "exec": ("exec", "ExecWorker"),
    "pdsh": ("pdsh", "WorkerPdsh"),
    "popen": ("popen", "WorkerPopen"),
    "rsh": ("rsh", "WorkerRsh"),
    "ssh": ("ssh", "WorkerSsh"),
}
_CLUSTERSHELL = "clustershell.worker."


def worker_class(name: str) -> type[Worker]:
    """The worker class of a name, as in ``local_workername`` and ``distant_workername``.

    Args:
        name: 'ssh', 'rsh', 'pdsh', 'exec' or 'popen', in any case, also with the name of
            ClusterShell's module ('ClusterShell.Worker.Ssh'); or the name of a module that can be
            imported and holds the class as ``WORKER_CLASS``.

    Raises:
        ModuleNotFoundError: there is no such worker, and no such module.
        AttributeError: the module has no WORKER_CLASS.
    """
    short = name.lower()
    if short.startswith(_CLUSTERSHELL):
        short = short[len(_CLUSTERSHELL) :]
    if short in _BUILT_IN:
        module, class_name = _BUILT_IN[short]
        return _class(f"{__package__}.{module}", class_name)
    try:
        return _class(name, "WORKER_CLASS")
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise  # the module is there; one that it imports is not
        raise ModuleNotFoundError(
            f"there is no worker {name!r}: write one of {', '.join(_BUILT_IN)}, or the name of a "
            "module that has a WORKER_CLASS",
            name=name,
        ) from error


def _class(module: str, name: str) -> type[Worker]:
    worker: type[Worker] = getattr(import_module(module), name)
    return worker
