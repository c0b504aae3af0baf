"""Run scenarios on one implementation: ``python -m tests.differential.run ours ssh_config NAME...``.

Each scenario has a process of its own, forked when everything is imported and nothing has been
started. Prints one JSON object: for each scenario its events and notes, or its traceback.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pkgutil
import select
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

THEIRS = "clustershell"
OURS = "pyclustershell"

AT_ONCE = 4
DEADLINE = 20.0  # seconds for one scenario


def main() -> None:
    """Run the scenarios that the command line names."""
    implementation, ssh_config, *names = sys.argv[1:]
    # ClusterShell warns of old handlers' signatures, which are under test here.
    warnings.simplefilter("ignore", DeprecationWarning)
    if implementation == OURS:
        from pyclustershell.compat import install_as_clustershell

        install_as_clustershell()
    scenarios = load()
    print(json.dumps(run_all({name: scenarios[name] for name in names}, ssh_config)))


def load() -> dict[str, Any]:
    """All scenarios, and with them all that they import."""
    from tests.differential import scenarios

    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(scenarios.__path__):
        module = importlib.import_module(f"{scenarios.__name__}.{info.name}")
        for name, function in vars(module).items():
            if callable(function) and getattr(function, "__module__", "") == module.__name__:
                if not name.startswith("_") and not isinstance(function, type):
                    found[f"{info.name}.{name}"] = function
    return found


def run_all(scenarios: dict[str, Any], ssh_config: str) -> dict[str, Any]:
    """Run scenarios, a few at a time.

    Returns:
        By name: what the scenario recorded, or {"error": text}.
    """
    waiting = list(scenarios.items())
    running: dict[int, tuple[str, int, bytearray, float]] = {}
    results: dict[str, Any] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name, function = waiting.pop(0)
            pid, fd = fork(function, ssh_config)
            running[fd] = (name, pid, bytearray(), time.monotonic() + DEADLINE)
        for fd in select.select(list(running), [], [], 0.2)[0]:
            name, pid, text, _ = running[fd]
            data = os.read(fd, 65536)
            text += data
            if not data:
                os.close(fd)
                del running[fd]
                os.waitpid(pid, 0)
                results[name] = json.loads(text) if text else {"error": "died without a word"}
        for fd, (name, pid, _, deadline) in list(running.items()):
            if time.monotonic() > deadline + 5:  # faulthandler ends it before
                os.kill(pid, 9)
    return results


def fork(function: Any, ssh_config: str) -> tuple[int, int]:
    """Start a scenario in a process of its own.

    Returns:
        Its process id, and the descriptor from which its results can be read.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    # A group of its own, so that nothing here reaches the commands of others.
    os.setsid()
    with tempfile.TemporaryFile("w+") as stacks:
        # What hangs tells where, and ends.
        faulthandler.dump_traceback_later(DEADLINE, file=stacks)
        result = record(function, ssh_config)
    with os.fdopen(writer, "w") as pipe:
        json.dump(result, pipe)
    os._exit(0)


def record(function: Any, ssh_config: str) -> dict[str, Any]:
    """Run a scenario here."""
    from tests.differential.trace import Trace

    trace = Trace()
    try:
        from ClusterShell.Task import task_self

        task_self().set_info("ssh_options", f"-F {ssh_config}")
        function(trace)
    except BaseException:
        return {"error": traceback.format_exc(), "events": trace.events, "notes": trace.notes}
    return {"events": trace.events, "notes": trace.notes}


if __name__ == "__main__":
    main()
