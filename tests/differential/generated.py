"""Random scripts drawn from a seed, of the kind that a user could have written.

:func:`write` draws a script as data, before anything runs, so that a seed is the same script on
both; :func:`play` runs it. Every action of a script follows from earlier events, never from speed:
a worker acts only on workers that are waiting.

Known and intended differences (see differences.py) are not drawn.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from typing import Any, Callable, NamedTuple, Optional

from ClusterShell.Event import EventHandler
from ClusterShell.NodeSet import NodeSet
from ClusterShell.Task import Task, TimeoutError, task_cleanup, task_self, task_wait
from ClusterShell.Worker.Exec import ExecWorker
from ClusterShell.Worker.Popen import WorkerPopen
from ClusterShell.Worker.Ssh import WorkerSsh
from ClusterShell.Worker.Worker import StreamWorker

from tests.differential.trace import Trace, TraceHandler, note_task, note_worker, plain_keys

# -- a script, as data -----------------------------------------------------------------------------


class Act(NamedTuple):
    """The reaction of a handler to an event: ``what`` names a method of Player."""

    what: str
    argument: Any = None


class Job(NamedTuple):
    """A worker to make and schedule."""

    name: str
    where: str  # local, exec, ssh, stream
    nodes: str
    command: str
    forms: dict[str, str]  # the events that the handler has, each as "new" or "old"; {}: no handler
    by: str  # shell or schedule
    keywords: dict[str, Any]
    early: list[bytes]  # written before it is scheduled; None closes the input
    reactions: dict[str, list[Act]]


class Run(NamedTuple):
    """The jobs, timers and ports of one run of the task."""

    jobs: list[Job]
    timers: list[dict[str, Any]]
    ports: list[dict[str, Any]]
    timeout: Optional[float]
    ends_early: bool = False


class Script(NamedTuple):
    """A whole script."""

    own_thread: bool
    infos: dict[str, Any]
    defaults: dict[str, Any]
    runs: list[Run]


STEPS = (
    "echo one",
    "echo 'two  words'",
    "printf 'a\\n\\nb\\n'",
    "printf partial",
    "echo",
    "printf 'cr\\r\\n'",
    "echo $((6 * 7))",
    "printf '\\303\\251\\n'",
    "printf '%s' x",
)


MOST_DEPTH = 2  # handlers whose commands' handlers schedule commands


class Writer:
    """Draws a script."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 the same script for the same seed
        self.numbers = Counter[str]()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def name(self, kind: str) -> str:
        self.numbers[kind] += 1
        return f"{kind}{self.numbers[kind]}"

    def script(self) -> Script:
        infos: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        if self.chance(0.3):
            infos["USER_level"] = self.random.randrange(9)
        for key in ("stderr", "stdout_msgtree", "stderr_msgtree", "stdin"):
            if self.chance(0.15):
                defaults[key] = self.chance(0.5)
        kinds = [
            self.plain,
            self.plain,
            self.pair,
            self.conversation,
            self.ended_early,
            self.out_of_time,
        ]
        runs = [self.random.choice(kinds)(defaults) for _ in range(self.random.choice((1, 1, 2)))]
        for number, run in enumerate(runs):
            if run.ends_early and run.timers:
                # ClusterShell's loop does not survive a timer whose handler raised.
                del runs[number + 1 :]
        alone = (len(run.jobs) + len(run.ports) + len(run.timers) == 1 for run in runs)
        if all(alone) and not any(run.ends_early for run in runs):
            # With a small fanout, the first node to start is random in ClusterShell.
            infos["fanout"] = self.random.choice((1, 2, 64))
        # ClusterShell's own threads do not live on after an exception.
        own_thread = self.chance(0.2) and not any(run.ends_early for run in runs)
        return Script(own_thread, infos, defaults, runs)

    # -- runs --

    def plain(self, defaults: dict[str, Any]) -> Run:
        jobs = [self.job(defaults) for _ in range(self.random.choice((1, 1, 2, 3)))]
        timers = [self.timer() for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        ports = [self.port() for _ in range(self.random.choice((0, 0, 0, 1)))]
        return Run(jobs, timers, ports, self.random.choice((None, None, None, 0, 60)))

    def pair(self, defaults: dict[str, Any]) -> Run:
        """A job that waits for its input, and one that gives it, or ends it."""
        waiting = self.waiting()
        trigger = self.job(defaults, single=True)
        event = self.random.choice([e for e in ("ev_read", "ev_hup", "ev_close") if e])
        act = self.random.choice((Act("feed", waiting.name), Act("stop", waiting.name)))
        # A reaction to every event: one of them does happen.
        for late in ("ev_close", event):
            trigger.reactions.setdefault(late, []).append(act)
        return Run(
            [waiting, trigger._replace(forms={**trigger.forms, "ev_close": "new"})], [], [], None
        )

    def conversation(self, defaults: dict[str, Any]) -> Run:
        """A job that is written to from its handler, and closed or ended there."""
        job = self.waiting()
        nodes = self.random.choice((job.nodes, "node1")) if job.nodes else ""
        events = ("ev_start", "ev_pickup") if nodes in ("", "node1") else ("ev_start",)
        lines = [f"line {n}\n".encode() for n in range(self.random.randrange(1, 4))]
        job.reactions[self.random.choice(events)] = [Act("say", lines)]
        last = Act("hear", (len(lines), self.random.choice(("close", "abort", "say more"))))
        job.reactions["ev_read"] = [last]
        if nodes not in ("", "node1"):
            job.reactions["ev_start"].append(Act("close"))
            del job.reactions["ev_read"]
        forms = dict.fromkeys(("ev_start", "ev_pickup", "ev_read", "ev_hup", "ev_close"), "new")
        return Run([job._replace(nodes=nodes, forms=forms)], [], [], None)

    def ended_early(self, defaults: dict[str, Any]) -> Run:
        """Jobs that wait, and one whose handler ends the run."""
        waiting = [self.waiting() for _ in range(self.random.choice((0, 1, 2)))]
        act = self.random.choice((Act("abort_task"), Act("fail")))
        if self.chance(0.3):
            timer = {"fire": 0.1, "interval": -1.0, "reactions": {"ev_timer": [act]}}
            return Run(waiting, [timer], [], None, ends_early=True)
        trigger = self.job(defaults, single=True, depth=MOST_DEPTH)
        event = self.random.choice(("ev_hup", "ev_close"))
        trigger.reactions.setdefault(event, []).append(act)
        trigger = trigger._replace(forms={**trigger.forms, event: "new"})
        return Run([*waiting, trigger], [], [], None, ends_early=True)

    def out_of_time(self, defaults: dict[str, Any]) -> Run:
        """Time runs out: the worker's, or the whole task's."""
        waiting = self.waiting()
        if self.chance(0.5):
            return Run([waiting], [], [], 1.0, ends_early=True)
        waiting.keywords["timeout"] = 0.7
        others = [self.job(defaults)] if self.chance(0.4) else []
        return Run([waiting, *others], [], [], None)

    # -- jobs --

    def where(self) -> tuple[str, str]:
        where = self.random.choice(("local", "local", "exec", "ssh", "ssh"))
        nodes = "" if where == "local" else self.random.choice(("node1", "node2", "node[1-3]"))
        return where, nodes

    def waiting(self) -> Job:
        """A job that says nothing and does not end by itself."""
        where, nodes = self.where()
        name = self.name("w")
        keywords: dict[str, Any] = {"key": name} if where == "local" else {}
        keywords["stdin"] = True
        command = f": {name}; exec cat"
        return Job(name, where, nodes, command, self.forms(where), "shell", keywords, [], {})

    def job(self, defaults: dict[str, Any], single: bool = False, depth: int = 0) -> Job:
        where, nodes = self.where()
        if single and nodes:
            nodes = "node1"
        if not depth and not single and self.chance(0.1):
            return self.stream()
        name = self.name("w")
        keywords: dict[str, Any] = {}
        if where == "local" and self.chance(0.7):
            keywords["key"] = self.random.choice((name, self.random.randrange(3), ("k", 1)))
        by = "schedule" if self.chance(0.15) else "shell"
        # A worker that the script makes itself does not get the task's defaults.
        stderr = by == "shell" and defaults.get("stderr", False)
        if self.chance(0.4):
            keywords["stderr"] = stderr = self.chance(0.6)
        if by == "shell" and self.chance(0.15):
            keywords["stdin"] = self.chance(0.5)
        if self.chance(0.1):
            keywords["timeout"] = self.random.choice((30, 30.5))
        stdin = by == "schedule" or keywords.get("stdin", defaults.get("stdin", True))
        # If both streams are one, ssh's output has an order of its own.
        command, early = self.command(where, both=stderr or where != "ssh", stdin=stdin)
        if where == "exec":
            command = command.replace("%", "%%") + self.random.choice(("", "; echo %h", "; : %n"))
        forms = self.forms(where)
        job = Job(name, where, nodes, f": {name}; {command}", forms, by, keywords, early, {})
        self.react(job, defaults, depth)
        return job

    def command(self, where: str, both: bool, stdin: bool) -> tuple[str, list[Any]]:
        """A command, and the input it needs to end."""
        end = self.random.choice(("", "", "exit 0", "exit 1", "exit 3", "exit 255", "exit 127"))
        kind = self.random.random()
        if kind < 0.15 and stdin:
            lines = [f"{n}\n".encode() for n in range(self.random.randrange(1, 4))]
            loop = 'while read line; do echo "got $line"; done'
            return f"{loop}; {end}".strip("; "), [*lines, None]
        if kind < 0.2 and where != "ssh":
            return f"kill -{self.random.choice((9, 15, 1))} $$", []
        steps = []
        for _ in range(self.random.choice((0, 1, 2, 3, 5))):
            text = self.random.choice(STEPS)
            if both and self.chance(0.25):
                text += " >&2"
            steps.append(text)
        if self.chance(0.1):
            steps.append("sleep 0.1")
        return "; ".join([*steps, end]).strip("; ") or "true", []

    def stream(self) -> Job:
        """A worker over a pipe of the script's own."""
        name = self.name("s")
        data = self.random.choice((b"", b"one\ntwo\n", b"rest", b"a\n\nb"))
        forms = self.random.choice(({}, {"ev_read": "new"}))
        return Job(name, "stream", "", name, forms, "schedule", {"key": name}, [data], {})

    # -- handlers --

    def forms(self, where: str) -> dict[str, str]:
        """The events of a handler, each in a form."""
        kind = self.random.random()
        if kind < 0.15:
            return {}
        events = ["ev_start", "ev_pickup", "ev_read", "ev_written", "ev_hup", "ev_close"]
        if kind < 0.6:
            return dict.fromkeys(events, "new")
        forms = {event: self.random.choice(("new", "old")) for event in events}
        forms.update(ev_start="new", ev_written="new")
        if where == "local":
            # In ClusterShell a local command has no current_node.
            forms.update(dict.fromkeys(("ev_pickup", "ev_hup", "ev_read"), "new"))
        else:
            forms.update(ev_error="old", ev_timeout="old")
        if kind < 0.8:
            return forms
        return {event: form for event, form in forms.items() if self.chance(0.6)}

    def react(self, job: Job, defaults: dict[str, Any], depth: int) -> None:
        for event in ("ev_start", "ev_pickup", "ev_read", "ev_hup", "ev_close"):
            if not self.chance(0.35):
                continue
            once = event in ("ev_start", "ev_close") or "[" not in job.nodes
            choice = ["note", "note"]
            if event == "ev_read" and once:
                choice.append("read")
            if once and depth < MOST_DEPTH and event in ("ev_hup", "ev_close"):
                choice += ["shell", "timer"]
            if event == "ev_close":
                choice += ["flush", "getters"]
            choice += ["running", "schedule_again"]
            what = self.random.choice(choice)
            argument: Any = None
            if what == "shell":
                argument = self.job(defaults, depth=depth + 1)
            elif what == "timer":
                argument = self.timer()
            job.reactions.setdefault(event, []).append(Act(what, argument))

    def timer(self) -> dict[str, Any]:
        """A timer, which ends by itself."""
        fires = self.random.choice((1, 1, 2, 3))
        act = Act("next_fire", fires) if self.chance(0.3) else Act("end_timer", fires)
        repeats = act.what == "end_timer"
        return {
            "fire": self.random.choice((0, 0.0, 0.01, 0.05)),
            "interval": 0.02 if repeats else -1.0,
            "reactions": {"ev_timer": [act]},
        }

    def port(self) -> dict[str, Any]:
        """A port that is removed after some messages, which another thread sends."""
        return {"messages": self.random.randrange(1, 4), "waits": self.chance(0.5)}


def write(seed: int) -> Script:
    """The script of a seed."""
    return Writer(seed).script()


# -- a script, played ------------------------------------------------------------------------------


class Failure(Exception):
    """Raised by handlers."""


def make_handler(recorder: TraceHandler, forms: dict[str, str]) -> EventHandler:
    """A handler with methods in the form of ClusterShell 1.8 or 1.7, which call the recorder's."""
    record = recorder
    methods: dict[tuple[str, str], Callable[..., None]] = {
        ("ev_start", "new"): lambda _, w: record.ev_start(w),
        ("ev_pickup", "new"): lambda _, w, node: record.ev_pickup(w, node),
        ("ev_pickup", "old"): lambda _, w: record.ev_pickup(w, w.current_node),
        ("ev_read", "new"): lambda _, w, node, sname, msg: record.ev_read(w, node, sname, msg),
        ("ev_read", "old"): lambda _, w: record.ev_read(w, w.current_node, "stdout", w.current_msg),
        ("ev_error", "old"): lambda _, w: record.ev_read(
            w, w.current_node, "error", w.current_errmsg
        ),
        ("ev_written", "new"): lambda _, w, node, sname, n: record.ev_written(w, node, sname, n),
        ("ev_hup", "new"): lambda _, w, node, rc: record.ev_hup(w, node, rc),
        ("ev_hup", "old"): lambda _, w: record.ev_hup(w, w.current_node, w.current_rc),
        ("ev_timeout", "old"): lambda _, w: record.trace.event("ev_timeout", w, w.num_timeout()),
        ("ev_close", "new"): lambda _, w, timedout: record.ev_close(w, timedout),
        ("ev_close", "old"): lambda _, w: record.ev_close(w, w.did_timeout()),
    }
    namespace = {event: methods[event, form] for event, form in forms.items()}
    made: EventHandler = type("Handler", (EventHandler,), namespace)()
    return made


class StreamHandler(TraceHandler):
    """A handler that leaves out the source of ev_close: ClusterShell gives a StreamClient."""

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self.trace.event("ev_close", "a stream", timedout)


class Player:
    """Runs a script."""

    def __init__(self, trace: Trace, script: Script) -> None:
        self.trace = trace
        self.script = script
        self.task = Task() if script.own_thread else task_self()
        self.workers: dict[str, Any] = {}
        self.fired = Counter[int]()

    def play(self) -> None:
        self.task.set_info("ssh_options", self.trace.ssh_options)
        for key, value in self.script.infos.items():
            self.task.set_info(key, value)
        for key, value in self.script.defaults.items():
            self.task.set_default(key, value)
        for run in self.script.runs:
            self.run(run)
        if self.script.own_thread:
            task_cleanup()

    def run(self, run: Run) -> None:
        self.workers.clear()
        if self.script.own_thread:
            self.task.excepthook = lambda kind, error, _: self.trace.note("hook", error)
        for job in run.jobs:
            self.shell(None, job)
        for timer in run.timers:
            self.timer(None, timer)
        senders = [self.port(port) for port in run.ports]
        try:
            self.task.resume(run.timeout)
        except (Failure, TimeoutError) as error:
            self.trace.note("resume", error)
        if self.script.own_thread:
            task_wait()
        for sender in senders:
            sender.join()
        self.note_results()

    def note_queries(self) -> None:
        task, note = self.task, self.trace.note
        for key in ("w1", 0, 1, ("k", 1), "node1", "node3"):
            for getter in (task.key_buffer, task.key_error, task.node_buffer):
                # Of several workers, in any order.
                note(f"{getter.__name__} {key}", bytes(sorted(getter(key))))
            self.trace.catch(f"key_retcode {key}", task.key_retcode, key)
        for keys in (["node1"], ("node2", "w1"), {0, "node3"}, []):
            for name in ("iter_buffers", "iter_errors", "iter_retcodes"):
                found = [
                    (b if isinstance(b, int) else bytes(b), plain_keys(self.trace, k))
                    for b, k in getattr(task, name)(match_keys=keys)
                ]
                note(f"{name} {sorted(map(str, keys))}", sorted(map(repr, found)))

    def note_results(self) -> None:
        trace = self.trace
        for name in ("stdout", "stderr"):
            self.task.set_default(f"{name}_msgtree", True)
        note_task(trace, self.task)
        self.note_queries()
        trace.note("running", bool(self.task.running()))
        for name, worker in sorted(self.workers.items()):
            if worker.task is None:
                continue
            if isinstance(worker, (WorkerPopen, StreamWorker)):
                trace.catch(f"{name} read", worker.read)
                trace.catch(f"{name} stderr", worker.read, sname="stderr")
                trace.note(f"{name} did_timeout", worker.did_timeout())
                if isinstance(worker, WorkerPopen):
                    trace.note(f"{name} retcode", worker.retcode())
            else:
                trace.note(f"worker {name}")
                note_worker(trace, worker, worker.nodes)

    # -- jobs, timers, ports --

    def shell(self, _source: Any, job: Job) -> None:
        """Make a worker and schedule it."""
        task = self.task
        handler = self.handler(job)
        if job.where == "stream":
            worker = StreamWorker(handler=handler, **job.keywords)
            worker.set_reader("stdout", _ended_pipe(job.early[0]))
            self.trace.label(worker, job.name)
            self.workers[job.name] = worker
            task.schedule(worker)
            return
        if job.by == "schedule":
            keywords = {k: v for k, v in job.keywords.items() if k != "stdin"}
            if job.where == "local":
                worker = WorkerPopen(job.command, handler=handler, **keywords)
            else:
                kind = ExecWorker if job.where == "exec" else WorkerSsh
                worker = kind(job.nodes, handler, command=job.command, **keywords)
            self.workers[job.name] = worker
            self.give_early(worker, job)
            task.schedule(worker)
            return
        keywords = dict(job.keywords)
        if job.nodes:
            keywords.update(nodes=NodeSet(job.nodes), remote=job.where == "ssh")
        worker = self.workers[job.name] = task.shell(job.command, handler=handler, **keywords)
        self.give_early(worker, job)

    def give_early(self, worker: Any, job: Job) -> None:
        for data in job.early:
            if data is None:
                worker.set_write_eof()
            else:
                worker.write(data)

    def timer(self, _source: Any, timer: dict[str, Any]) -> None:
        actions = self.actions(timer["reactions"])
        made = self.task.timer(
            timer["fire"], TraceHandler(self.trace, **actions), timer["interval"]
        )
        self.trace.label(made, f"timer {timer['fire']}")

    def port(self, port: dict[str, Any]) -> threading.Thread:
        left = [port["messages"]]

        def on_message(source: Any, _message: Any) -> None:
            left[0] -= 1
            if not left[0]:
                self.task.remove_port(source)

        made = self.task.port(TraceHandler(self.trace, ev_msg=on_message))
        self.trace.label(made, "port")
        send = made.msg if port["waits"] else made.msg_send
        sender = threading.Thread(target=lambda: [send(n) for n in range(port["messages"])])
        sender.start()
        return sender

    # -- handlers --

    def handler(self, job: Job) -> Any:
        if not job.forms:
            return None
        recorder = TraceHandler(self.trace, **self.actions(job.reactions))
        if job.where == "stream":
            return StreamHandler(self.trace)
        return make_handler(recorder, job.forms)

    def actions(self, reactions: dict[str, list[Act]]) -> dict[str, Callable[..., Any]]:
        def action(acts: list[Act]) -> Callable[..., Any]:
            def act_all(source: Any, *arguments: Any) -> None:
                for act in acts:
                    if act.what == "note":
                        self.note(source, *arguments)
                    else:
                        getattr(self, act.what)(source, act.argument)

            return act_all

        return {event: action(acts) for event, acts in reactions.items()}

    def note(self, worker: Any, *arguments: Any) -> None:
        """Note the present state of the worker."""
        node = self.trace.plain(arguments[0]) if len(arguments) > 1 else ""
        source = f"{self.trace.plain(worker)} {node} notes"
        self.trace.event("started", source, worker.started)
        self.trace.event("timed out", source, worker.did_timeout())
        if len(arguments) == 2 and isinstance(arguments[0], str) and hasattr(worker, "node_rc"):
            # ev_hup of a distant worker
            self.trace.event("node_rc", source, worker.node_rc(arguments[0]))
            self.trace.event("task_rc", source, self.task.key_retcode(arguments[0]) is not None)

    def running(self, worker: Any, _argument: Any) -> None:
        source = f"{self.trace.plain(worker)} task"
        self.trace.event("running", source, self.task.running(), self.task is task_self())

    def schedule_again(self, worker: Any, _argument: Any) -> None:
        self.refused(f"{self.trace.plain(worker)} schedules", lambda: self.task.schedule(worker))

    def refused(self, source: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self.trace.event("refused", source, error)
        else:
            self.trace.event("accepted", source)

    def read(self, worker: Any, _argument: Any) -> None:
        source = f"{self.trace.plain(worker)} {worker.current_sname} reads"
        last = worker.current_errmsg if worker.current_sname == "stderr" else worker.current_msg
        self.trace.event("last", source, last, worker.current_node is None)

    def flush(self, worker: Any, _argument: Any) -> None:
        worker.flush_buffers()
        worker.flush_errors()

    def getters(self, worker: Any, _argument: Any) -> None:
        source = f"{self.trace.plain(worker)} getters"
        if isinstance(worker, (WorkerPopen, StreamWorker)):
            self.trace.event("timed out", source, worker.did_timeout())
            return
        for what in ("iter_retcodes", "iter_node_retcodes"):
            found = sorted(map(self.trace.plain, getattr(worker, what)()), key=repr)
            self.trace.event(what, source, found)

    def say(self, worker: Any, lines: list[bytes]) -> None:
        for line in lines:
            worker.write(line)

    def hear(self, worker: Any, argument: tuple[int, str]) -> None:
        lines, then = argument
        self.fired[id(worker)] += 1
        if self.fired[id(worker)] < lines:
            return
        if then == "abort":
            worker.abort()
        elif then == "say more" and self.fired[id(worker)] == lines:
            worker.write(b"more\n", "stdin")
            worker.set_write_eof("stdin")
        else:
            worker.set_write_eof()

    def close(self, worker: Any, _argument: Any) -> None:
        worker.set_write_eof()

    def feed(self, _source: Any, name: str) -> None:
        self.workers[name].write(b"fed\n")
        self.workers[name].set_write_eof()

    def stop(self, _source: Any, name: str) -> None:
        self.workers[name].abort()

    def abort_task(self, _source: Any, _argument: Any) -> None:
        self.task.abort()

    def fail(self, _source: Any, _argument: Any) -> None:
        raise Failure("on purpose")

    def next_fire(self, timer: Any, fires: int) -> None:
        self.fired[id(timer)] += 1
        if self.fired[id(timer)] < fires:
            timer.set_nextfire(0.01)

    def end_timer(self, timer: Any, fires: int) -> None:
        self.fired[id(timer)] += 1
        if self.fired[id(timer)] >= fires:
            timer.invalidate()


def _ended_pipe(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def play(trace: Trace, seed: int) -> None:
    """Play the script of a seed."""
    Player(trace, write(seed)).play()


if __name__ == "__main__":
    import pprint
    import sys

    for argument in sys.argv[1:]:
        pprint.pprint(write(int(argument)), width=120)
