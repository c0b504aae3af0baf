"""Whole scripts, as their authors write them: several features at once."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import tempfile
import threading
from typing import Any

from ClusterShell.Defaults import DEFAULTS, Defaults
from ClusterShell.Event import EventHandler
from ClusterShell.MsgTree import MODE_DEFER, MsgTree
from ClusterShell.NodeSet import NodeSet, expand, fold
from ClusterShell.Task import Task, TaskMsgTreeError, task_cleanup, task_self, task_wait
from ClusterShell.Worker.Exec import ExecWorker
from ClusterShell.Worker.Popen import WorkerPopen
from ClusterShell.Worker.Ssh import WorkerSsh
from ClusterShell.Worker.Worker import StreamWorker, WorkerError

from tests.differential.trace import Trace, TraceHandler, note_task


def live_output_with_a_summary(trace: Trace) -> None:
    class Output(EventHandler):
        def __init__(self) -> None:
            self.lines = collections.defaultdict(list)
            self.failed = NodeSet()
            self.timed_out = NodeSet()

        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            self.lines[node].append(f"{node}: {sname}: {msg.decode()}")

        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            if rc > 0:
                self.failed.add(node)

        def ev_close(self, worker: Any, timedout: bool) -> None:
            if timedout:
                self.timed_out.add(NodeSet.fromlist(worker.iter_keys_timeout()))

    task = task_self()
    task.set_default("stdout_msgtree", False)
    task.set_default("stderr_msgtree", False)
    handler = Output()
    task.shell("echo up; echo warning >&2; exit 2", nodes="node[1-2]", handler=handler, stderr=True)
    task.shell("exec sleep 60", nodes="node3", handler=handler, timeout=5)
    task.resume()
    trace.note("lines", {node: sorted(lines) for node, lines in handler.lines.items()})
    trace.note("failed", handler.failed)
    trace.note("timed out", handler.timed_out)
    trace.note("max_retcode", task.max_retcode())
    try:
        list(task.iter_buffers())
    except TaskMsgTreeError as error:
        trace.note("iter_buffers", error)


def gathered_output_through_a_tree(trace: Trace) -> None:
    task = task_self()
    tree = MsgTree(mode=MODE_DEFER)

    class Gather(EventHandler):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            tree.add(node, msg)

    task.run("echo same; echo line", nodes="node[1-3]", handler=Gather())
    for message, nodes in tree.walk():
        trace.note(str(NodeSet.fromlist(nodes)), [message.message(), list(message.lines())])
    out = io.StringIO()
    for buffer, nodes in task.iter_buffers():
        with contextlib.redirect_stdout(out):
            print(f"{NodeSet.fromlist(nodes)}: {buffer.message().decode()}")
    trace.note("printed", out.getvalue())


def steps_that_depend_on_each_other(trace: Trace) -> None:
    order: list[str] = []

    class Step(EventHandler):
        def __init__(self, name: str, command: str, after: list[Any], **how: Any) -> None:
            self.name, self.command, self.how = name, command, how
            self.waits_for = {step.name for step in after}
            self.followers: list[Any] = []
            for step in after:
                step.followers.append(self)

        def start(self) -> None:
            order.append(self.name)
            task_self().shell(self.command, handler=self, **self.how)

        def ev_close(self, worker: Any, timedout: bool) -> None:
            for step in self.followers:
                step.waits_for.discard(self.name)
                if not step.waits_for:
                    step.start()

    prepare = Step("prepare", "true", [], key="prepare")
    left = Step("left", "exit 1", [prepare], nodes="node[1-2]")
    right = Step("right", "echo %h", [left], nodes="node[1-2]", remote=False)
    Step("report", "echo done", [left, right], key="report")
    prepare.start()
    task_self().resume()
    trace.note("order", order)
    note_task(trace, task_self())


def at_most_so_many_tries(trace: Trace) -> None:
    class Retry(EventHandler):
        def __init__(self) -> None:
            self.tries = collections.Counter[str]()

        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            self.tries[node] += 1
            if rc and self.tries[node] < 3:
                worker.task.shell(worker.command, nodes=node, handler=self)

    handler = Retry()
    task_self().run("exit 7", nodes="node[1-2]", handler=handler)
    trace.note("tries", dict(handler.tries))
    trace.note_unordered("rcs", ((rc, sorted(nodes)) for rc, nodes in task_self().iter_retcodes()))


def a_watchdog_ends_the_worker(trace: Trace) -> None:
    class Watchdog(TraceHandler):
        def ev_start(self, worker: Any) -> None:
            super().ev_start(worker)
            self.worker = worker
            worker.task.timer(0.3, self, autoclose=True)

        def ev_timer(self, timer: Any) -> None:
            self.worker.abort()

    worker = task_self().shell("exec sleep 60", key="k", handler=Watchdog(trace))
    task_self().resume()
    trace.note("rc", worker.retcode())
    trace.note("did_timeout", worker.did_timeout())
    note_task(trace, task_self())


def a_heartbeat_while_something_runs(trace: Trace) -> None:
    class Heartbeat(EventHandler):
        beats = 0

        def ev_timer(self, timer: Any) -> None:
            self.beats += 1

    heartbeat = Heartbeat()
    timer = task_self().timer(0.05, heartbeat, interval=0.05, autoclose=True)
    task_self().run("sleep 0.5", key="k", handler=TraceHandler(trace))
    trace.note("beats", heartbeat.beats > 3)
    trace.note("valid", timer.is_valid())


def commands_from_another_thread_through_a_port(trace: Trace) -> None:
    class Control(EventHandler):
        def ev_msg(self, port: Any, msg: Any) -> None:
            if msg is None:
                task_self().remove_port(port)
            else:
                command, key = msg
                task_self().shell(command, key=key, handler=TraceHandler(trace))

    task = Task()
    port = task.port(handler=Control())
    task.resume()
    for number in range(3):
        trace.note("sent", port.msg((f"echo {number}; exit {number}", number)))
    trace.note("last", port.msg(None))
    task_wait()
    trace.note("closed", port.msg("late"))
    note_task(trace, task)
    task_cleanup()


def results_from_task_to_task(trace: Trace) -> None:
    first, second = Task(), Task()
    heard: list[Any] = []

    class Collect(EventHandler):
        def ev_msg(self, port: Any, msg: Any) -> None:
            heard.append(msg)
            if len(heard) == 3:
                task_self().remove_port(port)

    class Send(EventHandler):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            port.msg_send((node, msg))

    port = second.port(handler=Collect())
    first.shell("echo %h", nodes="node[1-3]", remote=False, handler=Send())
    for task in (second, first):
        task.resume()
    task_wait()
    trace.note("heard", sorted(heard))
    task_cleanup()


def defaults_of_all_tasks(trace: Trace) -> None:
    DEFAULTS.stderr = True
    DEFAULTS.fanout = 3
    DEFAULTS.local_workername = "exec"
    # In a thread of its own, where there is no task yet.
    found: list[Any] = []

    def run() -> None:
        task = task_self()
        worker = task.run("echo out; echo err >&2", key="k")
        found.extend([task.info("fanout"), task.default("stderr"), worker.read(sname="stderr")])
        found.append(worker.error())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    trace.note("found", found)
    trace.note("of the main thread's", [task_self().info("fanout"), task_self().default("stderr")])
    trace.catch("unknown", lambda: DEFAULTS.no_such_key)
    trace.catch("unknown", setattr, DEFAULTS, "no_such_key", 1)


def a_task_with_defaults_from_a_file(trace: Trace) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("[task.default]\nstderr: yes\nauto_tree: no\nengine: poll\n")
        file.write("[task.info]\nfanout: 5\nconnect_timeout: 3.5\nfan_out: 6\n")
        file.write("[nodeset]\nfold_axis: 0\n[engine]\nport_qlimit: 9\n[others]\nx: y\n")
        file.flush()
        defaults = Defaults([os.devnull, file.name])
    task = Task(defaults=defaults)
    for key in ("fanout", "connect_timeout", "command_timeout", "debug", "engine", "fan_out"):
        trace.note(key, task.info(key))
    for key in ("stderr", "stdin", "auto_tree", "engine", "distant_workername", "nothing"):
        trace.note(key, task.default(key))
    trace.note("fold_axis", list(defaults.fold_axis))
    trace.note("port_qlimit", defaults.port_qlimit)
    task_cleanup()


def engines_by_name(trace: Trace) -> None:
    trace.note("auto", task_self().info("engine"))
    for name in ("select", "poll", "epoll"):
        defaults = Defaults([])
        defaults.engine = name
        task = Task(defaults=defaults)
        task.shell("cat", key="k", handler=TraceHandler(trace), stdin=False)
        task.resume()
        task.join()
        trace.note(name, task.info("engine"))
    task_cleanup()


def no_topology(trace: Trace) -> None:
    task = task_self()
    trace.note("topology", task.topology)
    trace.catch("load", task.load_topology, "/no/such/topology.conf")
    trace.note("topology", task.topology)
    task.run("echo one", nodes="node1", tree=True, handler=TraceHandler(trace))
    task.run("echo one", nodes="node1", tree=False, handler=TraceHandler(trace))
    note_task(trace, task)


def a_topology_and_no_tree(trace: Trace) -> None:
    here = os.uname().nodename.partition(".")[0]
    task = task_self()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"[routes]\n{here}: gw1\ngw1: node[1-3]\n")
        file.flush()
        task.load_topology(file.name)
    trace.note("root", str(task.topology.root.nodeset) == here)
    trace.note("tree", str(task.topology).replace(here, "here"))
    trace.note("counts", [task.topology.inner_node_count(), task.topology.leaf_node_count()])
    task.run("echo one", nodes="node[1-2]", tree=False, handler=TraceHandler(trace))
    task.set_default("auto_tree", False)
    task.run("echo two", nodes="node[1-2]", handler=TraceHandler(trace))
    note_task(trace, task)


def workers_asked_before_they_are_scheduled(trace: Trace) -> None:
    workers = [
        WorkerPopen("true", key="k"),
        ExecWorker("node1", None, command="true"),
        WorkerSsh("node1", None, command="true"),
        StreamWorker(None, key="s"),
    ]
    for worker in workers:
        name = type(worker).__name__
        trace.note(name, [worker.task is None, worker.started, worker.eh, worker.current_node])
        trace.note("error", issubclass(WorkerError, Exception))
        trace.catch(f"{name} read", worker.read)
        trace.catch(f"{name} did_timeout", worker.did_timeout)
        for getter in ("num_timeout", "flush_buffers", "flush_errors"):
            if hasattr(worker, getter):
                trace.catch(f"{name} {getter}", getattr(worker, getter))


def a_worker_on_no_nodes(trace: Trace) -> None:
    worker = ExecWorker(NodeSet(), TraceHandler(trace), command="true")
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())


def an_empty_node_set(trace: Trace) -> None:
    trace.catch("empty", task_self().run, "echo here", nodes="", handler=TraceHandler(trace))
    note_task(trace, task_self())


def a_command_scheduled_in_ev_start(trace: Trace) -> None:
    def on_start(worker: Any) -> None:
        if worker.command == "echo one":
            task_self().shell("echo two", key="two", handler=TraceHandler(trace))

    task_self().shell("echo one", key="one", handler=TraceHandler(trace, ev_start=on_start))
    task_self().resume()


def a_thread_whose_handler_raised(trace: Trace) -> None:
    class Fails(EventHandler):
        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            raise ValueError("on purpose")

    task = Task()
    task.excepthook = lambda kind, *_: trace.note("hook", kind.__name__)
    task.shell("exit 3", key="k", handler=Fails())
    task.resume()
    task.thread.join(1)
    trace.note("alive", task.thread.is_alive())


def the_mains_excepthook(trace: Trace) -> None:
    import sys

    def hook(*_: Any) -> None:
        pass

    before = sys.excepthook
    task_self().excepthook = hook
    trace.note("set", [sys.excepthook is hook, task_self().excepthook is hook])
    sys.excepthook = before


def a_lone_carriage_return(trace: Trace) -> None:
    task_self().run("printf 'a\\rb\\r\\nc\\n'", key="k", handler=TraceHandler(trace))
    note_task(trace, task_self())


def folding_and_expanding(trace: Trace) -> None:
    nodes = NodeSet("node[1-9,12]")
    nodes.update("login1")
    trace.note("set", [str(nodes), len(nodes), nodes[0], "node3" in nodes, list(nodes)[-1]])
    trace.note("split", [str(part) for part in nodes.split(3)])
    trace.note("fold", [fold("n1,n2,n3"), expand("n[1-3]")])
    trace.note("private", str(NodeSet._fromlist1(["n1", "n2"])))
    trace.note("regroup", NodeSet("n[1-3]").regroup())


def one_handler_for_many_workers(trace: Trace) -> None:
    class Count(EventHandler):
        def __init__(self) -> None:
            self.open = 0
            self.most = 0
            self.seen: list[Any] = []

        def ev_start(self, worker: Any) -> None:
            self.open += 1
            self.most = max(self.most, self.open)

        def ev_close(self, worker: Any, timedout: bool) -> None:
            self.open -= 1
            self.seen.append((worker.key, worker.retcode()))

    handler = Count()
    task = task_self()
    task.set_info("fanout", 4)
    for number in range(12):
        task.shell(f"sleep 0.05; exit {number}", key=number, handler=handler)
    task.resume()
    trace.note("seen", sorted(handler.seen))
    trace.note("at once", [handler.open, handler.most])


def a_key_that_is_set_after_shell(trace: Trace) -> None:
    worker = task_self().shell("echo one; exit 2", handler=TraceHandler(trace))
    worker.set_key("late")
    task_self().resume()
    note_task(trace, task_self())
    trace.note("key_buffer", task_self().key_buffer("late"))
    trace.note("read", worker.read())


def streams_with_other_names(trace: Trace) -> None:
    for where in ({"key": "k"}, {"nodes": "node[1-2]"}, {"nodes": "node[1-2]", "remote": False}):
        worker = task_self().shell(
            "echo out; echo err >&2", stderr=True, handler=TraceHandler(trace), **where
        )
        worker.SNAME_STDOUT = "unknown"
        task_self().resume()
        note_task(trace, task_self())
        trace.note("current", [worker.current_msg, worker.current_errmsg])


def no_longer_kept_from_now_on(trace: Trace) -> None:
    def on_read(worker: Any, *_: Any) -> None:
        worker.task.set_default("stdout_msgtree", False)
        worker.task.shell("echo two", key="two")

    task = task_self()
    task.run("echo one", key="one", handler=TraceHandler(trace, ev_read=on_read))
    note_task(trace, task)
    trace.catch("key_buffer", task.key_buffer, "one")
    task.run("echo three", key="three")
    trace.catch("iter_buffers", lambda: list(task.iter_buffers()))


def a_timer_that_is_late_at_the_end(trace: Trace) -> None:
    import time

    fired: list[Any] = []

    class Slow(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            fired.append(timer)
            time.sleep(0.35)

    task = task_self()
    task.shell("sleep 0.4", key="k")
    task.timer(0.25, Slow(), 0.25, autoclose=True)
    task.resume()
    trace.note("fired", len(fired))


def return_codes_of_one_node(trace: Trace) -> None:
    worker = task_self().run("exit %n", nodes="node[1-3]", remote=False)
    for call in (worker.iter_retcodes, task_self().iter_retcodes):
        trace.note_unordered("of node2", ((rc, sorted(nodes)) for rc, nodes in call("node2")))
    trace.catch("buffers", lambda: list(worker.iter_buffers("node2")))
