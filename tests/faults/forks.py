"""``python -m tests.faults.forks``: programs that fork while tasks exist, many times.

Each pattern runs in this process, with a cluster of its own on 127.0.0.1. Children end in the
ordinary way (handlers of atexit, garbage collection), unless the pattern says otherwise.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from pyclustershell import EventHandler, Task, task_self
from pyclustershell.loopback import LoopbackCluster

NODES = [f"node{number}" for number in range(1, 5)]

# Seconds for one round of one pattern. A process that hangs prints the stacks of its threads.
_DEADLINE = 16


# What nc does: passes bytes between its standard streams and a TCP connection.
RELAY = """
import os, socket, sys, threading
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        sock.sendall(data)
threading.Thread(target=up, daemon=True).start()
while data := sock.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""


def run(task: Task, cluster: LoopbackCluster, options: str = "") -> None:
    """Run commands on all nodes and here; check that all of them are right.

    Args:
        task: the task.
        cluster: the cluster.
        options: more options of ssh.
    """
    task.set_info("ssh_options", f"-F {cluster.ssh_config} {options}")
    remote = task.shell("echo out", nodes=",".join(NODES), timeout=_DEADLINE)
    task.shell("cat; exit 3", key="here", stdin=False)
    task.resume()
    assert not list(task.iter_failures()), [str(f) for f, _ in task.iter_failures()]
    assert {bytes(b): sorted(n) for b, n in remote.iter_buffers()} == {b"out": NODES}
    assert sorted((code, sorted(map(str, n))) for code, n in task.iter_retcodes()) == [
        (0, NODES),
        (3, ["here"]),
    ]


def fork(in_child: Callable[[], Any]) -> int:
    """Fork; the child calls a function and ends in the ordinary way. Returns its process id."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(_DEADLINE // 2)
        in_child()
        sys.exit(0)
    return pid


def wait_for(pid: int) -> None:
    """Wait for a child, and check that it has ended well."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"the child ended with {code}"


@contextmanager
def connections_stay(task: Task, cluster: LoopbackCluster, options: str = "") -> Iterator[None]:
    """Check that the task's connections survive the with block, and serve it again."""
    run(task, cluster, options)
    opened = task.stats().opened
    yield
    run(task, cluster, options)
    assert task.stats().opened == opened == len(NODES)


# -- the patterns --


def idle(cluster: LoopbackCluster, options: str = "") -> None:
    """A program forks between two runs; the child uses its own task, and the inherited one."""
    task = task_self()

    def in_child() -> None:
        own = task_self()
        assert own is not task
        for used in (own, task):
            run(used, cluster, options)
            assert used.stats().opened == len(NODES)

    with connections_stay(task, cluster, options):
        wait_for(fork(in_child))
        wait_for(fork(lambda: None))
        wait_for(fork(task.close))


def jump_host(cluster: LoopbackCluster) -> None:
    """As :func:`idle`; the connections lead through a jump host."""
    idle(cluster, "-J gateway")


def proxy_command(cluster: LoopbackCluster) -> None:
    """As :func:`idle`; the connections lead through local commands."""
    script = os.path.join(cluster.home("node1"), "relay.py")
    with open(script, "w") as file:
        file.write(RELAY)
    idle(cluster, f"-o 'ProxyCommand={sys.executable} -S {script} %h %p'")


def running(cluster: LoopbackCluster) -> None:
    """A program forks while another thread's task runs commands, and starts more of them."""
    task = Task()
    cluster.configure(task)
    stop = threading.Event()

    class Again(EventHandler):
        """Runs a local command after the other, until told to stop."""

        def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
            assert rc == 5
            if not stop.is_set():
                worker.task.shell("exit 5", key="loop", handler=self)

    started = threading.Event()
    waiting = {*NODES}

    class Started(EventHandler):
        """Notes when all commands run."""

        def ev_pickup(self, worker: Any, node: Any) -> None:
            waiting.discard(node)
            if not waiting:
                started.set()

    remote = task.shell(
        "read line; echo $line", nodes=",".join(NODES), stdin=True, handler=Started()
    )
    task.shell("exit 5", key="loop", handler=Again())
    task.resume()
    # Not before: the cluster's threads are in the middle of key exchanges, and a child that is made
    # while another thread is in OpenSSL may inherit a lock of OpenSSL's that nobody gives back.
    assert started.wait(_DEADLINE)
    try:
        for in_child in (lambda: None, lambda: run(task_self(), cluster), task.join):
            wait_for(fork(in_child))
    finally:
        stop.set()
        task.post(remote.write, b"done\n")
        task.post(remote.set_write_eof)
        task.join()
    assert [(bytes(b), sorted(n)) for b, n in remote.iter_buffers()] == [(b"done", NODES)]
    assert [(code, sorted(n)) for code, n in remote.iter_retcodes()] == [(0, NODES)]
    task.abort(kill=True)
    task.thread.join(_DEADLINE)


def in_handler(cluster: LoopbackCluster) -> None:
    """A handler forks. The child ends there; or it returns, and finds that the run is over."""
    task = task_self()
    cluster.configure(task)
    parent = os.getpid()

    class Forks(EventHandler):
        def __init__(self, in_child: Callable[[], Any]) -> None:
            self.in_child = in_child
            self.forked = False

        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            if not self.forked:
                self.forked = True
                pid = os.fork()
                if pid == 0:
                    signal.alarm(_DEADLINE // 2)
                    self.in_child()
                else:
                    wait_for(pid)

    for in_child in (lambda: sys.exit(0), lambda: run(task_self(), cluster), lambda: None):
        # The fanout of 2 leaves nodes that wait: the child must not start their commands.
        task.set_info("fanout", 2)
        nodes = ",".join(NODES)
        worker = task.shell("echo out; echo x >> count", nodes=nodes, handler=Forks(in_child))
        local = task.shell("echo x; sleep 0.1; exit 3", key="k", handler=Forks(in_child))
        task.resume()
        if os.getpid() != parent:
            sys.exit(0)
        assert {bytes(b): sorted(n) for b, n in worker.iter_buffers()} == {b"out": NODES}
        assert local.retcode() == 3
    for node in NODES:
        count = os.path.join(cluster.home(node), "count")
        with open(count) as file:
            assert file.read() == 3 * "x\n"
        os.remove(count)


def _run_in_worker(path: str) -> int:
    task = task_self()
    task.set_info("ssh_options", f"-F {path}")
    task.run("echo out", nodes=",".join(NODES), timeout=_DEADLINE)
    assert {bytes(b): sorted(n) for b, n in task.iter_buffers()} == {b"out": NODES}
    return os.getpid()


def pool(cluster: LoopbackCluster) -> None:
    """multiprocessing forks a pool of processes, which run commands."""
    task = task_self()
    with connections_stay(task, cluster):
        with multiprocessing.get_context("fork").Pool(2) as processes:
            pids = processes.map(_run_in_worker, [cluster.ssh_config] * 4, chunksize=1)
            processes.close()
            processes.join()
        assert os.getpid() not in pids


def daemon(cluster: LoopbackCluster) -> None:
    """A program forks twice; the first child ends at once, the second one works on."""
    task = task_self()
    receiver, sender = os.pipe()

    def work() -> None:
        os.setsid()
        run(task_self(), cluster)
        run(task, cluster)
        os.write(sender, b"ok")

    def in_child() -> None:
        os.setsid()
        fork(work)

    with connections_stay(task, cluster):
        wait_for(fork(in_child))
        os.close(sender)
        assert os.read(receiver, 10) == b"ok"
        os.close(receiver)


PATTERNS = {
    "idle": idle,
    "jump_host": jump_host,
    "proxy_command": proxy_command,
    "running": running,
    "in_handler": in_handler,
    "pool": pool,
    "daemon": daemon,
}


def main() -> None:
    """Run what the command line asks for; an error ends the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.forks", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=list(PATTERNS), help="by default all")
    parser.add_argument("--runs", type=int, default=50, help="how often to run each")
    options = parser.parse_args()
    # Not faulthandler's own deadline: its lock is never released in a forked child.
    faulthandler.register(signal.SIGALRM, chain=True)
    for name in options.patterns:
        began = time.monotonic()
        for _ in range(options.runs):
            signal.alarm(_DEADLINE)
            with LoopbackCluster("gateway," + ",".join(NODES)) as cluster:
                PATTERNS[name](cluster)
                task_self().abort(kill=True)
        signal.alarm(0)
        print(f"{name}: {options.runs} runs in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
