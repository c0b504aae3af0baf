"""What do an import, ``pyclush --help`` and a node set cost before anything is done?

Each program runs several times, each time in a Python process of its own. CPU and wall time are
medians, less those of ``python -c pass``. All modules are compiled already. A program that does not
need paramiko must not import it.

Run as ``python -m benchmarks.imports``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Optional

from benchmarks.clients import PACKAGES
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell
from benchmarks.measure import Meter, Missing

RUN = "run"
PARAMIKO = "paramiko imported"
NOTHING = "python -c pass"
IMPORT = "import pyclustershell"
NODE_SET = "NodeSet('node[1-99]')"
HELP = "pyclush --help"
TASK = "task_self()"

# Set if no file should be left in the folders of the sources.
NEVER_COMPILED = "PYTHONDONTWRITEBYTECODE"

# Ends with 1 if paramiko was imported, however the program ends.
WATCHED = (
    "import atexit, os, sys\n"
    "atexit.register(lambda: (sys.stdout.flush(), os._exit('paramiko' in sys.modules)))\n"
)
HELP_ASKED = "import sys; sys.argv[1:] = ['--help']; "
OURS = {
    IMPORT: "import pyclustershell",
    NODE_SET: "from pyclustershell import NodeSet; len(NodeSet('node[1-99]'))",
    HELP: HELP_ASKED + "from pyclustershell.cli.clush import main; main()",
    TASK: "from pyclustershell import task_self; task_self()",
}
THEIRS = {
    "import ClusterShell.NodeSet": "from ClusterShell.NodeSet import NodeSet",
    "import ClusterShell.Task": "from ClusterShell.Task import task_self; task_self()",
    "clush --help": HELP_ASKED + "from ClusterShell.CLI.Clush import main; main()",
    "import paramiko": "import paramiko",
    "import asyncssh": "import asyncssh",
    "import pssh.clients": "import pssh.clients",
}


def measure(name: str, code: str, ours: bool = False) -> Contender:
    """A contender that runs this code in processes of their own."""

    def run(setup: Setup, meter: Meter) -> None:
        def once() -> int:
            done = subprocess.run(
                [sys.executable, "-X", f"pycache_prefix={setup['cache']}", "-c", WATCHED + code],
                env={key: it for key, it in os.environ.items() if key != NEVER_COMPILED},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if b"Error" in done.stderr:
                raise Missing(done.stderr.decode().strip().splitlines()[-1])
            return done.returncode

        # The first one compiles the modules that are not compiled yet.
        meter.facts[PARAMIKO] = once()
        with meter.phase(RUN):
            for _ in range(setup["times"]):
                once()

    return Contender(name, run, ours)


class Imports(Contest):
    """The contest."""

    module = "benchmarks.imports"
    contenders = (
        measure(NOTHING, "pass"),
        *(measure(name, code, ours=True) for name, code in OURS.items()),
        *(measure(name, code) for name, code in THEIRS.items()),
    )
    packages = PACKAGES
    rounds = 5

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--times", type=int, default=5, help="per round (%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A directory for compiled files."""
        with tempfile.TemporaryDirectory() as cache:
            yield {"times": options.times, "cache": cache}

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each program."""
        header = ["program", "CPU ms", "wall ms", "imports paramiko"]
        rows = [
            [
                name,
                cell(self._more(results, name, options, "cpu"), ".1f", 1000),
                cell(self._more(results, name, options, "wall"), ".1f", 1000),
                "yes" if results.fact(name, PARAMIKO) else "no",
            ]
            for name in results.names
        ]
        return header, rows

    def _more(
        self, results: Results, name: str, options: argparse.Namespace, what: str
    ) -> Optional[float]:
        """Seconds more than ``python -c pass``; for that itself, all of them."""
        figure, nothing = results.median(name, RUN), results.median(NOTHING, RUN)
        if figure is None or nothing is None:
            return None
        less = getattr(nothing, what) if name != NOTHING else 0.0
        return float((getattr(figure, what) - less) / options.times)

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """Time of the import, and the programs that import paramiko."""
        found = []
        for what, unit in (("cpu", "CPU"), ("wall", "wall")):
            more = self._more(results, IMPORT, options, what)
            found.append(
                Bar.at_most(
                    f"{IMPORT}: {unit} time, more than {NOTHING}",
                    None if more is None else 1000 * more,
                    40,
                    " ms",
                )
            )
        for name in (IMPORT, NODE_SET, HELP):
            imported = results.fact(name, PARAMIKO)
            told = "not measured" if imported is None else "with" if imported else "without"
            held = None if imported is None else not imported
            found.append(Bar(f"{name}: paramiko", "without", told, held))
        return found


main = Imports().main

if __name__ == "__main__":
    sys.exit(main())
