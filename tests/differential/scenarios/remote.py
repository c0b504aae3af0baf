"""Commands on nodes, over a real sshd."""

from __future__ import annotations

from typing import Any

from ClusterShell.NodeSet import NodeSet
from ClusterShell.Task import task_self
from ClusterShell.Worker.Ssh import WorkerSsh

from tests.differential.trace import (
    CURRENT,
    Trace,
    TraceHandler,
    note_task,
    note_worker,
    old_handler,
)


def _run(trace: Trace, command: str, nodes: Any = "node[1-2]", **kwargs: Any) -> Any:
    task = task_self()
    kwargs.setdefault("handler", TraceHandler(trace))
    worker = task.shell(command, nodes=nodes, **kwargs)
    task.resume()
    note_task(trace, task)
    note_worker(trace, worker, [*NodeSet(nodes), "unknown"])
    return worker


def output_and_status(trace: Trace) -> None:
    _run(trace, "echo one; echo two; exit 3")


def no_output(trace: Trace) -> None:
    _run(trace, "true", "node1")


def stderr_apart(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2; exit 1", stderr=True)


def stderr_merged(trace: Trace) -> None:
    _run(trace, "echo out; sleep 0.2; echo err >&2; sleep 0.2; echo more", "node1")


def last_line_without_newline(trace: Trace) -> None:
    _run(trace, "printf 'one\\ntwo'", "node1")


def empty_lines_and_crlf(trace: Trace) -> None:
    _run(trace, "printf '\\n\\none\\r\\n\\n two \\n'", "node1")


def bytes_that_are_no_text(trace: Trace) -> None:
    _run(trace, "printf '\\377\\376x\\n'", "node1")


def much_output(trace: Trace) -> None:
    task = task_self()
    task.run("seq 1 60000", nodes="node1")
    buffer = task.node_buffer("node1")
    trace.note("length", [len(buffer), buffer.count(b"\n"), buffer[-12:]])


def killed_by_a_signal(trace: Trace) -> None:
    _run(trace, "kill -9 $$", "node1")


def ended_by_term(trace: Trace) -> None:
    _run(trace, "kill -TERM $$", "node1")


def command_not_found(trace: Trace) -> None:
    _run(trace, "/no/such/command 2>/dev/null", "node1")


def quotes_and_several_lines(trace: Trace) -> None:
    _run(trace, "echo 'a  b' \"$((1 + 1))\" \\\n  c\necho second", "node1")


def different_outputs_and_statuses(trace: Trace) -> None:
    task = task_self()
    one = task.shell("echo same; exit 1", nodes="node[1-2]", handler=TraceHandler(trace))
    two = task.shell("echo same; echo more; exit 2", nodes="node3", handler=TraceHandler(trace))
    task.resume()
    note_task(trace, task)
    note_worker(trace, one, ["node1", "node3"])
    note_worker(trace, two, ["node1", "node3"])


def two_workers_on_one_node(trace: Trace) -> None:
    task = task_self()
    task.shell("echo one; exit 1", nodes="node1", handler=TraceHandler(trace))
    task.shell("sleep 0.3; echo one; exit 2", nodes="node1", handler=TraceHandler(trace))
    task.shell("sleep 0.6; echo two; exit 0", nodes="node1", handler=TraceHandler(trace))
    task.resume()
    trace.note("node_buffer", task.node_buffer("node1"))
    trace.note("node_retcode", task.node_retcode("node1"))
    note_task(trace, task)


def timeout(trace: Trace) -> None:
    _run(trace, "echo before; exec sleep 60", timeout=5)


def timeout_on_one_of_two(trace: Trace) -> None:
    task = task_self()
    handler = TraceHandler(trace)
    command = "case $SSH_CONNECTION in *127.0.1.1\\ *) exec sleep 60;; esac; echo quick"
    worker = task.shell(command, nodes="node[1-2]", handler=handler, timeout=5)
    task.resume()
    note_task(trace, task)
    note_worker(trace, worker, ["node1", "node2"])


def command_timeout_is_for_other_programs(trace: Trace) -> None:
    task_self().set_info("command_timeout", 30)
    _run(trace, "echo quick", "node1")


def command_timeout_runs_out(trace: Trace) -> None:
    task_self().set_info("command_timeout", 5)
    _run(trace, "sleep 8; echo late", "node1")


def task_timeout(trace: Trace) -> None:
    task = task_self()
    worker = task.shell("echo before; exec sleep 60", nodes="node1", handler=TraceHandler(trace))
    trace.catch("resume", task.resume, 5)
    note_task(trace, task)
    note_worker(trace, worker, ["node1"])
    task.run("echo again", nodes="node1")
    note_task(trace, task)


def write_before_the_start(trace: Trace) -> None:
    task = task_self()
    worker = task.shell("cat", nodes="node[1-2]", handler=TraceHandler(trace))
    worker.write(b"one\n")
    worker.write(b"two\n", "stdin")
    worker.set_write_eof()
    task.resume()
    note_task(trace, task)


def write_from_handlers(trace: Trace) -> None:
    def on_start(worker: Any) -> None:
        worker.write(b"first\n")

    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        if msg == b"got first":
            worker.write(b"second\n")
        else:
            worker.set_write_eof()

    handler = TraceHandler(trace, ev_start=on_start, ev_read=on_read)
    _run(trace, 'while read line; do echo "got $line"; done', "node1", handler=handler)


def write_much(trace: Trace) -> None:
    task = task_self()
    worker = task.shell("wc -c", nodes="node1", handler=TraceHandler(trace))
    worker.write(b"x" * 3_000_000)
    worker.set_write_eof()
    task.resume()
    note_task(trace, task)


def stdin_off(trace: Trace) -> None:
    _run(trace, "cat; echo end", stdin=False)


def abort_in_ev_read(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_read=lambda worker, *_: worker.abort())
    _run(trace, "echo one; exec sleep 60", "node1", handler=handler)


def task_abort_in_ev_read(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_read=lambda worker, *_: worker.task.abort())
    task = task_self()
    task.shell("echo one; exec sleep 60", nodes="node1", handler=handler)
    task.shell("exec sleep 60", nodes="node2")
    task.resume()
    note_task(trace, task)
    task.run("echo again", nodes="node1")
    note_task(trace, task)


def handler_raises_in_ev_read(trace: Trace) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("on purpose")

    task = task_self()
    task.shell("echo one; exec sleep 60", nodes="node1", handler=TraceHandler(trace, ev_read=fail))
    trace.catch("resume", task.resume)
    task.run("echo usable", nodes="node1", handler=TraceHandler(trace))
    note_task(trace, task)


def next_command_in_ev_hup(trace: Trace) -> None:
    def on_hup(worker: Any, node: str, rc: int) -> None:
        if rc == 1:
            worker.task.shell(f"echo second on {node}; exit 2", nodes=node, handler=handler)

    handler = TraceHandler(trace, ev_hup=on_hup)
    task = task_self()
    task.shell("echo first; exit 1", nodes="node[1-2]", handler=handler)
    task.resume()
    note_task(trace, task)


def fanout_of_one(trace: Trace) -> None:
    running = [0, 0]

    def begin(*_: Any) -> None:
        running[0] += 1
        running[1] = max(running)

    def end(*_: Any) -> None:
        running[0] -= 1

    task_self().set_info("fanout", 1)
    _run(trace, "echo x", "node[1-4]", handler=TraceHandler(trace, ev_pickup=begin, ev_hup=end))
    trace.note("most at once", running[1])


def old_handlers(trace: Trace) -> None:
    _run(trace, "echo out; exit 2", handler=old_handler(trace))


def old_handlers_with_stderr(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2; exit 2", handler=old_handler(trace), stderr=True)


def old_handlers_and_a_timeout(trace: Trace) -> None:
    handler = old_handler(trace)
    _run(trace, "echo out; exec sleep 60", "node1", handler=handler, timeout=5)


def current_attributes(trace: Trace) -> None:
    class Current(TraceHandler):
        def _record(self, name: str, source: Any, *arguments: Any) -> None:
            values = {attribute: getattr(source, attribute) for attribute in CURRENT}
            trace.event(name, source, *arguments, values)

    command = "echo one; sleep 0.3; echo two >&2; exit 3"
    _run(trace, command, "node1", handler=Current(trace), stderr=True)


def match_keys(trace: Trace) -> None:
    task = task_self()
    command = "echo ${SSH_CONNECTION##*.} | cut -c1; echo e >&2"
    worker = task.shell(command, nodes="node[1-3]", stderr=True)
    task.resume()
    for keys in (["node1"], ["node1", "node3"], NodeSet("node[2-3]"), [], NodeSet()):
        for owner in (task, worker):
            for name in ("iter_buffers", "iter_errors", "iter_retcodes"):
                found = getattr(owner, name)(match_keys=keys)
                trace.note_unordered(
                    f"{type(owner).__name__} {name} {len(keys)}",
                    [(bytes(b) if name != "iter_retcodes" else b, sorted(n)) for b, n in found],
                )
        for name in ("iter_node_buffers", "iter_node_errors"):
            found = getattr(worker, name)(match_keys=keys)
            trace.note_unordered(f"{name} {len(keys)}", found)
    trace.catch("a string", lambda: list(worker.iter_buffers(match_keys="node1")))
    trace.catch("a string for nodes", lambda: list(worker.iter_node_buffers(match_keys="node1")))


def flush(trace: Trace) -> None:
    worker = _run(trace, "echo out; echo err >&2", stderr=True)
    worker.flush_buffers()
    note_worker(trace, worker, ["node1"])
    worker.flush_errors()
    note_task(trace, task_self())


def worker_made_by_hand(trace: Trace) -> None:
    worker = WorkerSsh("node[1-2]", handler=TraceHandler(trace), timeout=20, command="echo alright")
    trace.note("before", [worker.nodes, worker.command, worker.started, worker.task])
    trace.catch("getter before", worker.node_buffer, "node1")
    trace.catch("iterator before", lambda: list(worker.iter_buffers()))
    task_self().schedule(worker)
    trace.catch("getter before the run", worker.node_buffer, "node1")
    trace.catch("schedule again", task_self().schedule, worker)
    task_self().resume()
    note_worker(trace, worker, ["node1"])


def worker_without_a_command(trace: Trace) -> None:
    trace.catch("no command", WorkerSsh, "node1", None)
    trace.catch("bad nodes", WorkerSsh, "node[1-", None, command="true")


def nodes_of_all_kinds(trace: Trace) -> None:
    task = task_self()
    for nodes in (NodeSet("node1"), "node1,node2", "node[1-2]!node1"):
        worker = task.run("echo hello", nodes=nodes)
        trace.note("nodes", worker.nodes)
        note_task(trace, task)


def autoclose(trace: Trace) -> None:
    task = task_self()
    task.shell("echo on; exec sleep 60", nodes="node1", handler=TraceHandler(trace), autoclose=True)
    task.shell("sleep 0.7; echo one", nodes="node2", handler=TraceHandler(trace))
    task.resume()
    note_task(trace, task)


def local_and_remote(trace: Trace) -> None:
    task = task_self()
    task.shell("echo one; exit 1", nodes="node1", handler=TraceHandler(trace))
    task.shell("echo one; exit 2", key="local", handler=TraceHandler(trace))
    task.resume()
    note_task(trace, task)


def ssh_user_that_is_unknown(trace: Trace) -> None:
    # Options win over ssh_user: the user in the configuration file does not.
    task_self().set_info("ssh_user", "no-such-user")
    task_self().shell("echo one", nodes="node1", handler=TraceHandler(trace), stderr=True)
    task_self().resume()
    trace.note("rc", task_self().node_retcode("node1"))
    trace.note("errors", b"Permission denied" in task_self().node_error("node1"))


def connection_refused(trace: Trace) -> None:
    task_self().set_info("ssh_options", trace.ssh_options + " -p 1")
    _run(trace, "echo one", "node1", stderr=True)


def connection_refused_with_stderr_merged(trace: Trace) -> None:
    task_self().set_info("ssh_options", trace.ssh_options + " -p 1")
    _run(trace, "echo one", "node1", stderr=False)


def name_that_does_not_resolve(trace: Trace) -> None:
    task = task_self()
    task.shell(
        "echo one", nodes="no-such-host.invalid,node1", handler=TraceHandler(trace), stderr=True
    )
    task.resume()
    trace.note("rc", task.node_retcode("no-such-host.invalid"))
    note_task(trace, task)


def msgtree_off(trace: Trace) -> None:
    task = task_self()
    task.set_default("stdout_msgtree", False)
    worker = task.run("echo out", nodes="node1", handler=TraceHandler(trace))
    trace.catch("node_buffer", worker.node_buffer, "node1")
    trace.catch("worker iter_buffers", lambda: list(worker.iter_buffers()))
    trace.catch("iter_node_buffers", lambda: list(worker.iter_node_buffers()))
    trace.note("retcode", worker.node_retcode("node1"))


def debug_lines(trace: Trace) -> None:
    task = task_self()
    lines: list[str] = []
    task.set_info("print_debug", lambda task, line: lines.append(line))
    task.set_info("debug", True)
    task.run("echo out", nodes="node1")
    trace.note_unordered("lines", [line for line in lines if not line.startswith("SSH")])
    trace.note("SSH", any(line.startswith("SSH") for line in lines))


def max_retcode_of_several(trace: Trace) -> None:
    _run(trace, 'exit $(echo "$SSH_CONNECTION" | cut -d. -f7 | cut -c1)', "node[1-3]")


def getters_in_handlers(trace: Trace) -> None:
    def on_hup(worker: Any, node: str, rc: int) -> None:
        trace.note("in ev_hup", [worker.node_buffer(node), worker.node_retcode(node)])
        trace.note("current_node", worker.current_node)

    def on_close(worker: Any, timedout: bool) -> None:
        note_worker(trace, worker, ["node1"])
        note_task(trace, worker.task)

    handler = TraceHandler(trace, ev_hup=on_hup, ev_close=on_close)
    task_self().run("echo one; exit 4", nodes="node1", handler=handler)
