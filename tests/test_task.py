"""The task on its own: settings, local commands, timers."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import (
    EventHandler,
    NodeSet,
    TaskError,
    TaskMsgTreeError,
    WorkerPopen,
    task_self,
)
from pyclustershell.exceptions import ConfigurationError, TimeoutError, TopologyError
from pyclustershell.task import Task, task_cleanup, task_wait
from tests.servers.leaks import no_leaks
from tests.tasks import fresh_task


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


# -- one task per thread --


def test_each_thread_has_its_own_task() -> None:
    tasks = []
    thread = threading.Thread(target=lambda: tasks.append(task_self()))
    thread.start()
    thread.join()
    assert task_self() is task_self()
    assert tasks[0] is not task_self()


def test_abort_with_kill_gives_the_task_up() -> None:
    def in_a_thread() -> None:
        first = task_self()
        first.abort(kill=True)
        tasks.append((first, task_self()))

    tasks: list[Any] = []
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    [(first, second)] = tasks
    assert first is not second


# -- settings --


def test_info_and_defaults(task: Task) -> None:
    assert task.info("fanout") == 64
    assert task.info("connect_timeout") == 10
    assert task.info("command_timeout") == 0
    assert task.info("USER_key") is None
    assert task.info("USER_key", "mine") == "mine"
    task.set_info("USER_key", 1)
    assert task.info("USER_key") == 1
    assert task.default("stderr") is False
    assert task.default("stdin") is True


def test_options_are_checked_when_they_are_set(task: Task) -> None:
    with pytest.raises(ConfigurationError, match="-Z"):
        task.set_info("ssh_options", "-Z")
    with pytest.raises(TypeError, match="did you mean 'password'"):
        task.configure_ssh(pasword="x")
    assert task.info("ssh_options") is None


def test_ssh_path_is_ignored_and_says_so(task: Task) -> None:
    with pytest.warns(UserWarning, match="no ssh program is started"):
        task.set_info("ssh_path", "/opt/bin/ssh")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.set_info("ssh_path", None)


def test_debug_lines_go_to_print_debug(task: Task) -> None:
    lines: list[str] = []
    task.set_info("print_debug", lambda t, line: lines.append(line))
    task.run("true")
    assert lines == []
    task.set_info("debug", True)
    task.run("true")
    assert lines == ["POPEN: true"]


# -- local commands --


def test_a_local_command(task: Task) -> None:
    worker = task.run("echo out; echo err >&2; exit 3", key="mine", stderr=True)
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 3
    assert worker.read() == b"out"
    assert worker.read(sname="stderr") == b"err"
    assert task.key_buffer("mine") == b"out"
    assert task.key_error("mine") == b"err"
    assert task.key_retcode("mine") == 3
    assert [(bytes(buffer), keys) for buffer, keys in task.iter_buffers()] == [(b"out", ["mine"])]


def test_without_a_key_the_worker_is_the_key(task: Task) -> None:
    worker = task.run("echo out")
    assert task.key_buffer(worker) == b"out"


def test_the_input_of_a_local_command(task: Task) -> None:
    worker = task.shell("cat")
    assert isinstance(worker, WorkerPopen)
    data = b"0123456789abcde\n" * 100_000
    worker.write(data)
    worker.set_write_eof()
    task.resume()
    assert worker.read() == data.rstrip(b"\n")
    assert task.run("cat", stdin=False).retcode() == 0  # type: ignore[union-attr]


def test_input_that_nobody_reads(task: Task) -> None:
    worker = task.shell("exec <&-; sleep 0.05")
    assert isinstance(worker, WorkerPopen)
    worker.write(b"x" * 1_000_000)
    task.resume()
    assert worker.retcode() == 0


def test_a_local_command_that_outlives_its_output(task: Task) -> None:
    worker = task.run("exec >&- 2>&-; sleep 0.2; exit 5")
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 5


def test_a_local_command_that_a_signal_ended(task: Task) -> None:
    worker = task.run("kill -9 $$")
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 137


def test_a_local_command_that_takes_too_long_is_killed(task: Task) -> None:
    worker = task.run("echo $$; sleep 60; echo after", timeout=0.3)
    assert isinstance(worker, WorkerPopen)
    assert worker.did_timeout()
    assert worker.retcode() is None
    assert list(task.iter_keys_timeout()) == [worker]
    # no_leaks: its pipes are closed, and the thread that sees to its end has ended.


def test_a_command_that_is_autoclose_does_not_hold_the_run(task: Task) -> None:
    closed: list[Any] = []

    class Watch(EventHandler):
        def ev_close(self, worker: Any, timedout: bool) -> None:
            closed.append(worker.command)

    task.shell("sleep 60", autoclose=True, handler=Watch())
    task.run("true", handler=Watch())
    assert closed == ["true", "sleep 60"]


def test_a_command_that_cannot_be_started(task: Task) -> None:
    worker = task.run("echo \0")
    assert isinstance(worker, WorkerPopen)
    [(failure, keys)] = task.iter_failures()
    assert keys == [worker]
    assert "cannot start a process" in str(failure)
    assert task.key_retcode(worker) == 255


# -- timers and the run --


def test_timers_and_their_handlers(task: Task) -> None:
    fired: list[Any] = []

    class Tick(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            fired.append(timer)
            if len(fired) == 3:
                timer.invalidate()

    timer = task.timer(0.001, Tick(), interval=0.001)
    task.resume()
    assert fired == [timer] * 3
    assert not timer.is_valid()
    with pytest.raises(ValueError, match="cannot fire in -1 seconds"):
        task.timer(-1, Tick())
    with pytest.raises(TypeError, match="ev_timer"):
        task.timer(1, None)


def test_run_without_a_command_resumes(task: Task) -> None:
    worker = task.shell("echo here")
    assert task.run() is None
    assert worker.read() == b"here"
    task.shell("sleep 60")
    with pytest.raises(TimeoutError):
        task.run(timeout=0.2)
    task.shell("sleep 60")
    with pytest.raises(TimeoutError):
        task.run(0.2)
    with pytest.raises(TypeError, match="nodes"):
        task.run(nodes="node1")


def test_a_run_with_nothing_to_do_ends_at_once(task: Task) -> None:
    task.resume()
    assert task.max_retcode() is None


def test_output_that_is_not_kept(task: Task) -> None:
    lines: list[bytes] = []

    class Reader(EventHandler):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            lines.append(msg)

    task.set_default("stdout_msgtree", False)
    task.run("echo out", key="mine", handler=Reader())
    assert lines == [b"out"]
    with pytest.raises(TaskMsgTreeError, match="stdout_msgtree"):
        task.key_buffer("mine")
    with pytest.raises(TaskMsgTreeError, match="stdout_msgtree"):
        task.iter_buffers()


def test_flushed_output_is_forgotten(task: Task) -> None:
    one = task.shell("echo one; echo e1 >&2", key=1, stderr=True)
    task.shell("echo two; echo e2 >&2", key=2, stderr=True)
    task.resume()
    one.flush_buffers()
    assert (task.key_buffer(1), task.key_buffer(2)) == (b"", b"two")
    task.flush_errors()
    assert (task.key_error(1), task.key_error(2)) == (b"", b"")


FANOUT_TOO_LARGE = """
import resource
from pyclustershell import EventHandler, task_self
from pyclustershell.exceptions import EngineCapacityError

class Starts(EventHandler):
    def ev_start(self, worker):
        raise SystemExit("started")

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
task = task_self()
task.run("true")
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (67, 128)
for _ in range(50):
    task.shell("true", handler=Starts())
try:
    task.resume()
except EngineCapacityError as error:
    print(error)
task.resume()
"""


def test_a_fanout_that_cannot_fit_says_so_before_anything_starts() -> None:
    pytest.importorskip("resource", reason="this platform has no limit of open files")
    # In a process of its own: a hard limit cannot be raised again.
    done = subprocess.run(
        [sys.executable, "-c", FANOUT_TOO_LARGE], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "this process may open 128: use a smaller fanout (now 64)" in done.stdout


# -- tasks with a thread of their own --


@pytest.fixture
def threaded() -> Iterator[Task]:
    with no_leaks():
        task = Task()
        yield task
        task.abort(kill=True)


def test_a_task_with_a_thread_of_its_own_does_not_block(threaded: Task) -> None:
    threaded.shell("cat; echo done", key="x", stdin=False)
    threaded.resume()
    task_wait()
    assert not threaded.running()
    assert threaded.key_buffer("x") == b"done"


def test_it_runs_as_often_as_it_is_resumed(threaded: Task) -> None:
    for number in range(3):
        threaded.shell(f"echo {number}", key="x")
        threaded.resume()
        threaded.join()
        assert threaded.key_buffer("x") == str(number).encode()


def test_it_hears_other_threads_while_it_runs(threaded: Task) -> None:
    started = threading.Event()

    class Tell(EventHandler):
        def ev_pickup(self, worker: Any, node: Any) -> None:
            assert threading.current_thread() is threaded.thread
            started.set()

    first = threaded.shell("cat", key="first", handler=Tell())
    assert isinstance(first, WorkerPopen)
    threaded.resume()
    assert started.wait(10)
    assert threaded.running()
    second = threaded.shell("echo second", key="second")
    port = threaded.port(autoclose=True)
    threaded.set_info("USER_x", 1)
    # Each of these was posted before this message: when it has arrived, they have been done.
    assert port.msg("sync")
    assert threaded.info("USER_x") == 1
    assert second.task is threaded
    threaded._engine.post(first.set_write_eof)
    threaded.join()
    assert threaded.key_buffer("second") == b"second"


def test_it_can_be_suspended_and_resumed(threaded: Task) -> None:
    assert not threaded.suspend()
    ticks: list[float] = []
    ticked = threading.Semaphore(0)

    class Tick(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            ticks.append(time.monotonic())
            ticked.release()
            if len(ticks) >= 20:
                timer.invalidate()

    threaded.timer(0.001, Tick(), interval=0.001)
    threaded.resume()
    assert ticked.acquire(timeout=10)
    if threaded.suspend():
        seen = len(ticks)
        assert threaded.running()
        assert len(ticks) == seen
        threaded.resume()
    threaded.join()
    assert len(ticks) == 20


def test_it_can_be_aborted_from_outside_also_when_suspended(threaded: Task) -> None:
    for suspend in (False, True):
        threaded.shell("sleep 60", key="x")
        threaded.resume()
        while not threaded.running():
            threading.Event().wait(0.001)
        if suspend:
            assert threaded.suspend()
        threaded.abort()
        assert not threaded.running()
    threaded.run("echo again", key="x")
    threaded.join()
    assert threaded.key_buffer("x") == b"again"


def test_what_its_handlers_raise_goes_to_the_excepthook(
    threaded: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fail(EventHandler):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            raise ZeroDivisionError

    threaded.run("echo x", handler=Fail())
    threaded.join()
    assert "ZeroDivisionError" in capsys.readouterr().err
    caught: list[Any] = []
    threaded.excepthook = lambda *details: caught.append(details[0])
    threaded.run("echo x", handler=Fail())
    threaded.join()
    assert caught == [ZeroDivisionError]
    threaded.run("echo fine", key="x")
    threaded.join()
    assert threaded.key_buffer("x") == b"fine"


def test_the_task_of_a_thread_is_found_by_the_thread() -> None:
    task = Task()
    assert Task(thread=task.thread) is task
    assert task_self() is Task(thread=threading.current_thread())
    task.abort(kill=True)
    task.thread.join(10)
    assert not task.thread.is_alive()


def test_cleanup_gives_every_task_up() -> None:
    with no_leaks():
        tasks = [Task(), Task()]
        tasks[0].shell("sleep 60")
        tasks[0].resume()
        task_cleanup()
    assert task_self() not in tasks


def test_a_foreign_threads_task_is_not_run_here() -> None:
    tasks: list[Task] = []
    thread = threading.Thread(target=lambda: tasks.append(task_self()))
    thread.start()
    thread.join()
    with pytest.raises(TaskError, match="runs in its own thread only"):
        tasks[0].resume()
    with pytest.raises(TaskError, match="can be suspended"):
        task_self().suspend()


# -- ports --


def test_a_port_takes_messages_from_other_threads(task: Task) -> None:
    heard: list[Any] = []

    class Inbox(EventHandler):
        def ev_port_start(self, port: Any) -> None:
            heard.append("start")

        def ev_msg(self, port: Any, msg: Any) -> None:
            assert threading.current_thread() is task.thread
            heard.append(msg)
            if msg == "end":
                task.remove_port(port)

    port = task.port(handler=Inbox())
    sender = threading.Thread(target=lambda: [port.msg("one"), port.msg_send("end")])
    sender.start()
    task.resume()
    sender.join()
    assert heard == ["start", "one", "end"]


# -- topologies --


def test_a_topology_is_loaded_but_gateways_are_refused(task: Task, tmp_path: Path) -> None:
    here = socket.gethostname().partition(".")[0]
    path = tmp_path / "topology.conf"
    path.write_text(f"[routes]\n{here}: gateway1\ngateway1: node[1-8]\n")
    task.load_topology(str(path))
    assert str(task.topology) == f"{here}\n`- gateway1\n   `- node[1-8]\n"
    with pytest.raises(TaskError, match="gateways are not supported"):
        task.shell("true", nodes="node1")
    assert task.shell("true", nodes="node1", tree=False).nodes == NodeSet("node1")  # type: ignore[attr-defined]
    task.set_default("auto_tree", False)
    task.shell("true", nodes="node1")
    task.abort()


def test_a_topology_is_found_where_clustershell_looks_for_it(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    (tmp_path / "topology.conf").write_text("[routes]\nelsewhere: node[1-8]\n")
    task.run("true")
    for _ in range(2):
        with pytest.raises(TopologyError, match="to begin at"):
            task.shell("true", nodes="node1")


def test_a_wrong_topology_leaves_the_old_one(task: Task, tmp_path: Path) -> None:
    with pytest.raises(TopologyError):
        task.load_topology(str(tmp_path / "nothing"))
    assert task.topology is None


# -- handlers that start commands --


def test_a_command_that_a_handler_schedules_starts_at_once(task: Task) -> None:
    started = []

    class First(EventHandler):
        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            started.append(task.shell("true").started)

    task.run("true", handler=First())
    assert started == [True]


def test_thousands_of_commands_that_fail_at_once_in_a_row(task: Task) -> None:
    class Again(EventHandler):
        runs = 0

        def ev_close(self, worker: Any, timedout: bool) -> None:
            self.runs += 1
            if self.runs < 2000:
                task.shell("echo \0", handler=self)

    again = Again()
    task.run("echo \0", handler=again)
    assert again.runs == 2000


# -- the end of the program --


def run_program(code: str) -> str:
    """What a program prints; it must end well, and by itself."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[1],
    )
    return done.stdout + done.stderr


def test_a_program_does_not_end_before_its_tasks_runs() -> None:
    program = """
from pyclustershell import EventHandler, Task
class Done(EventHandler):
    def ev_read(self, worker, node, sname, msg):
        print(msg.decode())
task = Task()
task.shell("sleep 0.2; echo done", handler=Done())
task.resume()
"""
    assert run_program(program) == "done\n"


def test_a_suspended_task_does_not_hold_the_program() -> None:
    program = """
from pyclustershell import Task
task = Task()
task.shell("exec sleep 60")
task.resume()
while not task.suspend():
    pass
print("suspended")
"""
    assert run_program(program) == "suspended\n"


def test_the_hook_of_a_task_without_a_thread_is_pythons(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(*_: Any) -> None:
        pass

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    task.excepthook = hook
    assert sys.excepthook is hook
