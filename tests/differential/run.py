"""Run scenarios on one of the two: ``python -m tests.differential.run WHICH ssh_config NAME...``.

Each scenario has a process of its own, forked when everything is imported and nothing has been
started. Prints one JSON object: for each scenario its events and notes, or its traceback.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any, Callable

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
    print(json.dumps(run_all({name: find(name) for name in names}, ssh_config)))


def find(name: str) -> Callable[[Any], Any]:
    """A scenario by its name, module.function. Imports its module.

    If the import fails, the scenario is a function that raises that error.
    """
    module, _, function = name.partition(".")
    if module == "generated":
        from tests.differential.generated import play

        return functools.partial(play, seed=int(function))
    try:
        found = getattr(importlib.import_module(f"tests.differential.scenarios.{module}"), function)
    except ImportError as error:
        failure = error

        def found(trace: Any) -> None:
            raise failure

    return found  # type: ignore[no-any-return]


class Process:
    """A scenario in a process of its own, forked from this one."""

    def __init__(self, name: str, function: Any, ssh_config: str) -> None:
        self.name = name
        self.text = b""
        self.deadline = time.monotonic() + DEADLINE
        self.stacks = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by result()
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            self.fd = reader
            return
        # A group of its own, so that nothing here reaches the commands of others.
        os.setsid()
        # The result goes to standard output; the scenario's own prints must not.
        sys.stdout = sys.stderr
        # A scenario that hangs prints its stacks.
        faulthandler.dump_traceback_later(DEADLINE - 1, file=self.stacks)
        with os.fdopen(writer, "w") as pipe:
            json.dump(record(function, ssh_config), pipe)
        os._exit(0)

    def result(self) -> Any:
        """The record of the scenario. Ends the process if it still runs."""
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with self.stacks:
            self.stacks.seek(0)
            return json.loads(self.text) if self.text else {"error": self.stacks.read() or "died"}


def run_all(scenarios: dict[str, Any], ssh_config: str) -> dict[str, Any]:
    """Run scenarios, a few at a time.

    Returns:
        By name: the record of the scenario, with an "error" if it failed.
    """
    waiting = list(scenarios.items())
    running: dict[int, Process] = {}
    results: dict[str, Any] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            process = Process(*waiting.pop(0), ssh_config)
            running[process.fd] = process
        ready = select.select(list(running), [], [], 0.2)[0]
        for fd, process in list(running.items()):
            data = os.read(fd, 65536) if fd in ready else b""
            process.text += data
            if (fd in ready and not data) or time.monotonic() > process.deadline:
                del running[fd]
                results[process.name] = process.result()
    return results


def record(function: Any, ssh_config: str) -> dict[str, Any]:
    """Run a scenario here."""
    from tests.differential.trace import Trace

    trace = Trace(ssh_config)
    try:
        from ClusterShell.Task import task_self

        task_self().set_info("ssh_options", trace.ssh_options)
        function(trace)
    except BaseException:
        return {"error": traceback.format_exc(), "events": trace.events, "notes": trace.notes}
    return {"events": trace.events, "notes": trace.notes}


if __name__ == "__main__":
    main()
