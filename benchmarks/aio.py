"""What does asyncio cost: ``await session.run()`` for each node, and ``async for`` for each line?

All nodes are connected when the clock starts. Then ``echo ok`` runs on each of them, several times:
as one await for each node, all at once (``pyclustershell.aio``); as one worker for each node in one
run of a task, without asyncio; and as asyncssh's ``conn.run()`` on kept connections. All answers
are checked. Then one node prints many lines, which are iterated over. At last many nodes are asked
in one await, on first contact.

The clients take turns, round by round. Run as ``python -m benchmarks.aio``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.clients import PACKAGES, AsyncClient, our_task
from benchmarks.cluster import Cluster, run_cluster
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.fanout import check
from benchmarks.measure import Meter

COMMAND = "echo ok"
COMMANDS = "a command on a connected node"
LINE = "a line"
MANY = "a node in one await, first contact"
#: How often each node is asked.
TIMES = 5
# Connections at once on first contact.
_FANOUT = 200


def _session(cluster: Cluster, fanout: int) -> Any:
    from pyclustershell.aio import Session

    return Session(fanout=fanout, info={"ssh_options": f"-F {cluster.ssh_config}"})


def awaits(setup: Setup, meter: Meter) -> None:
    """This package, one await for each node; then the lines of one node."""
    cluster = Cluster(**setup["cluster"])
    names = cluster.names[: setup["nodes"]]

    async def ask(session: Any, node: str) -> tuple[str, bytes]:
        results = await session.run(COMMAND, node)
        return node, results[node].stdout

    async def main() -> None:
        async with _session(cluster, len(names)) as session:
            await session.run(COMMAND, ",".join(names))
            with meter.phase(COMMANDS):
                for _ in range(TIMES):
                    check(await asyncio.gather(*(ask(session, node) for node in names)), names)
            count = 0
            with meter.phase(LINE):
                async for _ in session.lines(f"seq {setup['lines']}", names[0]):
                    count += 1
            if count != setup["lines"]:
                raise RuntimeError(f"{count} lines of {setup['lines']}")

    asyncio.run(main())


def workers(setup: Setup, meter: Meter) -> None:
    """This package, one worker for each node in one run: without asyncio."""
    cluster = Cluster(**setup["cluster"])
    names = cluster.names[: setup["nodes"]]
    task = our_task(cluster, len(names))
    task.run(COMMAND, nodes=",".join(names))
    with meter.phase(COMMANDS):
        for _ in range(TIMES):
            made = [task.shell(COMMAND, nodes=node, stderr=True, stdin=False) for node in names]
            task.resume()
            results = [(node, it.results()[node].stdout) for node, it in zip(names, made)]
            check(results, names)
    task.close()


def asyncssh(setup: Setup, meter: Meter) -> None:
    """asyncssh, one ``conn.run()`` for each node on its connection."""
    cluster = Cluster(**setup["cluster"])
    addresses = cluster.addresses[: setup["nodes"]]
    client = AsyncClient(cluster)

    async def main() -> None:
        slots = asyncio.Semaphore(32)

        async def connect(host: str) -> Any:
            async with slots:
                return await client.connect(host)

        connections = await asyncio.gather(*map(connect, addresses))

        async def ask(host: str, connection: Any) -> tuple[str, bytes]:
            done = await connection.run(COMMAND, encoding=None)
            return host, done.stdout

        with meter.phase(COMMANDS):
            for _ in range(TIMES):
                pairs = zip(addresses, connections)
                check(await asyncio.gather(*(ask(*pair) for pair in pairs)), addresses)
        for connection in connections:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    asyncio.run(main())


def many(setup: Setup, meter: Meter) -> None:
    """This package, all nodes in one await."""
    cluster = Cluster(**setup["cluster"])

    async def main() -> None:
        async with _session(cluster, _FANOUT) as session:
            ticks = asyncio.ensure_future(_measure_delays())
            with meter.phase(MANY):
                results = await session.run(COMMAND, ",".join(cluster.names))
            ticks.cancel()
            meter.facts["longest delay of the event loop"] = (await _result(ticks)) or 0.0
            check([(node, it.stdout) for node, it in results.items()], cluster.names)

    asyncio.run(main())


async def _measure_delays() -> float:
    """Return the longest time by which a sleep of 10 ms was late, when it is cancelled."""
    longest = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - began - 0.01)
    return longest


async def _result(task: asyncio.Task[float]) -> float:
    return await task


AWAITS, WORKERS, ASYNCSSH, ALL = "awaits", "workers in one run", "asyncssh", "one await"


class Aio(Contest):
    """The contest."""

    module = "benchmarks.aio"
    contenders = (
        Contender(AWAITS, awaits, ours=True),
        Contender(WORKERS, workers, ours=True),
        Contender(ASYNCSSH, asyncssh),
        Contender(ALL, many, ours=True, rounds=1),
    )
    packages = PACKAGES
    rounds = 3

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--nodes", type=int, default=200, help="connected (%(default)s)")
        parser.add_argument("--lines", type=int, default=80_000, help="of output (%(default)s)")
        parser.add_argument("--many", type=int, default=2000, help="in one await (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster."""
        with run_cluster(max(options.nodes, options.many), named=True) as (cluster, _sshd):
            yield {
                "cluster": dataclasses.asdict(cluster),
                "nodes": options.nodes,
                "lines": options.lines,
            }

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client and phase."""
        counts = {COMMANDS: options.nodes * TIMES, LINE: options.lines, MANY: options.many}
        rows = [
            [
                phase,
                name,
                cell(results.cpu(name, phase), ".2f", 1e6 / count),
                cell(results.wall(name, phase), ".2f", 1e6 / count),
            ]
            for phase, count in counts.items()
            for name in results.names
            if results.cpu(name, phase) is not None
        ]
        return ["what", "how", "CPU us", "wall us"], rows

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """Awaits against workers and asyncssh; the lines."""
        ours = results.cpu(AWAITS, COMMANDS)
        count = options.nodes
        line = results.cpu(AWAITS, LINE)
        return [
            Bar.at_most(
                f"{count} awaits of a connected node: CPU, of {count} workers in one run",
                quotient(ours, results.cpu(WORKERS, COMMANDS)),
                1.1,
            ),
            Bar.at_most(
                f"{count} awaits of a connected node: CPU, of asyncssh's conn.run()",
                quotient(ours, results.cpu(ASYNCSSH, COMMANDS)),
                1,
            ),
            Bar.at_most(
                f"async for over {options.lines} lines: CPU for a line",
                None if line is None else line / options.lines * 1e6,
                3,
                " us",
            ),
        ]


main = Aio().main

if __name__ == "__main__":
    sys.exit(main())
