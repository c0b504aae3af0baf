"""Worker classes by name: ``ssh``, ``rsh``, ``pdsh``, ``exec``, ``popen``, or a user's module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker import Worker

# Module and class. A class is imported at first use: a program that runs no command over SSH does
# not load SSH.
_BUILT_IN = {
    "exec": ("exec", "ExecWorker"),
    "pdsh": ("pdsh", "WorkerPdsh"),
    "popen": ("popen", "WorkerPopen"),
    "rsh": ("rsh", "WorkerRsh"),
    "ssh": ("ssh", "WorkerSsh"),
}
_CLUSTERSHELL = "clustershell.worker."


def worker_class(name: str) -> type[Worker]:
    """Find a worker class by a name, as in ``local_workername`` and ``distant_workername``.

    Args:
        name: 'ssh', 'rsh', 'pdsh', 'exec' or 'popen', in any case, alone or as the name of
            ClusterShell's module ('ClusterShell.Worker.Ssh'); or the name of an importable module
            that has the class as its attribute ``WORKER_CLASS``.

    Raises:
        ModuleNotFoundError: no worker and no module has this name.
        AttributeError: the module has no WORKER_CLASS.
    """
    short = name.lower()
    if short.startswith(_CLUSTERSHELL):
        short = short[len(_CLUSTERSHELL) :]
    if short in _BUILT_IN:
        module, class_name = _BUILT_IN[short]
        return _class(f"{__package__}.{module}", class_name)
    unknown = ModuleNotFoundError(
        f"there is no worker {name!r}: use one of {', '.join(_BUILT_IN)}, or the name of a "
        "module that has a WORKER_CLASS",
        name=name,
    )
    if not all(part.isidentifier() for part in name.split(".")):
        raise unknown  # a path, or a relative name: import_module() would raise something else
    try:
        return _class(name, "WORKER_CLASS")
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise  # the module exists, but a module that it imports does not
        raise unknown from error


def _class(module: str, name: str) -> type[Worker]:
    worker: type[Worker] = getattr(import_module(module), name)
    return worker
