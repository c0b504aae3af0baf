"""Meters, the processes they run in, and the tables of what they show."""

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

ROOT = Path(__file__).parents[1]


class Missing(Exception):
    """A client cannot be measured here, for example because it is not installed."""


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended, user and system."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one phase took, in seconds."""

    cpu: float
    wall: float


class Meter:
    """Takes the readings of one client in its own process."""

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the with block."""
        cpu, wall = cpu_seconds(), time.perf_counter()
        yield
        self.readings[name] = Reading(cpu_seconds() - cpu, time.perf_counter() - wall)


def measure_in_process(command: Sequence[str], timeout: float) -> dict[str, Reading]:
    """Run a program of this interpreter's that ends with :func:`report`.

    Args:
        command: what follows ``python``.
        timeout: seconds after which it is given up.

    Returns:
        The readings by phase.

    Raises:
        Missing: the program said so.
        RuntimeError: it failed; the text holds what it wrote to stderr.
    """
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.strip()}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "missing" in answer:
        raise Missing(answer["missing"])
    return {phase: Reading(**reading) for phase, reading in answer["readings"].items()}


def report(meter: Optional[Meter], missing: str = "") -> None:
    """Print what :func:`measure_in_process` reads."""
    if meter is None:
        print(json.dumps({"missing": missing}))
    else:
        readings = {name: dataclasses.asdict(it) for name, it in meter.readings.items()}
        print(json.dumps({"readings": readings}))


def median(readings: Sequence[Reading]) -> Reading:
    """The median of the CPU times and that of the wall times."""
    return Reading(
        cpu=statistics.median(reading.cpu for reading in readings),
        wall=statistics.median(reading.wall for reading in readings),
    )


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of packages, and of OpenSSH."""
    found = {}
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
