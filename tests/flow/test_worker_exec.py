"""ExecWorker: a local command per node; writing to commands; workers by name and of one's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler, NodeSet, WorkerPopen, WorkerSsh
from pyclustershell.buffers import HIGH_WATER
from pyclustershell.engine.engine import Engine, EngineClient
from pyclustershell.exceptions import LineTooLongError, WorkerError
from pyclustershell.records import Exited, Output, Started, TimedOut
from pyclustershell.task import Task
from pyclustershell.worker.exec import (
    CommandLine,
    CopyClient,
    ExecClient,
    ExecWorker,
    replace_keywords,
)
from pyclustershell.worker.pdsh import WorkerPdsh
from pyclustershell.worker.registry import worker_class
from pyclustershell.worker.rsh import WorkerRsh
from pyclustershell.worker.worker import DistantWorker
from tests.helpers.recorder import Recorder
from tests.helpers.sh import BEGUN, sh
from tests.helpers.tasks import fresh_task, run_worker
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path

NODES = "node[1-3]"
SECONDS = 30.0


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


def run(task: Task, nodes: str, handler: Any = None, **kwargs: Any) -> ExecWorker:
    return run_worker(task, ExecWorker(nodes, handler, **kwargs))


# -- keywords --


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("echo %h %host %hosts", "echo n5 n5 n5"),
        ("%{h}x%{host}y", "n5xn5y"),
        ("%n/%rank/%{n}0", "2/2/20"),
        ("100%%", "100%"),
        ("%%h", "%h"),
        ("no keyword", "no keyword"),
    ],
)
def test_keywords_are_replaced(pattern: str, expected: str) -> None:
    assert replace_keywords(pattern, "n5", 2) == expected


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("date +%s", "%s in 'date [+]%s'"),
        ("%hx", "%hx"),
        ("100% sure", "a lone %"),
        ("100%", "a lone %"),
        ("%H", "%H"),
    ],
)
def test_a_percent_sign_that_stands_for_nothing_is_named(pattern: str, named: str) -> None:
    with pytest.raises(WorkerError, match=named):
        replace_keywords(pattern, "n5", 0)


def test_a_bad_pattern_is_an_error_at_once(task: Task) -> None:
    with pytest.raises(WorkerError, match="%s"):
        ExecWorker(NODES, None, command=sh("echo %s"))
    assert run(task, "node1", command=sh("echo %%s")).node_retcode("node1") == 0


class FailingClient(ExecClient):
    """Has no command line for one node; ``%`` is not replaced."""

    def _build_cmd(self) -> CommandLine:
        if self.key == "node2":
            raise WorkerError(f"no way to {self.key}")
        return self.command or "", None


class FailingWorker(ExecWorker):
    """A user's worker."""

    SHELL_CLASS = FailingClient


def test_a_command_line_that_cannot_be_made_leaves_the_run(task: Task) -> None:
    handler = Recorder()
    task.schedule(FailingWorker("node[2-3]", handler, command=sh("echo %s")))
    with pytest.raises(WorkerError, match="no way to node2"):
        task.resume()
    assert handler.events == []


def test_of_a_submitted_command_only_its_future_fails() -> None:
    with no_leaks(), Task() as task:
        # It ends when it is told to.
        other = task.submit(sh("cat"), key="other", stdin=True)
        failing = FailingWorker(NODES, None, command=sh("exec sleep 60"))
        with pytest.raises(WorkerError, match="no way to node2"):
            task.submit(failing).result(SECONDS)
        assert failing.results().nodes(lambda it: it.aborted) == NodeSet(NODES)
        other.worker.write(b"out\n")
        other.worker.set_write_eof()
        assert other.result(SECONDS)["other"].text == "out"


# -- commands --


def test_a_command_runs_once_for_each_node(task: Task) -> None:
    handler = Recorder()
    worker = run(task, NODES, handler, command=sh("echo %h is %n; exit %n"))
    assert handler.of("node3") == [
        ("pickup", "node3"),
        ("read", "node3", "stdout", b"node3 is 2"),
        ("hup", "node3", 2),
    ]
    assert handler.events[0] == ("start",)
    assert handler.events[-1] == ("close", "ExecWorker", False)
    assert worker.node_buffer("node2") == b"node2 is 1"
    assert dict(worker.iter_node_retcodes()) == {"node1": 0, "node2": 1, "node3": 2}
    assert task.max_retcode() == 2


def test_a_command_with_hosts_runs_once_for_all_nodes(task: Task) -> None:
    handler = Recorder()
    worker = run(task, NODES, handler, command=sh("echo %hosts %n; echo two; exit 3"))
    [(buffer, nodes)] = worker.iter_buffers()
    assert bytes(buffer) == b"node[1-3] 0\ntwo"
    assert nodes == NodeSet(NODES)
    # Line by line, for each node in turn.
    reads = [event[1:] for event in handler.events if event[0] == "read"]
    assert [node for node, _, _ in reads] == ["node1", "node2", "node3"] * 2
    assert [(event[1], event[2]) for event in handler.events if event[0] == "hup"] == [
        ("node1", 3),
        ("node2", 3),
        ("node3", 3),
    ]
    assert handler.events.count(("close", "ExecWorker", False)) == 1


def test_a_command_for_all_nodes_that_takes_too_long(task: Task) -> None:
    handler = Recorder()
    worker = run(task, NODES, handler, command=sh("echo %hosts; exec sleep 60"), timeout=0.3)
    assert list(worker.iter_keys_timeout()) == ["node1", "node2", "node3"]
    assert handler.events[-1] == ("close", "ExecWorker", True)
    assert not [event for event in handler.events if event[0] == "hup"]


def test_abort_by_a_handler_in_the_middle_of_lines_for_all_nodes(task: Task) -> None:
    class Abort(Recorder):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()

    handler = Abort()
    run(task, NODES, handler, command=sh("echo %hosts; echo two; exec sleep 60"))
    assert [event for event in handler.events if event[0] == "read"] == [
        ("read", "node1", "stdout", b"node[1-3]")
    ]
    assert handler.events[-1][0] == "close"


def test_stderr_is_separate_on_request(task: Task) -> None:
    command = sh("echo out; echo err >&2")
    worker = run(task, "node1", command=command, stderr=True)
    assert (worker.node_buffer("node1"), worker.node_error("node1")) == (b"out", b"err")
    worker = run(task, "node1", command=command)
    assert worker.node_buffer("node1") == b"out\nerr"


def test_one_node_that_takes_too_long(task: Task) -> None:
    worker = run(task, "node[1-2]", command=sh("test %n = 0 || exec sleep 60"), timeout=BEGUN)
    assert list(worker.iter_keys_timeout()) == ["node2"]
    assert worker.node_retcode("node1") == 0
    with pytest.raises(KeyError):
        worker.node_retcode("node2")


@pytest.mark.posix_only("Windows has no signals")
def test_a_signal_is_128_and_its_number(task: Task) -> None:
    assert run(task, "node1", command=sh("kill -9 $$")).node_retcode("node1") == 137


def test_the_fanout_holds_for_local_commands(task: Task, tmp_path: Path) -> None:
    place = node_path(tmp_path / "one")
    task.set_info("fanout", 1)
    # Each command fails if it finds another one's mark.
    worker = run(task, "node[1-4]", command=sh(f"mkdir {place} && rmdir {place}"))
    assert worker.task.max_retcode() == 0


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="needs a command, or a source"):
        ExecWorker("node1", None)
    with pytest.raises(ValueError, match="destination"):
        ExecWorker("node1", None, source="/etc/hosts")
    with pytest.raises(TypeError, match="comand"):
        ExecWorker("node1", None, comand="true")  # type: ignore[call-arg]


def test_a_worker_that_was_scheduled_before(task: Task) -> None:
    worker = run(task, "node1", command=sh("true"))
    with pytest.raises(WorkerError, match="already"):
        task.schedule(worker)


def test_debug_shows_the_command(task: Task) -> None:
    lines: list[str] = []
    task.set_info("debug", True)
    task.set_info("print_debug", lambda _task, line: lines.append(line))
    run(task, "node1", command=sh("echo %h"))
    assert lines[0] == f"EXECCLIENT: {sh('echo node1')}"


def test_repr_says_what_it_does_and_how_far_it_is(task: Task) -> None:
    worker = ExecWorker("node[1-2]", None, command=sh("echo %h"))
    task.schedule(worker)
    assert repr(worker) == f"<ExecWorker {sh('echo %h')!r} on node[1-2]: 2 nodes left>"
    task.resume()
    assert repr(worker) == f"<ExecWorker {sh('echo %h')!r} on node[1-2]: 0 nodes left>"


# -- copies --


@pytest.mark.posix_only("local copies are made by cp")
def test_copies(task: Task, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("contents")
    worker = run(task, NODES, source=f"{tmp_path}/source", dest=f"{tmp_path}/copy-%h-%n")
    assert worker.task.max_retcode() == 0
    assert (tmp_path / "copy-node3-2").read_text() == "contents"


@pytest.mark.posix_only("local copies are made by cp")
def test_a_copied_directory_keeps_its_times(task: Task, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.write_text("contents")
    import os

    os.utime(file, (1000, 1000))
    run(task, "node1", source=f"{tmp_path}/source", dest=f"{tmp_path}/%h", preserve=True)
    assert (tmp_path / "node1" / "file").stat().st_mtime == 1000


@pytest.mark.posix_only("local copies are made by cp")
def test_a_reverse_copy_copies_the_directory_dest(task: Task, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    run(task, "node1", source=f"{tmp_path}/%h", dest=f"{tmp_path}/dest", reverse=True)
    assert (tmp_path / "node1").is_dir()
    with pytest.raises(ValueError, match="must be a directory"):
        ExecWorker("node1", None, source="x", dest=f"{tmp_path}/none", reverse=True)


@pytest.mark.posix_only("local copies are made by cp")
def test_a_copy_that_fails_tells_why(task: Task, tmp_path: Path) -> None:
    worker = run(task, "node1", source=f"{tmp_path}/none", dest=f"{tmp_path}/x", stderr=True)
    assert worker.node_retcode("node1") != 0
    assert b"none" in (worker.node_error("node1") or b"")


# -- standard input --


def test_writing_before_and_after_the_start(task: Task) -> None:
    class Writer(Recorder):
        def ev_pickup(self, worker: Any, node: Any) -> None:
            super().ev_pickup(worker, node)
            if node == "node2":
                worker.write(b"three\n")
                worker.set_write_eof()

    handler = Writer()
    worker = ExecWorker("node[1-2]", handler, command=sh("cat"))
    worker.write(b"one\n")
    task.schedule(worker)
    worker.write(b"two\n")
    task.resume()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"one\ntwo\nthree", "node[1-2]")
    for node in nodes:
        assert sum(event[3] for event in handler.of(node) if event[0] == "written") == 14


def test_a_node_whose_turn_comes_late_gets_all_input(task: Task) -> None:
    task.set_info("fanout", 1)
    worker = ExecWorker("node[1-3]", None, command=sh("cat"))
    task.schedule(worker)
    worker.write(b"one\n")
    worker.set_write_eof()
    task.resume()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"one", "node[1-3]")


def test_there_is_no_other_stream_to_write_to() -> None:
    worker = ExecWorker("node1", None, command=sh("cat"))
    with pytest.raises(ValueError, match="'nope'"):
        worker.write(b"x", "nope")
    with pytest.raises(ValueError, match="'stdout'"):
        worker.set_write_eof("stdout")


CHUNK = bytes(1 << 16)
TOTAL = 8 << 20
COUNT = "head -c 1000000 >/dev/null; sleep 0.1; wc -c"


class Feeder(EventHandler):
    """Writes while no command is behind, and records the longest queue of unwritten input.

    It begins when the last command has started: what waits for a command without a turn does not
    count as behind.
    """

    def __init__(self, nodes: int) -> None:
        self.to_start = nodes
        self.left = TOTAL
        self.longest = 0

    def feed(self, worker: Any) -> None:
        while self.left and not worker.input_full:
            self.left -= len(CHUNK)
            worker.write(CHUNK)
            self.longest = max(self.longest, *(client.stdin.size for client in worker._clients))
        if not self.left:
            worker.set_write_eof()

    def ev_pickup(self, worker: Any, node: str) -> None:
        self.to_start -= 1
        if not self.to_start:
            self.feed(worker)

    def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
        self.feed(worker)

    def ev_hup(self, worker: Any, node: str, rc: int) -> None:
        self.feed(worker)  # it may have been the last one behind


def test_a_handler_that_heeds_input_full_keeps_little_waiting(task: Task) -> None:
    feeder = Feeder(4)
    worker = ExecWorker("node[1-4]", feeder, command=sh(COUNT))
    task.schedule(worker)
    task.resume()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"%d" % (TOTAL - 1_000_000), "node[1-4]")
    assert HIGH_WATER < feeder.longest <= HIGH_WATER + len(CHUNK)
    assert not worker.input_full


def test_a_handler_that_always_writes_more_is_not_called_from_within(task: Task) -> None:
    class Deep(EventHandler):
        depth = deepest = 0
        left = 5000

        def ev_start(self, worker: Any) -> None:
            worker.write(b"x")

        def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)
            self.left -= 1
            if self.left > 0:
                worker.write(b"x")
            elif self.left == 0:
                worker.set_write_eof()
            self.depth -= 1

    handler = Deep()
    task.schedule(ExecWorker("node1", handler, command=sh("cat >/dev/null")))
    task.resume()
    assert handler.left == 0
    assert handler.deepest == 1


def test_another_thread_writes_at_the_pace_of_the_slowest(task: Task) -> None:
    worker = ExecWorker("node[1-4]", None, command=sh(COUNT))
    task.schedule(worker)

    def write() -> None:
        for _ in range(TOTAL // len(CHUNK)):
            worker.write(CHUNK)
        worker.set_write_eof()

    thread = threading.Thread(target=write)
    thread.start()
    task.resume()
    thread.join()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"%d" % (TOTAL - 1_000_000), "node[1-4]")


@pytest.mark.parametrize("command", ["exec <&-; sleep 0.2", "true", "exec sleep 60"])
def test_another_thread_does_not_wait_for_commands_that_do_not_read(
    task: Task, command: str
) -> None:
    worker = ExecWorker("node1", None, command=command, timeout=0.5)
    task.schedule(worker)

    def write() -> None:
        for _ in range(TOTAL // len(CHUNK)):
            worker.write(CHUNK)

    thread = threading.Thread(target=write)
    thread.start()
    task.resume()
    thread.join(10)
    assert not thread.is_alive()


def test_one_reader_that_has_closed_does_not_stop_the_others(task: Task) -> None:
    feeder = Feeder(2)
    command = sh(f"test %n = 0 && exec <&- && exec sleep 0.3; {COUNT}")
    worker = ExecWorker("node[1-2]", feeder, command=command)
    task.schedule(worker)
    task.resume()
    assert worker.node_buffer("node2") == b"%d" % (TOTAL - 1_000_000)


def test_an_error_in_ev_written_is_not_taken_for_a_broken_pipe(task: Task) -> None:
    class Broken(EventHandler):
        def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
            raise BrokenPipeError("the handler's own")

    worker = ExecWorker("node1", Broken(), command=sh("cat"))
    worker.write(b"x")
    task.schedule(worker)
    with pytest.raises(BrokenPipeError, match="the handler's own"):
        task.resume()


# -- workers by name --


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ssh", WorkerSsh),
        ("SSH", WorkerSsh),
        ("rsh", WorkerRsh),
        ("pdsh", WorkerPdsh),
        ("exec", ExecWorker),
        ("popen", WorkerPopen),
        ("ClusterShell.Worker.Rsh", WorkerRsh),
        ("pyclustershell.worker.exec", ExecWorker),
    ],
)
def test_workers_have_names(name: str, expected: type[Any]) -> None:
    assert worker_class(name) is expected


def test_a_module_of_ones_own_names_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownworker.py").write_text(
        "from pyclustershell.worker.exec import ExecWorker\nclass WORKER_CLASS(ExecWorker): pass\n"
    )
    (tmp_path / "nosuchclass.py").write_text("")
    (tmp_path / "brokenworker.py").write_text("import nosuchmodule")
    assert issubclass(worker_class("ownworker"), ExecWorker)
    with pytest.raises(AttributeError, match="WORKER_CLASS"):
        worker_class("nosuchclass")
    with pytest.raises(ImportError, match="nosuchmodule"):
        worker_class("brokenworker")
    with pytest.raises(ImportError, match=r"no worker 'sssh'.*pdsh"):
        worker_class("sssh")
    for name in ("ownworker", "nosuchclass"):
        sys.modules.pop(name)


# -- workers of one's own --


class GreetingClient(ExecClient):
    def _build_cmd(self) -> Any:
        code = "import os, sys; print(os.environ['GREETING'], *sys.argv[1:])"
        words = [sys.executable, "-c", code, self.key, f"{self.rank}:", self.command]
        return words, {"GREETING": "hello"}


class TouchClient(CopyClient):
    def _build_cmd(self) -> Any:
        return f"echo {self.source} to {self.key}:{self.dest}", None


class GreetingWorker(ExecWorker):
    SHELL_CLASS = GreetingClient
    COPY_CLASS = TouchClient


def test_a_worker_with_clients_of_ones_own(task: Task) -> None:
    task.set_default("distant_worker", GreetingWorker)
    worker: Any = task.run("who", nodes="node[1-2]")
    assert isinstance(worker, GreetingWorker)
    assert task.node_buffer("node2") == b"hello node2 1: who"
    copy = GreetingWorker("node1", None, source="a", dest="b")
    task.schedule(copy)
    task.resume()
    assert copy.node_buffer("node1") == b"a to node1:b"


class CountdownClient(EngineClient):
    """Counts down on the engine's timers: no process, no descriptor."""

    def __init__(self, worker: DistantWorker, node: str) -> None:
        self.worker = worker
        self.node = node
        self.left = 2
        self.timeout = 5.0
        self._engine: Any = None

    def start(self, engine: Engine) -> None:
        self._engine = engine
        engine.start_clock(self)
        self.worker.deliver(self.node, Started())
        self.count()

    def count(self) -> None:
        if self.left == 0:
            self._engine.finished(self)
            self.worker.deliver(self.node, Exited(0))
            return
        self.worker.deliver(self.node, Output("stdout", [b"%d" % self.left]))
        self.left -= 1
        self._engine.call_later(0.01, self.count)

    def on_timeout(self) -> None:
        self.worker.deliver(self.node, TimedOut())

    def abort(self, timed_out: bool = False) -> None:
        pass


class CountdownWorker(DistantWorker):
    def __init__(self, nodes: Any, handler: Any = None) -> None:
        super().__init__(handler)
        self.nodes = NodeSet(nodes)

    def _make_clients(self, task: Task) -> list[EngineClient]:
        return [CountdownClient(self, node) for node in self.nodes]


def test_a_worker_without_processes(task: Task) -> None:
    handler = Recorder()
    worker = CountdownWorker("node[1-2]", handler)
    task.schedule(worker)
    task.resume()
    assert worker.node_buffer("node1") == b"2\n1"
    assert handler.of("node2") == [
        ("pickup", "node2"),
        ("read", "node2", "stdout", b"2"),
        ("read", "node2", "stdout", b"1"),
        ("hup", "node2", 0),
    ]
    assert handler.events[-1] == ("close", "CountdownWorker", False)


# -- lines that are too long --

ENDLESS = "echo begun && exec cat /dev/zero"


def test_a_line_that_is_too_long_fails_its_node_only(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    recorder = Recorder()
    command = sh(f"test %h = node2 && {ENDLESS}; head -c 90000 /dev/zero")
    worker = run(task, NODES, recorder, command=command)
    [(failure, nodes)] = worker.iter_failures()
    assert (failure.node, str(nodes)) == ("node2", "node2")
    assert isinstance(failure, LineTooLongError)
    assert failure.cause == "A line of stdout is longer than 100000 bytes"
    assert worker.node_buffer("node2") == b"begun"
    assert worker.node_buffer("node1") == worker.node_buffer("node3") == bytes(90_000)
    assert dict(worker.iter_node_retcodes()) == {"node1": 0, "node2": 255, "node3": 0}
    assert [event for event in recorder.events if event[:2] == ("hup", "node2")] == [
        ("hup", "node2", 255)
    ]
    assert b"'line_limit'" in (worker.node_error("node2") or b"")


def test_no_limit_is_no_limit(task: Task) -> None:
    task.set_info("line_limit", None)
    worker = run(task, "node1", command=sh("head -c 3000000 /dev/zero"))
    assert worker.node_buffer("node1") == bytes(3_000_000)


def test_a_command_for_all_nodes_fails_for_all_of_them(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    worker = run(task, NODES, command=sh(f": %hosts; {ENDLESS} >&2"), stderr=True)
    [(failure, nodes)] = worker.iter_failures()
    assert failure.cause == "A line of stderr is longer than 100000 bytes"
    assert sorted(nodes) == ["node1", "node2", "node3"]


def test_a_local_command_with_an_endless_line(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    worker: Any = task.shell(sh(ENDLESS), key="k")
    task.resume()
    assert worker.retcode() == 255
    [(failure, keys)] = task.iter_failures()
    assert (failure.node, keys) == ("k", ["k"])


def replace_program(task: Task, key: str, directory: Path, script: str) -> None:
    """Have a worker run a script instead of its program, with a limit for lines."""
    program = directory / key
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    task.set_info(key, str(program))
    task.set_info("line_limit", 100_000)


@pytest.mark.posix_only("its rsh is a script of a POSIX shell")
def test_rsh_with_an_endless_line(task: Task, tmp_path: Path) -> None:
    replace_program(task, "rsh_path", tmp_path, ENDLESS)
    worker = WorkerRsh("node1", None, None, command="true")
    task.schedule(worker)
    task.resume()
    [(failure, nodes)] = worker.iter_failures()
    assert (type(failure), str(nodes)) == (LineTooLongError, "node1")


@pytest.mark.posix_only("Windows has no pdsh")
def test_pdsh_with_an_endless_line(task: Task, tmp_path: Path) -> None:
    script = f"echo node1: begun\nprintf 'node2: '\n{ENDLESS}"
    replace_program(task, "pdsh_path", tmp_path, script)
    worker = WorkerPdsh("node[1-2]", None, None, command="true")
    task.schedule(worker)
    task.resume()
    [(failure, nodes)] = worker.iter_failures()
    assert (type(failure), sorted(nodes)) == (LineTooLongError, ["node1", "node2"])
    assert worker.node_buffer("node1") == b"begun"
