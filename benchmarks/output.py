"""Much output from a few nodes: what does it cost to receive it, as lines and raw?

Each of 8 nodes prints 100,000 lines of 60 bytes; no two of a node are alike, but all nodes print
the same. The lines are gathered ("lines"), and also passed to an event handler ("handler"), which
is the client's own way to handle one line at a time. Then each node prints 64 MB, which are
gathered as bytes: zeros, which have no lines, and random bytes, one newline in 256 of them. The
received bytes are checked after the clock has stopped. CPU time includes that of the client's
children. The time to connect is left out if the client keeps connections.

The clients take turns, round by round. Run as ``python -m benchmarks.output``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, Callable

from benchmarks.clients import (
    PACKAGES,
    AsyncClient,
    ParamikoClient,
    clustershell_task,
    gathered,
    our_task,
    parallel_client,
)
from benchmarks.cluster import Cluster, run_cluster
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.measure import Meter

LINES = "lines"
HANDLER = "handler"
ZEROS = "zeros"
RANDOM = "random"
NODES = "nodes"  # how many, if a client has fewer than the others
LINE = "%06d " + "x" * 52
LINE_LENGTH = 60  # with its newline
RUN_TIMEOUT = 300.0
CHUNK = 65536


def check(figures: Iterable[int], nodes: int, wanted: int) -> None:
    """Check that every node sent all bytes.

    Raises:
        RuntimeError: it did not.
    """
    figures = list(figures)
    if figures != [wanted] * nodes:
        raise RuntimeError(f"{figures} came from {nodes} nodes, {wanted} wanted from each")


# -- the clients -----------------------------------------------------------------------------------


def _lines_of_task(task: Any, handler_base: type, setup: Setup, meter: Meter) -> None:
    """Lines, by a task of ours or of ClusterShell's."""
    cluster = Cluster(**setup["cluster"])
    nodes = ",".join(cluster.names)

    class Counter(handler_base):  # type: ignore[misc]
        lines = 0

        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            self.lines += 1

    counter = Counter()
    with meter.phase(LINES):
        task.run(setup["commands"][LINES], nodes=nodes, timeout=RUN_TIMEOUT)
        sizes = [len(output) + 1 for _, output in gathered(task)]
    check(sizes, cluster.nodes, setup["lines"] * LINE_LENGTH)
    task.flush_buffers()
    with meter.phase(HANDLER):
        task.run(setup["commands"][LINES], nodes=nodes, timeout=RUN_TIMEOUT, handler=counter)
        sizes = [len(output) + 1 for _, output in gathered(task)]
    check(sizes, cluster.nodes, setup["lines"] * LINE_LENGTH)
    check([counter.lines], 1, cluster.nodes * setup["lines"])
    task.flush_buffers()


def pyclustershell(setup: Setup, meter: Meter) -> None:
    """This package."""
    from pyclustershell import EventHandler

    cluster = Cluster(**setup["cluster"])
    task = our_task(cluster, cluster.nodes)
    nodes = ",".join(cluster.names)
    task.run(setup["commands"]["warm up"], nodes=nodes)
    _lines_of_task(task, EventHandler, setup, meter)
    for phase in (ZEROS, RANDOM):
        with meter.phase(phase):
            task.run(setup["commands"][phase], nodes=nodes, timeout=RUN_TIMEOUT)
            sizes = [len(output) for _, output in gathered(task)]
        # A newline at the end, and a carriage return before a newline, are not the lines'.
        check(sizes, cluster.nodes, setup["sizes"][phase])
        task.flush_buffers()
    task.close()


def clustershell_ssh(setup: Setup, meter: Meter) -> None:
    """ClusterShell, which starts ssh processes. A long line takes it quadratic time."""
    from ClusterShell.Event import EventHandler

    cluster = Cluster(**setup["cluster"])
    task = clustershell_task(cluster, cluster.nodes)
    task.run(setup["commands"]["warm up"], nodes=",".join(cluster.names))
    _lines_of_task(task, EventHandler, setup, meter)


def asyncssh(setup: Setup, meter: Meter) -> None:
    """asyncssh."""

    async def count_lines(connection: Any) -> int:
        lines = 0
        async with connection.create_process(setup["commands"][LINES], encoding=None) as process:
            async for _line in process.stdout:
                lines += 1
        return lines

    def gather(command: str) -> Callable[[Any], Awaitable[int]]:
        async def run(connection: Any) -> int:
            done = await connection.run(command, encoding=None)
            return len(done.stdout)

        return run

    async def main() -> None:
        cluster = Cluster(**setup["cluster"])
        client = AsyncClient(cluster)
        connections = await asyncio.gather(*map(client.connect, cluster.addresses))
        await asyncio.gather(*map(gather(setup["commands"]["warm up"]), connections))
        with meter.phase(LINES):
            sizes = await asyncio.gather(*map(gather(setup["commands"][LINES]), connections))
        check(sizes, cluster.nodes, setup["lines"] * LINE_LENGTH)
        with meter.phase(HANDLER):
            lines = await asyncio.gather(*map(count_lines, connections))
        check(lines, cluster.nodes, setup["lines"])
        for phase in (ZEROS, RANDOM):
            with meter.phase(phase):
                sizes = await asyncio.gather(*map(gather(setup["commands"][phase]), connections))
            check(sizes, cluster.nodes, setup["size"])
        for connection in connections:
            connection.close()

    asyncio.run(main())


def parallel_ssh(setup: Setup, meter: Meter) -> None:
    """parallel-ssh, whose output are lines of text, and nothing else: on one node, it is slow."""

    def run(command: str) -> list[Any]:
        output = hosts.run_command(command)
        hosts.join(output)
        return list(output)

    cluster = Cluster(**setup["cluster"])
    hosts = parallel_client(cluster, cluster.addresses[:1], 1)
    run(setup["commands"]["warm up"])
    with meter.phase(LINES):
        texts = ["\n".join(node.stdout) for node in run(setup["commands"][LINES])]
    check([len(text) + 1 for text in texts], 1, setup["lines"] * LINE_LENGTH)
    with meter.phase(HANDLER):
        lines = [sum(1 for _ in node.stdout) for node in run(setup["commands"][LINES])]
    check(lines, 1, setup["lines"])
    meter.facts[NODES] = 1


def paramiko_threads(setup: Setup, meter: Meter) -> None:
    """Plain paramiko, with a thread for each node."""

    def gather(connection: Any, command: str) -> int:
        return len(client.run(connection, command))

    def count_lines(connection: Any, command: str) -> int:
        _stdin, stdout, _stderr = connection.exec_command(command)
        return sum(1 for _ in stdout)

    cluster = Cluster(**setup["cluster"])
    client = ParamikoClient(cluster, cluster.nodes)
    connections = client.map(client.connect, cluster.addresses)
    client.map(gather, connections, [setup["commands"]["warm up"]] * cluster.nodes)
    commands = [setup["commands"][LINES]] * cluster.nodes
    with meter.phase(LINES):
        sizes = client.map(gather, connections, commands)
    check(sizes, cluster.nodes, setup["lines"] * LINE_LENGTH)
    with meter.phase(HANDLER):
        lines = client.map(count_lines, connections, commands)
    check(lines, cluster.nodes, setup["lines"])
    for phase in (ZEROS, RANDOM):
        commands = [setup["commands"][phase]] * cluster.nodes
        with meter.phase(phase):
            sizes = client.map(gather, connections, commands)
        check(sizes, cluster.nodes, setup["size"])
    for connection in connections:
        connection.close()


# -- the program -----------------------------------------------------------------------------------

OURS = "pyclustershell"


class Output(Contest):
    """The contest."""

    module = "benchmarks.output"
    contenders = (
        Contender(OURS, pyclustershell, ours=True),
        Contender("asyncssh", asyncssh),
        Contender("clustershell-ssh", clustershell_ssh, rounds=1),
        Contender("parallel-ssh", parallel_ssh, rounds=1),
        Contender("paramiko-threads", paramiko_threads, rounds=1),
    )
    packages = PACKAGES

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--nodes", type=int, default=8, help="how many (%(default)s)")
        parser.add_argument("--lines", type=int, default=100_000, help="of each (%(default)s)")
        parser.add_argument("--megabytes", type=int, default=64, help="of each (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster, and the files that its nodes print."""
        size = options.megabytes * 1_000_000
        with run_cluster(options.nodes) as (cluster, _sshd), tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            directory.chmod(0o755)  # the nodes' account is another one
            lines, noise = directory / "lines", directory / "random"
            text = "".join(f"{LINE % number}\n" for number in range(options.lines))
            lines.write_text(text)
            random = os.urandom(size - 1) + b"."
            noise.write_bytes(random)
            yield {
                "cluster": dataclasses.asdict(cluster),
                "commands": {
                    "warm up": "echo ok",
                    LINES: f"cat {lines}",
                    ZEROS: f"head -c {size} /dev/zero",
                    RANDOM: f"cat {noise}",
                },
                "lines": options.lines,
                "size": size,
                "sizes": {ZEROS: size, RANDOM: size - random.count(b"\r\n")},
            }

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client."""
        header = ["client"]
        for phase in (LINES, HANDLER):
            header += [f"{phase}: thousands per CPU s", "per wall s"]
        for phase in (ZEROS, RANDOM):
            header += [f"{phase}: MB per CPU s", "per wall s"]
        rows = []
        for name in results.names:
            row = [name]
            nodes = results.fact(name, NODES) or options.nodes
            for phase, share in (
                (LINES, options.lines / 1000),
                (HANDLER, options.lines / 1000),
                (ZEROS, options.megabytes),
                (RANDOM, options.megabytes),
            ):
                amount = nodes * share
                row.append(cell(quotient(amount, results.cpu(name, phase)), ".0f"))
                row.append(cell(quotient(amount, results.wall(name, phase)), ".0f"))
            rows.append(row)
        return header, rows

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """The rates, by CPU and by wall time."""
        found = []
        for phase, what, rival, wanted in (
            (LINES, "lines gathered", "clustershell-ssh", 2),
            (HANDLER, "lines gathered and handled", "clustershell-ssh", 5),
            (ZEROS, "raw bytes (zeros)", "asyncssh", 2),
            (RANDOM, "raw bytes (random)", "asyncssh", 2),
        ):
            for unit, figure in (("CPU", results.cpu), ("wall", results.wall)):
                times = quotient(figure(rival, phase), figure(OURS, phase))
                found.append(
                    Bar.at_least(f"{what} per {unit} second, times {rival}'s", times, wanted)
                )
        return found


main = Output().main

if __name__ == "__main__":
    sys.exit(main())
