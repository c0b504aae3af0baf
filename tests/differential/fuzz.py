"""Scripts that seeds write, on both: ``python -m tests.differential.fuzz 0-99 [SEED...]``.

Prints the differences between the traces, and the command that replays the seed.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.differential.compare import Result, check_order, comparable
from tests.differential.run import OURS, THEIRS
from tests.servers.sshd import Sshd

ROOT = Path(__file__).parents[2]


def traces(names: list[str], ssh_config: str, deadline: float) -> tuple[dict[str, Result], ...]:
    """The records of scenarios, on ClusterShell and on this package.

    Args:
        names: the scenarios.
        ssh_config: the configuration with which their nodes can be reached.
        deadline: seconds for all of them.
    """
    environment = {
        **os.environ,
        "CLUSTERSHELL_CFGDIR": os.devnull,
        "PYTHONPATH": str(ROOT),
    }
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.differential.run", which, ssh_config, *names],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for which in (THEIRS, OURS)
    ]
    outputs = [run.communicate(timeout=deadline)[0] for run in runs]
    if any(run.returncode for run in runs):
        raise RuntimeError(f"the runs ended with {[run.returncode for run in runs]}")
    return tuple(json.loads(output) for output in outputs)


def difference(theirs: Result, ours: Result) -> str:
    """The differences of two traces, as text; empty if there are none."""
    for which, result in (("ClusterShell", theirs), ("here", ours)):
        if "error" in result:
            return f"{which}: {result['error']}"
    check_order(ours["events"])
    texts = [lines(comparable(result)) for result in (theirs, ours)]
    return "\n".join(difflib.unified_diff(*texts, "ClusterShell", "here", lineterm="", n=1))


def lines(trace: dict[str, Any]) -> list[str]:
    """A comparable trace, one event or note on a line."""
    events = [f"{where}: {event}" for where, them in trace["events"].items() for event in them]
    return [*events, *(f"{what}: {value}" for what, value in trace["notes"])]


def main(arguments: list[str]) -> int:
    """Run the seeds that the command line names."""
    seeds: list[int] = []
    for argument in arguments:
        first, _, last = argument.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    names = [f"generated.{seed}" for seed in seeds]
    with tempfile.TemporaryDirectory() as directory, Sshd(Path(directory), nodes=10) as sshd:
        theirs, ours = traces(names, str(sshd.ssh_config), deadline=20.0 + 10.0 * len(names))
    differing = []
    for seed, name in zip(seeds, names):
        text = difference(theirs[name], ours[name])
        if text:
            differing.append(seed)
            print(f"--- seed {seed}: python -m tests.differential.fuzz {seed}\n{text}")
    print(f"{len(seeds)} scripts, {len(differing)} differ: {differing}")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
