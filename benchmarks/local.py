"""Local commands: what does a line cost on its way to a handler, and what does a command cost?

One command prints 500,000 lines of 60 bytes, which are handed to an event handler one by one, and
gathered as well, as is the default. Then 300 commands (``echo ok``) run on this host with a fanout
of 64: each by a worker of its own (WorkerPopen), and as one worker over 300 nodes (ExecWorker). CPU
time is that of the client and of the commands.

The clients take turns, round by round. Run as ``python -m benchmarks.local``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Callable

from benchmarks.clients import PACKAGES
from benchmarks.contest import Bar, Contender, Contest, Results, Setup, cell, quotient
from benchmarks.measure import Meter

LINES = "lines"
POPEN = "WorkerPopen"
EXEC = "ExecWorker"
LINE = "%06d " + "x" * 52
FANOUT = 64
COMMAND = "echo ok"


def client(task_module: str, event_module: str, worker_module: str) -> Callable[..., None]:
    """The same program, on one library or the other."""

    def run(setup: Setup, meter: Meter) -> None:
        base: Any = import_module(event_module).EventHandler
        exec_worker: Any = import_module(worker_module).ExecWorker
        task: Any = import_module(task_module).task_self()
        task.set_info("fanout", FANOUT)
        task.run(COMMAND, key="warm up")

        class Counter(base):  # type: ignore[misc]
            lines = 0

            def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
                self.lines += 1

        counter = Counter()
        with meter.phase(LINES):
            task.run(f"cat {setup['file']}", handler=counter)
        if counter.lines != setup["lines"]:
            raise RuntimeError(f"{counter.lines} lines of {setup['lines']}")
        task.flush_buffers()

        count = setup["commands"]
        with meter.phase(POPEN):
            for number in range(count):
                task.shell(COMMAND, key=str(number))
            task.resume()
            answers = sum(len(keys) for _, keys in task.iter_buffers())
        if answers != count:
            raise RuntimeError(f"{answers} answers of {count}")
        with meter.phase(EXEC):
            task.schedule(exec_worker(f"node[1-{count}]", None, timeout=60, command=COMMAND))
            task.resume()
            answers = sum(len(keys) for _, keys in task.iter_buffers())
        if answers != count:
            raise RuntimeError(f"{answers} answers of {count}")

    return run


OURS = "pyclustershell"
RIVAL = "ClusterShell"


class Local(Contest):
    """The contest."""

    module = "benchmarks.local"
    contenders = (
        Contender(
            OURS,
            client("pyclustershell.task", "pyclustershell.event", "pyclustershell.worker.exec"),
            ours=True,
        ),
        Contender(
            RIVAL, client("ClusterShell.Task", "ClusterShell.Event", "ClusterShell.Worker.Exec")
        ),
    )
    packages = PACKAGES

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""
        parser.add_argument("--lines", type=int, default=500_000, help="of one (%(default)s)")
        parser.add_argument("--commands", type=int, default=300, help="(%(default)s)")

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """A file to print."""
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "lines"
            file.write_text("".join(f"{LINE % number}\n" for number in range(options.lines)))
            yield {"file": str(file), "lines": options.lines, "commands": options.commands}

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """A row for each library."""
        header = ["client", "thousand lines per CPU s", "per wall s"]
        for phase in (POPEN, EXEC):
            header += [f"{phase}: CPU ms each", "wall s"]
        rows = []
        for name in results.names:
            row = [name]
            for figure in (results.cpu(name, LINES), results.wall(name, LINES)):
                row += [cell(quotient(options.lines / 1000, figure), ".0f")]
            for phase in (POPEN, EXEC):
                row += [
                    cell(results.cpu(name, phase), ".2f", 1000 / options.commands),
                    cell(results.wall(name, phase), ".2f"),
                ]
            rows.append(row)
        return header, rows

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """Lines per second; commands no dearer."""
        found = []
        for unit, figure in (("CPU", results.cpu), ("wall", results.wall)):
            times = quotient(figure(RIVAL, LINES), figure(OURS, LINES))
            found.append(
                Bar.at_least(f"lines to a handler per {unit} second, times {RIVAL}'s", times, 5)
            )
        for phase in (POPEN, EXEC):
            share = quotient(results.cpu(OURS, phase), results.cpu(RIVAL, phase))
            what = f"{options.commands} local commands, {phase}: CPU, of {RIVAL}'s"
            found.append(Bar.at_most(what, share, 1))
        return found


main = Local().main

if __name__ == "__main__":
    sys.exit(main())
