"""ClusterShell's modules and public names, and the names of this package in their place.

A name that a module of ClusterShell only imports from another one is included if scripts are known
to import it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Callable, Union

from ..defaults import config_paths

# "module:name" of this package, or a function that makes the value.
Home = Union[str, Callable[[], Any]]

#: The version of ClusterShell with this interface.
CLUSTERSHELL_VERSION = "1.10.1"


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _from(module: str, *names: str, **renamed: str) -> dict[str, Home]:
    """Names of one module of this package; ``theirs="ours"`` for names that differ."""
    homes: dict[str, Home] = {name: f"{module}:{name}" for name in names}
    homes.update({theirs: f"{module}:{ours}" for theirs, ours in renamed.items()})
    return homes


def _std_group_resolver() -> Any:
    return import_module("..nodeset", __package__).std_group_resolver()


_ENGINE_ERRORS = _from(
    "exceptions",
    "EngineIllegalOperationError",
    "EngineNotSupportedError",
    EngineAlreadyRunningError="AlreadyRunningError",
    EngineException="EngineError",
    EngineTimeoutException="TimeoutError",
)


def _modules(*names: str) -> dict[str, Home]:
    """Modules of the standard library that a star import from ClusterShell also imports."""
    return {name: partial(import_module, name) for name in names}


_CLIENT_ERRORS = _from(
    "exceptions",
    EngineClientException="WorkerError",
    EngineClientError="WorkerError",
    EngineClientNotSupportedError="WorkerError",
)
_EXEC_WORKER = _from("worker.exec", "CopyClient", "ExecClient", "ExecWorker")
_FANOUTS: dict[str, Home] = {"FANOUT_DEFAULT": _constant(None), "FANOUT_UNLIMITED": _constant(-1)}
_EVENT_MASKS: dict[str, Home] = {"E_READ": _constant(1), "E_WRITE": _constant(2)}
_OF_AN_ENGINE: dict[str, Home] = {
    **_EVENT_MASKS,
    **_ENGINE_ERRORS,
    **_from("engine.engine", "Engine"),
    "EngineClientEOF": ":EOFError",
}

# By ClusterShell's module, without "ClusterShell."; "" is the package itself.
MODULES: Mapping[str, Mapping[str, Home]] = {
    "": {
        "__version__": _constant(CLUSTERSHELL_VERSION),
        "__version_info__": _constant(tuple(map(int, CLUSTERSHELL_VERSION.split(".")))),
    },
    "Defaults": {
        **_from("defaults", "DEFAULTS", "Defaults", "config_paths"),
        "CFG_SECTION_ENGINE": _constant("engine"),
        "CFG_SECTION_NODESET": _constant("nodeset"),
        "CFG_SECTION_TASK_DEFAULT": _constant("task.default"),
        "CFG_SECTION_TASK_INFO": _constant("task.info"),
    },
    "Engine": {},
    "Engine.EPoll": {**_OF_AN_ENGINE, **_from("compat.engines", "EngineEPoll")},
    "Engine.Engine": {
        **_ENGINE_ERRORS,
        **_EVENT_MASKS,
        **_FANOUTS,
        **_from("engine.engine", "Engine"),
        **_from("engine.timer", "EngineTimer", EngineBaseTimer="Timer"),
        **_from("task.runner", EngineAbortException="RunAborted"),
        "EPSILON": _constant(1.0e-3),
    },
    "Engine.Factory": {
        **_from("compat.engines", "EngineEPoll", "EnginePoll", "EngineSelect", "PreferredEngine"),
        **_from("exceptions", "EngineNotSupportedError"),
    },
    "Engine.Poll": {**_OF_AN_ENGINE, **_from("compat.engines", "EnginePoll")},
    "Engine.Select": {**_OF_AN_ENGINE, **_from("compat.engines", "EngineSelect")},
    "Event": _from("event", "EventHandler"),
    "MsgTree": _from("msgtree", "MODE_DEFER", "MODE_SHIFT", "MODE_TRACE", "MsgTree", "MsgTreeElem"),
    "NodeSet": {
        **_from(
            "nodeset",
            "AUTOSTEP_DISABLED",
            "ILLEGAL_GROUP_CHARS",
            "NodeSet",
            "NodeSetBase",
            "NodeSetError",
            "NodeSetException",
            "NodeSetExternalError",
            "NodeSetParseError",
            "NodeSetParseRangeError",
            "ParsingEngine",
            "RESOLVER_NOGROUP",
            "RangeSet",
            "RangeSetND",
            "RangeSetParseError",
            "expand",
            "fold",
            "grouplist",
            "set_std_group_resolver",
            "set_std_group_resolver_config",
            "std_group_resolver",
            NOGROUP_RESOLVER="RESOLVER_NOGROUP",
        ),
        **_from("defaults", "DEFAULTS", "config_paths"),
        "DEF_GROUPS_CONFIGS": lambda: config_paths("groups.conf"),
        "RESOLVER_NOINIT": _constant(-2),
        "RESOLVER_STD_GROUP": _std_group_resolver,
        "STD_GROUP_RESOLVER": _std_group_resolver,
    },
    "NodeUtils": {
        **_from(
            "nodeset.groups",
            "FileGroupSource",
            "GroupResolver",
            "GroupResolverConfig",
            "GroupSource",
            "UpcallGroupSource",
            "YAMLGroupLoader",
        ),
        **_from(
            "exceptions",
            "GroupResolverConfigError",
            "GroupResolverError",
            "GroupResolverIllegalCharError",
            "GroupResolverSourceError",
            "GroupSourceError",
            "GroupSourceNoUpcall",
            "GroupSourceQueryFailed",
        ),
    },
    "RangeSet": {
        **_from("rangeset", "AUTOSTEP_DISABLED", "RangeSet", "RangeSetND"),
        **_from("exceptions", "RangeSetException", "RangeSetPaddingError", "RangeSetParseError"),
    },
    "Task": {
        **_from("task", "Task", "task_cleanup", "task_self", "task_terminate", "task_wait"),
        **_from(
            "exceptions",
            "AlreadyRunningError",
            "TaskError",
            "TaskMsgTreeError",
            "TimeoutError",
            TaskException="TaskError",
            EngineClientError="WorkerError",
        ),
        **_ENGINE_ERRORS,
        **_FANOUTS,
        **_from("defaults", "DEFAULTS", "config_paths"),
        **_from("engine.port", "EnginePort"),
        **_from("engine.timer", "EngineTimer"),
        **_from("event", "EventHandler"),
        **_from("msgtree", "MsgTree"),
        **_from("nodeset", "NodeSet"),
        **_from("compat.engines", "PreferredEngine"),
        **_from("task.runner", EngineAbortException="RunAborted"),
        **_from("nodeset.topology", "TopologyParser"),
        **_from("exceptions", "TopologyError"),
        **_from("worker.popen", "WorkerPopen"),
        **_modules("logging", "os", "socket", "sys", "threading", "traceback"),
        "itemgetter": lambda: import_module("operator").itemgetter,
        "sleep": lambda: import_module("time").sleep,
    },
    "Propagation": {
        **_from("exceptions", "RouteResolvingError", "TopologyError"),
        **_from("defaults", "DEFAULTS"),
        **_from("nodeset", "NodeSet"),
    },
    "Topology": {
        **_from(
            "nodeset.topology",
            "TopologyGraph",
            "TopologyNodeGroup",
            "TopologyParser",
            "TopologyRoute",
            "TopologyRoutingTable",
            "TopologyTree",
        ),
        **_from("exceptions", "TopologyError"),
        **_from("nodeset", "NodeSet"),
    },
    "Worker": {},
    "Worker.EngineClient": {
        **_EVENT_MASKS,
        **_from("engine.engine", "EngineClient"),
        **_CLIENT_ERRORS,
        **_from("engine.port", "EnginePort"),
        **_from("engine.timer", EngineBaseTimer="Timer"),
        **_from("defaults", "DEFAULTS"),
        "EngineClientEOF": ":EOFError",
    },
    "Worker.Exec": {
        **_EXEC_WORKER,
        **_from("worker.exec", WORKER_CLASS="ExecWorker"),
        **_from("worker.worker", "DistantWorker"),
        **_from("engine.engine", "EngineClient"),
        **_from("nodeset", "NodeSet"),
        **_from("exceptions", "WorkerError"),
    },
    "Worker.Pdsh": {
        **_EXEC_WORKER,
        **_CLIENT_ERRORS,
        **_from("worker.pdsh", "PdcpClient", "PdshClient", "WorkerPdsh", WORKER_CLASS="WorkerPdsh"),
        **_from("nodeset", "NodeSet"),
        **_from("exceptions", "WorkerError"),
    },
    "Worker.Popen": {
        **_from("worker.popen", "PopenClient", "WorkerPopen", WORKER_CLASS="WorkerPopen"),
        **_from("worker.stream", "StreamClient", "WorkerSimple"),
    },
    "Worker.Rsh": {
        **_EXEC_WORKER,
        **_from("worker.rsh", "RcpClient", "RshClient", "WorkerRsh", WORKER_CLASS="WorkerRsh"),
    },
    "Worker.Ssh": {
        **_EXEC_WORKER,
        **_from("worker.ssh", "ScpClient", "SshClient", "WorkerSsh", WORKER_CLASS="WorkerSsh"),
    },
    "Worker.Tree": {
        **_from("worker.tree", "WorkerTree", TreeWorker="WorkerTree", WORKER_CLASS="WorkerTree"),
        **_from("engine.port", "EnginePort"),
        **_from("event", "EventHandler"),
        **_from("exceptions", "WorkerError"),
        **_from("nodeset", "NodeSet"),
        **_from("worker.exec", "ExecWorker"),
        **_from("worker.worker", "DistantWorker"),
    },
    "Worker.Worker": {
        **_FANOUTS,
        **_from("worker.worker", "DistantWorker", "Worker"),
        **_from("engine.engine", "EngineClient"),
        **_from("nodeset", "NodeSet"),
        **_from("worker.stream", "StreamClient", "StreamWorker", "WorkerSimple"),
        **_from("exceptions", "WorkerError", WorkerException="WorkerError"),
        "WorkerBadArgumentError": ":ValueError",
    },
}
