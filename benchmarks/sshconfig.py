"""The cost of OpenSSH's files: a large ssh_config and a large known_hosts, for many nodes.

1. A configuration of 1,000 ``Host`` blocks (with aliases, and patterns below) is read, and 2,000
   nodes are resolved: half of them have a block.
2. A known_hosts file of 10,000 hashed names is read; then, for 500 nodes, the algorithms to ask for
   are chosen and the server's key is checked, as each connection does: in the order of the file,
   and in another one.
3. 1,000 new hosts are accepted, and added to a file.

The CPU time of this process is measured: other programs on the machine disturb it less than the
wall time.

Run as ``python -m benchmarks.sshconfig``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from benchmarks.contest import Bar, bar_table, print_introduction
from benchmarks.measure import machine, versions
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from pyclustershell.ssh.hostkeys.knownhosts import format_line

KIND = "ssh-ed25519"


class Case(NamedTuple):
    """One measured case.

    Attributes:
        name: its name in the table.
        wanted: the limit in seconds of CPU time.
        run: the code to measure; it gets a fresh directory and keeps nothing in memory.
    """

    name: str
    wanted: float
    run: Callable[[Path], object]


def key(number: int) -> bytes:
    """A public key of the right form."""
    parts = (KIND.encode(), number.to_bytes(32, "big"))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def write_config(directory: Path, blocks: int) -> Path:
    """Write the configuration of a typical cluster: a block for each host, and some for all."""
    path = directory / "config"
    text = "".join(
        f"Host node{n} alias{n}\n  HostName 10.{n >> 8}.{n & 255}.1\n  Port {2000 + n}\n"
        f"  IdentityFile ~/.ssh/id_%r\n"
        for n in range(blocks)
    )
    text += "Match host 10.1.*\n  Compression yes\nHost node* !node1\n  User admin\n"
    path.write_text(text + "Host *\n  ServerAliveInterval 15\n  UserKnownHostsFile ~/known_hosts\n")
    return path


def resolve_nodes(directory: Path, blocks: int, nodes: int) -> None:
    """Read the configuration, and resolve every node."""
    options = SSHOptions(config_files=[write_config(directory, blocks)])
    cache = ConfigCache(Environment("me", str(directory), "here"))
    for number in range(nodes):
        name = f"node{number}" if number % 2 else f"other{number}"
        resolve(name, options, config_cache=cache)


def write_known_hosts(directory: Path, count: int) -> Path:
    """Write hashed lines."""
    path = directory / "known_hosts"
    path.write_text("".join(format_line(f"node{n}", KIND, key(n), True) for n in range(count)))
    return path


def settings_of(path: Path, policy: str) -> ConnectionSettings:
    """The settings of some node; each node's differ by its name only."""
    options = SSHOptions(
        config_files="none",
        known_hosts=path,
        host_key_policy=policy,
        overrides=["GlobalKnownHostsFile=none"],
    )
    return resolve("node", options, config_cache=ConfigCache())


def check_hosts(path: Path, numbers: Sequence[int], policy: str = "strict") -> None:
    """Choose the algorithms and check the key of each host, as its connection does."""
    checker, base = HostKeyChecker(), settings_of(path, policy)
    for number in numbers:
        settings = replace(base, node=f"node{number}", hostname=f"node{number}")
        checker.known_algorithms(settings)
        checker.check(settings, KIND, key(number))


def check_known(numbers: Sequence[int], directory: Path) -> None:
    """Check hosts by the file that has been written."""
    check_hosts(directory / "known_hosts", numbers)


def cases(blocks: int, nodes: int, lines: int, hosts: int, new: int) -> Iterator[Case]:
    """Yield the measured cases."""
    in_order = range(0, lines, max(1, lines // hosts))[:hosts]
    shuffled = random.Random(1).sample(range(lines), hosts)  # noqa: S311 - nothing is secret here
    yield Case(
        f"{blocks} Host blocks, {nodes} nodes",
        1.0,
        lambda directory: resolve_nodes(directory, blocks, nodes),
    )
    for name, numbers in (("in order", in_order), ("shuffled", shuffled)):
        yield Case(
            f"{lines} hashed known_hosts, {hosts} nodes {name}",
            1.0,
            partial(check_known, numbers),
        )
    yield Case(
        f"{new} new hosts added to an empty known_hosts",
        1.0,
        lambda directory: check_hosts(directory / "new", range(new), "accept-new"),
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table; 1 if a case takes longer than wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=1000, help="Host blocks")
    parser.add_argument("--nodes", type=int, default=2000, help="nodes to resolve")
    parser.add_argument("--lines", type=int, default=10_000, help="hashed known_hosts lines")
    parser.add_argument("--hosts", type=int, default=500, help="nodes to check")
    parser.add_argument("--new", type=int, default=1000, help="hosts to add")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    sizes = {name: value for name, value in settings.items() if name != "rounds"}
    bars = []
    readings = {}
    for case in cases(**sizes):
        print(f"benchmarks.sshconfig: {case.name}", file=sys.stderr)
        readings[case.name] = times = [seconds(case, options.lines) for _ in range(options.rounds)]
        bars.append(Bar.at_most(case.name, statistics.median(times), case.wanted, " s"))
    about = {"settings": settings, "versions": versions([]), "machine": machine()}
    print_introduction(__doc__, about)
    print(bar_table(bars))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            found = {"readings": readings, "bars": [asdict(bar) for bar in bars]}
            json.dump({**about, **found}, file, indent=2)
    return int(any(bar.held is False for bar in bars))


def seconds(case: Case, lines: int) -> float:
    """Return the CPU time of a case in seconds. Its files are written before."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        if "hashed" in case.name:
            write_known_hosts(directory, lines)
        begin = time.process_time()
        case.run(directory)
        return time.process_time() - begin


if __name__ == "__main__":
    sys.exit(main())
