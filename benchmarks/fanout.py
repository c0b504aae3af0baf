"""One short command on many nodes: what does a node cost the client?

Each client runs ``echo ok`` on all nodes twice, in a process of its own: on first contact, which
includes TCP, key exchange, host key check and authentication, and again over the connections that
it has kept. Before that it runs the command on one other node, so that all imports are done. Every
answer is checked after the clock has stopped. CPU time includes that of the client's children.

The clients take turns, round by round. Run as ``python -m benchmarks.fanout``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from benchmarks.clients import (
    PACKAGES,
    AsyncClient,
    ParamikoClient,
    clustershell_task,
    gathered,
    our_task,
    parallel_client,
    run_pdsh,
)
from benchmarks.cluster import WARM_UP_NODE, Cluster, run_cluster
from benchmarks.contest import (
    Bar,
    Contender,
    Contest,
    Results,
    Setup,
    cell,
    least,
    quotient,
)
from benchmarks.measure import Meter
from tests.servers.sshd import Sshd

COMMAND = "echo ok"
ANSWER = b"ok"
FIRST = "first contact"
NEXT = "next command"
PHASES = (FIRST, NEXT)
CONNECTIONS = "peak connections"
RUN_TIMEOUT = 250.0


def check(answers: Iterable[tuple[str, bytes]], nodes: Iterable[str]) -> None:
    """Check that every node gave one right answer.

    Raises:
        RuntimeError: one did not.
    """
    answers = list(answers)
    expected = set(nodes)
    wrong = {node: answer for node, answer in answers if answer.strip() != ANSWER}
    if wrong:
        raise RuntimeError(f"{len(wrong)} wrong answers, such as {next(iter(wrong.items()))}")
    if len(answers) != len(expected) or {node for node, _ in answers} != expected:
        raise RuntimeError(f"{len(answers)} answers of {len(expected)}")


# -- the clients -----------------------------------------------------------------------------------


def _pyclustershell(setup: Setup, meter: Meter, pooled: bool) -> None:
    cluster = Cluster(**setup["cluster"])
    task = our_task(cluster, setup["fanout"], pool_size=cluster.nodes if pooled else None)
    task.run(COMMAND, nodes=WARM_UP_NODE)
    task.close()
    nodes = ",".join(cluster.names)
    for phase in PHASES:
        with meter.phase(phase):
            task.run(COMMAND, nodes=nodes, timeout=RUN_TIMEOUT)
        check(gathered(task), cluster.names)
    task.close()


def pyclustershell_pooled(setup: Setup, meter: Meter) -> None:
    """This package, with room in the pool for every node's connection."""
    _pyclustershell(setup, meter, pooled=True)


def pyclustershell_default(setup: Setup, meter: Meter) -> None:
    """This package with its defaults: the pool is as large as the fanout, most nodes reconnect."""
    _pyclustershell(setup, meter, pooled=False)


def asyncssh_pooled(setup: Setup, meter: Meter) -> None:
    """asyncssh: connections are kept; at most fanout nodes are busy at once."""

    async def first(host: str) -> tuple[str, Any, bytes]:
        async with limit:
            connection = await client.connect(host)
            return host, connection, await run(connection)

    async def again(host: str, connection: Any) -> tuple[str, Any, bytes]:
        async with limit:
            return host, connection, await run(connection)

    async def run(connection: Any) -> bytes:
        done = await connection.run(COMMAND, encoding=None)
        return bytes(done.stdout)

    async def main() -> None:
        connection = await client.connect(WARM_UP_NODE)
        await run(connection)
        connection.close()
        await connection.wait_closed()

        with meter.phase(FIRST):
            answers = await asyncio.gather(*map(first, cluster.addresses))
        check([(host, answer) for host, _, answer in answers], cluster.addresses)
        with meter.phase(NEXT):
            answers = await asyncio.gather(*(again(host, kept) for host, kept, _ in answers))
        check([(host, answer) for host, _, answer in answers], cluster.addresses)
        for _, connection, _ in answers:
            connection.close()

    cluster = Cluster(**setup["cluster"])
    client = AsyncClient(cluster)
    limit = asyncio.Semaphore(setup["fanout"])
    asyncio.run(main())


def parallel_ssh(setup: Setup, meter: Meter) -> None:
    """parallel-ssh on libssh2: connections are kept; it does not check host keys."""

    def run(hosts: Any) -> Any:
        output = hosts.run_command(COMMAND)
        hosts.join(output)
        return output

    cluster = Cluster(**setup["cluster"])
    run(parallel_client(cluster, [WARM_UP_NODE], setup["fanout"]))
    nodes = parallel_client(cluster, cluster.addresses, setup["fanout"])
    for phase in PHASES:
        with meter.phase(phase):
            output = run(nodes)
        check(((it.host, "".join(it.stdout).encode()) for it in output), cluster.addresses)


def paramiko_threads(setup: Setup, meter: Meter) -> None:
    """Plain paramiko, a thread for each node that is busy: connections are kept."""

    def first(host: str) -> tuple[Any, bytes]:
        connection = client.connect(host)
        return connection, client.run(connection, COMMAND)

    def again(connection: Any) -> bytes:
        return client.run(connection, COMMAND)

    cluster = Cluster(**setup["cluster"])
    client = ParamikoClient(cluster, setup["fanout"])
    connection, _ = first(WARM_UP_NODE)
    connection.close()
    with meter.phase(FIRST):
        kept = client.map(first, cluster.addresses)
    check(zip(cluster.addresses, (answer for _, answer in kept)), cluster.addresses)
    with meter.phase(NEXT):
        answers = client.map(again, [connection for connection, _ in kept])
    check(zip(cluster.addresses, answers), cluster.addresses)
    for connection, _ in kept:
        connection.close()


def clustershell_ssh(setup: Setup, meter: Meter) -> None:
    """ClusterShell, which starts an ssh process for each node and keeps nothing."""
    cluster = Cluster(**setup["cluster"])
    task = clustershell_task(cluster, setup["fanout"])
    task.run(COMMAND, nodes=WARM_UP_NODE)
    nodes = ",".join(cluster.names)
    for phase in PHASES:
        with meter.phase(phase):
            task.run(COMMAND, nodes=nodes, timeout=RUN_TIMEOUT)
        check(gathered(task), cluster.names)


def pdsh_ssh(setup: Setup, meter: Meter) -> None:
    """pdsh, which starts an ssh process for each node and keeps nothing either."""
    cluster = Cluster(**setup["cluster"])
    run_pdsh(cluster, [WARM_UP_NODE], 1, COMMAND)
    for phase in PHASES:
        with meter.phase(phase):
            lines = run_pdsh(cluster, cluster.names, setup["fanout"], COMMAND)
        answers = (line.partition(b": ") for line in lines)
        check(((node.decode(), answer) for node, _, answer in answers), cluster.names)


# -- the program -----------------------------------------------------------------------------------

OURS = "pyclustershell"
RIVALS = ("asyncssh", "parallel-ssh", "paramiko-threads")
PROCESSES = ("clustershell-ssh", "pdsh-ssh")


class Fanout(Contest):
    """The contest."""

    module = "benchmarks.fanout"
    contenders = (
        Contender(OURS, pyclustershell_pooled, ours=True),
        Contender("asyncssh", asyncssh_pooled),
        Contender("parallel-ssh", parallel_ssh),
        Contender("pyclustershell-default-pool", pyclustershell_default, ours=True),
        Contender("paramiko-threads", paramiko_threads, rounds=2),
        Contender("clustershell-ssh", clustershell_ssh, rounds=1),
        Contender("pdsh-ssh", pdsh_ssh, rounds=1),
    )
    packages = PACKAGES

    sshd: Sshd

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--nodes", type=int, default=400, help="how many (%(default)s)")
        parser.add_argument("--fanout", type=int, default=64, help="busy at once (%(default)s)")
        parser.add_argument(
            "--names", action="store_true", help="names by ssh_config, not addresses"
        )

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster."""
        with run_cluster(options.nodes, named=options.names) as (cluster, self.sshd):
            yield {"cluster": dataclasses.asdict(cluster), "fanout": options.fanout}

    def take_turn(self, contender: Contender, setup: Setup) -> Meter:
        """Measure a contender, and count its connections."""
        with self.sshd.watch_connections(interval=0.02) as watch:
            meter = super().take_turn(contender, setup)
        meter.facts[CONNECTIONS] = watch.max_connections
        return meter

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client."""
        header = ["client"]
        for phase in PHASES:
            header += [f"{phase}: CPU ms/node", "of best rival", "wall s"]
        rows = []
        for name in results.names:
            row = [name]
            for phase in PHASES:
                cpu = results.cpu(name, phase)
                row.append(cell(cpu, ".2f", 1000 / options.nodes))
                row.append(cell(quotient(cpu, self._best(results, phase)), ".2f"))
                row.append(cell(results.wall(name, phase), ".2f"))
            rows.append([*row, cell(results.fact(name, CONNECTIONS), ".0f")])
        return [*header, CONNECTIONS], rows

    def _best(self, results: Results, phase: str) -> Optional[float]:
        return least([results.cpu(name, phase) for name in RIVALS])

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """CPU and wall of the best rival; CPU of those that start processes."""
        found = []
        for phase in PHASES:
            cpu = results.cpu(OURS, phase)
            wall = quotient(
                results.wall(OURS, phase), least([results.wall(name, phase) for name in RIVALS])
            )
            found += [
                Bar.at_most(
                    f"{phase}: CPU, of the best rival's",
                    quotient(cpu, self._best(results, phase)),
                    0.8,
                ),
                Bar.at_most(f"{phase}: wall time, of the best rival's", wall, 1),
                Bar.at_least(
                    f"{phase}: times cheaper than ClusterShell with ssh",
                    quotient(results.cpu("clustershell-ssh", phase), cpu),
                    25,
                ),
            ]
        return found


main = Fanout().main

if __name__ == "__main__":
    sys.exit(main())
