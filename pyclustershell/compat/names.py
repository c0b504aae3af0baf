"""ClusterShell's modules and public names, and what they are here.

Names that ClusterShell's modules merely imported from each other are there as well, where scripts
are known to fetch them from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Union

from ..defaults import config_paths

# "module:name" of this package, or a function that makes the value.
Home = Union[str, Callable[[], Any]]

#: The version of ClusterShell whose interface this is.
CLUSTERSHELL_VERSION = "1.10.1"


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _from(module: str, *names: str, **renamed: str) -> dict[str, Home]:
    """Names of one module of this package; ``theirs="ours"`` where they differ."""
    homes: dict[str, Home] = {name: f"{module}:{name}" for name in names}
    homes.update({theirs: f"{module}:{ours}" for theirs, ours in renamed.items()})
    return homes


_ENGINE_ERRORS = _from(
    "exceptions",
    "EngineIllegalOperationError",
    "EngineNotSupportedError",
    EngineAlreadyRunningError="AlreadyRunningError",
    EngineException="EngineError",
    EngineTimeoutException="TimeoutError",
)
_FANOUTS: dict[str, Home] = {"FANOUT_DEFAULT": _constant(None), "FANOUT_UNLIMITED": _constant(-1)}
_EVENT_MASKS: dict[str, Home] = {"E_READ": _constant(1), "E_WRITE": _constant(2)}

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
    "Engine.EPoll": {**_EVENT_MASKS, **_from("compat.engine", "EngineEPoll")},
    "Engine.Engine": {
        **_ENGINE_ERRORS,
        **_EVENT_MASKS,
        **_FANOUTS,
        **_from("engine.engine", "Engine"),
        **_from("engine.timer", "EngineTimer", EngineBaseTimer="Timer"),
        **_from("task", EngineAbortException="_Abort"),
        "EPSILON": _constant(1.0e-3),
    },
    "Engine.Factory": _from(
        "compat.engine", "EngineEPoll", "EnginePoll", "EngineSelect", "PreferredEngine"
    ),
    "Engine.Poll": {**_EVENT_MASKS, **_from("compat.engine", "EnginePoll")},
    "Engine.Select": {**_EVENT_MASKS, **_from("compat.engine", "EngineSelect")},
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
        "DEF_GROUPS_CONFIGS": lambda: config_paths("groups.conf"),
        "RESOLVER_NOINIT": _constant(-2),
    },
    "NodeUtils": {
        **_from(
            "groups",
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
        **_from("task", EngineAbortException="_Abort"),
        **_from("topology", "TopologyParser"),
        **_from("exceptions", "TopologyError"),
        **_from("worker.popen", "WorkerPopen"),
    },
    "Topology": {
        **_from(
            "topology",
            "TopologyGraph",
            "TopologyNodeGroup",
            "TopologyParser",
            "TopologyRoute",
            "TopologyRoutingTable",
            "TopologyTree",
        ),
        **_from("exceptions", "TopologyError"),
    },
    "Worker": {},
    "Worker.EngineClient": {
        **_EVENT_MASKS,
        **_from("engine.client", "EngineClient"),
        **_from("engine.port", "EnginePort"),
        **_from(
            "exceptions",
            EngineClientException="WorkerError",
            EngineClientError="WorkerError",
            EngineClientNotSupportedError="WorkerError",
        ),
        "EngineClientEOF": ":EOFError",
    },
    "Worker.Exec": _from(
        "worker.exec", "CopyClient", "ExecClient", "ExecWorker", WORKER_CLASS="ExecWorker"
    ),
    "Worker.Pdsh": _from(
        "worker.pdsh", "PdcpClient", "PdshClient", "WorkerPdsh", WORKER_CLASS="WorkerPdsh"
    ),
    "Worker.Popen": _from("worker.popen", "PopenClient", "WorkerPopen", WORKER_CLASS="WorkerPopen"),
    "Worker.Rsh": _from(
        "worker.rsh", "RcpClient", "RshClient", "WorkerRsh", WORKER_CLASS="WorkerRsh"
    ),
    "Worker.Ssh": _from(
        "worker.ssh", "ScpClient", "SshClient", "WorkerSsh", WORKER_CLASS="WorkerSsh"
    ),
    "Worker.Worker": {
        **_FANOUTS,
        **_from("worker.worker", "DistantWorker", "Worker"),
        **_from("worker.stream", "StreamClient", "StreamWorker", "WorkerSimple"),
        **_from("exceptions", "WorkerError", WorkerException="WorkerError"),
        "WorkerBadArgumentError": ":ValueError",
    },
}
