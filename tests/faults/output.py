"""``python -m tests.faults.output``: much output: whole, in order, in bounded memory.

Each part runs in a process of its own, against one OpenSSH server, and prints its time and memory.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyclustershell.event import EventHandler
from pyclustershell.task import Task, task_self
from tests.servers.sshd import Sshd

ROOT = Path(__file__).parents[2]
_MB = 1 << 20
_LINE = 1024  # bytes, with its newline


def numbered(size: int, redirect: str = "") -> str:
    """A command that prints numbered lines, ``size`` bytes in all."""
    text = f'BEGIN {{ for (i = 0; i < {size // _LINE}; i++) printf "%0{_LINE - 1}d\\n", i }}'
    return f"awk '{text}' {redirect}"


class Counter(EventHandler):
    """Checks that numbered lines come whole and in order, and keeps nothing.

    Args:
        pause: seconds to sleep at every hundredth line.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.next: dict[tuple[str, str], int] = {}
        self.ended: dict[str, int] = {}
        self._pause = pause

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        number = self.next.get((node, sname), 0)
        if len(msg) != _LINE - 1 or int(msg) != number:
            raise ValueError(f"{node} {sname}: {msg[-20:]!r} where {number} was expected")
        self.next[node, sname] = number + 1
        if self._pause and number % 100 == 0:
            time.sleep(self._pause)

    def ev_hup(self, worker: Any, node: str, rc: Any) -> None:
        self.ended[node] = rc

    def check(self, lines: int, streams: int) -> None:
        """All streams have come to their end."""
        if set(self.ended.values()) != {0} or [*self.next.values()] != [lines] * streams:
            raise ValueError(f"{self.ended} {self.next}")


def one(task: Task) -> None:
    """1 GB from one node, on both streams."""
    counter = Counter()
    both = f"{numbered(512 * _MB, '>&2')} & {numbered(512 * _MB)}; wait"
    task.run(both, nodes="node1", handler=counter, stderr=True)
    counter.check(512 * _MB // _LINE, 2)


def many(task: Task) -> None:
    """50 MB from each of 64 nodes, with a slow handler."""
    counter = Counter(pause=0.001)
    task.run(numbered(50 * _MB), nodes="node[1-64]", handler=counter)
    counter.check(50 * _MB // _LINE, 64)


def line(task: Task) -> None:
    """A line of 500 MB, without a newline."""
    size = 500 * _MB
    got = []

    class Keeper(EventHandler):
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            got.append((len(msg), msg.count(b"x")))

    task.set_info("line_limit", 1 << 30)
    task.run(f"head -c {size} /dev/zero | tr '\\0' x", nodes="node1", handler=Keeper())
    if got != [(size, size)] or task.max_retcode() != 0:
        raise ValueError(f"{got}, rc {task.max_retcode()}")


def too_long(task: Task) -> None:
    """A line without end: its node fails, at the limit of 64 MiB."""
    task.run("tr '\\0' x < /dev/zero", nodes="node1")
    [(failure, _nodes)] = task.iter_failures()
    print(f"  {failure}")


def nodes(task: Task) -> None:
    """2,000 nodes in one run."""
    task.configure_ssh(connect_timeout=120)
    task.run("echo ok", nodes="node[1-2000]")
    [(output, names)] = task.iter_buffers()
    if bytes(output) != b"ok" or len(names) != 2000 or list(task.iter_failures()):
        raise ValueError(f"{len(names)} nodes, {list(task.iter_failures())}")


PARTS: dict[str, Callable[[Task], None]] = {
    part.__name__: part for part in (one, many, line, too_long, nodes)
}


def _peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(name: str, config: str) -> None:
    with task_self() as task:
        task.set_info("ssh_options", f"-F {config}")
        task.set_default("stdout_msgtree", name in ("nodes",))
        task.set_default("stderr_msgtree", False)
        task.run("true", nodes="node1")
        before, began = _peak(), time.monotonic()
        print(f"{name}: {PARTS[name].__doc__}", flush=True)
        PARTS[name](task)
        took = time.monotonic() - began
        print(f"  {took:.1f} s, {before:.0f} MB before, {_peak():.0f} MB at the most", flush=True)


def main() -> int:
    """Run the parts that the command line names, or all."""
    if sys.argv[1:2] == ["--part"]:
        _run(*sys.argv[2:4])
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        with Sshd(directory, nodes=2000) as server:
            for name in sys.argv[1:] or PARTS:
                command = [sys.executable, "-m", __spec__.name, "--part", name]
                failed |= subprocess.call([*command, str(server.ssh_config)], cwd=ROOT)
    return failed


if __name__ == "__main__":
    sys.exit(main())
