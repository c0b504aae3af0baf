"""Topologies: nodes behind gateways, over real OpenSSH servers and the loopback cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler, NodeSet
from pyclustershell.exceptions import (
    NodeConfigurationError,
    RouteResolvingError,
    TaskError,
    TopologyError,
    WorkerError,
)
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset.topology import TopologyGraph, TopologyTree
from pyclustershell.task import Task
from pyclustershell.worker.rsh import WorkerRsh
from pyclustershell.worker.ssh import WorkerSsh
from pyclustershell.worker.tree import EX_PROTOCOL, WorkerTree
from tests.helpers.sh import SHELL
from tests.helpers.tasks import fresh_task, outputs, run_worker
from tests.servers.faults import refusing_address
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd

HEAD = "head"


def tree_of(*routes: str) -> TopologyTree:
    """The tree of routes such as ``gw[1-2]: n[1-4]``."""
    graph = TopologyGraph()
    for route in routes:
        gateways, nodes = route.split(": ")
        graph.add_route(NodeSet(gateways), NodeSet(nodes))
    return graph.to_tree(HEAD)


class Events(EventHandler):
    """Keeps the events."""

    def __init__(self) -> None:
        self.order: list[tuple[str, str]] = []
        self.reroutes: list[dict[str, Any]] = []
        self.lines: list[tuple[str, str, bytes]] = []
        self.codes: dict[str, int] = {}

    def ev_start(self, worker: Any) -> None:
        self.order.append(("start", ""))

    def ev_pickup(self, worker: Any, node: str) -> None:
        self.order.append(("pickup", node))

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        self.lines.append((node, sname, msg))

    def ev_routing(self, worker: Any, arg: dict[str, Any]) -> None:
        self.reroutes.append(arg)
        self.order.append(("routing", str(arg["gateway"])))

    def ev_hup(self, worker: Any, node: str, rc: int) -> None:
        self.codes[node] = rc


@pytest.fixture
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("gw[1-4],n[1-12]", shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        yield task


# Two levels: n[1-4] behind one of two gateways, n[5-8] behind two levels, the others direct.
TWO_LEVELS = ("head: gw[1-2]", "gw[1-2]: gw[3-4],n[1-4]", "gw[3-4]: n[5-8]")


def gateways(task: Task) -> dict[str, NodeSet]:
    return dict(task.iter_gateways())


# -- the way to the nodes --------------------------------------------------------------------------


def test_gateways_over_two_levels_share_the_nodes(task: Task) -> None:
    task.topology = tree_of(*TWO_LEVELS)
    task.run("echo ok", nodes="n[1-12],gw1")
    assert outputs(task) == dict.fromkeys(NodeSet("n[1-12],gw1"), b"ok")
    found = gateways(task)
    assert sorted(found) == ["gw1", "gw2", "gw3", "gw4"]
    assert found["gw1"] | found["gw2"] == NodeSet("n[1-4],gw[3-4]")
    assert found["gw3"] | found["gw4"] == NodeSet("n[5-8]")
    # By load.
    assert len(found["gw1"]) == len(found["gw2"]) == 3
    assert len(found["gw3"]) == len(found["gw4"]) == 2
    # And once more, over the same connections.
    opened = task.stats().opened
    task.run("echo ok", nodes="n[1-12]")
    assert task.stats().opened == opened


def test_copies_go_the_same_way(task: Task, tmp_path: Path) -> None:
    task.topology = tree_of(*TWO_LEVELS)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    target.mkdir()
    name = f"{tmp_path.name}-copy"
    task.copy(str(source), name, "n[1,5,9]")
    task.resume()
    task.rcopy(name, str(target), "n[1,5,9]")
    task.resume()
    assert task.max_retcode() == 0
    for node in ("n1", "n5", "n9"):
        assert (target / f"{name}.{node}").read_bytes() == source.read_bytes()
    assert {"gw3", "gw4"} & {*gateways(task)}


def test_names_with_a_user(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n1")
    user = task.connection_settings("n1").user
    task.run("echo ok", nodes=f"{user}@n1")
    assert outputs(task) == {f"{user}@n1": b"ok"}
    assert gateways(task) == {"gw1": NodeSet(f"{user}@n1")}


def test_a_worker_with_a_topology_of_its_own(task: Task) -> None:
    tree = tree_of("head: gw1", "gw1: gw2", "gw2: n1")
    run_worker(task, WorkerTree("n1", None, None, command="echo ok", topology=tree))
    assert outputs(task) == {"n1": b"ok"}
    assert gateways(task) == {"gw1": NodeSet("gw2"), "gw2": NodeSet("n1")}
    # From the first gateway on, and without names of classes.
    worker = WorkerTree("n1", None, None, command="echo ok", topology=tree, newroot="gw1")
    run_worker(task, worker)
    assert gateways(task)["gw2"] == NodeSet("n1")
    run_worker(task, WorkerSsh("n1", command="echo ok", topology=tree))
    assert outputs(task) == {"n1": b"ok"}


def test_direct_connections_on_request(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n[1-4]")
    task.run("echo ok", nodes="n1", tree=False)
    task.set_default("auto_tree", False)
    task.run("echo ok", nodes="n2")
    assert gateways(task) == {}
    task.run("echo ok", nodes="n3", tree=True)
    assert gateways(task) == {"gw1": NodeSet("n3")}


def test_a_jump_host_that_code_asks_for_wins(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n[1-4]")
    task.configure_ssh("n1", proxy_jump="gw2")
    task.run("echo ok", nodes="n1")
    assert gateways(task) == {"gw2": NodeSet("n1")}
    # Options of gateways are those of nodes.
    task.configure_ssh("gw1", proxy_jump="gw3")
    task.run("echo ok", nodes="n2")
    assert outputs(task) == {"n2": b"ok"}
    assert gateways(task)["gw3"] == NodeSet("gw1")


def test_a_topology_wins_over_configuration_files(sshd: Sshd, tmp_path: Path) -> None:
    config = sshd.write_ssh_config(tmp_path / "config", {}, ProxyCommand="false")
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {config}")
        task.configure_ssh("node1", proxy_jump="none")
        task.topology = tree_of("head: node1", "node1: node[2-9]")
        task.run("echo ok", nodes="node[2-9]")
        assert outputs(task) == dict.fromkeys(NodeSet("node[2-9]"), b"ok")


def test_host_keys_of_nodes_are_checked_here(task: Task, cluster: LoopbackCluster) -> None:
    task.topology = tree_of("head: gw1", "gw1: n[1-2]")
    task.configure_ssh("n2", known_hosts=[])
    task.run("echo ok", nodes="n[1-2]")
    assert outputs(task)["n1"] == b"ok"
    (failure,) = (failure for failure, _nodes in task.iter_failures())
    assert failure.node == "n2"
    assert "Host key verification failed" in failure.sentence


# -- gateways that fail ----------------------------------------------------------------------------


def test_another_gateway_in_place_of_one_that_fails(task: Task, cluster: LoopbackCluster) -> None:
    task.topology = tree_of("head: gw[1-2]", "gw[1-2]: n[1-8]")
    with refusing_address() as (host, port):
        task.configure_ssh("gw1", hostname=host, port=port)
        events = Events()
        worker = task.run("echo ok", nodes="n[1-8]", handler=events)
        assert {node for node, sname, _ in events.lines if sname == "stdout"} == {
            *NodeSet("n[1-8]")
        }
        # Once for all nodes, before any of them is picked up, and each is picked up once.
        (reroute,) = events.reroutes
        assert (reroute["event"], reroute["gateway"]) == ("reroute", "gw1")
        assert reroute["targets"] < NodeSet("n[1-8]")
        assert "Connection refused" in reroute["error"].cause
        order = [event for event in events.order if event[0] != "start"]
        assert len(order) == 9
        at = order.index(("routing", "gw1"))
        assert all(order.index(("pickup", node)) > at for node in reroute["targets"])
        # The gateway's words.
        (line,) = (line for line in events.lines if line[1] == "stderr")
        assert line[0] == "gw1"
        assert b"Connection refused" in line[2]
        assert worker.results().ok == NodeSet("n[1-8]")
        # It is not tried again for a while.
        events = Events()
        task.run("echo ok", nodes="n[1-8]", handler=events)
        assert not events.reroutes


def test_nodes_fail_one_by_one_when_no_gateway_is_left(task: Task) -> None:
    task.topology = tree_of("head: gw[1-2],gw3", "gw[1-2]: n[1-4]", "gw3: n[5-6]")
    with refusing_address() as (host, port):
        task.configure_ssh("gw[1-2]", hostname=host, port=port)
        worker = task.run("echo ok", nodes="n[1-7]")
    assert outputs(task) == dict.fromkeys(NodeSet("n[5-7]"), b"ok")
    results = worker.results()
    assert results.failed == NodeSet("n[1-4]")
    assert [nodes for _cause, nodes in results.failures()] == [NodeSet("n[1-4]")]
    for node in results.failed:
        error = worker.node_failure(node)
        assert isinstance(error, RouteResolvingError)
        assert error.cause.count("Connection refused") == 2
        assert "gw1" in error.cause
        assert "gw2" in error.cause


def test_a_gateway_that_does_not_forward(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    with Sshd(tmp_path / "gate", nodes=1, AllowTcpForwarding="no") as gate:
        config = sshd.write_ssh_config(tmp_path / "config", {})
        with no_leaks(), fresh_task() as task:
            task.set_info("ssh_options", f"-F {config}")
            task.configure_ssh(
                "closed", hostname="127.0.0.1", port=gate.port, user=gate.user,
                pkeys=[str(gate.key)], known_hosts=[str(gate.known_hosts)],
            )  # fmt: skip
            task.topology = tree_of("head: closed,node1", "closed,node1: node[2-9]")
            events = Events()
            task.run("echo ok", nodes="node[2-9]", handler=events)
            assert task.max_retcode() == 0
            assert {str(reroute["gateway"]) for reroute in events.reroutes} == {"closed"}
            assert all("does not forward" in one["error"].cause for one in events.reroutes)


def test_a_gateway_with_wrong_settings(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n[1-2]")
    task.configure_ssh("gw1", user="-x")
    worker = task.run("echo ok", nodes="n[1-3]")
    assert outputs(task) == {"n3": b"ok"}
    failure = worker.node_failure("n1")
    assert isinstance(failure, NodeConfigurationError)
    assert "gateway gw1" in failure.cause


# -- aborts ----------------------------------------------------------------------------------------


def test_an_aborted_node_behind_a_gateway_has_a_code(task: Task) -> None:
    class Abort(Events):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            worker.abort()

    task.topology = tree_of("head: gw1", "gw1: n[1-2]")
    events = Abort()
    worker = task.run("echo ok; sleep 60", nodes="n1", handler=events)
    assert events.codes == {"n1": EX_PROTOCOL}
    assert worker.results()["n1"].aborted
    # Without a gateway there is none, as for every worker.
    events = Abort()
    task.run("echo ok; sleep 60", nodes="n3", handler=events)
    assert events.codes == {}


def test_an_abort_in_ev_start(task: Task) -> None:
    class Abort(Events):
        def ev_start(self, worker: Any) -> None:
            worker.abort()

    task.topology = tree_of("head: gw1", "gw1: n[1-4]")
    events = Abort()
    task.run("echo ok", nodes="n[1-4]", handler=events)
    assert events.order == []
    assert events.codes == dict.fromkeys(NodeSet("n[1-4]"), EX_PROTOCOL)


# -- commands on gateways --------------------------------------------------------------------------


@pytest.mark.posix_only("one of the commands runs in the shell of this host")
def test_remote_no_runs_on_the_gateway(task: Task) -> None:
    task.topology = tree_of(*TWO_LEVELS)
    task.run("echo %h %n on ${PYCLUSTERSHELL_NODE:-here}", nodes="n[1-6,9]", remote=False)
    found = {node: out.decode().split() for node, out in outputs(task).items()}
    assert {node: words[:2] for node, words in found.items()} == {
        node: [node, str(rank)] for rank, node in enumerate(NodeSet("n[1-6,9]"))
    }
    assert {found[f"n{i}"][3] for i in range(1, 5)} == {"gw1", "gw2"}
    assert {found[f"n{i}"][3] for i in (5, 6)} == {"gw3", "gw4"}
    assert found["n9"][3] == "here"


def test_remote_no_with_a_gateway_that_fails(task: Task) -> None:
    task.topology = tree_of("head: gw[1-2],gw3", "gw[1-2]: n[1-4]", "gw3: n5")
    with refusing_address() as (host, port):
        task.configure_ssh("gw1,gw3", hostname=host, port=port)
        events = Events()
        worker = task.run("echo %h", nodes="n[1-5]", remote=False, handler=events)
    assert outputs(task) == {node: node.encode() for node in NodeSet("n[1-4]")}
    assert {str(one["gateway"]) for one in events.reroutes} == {"gw1"}
    failure = worker.node_failure("n5")
    assert failure is not None
    assert failure.cause == "gateway gw3: Connection refused"


def test_remote_no_is_checked_at_once(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n1")
    with pytest.raises(WorkerError, match="unknown keyword %x"):
        task.shell("echo %x", nodes="n1", remote=False)
    task.topology = tree_of("head: gw1", "gw1: n1,n;id")
    other = task.shell("echo %h", nodes="n1", remote=False)
    worker = task.run("echo %h", nodes="n;id", remote=False)
    assert "may have a meaning to a shell" in str(worker.results()["n;id"].cause)
    assert other.results()["n1"].text == "n1"
    with pytest.raises(ValueError, match="a copy cannot run on a gateway"):
        WorkerTree("n1", source="/etc/hosts", dest="/tmp", remote=False)
    with pytest.raises(ValueError, match="a command, or a source"):
        WorkerTree("n1")


# -- topologies of a task --------------------------------------------------------------------------


def test_a_topology_file(task: Task, tmp_path: Path) -> None:
    here = socket.gethostname().partition(".")[0]
    path = tmp_path / "topology.conf"
    path.write_text(f"[routes]\n{here}: gw1\ngw1: n[1-8]\n")
    task.load_topology(str(path))
    assert str(task.topology) == f"{here}\n`- gw1\n   `- n[1-8]\n"
    task.run("echo ok", nodes="n[1-8]")
    assert gateways(task) == {"gw1": NodeSet("n[1-8]")}
    assert [proxy.node for proxy in task.connection_settings("n1").proxies] == ["gw1"]


def test_a_topology_in_clustershells_places(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = socket.gethostname().partition(".")[0]
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    (tmp_path / "topology.conf").write_text(f"[routes]\n{here}: gw1\ngw1: n[1-8]\n")
    task.run("echo ok", nodes="n1")
    assert gateways(task) == {"gw1": NodeSet("n1")}


def test_no_topology(task: Task) -> None:
    # As in ClusterShell.
    task.run("echo ok", nodes="n1", tree=True)
    assert outputs(task) == {"n1": b"ok"}
    with pytest.raises(WorkerError, match="has no topology"):
        task.schedule(WorkerTree("n1", command="true"))
    for wrong in ("topology.conf", TopologyGraph()):
        with pytest.raises(TypeError, match="a topology is a TopologyTree"):
            task.topology = wrong  # type: ignore[assignment]
    task.topology = TopologyTree()
    with pytest.raises(TopologyError, match="empty"):
        task.shell("true", nodes="n1")


def test_gateways_need_ssh(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n1")
    task.set_default("distant_worker", WorkerRsh)
    with pytest.raises(TaskError, match="WorkerRsh cannot use gateways"):
        task.shell("true", nodes="n1")
    assert isinstance(task.shell("true", nodes="n1", tree=False), WorkerRsh)
    task.abort()


class OwnWorker(WorkerSsh):
    """A worker class of a user."""


def test_own_worker_classes_use_gateways(task: Task) -> None:
    task.topology = tree_of("head: gw1", "gw1: n1")
    task.set_default("distant_worker", OwnWorker)
    assert isinstance(task.run("echo ok", nodes="n1"), OwnWorker)
    assert gateways(task) == {"gw1": NodeSet("n1")}
