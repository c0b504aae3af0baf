"""How long until the answer: of one command on one node, and of the engine's own part of it?

``echo ok`` runs many times on one connected node, each time after the answer to the last. The
server takes much of the time. CPU time includes that of the client's children.

Then 64 nodes run a command that prints a line now and then. Two times are measured: from the return
of the engine's ``select()`` to the call of ``ev_read``, which is the engine's own latency and
includes decryption; and from the sending of a message through a port, by another thread, to the
call of ``ev_msg``.

The clients take turns, round by round. Run as ``python -m benchmarks.latency``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import selectors
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

from benchmarks.clients import (
    PACKAGES,
    AsyncClient,
    ParamikoClient,
    clustershell_task,
    our_task,
    parallel_client,
)
from benchmarks.cluster import Cluster, run_cluster
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.measure import Meter

COMMAND = "echo ok"
ANSWER = b"ok"
ALL = "all commands"
WARM_UP = 10
MEDIAN = "median"
LATE = "95th percentile"
WAKE_UP = "wake-up to ev_read"
MESSAGE = "message to ev_msg"
RUN_TIMEOUT = 60.0


def measure_commands(meter: Meter, run: Callable[[], bytes], count: int) -> None:
    """Run a command that many times, and note how long each took.

    Raises:
        RuntimeError: a wrong answer.
    """
    for _ in range(WARM_UP):
        run()
    times = []
    with meter.phase(ALL):
        for _ in range(count):
            begin = time.perf_counter()
            answer = run()
            times.append(time.perf_counter() - begin)
            if answer.strip() != ANSWER:
                raise RuntimeError(f"a wrong answer: {answer!r}")
    note(meter, "", times)


def note(meter: Meter, what: str, times: list[float]) -> None:
    """Keep median and 95th percentile, in seconds."""
    meter.facts[f"{what}{MEDIAN}"] = statistics.median(times)
    meter.facts[f"{what}{LATE}"] = statistics.quantiles(times, n=20)[-1]


# -- the clients -----------------------------------------------------------------------------------


def pyclustershell(setup: Setup, meter: Meter) -> None:
    """This package: one run() for each command; then the engine's part."""
    cluster = Cluster(**setup["cluster"])
    task = our_task(cluster, cluster.nodes)
    node = cluster.names[0]

    def run() -> bytes:
        task.run(COMMAND, nodes=node)
        return bytes(task.node_buffer(node))

    measure_commands(meter, run, setup["commands"])
    measure_engine(task, cluster, setup["seconds"], meter)
    task.close()


def measure_engine(task: Any, cluster: Cluster, seconds: float, meter: Meter) -> None:
    """Note the engine's own latencies while all nodes run."""
    from pyclustershell import EventHandler

    woken = 0.0
    wake_ups: list[float] = []
    messages: list[float] = []

    # The platform's default, which the engine takes.
    selector_class: Any = selectors.DefaultSelector
    select = selector_class.select

    def timed_select(selector: Any, timeout: Any = None) -> Any:
        nonlocal woken
        ready = select(selector, timeout)
        woken = time.perf_counter()
        return ready

    class Handler(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            wake_ups.append(time.perf_counter() - woken)

        def ev_msg(self, port: Any, msg: Any) -> None:
            messages.append(time.perf_counter() - msg)

    def send_messages() -> None:
        while not over.wait(0.005):
            port.msg_send(time.perf_counter())

    over = threading.Event()
    handler = Handler()
    port = task.port(handler=handler, autoclose=True)
    sender = threading.Thread(target=send_messages)
    # A line twice a second from each node, for as long as the run lasts.
    command = f"for i in $(seq {round(2 * seconds)}); do echo $i; sleep 0.5; done"
    selector_class.select = timed_select
    sender.start()
    try:
        task.run(command, nodes=",".join(cluster.names), handler=handler, timeout=RUN_TIMEOUT)
    finally:
        over.set()
        sender.join()
        selector_class.select = select
    note(meter, f"{WAKE_UP}: ", wake_ups)
    note(meter, f"{MESSAGE}: ", messages)


def asyncssh(setup: Setup, meter: Meter) -> None:
    """asyncssh, in one event loop."""
    cluster = Cluster(**setup["cluster"])
    client = AsyncClient(cluster)
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(client.connect(cluster.addresses[0]))

    def run() -> bytes:
        done = loop.run_until_complete(connection.run(COMMAND, encoding=None))
        return bytes(done.stdout)

    measure_commands(meter, run, setup["commands"])
    connection.close()
    loop.run_until_complete(connection.wait_closed())


def parallel_ssh(setup: Setup, meter: Meter) -> None:
    """parallel-ssh, on a node's client."""
    cluster = Cluster(**setup["cluster"])
    hosts = parallel_client(cluster, cluster.addresses[:1], 1)

    def run() -> bytes:
        (output,) = hosts.run_command(COMMAND)
        return "".join(output.stdout).encode()

    measure_commands(meter, run, setup["commands"])


def paramiko_threads(setup: Setup, meter: Meter) -> None:
    """Plain paramiko."""
    cluster = Cluster(**setup["cluster"])
    client = ParamikoClient(cluster, 1)
    connection = client.connect(cluster.addresses[0])
    measure_commands(meter, lambda: client.run(connection, COMMAND), setup["commands"])
    connection.close()


def clustershell_ssh(setup: Setup, meter: Meter) -> None:
    """ClusterShell, which connects for each command."""
    cluster = Cluster(**setup["cluster"])
    task = clustershell_task(cluster, 1)
    node = cluster.names[0]

    def run() -> bytes:
        task.run(COMMAND, nodes=node)
        return bytes(task.node_buffer(node))

    measure_commands(meter, run, setup["commands"] // 10)


# -- the program -----------------------------------------------------------------------------------

OURS = "pyclustershell"


class Latency(Contest):
    """The contest."""

    module = "benchmarks.latency"
    contenders = (
        Contender(OURS, pyclustershell, ours=True),
        Contender("asyncssh", asyncssh),
        Contender("parallel-ssh", parallel_ssh),
        Contender("paramiko-threads", paramiko_threads, rounds=1),
        Contender("clustershell-ssh", clustershell_ssh, rounds=1),
    )
    packages = PACKAGES
    rounds = 5

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--commands", type=int, default=200, help="per round (%(default)s)")
        parser.add_argument("--nodes", type=int, default=64, help="running (%(default)s)")
        parser.add_argument("--seconds", type=float, default=3.0, help="so long (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster."""
        with run_cluster(options.nodes) as (cluster, _sshd):
            yield {
                "cluster": dataclasses.asdict(cluster),
                "commands": options.commands,
                "seconds": options.seconds,
            }

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client, and one for each of the engine's figures."""
        header = ["what", "median ms", LATE, "CPU ms"]
        rows = []
        for name in results.names:
            count = options.commands // (10 if name == "clustershell-ssh" else 1)
            rows.append(
                [
                    f"one command: {name}",
                    cell(results.fact(name, MEDIAN), ".2f", 1000),
                    cell(results.fact(name, LATE), ".2f", 1000),
                    cell(results.cpu(name, ALL), ".2f", 1000 / count),
                ]
            )
        for what in (WAKE_UP, MESSAGE):
            figures = [results.fact(OURS, f"{what}: {which}") for which in (MEDIAN, LATE)]
            row = [f"{options.nodes} running nodes: {what}"]
            rows.append([*row, *(cell(figure, ".3f", 1000) for figure in figures), "-"])
        return header, rows

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """The median of a command, and the engine's."""
        wake_up = results.fact(OURS, f"{WAKE_UP}: {MEDIAN}")
        message = results.fact(OURS, f"{MESSAGE}: {MEDIAN}")
        return [
            Bar.at_most(
                "one command on one warm node, median, of asyncssh's",
                quotient(results.fact(OURS, MEDIAN), results.fact("asyncssh", MEDIAN)),
                1.3,
            ),
            *(
                Bar.at_most(
                    f"{what}, median at {options.nodes} running nodes",
                    None if figure is None else figure * 1e6,
                    200,
                    " us",
                )
                for what, figure in ((WAKE_UP, wake_up), (MESSAGE, message))
            ),
        ]


main = Latency().main

if __name__ == "__main__":
    sys.exit(main())
