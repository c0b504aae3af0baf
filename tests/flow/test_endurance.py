"""Many runs in one process leave nothing behind: no thread, no descriptor, no object.

Run a thousand of each kind:
``PYCLUSTERSHELL_RUNS=1000 python -m pytest tests/flow/test_endurance.py``
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
from tests.helpers.sh import SHELL, sh
from tests.helpers.tasks import fresh_task
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks, open_descriptors
from tests.servers.sshd import Sshd

RUNS = int(os.environ.get("PYCLUSTERSHELL_RUNS", "30"))

pytestmark = pytest.mark.timeout(60 + 2 * RUNS)

#: Objects that may be left, but no more of them: a TimerQueue drops cancelled timers from 64 on.
BOUNDED = {"Timer": 64}


class Handler(EventHandler):
    """A handler that schedules something itself."""

    def ev_hup(self, worker: Any, node: Any, rc: Any) -> None:
        worker.task.timer(0.0, self)


def local(task: Task) -> None:
    task.run(sh("echo out; exit 3"), key="key", handler=Handler())
    assert task.max_retcode() == 3


def execute(task: Task) -> None:
    task.run(sh("echo %h; exit 3"), nodes="node[1-4]", remote=False, handler=Handler())
    assert task.max_retcode() == 3


def over_ssh(task: Task) -> None:
    task.run("echo out; exit 3", nodes="node[1-4]", handler=Handler())
    assert task.max_retcode() == 3


def over_new_connections(task: Task) -> None:
    over_ssh(task)
    task.close()


def out_of_time(task: Task) -> None:
    task.run(sh("exec sleep 60"), nodes="node[1-4]", remote=False, timeout=0.01, handler=Handler())
    assert task.num_timeout() == 4


def port_and_thread(task: Task) -> None:
    port = task.port(Handler())
    task.timer(0.0, Handler())
    threading.Thread(target=lambda: (port.msg("message"), task.remove_port(port))).start()
    task.resume()


def check(run: Callable[[Task], None], task: Task) -> None:
    """Run often: the last runs leave no more objects than the first ones."""
    for _ in range(5):
        run(task)
    before = len(open_descriptors()), threading.active_count(), objects()
    for _ in range(RUNS):
        run(task)
    # The threads that copy the bytes of pipes (on Windows) may just be about to end.
    wait_until(lambda: len(open_descriptors()) <= before[0])
    wait_until(lambda: threading.active_count() <= before[1])
    kinds = objects()
    spare = {name: RUNS // 2 + BOUNDED.get(name, 0) for name in kinds}
    assert {name: n for name, n in kinds.items() if n > before[2][name] + spare[name]} == {}


def objects() -> Counter[str]:
    """How many objects there are of each class of this package."""
    gc.collect()
    classes = (type(thing) for thing in gc.get_objects())
    return Counter(c.__name__ for c in classes if str(c.__module__).startswith("pyclustershell"))


def submitted(task: Task, **options: Any) -> None:
    future = task.submit("echo out; exit 3", handler=Handler(), **options)
    assert [result.rc for result in future.result(60).values()] == [3]


@pytest.mark.parametrize("options", [{}, {"nodes": "node1"}, {"nodes": "node1", "remote": False}])
def test_a_task_that_serves_without_end_does_not_grow(
    options: dict[str, Any], cluster: LoopbackCluster
) -> None:
    """One run, which a port holds open: nothing of a command is left when its future is gone."""
    with no_leaks():
        task = Task()
        try:
            cluster.configure(task)
            task.port()
            task.resume()
            check(lambda task: submitted(task, **options), task)
            assert not task.results()
        finally:
            task.abort(kill=True)
            task.thread.join(10)


@pytest.mark.parametrize("run", [local, execute, out_of_time, port_and_thread])
def test_on_this_host(run: Callable[[Task], None]) -> None:
    with no_leaks(), fresh_task() as task:
        check(run, task)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-4]", shell=SHELL) as cluster:
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
        task.shell(sh("exit 3"), key="key")
        task.resume()
        task.join()
        assert task.max_retcode() == 3
        task.abort(kill=True)
        task.thread.join(10)

    with no_leaks(), fresh_task() as task:
        check(run, task)
