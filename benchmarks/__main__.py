"""Run every program here, and write a report of the results.

RESULTS.md gets the goals with the measured figures, then each program's table. results.json gets
all readings. Run as ``python -m benchmarks``. It takes at most a quarter of an hour; the machine
should be idle meanwhile.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Optional

import benchmarks
from benchmarks.contest import Bar, bar_table
from benchmarks.measure import ROOT, machine

HERE = Path(__file__).parent


def find_programs() -> list[str]:
    """The names of the programs: the modules here that have a ``main``."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
    return [
        name
        for name in names
        if name != "__main__" and hasattr(import_module(f"benchmarks.{name}"), "main")
    ]


def run_program(name: str) -> tuple[str, dict[str, Any]]:
    """Run one program.

    Returns:
        Its output, and its findings from ``--json``: empty if it failed.
    """
    with tempfile.TemporaryDirectory() as place:
        found = Path(place) / "found.json"
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--json", str(found)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.stdout.strip(), json.loads(found.read_text()) if found.exists() else {}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the programs. Returns 1 if one of them found nothing, otherwise 0."""
    programs = find_programs()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", action="append", choices=programs, metavar="PROGRAM")
    parser.add_argument(
        "--directory", type=Path, default=HERE, help="where to write to (%(default)s)"
    )
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    report = ""
    for name in options.only or programs:
        found[name] = run_program(name)
        # After each of them: the results are kept if the run is stopped.
        report = keep(found, (time.monotonic() - begin) / 60, options.directory)
    print(report)
    return int(not all(findings for _, findings in found.values()))


def keep(found: dict[str, tuple[str, dict[str, Any]]], minutes: float, directory: Path) -> str:
    """Write both files; the report."""
    report = write_report(found, minutes)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "RESULTS.md").write_text(report, encoding="utf-8")
    programs = {name: findings for name, (_, findings) in found.items()}
    with open(directory / "results.json", "w", encoding="utf-8") as file:
        json.dump({"machine": machine(), "minutes": minutes, "programs": programs}, file, indent=1)
        file.write("\n")
    return report


def write_report(found: dict[str, tuple[str, dict[str, Any]]], minutes: float) -> str:
    """The report, in Markdown."""
    about = machine()
    lines = [
        "# Measured",
        "",
        f"By `python -m benchmarks`, on {about['date']}, in {minutes:.0f} minutes.",
        f"{about['cores']} cores of {about['cpu']}, {about['system']}, Python {about['python']}.",
        f"Load average at the end: {about['load']}; where it is large, wall times say little.",
        "CPU time is the client's, its child processes included and imports left out.",
        "",
        "## What was wanted",
        "",
        bar_table(
            [
                Bar(f"{name}: {bar['question']}", bar["wanted"], bar["measured"], bar["held"])
                for name, (_, findings) in found.items()
                for bar in findings.get("bars", ())
            ]
        ),
    ]
    for name, (printed, findings) in found.items():
        lines += ["", f"## benchmarks.{name}", ""]
        lines.append(printed if findings else f"It failed.\n\n{printed}".strip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
