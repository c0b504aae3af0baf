"""Where the traces are not equal: on purpose, with the reason, or still to be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """What is expected here where ClusterShell does something else.

    Attributes:
        reason: why.
        events: by source, the events that are expected here in the place of ClusterShell's.
        notes: by what they note, the values that are expected here.
        theirs_fails: ClusterShell fails or hangs: only ``events`` and ``notes`` are compared.
    """

    reason: str
    events: Mapping[str, list[Any]] = {}
    notes: Mapping[str, Any] = {}
    theirs_fails: bool = False

    def applied_to(self, theirs: dict[str, Any]) -> dict[str, Any]:
        """What is expected here, given ClusterShell's trace."""
        if self.theirs_fails:
            return {"events": dict(self.events), "notes": [[k, v] for k, v in self.notes.items()]}
        notes = [[what, self.notes.get(what, value)] for what, value in theirs["notes"]]
        events = {**theirs["events"], **self.events}
        return {"events": {k: v for k, v in events.items() if v}, "notes": notes}


def _start_and_close(command: str) -> dict[str, list[Any]]:
    source = f"<{command}>"
    return {source: [["ev_start", source], ["ev_close", source, False]]}


_CLOSED = (
    "ClusterShell forgets (and does not kill) a command whose ev_start or ev_pickup was left by "
    "an exception. Here every worker that has started gets its ev_close."
)
_AUTOCLOSED = (
    "ClusterShell's autoclose workers live on when the run ends, without a word. Here they are "
    "ended, as its documentation has it, and get their ev_close."
)
_SIGNAL = (
    "ssh exits with 255 where a signal ended the remote command; here the return code is 128 + n, "
    "as ClusterShell has it for local commands (API.md, Workers)."
)
_REFUSED = "ssh: connect to host 127.0.1.1 port 1: Connection refused"


def _return_code(rc: int, command: str) -> Difference:
    source = f"<{command}>"
    return Difference(
        _SIGNAL,
        {f"{source} node1": [["ev_pickup", source, "node1"], ["ev_hup", source, "node1", rc]]},
        {
            "max_retcode": rc,
            "iter_retcodes": [[rc, ["node1"]]],
            "worker iter_retcodes": [[rc, "NodeSet(node1)"]],
            "iter_node_retcodes": [["node1", rc]],
            "node_retcode node1": rc,
            "node_rc node1": rc,
        },
    )


_ALL_NODES = "<echo %hosts; exec sleep 60>"

DIFFERENCES: dict[str, Difference] = {
    "execworker.timeout_with_all_nodes_at_once": Difference(
        "ClusterShell fails with a TypeError: a NodeSet cannot be the key of a timeout.",
        {
            _ALL_NODES: [["ev_start", _ALL_NODES], ["ev_close", _ALL_NODES, True]],
            **{
                f"{_ALL_NODES} {node}": [
                    ["ev_pickup", _ALL_NODES, node],
                    ["ev_read", _ALL_NODES, node, "stdout", "b'node[1-2]'"],
                ]
                for node in ("node1", "node2")
            },
        },
        {"iter_keys_timeout": ["node1", "node2"]},
        theirs_fails=True,
    ),
    "local.abort_in_ev_start": Difference(
        "ClusterShell fails with an AssertionError.",
        _start_and_close("exec sleep 60"),
        {
            "max_retcode": None,
            "num_timeout": 0,
            "iter_keys_timeout": [],
            "iter_buffers": [],
            "iter_errors": [],
            "iter_retcodes": [],
            "retcode": None,
            "read": None,
            "read stderr": None,
            "did_timeout": False,
        },
        theirs_fails=True,
    ),
    "local.task_abort_in_ev_start": Difference(_CLOSED, _start_and_close("echo one")),
    "local.task_abort_in_ev_pickup": Difference(_CLOSED, _start_and_close("echo one")),
    "local.handler_raises_in_ev_start": Difference(
        _CLOSED, _start_and_close("read line; echo $line; exec sleep 60")
    ),
    "local.handler_raises_in_ev_pickup": Difference(
        _CLOSED, _start_and_close("read line; echo $line; exec sleep 60")
    ),
    "local.resume_in_a_handler": Difference(
        "ClusterShell forgets the results of the run that it refuses to start again.",
        notes={"iter_buffers": [["b'one'", ["k"]]], "read": "b'one'"},
    ),
    "local.autoclose": Difference(
        _AUTOCLOSED, {"<auto>": [["ev_start", "<auto>"], ["ev_close", "<auto>", False]]}
    ),
    "remote.autoclose": Difference(_AUTOCLOSED, _start_and_close("echo on; exec sleep 60")),
    "pdsh.abort_in_ev_read": Difference(
        "ClusterShell says that an aborted pdsh command ended well, with 0.",
        {
            "<echo one; exec sleep 60> node1": [
                ["ev_pickup", "<echo one; exec sleep 60>", "node1"],
                ["ev_read", "<echo one; exec sleep 60>", "node1", "stdout", "b'one'"],
            ]
        },
        {
            "max_retcode": None,
            "iter_retcodes": [],
            "worker iter_retcodes": [],
            "iter_node_retcodes": [],
            "node_retcode node1": "raises KeyError",
            "node_rc node1": "raises KeyError",
        },
    ),
    "remote.killed_by_a_signal": _return_code(137, "kill -9 $$"),
    "remote.ended_by_term": _return_code(143, "kill -TERM $$"),
    "remote.connection_refused_with_stderr_merged": Difference(
        "What went wrong with a connection comes on 'stderr' in any case (API.md, New here).",
        {
            "<echo one> node1": [
                ["ev_pickup", "<echo one>", "node1"],
                ["ev_read", "<echo one>", "node1", "stderr", f"b'{_REFUSED}'"],
                ["ev_hup", "<echo one>", "node1", 255],
            ]
        },
        {
            "iter_buffers": [],
            "iter_errors": [[f"b'{_REFUSED}'", ["node1"]]],
            "worker iter_buffers": [],
            "worker iter_errors": [[f"b'{_REFUSED}'", "NodeSet(node1)"]],
            "iter_node_buffers": [],
            "iter_node_errors": [["node1", f"b'{_REFUSED}'"]],
            "node_buffer node1": None,
            "node_error node1": f"b'{_REFUSED}'",
            "read node1": None,
        },
    ),
    "timers.task_timeout_clears_timers": Difference(
        "ClusterShell drops timers that fire after the task's timeout, and ends without a word "
        "where nothing else is left. Here, as documented, the timeout raises.",
        notes={"resume": "raises TimeoutError"},
    ),
    "timers.abort_clears_timers_before_the_run": Difference(
        "ClusterShell's abort() between runs spares the timers, which it documents as cleaned.",
        events={"<t>": []},
    ),
}

#: Differences that are none on purpose, by scenario or by module. Each shall go.
PENDING: dict[str, str] = {
    "local.bad_arguments": "Task.copy is not there yet",
}
