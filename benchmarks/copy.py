"""Files to nodes and back: what does it cost to copy them?

A file of 64 MB is copied to 8 nodes ("put"), which includes the time to connect, and back from them
("get"), over the same connections if the client keeps them; then a directory of 2,000 files of 4
KiB to 4 nodes ("small"). This package also copies 16 MB to 64 nodes and back ("wide"), over
existing connections. The copies are checked after the clock has stopped.

All files are in memory (/dev/shm) if the system has it, so that no disk is measured. The nodes are
one host, so each gets a directory of its own. For this package they share one: its files have
temporary names until they are whole, and then each replaces the one before.

The clients take turns, round by round. Run as ``python -m benchmarks.copy``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import filecmp
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from benchmarks.clients import PACKAGES, AsyncClient, clustershell_task, our_task
from benchmarks.cluster import Cluster, run_cluster
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.measure import Meter, peak_memory

PUT = "put"
GET = "get"
SMALL = "small"
WIDE_PUT = "wide put"
WIDE_GET = "wide get"
MEMORY = "memory"
SMALL_SIZE = 4096
RUN_TIMEOUT = 300.0


class Place:
    """The places of the files, and the expected contents."""

    def __init__(self, setup: Setup) -> None:
        self.cluster = Cluster(**setup["cluster"])
        self.nodes = self.cluster.addresses[: setup["nodes"]]
        self.few = self.cluster.addresses[: setup["few"]]
        self.directory = Path(setup["directory"])
        self.large = self.directory / "large"
        self.medium = self.directory / "medium"
        self.tree = self.directory / "tree"

    def fresh(self, name: str) -> Path:
        """An empty directory that the nodes may write to."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        path.chmod(0o777)
        return path

    def per_node(self, name: str) -> dict[str, Path]:
        """An empty directory for each node."""
        self.fresh(name)
        return {node: self.fresh(f"{name}/{node}") for node in self.nodes}

    def check(self, source: Path, arrived: list[Path]) -> None:
        """Check that the copies have the contents that were sent, then remove them.

        Raises:
            RuntimeError: it is not.
        """
        for path in arrived:
            if source.is_dir():
                names = os.listdir(source)
                same = filecmp.cmpfiles(source, path, names, shallow=False)[0]
                if len(same) != len(names) or set(os.listdir(path)) != set(names):
                    raise RuntimeError(f"{path} is not {source}")
                shutil.rmtree(path)
            else:
                if not filecmp.cmp(source, path, shallow=False):
                    raise RuntimeError(f"{path} is not {source}")
                path.unlink()


# -- the clients -----------------------------------------------------------------------------------


def pyclustershell(setup: Setup, meter: Meter) -> None:
    """This package, whose pool has room for all connections."""

    def run() -> None:
        task.resume(RUN_TIMEOUT)
        if task.max_retcode() != 0:
            raise RuntimeError(str([str(failure) for failure, _ in task.iter_failures()]))

    def there(phase: str, source: Path, nodes: list[str]) -> None:
        to = place.fresh("to")
        with meter.phase(phase):
            task.copy(str(source), str(to), ",".join(nodes))
            run()
        place.check(source, [to / source.name])

    def back(phase: str, source: Path, nodes: list[str]) -> None:
        here = place.fresh("from")
        with meter.phase(phase):
            task.rcopy(str(source), str(here), ",".join(nodes))
            run()
        place.check(source, [here / f"{source.name}.{node}" for node in nodes])

    place = Place(setup)
    task = our_task(place.cluster, place.cluster.nodes)
    task.copy(str(place.tree / "0"), str(place.fresh("to")), "127.0.0.1")
    task.resume()
    there(PUT, place.large, place.nodes)
    back(GET, place.large, place.nodes)
    there(SMALL, place.tree, place.few)
    task.run("true", nodes=",".join(place.cluster.addresses))
    there(WIDE_PUT, place.medium, place.cluster.addresses)
    back(WIDE_GET, place.medium, place.cluster.addresses)
    meter.facts[MEMORY] = peak_memory()
    task.close()


def clustershell_scp(setup: Setup, meter: Meter) -> None:
    """ClusterShell, which starts scp processes and keeps nothing."""

    def there(phase: str, source: Path, nodes: list[str]) -> None:
        to = place.per_node("to")
        with meter.phase(phase):
            for node in nodes:
                task.copy(str(source), str(to[node]), node)
            task.resume(RUN_TIMEOUT)
        place.check(source, [to[node] / source.name for node in nodes])

    place = Place(setup)
    task = clustershell_task(place.cluster, place.cluster.nodes)
    there(PUT, place.large, place.nodes)
    here = place.fresh("from")
    with meter.phase(GET):
        task.rcopy(str(place.large), str(here), ",".join(place.nodes))
        task.resume(RUN_TIMEOUT)
    place.check(place.large, [here / f"{place.large.name}.{node}" for node in place.nodes])
    there(SMALL, place.tree, place.few)


def asyncssh(setup: Setup, meter: Meter) -> None:
    """asyncssh, with connections that are kept."""

    async def put(connection: Any, source: Path, dest: Path) -> None:
        async with connection.start_sftp_client() as files:
            await files.put(str(source), str(dest), recurse=source.is_dir())

    async def get(connection: Any, source: Path, dest: Path) -> None:
        async with connection.start_sftp_client() as files:
            await files.get(str(source), str(dest))

    async def main() -> None:
        client = AsyncClient(place.cluster)
        to = place.per_node("to")
        with meter.phase(PUT):
            connections = dict(
                zip(place.nodes, await asyncio.gather(*map(client.connect, place.nodes)))
            )
            await asyncio.gather(*(put(connections[n], place.large, to[n]) for n in place.nodes))
        place.check(place.large, [to[node] / place.large.name for node in place.nodes])
        here = place.per_node("from")
        with meter.phase(GET):
            await asyncio.gather(*(get(connections[n], place.large, here[n]) for n in place.nodes))
        place.check(place.large, [here[node] / place.large.name for node in place.nodes])
        with meter.phase(SMALL):
            await asyncio.gather(*(put(connections[n], place.tree, to[n]) for n in place.few))
        place.check(place.tree, [to[node] / place.tree.name for node in place.few])
        meter.facts[MEMORY] = peak_memory()
        for connection in connections.values():
            connection.close()

    place = Place(setup)
    asyncio.run(main())


# -- the program -----------------------------------------------------------------------------------

OURS = "pyclustershell"
SCP = "clustershell-scp"


class Copy(Contest):
    """The contest."""

    module = "benchmarks.copy"
    contenders = (
        Contender(OURS, pyclustershell, ours=True),
        Contender(SCP, clustershell_scp),
        Contender("asyncssh", asyncssh),
    )
    packages = PACKAGES

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        add = parser.add_argument
        add("--nodes", type=int, default=8, help="for the large file (%(default)s)")
        add("--megabytes", type=int, default=64, help="of the large file (%(default)s)")
        add("--files", type=int, default=2000, help="small ones (%(default)s)")
        add("--few", type=int, default=4, help="nodes for the small files (%(default)s)")
        add("--wide", type=int, default=64, help="many nodes (%(default)s)")
        add("--medium", type=int, default=16, help="MB for each of many nodes (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A cluster, and the files to be copied."""
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 no secrets
        with contextlib.ExitStack() as stack:
            cluster, _sshd = stack.enter_context(run_cluster(options.wide))
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
            directory.chmod(0o755)
            for name, megabytes in (("large", options.megabytes), ("medium", options.medium)):
                (directory / name).write_bytes(os.urandom(megabytes * 1_000_000))
            (directory / "tree").mkdir()
            for number in range(options.files):
                (directory / "tree" / str(number)).write_bytes(os.urandom(SMALL_SIZE))
            yield {
                "cluster": dataclasses.asdict(cluster),
                "directory": str(directory),
                "nodes": options.nodes,
                "few": options.few,
            }

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each client."""
        header = ["client"]
        phases = (PUT, GET, SMALL, WIDE_PUT, WIDE_GET)
        for phase in phases:
            header += [f"{phase}: wall s", "CPU s"]
        header.append("peak memory MB")
        rows = []
        for name in results.names:
            row = [name]
            for phase in phases:
                row.append(cell(results.wall(name, phase), ".2f"))
                row.append(cell(results.cpu(name, phase), ".2f"))
            rows.append([*row, cell(results.fact(name, MEMORY), ".0f")])
        return header, rows

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """The times beside the rivals', the cost of many nodes, and the memory."""
        found = []
        for phase in (PUT, GET):
            for rival, wanted in ((SCP, 1.1), ("asyncssh", 0.7)):
                times = quotient(results.wall(OURS, phase), results.wall(rival, phase))
                found.append(Bar.at_most(f"{phase}, times {rival}'s wall time", times, wanted))
        times = quotient(results.wall(OURS, SMALL), results.wall(SCP, SMALL))
        found.append(Bar.at_most(f"small files, times {SCP}'s wall time", times, 1))
        for phase, wide in ((PUT, WIDE_PUT), (GET, WIDE_GET)):
            for unit, figure in (("wall", results.wall), ("CPU", results.cpu)):
                times = quotient(
                    self._per_byte(figure(OURS, wide), options.wide, options.medium),
                    self._per_byte(figure(OURS, phase), options.nodes, options.megabytes),
                )
                question = f"{phase}, {options.wide} nodes: {unit} time per byte, times the few's"
                found.append(Bar.at_most(question, times, 1.3))
        found.append(Bar.at_most("peak memory", results.fact(OURS, MEMORY), 100, " MB"))
        return found

    @staticmethod
    def _per_byte(seconds: Optional[float], nodes: int, megabytes: int) -> Optional[float]:
        return None if seconds is None else seconds / (nodes * megabytes)


main = Copy().main

if __name__ == "__main__":
    sys.exit(main())
