"""Meters, the processes that they run in, and tables of the readings."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from pyclustershell.version import __version__

ROOT = Path(__file__).parents[1]


class Missing(Exception):
    """A contender cannot be measured here, for example because it is not installed."""


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended, user and system."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory() -> float:
    """The most memory that this process has had, in MB; without its children's.

    Linux hands ``ru_maxrss`` on to a program that a process starts, so that it may be the
    parent's; the figure in /proc is the program's own.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@dataclasses.dataclass(frozen=True)
class Reading:
    """The time of one phase, in seconds."""

    cpu: float
    wall: float


class Meter:
    """Takes the readings of one contender in its own process.

    Attributes:
        readings: what each phase took.
        facts: other figures, by name.
    """

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = {}
        self.facts: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the with block."""
        cpu, wall = cpu_seconds(), time.perf_counter()
        yield
        self.readings[name] = Reading(cpu_seconds() - cpu, time.perf_counter() - wall)

    def report(self) -> None:
        """Print what :func:`measure_in_process` reads."""
        readings = {name: dataclasses.asdict(it) for name, it in self.readings.items()}
        print(json.dumps({"readings": readings, "facts": self.facts}))


def report_missing(reason: str) -> None:
    """Print, for :func:`measure_in_process`, that a contender cannot be measured."""
    print(json.dumps({"missing": reason}))


def measure_in_process(command: Sequence[str], timeout: float) -> Meter:
    """Run a program of this interpreter's that ends with :meth:`Meter.report`.

    Args:
        command: what follows ``python``.
        timeout: seconds after which it is given up.

    Returns:
        The meter, with its readings.

    Raises:
        Missing: the program said so.
        RuntimeError: it failed; the text ends with the last line that it wrote to stderr, where
            all of them go.
    """
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command[:4])} failed: no end in {timeout:g} s") from None
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        last = done.stderr.strip().splitlines()[-1:] or ["no word why"]
        raise RuntimeError(f"{' '.join(command[:4])} failed: {last[0]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "missing" in answer:
        raise Missing(answer["missing"])
    meter = Meter()
    meter.readings = {name: Reading(**reading) for name, reading in answer["readings"].items()}
    meter.facts = answer["facts"]
    return meter


def median(readings: Sequence[Reading]) -> Reading:
    """The median of the CPU times and that of the wall times."""
    return Reading(
        cpu=statistics.median(reading.cpu for reading in readings),
        wall=statistics.median(reading.wall for reading in readings),
    )


def machine() -> dict[str, Any]:
    """The conditions of the measurement."""
    return {
        "system": platform.system() + " " + platform.release().partition("-")[0],
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0]),  # other programs in the minute before
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """This package's version, and those of others that are installed, and of OpenSSH."""
    found = {"pyclustershell": __version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    with contextlib.suppress(OSError):
        told = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False)  # noqa: S607
        found["OpenSSH"] = told.stderr.split(",")[0].partition("OpenSSH_")[2].strip()
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines.insert(1, rule)

    def cells(line: list[str]) -> Iterator[str]:
        for column, (cell, width) in enumerate(zip(line, widths)):
            yield cell.rjust(width) if column else cell.ljust(width)

    return "\n".join(f"| {' | '.join(cells(line))} |" for line in lines)


def ratio(ours: float, theirs: Optional[float]) -> str:
    """How two figures compare, for a table; '-' if one was not measured."""
    return f"{ours / theirs:.2f}" if theirs else "-"
