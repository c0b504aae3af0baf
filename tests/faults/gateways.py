"""Gateways of a topology that fail at random moments, and what becomes of the nodes behind them.

``python -m tests.faults.gateways --runs 200`` tries many seeds; tests/faults/test_gateways.py has a
few. The laboratory has three levels, six gateways and 300 nodes::

    head
    `- a[1-2]
       |- n[1-100]
       |- b[1-2]
       |  `- n[101-200]
       `- b[3-4]
          `- n[201-300]

Each seed runs a command on all nodes, and meanwhile gateways are killed, are stopped, or refuse to
forward. It promises that

- each node has one result and one end, and at most one ev_pickup,
- each node with a way through gateways without faults answers, unless its command may have been
  running when a gateway with a fault lost it,
- a node that fails says which gateway has failed,
- nothing is left: no thread and no descriptor.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyclustershell import EventHandler, NodeSet
from pyclustershell.exceptions import ConnectionLostError
from pyclustershell.nodeset.topology import TopologyGraph, TopologyTree
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.proxy import GatewayProxy
from tests.servers.sshd import Sshd

GATEWAYS = ("a1", "a2", "b1", "b2", "b3", "b4")
ROUTES = {
    "head": "a[1-2]",
    "a[1-2]": "b[1-2],b[3-4],n[1-100]",
    "b[1-2]": "n[101-200]",
    "b[3-4]": "n[201-300]",
}
NODES = NodeSet("n[1-300]")
KINDS = ("kill", "stop", "refuse")

# Seconds: a gateway that is stopped is noticed after these.
_CONNECT_TIMEOUT = 8.0
_KEEPALIVE = 3.0


class Fault(NamedTuple):
    """What happens to a gateway.

    Attributes:
        gateway: its name.
        kind: one of :data:`KINDS`.
        after: seconds from the beginning of the run; 0 for before it.
    """

    gateway: str
    kind: str
    after: float


class Plan(NamedTuple):
    """The faults of a seed."""

    seed: int
    faults: list[Fault]
    fanout: int


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)  # noqa: S311 - it may be guessed
    faults = [
        Fault(gateway, rng.choice(KINDS), rng.choice([0.0, rng.uniform(0, 1), rng.uniform(0, 5)]))
        for gateway in rng.sample(GATEWAYS, rng.randint(1, 4))
    ]
    return Plan(seed, faults, rng.choice([20, 64, 300]))


def tree() -> TopologyTree:
    """The topology of the laboratory."""
    graph = TopologyGraph()
    for gateways, nodes in ROUTES.items():
        graph.add_route(NodeSet(gateways), NodeSet(nodes))
    return graph.to_tree("head")


class Laboratory:
    """The servers: one for the nodes, one that forwards, one that refuses to."""

    def __init__(self, path: Path, nodes: Sshd, gate: Sshd, closed: Sshd) -> None:
        self.path = path
        self.nodes = nodes
        self.gate = gate
        self.closed = closed

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Laboratory]:
        """Start the servers."""
        with contextlib.ExitStack() as stack:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateways-")))
            servers = []
            for name, settings in (("nodes", {}), ("gate", {}), ("closed", _CLOSED)):
                (path / name).mkdir()
                servers.append(stack.enter_context(Sshd(path / name, nodes=1, **settings)))
            yield cls(path, *servers)

    def write_config(self, proxies: dict[str, GatewayProxy]) -> Path:
        """Write the client's configuration."""
        hosts: dict[str, dict[str, Any]] = {
            name: {"HostName": "127.0.0.1", "Port": proxy.port} for name, proxy in proxies.items()
        }
        for index, node in enumerate(NODES):
            hosts[node] = {"HostName": f"127.0.{index // 250 + 1}.{index % 250 + 1}"}
        return self.nodes.write_ssh_config(self.path / "config", hosts)


_CLOSED: dict[str, Any] = {"AllowTcpForwarding": "no"}


class Events(EventHandler):
    """Counts the events of each node."""

    def __init__(self) -> None:
        self.pickups: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.reroutes: list[dict[str, Any]] = []

    def ev_pickup(self, worker: Any, node: str) -> None:
        self.pickups[node] += 1

    def ev_result(self, worker: Any, node: str, result: Any) -> None:
        self.results[node] += 1

    def ev_routing(self, worker: Any, arg: dict[str, Any]) -> None:
        self.reroutes.append(arg)


class Outcome(NamedTuple):
    """What a seed has shown.

    Attributes:
        answered: the number of nodes that have answered.
        without_way: the number of nodes that have failed and had no way without a fault.
        lost: the number of nodes whose command may have been running when a gateway failed.
        seconds: the time of the run.
    """

    answered: int
    without_way: int
    lost: int
    seconds: float


def check(plan: Plan, laboratory: Laboratory) -> Outcome:
    """Carry out a plan and check the promises.

    Raises:
        AssertionError: a promise is broken; the text says which.
    """
    with no_leaks(), contextlib.ExitStack() as stack:
        proxies = {}
        for name in GATEWAYS:
            proxies[name] = GatewayProxy(("127.0.0.1", laboratory.gate.port))
            stack.enter_context(proxies[name])
        config = laboratory.write_config(proxies)
        task = stack.enter_context(_task(config, plan))
        servers = (laboratory.gate, laboratory.closed)
        task.configure_ssh(
            ",".join(GATEWAYS),
            pkeys=[str(server.key) for server in servers],
            known_hosts=[str(server.known_hosts) for server in servers],
        )

        def strike(fault: Fault) -> None:
            proxy = proxies[fault.gateway]
            if fault.kind == "refuse":
                proxy.target = ("127.0.0.1", laboratory.closed.port)
                proxy.cut()
            elif fault.kind == "kill":
                proxy.kill()
            else:
                proxy.pause()

        for fault in plan.faults:
            if fault.after:
                task.timer(fault.after, handler=_Strike(strike, fault), autoclose=True)
            else:
                strike(fault)
        events = Events()
        began = time.monotonic()
        worker = task.run("echo ok", nodes=NODES, handler=events)
        seconds = time.monotonic() - began
        return _judge(plan, worker, events, seconds)


class _Strike(EventHandler):
    def __init__(self, strike: Any, fault: Fault) -> None:
        self._strike = strike
        self._fault = fault

    def ev_timer(self, timer: Any) -> None:
        self._strike(self._fault)


@contextlib.contextmanager
def _task(config: Path, plan: Plan) -> Iterator[Task]:
    with fresh_task() as task:
        task.set_info("fanout", plan.fanout)
        task.set_info("ssh_options", f"-F {config}")
        task.configure_ssh(connect_timeout=_CONNECT_TIMEOUT, keepalive=_KEEPALIVE)
        task.topology = tree()
        yield task


def _judge(plan: Plan, worker: Any, events: Events, seconds: float) -> Outcome:
    assert events.results == Counter(NODES), f"not one result for each node: {events.results}"
    twice = [node for node, number in events.pickups.items() if number > 1]
    assert not twice, f"picked up twice: {twice}"
    results = worker.results()
    faulty = {fault.gateway for fault in plan.faults}
    router = tree().router()
    # A gateway behind one with a fault cannot be told from one that is slow itself.
    suspects = faulty | {name for name in GATEWAYS if name[0] == "b" and {"a1", "a2"} & faulty}
    without_way = lost = 0
    for node, result in results.items():
        if result.ok:
            assert result.stdout == b"ok", f"{node} said {result.stdout!r}"
            continue
        failure = result.failure
        assert failure is not None, f"{node}: no failure, but {result.cause}"
        route = router.route(node)
        assert route is not None
        if any(faulty.issuperset(level) for level in route.levels()):
            without_way += 1
        elif isinstance(failure, ConnectionLostError) and result.opening:
            lost += 1  # it was logged in to: the command may have been requested
        else:
            raise AssertionError(f"{node} has a way, but: {failure.phase}: {failure.cause}")
        named = any(gateway in failure.cause for gateway in suspects)
        assert named, f"{node}: no gateway with a fault is named: {failure.cause}"
    for reroute in events.reroutes:
        assert reroute["gateway"] in suspects, f"{reroute} is no gateway with a fault"
    return Outcome(len(results.ok), without_way, lost, seconds)


def main() -> int:
    """Run the seeds of the command line. Returns 1 if a seed failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.gateways", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="replay these")
    parser.add_argument("--runs", type=int, default=20, help="how many seeds to try")
    parser.add_argument("--first", type=int, help="the first of them; drawn by default")
    options = parser.parse_args()
    first = options.first if options.first is not None else secrets.randbelow(10**6)
    seeds = options.seeds or range(first, first + options.runs)
    failed = []
    with Laboratory.open() as laboratory:
        for seed in seeds:
            plan = draw(seed)
            try:
                outcome = check(plan, laboratory)
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print(f"seed {seed} failed: {plan}", flush=True)
                failed.append(seed)
            else:
                print(f"seed {seed}: {outcome}", flush=True)
    print(f"{len(seeds)} seeds; failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
