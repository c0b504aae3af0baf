"""A command's whole way, from Task.run() to a server and back, on the loopback cluster."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pyclustershell import EventHandler, NodeSet, SSHOptions, WorkerSsh
from pyclustershell.exceptions import (
    AlreadyRunningError,
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    NodeConfigurationError,
    PyClusterShellError,
    ResolveError,
    SessionError,
    TimeoutError,
    UnknownHostKeyError,
    WorkerError,
)
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.recorder import Recorder
from tests.helpers.sh import BEGUN, SHELL
from tests.helpers.tasks import fresh_task, pool_of
from tests.helpers.waiting import wait_until
from tests.servers.faults import ScriptedServer, hang_before_banner
from tests.servers.leaks import no_leaks
from tests.servers.trees import end_local_process, local_process_runs

NODES = "node[1-8]"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        yield task


# -- results --


def test_output_is_gathered(task: Task) -> None:
    task.run("echo node | cat; echo two", nodes=NODES)
    [(buffer, nodes)] = task.iter_buffers()
    assert bytes(buffer) == b"node\ntwo"
    assert str(NodeSet.fromlist(nodes)) == NODES
    assert task.max_retcode() == 0
    assert task.num_timeout() == 0
    assert list(task.iter_failures()) == []


def test_results_by_node_and_by_worker(task: Task) -> None:
    worker = task.run(
        "echo out $PYCLUSTERSHELL_NODE; echo err >&2; exit ${PYCLUSTERSHELL_NODE#node}",
        nodes="node[1-3]",
        stderr=True,
    )
    assert task.node_buffer("node2") == b"out node2"
    assert task.node_error("node2") == b"err"
    assert task.node_retcode("node2") == 2
    assert task.max_retcode() == 3
    assert sorted(task.iter_retcodes()) == [(1, ["node1"]), (2, ["node2"]), (3, ["node3"])]
    assert dict(task.iter_retcodes(match_keys=["node3"]))[3] == ["node3"]
    assert worker is not None
    assert worker.read("node1") == b"out node1"
    assert isinstance(worker, WorkerSsh)
    assert worker.node_error("node1") == b"err"
    [(errors, nodes)] = worker.iter_errors()
    assert (bytes(errors), str(nodes)) == (b"err", "node[1-3]")
    assert dict(worker.iter_node_retcodes()) == {"node1": 1, "node2": 2, "node3": 3}
    with pytest.raises(KeyError):
        task.node_retcode("node4")


def test_the_two_streams_are_one_unless_asked_for(task: Task) -> None:
    # The server reads two pipes: it takes some time between two lines for their order to be known.
    task.run("echo 1; sleep 0.2; echo 2 >&2; sleep 0.2; echo 3", nodes="node1")
    assert task.node_buffer("node1") == b"1\n2\n3"
    assert task.node_error("node1") == b""


def test_results_last_until_the_next_run(task: Task) -> None:
    task.run("echo first", nodes="node1")
    task.run("echo second", nodes="node2")
    assert task.node_buffer("node1") == b""
    assert task.node_buffer("node2") == b"second"


def test_bytes_that_are_no_utf8_arrive_as_they_are(task: Task) -> None:
    task.run(r"printf '\377\376\000\n\200'", nodes="node1")
    assert task.node_buffer("node1") == b"\xff\xfe\x00\n\x80"


def test_much_output_on_both_streams_arrives_whole(task: Task) -> None:
    task.run(
        "seq 500000; seq 600001 1100000 >&2",
        nodes="node[1-2]",
        stderr=True,
    )
    for node in ("node1", "node2"):
        assert task.node_buffer(node) == b"\n".join(b"%d" % n for n in range(1, 500_001))
        assert task.node_error(node) == b"\n".join(b"%d" % n for n in range(600_001, 1_100_001))


# -- the end of a command --


def test_exit_status_after_both_streams_were_closed(task: Task) -> None:
    before = time.process_time()
    task.run("exec >&- 2>&-; sleep 0.5; exit 3", nodes="node1")
    assert task.node_retcode("node1") == 3
    # A descriptor that stays readable must not be waited on: a loop that spins takes it all.
    assert time.process_time() - before < 0.25


@pytest.mark.parametrize(("signal", "rc"), [("KILL", 137), ("TERM", 143), ("HUP", 129)])
@pytest.mark.posix_only("Windows has no signals")
def test_a_command_that_a_signal_ended(task: Task, signal: str, rc: int) -> None:
    task.run(f"kill -{signal} $$", nodes="node1")
    assert task.node_retcode("node1") == rc


def test_a_command_that_takes_too_long_is_ended_there_too(task: Task) -> None:
    began = time.monotonic()
    worker = task.run("echo $$; exec sleep 60", nodes="node[1-2]", timeout=BEGUN)
    assert time.monotonic() - began < BEGUN + 5
    assert sorted(task.iter_keys_timeout()) == ["node1", "node2"]
    assert task.num_timeout() == 2
    assert task.max_retcode() is None
    assert worker is not None
    assert worker.did_timeout()
    pids = [int(task.node_buffer(node)) for node in ("node1", "node2")]
    wait_until(lambda: not any(local_process_runs(pid) for pid in pids))


@pytest.mark.posix_only("Windows has no signals")
def test_a_command_that_ignores_term_is_killed_after_the_grace(task: Task) -> None:
    # Half of the grace is for the start of the script that ends the command: see ssh/cleanup.py.
    task.set_info("ssh_kill_grace", 2.0)
    task.run("trap '' TERM; echo $$; while :; do sleep 0.1; done", nodes="node1", timeout=0.5)
    pid = int(task.node_buffer("node1"))
    wait_until(lambda: not local_process_runs(pid))
    wait_until(lambda: "1 ready" in repr(task))


def test_without_a_grace_a_command_is_left_running(task: Task) -> None:
    task.set_info("ssh_kill_grace", None)
    task.run("echo $$; exec sleep 60", nodes="node1", timeout=BEGUN)
    pid = int(task.node_buffer("node1"))
    assert local_process_runs(pid)
    assert "1 ready" in repr(task)
    end_local_process(pid)


def test_a_run_that_takes_too_long(task: Task) -> None:
    recorder = Recorder()
    task.shell("echo here; exec sleep 60", nodes="node[1-2]", handler=recorder)
    with pytest.raises(TimeoutError):
        task.resume(BEGUN)
    assert sorted(task.iter_keys_timeout()) == ["node1", "node2"]
    assert recorder.events[-1] == ("close", "WorkerSsh", True)
    task.run("echo again", nodes="node1")
    assert task.node_buffer("node1") == b"again"


# -- events --


def test_events_of_a_node_come_in_order(task: Task) -> None:
    recorder = Recorder()
    task.run(
        "echo one; echo two; echo three >&2; exit 4",
        nodes="node[1-3]",
        handler=recorder,
        stderr=True,
    )
    assert recorder.events[0] == ("start",)
    assert recorder.events[-1] == ("close", "WorkerSsh", False)
    for node in ("node1", "node2", "node3"):
        events = recorder.of(node)
        assert events[0] == ("pickup", node)
        assert [e for e in events if e[2:3] == ("stdout",)] == [
            ("read", node, "stdout", b"one"),
            ("read", node, "stdout", b"two"),
        ]
        assert ("read", node, "stderr", b"three") in events
        assert events[-1] == ("hup", node, 4)
    assert len(recorder.events) == 2 + 3 * 5


def test_a_failed_node_has_its_pickup_and_hup_too(task: Task) -> None:
    recorder = Recorder()
    task.configure_ssh("node2", user="nobody-of-that-name")
    task.run("echo ok", nodes="node[1-2]", handler=recorder)
    assert [event[0] for event in recorder.of("node2")] == ["pickup", "read", "hup"]
    assert recorder.of("node2")[1][2] == "stderr"
    assert recorder.of("node2")[2] == ("hup", "node2", 255)


def test_commands_scheduled_from_a_handler_run_in_the_same_run(task: Task) -> None:
    class Next(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            if worker.command == "echo first":
                task.shell(f"echo after {node}", nodes="node8", handler=self)

    task.run("echo first", nodes="node[1-2]", handler=Next())
    # As in ClusterShell, the buffers of several workers on one node are joined as they are.
    assert sorted(task.node_buffer("node8").split(b"after ")) == [b"", b"node1", b"node2"]


ODD = os.fsdecode(b"Ma\xf1ana") if os.name == "posix" else "Ma\u00f1ana"
ODD_BYTES = b"4d 61 f1 61 6e 61".split()


@pytest.mark.parametrize("options", [{"nodes": "node1"}, {"nodes": "node1", "remote": False}, {}])
@pytest.mark.parametrize("encode", [str, os.fsencode])
@pytest.mark.posix_only("arguments of Windows are Unicode text")
def test_commands_with_bytes_that_are_not_text(
    task: Task, options: dict[str, Any], encode: Any
) -> None:
    worker = task.run(encode(f"printf {ODD} | od -An -tx1"), **options)
    assert worker is not None
    output = worker.read("node1") if options else worker.read()
    assert output.split() == ODD_BYTES


@pytest.mark.posix_only("arguments of Windows are Unicode text")
def test_environment_variables_with_bytes_that_are_not_text(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.configure_ssh(env={"ONE": ODD}, overrides=["SendEnv=LC_ODD"])
    monkeypatch.setenv("LC_ODD", ODD)
    task.run("printf %s $ONE$LC_ODD | od -An -tx1", nodes="node1")
    assert task.node_buffer("node1").split() == ODD_BYTES * 2


@pytest.mark.parametrize(
    "options",
    [
        {"user": ODD},
        {"password": ODD, "pkeys": [], "user": "nobody"},
        {"hostname": ODD},
        {"proxy_jump": f"{ODD}@node2"},
        {"bind_address": ODD},
        {"bind_address": "x" * 300},
        {"config_files": [f"/nowhere/{ODD}"]},
        {"overrides": [f"HostKeyAlias={ODD}"]},
        {"overrides": [f"ProxyCommand=false {ODD}"]},
        {"identity_files": [f"/nowhere/{ODD}-%C"], "agent": False, "user": "nobody"},
    ],
    ids=str,
)
def test_settings_with_bytes_that_are_not_text_fail_their_node_only(
    task: Task, options: dict[str, Any]
) -> None:
    task.configure_ssh("node1", **options)
    task.run("true", nodes=f"node[1-2],{ODD}")
    assert task.node_retcode("node2") == 0
    failed = NodeSet.fromlist(node for _, nodes in task.iter_failures() for node in nodes)
    assert str(failed) == f"{ODD},node1"


def test_names_with_a_user_and_a_port(task: Task) -> None:
    settings = task.connection_settings("node1")
    names = [
        f"{settings.user}@node1",
        f"node1:{settings.port}",
        f"ssh://{settings.user}@node1:{settings.port}",
    ]
    task.run("echo $PYCLUSTERSHELL_NODE", nodes=NodeSet.fromlist(names))
    found = {node: bytes(output) for output, nodes in task.iter_buffers() for node in nodes}
    assert found == dict.fromkeys(names, b"node1")
    task.run("true", nodes="nobody@node1,node1:1")
    causes = {node: type(f).__name__ for f, nodes in task.iter_failures() for node in nodes}
    assert causes == {"nobody@node1": "AuthenticationError", "node1:1": "ConnectError"}


def test_options_for_a_host_are_those_of_all_its_names(task: Task) -> None:
    task.configure_ssh("node1", port=1)
    assert task.connection_settings("bob@node1").port == 1
    assert task.connection_settings("bob@node2").port != 1


def test_old_handlers_are_heard(task: Task) -> None:
    heard: list[Any] = []

    class Old:
        def ev_pickup(self, worker: Any) -> None:
            heard.append(("pickup", worker.current_node))

        def ev_read(self, worker: Any) -> None:
            heard.append(("read", worker.current_node, worker.current_msg))

        def ev_error(self, worker: Any) -> None:
            heard.append(("error", worker.current_node, worker.current_errmsg))

        def ev_hup(self, worker: Any) -> None:
            heard.append(("hup", worker.current_node, worker.current_rc))

        def ev_timeout(self, worker: Any) -> None:
            heard.append(("timeout",))

        def ev_close(self, worker: Any) -> None:
            heard.append(("close",))

    with pytest.warns(DeprecationWarning, match=r"Old\.ev_") as told:
        task.run("echo out; echo err >&2; exit 2", nodes="node1", handler=Old(), stderr=True)
    assert len(told) == 4
    assert sorted(heard[1:3]) == [("error", "node1", b"err"), ("read", "node1", b"out")]
    assert [heard[0], *heard[3:]] == [("pickup", "node1"), ("hup", "node1", 2), ("close",)]
    heard.clear()
    with pytest.warns(DeprecationWarning, match=r"Old\.ev_") as told:
        task.run("exec sleep 60", nodes="node1", handler=Old(), timeout=0.3)
    assert len(told) == 3
    assert heard == [("pickup", "node1"), ("timeout",), ("close",)]


@pytest.mark.parametrize("event", ["start", "pickup", "read", "hup", "close"])
def test_a_handler_that_raises_leaves_a_usable_task(task: Task, event: str) -> None:
    def fail(*_args: Any) -> None:
        raise ZeroDivisionError(event)

    handler = EventHandler()
    setattr(handler, f"ev_{event}", fail)
    with pytest.raises(ZeroDivisionError, match=event):
        task.run("echo ok", nodes=NODES, handler=handler)
    assert not task.running()
    task.run("echo ok", nodes=NODES)
    assert sorted(task.iter_retcodes())[0][0] == 0
    assert len(next(task.iter_buffers())[1]) == 8


def test_abort_from_a_handler_ends_the_run(task: Task) -> None:
    class Enough(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            task.abort()

    task.run("echo ok; exec sleep 60", nodes=NODES, handler=Enough())
    assert not task.running()
    task.run("echo again", nodes="node1")
    assert task.node_buffer("node1") == b"again"


def test_abort_of_one_worker_lets_the_others_go_on(task: Task) -> None:
    class Enough(Recorder):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()

    recorder = Enough()
    task.shell("echo $$; echo more; exec sleep 60", nodes="node1", handler=recorder)
    task.shell("sleep 0.2; echo done", nodes="node2")
    task.resume()
    assert task.node_buffer("node2") == b"done"
    with pytest.raises(KeyError):
        task.node_retcode("node1")
    assert [event[0] for event in recorder.events[-2:]] == ["read", "close"]


def test_resume_inside_a_run_is_refused(task: Task) -> None:
    errors: list[Exception] = []

    class Again(EventHandler):
        def ev_pickup(self, worker: Any, node: str) -> None:
            try:
                task.resume()
            except AlreadyRunningError as error:
                errors.append(error)

    task.run("echo ok", nodes="node1", handler=Again())
    assert len(errors) == 1
    assert task.node_buffer("node1") == b"ok"


# -- the fanout and the pool --


class Gauge(EventHandler):
    """How many nodes run at once, and the order of their starts.

    The nodes' command is ``cat``: it ends when as many run as can be expected to.
    """

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.running = 0
        self.most = 0
        self.order: list[str] = []

    def ev_pickup(self, worker: Any, node: str) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(node)
        if self.running == self.expected:
            worker.set_write_eof()

    def ev_hup(self, worker: Any, node: str, rc: int) -> None:
        self.running -= 1


def test_no_more_nodes_at_once_than_the_fanout(task: Task, cluster: LoopbackCluster) -> None:
    gauge = Gauge(expected=3)
    task.set_info("fanout", 3)
    task.run("cat", nodes=NODES, handler=gauge)
    assert gauge.most == 3
    assert len(gauge.order) == 8
    assert task.stats().open <= 3


def test_nodes_start_in_the_order_of_the_node_set(task: Task) -> None:
    gauge = Gauge(expected=1)
    task.set_info("fanout", 1)
    task.shell("cat", nodes="node[3,1-2]", handler=gauge)
    task.shell("cat", nodes="node7", handler=gauge)
    task.resume()
    assert gauge.order == ["node1", "node2", "node3", "node7"]


def test_a_pool_smaller_than_the_fanout(task: Task) -> None:
    gauge = Gauge(expected=2)
    task.set_info("ssh_pool_size", 2)
    task.run("cat", nodes=NODES, handler=gauge, timeout=20)
    assert gauge.most == 2
    assert task.stats().open <= 2
    assert task.num_timeout() == 0


def test_transports_serve_the_next_run(task: Task) -> None:
    task.run("true", nodes=NODES)
    assert "8 ready" in repr(task)
    threads = {t for t in threading.enumerate() if t.name.startswith("pyclustershell node")}
    task.run("true", nodes=NODES)
    assert {t for t in threading.enumerate() if t.name.startswith("pyclustershell node")} == threads


def test_two_commands_on_one_node_at_once(task: Task) -> None:
    task.shell("echo one", nodes="node1")
    task.shell("echo two", nodes="node1")
    task.resume()
    assert sorted(task.node_buffer("node1")) == sorted(b"onetwo")
    assert "2 ready" in repr(task)


def test_idle_transports_are_closed_in_time_also_between_runs(task: Task) -> None:
    task.set_info("ssh_idle_ttl", 0.2)
    task.run("true", nodes=NODES)
    wait_until(lambda: task.stats().open == 0)


def test_a_transport_that_died_while_idle_is_replaced_silently(task: Task) -> None:
    task.run("true", nodes=NODES)
    for connection in list(pool_of(task)._open):
        assert connection._link is not None
        connection._link.stream.close()
    recorder = Recorder()
    task.run("echo ok", nodes=NODES, handler=recorder)
    assert list(task.iter_failures()) == []
    assert len(next(task.iter_buffers())[1]) == 8
    assert sum(event[0] == "pickup" for event in recorder.events) == 8


def test_a_connection_lost_during_the_command_is_a_failure(task: Task) -> None:
    class Cut(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            if node == "node1":
                for connection in pool_of(task)._open:
                    if connection.settings.node == "node1":
                        assert connection._link is not None
                        connection._link.stream.close()

    worker = task.run("echo before; sleep 0.3; echo after", nodes="node[1-2]", handler=Cut())
    [(failure, nodes)] = task.iter_failures()
    assert isinstance(failure, ConnectionLostError)
    assert nodes == ["node1"]
    assert task.node_retcode("node1") == 255
    assert task.node_buffer("node1") == b"before"
    assert task.node_buffer("node2") == b"before\nafter"
    assert isinstance(worker, WorkerSsh)
    assert worker.node_failure("node1") is failure
    assert worker.node_failure("node2") is None


def test_close_ends_every_connection(task: Task, cluster: LoopbackCluster) -> None:
    task.run("true", nodes=NODES)
    assert cluster.connections >= 8
    task.close()
    wait_until(lambda: cluster.connections == 0)
    task.run("echo again", nodes="node1")
    assert task.node_buffer("node1") == b"again"


def test_nothing_is_left_of_a_task_that_is_closed(cluster: LoopbackCluster) -> None:
    gc.collect()
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        task.run("echo ok", nodes=NODES)
        task.run("exec sleep 60", nodes=NODES, timeout=0.2)
        task.shell("exec sleep 60", nodes=NODES)
        with pytest.raises(TimeoutError):
            task.resume(0.2)


# -- standard input --


def test_written_input_reaches_every_node(task: Task) -> None:
    recorder = Recorder()
    worker = task.shell("cat", nodes="node[1-3]", handler=recorder)
    assert isinstance(worker, WorkerSsh)
    worker.write(b"one\n")
    worker.write(b"two")
    worker.set_write_eof()
    task.resume()
    [(buffer, nodes)] = task.iter_buffers()
    assert bytes(buffer) == b"one\ntwo"
    assert sorted(nodes) == ["node1", "node2", "node3"]
    for node in nodes:
        assert sum(e[3] for e in recorder.of(node) if e[0] == "written") == 7


def test_input_can_be_written_from_a_handler(task: Task) -> None:
    class Dialogue(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            if msg == b"question":
                worker.write(b"answer\n")
                worker.set_write_eof()

    task.run("echo question; read answer; echo got $answer", nodes="node1", handler=Dialogue())
    assert task.node_buffer("node1") == b"question\ngot answer"


def test_much_input_passes_the_window(task: Task) -> None:
    worker = task.shell("md5sum", nodes="node[1-2]")
    assert isinstance(worker, WorkerSsh)
    data = bytes(range(256)) * 40_000
    worker.write(data)
    worker.set_write_eof()
    task.resume()
    import hashlib

    expected = hashlib.md5(data, usedforsecurity=False).hexdigest().encode() + b"  -"
    [(buffer, nodes)] = task.iter_buffers()
    assert bytes(buffer) == expected
    assert len(nodes) == 2


def test_without_stdin_a_command_reads_nothing(task: Task) -> None:
    task.run("cat; echo end", nodes="node1", stdin=False, timeout=10)
    assert task.node_buffer("node1") == b"end"


def test_input_to_a_command_that_does_not_read_it(task: Task) -> None:
    worker = task.shell("exec <&-; echo done", nodes="node1", timeout=10)
    assert isinstance(worker, WorkerSsh)
    worker.write(b"x" * 5_000_000)
    task.resume()
    assert task.node_buffer("node1") == b"done"
    assert task.node_retcode("node1") == 0


# -- failures --


def failure_of(task: Task, node: str) -> PyClusterShellError:
    [failure] = [failure for failure, nodes in task.iter_failures() if node in nodes]
    assert failure.node == node
    assert task.node_retcode(node) == 255
    assert task.node_error(node) == failure.sentence.encode()
    return failure


def test_failures_are_told_apart_and_folded_by_cause(task: Task) -> None:
    with ScriptedServer(hang_before_banner) as hanging:
        task.configure_ssh("node2", port=hanging.port, connect_timeout=0.5)
        task.configure_ssh("node3", hostname="no-such-host.invalid")
        task.configure_ssh("node[4-5]", port=1)
        task.configure_ssh("node6", known_hosts=[])
        task.run("echo ok", nodes=NODES)
    assert {bytes(b): sorted(n) for b, n in task.iter_buffers()} == {
        b"ok": ["node1", "node7", "node8"]
    }
    hung = failure_of(task, "node2")
    assert hung.phase == "handshake"
    assert "timed out during banner exchange" in str(hung)
    assert isinstance(failure_of(task, "node3"), ResolveError)
    [(refused, nodes)] = [x for x in task.iter_failures() if isinstance(x[0], ConnectError)]
    assert sorted(nodes) == ["node4", "node5"]
    assert refused.cause == "Connection refused"
    assert refused.sentence == "ssh: connect to host 127.0.0.1 port 1: Connection refused"
    assert isinstance(failure_of(task, "node6"), UnknownHostKeyError)
    assert task.max_retcode() == 255


def test_a_wrong_key_is_an_authentication_error(
    task: Task, cluster: LoopbackCluster, tmp_path: Any
) -> None:
    from tests.servers.sshd import make_key

    make_key(tmp_path / "other")
    task.configure_ssh("node1", **in_code(cluster, "node1", str(tmp_path / "other")))
    task.run("echo ok", nodes="node[1-2]")
    failure = failure_of(task, "node1")
    assert isinstance(failure, AuthenticationError)
    assert "Permission denied (publickey)" in str(failure)
    assert task.node_buffer("node2") == b"ok"


def test_wrong_options_fail_only_their_node(task: Task) -> None:
    task.configure_ssh("node1", config_files=["/no/such/file"])
    task.run("echo ok", nodes="node[1-2]")
    assert isinstance(failure_of(task, "node1"), NodeConfigurationError)
    assert task.node_buffer("node2") == b"ok"


def test_a_refused_command_is_a_session_error() -> None:
    with (
        LoopbackCluster("node1", handler=lambda node, command: None) as cluster,
        fresh_task() as task,
    ):
        cluster.configure(task)
        task.run("echo ok", nodes="node1")
        assert isinstance(failure_of(task, "node1"), SessionError)


def test_a_command_holds_no_descriptor_of_its_own(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_pipe() -> None:
        raise AssertionError("a pipe for a channel")

    monkeypatch.setattr("paramiko.channel.pipe.make_pipe", make_pipe)
    task.run("echo ok; echo no >&2", nodes="node[1-3]", stderr=True)
    assert list(task.iter_failures()) == []
    assert task.node_buffer("node1") == b"ok"
    assert task.node_error("node1") == b"no"


# -- how connections are made --


def test_the_more_specific_and_the_later_option_wins(task: Task) -> None:
    task.configure_ssh(user="for-all")
    task.configure_ssh("node[1-2]", user="for-some")
    task.configure_ssh("node1", user="for-one")
    task.configure_ssh(user="for-all-again")
    assert task.connection_settings("node1").user == "for-one"
    assert task.connection_settings("node2").user == "for-some"
    assert task.connection_settings("node3").user == "for-all-again"
    assert task.connection_settings("node1", SSHOptions(user="call")).user == "call"


def test_info_keys_count_less_than_ssh_options(task: Task) -> None:
    task.set_info("ssh_user", "from-info")
    task.set_info("connect_timeout", 7)
    assert task.connection_settings("node1").user == "from-info"
    assert task.connection_settings("node1").connect_timeout == 7
    task.set_info("ssh_options", "-F none -l from-options -o ConnectTimeout=3")
    assert task.connection_settings("node1").user == "from-options"
    assert task.connection_settings("node1").connect_timeout == 3


def in_code(cluster: LoopbackCluster, node: str, key: Any) -> dict[str, Any]:
    """All that is needed to reach a node, without a configuration file."""
    with open(cluster.known_hosts) as file:
        [public_key] = [line.partition(" ")[2].strip() for line in file if line.startswith(node)]
    return {
        "config_files": [],
        "hostname": "127.0.0.1",
        "port": cluster.port(node),
        "user": cluster.user,
        "pkeys": [key],
        "known_hosts": [f"[127.0.0.1]:{cluster.port(node)} {public_key}"],
    }


def test_options_in_code_are_enough(cluster: LoopbackCluster) -> None:
    with open(cluster.identity_file, "rb") as file:
        key = file.read()
    with fresh_task() as task:
        for node in cluster.nodes:
            task.configure_ssh(node, **in_code(cluster, node, key))
        task.run("echo ok", nodes=NODES)
        assert list(task.iter_failures()) == []
        assert len(next(task.iter_buffers())[1]) == 8


def test_environment_variables_reach_the_command(task: Task) -> None:
    task.configure_ssh(env={"GREETING": "hello"})
    task.run("echo $GREETING", nodes="node1")
    assert task.node_buffer("node1") == b"hello"


# -- workers made by hand --


def test_a_worker_made_by_hand(task: Task) -> None:
    worker = WorkerSsh("node[1-2]", None, command="echo alright")
    task.schedule(worker)
    task.resume()
    assert [(bytes(b), str(n)) for b, n in worker.iter_buffers()] == [(b"alright", "node[1-2]")]
    with pytest.raises(WorkerError, match="already been scheduled"):
        task.schedule(worker)


def test_bad_arguments_are_named(task: Task) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nodse'"):
        task.shell("true", nodse="node1")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="key is for local commands"):
        task.shell("true", nodes="node1", key="k")
    with pytest.raises(ValueError, match="WorkerSsh needs a command"):
        task.shell("", nodes="node1")
    with pytest.raises(ValueError, match="fanout must be at least 1"):
        task.set_info("fanout", 0)
    with pytest.raises(TypeError, match="fanout must be an integer"):
        task.set_info("fanout", "64")
