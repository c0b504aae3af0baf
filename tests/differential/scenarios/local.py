"""Commands on this host."""

from __future__ import annotations

import os
from typing import Any

from ClusterShell.Task import TaskMsgTreeError, TimeoutError, task_self
from ClusterShell.Worker.Popen import WorkerPopen

from tests.differential.trace import (
    CURRENT,
    Trace,
    TraceHandler,
    note_task,
    old_handler,
    without_numbers,
)


def _run(trace: Trace, command: str, **kwargs: Any) -> Any:
    """Run one command under the key 'k', and note what it brought."""
    task = task_self()
    kwargs.setdefault("handler", TraceHandler(trace))
    worker = task.shell(command, key="k", **kwargs)
    task.resume()
    note_task(trace, task)
    trace.note("retcode", worker.retcode())
    trace.note("read", worker.read())
    trace.note("read stderr", worker.read(sname="stderr"))
    trace.note("did_timeout", worker.did_timeout())
    return worker


def output_and_status(trace: Trace) -> None:
    _run(trace, "echo one; echo two; exit 3")


def no_output(trace: Trace) -> None:
    _run(trace, "true")


def stderr_apart(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2", stderr=True)


def stderr_merged(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2; echo more", stderr=False)


def last_line_without_newline(trace: Trace) -> None:
    _run(trace, "printf 'one\\ntwo'")


def empty_lines_and_crlf(trace: Trace) -> None:
    _run(trace, "printf '\\n\\none\\r\\n\\n two \\n'")


def bytes_that_are_no_text(trace: Trace) -> None:
    _run(trace, "printf '\\377\\376\\000x\\n'")


def long_line(trace: Trace) -> None:
    worker = task_self().shell("head -c 300000 /dev/zero | tr '\\0' x; echo; echo end", key="k")
    task_self().resume()
    trace.note("length", [len(line) for line in worker.read().splitlines()])


def killed_by_a_signal(trace: Trace) -> None:
    _run(trace, "kill -9 $$")


def ended_by_term(trace: Trace) -> None:
    _run(trace, "kill -TERM $$")


def command_not_found(trace: Trace) -> None:
    _run(trace, "/no/such/command 2>/dev/null")


def timeout(trace: Trace) -> None:
    _run(trace, "echo before; exec sleep 60", timeout=0.3)


def timeout_with_partial_line(trace: Trace) -> None:
    _run(trace, "printf partial; exec sleep 60", timeout=0.3)


def timeout_that_is_not_reached(trace: Trace) -> None:
    _run(trace, "echo quick", timeout=30)


def timeout_zero_and_negative(trace: Trace) -> None:
    _run(trace, "echo none", timeout=-1)


def output_closed_before_the_end(trace: Trace) -> None:
    _run(trace, "echo early; exec >&- 2>&-; sleep 0.2; exit 4")


def background_process_keeps_the_output(trace: Trace) -> None:
    _run(trace, "(sleep 0.3; echo late) & echo early")


def stdin_off(trace: Trace) -> None:
    _run(trace, "cat; echo end", stdin=False)


def default_stdin_off(trace: Trace) -> None:
    task_self().set_default("stdin", False)
    _run(trace, "cat; echo end")


def default_stderr_on(trace: Trace) -> None:
    task_self().set_default("stderr", True)
    _run(trace, "echo out; echo err >&2")


def write_before_the_start(trace: Trace) -> None:
    task = task_self()
    worker = trace.label(task.shell("cat", key="k", handler=TraceHandler(trace)), "w")
    worker.write(b"one\n")
    worker.write(b"two\n")
    worker.set_write_eof()
    task.resume()
    note_task(trace, task)


def write_from_handlers(trace: Trace) -> None:
    def on_start(worker: Any) -> None:
        worker.write(b"first\n")

    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        if msg == b"got first":
            worker.write(b"second\n", "stdin")
        else:
            worker.set_write_eof("stdin")

    handler = TraceHandler(trace, ev_start=on_start, ev_read=on_read)
    _run(trace, 'while read line; do echo "got $line"; done', handler=handler)


def write_much(trace: Trace) -> None:
    task = task_self()
    worker = trace.label(task.shell("wc -c", key="k", handler=TraceHandler(trace)), "w")
    worker.write(b"x" * 500_000)
    worker.set_write_eof()
    task.resume()
    note_task(trace, task)


def write_to_one_that_does_not_read(trace: Trace) -> None:
    task = task_self()
    worker = task.shell("exec <&-; sleep 0.1; echo done", key="k")
    worker.write(b"x" * 500_000)
    task.resume()
    note_task(trace, task)


def write_after_the_end(trace: Trace) -> None:
    def on_close(worker: Any, timedout: bool) -> None:
        trace.catch("write", worker.write, b"late")
        trace.catch("eof", worker.set_write_eof)

    _run(trace, "true", handler=TraceHandler(trace, ev_close=on_close))


def without_a_key(trace: Trace) -> None:
    task = task_self()
    worker = trace.label(task.shell("echo one; exit 2", handler=TraceHandler(trace)), "w")
    task.resume()
    note_task(trace, task)
    trace.note("key_buffer", task.key_buffer(worker))
    trace.note("key_retcode", task.key_retcode(worker))
    trace.note("read", worker.read())


def keys_of_all_kinds(trace: Trace) -> None:
    task = task_self()
    for key in (0, "", "text", ("a", 1), frozenset({1})):
        task.shell(
            f"echo {type(key).__name__} {bool(key)}; exit 1", key=key, handler=TraceHandler(trace)
        )
    task.resume()
    note_task(trace, task)
    for key in (0, "", "text", ("a", 1), frozenset({1})):
        trace.note("key_buffer", task.key_buffer(key))
        trace.note("key_retcode", task.key_retcode(key))


def one_key_for_two_workers(trace: Trace) -> None:
    task = task_self()
    task.shell("echo one; echo e1 >&2; exit 5", key="k", stderr=True)
    task.resume()
    one = task.shell("echo one; echo e1 >&2; exit 5", key="k", stderr=True)
    two = task.shell("sleep 0.2; echo two; echo e2 >&2; exit 3", key="k", stderr=True)
    task.resume()
    note_task(trace, task)
    trace.note("key_buffer", task.key_buffer("k"))
    trace.note("key_error", task.key_error("k"))
    trace.note("node_retcode", task.node_retcode("k"))
    trace.note("reads", [one.read(), two.read(), one.read(sname="stderr")])


def set_key(trace: Trace) -> None:
    worker = trace.label(WorkerPopen("echo hello", handler=TraceHandler(trace)), "w")
    worker.set_key("other")
    task_self().schedule(worker)
    task_self().resume()
    trace.note("key_buffer", task_self().key_buffer("other"))


def unknown_keys(trace: Trace) -> None:
    task = task_self()
    task.run("echo hello", key="k")
    trace.catch("key_buffer", task.key_buffer, "unknown")
    trace.catch("key_error", task.key_error, "unknown")
    trace.catch("key_retcode", task.key_retcode, "unknown")
    trace.catch("node_buffer", task.node_buffer, "unknown")
    trace.catch("node_retcode", task.node_retcode, "unknown")


def getters_before_any_run(trace: Trace) -> None:
    task = task_self()
    note_task(trace, task)
    trace.catch("key_buffer", task.key_buffer, "k")
    trace.catch("key_retcode", task.key_retcode, "k")
    worker = WorkerPopen("echo")
    trace.catch("read", worker.read)
    trace.catch("did_timeout", worker.did_timeout)
    trace.catch("flush_buffers", worker.flush_buffers)
    trace.note("attributes", [worker.started, worker.task is None, worker.retcode()])


def match_keys(trace: Trace) -> None:
    task = task_self()
    for key in "abcd":
        task.shell(
            f"echo {key in 'ab'}; echo e >&2; exit {'abcd'.index(key) // 2}", key=key, stderr=True
        )
    task.resume()

    def found(getter: Any, keys: Any) -> Any:
        return sorted((bytes(message), sorted(k)) for message, k in getter(match_keys=keys))

    for keys in (["a", "c"], ["a", "b"], ("d",), {"x"}, [], None, "a"):
        trace.catch(f"iter_buffers {keys!r}", found, task.iter_buffers, keys)
        trace.catch(f"iter_errors {keys!r}", found, task.iter_errors, keys)
    for keys in (["a", "c"], ["a"], ["a", "b", "c"]):
        trace.note_unordered(
            f"iter_retcodes {keys}",
            [(rc, sorted(k)) for rc, k in task.iter_retcodes(match_keys=keys)],
        )


def equal_outputs_are_folded(trace: Trace) -> None:
    task = task_self()
    for number in range(6):
        task.shell(f"echo {number % 2}; exit {number % 3}", key=number)
    task.resume()
    note_task(trace, task)


def results_of_the_run_before_are_gone(trace: Trace) -> None:
    task = task_self()
    task.run("echo one; exit 3", key="first")
    note_task(trace, task)
    task.run("echo two", key="second")
    note_task(trace, task)
    trace.catch("key_retcode", task.key_retcode, "first")
    task.resume()
    note_task(trace, task)


def flush(trace: Trace) -> None:
    task = task_self()
    one = task.shell("echo one; echo e1 >&2", key=1, stderr=True)
    task.shell("echo two; echo e2 >&2", key=2, stderr=True)
    task.resume()
    one.flush_buffers()
    note_task(trace, task)
    one.flush_errors()
    note_task(trace, task)
    task.flush_buffers()
    task.flush_errors()
    note_task(trace, task)
    trace.note("read", one.read())


def flush_while_it_runs(trace: Trace) -> None:
    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        trace.note("read", worker.read())
        worker.flush_buffers()

    _run(trace, "echo one; sleep 0.2; echo two", handler=TraceHandler(trace, ev_read=on_read))


def results_while_it_runs(trace: Trace) -> None:
    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        trace.note("read", worker.read())
        trace.note("retcode", worker.retcode())
        trace.catch("key_retcode", worker.task.key_retcode, "k")
        trace.note("started", worker.started)
        trace.note("running", bool(worker.task.running()))

    def on_hup(worker: Any, node: Any, rc: Any) -> None:
        trace.note("hup retcode", [worker.retcode(), worker.task.key_retcode("k")])
        trace.note("max_retcode", worker.task.max_retcode())

    handler = TraceHandler(trace, ev_read=on_read, ev_hup=on_hup)
    _run(trace, "echo one; sleep 0.2; echo two; exit 7", handler=handler)
    trace.note("running", bool(task_self().running()))


def msgtree_off(trace: Trace) -> None:
    task = task_self()
    task.set_default("stdout_msgtree", False)
    worker = task.run("echo out; echo err >&2", key="k", stderr=True, handler=TraceHandler(trace))
    trace.catch("iter_buffers", lambda: list(task.iter_buffers()))
    trace.catch("key_buffer", task.key_buffer, "k")
    trace.catch("read", worker.read)
    trace.note("key_error", task.key_error("k"))
    task.set_default("stderr_msgtree", False)
    worker = task.run("echo out; echo err >&2", key="k", stderr=True)
    trace.catch("iter_errors", lambda: list(task.iter_errors()))
    trace.catch("key_error", task.key_error, "k")
    trace.note("is a TaskError", TaskMsgTreeError.__mro__[1].__name__)


def old_handlers(trace: Trace) -> None:
    _run(trace, "echo out; exit 2", handler=old_handler(trace))


def old_handlers_with_stderr(trace: Trace) -> None:
    _run(trace, "echo out; echo err >&2; exit 2", handler=old_handler(trace), stderr=True)


def old_handlers_and_a_timeout(trace: Trace) -> None:
    _run(trace, "echo out; exec sleep 60", handler=old_handler(trace), timeout=0.3)


def new_handler_with_ev_timeout_and_ev_error(trace: Trace) -> None:
    class Both(TraceHandler):
        def ev_timeout(self, worker: Any) -> None:
            trace.event("ev_timeout", worker)

        def ev_error(self, worker: Any) -> None:
            trace.event("ev_error", worker, worker.current_errmsg)

    _run(trace, "echo e >&2; exec sleep 60", handler=Both(trace), timeout=0.3, stderr=True)


def current_attributes(trace: Trace) -> None:
    class Current(TraceHandler):
        def _record(self, name: str, source: Any, *arguments: Any) -> None:
            # Not their values before the event that sets them.
            values = {a: getattr(source, a) for a in CURRENT if a != "current_node"}
            trace.event(name, source, *arguments, values)

    _run(trace, "echo one; sleep 0.1; echo two >&2; exit 3", handler=Current(trace), stderr=True)


def handler_that_is_no_event_handler(trace: Trace) -> None:
    class Plain:
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("ev_") or name in ("ev_timeout", "ev_error", "ev_result"):
                raise AttributeError(name)
            return lambda *arguments: trace.note(name, arguments)

    # Its methods take any arguments.
    _run(trace, "echo one", handler=Plain())


def abort_in_ev_start(trace: Trace) -> None:
    _run(trace, "exec sleep 60", handler=TraceHandler(trace, ev_start=lambda w: w.abort()))


def abort_in_ev_read(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_read=lambda w, *_: w.abort())
    _run(trace, "echo one; exec sleep 60", handler=handler)


def abort_twice_and_after_the_end(trace: Trace) -> None:
    def twice(worker: Any, *_: Any) -> None:
        worker.abort()
        worker.abort()

    handler = TraceHandler(trace, ev_read=twice, ev_close=lambda w, t: w.abort())
    _run(trace, "echo one; exec sleep 60", handler=handler).abort()


def abort_before_the_run(trace: Trace) -> None:
    task = task_self()
    worker = trace.label(task.shell("echo never", key="k", handler=TraceHandler(trace)), "w")
    worker.abort()
    task.shell("echo other", key="o")
    task.resume()
    trace.note("other", task.key_buffer("o"))


def task_abort_in_ev_read(trace: Trace) -> None:
    task = task_self()

    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        task.abort()
        trace.note("not reached")

    task.shell("exec sleep 60", key="other", handler=TraceHandler(trace))
    _run(trace, "sleep 0.2; echo one; exec sleep 60", handler=TraceHandler(trace, ev_read=on_read))
    task.run("echo again", key="k")
    note_task(trace, task)


def _task_abort_in(trace: Trace, event: str) -> None:
    handler = TraceHandler(trace, **{event: lambda worker, *_: worker.task.abort()})
    task_self().run("echo one", key="k", handler=handler)
    trace.note("max_retcode", task_self().max_retcode())
    trace.note("running", bool(task_self().running()))


def task_abort_in_ev_start(trace: Trace) -> None:
    _task_abort_in(trace, "ev_start")


def task_abort_in_ev_pickup(trace: Trace) -> None:
    _task_abort_in(trace, "ev_pickup")


def task_abort_in_ev_hup(trace: Trace) -> None:
    _task_abort_in(trace, "ev_hup")


def task_abort_in_ev_close(trace: Trace) -> None:
    _task_abort_in(trace, "ev_close")


def task_abort_before_the_run(trace: Trace) -> None:
    task = task_self()
    trace.label(task.shell("echo never", key="k", handler=TraceHandler(trace)), "w")
    task.abort()
    task.resume()
    note_task(trace, task)


def _raises_in(trace: Trace, event: str, end: str = "exec sleep 60") -> None:
    def fail(*_: Any) -> None:
        raise LookupError("on purpose")

    task = task_self()
    command = f"read line; echo $line; {end}"
    worker = task.shell(command, key="k", handler=TraceHandler(trace, **{event: fail}))
    worker.write(b"input\n")
    trace.catch("resume", task.resume)
    trace.note("running", bool(task.running()))
    task.run("echo usable", key="again", handler=TraceHandler(trace))
    note_task(trace, task)


def handler_raises_in_ev_start(trace: Trace) -> None:
    _raises_in(trace, "ev_start")


def handler_raises_in_ev_pickup(trace: Trace) -> None:
    _raises_in(trace, "ev_pickup")


def handler_raises_in_ev_read(trace: Trace) -> None:
    _raises_in(trace, "ev_read")


def handler_raises_in_ev_written(trace: Trace) -> None:
    _raises_in(trace, "ev_written")


def handler_raises_in_ev_hup(trace: Trace) -> None:
    _raises_in(trace, "ev_hup", "exit 3")


def handler_raises_in_ev_close(trace: Trace) -> None:
    _raises_in(trace, "ev_close", "exit 3")


def handler_raises_while_another_command_runs(trace: Trace) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("on purpose")

    task = task_self()
    task.shell("exec sleep 60", key="other", handler=TraceHandler(trace))
    handler = TraceHandler(trace, ev_read=fail)
    task.shell("sleep 0.2; echo one; exec sleep 60", key="k", handler=handler)
    trace.catch("resume", task.resume)
    trace.note("running", bool(task.running()))
    note_task(trace, task)


def system_exit_from_a_handler(trace: Trace) -> None:
    def leave(*_: Any) -> None:
        raise SystemExit(3)

    try:
        task_self().run(
            "echo one; exec sleep 60", key="k", handler=TraceHandler(trace, ev_read=leave)
        )
    except SystemExit as error:
        trace.note("code", error.code)


def task_timeout(trace: Trace) -> None:
    task = task_self()
    one = trace.label(task.shell("echo one", key=1, handler=TraceHandler(trace)), "one")
    two = trace.label(
        task.shell("echo two; exec sleep 60", key=2, handler=TraceHandler(trace)), "two"
    )
    trace.catch("resume", task.resume, 0.5)
    note_task(trace, task)
    trace.note("did_timeout", [one.did_timeout(), two.did_timeout()])
    trace.note("is a TaskError", TimeoutError.__mro__[1].__name__)
    task.run("echo again", key="k")
    note_task(trace, task)


def task_timeout_by_run(trace: Trace) -> None:
    task = task_self()
    task.shell("exec sleep 60", key=1)
    trace.catch("run(0.3)", task.run, 0.3)
    task.shell("exec sleep 60", key=1)
    trace.catch("run(timeout=0.3)", task.run, timeout=0.3)
    task.shell("echo quick", key=1)
    trace.catch("resume(30)", task.resume, 30)
    trace.note("worker", task.run("echo", key=1, timeout=30).read())


def resume_in_a_handler(trace: Trace) -> None:
    def on_read(worker: Any, *_: Any) -> None:
        trace.catch("resume", worker.task.resume)
        trace.catch("run", worker.task.run)

    _run(trace, "echo one", handler=TraceHandler(trace, ev_read=on_read))


def schedule_in_handlers(trace: Trace) -> None:
    task = task_self()
    count = [0]

    def again(worker: Any, timedout: bool) -> None:
        count[0] += 1
        if count[0] < 4:
            command = f"echo run {count[0]}"
            task.shell(command, key=count[0], handler=TraceHandler(trace, ev_close=again))

    task.shell("echo run 0", key=0, handler=TraceHandler(trace, ev_close=again))
    task.resume()
    note_task(trace, task)


def schedule_in_ev_read(trace: Trace) -> None:
    task = task_self()

    def more(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        task.shell("echo second", key="second", handler=TraceHandler(trace))

    task.shell("echo 1; sleep 0.2", key="k", handler=TraceHandler(trace, ev_read=more))
    task.resume()
    note_task(trace, task)


def schedule_twice(trace: Trace) -> None:
    task = task_self()
    worker = WorkerPopen("echo one", key="k")
    task.schedule(worker)
    trace.catch("schedule", task.schedule, worker)
    task.resume()
    note_task(trace, task)
    trace.catch("schedule again", task.schedule, worker)


def autoclose(trace: Trace) -> None:
    task = task_self()
    trace.label(
        task.shell("exec sleep 60", key="a", handler=TraceHandler(trace), autoclose=True), "auto"
    )
    trace.label(task.shell("sleep 0.2; echo one", key="k", handler=TraceHandler(trace)), "w")
    task.resume()
    note_task(trace, task)


def only_autoclose(trace: Trace) -> None:
    task = task_self()
    task.shell("exec sleep 60", key="a", autoclose=True)
    task.resume()
    note_task(trace, task)


def fanout_of_one(trace: Trace) -> None:
    task = task_self()
    task.set_info("fanout", 1)
    most = [0, 0]

    def begin(*_: Any) -> None:
        most[0] += 1
        most[1] = max(most)

    def end(*_: Any) -> None:
        most[0] -= 1

    for key in range(5):
        task.shell("echo x", key=key, handler=TraceHandler(trace, ev_start=begin, ev_hup=end))
    task.resume()
    trace.note("most at once", most[1])


def handler_is_changed_while_it_runs(trace: Trace) -> None:
    def on_read(worker: Any, *_: Any) -> None:
        worker.eh = None

    _run(trace, "echo one; sleep 0.1; echo two", handler=TraceHandler(trace, ev_read=on_read))


def debug_lines(trace: Trace) -> None:
    task = task_self()
    lines: list[str] = []
    task.set_info("print_debug", lambda task, line: lines.append(without_numbers(line)))
    task.set_info("debug", True)
    task.run("echo out", key="k")
    trace.note_unordered("lines", lines)


def info_and_default(trace: Trace) -> None:
    task = task_self()
    for key in ("debug", "fanout", "grooming_delay", "connect_timeout", "command_timeout"):
        trace.note(key, task.info(key))
    for key in ("ssh_user", "ssh_path", "scp_user", "scp_path", "scp_options", "no such key"):
        trace.note(key, task.info(key))
        trace.note(f"{key} or 5", task.info(key, 5))
    trace.note("print_debug is callable", callable(task.info("print_debug")))
    for key in ("stderr", "stdin", "stdout_msgtree", "stderr_msgtree", "engine", "port_qlimit"):
        trace.note(key, task.default(key))
    for key in ("auto_tree", "local_workername", "distant_workername", "no such key"):
        trace.note(key, task.default(key))
    for key in ("local_worker", "distant_worker"):
        trace.note(key, task.default(key))
    trace.note("with a value", task.default("no such key", 7))
    task.set_info("USER_key", {"any": "thing"})
    task.set_default("USER_key", [1])
    trace.note("own", [task.info("USER_key"), task.default("USER_key")])


def environment_is_inherited(trace: Trace) -> None:
    os.environ["TRACE_VARIABLE"] = "seen"
    _run(trace, "echo $TRACE_VARIABLE")


def many_commands(trace: Trace) -> None:
    task = task_self()
    for key in range(60):
        task.shell(f"echo {key}; exit {key % 4}", key=key, handler=TraceHandler(trace))
    task.resume()
    note_task(trace, task)


def worker_attributes(trace: Trace) -> None:
    handler = TraceHandler(trace)
    worker = WorkerPopen("echo one", "k", handler)
    trace.note("before", [worker.eh is handler, worker.task, worker.started, worker.command])
    trace.note("current", {name: getattr(worker, name) for name in CURRENT})
    task_self().schedule(worker)
    trace.note("scheduled", [worker.task is task_self(), worker.started])
    task_self().resume()
    trace.note("after", [worker.started, worker.retcode()])
    trace.note("names", [worker.SNAME_STDIN, worker.SNAME_STDOUT, worker.SNAME_STDERR])


def bad_arguments(trace: Trace) -> None:
    task = task_self()
    trace.catch("timer", task.timer, -1.0, TraceHandler(trace))
    trace.catch("key and nodes", lambda: task.shell("true", nodes="n1", key="k"))
    trace.catch("copy", lambda: task.copy("/etc/hosts", "/tmp/", None))
