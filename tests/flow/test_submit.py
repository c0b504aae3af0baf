"""Task.submit(): futures of results, from any thread, and everything that ends them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import random
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler, NodeSet, TaskError, WorkerSsh, task_self
from pyclustershell.exceptions import (
    EngineCapacityError,
    NodeSetParseError,
    NodesFailedError,
    TaskAbortedError,
    TimeoutError,
    WorkerError,
)
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from pyclustershell.task.submission import ResultsFuture
from tests.helpers.programs import run_python
from tests.helpers.recorder import Recorder
from tests.helpers.sh import SHELL
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path

NODES = "node[1-4]"
ENDLESS = "exec sleep 60"
SECONDS = 30.0

# A thousand: PYCLUSTERSHELL_CANCELS=1000 python -m pytest tests/flow/test_submit.py -k any_moment
CANCELS = int(os.environ.get("PYCLUSTERSHELL_CANCELS", "20"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with no_leaks():
        task = Task()
        task.excepthook = lambda *exc_info: pytest.fail(f"nobody asked for {exc_info}")
        cluster.configure(task)
        try:
            yield task
        finally:
            task.abort(kill=True)
            task.thread.join(10)


def wait_for_start(future: ResultsFuture) -> None:
    wait_until(future.running)


# -- results ---------------------------------------------------------------------------------------


def test_a_future_has_the_results(task: Task) -> None:
    results = task.submit("echo out; exit 3", nodes=NODES).result(SECONDS)
    assert results.gathered() == [("out", NodeSet(NODES))]
    assert results.failures() == [("exit status 3", NodeSet(NODES))]
    with pytest.raises(NodesFailedError):
        results.check()
    assert task.submit("echo here").result(SECONDS)["localhost"].text == "here"


def test_several_at_once_share_the_fanout_and_the_connections(task: Task) -> None:
    active: list[int] = []

    class Counting(EventHandler):
        def ev_pickup(self, worker: Any, node: Any) -> None:
            active.append(task._engine.active)

    task.set_info("fanout", 3)
    futures = [task.submit("echo x", nodes=NODES, handler=Counting()) for _ in range(5)]
    for future in as_completed(futures, SECONDS):
        assert future.result().ok == NodeSet(NODES)
    assert len(active) == 20
    assert max(active) <= 3
    assert task.stats().open <= 3


def test_it_works_from_many_threads_at_once(task: Task) -> None:
    def submit(number: int) -> bytes:
        return task.submit(f"echo {number}", nodes="node1").result(SECONDS)["node1"].stdout

    count = 200 if os.name == "posix" else 30  # a process is dear on Windows
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(submit, range(count))) == [b"%d" % n for n in range(count)]


def test_while_the_task_runs_it_joins_the_run(task: Task) -> None:
    worker = task.shell("cat", nodes="node1")
    task.resume()
    wait_until(lambda: worker.started)
    assert task.submit("echo out", nodes=NODES).result(SECONDS).ok == NodeSet(NODES)
    assert not worker.results()
    worker.set_write_eof()
    task.join()
    # The getters know the run's own workers only.
    assert list(task.results()) == ["node1"]
    assert task.node_buffer("node2") == b""


def test_join_waits_for_it(task: Task) -> None:
    future = task.submit("sleep 0.2", nodes=NODES)
    task.join()
    assert future.done()


def test_a_worker_of_your_own(task: Task) -> None:
    worker = WorkerSsh(NODES, command="echo out")
    future = task.submit(worker)
    assert future.worker is worker
    assert future.result(SECONDS) == worker.results()
    with pytest.raises(WorkerError, match="already been scheduled"):
        task.submit(worker)


def test_input_can_be_written(task: Task) -> None:
    future = task.submit("cat", nodes=NODES)
    future.worker.write(b"line\n")
    future.worker.set_write_eof()
    assert future.result(SECONDS).gathered() == [("line", NodeSet(NODES))]
    # Without input, the command does not wait for it.
    assert task.submit("cat", nodes="node1", stdin=False).result(SECONDS).ok == NodeSet("node1")


def test_events_come_on_the_tasks_thread(task: Task) -> None:
    class OnTask(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self._thread = task.thread

        def ev_result(self, worker: Any, node: Any, result: Any) -> None:
            self._record("result", node)

    handler = OnTask()
    called: list[threading.Thread] = []
    future = task.submit("echo out", nodes="node1", handler=handler)
    future.add_done_callback(lambda _: called.append(threading.current_thread()))
    future.result(SECONDS)
    task.join()
    assert [event[0] for event in handler.events] == [
        "start", "pickup", "read", "hup", "result", "close",
    ]  # fmt: skip
    assert called in ([task.thread], [threading.current_thread()])


def test_asyncio_can_await_it(task: Task) -> None:
    async def main() -> Any:
        return await asyncio.wait_for(
            asyncio.wrap_future(task.submit("echo out", nodes=NODES)), SECONDS
        )

    assert asyncio.run(main()).ok == NodeSet(NODES)


@pytest.mark.parametrize("options", [{}, {"nodes": NODES}, {"nodes": NODES, "remote": False}])
def test_nothing_is_kept_of_a_command_that_has_ended(options: dict[str, Any], task: Task) -> None:
    """It is freed at once, and not by the garbage collector."""
    future = task.submit("echo out", **options)
    future.result(SECONDS)
    task.join()
    worker = weakref.ref(future.worker)
    gc.disable()
    try:
        del future
        # A last call for the command, which has ended, may be left for the next run.
        task.submit("echo out", **options).result(SECONDS)
        wait_until(lambda: worker() is None)
    finally:
        gc.enable()
    assert not task.results()


def test_nothing_is_kept_of_a_copy_that_has_ended(task: Task, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")
    (tmp_path / "dest").mkdir()
    other = task.submit("cat", nodes="node1", stdin=True)
    paths = (node_path(tmp_path / "source"), str(tmp_path / "dest"))
    copy = task.copy_worker(*paths, NODES, reverse=True)
    # It holds the files of all copies that run.
    together = other.worker.context.placed
    files = weakref.ref(together.get())
    assert task.submit(copy).result(SECONDS).ok == NodeSet(NODES)
    wait_until(lambda: files() is None)
    other.cancel()


# -- what is refused -------------------------------------------------------------------------------


def test_a_task_without_a_thread_of_its_own_says_so() -> None:
    with pytest.raises(TaskError, match=r"a task with a thread of its own, Task\(\)"):
        task_self().submit("true")


def test_wrong_arguments_are_errors_at_once(task: Task) -> None:
    with pytest.raises(NodeSetParseError):
        task.submit("true", nodes="node[1")
    with pytest.raises(ValueError, match="no node in nodes=''"):
        task.submit("true", nodes="")
    with pytest.raises(ValueError, match="key is for local commands"):
        task.submit("true", nodes="node1", key="key")
    assert not task.running()


def test_a_task_that_was_given_up_says_so(task: Task) -> None:
    task.abort(kill=True)
    for use in (lambda: task.submit("true"), task.resume):
        with pytest.raises(TaskError, match="this task's thread has ended"):
            use()


def test_the_end_of_a_with_block_ends_the_thread(cluster: LoopbackCluster) -> None:
    with no_leaks():
        with Task() as task:
            cluster.configure(task)
            results = task.submit("echo out", nodes=NODES).result(SECONDS)
            future = task.submit(ENDLESS, nodes=NODES)
        with pytest.raises(TaskAbortedError):
            future.result(SECONDS)
        task.thread.join(10)
        assert not task.thread.is_alive()
    assert results.ok == NodeSet(NODES)


# -- cancellation ----------------------------------------------------------------------------------


def test_cancel_ends_the_command(task: Task) -> None:
    future = task.submit(ENDLESS, nodes=NODES)
    wait_for_start(future)
    other = task.submit("echo out", nodes=NODES)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    # It counts as done when the command has been ended.
    assert concurrent.futures.wait([future], SECONDS).done == {future}
    assert future.worker.results().failed == NodeSet(NODES)
    assert other.result(SECONDS).ok == NodeSet(NODES)


def test_cancel_before_its_turn(task: Task) -> None:
    task.set_info("fanout", 1)
    first = task.submit(ENDLESS, nodes="node1")
    wait_for_start(first)
    waiting = task.submit("echo out", nodes=NODES)
    assert waiting.cancel()
    assert concurrent.futures.wait([waiting], SECONDS).done == {waiting}
    assert waiting.worker.results().unreached == NodeSet(NODES)
    assert first.running()
    assert first.cancel()
    task.join()


@pytest.mark.parametrize("command", ["exec sleep 60", "echo out"])
def test_cancel_at_any_moment(command: str, task: Task, cluster: LoopbackCluster) -> None:
    """Each command ends, others are whole, and nothing is left."""
    task.set_info("fanout", 6)
    for seed in range(CANCELS):
        moment = random.Random(seed)  # noqa: S311
        if seed % 10 == 0:
            task.close()  # the next commands have to log in
        other = task.submit("echo out", nodes="node[1-2]")
        future = task.submit(command, nodes=NODES)
        threading.Event().wait(moment.uniform(0, 0.02))
        cancelled = future.cancel()
        assert concurrent.futures.wait([future], SECONDS).done == {future}, seed
        assert future.cancelled() is cancelled, seed
        assert len(future.worker.results()) == 4, seed
        assert other.result(SECONDS).gathered() == [("out", NodeSet("node[1-2]"))], seed
    task.join()
    assert task._engine.active == task._engine.backlog == 0
    # TERM and KILL have done their work on the nodes.
    wait_until(lambda: ", 0 sessions" in repr(cluster))
    task.close()
    assert list(task.iter_left_running()) == []


def test_cancel_after_the_end_does_nothing(task: Task) -> None:
    future = task.submit("echo out", nodes=NODES)
    future.result(SECONDS)
    assert not future.cancel()
    assert not future.cancelled()


# -- what ends the run -----------------------------------------------------------------------------


class Raising(EventHandler):
    """Raises in one event."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self._fail)

    def _fail(self, *_details: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "event", ["ev_start", "ev_pickup", "ev_read", "ev_hup", "ev_result", "ev_close"]
)
def test_a_raising_handler_fails_all_open_futures(event: str, task: Task) -> None:
    other = task.submit(ENDLESS, nodes=NODES)
    wait_for_start(other)
    future = task.submit("echo out", nodes="node1", handler=Raising(event))
    concurrent.futures.wait([other, future], SECONDS, FIRST_EXCEPTION)
    for failed in (other, future):
        with pytest.raises(ZeroDivisionError):
            failed.result(SECONDS)
    # The task can be used again.
    assert task.submit("echo out", nodes=NODES).result(SECONDS).ok == NodeSet(NODES)


def test_without_an_open_future_the_hook_gets_the_exception(task: Task) -> None:
    caught: list[Any] = []
    task.excepthook = lambda kind, *_: caught.append(kind)
    task.submit("true", nodes="node1").result(SECONDS)
    task.join()
    task.shell("true", nodes="node1", handler=Raising("ev_hup"))
    task.resume()
    task.join()
    assert caught == [ZeroDivisionError]


def refuse_files(*_limits: object) -> None:
    """Say that there are too few descriptors."""
    raise EngineCapacityError("too few")


#: The function that asks the system for open files.
ENSURE = "pyclustershell.task.capacity.ensure_descriptors"


def test_too_few_descriptors_fail_it(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ENSURE, refuse_files)
        with pytest.raises(EngineCapacityError):
            task.submit("true", nodes=NODES).result(SECONDS)
    assert task.submit("true", nodes=NODES).result(SECONDS).ok == NodeSet(NODES)


def test_too_few_descriptors_during_a_run_fail_only_the_new_command(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = task.submit("cat", nodes=NODES, stdin=True)
    wait_for_start(other)
    with monkeypatch.context() as patch:
        patch.setattr(ENSURE, refuse_files)
        refused = task.submit("true", nodes=NODES)
        with pytest.raises(EngineCapacityError):
            refused.result(SECONDS)
    assert refused.worker.results().unreached == NodeSet(NODES)
    other.worker.write(b"out\n")
    other.worker.set_write_eof()
    assert other.result(SECONDS).gathered() == [("out", NodeSet(NODES))]


def test_too_few_descriptors_for_a_handlers_command(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Collect(EventHandler):
        def __init__(self) -> None:
            self.causes: dict[str, Any] = {}

        def ev_result(self, worker: Any, node: Any, result: Any) -> None:
            self.causes[node] = result.cause

    class Schedule(EventHandler):
        error: Any = None

        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(ENSURE, refuse_files)
                try:
                    task.shell("true", nodes="node[2-4]", handler=refused)
                except EngineCapacityError as error:
                    self.error = error
            task.shell("true", nodes="node[2-4]", handler=accepted)

    refused, accepted, schedule = Collect(), Collect(), Schedule()
    task.shell("echo out", nodes="node1", handler=schedule)
    task.resume()
    task.join()
    assert str(schedule.error) == "too few"
    assert refused.causes == dict.fromkeys(NodeSet("node[2-4]"), "aborted before its start")
    assert accepted.causes == dict.fromkeys(NodeSet("node[2-4]"))


def test_the_runs_timeout_fails_it(task: Task) -> None:
    task.shell(ENDLESS, nodes="node1")
    task.resume(1.0)
    future = task.submit(ENDLESS, nodes="node2")
    with pytest.raises(TimeoutError):
        future.result(SECONDS)


@pytest.mark.parametrize("how", ["abort", "kill", "close", "in a handler"])
def test_the_tasks_end_fails_it(how: str, task: Task) -> None:
    class Aborting(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            task.abort()

    future = task.submit(ENDLESS, nodes=NODES)
    wait_for_start(future)
    if how == "close":
        task.close()
    elif how == "in a handler":
        task.timer(0.0, Aborting())
    else:
        task.abort(kill=how == "kill")
    with pytest.raises(TaskAbortedError):
        future.result(SECONDS)
    assert future.worker.results().failed == NodeSet(NODES)
    if how != "kill":
        assert task.submit("true", nodes=NODES).result(SECONDS).ok == NodeSet(NODES)


def test_abort_and_submit_at_once_leave_no_future_open(task: Task) -> None:
    """Whatever comes first, each future ends."""
    stop = threading.Event()

    def abort_often() -> None:
        while not stop.is_set():
            task.abort()

    aborting = threading.Thread(target=abort_often)
    aborting.start()
    try:
        futures = [task.submit("true", nodes="node1") for _ in range(100)]
        done = concurrent.futures.wait(futures, SECONDS).done
    finally:
        stop.set()
        aborting.join()
    assert len(done) == 100
    kinds = {type(future.exception()) for future in done}
    assert kinds <= {type(None), TaskAbortedError}
    assert task.submit("true", nodes=NODES).result(SECONDS).ok == NodeSet(NODES)


def test_kill_and_submit_at_once_leave_no_future_open(cluster: LoopbackCluster) -> None:
    with no_leaks():
        for _ in range(20):
            task = Task()
            cluster.configure(task)
            futures: list[ResultsFuture] = []
            begun = threading.Event()

            def submit(task: Task = task, futures: Any = futures, begun: Any = begun) -> None:
                while True:
                    try:
                        futures.append(task.submit("true", nodes="node1"))
                    except TaskError:
                        return
                    begun.set()

            thread = threading.Thread(target=submit)
            thread.start()
            begun.wait(SECONDS)
            task.abort(kill=True)
            thread.join()
            assert len(concurrent.futures.wait(futures, SECONDS).done) == len(futures)
            task.thread.join(10)


def test_a_run_that_just_ends_takes_the_next_command(task: Task) -> None:
    """Each command is submitted while the run of the one before is ending."""
    for number in range(300):
        assert task.submit(f"echo {number}").result(SECONDS)["localhost"].ok


def test_a_program_does_not_end_before_its_commands() -> None:
    program = """
from pyclustershell import Task
task = Task()
future = task.submit("sleep 0.3; echo out")
future.add_done_callback(lambda it: print(it.result()["localhost"].text))
"""
    assert run_python(program) == "out\n"


@pytest.mark.posix_only("Windows has no fork")
def test_in_a_forked_child_it_is_refused(task: Task) -> None:
    task.submit("true").result(SECONDS)
    task.join()
    pid = os.fork()
    if pid == 0:
        try:
            task.submit("true")
        except TaskError as error:
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_result_that_would_wait_for_itself(task: Task) -> None:
    errors: list[str] = []

    class Wait(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            future = worker.task.submit("true", nodes=node)
            for wait in (future.result, future.exception):
                try:
                    wait(SECONDS)
                except TaskError as error:
                    errors.append(str(error))

    task.submit("true", nodes="node1", handler=Wait()).result(SECONDS)
    assert [error.split("()")[0] for error in errors] == ["result", "exception"]
    assert "add_done_callback" in errors[0]
