"""``python -m tests.faults.descriptors``: runs in which the file descriptors are used up.

As soon as a run has begun, all descriptors but a few are taken. Each node must get an outcome, and
run() must raise nothing. When there is room again, the task must work.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import subprocess
import sys
from contextlib import suppress
from typing import Any, Callable

from pyclustershell import EventHandler, Task, task_self
from pyclustershell.loopback import LoopbackCluster

NODES = "node[1-4]"
_NAMES = ["node1", "node2", "node3", "node4"]
_LIMIT = 256
_DEADLINE = 120


class Eater(EventHandler):
    """Takes all descriptors but a few as soon as the run has begun.

    Attributes:
        spare: how many it leaves.
    """

    def __init__(self, spare: int) -> None:
        self.spare = spare
        self.eaten: list[int] = []

    def ev_timer(self, timer: Any) -> None:
        with suppress(OSError):
            while True:
                self.eaten.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(self.spare):
            os.close(self.eaten.pop())

    def give_back(self) -> None:
        while self.eaten:
            os.close(self.eaten.pop())


class Later(EventHandler):
    """Schedules something in the middle of the run."""

    def __init__(self, schedule: Callable[[], Any]) -> None:
        self.schedule = schedule
        self.workers: list[Any] = []

    def ev_timer(self, timer: Any) -> None:
        self.workers.append(self.schedule())


def outcomes(worker: Any) -> list[str]:
    """The nodes that have a return code, or timed out."""
    nodes = {node for _code, found in worker.iter_retcodes() for node in found}
    return sorted(nodes | set(worker.iter_keys_timeout()))


def check(task: Task) -> None:
    """Check that the task works."""
    worker = task.shell("echo out", nodes=NODES, timeout=_DEADLINE)
    task.shell("exit 3", key="key")
    task.resume()
    assert not list(task.iter_failures()), [str(f) for f, _ in task.iter_failures()]
    assert {bytes(b): sorted(n) for b, n in worker.iter_buffers()} == {b"out": _NAMES}
    assert task.key_retcode("key") == 3


def starve(task: Task, spare: int, path: str) -> None:
    """Run everything with this number of descriptors to spare."""
    eater = Eater(spare)
    task.timer(0.0, eater)
    late = [
        Later(lambda: task.shell("echo out", nodes=NODES, timeout=4)),
        Later(lambda: task.copy(__file__, path, nodes=NODES, timeout=4)),
        Later(lambda: task.shell("echo out", nodes=NODES, remote=False)),
        Later(lambda: task.shell("echo out", nodes="nosuch.invalid", timeout=4)),
        Later(lambda: task.rcopy("/etc/hosts", os.path.dirname(path), nodes=NODES, timeout=4)),
    ]
    for handler in late:
        task.timer(0.02, handler)
    # One node alone is connected to before: its command goes on. It also loads what SSH needs.
    first = task.shell("sleep 0.5; echo out; exit 5", nodes="node1")
    try:
        task.resume()
        assert outcomes(first) == ["node1"]
        for handler in late:
            (worker,) = handler.workers
            assert outcomes(worker) == sorted(worker.nodes), (spare, worker, outcomes(worker))
    finally:
        eater.give_back()


def main() -> None:
    """Run what the command line asks for; an error ends the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.descriptors", description=__doc__)
    spares = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
    parser.add_argument("spares", nargs="*", type=int, default=spares, help="how many to leave")
    parser.add_argument("--serve", action="store_true", help="be the cluster")
    parser.add_argument("--imports", action="store_true", help="print modules loaded in the runs")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(5 * _DEADLINE, exit=True)
    if options.serve:
        with LoopbackCluster(NODES) as cluster:
            print(cluster.ssh_config, flush=True)
            sys.stdin.read()
        return
    # In another process: the servers need descriptors, too.
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.descriptors", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server, server.stdin:
        config = server.stdout.readline().strip()
        path = os.path.join(os.path.dirname(config), "copy")
        if options.imports:
            print_imports(config, path)
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (_LIMIT, _LIMIT))
        for spare in options.spares:
            with Task_(config) as task:
                starve(task, spare, path)
                check(task)
            print(f"{spare} to spare: ok", flush=True)


class Task_:  # noqa: N801 - a factory
    """A new task of this thread, for a with block."""

    def __init__(self, config: str) -> None:
        task_self().abort(kill=True)
        self.task = task_self()
        self.task.set_info("ssh_options", f"-F {config} -o ConnectTimeout=3")

    def __enter__(self) -> Task:
        return self.task

    def __exit__(self, *exc_info: object) -> None:
        self.task.abort(kill=True)


def print_imports(config: str, path: str) -> None:
    """Run something of each kind; print the modules that are loaded during the runs."""
    seen: list[str] = []
    running = False

    def hook(event: str, arguments: Any) -> None:
        if running and event == "import":
            seen.append(arguments[0])

    class Begins(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            nonlocal running
            running = True

    sys.addaudithook(hook)
    with Task_(config) as task:
        for schedule in (
            lambda: task.shell("echo out; echo err >&2", nodes=NODES),
            lambda: task.shell("echo out", nodes="nosuch.invalid"),
            lambda: task.copy(__file__, path, nodes=NODES),
            lambda: task.rcopy("/etc/hosts", os.path.dirname(path), nodes="node1"),
            lambda: task.shell("exec sleep 5", nodes=NODES, timeout=0.1),
            lambda: task.shell("exit 3", nodes=NODES, remote=False),
            lambda: task.shell("exit 3", key="key"),
        ):
            task.timer(0.0, Begins())
            schedule()
            task.resume()
            running = False
    print(*seen)


if __name__ == "__main__":
    main()
