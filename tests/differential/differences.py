"""The intended differences between the traces of ClusterShell and of this package, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """An intended difference from ClusterShell.

    Attributes:
        reason: why.
        events: by source, the events of this package in place of ClusterShell's.
        notes: by the name of the note, the values of this package.
        theirs_fails: ClusterShell fails or hangs: only ``events`` and ``notes`` are compared.
    """

    reason: str
    events: Mapping[str, list[Any]] = {}
    notes: Mapping[str, Any] = {}
    theirs_fails: bool = False

    def applied_to(self, theirs: dict[str, Any]) -> dict[str, Any]:
        """The expected trace of this package, made from ClusterShell's trace."""
        if self.theirs_fails:
            return {"events": dict(self.events), "notes": [[k, v] for k, v in self.notes.items()]}
        notes = [[what, self.notes.get(what, value)] for what, value in theirs["notes"]]
        events = {**theirs["events"], **self.events}
        return {"events": {k: v for k, v in events.items() if v}, "notes": notes}


def _start_and_close(command: str) -> dict[str, list[Any]]:
    source = f"<{command}>"
    return {source: [["ev_start", source], ["ev_close", source, False]]}


_CLOSED = (
    "If ev_start or ev_pickup raises, ClusterShell forgets the command and does not kill it. "
    "Here every worker that has started gets its ev_close."
)
_AUTOCLOSED = (
    "ClusterShell's autoclose workers silently live on when the run ends. Here they are ended, "
    "as its documentation says, and get their ev_close."
)
_SIGNAL = (
    "If a signal ended the remote command, ssh exits with 255. Here the return code is 128 + "
    "n, as in ClusterShell for local commands."
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


def _timed_out(reason: str, command: str, *nodes: str) -> Difference:
    source = f"<{command}>"
    return Difference(
        reason,
        {
            source: [["ev_start", source], ["ev_close", source, True]],
            **{f"{source} {node}": [["ev_pickup", source, node]] for node in nodes},
        },
        {
            "max_retcode": None,
            "num_timeout": len(nodes),
            "iter_keys_timeout": list(nodes),
            "worker iter_keys_timeout": list(nodes),
            "did_timeout": True,
            **{
                f"{who}iter_{what}": []
                for who in ("", "worker ")
                for what in ("buffers", "retcodes")
            },
            **{f"iter_node_{what}": [] for what in ("buffers", "retcodes")},
            **dict.fromkeys(("node_retcode node1", "node_rc node1"), "raises KeyError"),
            **dict.fromkeys(("node_buffer node1", "read node1"), None),
        },
    )


_NO_PROGRAM = "cannot start a process: [Errno 2] No such file or directory: '/no/such/rsh'"
_HOST = "no-such-host"
_DOMAIN = f"{_HOST}.invalid"
_NO_HOST = f"b'ssh: Could not resolve hostname {_DOMAIN}: Name or service not known'"
_CR = "<printf 'a\\rb\\r\\nc\\n'>"
_ALL_NODES = "<echo %hosts; exec sleep 60>"

DIFFERENCES: dict[str, Difference] = {
    "execworker.timeout_with_all_nodes_at_once": Difference(
        "ClusterShell fails with a TypeError if a command with %hosts times out. Here it times "
        "out.",
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
        "ClusterShell fails with an AssertionError if a worker is aborted in its ev_start. "
        "Here it is aborted.",
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
        "If a handler calls resume(), which is refused, ClusterShell forgets the results so "
        "far. Here they stay.",
        notes={"iter_buffers": [["b'one'", ["k"]]], "read": "b'one'"},
    ),
    "local.autoclose": Difference(
        _AUTOCLOSED, {"<auto>": [["ev_start", "<auto>"], ["ev_close", "<auto>", False]]}
    ),
    "remote.autoclose": Difference(_AUTOCLOSED, _start_and_close("echo on; exec sleep 60")),
    "pdsh.abort_in_ev_read": Difference(
        "ClusterShell gives an aborted pdsh command the return code 0. Here it has none.",
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
    "pdsh.command_timeout": _timed_out(
        "If pdsh ends a node after the command_timeout, ClusterShell treats the node as "
        "unreachable. Here it has timed out.",
        "exec sleep 60",
        "node1",
        "node2",
    ),
    "pdsh.a_name_with_a_domain": Difference(
        "pdsh leaves out a domain that all nodes share, and ClusterShell treats the short "
        "names as other nodes. Here nodes keep the names that they were given.",
        {
            f"<echo one> {_HOST}": [],
            f"<echo one> {_DOMAIN}": [
                ["ev_pickup", "<echo one>", _DOMAIN],
                ["ev_read", "<echo one>", _DOMAIN, "stdout", _NO_HOST],
                ["ev_hup", "<echo one>", _DOMAIN, 255],
            ],
        },
        {
            "iter_buffers": [[_NO_HOST, [_DOMAIN]]],
            "iter_retcodes": [[255, [_DOMAIN]]],
            "worker iter_buffers": [[_NO_HOST, f"NodeSet({_DOMAIN})"]],
            "iter_node_buffers": [[_DOMAIN, _NO_HOST]],
            "worker iter_retcodes": [[255, f"NodeSet({_DOMAIN})"]],
            "iter_node_retcodes": [[_DOMAIN, 255]],
        },
    ),
    "rsh.no_such_program": Difference(
        "If a local program cannot be started, a line on 'stderr' gives the reason.",
        {
            "<echo one> node1": [
                ["ev_pickup", "<echo one>", "node1"],
                ["ev_read", "<echo one>", "node1", "stderr", repr(_NO_PROGRAM.encode())],
                ["ev_hup", "<echo one>", "node1", 255],
            ]
        },
        {"iter_errors": [[repr(_NO_PROGRAM.encode()), ["node1"]]]},
    ),
    "remote.command_timeout_runs_out": _timed_out(
        "The info key command_timeout also limits commands over SSH that have no timeout=. In "
        "ClusterShell it is for pdsh only.",
        "sleep 8; echo late",
        "node1",
    ),
    "remote.killed_by_a_signal": _return_code(137, "kill -9 $$"),
    "remote.ended_by_term": _return_code(143, "kill -TERM $$"),
    "remote.connection_refused_with_stderr_merged": Difference(
        "The reason for a failed connection comes on 'stderr', also if stderr is not kept apart.",
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
    "scripts.a_command_scheduled_in_ev_start": Difference(
        "ClusterShell fails with a RuntimeError if ev_start or ev_pickup of a run's first "
        "commands schedules another command. Here the command is scheduled.",
        {
            **_start_and_close("echo one"),
            **_start_and_close("echo two"),
            **{
                f"<echo {key}> {key}": [
                    ["ev_pickup", f"<echo {key}>", key],
                    ["ev_read", f"<echo {key}>", key, "stdout", f"b'{key}'"],
                    ["ev_hup", f"<echo {key}>", key, 0],
                ]
                for key in ("one", "two")
            },
        },
        theirs_fails=True,
    ),
    "scripts.a_lone_carriage_return": Difference(
        "ClusterShell also ends a line at a carriage return, and moves the text before it to "
        "the end. Here a lone carriage return stays in its line.",
        {
            f"{_CR} k": [
                ["ev_pickup", _CR, "k"],
                ["ev_read", _CR, "k", "stdout", r"b'a\rb'"],
                ["ev_read", _CR, "k", "stdout", "b'c'"],
                ["ev_hup", _CR, "k", 0],
            ]
        },
        {"iter_buffers": [[r"b'a\rb\nc'", ["k"]]]},
    ),
    "scripts.an_empty_node_set": Difference(
        "If nodes= is an empty string or node set, ClusterShell runs the command on this host. "
        "Here it is a ValueError.",
        {
            "<echo here>": [],
            "<echo here> <echo here>": [],
        },
        {
            "empty": "raises ValueError",
            "max_retcode": None,
            "iter_buffers": [],
            "iter_retcodes": [],
        },
    ),
    "scripts.a_thread_whose_handler_raised": Difference(
        "After an exception, the thread of a ClusterShell task with its own thread ends. Here "
        "it waits for the next resume().",
        notes={"alive": True},
    ),
    "copy.a_missing_file": Difference(
        "If the source is missing, scp exits with 255, as without a connection. Here the "
        "return code is 1, as for every other failed copy.",
        {
            f"<copy> {node}": [["ev_pickup", "<copy>", node], ["ev_hup", "<copy>", node, 1]]
            for node in ("node1", "node2")
        },
        {"max_retcode": 1, "retcodes": [[1, "NodeSet(node[1-2])"]]},
    ),
    "timers.task_timeout_clears_timers": Difference(
        "ClusterShell drops timers that fire after the task's timeout, and ends silently if "
        "nothing else is left. Here the timeout raises, as documented.",
        notes={"resume": "raises TimeoutError"},
    ),
    "timers.abort_clears_timers_before_the_run": Difference(
        "ClusterShell's abort() between runs keeps the timers; its documentation says that "
        "they are removed. Here they are removed.",
        events={"<t>": []},
    ),
}
