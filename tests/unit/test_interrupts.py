"""SIGINT between any two lines of the package leaves a task that works."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, Callable, Optional

import pytest

from pyclustershell import EventHandler
from pyclustershell.engine.interrupts import interrupts
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task, task_self
from tests.helpers.tasks import fresh_task
from tests.helpers.waiting import wait_until

# (A process of Windows cannot send itself SIGINT without ending.)
pytestmark = pytest.mark.posix_only("needs os.kill with SIGINT")


def send() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Tracer:
    """Calls a function at one line of the package, counted from the start, on this thread.

    Attributes:
        lines: how many lines have been run.
    """

    def __init__(self, at: int, call: Callable[[], Any]) -> None:
        self.lines = 0
        self._at = at
        self._call = call

    def __enter__(self) -> Tracer:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if not str(frame.f_globals.get("__name__")).startswith("pyclustershell."):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                self._call()
        return self._trace


class Starts(EventHandler):
    """Starts one more command."""

    def __init__(self) -> None:
        self.more = True

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        if self.more:
            self.more = False
            worker.task.shell("exit 5", key="more")


def local(task: Task) -> None:
    task.run("echo %h; exit 3", nodes="node[1-2]", remote=False, handler=Starts())


def over_ssh(task: Task) -> None:
    task.run("echo out; exit 3", nodes="node[1-2]", handler=Starts())


def over_new_connections(task: Task) -> None:
    task.close()
    over_ssh(task)


def check(task: Task, remote: bool) -> None:
    """The task runs commands, and only these."""
    task.run("echo out; exit 3", nodes="node[1-2]", remote=remote)
    assert [(code, sorted(keys)) for code, keys in task.iter_retcodes()] == [
        (3, ["node1", "node2"])
    ]
    assert not list(task.iter_failures())
    engine = task._engine
    assert (engine.active, engine.backlog, engine._holding, engine._delayable) == (0, 0, 0, 0)
    assert len(engine.watched_descriptors) == 1, "the mailbox's alone"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-2]") as cluster:
        yield cluster


@pytest.mark.parametrize("action", [local, over_ssh, over_new_connections])
def test_at_any_line(action: Callable[[Task], None], cluster: LoopbackCluster) -> None:
    remote = action is not local
    with fresh_task() as task:
        cluster.configure(task)
        check(task, remote)
        with Tracer(0, send) as tracer:
            action(task)
        total = tracer.lines
        assert total > 500
        cut = 0
        # Lines at the beginning and at the end, and some in between; others in other runs.
        for at in sorted({*range(1, 20), *range(20, total, max(1, total // 40))}):
            try:
                with Tracer(at, send):
                    action(task)
            except KeyboardInterrupt:
                cut += 1
            check(task, remote)
        assert cut > 40
        if remote:
            # None is lost: those of killed commands become idle.
            wait_until(lambda: task.stats().open == task.stats().idle)


def test_a_task_that_is_cut_while_it_is_made() -> None:
    task_self().abort(kill=True)
    with Tracer(0, send) as tracer:
        task_self()
    for at in range(1, tracer.lines + 1):
        task_self().abort(kill=True)
        with suppress(KeyboardInterrupt), Tracer(at, send):
            task_self()
        task_self().run("exit 3", key="key")
        assert task_self().max_retcode() == 3


def test_a_handler_that_runs_long_is_interrupted() -> None:
    class Loops(EventHandler):
        def ev_start(self, worker: Any) -> None:
            send()
            while True:
                pass

    with fresh_task() as task:
        with pytest.raises(KeyboardInterrupt):
            task.run("true", key="key", handler=Loops())
        check(task, remote=False)


def test_a_call_of_a_handler_is_not_interrupted() -> None:
    """KeyboardInterrupt comes after the handler: a command that it starts is not half made."""
    events = []

    class Starts(EventHandler):
        def ev_start(self, worker: Any) -> None:
            with interrupts:
                send()
            events.append("called")

        def ev_close(self, worker: Any, timedout: bool) -> None:
            events.append("close")

    with fresh_task() as task:
        with pytest.raises(KeyboardInterrupt):
            task.run("sleep 60", key="key", handler=Starts())
        assert events[-1] == "close"
        check(task, remote=False)


def test_a_waiting_loop_is_woken_up() -> None:
    with fresh_task() as task:

        def interrupt() -> None:
            wait_until(task.running)
            send()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            task.run("exec sleep 60", key="key")
        thread.join()
        check(task, remote=False)


def test_a_program_keeps_its_own_handler() -> None:
    seen = []

    def own(number: int, _frame: Optional[FrameType]) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, own)
    try:
        with fresh_task() as task:
            with Tracer(100, send):
                task.run("exit 3", key="key")
            assert task.max_retcode() == 3
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_a_program_keeps_the_descriptor_that_wakes_it() -> None:
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    before = signal.set_wakeup_fd(sender)
    try:
        with fresh_task() as task:
            task.run("exit 3", key="key")
        assert signal.set_wakeup_fd(sender) == sender
    finally:
        signal.set_wakeup_fd(before)
        os.close(sender)
        os.close(receiver)


def test_waiting_for_a_task_of_another_thread_is_interrupted() -> None:
    task = Task()
    worker = task.shell("read line; exit 3", key="key", stdin=True)
    task.resume()

    def interrupt() -> None:
        wait_until(task.running)
        send()

    thread = threading.Thread(target=interrupt)

    def wait_for_it() -> None:
        thread.start()
        task.join()
        wait_until(lambda: False)

    with pytest.raises(KeyboardInterrupt):
        wait_for_it()
    thread.join()
    task.post(worker.write, b"line\n")
    task.join()
    assert task.key_retcode("key") == 3
    task.abort(kill=True)
    task.thread.join(10)


class Cut(Exception):
    """What a handler of another signal raises."""


# The garbage collector closes files of a command that was cut while it was started.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_exceptions_at_any_line_leave_no_wrong_counts() -> None:
    """A program's own handler may raise anywhere in a run (a deadline by SIGALRM, say)."""

    def raise_cut() -> None:
        if task.running():
            raise Cut

    with fresh_task() as task:
        with Tracer(0, raise_cut) as tracer:
            local(task)
        for at in range(1, tracer.lines, max(1, tracer.lines // 40)):
            with suppress(Cut), Tracer(at, raise_cut):
                local(task)
            check(task, remote=False)
    gc.collect()  # here, and not in the next test


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_child_that_is_forked_in_a_run(in_thread: bool) -> None:
    """It is interrupted as usual, and its own tasks can run."""

    def child() -> int:
        with fresh_task() as task:
            task.run("exit 3", key="key")
            if task.max_retcode() != 3:
                return 2
        if in_thread and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return 4
        return 0

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child()
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    class Forks(EventHandler):
        def ev_start(self, worker: Any) -> None:
            if in_thread:
                thread = threading.Thread(target=fork)
                thread.start()
                thread.join()
            else:
                fork()

    codes: list[int] = []
    with fresh_task() as task:
        task.run("exit 3", key="key", handler=Forks())
        assert codes == [0]
        assert task.max_retcode() == 3
