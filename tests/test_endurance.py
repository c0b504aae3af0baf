"""Many runs in one process leave nothing behind: no thread, no descriptor, no object.

``PYCLUSTERSHELL_RUNS=1000 python -m pytest tests/test_endurance.py`` makes a thousand of each kind.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from pyclustershell import EventHandler
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.servers.leaks import no_leaks, open_descriptors
from tests.servers.sshd import Sshd
from tests.tasks import fresh_task

RUNS = int(os.environ.get("PYCLUSTERSHELL_RUNS", "30"))

pytestmark = pytest.mark.timeout(60 + 2 * RUNS)


class Handler(EventHandler):
    """A handler that schedules something itself."""

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        worker.task.timer(0.0, self)


def local(task: Task) -> None:
    task.run("echo out; exit 3", key="key", handler=Handler())
    assert task.max_retcode() == 3


def execute(task: Task) -> None:
    task.run("echo %h; exit 3", nodes="node[1-4]", remote=False, handler=Handler())
    assert task.max_retcode() == 3


def over_ssh(task: Task) -> None:
    task.run("echo out; exit 3", nodes="node[1-4]", handler=Handler())
    assert task.max_retcode() == 3


def over_new_connections(task: Task) -> None:
    over_ssh(task)
    task.close()


def out_of_time(task: Task) -> None:
    task.run("exec sleep 60", nodes="node[1-4]", remote=False, timeout=0.01, handler=Handler())
    assert task.num_timeout() == 4


def port_and_thread(task: Task) -> None:
    port = task.port(Handler())
    task.timer(0.0, Handler())
    threading.Thread(target=lambda: (port.msg("message"), task.remove_port(port))).start()
    task.resume()


def check(run: Callable[[Task], None], task: Task) -> None:
    """Run often; what is there after the first runs is there after the last, and no more."""
    for _ in range(5):
        run(task)
    before = len(open_descriptors()), threading.active_count(), objects()
    for _ in range(RUNS):
        run(task)
    descriptors, threads, kinds = len(open_descriptors()), threading.active_count(), objects()
    assert descriptors <= before[0]
    assert threads <= before[1] + 1  # one that was just about to end
    assert {name: n for name, n in kinds.items() if n > before[2][name] + RUNS // 2} == {}


def objects() -> Counter[str]:
    """How many objects there are of each class of this package."""
    gc.collect()
    classes = (type(thing) for thing in gc.get_objects())
    return Counter(c.__name__ for c in classes if str(c.__module__).startswith("pyclustershell"))


@pytest.mark.parametrize("run", [local, execute, out_of_time, port_and_thread])
def test_on_this_host(run: Callable[[Task], None]) -> None:
    with no_leaks(), fresh_task() as task:
        check(run, task)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-4]") as cluster:
        yield cluster


@pytest.mark.parametrize("run", [over_ssh, over_new_connections])
def test_with_openssh(run: Callable[[Task], None], sshd: Sshd) -> None:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        check(run, task)


def test_with_the_loopback_cluster(cluster: LoopbackCluster) -> None:
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        for _ in range(RUNS):
            over_ssh(task)


def test_tasks_with_threads_of_their_own() -> None:
    def run(_task: Task) -> None:
        task = Task()
        task.shell("exit 3", key="key")
        task.resume()
        task.join()
        assert task.max_retcode() == 3
        task.abort(kill=True)
        task.thread.join(10)

    with no_leaks(), fresh_task() as task:
        check(run, task)
