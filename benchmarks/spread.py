"""Several processes: what a node costs in the program and in its worker processes.

``echo ok`` on 400 nodes, fanout 64, by a Spread of 1, 2 and 4 processes that run already: a first
contact, then again on the connections, which are kept. The server shares the cores with the client,
so the wall time says how busy the machine is, not what more cores would bring. The CPU time of
worker processes comes from /proc.

Run as ``python -m benchmarks.spread``, on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from benchmarks.cluster import run_cluster
from benchmarks.contest import Bar, bar_table, print_introduction
from benchmarks.measure import machine, table, versions
from pyclustershell.nodeset import NodeSet
from pyclustershell.spread import Spread

COMMAND = "echo ok"

#: The most that the program may cost for each node of a first contact, in milliseconds of CPU.
WANTED = 0.2


def worker_seconds(parent: int) -> float:
    """The CPU seconds so far of the worker processes of a program."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent and b"spawn_main" in command:
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(spread: Spread, nodes: str) -> dict[str, float]:
    """Run the command; returns milliseconds of CPU for each node, and seconds of wall time."""
    size = len(NodeSet(nodes))
    # To look into /proc costs time as well: it is done before and after.
    workers = worker_seconds(os.getpid())
    head = time.process_time()
    wall = time.perf_counter()
    spread.run(COMMAND, nodes, timeout=300).check()
    wall = time.perf_counter() - wall
    head = time.process_time() - head
    workers = worker_seconds(os.getpid()) - workers
    return {"head": 1000 * head / size, "workers": 1000 * workers / size, "wall": wall}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table; 1 if the program itself costs more than wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=400)
    parser.add_argument("--fanout", type=int, default=64)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    readings: dict[str, Any] = {}
    with run_cluster(options.nodes, named=True) as (cluster, _):
        nodes = f"node[1-{options.nodes}]"
        for count in options.processes:
            print(f"benchmarks.spread: {count} processes", file=sys.stderr)
            with Spread(
                count,
                fanout=options.fanout,
                info={"ssh_pool_size": options.nodes},
                config_files=cluster.ssh_config,
            ) as spread:
                # Each process has done its imports, and has one connection.
                spread.run(COMMAND, f"node[1-{count}]").check()
                for name in ("first contact", "again"):
                    readings[f"{count} processes, {name}"] = measure(spread, nodes)
    about = {
        "settings": {name: value for name, value in vars(options).items() if name != "json"},
        "versions": versions([]),
        "machine": machine(),
    }
    print_introduction(__doc__, about)
    rows = [
        [name, f"{it['head']:.3f} ms", f"{it['workers']:.3f} ms", f"{it['wall']:.2f} s"]
        for name, it in readings.items()
    ]
    print(table(["", "program, CPU for each node", "processes, for each node", "wall"], rows))
    bars = [
        Bar.at_most(f"{name}: CPU of the program for each node", it["head"], WANTED, " ms")
        for name, it in readings.items()
        if name.endswith("contact")
    ]
    print()
    print(bar_table(bars))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            found = {"readings": readings, "bars": [asdict(bar) for bar in bars]}
            json.dump({**about, **found}, file, indent=2)
    return int(any(bar.held is False for bar in bars))


if __name__ == "__main__":
    sys.exit(main())
