"""``python -m tests.faults.interrupts``: real SIGINTs at random moments leave a task that works.

Each round runs something, and gets one SIGINT or several. Then the same task must run commands on
all nodes and on this host, with the right results and no more connections than before.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from pyclustershell import EventHandler, Task, task_self
from pyclustershell.loopback import LoopbackCluster

NODES = "node[1-4]"
_NAMES = ["node1", "node2", "node3", "node4"]

# Seconds for one round. A process that hangs prints the stacks of its threads.
_DEADLINE = 60

Action = Callable[[Task], Any]


class Handler(EventHandler):
    """A handler with events of its own, a little work, and more commands."""

    def __init__(self, more: int = 1) -> None:
        self.more = more

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        sum(range(2000))

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        if self.more:
            self.more -= 1
            worker.task.shell("echo more", nodes="node1")
            worker.task.shell("echo more", key="more", handler=Handler(0))
            worker.task.timer(0.001, self)

    def ev_timer(self, timer: Any) -> None:
        sum(range(2000))


def remote(task: Task) -> None:
    task.run("echo out; echo err >&2; sleep 0.01", nodes=NODES, stderr=True, handler=Handler())


def local(task: Task) -> None:
    task.run("echo %h; cat", nodes=NODES, remote=False, stdin=False, handler=Handler(2))


@contextmanager
def scheduling(task: Task) -> Iterator[None]:
    """Schedule, and run: if an interrupt comes between the two, nothing shall stay scheduled."""
    try:
        yield
    except KeyboardInterrupt:
        task.abort()
        raise


def both(task: Task) -> None:
    with scheduling(task):
        worker = task.shell("cat", nodes=NODES, handler=Handler(), stdin=True)
        worker.write(b"x" * 100_000 + b"\n")
        worker.set_write_eof()
        task.shell("exit 3", key="key")
        task.timer(0.005, Handler(), 0.005).invalidate()
        task.resume()


def timeouts(task: Task) -> None:
    task.run("sleep 5", nodes=NODES, timeout=0.01)
    task.run("sleep 5", nodes=NODES, remote=False, timeout=0.01)


def new_connections(task: Task) -> None:
    task.close()
    remote(task)


def copies(task: Task) -> None:
    with scheduling(task):
        task.copy(__file__, "copy", nodes=NODES)
        task.resume()


def narrow(task: Task) -> None:
    task.set_info("fanout", 1)
    try:
        task.run("echo out", nodes=NODES, handler=Handler())
    finally:
        task.set_info("fanout", 64)


def aborts(task: Task) -> None:
    with scheduling(task):
        task.shell("sleep 5", nodes=NODES)
        task.shell("sleep 5", key="key")
        task.timer(0.0, Handler())
        task.abort()
    task.port(Handler(), autoclose=True)
    remote(task)


ACTIONS: list[Action] = [
    remote,
    local,
    both,
    timeouts,
    new_connections,
    copies,
    narrow,
    aborts,
]


def interrupt_later(delays: list[float], done: threading.Event) -> None:
    """Send this process SIGINT after each delay."""
    for delay in delays:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)
    done.set()


def interrupted(action: Action, task: Task, delays: list[float]) -> bool:
    """Run an action, with SIGINTs in the meantime. Returns True if one has interrupted it."""
    done = threading.Event()
    thread = threading.Thread(target=interrupt_later, args=(delays, done))
    cut = False
    started = finished = False
    while not done.is_set():
        try:
            if not started:
                started = True
                thread.start()
                action(task)
                finished = True
            while not done.is_set():
                time.sleep(0.0005)
        except KeyboardInterrupt:
            cut = cut or not finished
    while thread.is_alive():
        time.sleep(0.0005)
    return cut


def check(task: Task) -> None:
    """Check that the task works: the right results of all nodes, and none of another run."""
    worker = task.shell("echo out; exit 3", nodes=NODES, timeout=_DEADLINE)
    task.shell("echo here; exit 4", key="key", timeout=_DEADLINE)
    task.resume()
    assert not list(task.iter_failures()), [str(f) for f, _ in task.iter_failures()]
    codes = sorted((code, sorted(map(str, keys))) for code, keys in task.iter_retcodes())
    assert codes == [(3, _NAMES), (4, ["key"])], codes
    assert {bytes(b): sorted(n) for b, n in worker.iter_buffers()} == {b"out": _NAMES}
    assert bytes(task.key_buffer("key")) == b"here"
    stats = task.stats()
    assert stats.waiting == stats.handshakes == 0, stats
    # A timed-out command keeps its connection while it is being ended.
    assert len(_NAMES) <= stats.open <= 64, stats
    assert "0 clients started, 0 waiting" in repr(task), repr(task)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def main() -> int:
    """Run what the command line asks for; 1 if a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.interrupts", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="how many rounds")
    parser.add_argument("--seed", type=int, help="of the random numbers; drawn by default")
    parser.add_argument("--actions", nargs="*", help="by default all")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    chance = random.Random(seed)  # noqa: S311 - no secrets
    actions = [a for a in ACTIONS if not options.actions or a.__name__ in options.actions]
    # A shell that starts a program in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    began = time.monotonic()
    sent = 0
    cut: Counter[str] = Counter()
    with LoopbackCluster(NODES) as cluster:
        task = task_self()
        cluster.configure(task)
        task.set_info("ssh_kill_grace", 0.2)
        check(task)
        for number in range(options.runs):
            faulthandler.dump_traceback_later(_DEADLINE, exit=True)
            action = chance.choice(actions)
            delays = [chance.uniform(0, 0.06)]
            while chance.random() < 0.2:
                delays.append(chance.uniform(0, 0.01))
            sent += len(delays)
            try:
                cut[action.__name__] += interrupted(action, task, delays)
                check(task)
            except BaseException:
                print(f"seed {seed}, round {number}, {action.__name__}, {delays}", flush=True)
                raise
        faulthandler.cancel_dump_traceback_later()
        opened = task.stats().open
        task.close()
    took = time.monotonic() - began
    print(
        f"seed {seed}: {options.runs} rounds, {sent} SIGINTs in {took:.0f} s; "
        f"{opened} connections at the end; interrupted: {dict(cut)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
