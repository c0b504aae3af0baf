"""Results of workers and tasks in whole runs: ev_result, phases, when_closed, other threads."""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, Callable

import paramiko
import pytest

from pyclustershell import EventHandler, ExecWorker, NodeSet, StreamWorker, WorkerPdsh, WorkerSsh
from pyclustershell.exceptions import ConnectError, TaskError, TimeoutError, WorkerError
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.results import NodeResult
from pyclustershell.task import Task
from pyclustershell.worker.worker import Worker
from tests.helpers.recorder import Recorder
from tests.helpers.sh import SHELL, sh
from tests.helpers.tasks import connect_to, fresh_task
from tests.helpers.waiting import wait_until
from tests.servers.faults import ScriptedServer, hang_before_key_exchange
from tests.servers.leaks import no_leaks
from tests.servers.passwords import PASSWORD
from tests.servers.processes import node_path
from tests.servers.sshd import Sshd
from tests.servers.steps import StepServer

NODES = "node[1-4]"
ENDLESS = "exec sleep 60"
LOGIN = ("resolving", "connecting", "key_exchange", "authenticating")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        yield task


class Taker(Recorder):
    """Records results, too."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[NodeResult] = []

    def ev_result(self, worker: Any, node: Any, result: NodeResult) -> None:
        self._record("result", node)
        self.results.append(result)


# -- ev_result -------------------------------------------------------------------------------------


def ssh(handler: Any, endless: bool, timeout: float) -> Worker:
    return WorkerSsh(NODES, handler, timeout, command=ENDLESS if endless else "echo out; exit 3")


def execute(handler: Any, endless: bool, timeout: float) -> Worker:
    return ExecWorker(
        NODES, handler, timeout, command=sh(ENDLESS if endless else "echo %h; exit 3")
    )


def one_for_all(handler: Any, endless: bool, timeout: float) -> Worker:
    command = f": %hosts; {ENDLESS if endless else 'echo out; exit 3'}"
    return ExecWorker(NODES, handler, timeout, command=sh(command))


def stream(handler: Any, endless: bool, timeout: float) -> Worker:
    reader, writer = os.pipe()
    worker = StreamWorker(handler, key="node1", timeout=timeout)
    worker.set_reader("stdout", reader)
    if endless:
        worker.set_writer("stdin", writer)
    else:
        os.close(writer)
    return worker


def copy(handler: Any, endless: bool, timeout: float) -> Worker:
    place = f"{node_path(tempfile.gettempdir())}/pyclustershell-{os.getpid()}"
    return WorkerSsh(NODES, handler, timeout, source=os.path.realpath(__file__), dest=place)


MakeWorker = Callable[[Any, bool, float], Worker]
PIPES = pytest.mark.posix_only("a StreamWorker waits for pipes; Windows waits for sockets only")
KINDS = [ssh, execute, one_for_all, pytest.param(stream, marks=PIPES)]


@pytest.mark.parametrize("make", [*KINDS, copy])
def test_each_node_has_one_result_as_its_last_event(make: MakeWorker, task: Task) -> None:
    taker = Taker()
    worker = make(taker, False, -1)
    task.schedule(worker)
    task.resume()
    nodes = {event[1] for event in taker.events if event[0] == "pickup"}
    for node in nodes:
        assert [event[0] for event in taker.of(node)][-2:] == ["hup", "result"]
        assert sum(event == ("result", node) for event in taker.events) == 1
    assert taker.events[-1][0] == "close"
    assert {result.node for result in taker.results} == nodes
    assert {result.rc for result in taker.results} == {{copy: 0, stream: None}.get(make, 3)}
    assert dict(worker.results()) == {result.node: result for result in taker.results}


@pytest.mark.parametrize("make", KINDS)
def test_results_before_the_end_are_not_complete(make: MakeWorker, task: Task) -> None:
    found = []

    class Looker(EventHandler):
        def ev_result(self, worker: Any, node: Any, result: NodeResult) -> None:
            found.append((worker.results().outstanding, task.results().outstanding))

        def ev_close(self, worker: Any, timedout: bool) -> None:
            found.append((worker.results().outstanding, task.results().outstanding))

    worker = make(Looker(), False, -1)
    task.schedule(worker)
    count = 1 if isinstance(worker, StreamWorker) else 4
    for results in (worker.results(), task.results()):
        assert (results.outstanding, len(results)) == (count, 0)
        with pytest.raises(
            TaskError, match=f"{count} of {count} nodes have not ended: call resume"
        ):
            results.check()
    task.resume()
    assert found == [(left, left) for left in (*reversed(range(count)), 0)]
    for results in (worker.results(), task.results()):
        assert (results.outstanding, len(results)) == (0, count)


def test_results_of_an_aborted_run_are_not_complete(task: Task) -> None:
    worker = task.shell("true", nodes=NODES)
    task.abort()
    with pytest.raises(TaskError, match="4 of 4 nodes have not ended"):
        worker.results().check()
    # The next run is not concerned.
    task.run("true", nodes=NODES)
    assert task.results().check().ok == NodeSet(NODES)


def test_the_results_of_a_task_that_does_not_wait_are_not_complete(
    cluster: LoopbackCluster,
) -> None:
    with no_leaks(), Task() as own:
        cluster.configure(own)
        worker = own.run("cat", nodes=NODES)
        with pytest.raises(TaskError, match=r"4 of 4 nodes have not ended: .*join\(\)"):
            worker.results().check()
        worker.set_write_eof()
        own.join()
        assert worker.results().check().ok == NodeSet(NODES)


@pytest.mark.parametrize("make", KINDS)
def test_a_node_that_timed_out_has_one_in_place_of_ev_hup(make: MakeWorker, task: Task) -> None:
    task.run("true", nodes=NODES)  # the commands over SSH start within the timeout
    taker = Taker()
    task.schedule(make(taker, True, 0.5))
    task.resume()
    assert taker.results
    for result in taker.results:
        events = [event[0] for event in taker.of(result.node)]
        assert events[-1] == "result"
        assert events.count("result") == 1
        assert ("hup" in events) is (make is stream)
        assert (result.cause, result.rc, result.timed_out) == ("timed out", None, True)
        assert result.started is not None
        # The timeout has begun with the turn.
        assert result.opening + result.running >= 0.5


@pytest.mark.parametrize("make", KINDS)
def test_an_aborted_worker_has_one_for_each_node(make: MakeWorker, task: Task) -> None:
    class Aborting(Taker):
        def ev_pickup(self, worker: Any, node: Any) -> None:
            super().ev_pickup(worker, node)
            worker.abort()

    task.set_info("fanout", 2)
    taker = Aborting()
    worker = make(taker, True, -1)
    task.schedule(worker)
    task.resume()
    assert sorted(event[1] for event in taker.events if event[0] == "result") == sorted(
        worker.results()
    )
    assert {result.aborted for result in taker.results} == {True}
    if make is not stream:
        assert worker.results().failed == NodeSet(NODES)
    if make is ssh:
        causes = {cause for cause, _ in worker.results().failures()}
        assert causes == {"aborted", "aborted before its start"}


@pytest.mark.parametrize("make", KINDS)
def test_a_worker_that_never_started_has_one_for_each_node(make: MakeWorker, task: Task) -> None:
    taker = Taker()
    closed: list[Worker] = []
    worker = make(taker, True, -1)
    worker.when_closed(closed.append)
    task.schedule(worker)
    worker.abort()
    assert closed == [worker]
    assert {event[0] for event in taker.events} == {"result"}
    assert {result.cause for result in taker.results} == {"aborted before its start"}
    assert {result.started for result in taker.results} == {None}
    assert len(taker.results) == len(worker.results()) == (1 if make is stream else 4)
    task.resume()
    assert len(closed) == 1


def test_nodes_that_the_end_of_the_run_finds_waiting_have_one(task: Task) -> None:
    task.set_info("fanout", 1)
    taker = Taker()
    worker = task.shell(ENDLESS, nodes=NODES, handler=taker)
    task.timer(0.0, Ending())
    with pytest.raises(ZeroDivisionError):
        task.resume()
    assert sorted(result.node for result in taker.results) == list(NodeSet(NODES))
    assert worker.results().failed == NodeSet(NODES)


class Ending(Recorder):
    """Ends the run."""

    def ev_timer(self, timer: Any) -> None:
        raise ZeroDivisionError


def test_the_runs_timeout_is_a_timeout_of_what_had_started(task: Task) -> None:
    taker = Taker()
    worker = task.shell(ENDLESS, nodes=NODES, handler=taker, remote=False)
    with pytest.raises(TimeoutError):
        task.resume(0.3)
    assert worker.results().timed_out == NodeSet(NODES)
    assert len(taker.results) == 4


def test_a_handler_that_raises_misses_no_result(task: Task) -> None:
    class Raising(Taker):
        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            super().ev_hup(worker, node, rc)
            raise ZeroDivisionError

    taker = Raising()
    closed: list[Worker] = []
    worker = task.shell("exit 3", nodes=NODES, handler=taker)
    worker.when_closed(closed.append)
    with pytest.raises(ZeroDivisionError):
        task.resume()
    assert sorted(result.node for result in taker.results) == list(NodeSet(NODES))
    assert closed == [worker]
    # As in ClusterShell, there is no ev_close then.
    assert taker.events[-1][0] == "result"


@pytest.mark.needs("pdsh")
def test_results_of_pdsh(task: Task) -> None:
    taker = Taker()
    worker = WorkerPdsh(NODES, taker, None, command="echo out; exit 2")
    task.set_info("pdsh_path", "pdsh -R exec sh -c")
    task.schedule(worker)
    worker.abort()
    assert len(taker.results) == 4
    assert worker.results().unreached == NodeSet(NODES)


# -- the record ------------------------------------------------------------------------------------


def test_output_is_that_of_the_getters(task: Task) -> None:
    worker = task.run("echo a; echo b; echo c >&2; exit 3", nodes=NODES, stderr=True)
    results = worker.results()
    assert results["node1"].stdout == worker.node_buffer("node1") == b"a\nb"
    assert results["node1"].stderr == worker.node_error("node1") == b"c"
    assert results["node1"].rc == worker.node_retcode("node1") == 3
    # Equal output is kept once: it may be large.
    assert results["node1"].stdout is results["node4"].stdout
    assert results.gathered() == [("a\nb", NodeSet(NODES))]


def test_output_that_is_not_kept_is_empty(task: Task) -> None:
    task.set_default("stdout_msgtree", False)
    assert task.run("echo a", nodes="node1").results()["node1"].stdout == b""


def test_a_failed_connection(task: Task) -> None:
    task.configure_ssh("node2", port=1)
    worker = task.run("echo a", nodes=NODES)
    results = worker.results()
    assert results.unreached == results.failed == NodeSet("node2")
    result = results["node2"]
    assert isinstance(result.failure, ConnectError)
    assert (result.rc, result.started, result.cause) == (255, None, result.failure.cause)
    assert result.stderr == b"" or result.stderr == worker.node_error("node2")
    assert result.connecting > 0
    assert (result.key_exchange, result.authenticating, result.opening, result.running) == (0,) * 4
    assert results.failures() == [(result.failure.cause, NodeSet("node2"))]


def test_each_phase_has_its_seconds(task: Task) -> None:
    before, since = time.time(), time.monotonic()
    first = task.run("sleep 0.2", nodes=NODES).results()
    after, elapsed = time.time(), time.monotonic() - since
    for result in first.values():
        phases = [getattr(result, phase) for phase in ("waiting", *LOGIN, "opening", "running")]
        assert min(phases) >= 0
        assert result.key_exchange > 0
        assert result.authenticating > 0
        # The news that the command has started may come late.
        assert result.opening + result.running >= 0.2
        assert before - 1 < result.started < after
        # The phases are disjoint, and together they are the whole time.
        assert sum(phases) <= elapsed
        assert result.started + result.running <= after + 1
    again = task.run("sleep 0.2", nodes=NODES).results()
    for result in again.values():
        assert [getattr(result, phase) for phase in LOGIN] == [0.0] * 4
        assert result.opening > 0
        assert result.opening + result.running >= 0.2


def test_who_waits_for_its_turn_has_waited(task: Task) -> None:
    task.set_info("fanout", 1)
    worker = task.shell(sh("sleep 0.2"), nodes="node[1-2]", remote=False)
    threading.Event().wait(0.1)
    since = time.monotonic()
    task.resume()
    elapsed = time.monotonic() - since
    results = worker.results()
    assert results["node2"].waiting >= 0.2
    # The time before the run is nobody's.
    result = results["node2"]
    assert result.waiting + result.opening + result.running <= elapsed
    assert [getattr(results["node2"], phase) for phase in LOGIN] == [0.0] * 4


def test_a_slow_step_is_in_its_own_phase() -> None:
    def password(node: str) -> str:
        threading.Event().wait(0.3)
        return PASSWORD

    with StepServer(["password"], paramiko.ECDSAKey.generate()) as server, fresh_task() as task:
        connect_to(task, server.address, f"* {server.host_key}")
        task.configure_ssh(password=password, agent=False)
        result = task.run("true", nodes="node1").results()["node1"]
    assert result.ok
    assert result.authenticating >= 0.3


def test_a_node_that_times_out_in_a_phase_has_its_seconds() -> None:
    with ScriptedServer(hang_before_key_exchange) as server, fresh_task() as task:
        connect_to(task, server.address)
        result = task.run("true", nodes="node1", timeout=0.3).results()["node1"]
    assert (result.cause, result.started) == ("timed out", None)
    assert result.key_exchange > 0
    assert result.resolving + result.waiting + result.connecting + result.key_exchange >= 0.3
    assert (result.authenticating, result.opening, result.running) == (0.0, 0.0, 0.0)


@pytest.mark.needs("sshd")
def test_phases_and_results_with_openssh(sshd: Sshd) -> None:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        nodes = NodeSet("node[1-5]")
        for phase in ("first", "again"):
            results = task.run("echo out; exit 2", nodes=nodes).results()
            assert results.failures() == [("exit status 2", nodes)]
            assert results.gathered() == [("out", nodes)]
            for result in results.values():
                assert (result.authenticating > 0) is (phase == "first")
                assert result.running > 0


def test_a_local_command_has_one_result(task: Task) -> None:
    worker = task.shell(sh("echo out; exit 3"))
    with_key = task.shell(sh("echo out"), key="key")
    task.resume()
    assert [(it.node, it.rc, it.text) for it in worker.results().values()] == [
        ("localhost", 3, "out")
    ]
    assert worker.results().failed == NodeSet("localhost")
    assert with_key.results().ok == NodeSet("key")


# -- how long results live -------------------------------------------------------------------------


def test_results_live_with_their_worker(task: Task) -> None:
    worker = task.run("echo first", nodes=NODES)
    results = worker.results()
    task.run("echo second", nodes="node1")
    assert worker.results()["node2"].stdout == results["node2"].stdout == b"first"
    assert worker.node_buffer("node2") == b"first"
    assert task.node_buffer("node2") == b""
    assert list(task.results()) == ["node1"]
    copied = pickle.loads(pickle.dumps(results))  # noqa: S301
    assert dict(copied) == dict(results)


def test_a_run_without_an_end_keeps_only_what_is_asked_for(task: Task) -> None:
    stores: list[weakref.ref[Any]] = []
    living: list[int] = []

    class Next(EventHandler):
        def ev_close(self, worker: Any, timedout: bool) -> None:
            assert worker.results()["key"].text == "out"
            if len(stores) < 20:
                schedule()
            living.append(sum(known() is not None for known in stores))

    def schedule() -> None:
        worker = task.command_worker(sh("echo out"), key="key", handler=Next())
        worker.keep_results = False
        task.schedule(worker)
        stores.append(weakref.ref(worker.store))

    schedule()
    gc.disable()
    try:
        task.resume()
    finally:
        gc.enable()
    assert len(living) == 20
    # The worker that ends, and the next one.
    assert max(living) <= 3
    assert not task.results()


def test_results_do_not_change(task: Task) -> None:
    seen: list[Any] = []

    class Looking(Recorder):
        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            # The node whose event this is has ended.
            seen.append(worker.results())

    task.set_info("fanout", 1)
    worker = task.run("echo out", nodes=NODES, handler=Looking())
    assert [len(results) for results in seen] == [1, 2, 3, 4]
    worker.flush_buffers()
    assert seen[-1]["node1"].stdout == b"out"
    assert worker.results()["node1"].stdout == b""


def test_a_task_joins_the_results_of_its_workers(task: Task) -> None:
    task.shell("echo one", nodes="node[1-2]")
    task.shell("echo two; exit 3", nodes="node[2-3]")
    task.resume()
    results = task.results()
    assert sorted(results) == ["node1", "node2", "node3"]
    assert (results["node2"].rc, results["node2"].stdout) == (3, b"one\ntwo")
    assert results.failed == NodeSet("node[2-3]")
    assert task.node_buffer("node2") in (b"onetwo", b"twoone")
    assert task.node_retcode("node2") == 3
    assert {bytes(message): sorted(keys) for message, keys in task.iter_buffers()} == {
        b"one": ["node1", "node2"],
        b"two": ["node2", "node3"],
    }


def test_a_worker_that_was_not_scheduled_has_no_results() -> None:
    with pytest.raises(WorkerError, match="has not been scheduled"):
        WorkerSsh("node1", command="true").results()


# -- when_closed -----------------------------------------------------------------------------------


def test_when_closed_is_called_once_after_ev_close(task: Task) -> None:
    recorder = Recorder()

    def callback(worker: Worker) -> None:
        recorder._record("closed", worker)

    worker = task.shell("true", nodes="node1", handler=recorder)
    worker.when_closed(callback)
    worker.when_closed(callback)
    task.resume()
    assert recorder.events[-3:] == [
        ("close", "WorkerSsh", False),
        ("closed", worker),
        ("closed", worker),
    ]
    late: list[Worker] = []
    worker.when_closed(late.append)
    assert late == [worker]


def test_all_callbacks_are_called_though_one_raises(task: Task) -> None:
    closed: list[Worker] = []

    def fail(worker: Worker) -> None:
        raise ZeroDivisionError

    worker = task.shell("true", nodes="node1")
    worker.when_closed(fail)
    worker.when_closed(closed.append)
    with pytest.raises(ZeroDivisionError):
        task.resume()
    assert closed == [worker]
    assert worker.results().ok == NodeSet("node1")


def test_a_worker_without_nodes_closes(task: Task) -> None:
    closed: list[Worker] = []
    worker = ExecWorker("", command=sh("true"))
    worker.when_closed(closed.append)
    task.schedule(worker)
    task.resume()
    assert closed == [worker]


# -- from other threads ----------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Task]:
    """A task with a thread of its own."""
    with no_leaks():
        task = Task()
        try:
            yield task
        finally:
            task.abort(kill=True)
            task.thread.join(10)


class OnTask(Taker):
    """Checks that events come on the task's thread, which is not this one."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._thread = task.thread


@pytest.mark.parametrize("make", KINDS)
def test_abort_on_another_thread(make: MakeWorker, own: Task, cluster: LoopbackCluster) -> None:
    cluster.configure(own)
    taker = OnTask(own)
    worker = make(taker, True, -1)
    own.schedule(worker)
    own.resume()
    wait_until(lambda: worker.started)
    worker.abort()
    own.join()
    causes = {result.cause for result in taker.results}
    assert "aborted" in causes
    assert causes <= {"aborted", "aborted before its start"}  # other nodes may be connecting
    assert taker.events[-1][0] == "close"


@pytest.mark.parametrize("make", KINDS)
def test_abort_right_after_scheduling(
    make: MakeWorker, own: Task, cluster: LoopbackCluster
) -> None:
    cluster.configure(own)
    taker = OnTask(own)
    worker = make(taker, True, -1)
    own.schedule(worker)
    worker.abort()
    own.resume()
    own.join()
    assert {event[0] for event in taker.events} == {"result"}
    assert {result.cause for result in taker.results} == {"aborted before its start"}


def test_write_on_another_thread(own: Task, cluster: LoopbackCluster) -> None:
    cluster.configure(own)
    taker = OnTask(own)
    worker = own.shell("cat", nodes=NODES, handler=taker)
    worker.write(b"early\n")
    own.resume()
    wait_until(lambda: worker.started)
    for number in range(100):
        worker.write(b"%d\n" % number)
    worker.set_write_eof()
    own.join()
    expected = b"\n".join([b"early", *(b"%d" % number for number in range(100))])
    assert {result.stdout for result in taker.results} == {expected}


@PIPES
def test_a_stream_is_written_on_another_thread(own: Task) -> None:
    taker = OnTask(own)
    reader, writer = os.pipe()
    worker = StreamWorker(taker, key="key")
    worker.set_reader("stdout", reader)
    worker.set_writer("stdin", writer)
    worker.write(b"early\n")
    own.schedule(worker)
    worker.write(b"before the run\n", "stdin")
    own.resume()
    wait_until(lambda: worker.started)
    worker.write(b"during it\n")
    worker.set_write_eof()
    own.join()
    (result,) = taker.results
    assert result.stdout == b"early\nbefore the run\nduring it"
    assert result.ok


def test_scheduling_twice_is_refused_at_once_on_another_thread(own: Task) -> None:
    worker = own.shell(sh("true"))
    with pytest.raises(WorkerError, match="already been scheduled"):
        own.schedule(worker)
