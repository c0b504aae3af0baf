"""Through jump hosts: real OpenSSH servers as jump hosts and as nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import (
    AuthenticationError,
    ConnectError,
    NodeError,
    ResolveError,
    UnknownHostKeyError,
)
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.sh import SHELL
from tests.helpers.tasks import fresh_task, outputs
from tests.helpers.waiting import wait_until
from tests.servers.faults import ScriptedServer, hang_in_key_exchange, refusing_address
from tests.servers.leaks import no_leaks
from tests.servers.proxy import Proxy
from tests.servers.sshd import Sshd


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Sshd]:
    """A jump host as administrators set one up."""
    (tmp_path / "gate").mkdir()
    with Sshd(tmp_path / "gate", nodes=1, MaxStartups="10:30:60", MaxSessions=10) as server:
        yield server


def block(server: Sshd, **options: Any) -> dict[str, Any]:
    """The configuration of a server that is a jump host."""
    return {
        "HostName": "127.0.0.1",
        "Port": server.port,
        "User": server.user,
        "IdentityFile": server.key,
        "UserKnownHostsFile": server.known_hosts,
        "ProxyJump": "none",
        **options,
    }


@contextlib.contextmanager
def task_through(
    nodes: Sshd, path: Path, hosts: dict[str, dict[str, Any]], **options: Any
) -> Iterator[Task]:
    """A task that reaches the nodes of a server as the configuration says."""
    config = nodes.write_ssh_config(path / "config", hosts, **options)
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        yield task


def names(last: int) -> list[str]:
    return [f"node{index}" for index in range(1, last + 1)]


def failures(task: Task) -> dict[str, NodeError]:
    return {node: failure for failure, nodes in task.iter_failures() for node in nodes}


# -- many nodes, one connection --------------------------------------------------------------------


def test_many_nodes_share_one_connection_to_the_jump_host(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    with task_through(sshd, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        with gate.watch_connections() as watch:
            for _ in range(2):
                task.run("echo ok", nodes="node[1-40]", timeout=40)
                assert list(task.iter_failures()) == []
                assert outputs(task) == dict.fromkeys(names(40), b"ok")
            assert task.stats().jump_hosts == 1
        assert watch.max_connections == 1
        # Not counted as one of the pool's.
        assert task.stats().open == 40
        task.close()
    wait_until(lambda: gate.connections() == 0)


def test_more_nodes_than_fit_into_the_pool(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    # Tunnels are opened and closed all the time; the jump host's numbers for them are used again.
    with task_through(sshd, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        task.set_info("fanout", 10)
        task.run("echo ok", nodes="node[1-60]", timeout=50)
        assert list(task.iter_failures()) == []
        assert outputs(task) == dict.fromkeys(names(60), b"ok")
        assert task.stats().jump_hosts == 1


def test_nodes_that_are_one_busy_server_behind_the_jump_host(gate: Sshd, tmp_path: Path) -> None:
    # It drops connections at random from the tenth unauthenticated one on.
    with task_through(gate, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        gate.nodes = 60
        config = gate.write_ssh_config(tmp_path / "c", {"gate": block(gate)}, ProxyJump="gate")
        task.set_info("ssh_options", f"-F {config}")
        task.set_info("connect_timeout", 30)
        task.run("echo ok", nodes="node[1-60]", timeout=50)
        assert list(task.iter_failures()) == []
        assert outputs(task) == dict.fromkeys(names(60), b"ok")


def test_two_hops_each_with_its_own_settings(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with Sshd(tmp_path / "inner", nodes=1) as inner:
        hosts = {"outer": block(gate), "inner": block(inner, HostName="127.0.0.9")}
        with task_through(sshd, tmp_path, hosts, ProxyJump="outer,inner") as task:
            task.run('echo "${SSH_CONNECTION%% *}"', nodes="node[1-5]", timeout=40)
            assert list(task.iter_failures()) == []
            assert task.stats().jump_hosts == 2
            assert gate.connections() == inner.connections() == 1


def test_an_idle_jump_host_is_left_in_time_also_between_runs(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    with task_through(sshd, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        task.set_info("ssh_idle_ttl", 0.2)
        task.run("echo ok", nodes="node[1-3]", timeout=40)
        assert outputs(task) == dict.fromkeys(names(3), b"ok")
        wait_until(lambda: task.stats().jump_hosts == 0)
        wait_until(lambda: gate.connections() == 0)
        # And it is reached again.
        task.run("echo ok", nodes="node[1-3]", timeout=40)
        assert outputs(task) == dict.fromkeys(names(3), b"ok")


def test_much_output_through_a_jump_host(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    lines = 5000  # of 1,000 bytes, from each of two nodes
    with task_through(sshd, tmp_path, {"gate": block(gate)}, ProxyJump="gate") as task:
        worker = task.shell(f"cat; seq -f %0999.0f {lines}", nodes="node[1-2]", timeout=50)
        sent = b"x" * 3_000_000 + b"\n"
        worker.write(sent)
        worker.set_write_eof()
        task.resume()
        assert list(task.iter_failures()) == []
        expected = sent + b"\n".join(b"%0999d" % number for number in range(1, lines + 1))
        whole = all(output == expected for output in outputs(task).values())
        assert whole


# -- a jump host that fails ------------------------------------------------------------------------


def test_each_failure_of_a_jump_host_names_it_and_its_phase(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir()
    empty = tmp_path / "empty"
    empty.touch()
    closed = Sshd(tmp_path / "closed", nodes=1, AllowTcpForwarding="no")
    with refusing_address() as (host, port), closed:
        hosts = {
            "refusing": block(gate, HostName=host, Port=port),
            "unknown": block(gate, UserKnownHostsFile=empty),
            "keyless": block(gate, IdentityFile=sshd.key),
            "nowhere": block(gate, HostName="no-such-host.invalid"),
            "closed": block(closed),
            "gate": block(gate),
            "node1": {"ProxyJump": "refusing"},
            "node2": {"ProxyJump": "unknown"},
            "node3": {"ProxyJump": "keyless"},
            "node4": {"ProxyJump": "nowhere"},
            "node5": {"ProxyJump": "closed"},
            "node6": {"ProxyJump": "gate", "HostName": host, "Port": port},
            "node7": {"ProxyJump": "gate,refusing"},
            "node8": {"ProxyJump": "gate", "HostName": "127.0.1.8"},
        }
        with task_through(sshd, tmp_path, hosts) as task:
            task.run("echo ok", nodes="node[1-8]", timeout=40, stderr=True)
            assert outputs(task) == {"node8": b"ok"}
            found = {
                node: (type(it), it.phase, it.jump_host, it.cause)
                for node, it in failures(task).items()
            }
            assert found["node1"] == (
                ConnectError,
                "connect",
                "refusing",
                "jump host refusing: Connection refused",
            )
            assert found["node2"][:3] == (UnknownHostKeyError, "host key", "unknown")
            assert found["node3"][:3] == (AuthenticationError, "authentication", "keyless")
            assert found["node4"][:3] == (ResolveError, "resolve", "nowhere")
            assert found["node5"][2] == "closed"
            assert "jump host closed does not forward" in found["node5"][3]
            # This one is the node's own.
            assert found["node6"] == (ConnectError, "connect", None, "Connection refused")
            assert b"through jump host gate: Connection refused" in task.node_error("node6")
            assert found["node7"][2] == "refusing"
            assert found["node7"][3].startswith("jump host refusing: ")
            assert task.node_error("node1").startswith(b"jump host refusing: ssh: connect to host")


def test_another_jump_host_is_tried(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    with refusing_address() as (host, port):
        hosts = {"first": block(gate, HostName=host, Port=port), "second": block(gate)}
        with task_through(sshd, tmp_path, hosts) as task:
            task.configure_ssh(proxy_jump=["first", "second"])
            task.run("echo ok", nodes="node[1-5]", timeout=40)
            assert list(task.iter_failures()) == []
            assert outputs(task) == dict.fromkeys(names(5), b"ok")
            # The setting of single nodes wins, and all of them fail.
            task.configure_ssh("node1", proxy_jump=["first", "none-such.invalid"])
            task.run("echo ok", nodes="node[1-2]", timeout=40)
            assert outputs(task) == {"node2": b"ok"}
            causes = failures(task)["node1"].cause.split("; ")
            assert causes[0] == "jump host first: Connection refused"
            assert causes[1].startswith("jump host none-such.invalid: Could not resolve hostname")


class At(EventHandler):
    """Does something once, when a node has said something."""

    def __init__(self, action: Callable[[], Any], lines: int = 1) -> None:
        self.action = action
        self.lines = lines

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        self.lines -= 1
        if self.lines == 0:
            self.action()


def test_the_end_of_a_jump_host_ends_each_node_behind_it(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    hosts: dict[str, dict[str, Any]] = {"gate": block(gate)}
    hosts["node9"] = {"ProxyJump": "none", "HostName": "127.0.1.9"}
    with task_through(sshd, tmp_path, hosts, ProxyJump="gate") as task:
        worker = task.shell("echo here; sleep 60", nodes="node[1-8]", handler=At(gate.stop, 8))
        task.run("sleep 1; echo ok", nodes="node9", timeout=40)
        assert outputs(task) == {**dict.fromkeys(names(8), b"here"), "node9": b"ok"}
        assert sorted(failures(task)) == names(8)
        for node in names(8):
            failure = worker.node_failure(node)
            assert (failure.node, failure.phase, failure.jump_host) == (node, "session", "gate")
            assert failure.cause == "jump host gate: Connection lost"
            assert worker.node_retcode(node) == 255
        # The next run finds it again.
        gate.start()
        task.run("echo ok", nodes="node[1-3]", timeout=40)
        assert outputs(task) == dict.fromkeys(names(3), b"ok")


def test_a_jump_host_that_vanishes_during_commands_is_noticed(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    hosts = {"gate": block(gate, ServerAliveInterval=1, ServerAliveCountMax=1)}
    with task_through(sshd, tmp_path, hosts, ProxyJump="gate") as task:
        with Proxy(("127.0.0.1", gate.port)) as proxy:
            task.configure_ssh("gate", port=proxy.port)
            task.set_info("ssh_kill_grace", None)
            # Silent for longer than that is not dead.
            task.run("sleep 3; echo ok", nodes="node1", timeout=40)
            assert outputs(task) == {"node1": b"ok"}
            task.run("echo here; sleep 60", nodes="node[1-4]", handler=At(proxy.stall, 4))
            assert outputs(task) == dict.fromkeys(names(4), b"here")
            assert {it.cause for it in failures(task).values()} == {
                "jump host gate: Timeout, server not responding"
            }


def test_a_node_that_vanishes_behind_a_jump_host_is_noticed(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    hosts = {"gate": block(gate)}
    with task_through(sshd, tmp_path, hosts, ProxyJump="gate", ServerAliveInterval=1) as task:
        with Proxy(("127.0.0.1", sshd.port)) as proxy:
            task.configure_ssh("node1", hostname="127.0.0.1", port=proxy.port)
            task.configure_ssh(overrides=["ServerAliveCountMax=1"])
            task.set_info("ssh_kill_grace", None)
            task.shell("echo here; sleep 60", nodes="node1", handler=At(proxy.stall))
            task.run("sleep 4; echo ok", nodes="node[2-3]", timeout=40)
            assert outputs(task) == {"node1": b"here", "node2": b"ok", "node3": b"ok"}
            [(node, failure)] = failures(task).items()
            assert (node, failure.cause) == ("node1", "Timeout, server not responding")
            assert failure.jump_host is None


def test_a_jump_host_that_vanished_between_two_runs_is_replaced_silently(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    hosts = {"gate": block(gate)}
    with task_through(sshd, tmp_path, hosts, ProxyJump="gate", ConnectTimeout=3) as task:
        with Proxy(("127.0.0.1", gate.port)) as proxy:
            task.configure_ssh("gate", port=proxy.port)
            task.set_info("ssh_pool_size", 1)
            task.run("echo before", nodes="node1", timeout=40)
            assert proxy.stall() == 1
            # A node that was not connected to: only the jump host's connection is dead.
            task.run("echo after", nodes="node2", timeout=40)
            assert list(task.iter_failures()) == []
            assert outputs(task) == {"node2": b"after"}


def test_a_handshake_through_a_jump_host_that_falls_silent_ends_in_time(
    gate: Sshd, tmp_path: Path
) -> None:
    with ScriptedServer(hang_in_key_exchange) as mute, fresh_task() as task:
        hosts = {"gate": block(gate), "mute": {"HostName": mute.address[0], "Port": mute.port}}
        config = gate.write_ssh_config(
            tmp_path / "config", hosts, ProxyJump="gate", ConnectTimeout=1
        )
        task.set_info("ssh_options", f"-F {config}")
        task.run("echo ok", nodes="mute", timeout=40)
        [failure] = failures(task).values()
        assert (failure.phase, failure.jump_host) == ("handshake", None)
        assert failure.cause == "Connection timed out during key exchange"


# -- without OpenSSH -------------------------------------------------------------------------------


def test_a_node_of_the_loopback_cluster_as_jump_host() -> None:
    with (
        no_leaks(),
        LoopbackCluster("gate,node[1-20]", shell=SHELL) as cluster,
        fresh_task() as task,
    ):
        cluster.configure(task)
        task.configure_ssh("node[1-20]", proxy_jump="gate")
        task.run("echo $PYCLUSTERSHELL_NODE", nodes="node[1-20]", timeout=40)
        assert list(task.iter_failures()) == []
        assert outputs(task) == {node: node.encode() for node in names(20)}
        assert task.stats().jump_hosts == 1
        # It leads to nodes of its own and to nothing else.
        task.configure_ssh("elsewhere", hostname="127.0.0.1", port=22, proxy_jump="gate")
        task.run("echo ok", nodes="elsewhere", timeout=40)
        cause = failures(task)["elsewhere"].cause
        assert cause == "jump host gate does not forward: administratively prohibited"


def test_a_jump_host_that_carries_few_tunnels_gets_more_connections() -> None:
    cluster = LoopbackCluster("gate,node[1-20]", max_tunnels=6, shell=SHELL)
    with no_leaks(), cluster, fresh_task() as task:
        cluster.configure(task)
        task.configure_ssh("node[1-20]", proxy_jump="gate")
        for _ in range(2):
            task.run("echo $PYCLUSTERSHELL_NODE", nodes="node[1-20]", timeout=40)
            assert list(task.iter_failures()) == []
            assert outputs(task) == {node: node.encode() for node in names(20)}
        # Twenty tunnels are open, as their connections are kept: six in each.
        assert 4 <= task.stats().jump_hosts <= 5


def test_tunnels_that_several_connections_refuse_find_one_that_takes_them() -> None:
    # The limit is learnt while the next connections are made: some are asked for too much as well.
    cluster = LoopbackCluster("gate,node[1-60]", max_tunnels=3, shell=SHELL)
    with no_leaks(), cluster, fresh_task() as task:
        cluster.configure(task)
        task.configure_ssh("node[1-60]", proxy_jump="gate")
        task.run("echo $PYCLUSTERSHELL_NODE", nodes="node[1-60]", timeout=40)
        assert list(task.iter_failures()) == []
        assert outputs(task) == {node: node.encode() for node in names(60)}
