"""The task on its own: settings, local commands, timers."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import (
    EventHandler,
    SSHOptions,
    TaskError,
    TaskMsgTreeError,
    WorkerPopen,
    task_self,
)
from pyclustershell.defaults import Defaults
from pyclustershell.exceptions import ConfigurationError, TimeoutError, TopologyError
from pyclustershell.task import Task, task_cleanup, task_wait
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks


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
    task.run(sh("true"))
    assert lines == []
    task.set_info("debug", True)
    task.run(sh("true"))
    assert lines == [f"POPEN: {sh('true')}"]


# -- local commands --


def test_a_local_command(task: Task) -> None:
    worker = task.run(sh("echo out; echo err >&2; exit 3"), key="mine", stderr=True)
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 3
    assert worker.read() == b"out"
    assert worker.read(sname="stderr") == b"err"
    assert task.key_buffer("mine") == b"out"
    assert task.key_error("mine") == b"err"
    assert task.key_retcode("mine") == 3
    assert [(bytes(buffer), keys) for buffer, keys in task.iter_buffers()] == [(b"out", ["mine"])]


def test_without_a_key_the_worker_is_the_key(task: Task) -> None:
    worker = task.run(sh("echo out"))
    assert task.key_buffer(worker) == b"out"


def test_the_input_of_a_local_command(task: Task) -> None:
    worker = task.shell(sh("cat"))
    assert isinstance(worker, WorkerPopen)
    data = b"0123456789abcde\n" * 100_000
    worker.write(data)
    worker.set_write_eof()
    task.resume()
    assert worker.read() == data.rstrip(b"\n")
    assert task.run(sh("cat"), stdin=False).retcode() == 0  # type: ignore[union-attr]


def test_input_that_nobody_reads(task: Task) -> None:
    worker = task.shell(sh("exec <&-; sleep 0.05"))
    assert isinstance(worker, WorkerPopen)
    worker.write(b"x" * 1_000_000)
    task.resume()
    assert worker.retcode() == 0


def test_a_local_command_that_outlives_its_output(task: Task) -> None:
    worker = task.run(sh("exec >&- 2>&-; sleep 0.2; exit 5"))
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 5


@pytest.mark.posix_only("Windows has no signals")
def test_a_local_command_that_a_signal_ended(task: Task) -> None:
    worker = task.run(sh("kill -9 $$"))
    assert isinstance(worker, WorkerPopen)
    assert worker.retcode() == 137


def test_a_local_command_that_takes_too_long_is_killed(task: Task) -> None:
    worker = task.run(sh("echo $$; sleep 60; echo after"), timeout=0.3)
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

    task.shell(sh("sleep 60"), autoclose=True, handler=Watch())
    task.run(sh("true"), handler=Watch())
    assert closed == [sh("true"), sh("sleep 60")]


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
    worker = task.shell(sh("echo here"))
    assert task.run() is None
    assert worker.read() == b"here"
    task.shell(sh("sleep 60"))
    with pytest.raises(TimeoutError):
        task.run(timeout=0.2)
    task.shell(sh("sleep 60"))
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
    task.run(sh("echo out"), key="mine", handler=Reader())
    assert lines == [b"out"]
    with pytest.raises(TaskMsgTreeError, match="stdout_msgtree"):
        task.key_buffer("mine")
    with pytest.raises(TaskMsgTreeError, match="stdout_msgtree"):
        task.iter_buffers()


def test_flushed_output_is_forgotten(task: Task) -> None:
    one = task.shell(sh("echo one; echo e1 >&2"), key=1, stderr=True)
    task.shell(sh("echo two; echo e2 >&2"), key=2, stderr=True)
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


FEW_FILES = """
import resource
from pyclustershell import task_self
from pyclustershell.exceptions import EngineCapacityError
from pyclustershell.loopback import LoopbackCluster

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
task = task_self()
task.run("echo ok")
print(task.max_retcode())
with LoopbackCluster("node[1-2]") as cluster:
    cluster.configure(task)
    task.run("true", nodes="node[1-2]")
    print(task.max_retcode())
resource.setrlimit(resource.RLIMIT_NOFILE, (21, 21))
try:
    task.run("true")
except EngineCapacityError as error:
    print(error)
"""


def test_a_few_open_files_are_enough_for_a_few_commands() -> None:
    pytest.importorskip("resource", reason="this platform has no limit of open files")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FEW_FILES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    local, remote, error = done.stdout.splitlines()
    assert (local, remote) == ("0", "0")
    assert error.startswith("about 22 open files are needed, and this process may open 21")
    assert error.endswith(": raise the limit (ulimit -n 22)")


def test_a_fanout_that_cannot_fit_says_so_before_anything_starts() -> None:
    pytest.importorskip("resource", reason="this platform has no limit of open files")
    # In a process of its own: a hard limit cannot be raised again.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FANOUT_TOO_LARGE],
        capture_output=True,
        text=True,
        check=False,
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
    threaded.shell(sh("cat; echo done"), key="x", stdin=False)
    threaded.resume()
    task_wait()
    assert not threaded.running()
    assert threaded.key_buffer("x") == b"done"


def test_it_runs_as_often_as_it_is_resumed(threaded: Task) -> None:
    for number in range(3):
        threaded.shell(sh(f"echo {number}"), key="x")
        threaded.resume()
        threaded.join()
        assert threaded.key_buffer("x") == str(number).encode()


def test_it_hears_other_threads_while_it_runs(threaded: Task) -> None:
    started = threading.Event()

    class Tell(EventHandler):
        def ev_pickup(self, worker: Any, node: Any) -> None:
            assert threading.current_thread() is threaded.thread
            started.set()

    first = threaded.shell(sh("cat"), key="first", handler=Tell())
    assert isinstance(first, WorkerPopen)
    threaded.resume()
    assert started.wait(10)
    assert threaded.running()
    second = threaded.shell(sh("echo second"), key="second")
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
        threaded.shell(sh("sleep 60"), key="x")
        threaded.resume()
        while not threaded.running():
            threading.Event().wait(0.001)
        if suspend:
            assert threaded.suspend()
        threaded.abort()
        assert not threaded.running()
    threaded.run(sh("echo again"), key="x")
    threaded.join()
    assert threaded.key_buffer("x") == b"again"


def test_exceptions_of_handlers_go_to_the_excepthook(
    threaded: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fail(EventHandler):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            raise ZeroDivisionError

    threaded.run(sh("echo x"), handler=Fail())
    threaded.join()
    assert "ZeroDivisionError" in capsys.readouterr().err
    caught: list[Any] = []
    threaded.excepthook = lambda *details: caught.append(details[0])
    threaded.run(sh("echo x"), handler=Fail())
    threaded.join()
    assert caught == [ZeroDivisionError]
    threaded.run(sh("echo fine"), key="x")
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
        tasks[0].shell(sh("sleep 60"))
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


def test_a_topology_is_found_in_clustershells_places(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    (tmp_path / "topology.conf").write_text("[routes]\nelsewhere: node[1-8]\n")
    task.run(sh("true"))
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
            started.append(task.shell(sh("true")).started)

    task.run(sh("true"), handler=First())
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
    """The output of a program, which must end by itself and with status 0."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout + done.stderr


def test_a_program_does_not_end_before_its_tasks_runs() -> None:
    program = f"""
from pyclustershell import EventHandler, Task
class Done(EventHandler):
    def ev_read(self, worker, node, sname, msg):
        print(msg.decode())
task = Task()
task.shell({sh("sleep 0.2; echo done")!r}, handler=Done())
task.resume()
"""
    assert run_program(program) == "done\n"


def test_a_program_may_end_before_the_run_of_a_daemon() -> None:
    program = f"""
from pyclustershell import EventHandler, Task
class Begun(EventHandler):
    def ev_read(self, worker, node, sname, msg):
        begun.set()
    def ev_close(self, worker, timedout):
        print("closed")
import threading
begun = threading.Event()
task = Task(daemon=True)
task.set_info("ssh_kill_grace", 1)
task.submit({sh("echo begun; exec sleep 60")!r}, handler=Begun())
begun.wait()
"""
    assert run_program(program) == "closed\n"


def test_only_a_task_with_a_thread_of_its_own_is_a_daemon() -> None:
    with pytest.raises(TypeError, match="leave thread= out"):
        Task(threading.Thread(), daemon=True)


def test_a_suspended_task_does_not_hold_the_program() -> None:
    program = f"""
from pyclustershell import Task
task = Task()
task.shell({sh("exec sleep 60")!r})
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


# -- a task by the identifier of its thread --------------------------------------------------------


def test_a_thread_identifier_gives_the_task_of_that_thread() -> None:
    assert Task(thread_id=threading.get_ident()) is task_self()
    with_own_thread = Task()
    try:
        assert Task(thread_id=with_own_thread.thread.ident) is with_own_thread
    finally:
        with_own_thread.abort(kill=True)


def test_an_identifier_of_no_thread_is_refused() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    unused = 1 + max(known.ident or 0 for known in threading.enumerate())
    with pytest.raises(
        ValueError, match=f"no running thread has the identifier thread_id={unused}"
    ):
        Task(thread_id=unused)


@pytest.mark.parametrize("wrong", ["1", 1.0, True, threading.current_thread()])
def test_a_thread_identifier_is_an_integer(wrong: Any) -> None:
    with pytest.raises(TypeError, match="thread_id must be the identifier of a thread, an int"):
        Task(thread_id=wrong)


def test_a_thread_is_named_once() -> None:
    with pytest.raises(TypeError, match="thread= or thread_id=, not both"):
        Task(thread=threading.current_thread(), thread_id=threading.get_ident())
    with pytest.raises(TypeError, match="see thread_id="):
        Task(threading.get_ident())  # type: ignore[arg-type]


def parts_of_the_task(owner: threading.Thread, start: threading.Barrier) -> tuple[int, ...]:
    """The identities of a thread's task and of its parts; all threads ask for them at once."""
    start.wait()
    task = Task(thread_id=owner.ident)
    return tuple(map(id, (task, task._engine, task._runner, task._context, task.thread)))


def test_threads_that_ask_for_one_task_at_once_get_one_complete_task() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            end = threading.Event()
            owner = threading.Thread(target=end.wait)
            owner.start()
            start = threading.Barrier(6)

            ask = functools.partial(parts_of_the_task, owner, start)
            with ThreadPoolExecutor(6) as pool:
                found = {future.result() for future in [pool.submit(ask) for _ in range(6)]}
            end.set()
            owner.join()
            assert len(found) == 1
    finally:
        sys.setswitchinterval(interval)


def test_a_task_that_could_not_be_made_is_not_kept() -> None:
    class Broken(Defaults):
        def task_default(self) -> dict[str, Any]:
            raise OSError("no such defaults")

    end = threading.Event()
    owner = threading.Thread(target=end.wait)
    owner.start()
    with pytest.raises(OSError, match="no such defaults"):
        Task(thread=owner, defaults=Broken())
    assert Task(thread=owner).info("fanout") == 64
    end.set()
    owner.join()


def test_ssh_options_are_for_commands_on_nodes() -> None:
    with pytest.raises(ValueError, match="ssh is for commands on nodes"):
        task_self().shell("true", ssh=SSHOptions(user="me"))  # type: ignore[call-overload]


def test_a_run_that_is_refused_schedules_nothing(task: Task) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            task.run(sh("echo no"), key="other")
        except TaskError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "use its submit()" in str(errors[0])
    task.run(sh("echo yes"), key="own")
    assert [keys for _, keys in task.iter_buffers()] == [["own"]]
