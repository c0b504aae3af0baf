"""Many nodes: does a node cost more if there are thousands, and how much memory do they take?

``echo ok`` on 200 nodes, then, in another process, on 2,000, with a fanout of 256: each connection
is closed before the next is opened in its place, so that the memory is that of 256 connections and
of 2,000 results. Then 500 connections are kept, idle, for 5 seconds. CPU time is the client's.

ClusterShell and pdsh, which would take minutes, cost the same for each node: see
``benchmarks.fanout``. Run as ``python -m benchmarks.scale``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

from benchmarks.clients import (
    PACKAGES,
    AsyncClient,
    ParamikoClient,
    gathered,
    our_task,
    parallel_client,
)
from benchmarks.cluster import WARM_UP_NODE, Cluster, run_cluster
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.fanout import COMMAND, check
from benchmarks.measure import Meter, peak_memory

FEW = "few nodes"
MANY = "many nodes"
IDLE = "idle"
MEMORY = "peak memory"
FAILURES = "failures"
RUN_TIMEOUT = 300.0


# -- the clients: each is told which phase it is to run -------------------------------------------


def _share(setup: Setup, phase: str) -> Cluster:
    """The part of the cluster that a phase is about."""
    cluster = Cluster(**setup["cluster"])
    return dataclasses.replace(cluster, nodes=setup["nodes"][phase])


def pyclustershell(setup: Setup, meter: Meter, phase: str) -> None:
    """This package, its pool as large as the fanout."""
    cluster = _share(setup, phase)
    task = our_task(cluster, setup["fanout"], pool_size=cluster.nodes if phase == IDLE else None)
    task.run(COMMAND, nodes=WARM_UP_NODE)
    task.close()
    nodes = ",".join(cluster.names)
    if phase == IDLE:
        task.set_info("ssh_idle_ttl", 10 * setup["idle"])
        task.run(COMMAND, nodes=nodes, timeout=RUN_TIMEOUT)
        with meter.phase(phase):
            time.sleep(setup["idle"])
    else:
        with meter.phase(phase):
            task.run(COMMAND, nodes=nodes, timeout=RUN_TIMEOUT)
    meter.facts[f"{FAILURES}, {phase}"] = sum(len(nodes) for _, nodes in task.iter_failures())
    check(gathered(task), cluster.names)
    task.close()


def asyncssh(setup: Setup, meter: Meter, phase: str) -> None:
    """asyncssh."""

    async def run(host: str) -> tuple[str, bytes]:
        async with limit, await client.connect(host) as connection:
            done = await connection.run(COMMAND, encoding=None)
            return host, bytes(done.stdout)

    async def connect(host: str) -> Any:
        async with limit:
            return await client.connect(host)

    async def idle() -> None:
        connections = await asyncio.gather(*map(connect, cluster.addresses))
        with meter.phase(phase):
            await asyncio.sleep(setup["idle"])
        for connection in connections:
            connection.close()

    async def main() -> None:
        await run(WARM_UP_NODE)
        if phase == IDLE:
            await idle()
            return
        with meter.phase(phase):
            answers = await asyncio.gather(*map(run, cluster.addresses))
        check(answers, cluster.addresses)

    cluster = _share(setup, phase)
    client = AsyncClient(cluster)
    limit = asyncio.Semaphore(setup["fanout"])
    asyncio.run(main())


def parallel_ssh(setup: Setup, meter: Meter, phase: str) -> None:
    """parallel-ssh, which keeps all its connections."""

    def run(hosts: Any) -> Any:
        output = hosts.run_command(COMMAND)
        hosts.join(output)
        return output

    cluster = _share(setup, phase)
    run(parallel_client(cluster, [WARM_UP_NODE], 1))
    hosts = parallel_client(cluster, cluster.addresses, setup["fanout"])
    if phase == IDLE:
        import gevent

        run(hosts)
        with meter.phase(phase):
            gevent.sleep(setup["idle"])
        return
    with meter.phase(phase):
        output = run(hosts)
    check(((it.host, "".join(it.stdout).encode()) for it in output), cluster.addresses)


def paramiko_threads(setup: Setup, meter: Meter, phase: str) -> None:
    """Plain paramiko, with a thread for each node that is busy."""

    def run(host: str) -> bytes:
        with client.connect(host) as connection:
            return client.run(connection, COMMAND)

    cluster = _share(setup, phase)
    client = ParamikoClient(cluster, setup["fanout"])
    run(WARM_UP_NODE)
    if phase == IDLE:
        connections = client.map(client.connect, cluster.addresses)
        with meter.phase(phase):
            time.sleep(setup["idle"])
        for connection in connections:
            connection.close()
        return
    with meter.phase(phase):
        answers = client.map(run, cluster.addresses)
    check(zip(cluster.addresses, answers), cluster.addresses)


def in_phase(
    client: Callable[[Setup, Meter, str], None],
) -> Callable[[Setup, Meter], None]:
    """A client that takes its phase from the setup, and tells its peak memory."""

    def run(setup: Setup, meter: Meter) -> None:
        client(setup, meter, setup["phase"])
        meter.facts[f"{MEMORY}, {setup['phase']}"] = peak_memory()

    return run


# -- the program -----------------------------------------------------------------------------------

OURS = "pyclustershell"


class Scale(Contest):
    """The contest."""

    module = "benchmarks.scale"
    contenders = (
        Contender(OURS, in_phase(pyclustershell), ours=True),
        Contender("asyncssh", in_phase(asyncssh)),
        Contender("parallel-ssh", in_phase(parallel_ssh)),
        Contender("paramiko-threads", in_phase(paramiko_threads)),
    )
    packages = PACKAGES
    rounds = 1

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--few", type=int, default=200, help="nodes (%(default)s)")
        parser.add_argument("--many", type=int, default=2000, help="nodes (%(default)s)")
        parser.add_argument("--fanout", type=int, default=256, help="busy at once (%(default)s)")
        parser.add_argument("--kept", type=int, default=500, help="idle ones (%(default)s)")
        parser.add_argument("--idle", type=float, default=5.0, help="seconds (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster."""
        nodes = {FEW: options.few, MANY: options.many, IDLE: options.kept}
        with run_cluster(max(nodes.values())) as (cluster, _sshd):
            yield {
                "cluster": dataclasses.asdict(cluster),
                "fanout": options.fanout,
                "nodes": nodes,
                "idle": options.idle,
            }

    def take_turn(self, contender: Contender, setup: Setup) -> Meter:
        """Measure a contender in three processes, one after the other."""
        meter = Meter()
        for phase in (FEW, MANY, IDLE):
            part = super().take_turn(contender, {**setup, "phase": phase})
            meter.readings.update(part.readings)
            meter.facts.update(part.facts)
        return meter

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client."""
        header = ["client"]
        header += [f"CPU ms/node of {count}" for count in (options.few, options.many)]
        header += ["ratio", f"wall s of {options.many}", "peak memory MB"]
        header += [f"{options.kept} idle: CPU %", "memory MB"]
        rows = []
        for name in results.names:
            few, many = results.cpu(name, FEW), results.cpu(name, MANY)
            rows.append(
                [
                    name,
                    cell(few, ".2f", 1000 / options.few),
                    cell(many, ".2f", 1000 / options.many),
                    cell(self._growth(results, name, options), ".2f"),
                    cell(results.wall(name, MANY), ".1f"),
                    cell(results.fact(name, f"{MEMORY}, {MANY}"), ".0f"),
                    cell(results.cpu(name, IDLE), ".2f", 100 / options.idle),
                    cell(results.fact(name, f"{MEMORY}, {IDLE}"), ".0f"),
                ]
            )
        return header, rows

    def _growth(self, results: Results, name: str, options: argparse.Namespace) -> Any:
        each = quotient(results.cpu(name, MANY), results.cpu(name, FEW))
        return None if each is None else each * options.few / options.many

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """Failures, growth, memory and idle CPU."""
        many = f"{options.many} nodes, fanout {options.fanout}"
        idle = results.cpu(OURS, IDLE)
        return [
            Bar.at_most(f"{many}: failures", results.fact(OURS, f"{FAILURES}, {MANY}"), 0),
            Bar.at_most(
                f"{many}: CPU per node, of that of {options.few} nodes",
                self._growth(results, OURS, options),
                1.25,
            ),
            Bar.at_most(
                f"{many}: peak memory", results.fact(OURS, f"{MEMORY}, {MANY}"), 250, " MB"
            ),
            Bar.at_most(
                f"{options.kept} idle transports: CPU of one core",
                None if idle is None else 100 * idle / options.idle,
                1,
                " %",
            ),
        ]


main = Scale().main

if __name__ == "__main__":
    sys.exit(main())
