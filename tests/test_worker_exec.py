"""ExecWorker: a local command per node; writing to commands; workers by name and of one's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler, NodeSet, WorkerPopen, WorkerSsh
from pyclustershell.engine.client import EngineClient
from pyclustershell.engine.engine import Engine
from pyclustershell.exceptions import LineTooLongError, WorkerError
from pyclustershell.task import Task
from pyclustershell.transport.state import Exited, Output, Started, TimedOut
from pyclustershell.worker.exec import CopyClient, ExecClient, ExecWorker, replace_keywords
from pyclustershell.worker.pdsh import WorkerPdsh
from pyclustershell.worker.registry import worker_class
from pyclustershell.worker.rsh import WorkerRsh
from pyclustershell.worker.worker import DistantWorker
from pyclustershell.writebuffer import HIGH_WATER
from tests.recorder import Recorder
from tests.servers.leaks import no_leaks
from tests.tasks import fresh_task

NODES = "node[1-3]"


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


def run(task: Task, nodes: str, handler: Any = None, **kwargs: Any) -> ExecWorker:
    worker = ExecWorker(nodes, handler, **kwargs)
    task.schedule(worker)
    task.resume()
    return worker


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


def test_a_bad_pattern_leaves_the_run_and_nothing_is_told_of_a_start(task: Task) -> None:
    handler = Recorder()
    task.schedule(ExecWorker(NODES, handler, command="date +%s"))
    with pytest.raises(WorkerError, match="%s"):
        task.resume()
    assert handler.events == []
    assert run(task, "node1", command="date +%%s").node_retcode("node1") == 0


# -- commands --


def test_a_command_runs_once_for_each_node(task: Task) -> None:
    handler = Recorder()
    worker = run(task, NODES, handler, command="echo %h is %n; exit %n")
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
    worker = run(task, NODES, handler, command="echo %hosts %n; echo two; exit 3")
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
    worker = run(task, NODES, handler, command="echo %hosts; exec sleep 60", timeout=0.3)
    assert list(worker.iter_keys_timeout()) == ["node1", "node2", "node3"]
    assert handler.events[-1] == ("close", "ExecWorker", True)
    assert not [event for event in handler.events if event[0] == "hup"]


def test_abort_by_a_handler_in_the_middle_of_lines_for_all_nodes(task: Task) -> None:
    class Abort(Recorder):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()

    handler = Abort()
    run(task, NODES, handler, command="echo %hosts; echo two; exec sleep 60")
    assert [event for event in handler.events if event[0] == "read"] == [
        ("read", "node1", "stdout", b"node[1-3]")
    ]
    assert handler.events[-1][0] == "close"


def test_stderr_is_apart_where_it_is_asked_for(task: Task) -> None:
    command = "echo out; echo err >&2"
    worker = run(task, "node1", command=command, stderr=True)
    assert (worker.node_buffer("node1"), worker.node_error("node1")) == (b"out", b"err")
    worker = run(task, "node1", command=command)
    assert worker.node_buffer("node1") == b"out\nerr"


def test_one_node_that_takes_too_long(task: Task) -> None:
    worker = run(task, "node[1-2]", command="test %n = 0 || exec sleep 60", timeout=0.5)
    assert list(worker.iter_keys_timeout()) == ["node2"]
    assert worker.node_retcode("node1") == 0
    with pytest.raises(KeyError):
        worker.node_retcode("node2")


def test_a_signal_is_128_and_its_number(task: Task) -> None:
    assert run(task, "node1", command="kill -9 $$").node_retcode("node1") == 137


def test_the_fanout_holds_for_local_commands(task: Task, tmp_path: Path) -> None:
    task.set_info("fanout", 1)
    # Each command fails if it finds another one's mark.
    worker = run(task, "node[1-4]", command=f"mkdir {tmp_path}/one && rmdir {tmp_path}/one")
    assert worker.bound_task().max_retcode() == 0


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="needs a command, or a source"):
        ExecWorker("node1", None)
    with pytest.raises(ValueError, match="destination"):
        ExecWorker("node1", None, source="/etc/hosts")
    with pytest.raises(TypeError, match="comand"):
        ExecWorker("node1", None, comand="true")  # type: ignore[call-arg]


def test_a_worker_that_was_scheduled_before(task: Task) -> None:
    worker = run(task, "node1", command="true")
    with pytest.raises(WorkerError, match="already"):
        task.schedule(worker)


def test_debug_shows_the_command(task: Task) -> None:
    lines: list[str] = []
    task.set_info("debug", True)
    task.set_info("print_debug", lambda _task, line: lines.append(line))
    run(task, "node1", command="echo %h")
    assert lines[0] == "EXECCLIENT: echo node1"


def test_repr_says_what_it_does_and_how_far_it_is(task: Task) -> None:
    worker = ExecWorker("node[1-2]", None, command="echo %h")
    task.schedule(worker)
    assert repr(worker) == "<ExecWorker 'echo %h' on node[1-2]: 2 nodes to go>"
    task.resume()
    assert repr(worker) == "<ExecWorker 'echo %h' on node[1-2]: 0 nodes to go>"


# -- copies --


def test_copies(task: Task, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("contents")
    worker = run(task, NODES, source=f"{tmp_path}/source", dest=f"{tmp_path}/copy-%h-%n")
    assert worker.bound_task().max_retcode() == 0
    assert (tmp_path / "copy-node3-2").read_text() == "contents"


def test_a_copied_directory_keeps_its_times(task: Task, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.write_text("contents")
    import os

    os.utime(file, (1000, 1000))
    run(task, "node1", source=f"{tmp_path}/source", dest=f"{tmp_path}/%h", preserve=True)
    assert (tmp_path / "node1" / "file").stat().st_mtime == 1000


def test_a_reverse_copy_copies_the_directory_dest(task: Task, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    run(task, "node1", source=f"{tmp_path}/%h", dest=f"{tmp_path}/dest", reverse=True)
    assert (tmp_path / "node1").is_dir()
    with pytest.raises(ValueError, match="must be a directory"):
        ExecWorker("node1", None, source="x", dest=f"{tmp_path}/none", reverse=True)


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
    worker = ExecWorker("node[1-2]", handler, command="cat")
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
    worker = ExecWorker("node[1-3]", None, command="cat")
    task.schedule(worker)
    worker.write(b"one\n")
    worker.set_write_eof()
    task.resume()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"one", "node[1-3]")


def test_there_is_no_other_stream_to_write_to() -> None:
    worker = ExecWorker("node1", None, command="cat")
    with pytest.raises(ValueError, match="'nope'"):
        worker.write(b"x", "nope")
    with pytest.raises(ValueError, match="'stdout'"):
        worker.set_write_eof("stdout")


CHUNK = bytes(1 << 16)
TOTAL = 8 << 20
COUNT = "head -c 1000000 >/dev/null; sleep 0.1; echo $((1000000 + $(wc -c)))"


class Feeder(EventHandler):
    """Writes while nobody is behind, and notes how much was on its way at most."""

    def __init__(self) -> None:
        self.left = TOTAL
        self.written = 0
        self.taken: dict[str, int] = {}
        self.most = 0

    def feed(self, worker: Any) -> None:
        while self.left and not worker.input_full:
            self.left -= len(CHUNK)
            self.written += len(CHUNK)
            worker.write(CHUNK)
        self.most = max(self.most, self.written - min(self.taken.values(), default=0))
        if not self.left:
            worker.set_write_eof()

    def ev_start(self, worker: Any) -> None:
        self.feed(worker)

    def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
        self.taken[node] = self.taken.get(node, 0) + size
        self.feed(worker)


def test_a_handler_that_heeds_input_full_keeps_little_waiting(task: Task) -> None:
    feeder = Feeder()
    worker = ExecWorker("node[1-4]", feeder, command=COUNT)
    task.schedule(worker)
    task.resume()
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"%d" % TOTAL, "node[1-4]")
    assert feeder.most < 2 * HIGH_WATER
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
    task.schedule(ExecWorker("node1", handler, command="cat >/dev/null"))
    task.resume()
    assert handler.left == 0
    assert handler.deepest == 1


def test_another_thread_writes_at_the_pace_of_the_slowest(task: Task) -> None:
    worker = ExecWorker("node[1-4]", None, command=COUNT)
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
    assert (bytes(buffer), str(nodes)) == (b"%d" % TOTAL, "node[1-4]")


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
    feeder = Feeder()
    command = f"test %n = 0 && exec <&- && exec sleep 0.3; {COUNT.replace('%', '%%')}"
    worker = ExecWorker("node[1-2]", feeder, command=command)
    task.schedule(worker)
    task.resume()
    assert worker.node_buffer("node2") == b"%d" % TOTAL


def test_an_error_in_ev_written_is_not_taken_for_a_broken_pipe(task: Task) -> None:
    class Broken(EventHandler):
        def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
            raise BrokenPipeError("the handler's own")

    worker = ExecWorker("node1", Broken(), command="cat")
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
        return ["sh", "-c", f'echo "$GREETING {self.key} {self.rank}: {self.command}"'], {
            "GREETING": "hello"
        }


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

ENDLESS = "echo begun; exec tr '\\0' x < /dev/zero"


def test_a_line_that_is_too_long_fails_its_node_only(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    recorder = Recorder()
    command = f"case %h in node2) {ENDLESS};; esac; head -c 90000 /dev/zero"
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
    worker = run(task, "node1", command="head -c 3000000 /dev/zero")
    assert worker.node_buffer("node1") == bytes(3_000_000)


def test_a_command_for_all_nodes_fails_for_all_of_them(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    worker = run(task, NODES, command=f": %hosts; {ENDLESS} >&2", stderr=True)
    [(failure, nodes)] = worker.iter_failures()
    assert failure.cause == "A line of stderr is longer than 100000 bytes"
    assert sorted(nodes) == ["node1", "node2", "node3"]


def test_a_local_command_with_an_endless_line(task: Task) -> None:
    task.set_info("line_limit", 100_000)
    worker: Any = task.shell(ENDLESS, key="k")
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


def test_rsh_with_an_endless_line(task: Task, tmp_path: Path) -> None:
    replace_program(task, "rsh_path", tmp_path, ENDLESS)
    worker = WorkerRsh("node1", None, None, command="true")
    task.schedule(worker)
    task.resume()
    [(failure, nodes)] = worker.iter_failures()
    assert (type(failure), str(nodes)) == (LineTooLongError, "node1")


def test_pdsh_with_an_endless_line(task: Task, tmp_path: Path) -> None:
    script = f"echo node1: begun\nprintf 'node2: '\n{ENDLESS}"
    replace_program(task, "pdsh_path", tmp_path, script)
    worker = WorkerPdsh("node[1-2]", None, None, command="true")
    task.schedule(worker)
    task.resume()
    [(failure, nodes)] = worker.iter_failures()
    assert (type(failure), sorted(nodes)) == (LineTooLongError, ["node1", "node2"])
    assert worker.node_buffer("node1") == b"begun"
