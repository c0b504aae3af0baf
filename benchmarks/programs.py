"""The programs: what do a million names cost in nodeset, a million lines in clubak, and a start?

``-f`` folds a million names of one cluster in random order, read from a file. ``-b`` gathers a
million lines: 1,000 lines of each of 1,000 nodes, of which five differ in one line. Each is a
process of its own, whose start is included. Then each program runs 10 times with next to nothing to
do; ``python -c pass`` is subtracted.

The clients take turns, round by round. Run as ``python -m benchmarks.programs``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

from benchmarks.clients import PACKAGES
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.measure import Meter, Missing

FOLD = "nodeset -f"
GATHER = "clubak -b"
START_NODESET = "nodeset -f node1"
START_CLUBAK = "clubak"
NOTHING = "python -c pass"
STARTS = 10

OURS = "pyclustershell"
RIVAL = "ClusterShell"

# Set if no file should be left in the folders of the sources.
NEVER_COMPILED = "PYTHONDONTWRITEBYTECODE"


def client(nodeset: str, clubak: str) -> Callable[[Setup, Meter], None]:
    """The programs of one library or the other: the modules of their main()."""

    def run(setup: Setup, meter: Meter) -> None:
        codes = {
            program: f"import sys; sys.argv[0] = {program!r}; from {module} import main; "
            "sys.exit(main())"
            for program, module in (("nodeset", nodeset), ("clubak", clubak))
        }

        def once(code: str, *arguments: str, file: str = os.devnull) -> bytes:
            with open(file, "rb") as stdin:
                done = subprocess.run(
                    [
                        *(sys.executable, "-X", f"pycache_prefix={setup['cache']}"),
                        *("-c", code, *arguments),
                    ],
                    env={key: it for key, it in os.environ.items() if key != NEVER_COMPILED},
                    stdin=stdin,
                    capture_output=True,
                    check=False,
                )
            if done.returncode:
                raise Missing(done.stderr.decode().strip().splitlines()[-1])
            return done.stdout

        # The first ones compile the modules.
        once(codes["nodeset"], "-f", "node1")
        once(codes["clubak"])
        with meter.phase(FOLD):
            folded = once(codes["nodeset"], "-f", file=setup["names"])
        if folded.decode() != f"node[0-{setup['count'] - 1}]\n":
            raise RuntimeError(f"{folded[:60]!r}")
        with meter.phase(GATHER):
            gathered = once(codes["clubak"], "-b", file=setup["lines"])
        if gathered.count(b"-" * 15) != 4:
            raise RuntimeError(f"{gathered[:60]!r}")
        for phase, code, arguments in (
            (NOTHING, "pass", ()),
            (START_NODESET, codes["nodeset"], ("-f", "node1")),
            (START_CLUBAK, codes["clubak"], ()),
        ):
            with meter.phase(phase):
                for _ in range(STARTS):
                    once(code, *arguments)

    return run


class Programs(Contest):
    """The contest."""

    module = "benchmarks.programs"
    contenders = (
        Contender(OURS, client("pyclustershell.cli.nodeset", "pyclustershell.cli.clubak"), True),
        Contender(RIVAL, client("ClusterShell.CLI.Nodeset", "ClusterShell.CLI.Clubak")),
    )
    packages = PACKAGES

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--count", type=int, default=1_000_000, help="names (%(default)s)")
        parser.add_argument("--nodes", type=int, default=1000, help="(%(default)s)")
        parser.add_argument("--lines", type=int, default=1000, help="of a node (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """The files to read."""
        with tempfile.TemporaryDirectory() as place:
            names, lines = Path(place) / "names", Path(place) / "lines"
            numbers = list(range(options.count))
            random.Random(1).shuffle(numbers)  # noqa: S311 no secret
            names.write_text("".join(f"node{number}\n" for number in numbers))
            odd = options.lines // 2
            with lines.open("w") as file:
                for line in range(options.lines):
                    file.writelines(
                        f"node{node}: line {line}{' differs' * (line == odd and node < 5)}\n"
                        for node in range(options.nodes)
                    )
            yield {
                "names": str(names),
                "lines": str(lines),
                "count": options.count,
                "cache": place,
            }

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each library."""
        header = ["client", f"{FOLD}: CPU s", f"{GATHER}: CPU s"]
        header += [f"{phase}: CPU ms more" for phase in (START_NODESET, START_CLUBAK)]
        rows = [
            [
                name,
                *(cell(results.cpu(name, phase), ".2f") for phase in (FOLD, GATHER)),
                *(
                    cell(self._start(results, name, phase), ".1f", 1000)
                    for phase in (START_NODESET, START_CLUBAK)
                ),
            ]
            for name in results.names
        ]
        return header, rows

    @staticmethod
    def _start(results: Results, name: str, phase: str) -> Optional[float]:
        """The seconds of a start, without those of Python."""
        start, nothing = results.cpu(name, phase), results.cpu(name, NOTHING)
        return None if start is None or nothing is None else (start - nothing) / STARTS

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """Seconds of a million names; lines per second; starts."""
        lines = options.nodes * options.lines
        found = [
            Bar.at_most(f"{FOLD}: CPU of {options.count} names", results.cpu(OURS, FOLD), 3, " s"),
            Bar.at_least(
                f"{GATHER}: {lines} lines per CPU second, times {RIVAL}'s",
                quotient(results.cpu(RIVAL, GATHER), results.cpu(OURS, GATHER)),
                10,
            ),
        ]
        for phase in (START_NODESET, START_CLUBAK):
            seconds = self._start(results, OURS, phase)
            more = None if seconds is None else 1000 * seconds
            found.append(
                Bar.at_most(f"{phase}: CPU of a start, more than Python's", more, 40, " ms")
            )
            share = quotient(seconds, self._start(results, RIVAL, phase))
            found.append(Bar.at_most(f"{phase}: CPU of a start, of {RIVAL}'s", share, 1))
        return found


main = Programs().main

if __name__ == "__main__":
    sys.exit(main())
