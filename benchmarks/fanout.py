"""One short command on many nodes: what does a node cost the client?

Each client runs ``echo ok`` on all nodes twice, in a process of its own: on first contact, which
includes TCP, key exchange, host key check and authentication, and once more over what it kept.
Before that it runs the command on one other node, so that all imports are done. Every answer is
checked, after the clock has stopped.

The clients take turns, round by round. Run as ``python -m benchmarks.fanout``.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional

from benchmarks.cluster import WARM_UP_NODE, Cluster, run_cluster
from benchmarks.measure import (
    Meter,
    Missing,
    Reading,
    machine,
    measure_in_process,
    median,
    report,
    table,
    versions,
)

COMMAND = "echo ok"
ANSWER = b"ok"
FIRST = "first contact"
NEXT = "next command"
PACKAGES = [
    "pyclustershell",
    "paramiko",
    "cryptography",
    "asyncssh",
    "parallel-ssh",
    "ClusterShell",
]
CLIENT_TIMEOUT = 600.0
RUN_TIMEOUT = 120.0


def check(answers: Iterable[tuple[str, bytes]], nodes: Iterable[str]) -> None:
    """Every node answered, once and rightly.

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


def _pyclustershell(cluster: Cluster, fanout: int, meter: Meter, pool_size: Optional[int]) -> None:
    from pyclustershell import task_self

    task = task_self()
    task.set_info("ssh_options", f"-F {cluster.ssh_config}")
    task.set_info("fanout", fanout)
    task.set_info("ssh_pool_size", pool_size)
    task.run(COMMAND, nodes=WARM_UP_NODE)
    task.close()
    nodes = ",".join(cluster.names)
    for phase in (FIRST, NEXT):
        with meter.phase(phase):
            task.run(COMMAND, nodes=nodes, timeout=RUN_TIMEOUT)
        check(_gathered(task), cluster.names)
    task.close()


def _gathered(task: Any) -> list[tuple[str, bytes]]:
    """The answers as a ClusterShell task gives them, ours or the original."""
    return [(node, bytes(buffer)) for buffer, nodes in task.iter_buffers() for node in nodes]


def pyclustershell_pooled(cluster: Cluster, fanout: int, meter: Meter) -> None:
    """This package, with room in the pool for every node's connection."""
    _pyclustershell(cluster, fanout, meter, pool_size=cluster.nodes)


def pyclustershell_default(cluster: Cluster, fanout: int, meter: Meter) -> None:
    """This package as it comes: the pool is as large as the fanout, most nodes connect anew."""
    _pyclustershell(cluster, fanout, meter, pool_size=None)


def asyncssh_pooled(cluster: Cluster, fanout: int, meter: Meter) -> None:
    """asyncssh: connections are kept; at most fanout nodes are busy at once."""
    import asyncssh

    async def connect(host: str) -> Any:
        return await asyncssh.connect(
            host,
            port=cluster.port,
            username=cluster.user,
            client_keys=[key],
            known_hosts=known_hosts,
            host_key_alias=None,
            agent_path=None,
            config=None,
        )

    async def first(host: str) -> tuple[str, Any, bytes]:
        async with limit:
            connection = await connect(host)
            return host, connection, await run(connection)

    async def again(host: str, connection: Any) -> tuple[str, Any, bytes]:
        async with limit:
            return host, connection, await run(connection)

    async def run(connection: Any) -> bytes:
        done = await connection.run(COMMAND, encoding=None)
        return bytes(done.stdout)

    async def main() -> None:
        connection = await connect(WARM_UP_NODE)
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

    # Parsed once, as a program with many hosts would.
    key = asyncssh.read_private_key(cluster.key)
    known_hosts = asyncssh.read_known_hosts(cluster.known_hosts)
    limit = asyncio.Semaphore(fanout)
    asyncio.run(main())


def parallel_ssh(cluster: Cluster, fanout: int, meter: Meter) -> None:
    """parallel-ssh on libssh2: connections are kept; it does not check host keys."""
    from pssh.clients import ParallelSSHClient

    def client(hosts: list[str]) -> Any:
        return ParallelSSHClient(
            hosts,
            user=cluster.user,
            port=cluster.port,
            pkey=cluster.key,
            pool_size=fanout,
            allow_agent=False,
            identity_auth=False,
        )

    def run(hosts: Any) -> Any:
        output = hosts.run_command(COMMAND)
        hosts.join(output)
        return output

    run(client([WARM_UP_NODE]))
    nodes = client(cluster.addresses)
    for phase in (FIRST, NEXT):
        with meter.phase(phase):
            output = run(nodes)
        check(((it.host, "".join(it.stdout).encode()) for it in output), cluster.addresses)


def clustershell_ssh(cluster: Cluster, fanout: int, meter: Meter) -> None:
    """ClusterShell, which starts an ssh process for each node and keeps nothing."""
    from ClusterShell.Task import task_self

    task = task_self()
    task.set_info("ssh_options", f"-F {cluster.ssh_config}")
    task.set_info("fanout", fanout)
    task.run(COMMAND, nodes=WARM_UP_NODE)
    nodes = ",".join(cluster.names)
    for phase in (FIRST, NEXT):
        with meter.phase(phase):
            task.run(COMMAND, nodes=nodes, timeout=CLIENT_TIMEOUT)
        check(_gathered(task), cluster.names)


@dataclasses.dataclass(frozen=True)
class Client:
    """One row of the table.

    Attributes:
        name: what it is called in the table and by ``--skip``.
        run: the program, which takes readings of FIRST and NEXT.
        ours: it is this package.
        rounds: measured no more often than this, because it takes so long; None for no limit.
    """

    name: str
    run: Callable[[Cluster, int, Meter], None]
    ours: bool = False
    rounds: Optional[int] = None


CLIENTS = [
    Client("pyclustershell", pyclustershell_pooled, ours=True),
    Client("pyclustershell-default-pool", pyclustershell_default, ours=True),
    Client("asyncssh", asyncssh_pooled),
    Client("parallel-ssh", parallel_ssh),
    Client("clustershell-ssh", clustershell_ssh, rounds=1),
]


def run_client(name: str, cluster: Cluster, fanout: int) -> None:
    """Measure one client in this process and print its readings for the other one."""
    client = next(client for client in CLIENTS if client.name == name)
    meter = Meter()
    try:
        client.run(cluster, fanout, meter)
    except ImportError as error:
        report(None, missing=str(error))
    else:
        report(meter)


# -- the run ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Results:
    """All readings of a run, by client and phase; and why a client has none."""

    readings: dict[str, dict[str, list[Reading]]]
    peaks: dict[str, int]
    missing: dict[str, str]


def run_all(clients: Sequence[Client], options: argparse.Namespace) -> Results:
    """Measure the clients in turns against one sshd."""
    results = Results(defaultdict(lambda: defaultdict(list)), {}, {})
    with run_cluster(options.nodes, named=options.names) as (cluster, sshd):
        for number in range(options.rounds):
            for client in clients:
                if client.name in results.missing:
                    continue
                if client.rounds is not None and number >= client.rounds:
                    continue
                print(f"round {number + 1}: {client.name}", file=sys.stderr)
                command = ["-m", "benchmarks.fanout", "--client", client.name]
                command += ["--fanout", str(options.fanout), "--cluster", cluster.to_json()]
                try:
                    with sshd.watch_connections(interval=0.02) as watch:
                        readings = measure_in_process(command, CLIENT_TIMEOUT)
                except (Missing, RuntimeError) as error:
                    results.missing[client.name] = str(error)
                    continue
                peak = results.peaks.get(client.name, 0)
                results.peaks[client.name] = max(peak, watch.max_connections)
                for phase, reading in readings.items():
                    results.readings[client.name][phase].append(reading)
    return results


def show(results: Results, options: argparse.Namespace) -> dict[str, Any]:
    """Print the table; return what --json writes."""
    medians = {
        name: {phase: median(readings) for phase, readings in phases.items()}
        for name, phases in results.readings.items()
    }
    rivals = [client.name for client in CLIENTS if not client.ours and client.name in medians]
    best = {
        phase: min((medians[name][phase].cpu for name in rivals), default=None)
        for phase in (FIRST, NEXT)
    }
    header = ["client"]
    for phase in (FIRST, NEXT):
        header += [f"{phase}: CPU ms/node", "of best rival", "wall s"]
    header.append("peak connections")
    rows = []
    for name, phases in medians.items():
        row = [name]
        for phase in (FIRST, NEXT):
            reading, rival = phases[phase], best[phase]
            row.append(f"{1000 * reading.cpu / options.nodes:.2f}")
            row.append("-" if rival is None else f"{reading.cpu / rival:.2f}")
            row.append(f"{reading.wall:.2f}")
        rows.append([*row, str(results.peaks[name])])
    settings = {
        key: getattr(options, key) for key in ("nodes", "fanout", "rounds", "names", "skip")
    }
    about = {"settings": settings, "versions": versions(PACKAGES), "machine": machine()}
    for title, facts in about.items():
        print(f"{title}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"\n{COMMAND!r} on each node; medians; CPU of the client and its children\n")
    print(table(header, rows))
    for name, reason in results.missing.items():
        print(f"\n{name} was not measured: {reason}")
    return {
        **about,
        "command": COMMAND,
        "medians": {
            name: {
                phase: {
                    **dataclasses.asdict(reading),
                    "cpu_ms_per_node": 1000 * reading.cpu / options.nodes,
                }
                for phase, reading in phases.items()
            }
            for name, phases in medians.items()
        },
        "readings": {
            name: {phase: [dataclasses.asdict(it) for it in each] for phase, each in phases.items()}
            for name, phases in results.readings.items()
        },
        "peak_connections": results.peaks,
        "missing": results.missing,
    }


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the benchmark. Returns 1 where this package could not be measured, otherwise 0."""
    names = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--nodes", type=int, default=400, help="how many nodes (default 400)")
    parser.add_argument("--fanout", type=int, default=64, help="nodes busy at once (default 64)")
    parser.add_argument("--rounds", type=int, default=3, help="repeats (default 3)")
    parser.add_argument("--names", action="store_true", help="names by ssh_config, not addresses")
    parser.add_argument("--skip", action="append", default=[], choices=names, metavar="NAME")
    parser.add_argument("--json", metavar="FILE", help="write all readings there")
    parser.add_argument("--client", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--cluster", type=Cluster.from_json, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        run_client(options.client, options.cluster, options.fanout)
        return 0
    clients = [client for client in CLIENTS if client.name not in options.skip]
    results = run_all(clients, options)
    findings = show(results, options)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(findings, file, indent=2)
    return int(any(client.ours and client.name in results.missing for client in clients))


if __name__ == "__main__":
    sys.exit(main())
