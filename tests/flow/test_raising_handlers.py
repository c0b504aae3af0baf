"""A handler that raises, in each event of each kind of worker: the task can be used again."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Callable, Optional

import pytest

from pyclustershell import EventHandler, StreamWorker
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.sh import SHELL, sh
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path

# Two of the events are old forms, which still have to work.
pytestmark = pytest.mark.filterwarnings("ignore:.* is an old form:DeprecationWarning")

OF_A_WORKER = ("ev_start", "ev_pickup", "ev_read", "ev_written", "ev_hup", "ev_result", "ev_close")
OLD = ("ev_error", "ev_timeout")
OF_OTHERS = ("ev_routing", "ev_port_start", "ev_msg", "ev_timer")


_numbers = itertools.count()


class Raised(Exception):
    """Raised by the handlers."""


def raising(event: str) -> EventHandler:
    """A handler that has one event, and raises in it."""

    def fail(_handler: EventHandler, *_details: Any) -> None:
        raise Raised(event)

    handler: EventHandler = type("Raising", (EventHandler,), {event: fail})()
    return handler


# -- raising handlers ------------------------------------------------------------------------------

COMMAND = "read line; echo $line; echo error >&2; exit 3"
ENDLESS = "exec sleep 60"


def local(task: Task, handler: Any, endless: bool) -> None:
    worker: Any = task.shell(
        sh(ENDLESS if endless else COMMAND),
        handler=handler,
        stderr=True,
        timeout=0.05 if endless else None,
        key="key",
    )
    worker.write(b"line\n")


def on_nodes(task: Task, handler: Any, endless: bool, remote: bool) -> None:
    command = ENDLESS if endless else COMMAND
    worker: Any = task.shell(
        command if remote else sh(command),
        nodes="node[1-2]",
        handler=handler,
        stderr=True,
        # The command over SSH has to be there before its time is up.
        timeout=(1.0 if remote else 0.05) if endless else None,
        remote=remote,
    )
    worker.write(b"line\n")


def ssh(task: Task, handler: Any, endless: bool) -> None:
    on_nodes(task, handler, endless, remote=True)


def execute(task: Task, handler: Any, endless: bool) -> None:
    on_nodes(task, handler, endless, remote=False)


def stream(task: Task, handler: Any, endless: bool) -> None:
    # The worker reads its own input.
    worker = StreamWorker(handler, key="key", timeout=0.05 if endless else -1)
    reader, writer = os.pipe()
    worker.set_reader("stdout", reader)
    worker.set_writer("stdin", writer)
    reader, writer = os.pipe()
    os.write(writer, b"error\n")
    os.close(writer)
    worker.set_reader("stderr", reader)
    worker.write(b"line\n", "stdin")
    if not endless:
        worker.set_write_eof("stdin")
    task.schedule(worker)


def copy(task: Task, handler: Any, _endless: bool) -> None:
    place = f"{node_path(tempfile.gettempdir())}/pyclustershell-copied-{os.getpid()}"
    task.copy(os.path.realpath(__file__), place, "node[1-2]", handler=handler)


def gateways(task: Task, handler: Any, _endless: bool) -> None:
    gateway = f"gateway{next(_numbers)}"  # a new one: failures are remembered
    task.configure_ssh(gateway, hostname="127.0.0.1", port=1)
    task.configure_ssh("node1", proxy_jump=[gateway, "node2"])
    task.shell("exit 3", nodes="node1", handler=handler)


def port(task: Task, handler: Any, _endless: bool) -> None:
    task.shell(sh("exec sleep 60"))
    task.port(handler, autoclose=True).msg_send("message")


def timer(task: Task, handler: Any, _endless: bool) -> None:
    task.timer(0.01, handler)
    task.shell(sh("exec sleep 60"))


Scheduler = Callable[[Task, Any, bool], None]
CASES = [
    *((kind, event) for kind in (local, execute, ssh, stream) for event in OF_A_WORKER + OLD),
    *((copy, event) for event in OF_A_WORKER if event != "ev_read"),
    (gateways, "ev_routing"),
    (port, "ev_port_start"),
    (port, "ev_msg"),
    (timer, "ev_timer"),
]
PIPES = pytest.mark.posix_only("a StreamWorker waits for pipes; Windows waits for sockets only")
PARAMETERS = [
    pytest.param(
        kind, event, marks=[PIPES] if kind is stream else [], id=f"{kind.__name__}-{event}"
    )
    for kind, event in CASES
]


def test_these_are_all_events() -> None:
    events = {name for name in dir(EventHandler) if name.startswith("ev_")} | {"ev_timeout"}
    assert events == {event for _, event in CASES} == {*OF_A_WORKER, *OLD, *OF_OTHERS}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-2]", shell=SHELL) as cluster:
        yield cluster


#: The number of results if nothing raised, unless it is 3.
RETURN_CODES: dict[Scheduler, Optional[int]] = {stream: None, copy: 0}


def check_usable(task: Task, schedule: Scheduler) -> None:
    """The same run works with a handler that does not raise."""
    assert not task.running()
    if schedule in (port, timer):
        task.shell(sh("exit 3"))
    else:
        schedule(task, EventHandler(), False)


@pytest.mark.parametrize(("schedule", "event"), PARAMETERS)
def test_it_leaves_resume(schedule: Scheduler, event: str, cluster: LoopbackCluster) -> None:
    with no_leaks(), fresh_task() as task:
        cluster.configure(task)
        for _ in range(2):
            schedule(task, raising(event), event == "ev_timeout")
            with pytest.raises(Raised, match=event):
                task.resume(timeout=30)
            check_usable(task, schedule)
            task.resume(timeout=30)
            assert task.max_retcode() == RETURN_CODES.get(schedule, 3)


@pytest.mark.parametrize(("schedule", "event"), PARAMETERS)
def test_in_a_tasks_own_thread_it_goes_to_the_hook(
    schedule: Scheduler, event: str, cluster: LoopbackCluster
) -> None:
    with no_leaks():
        task = Task()
        try:
            cluster.configure(task)
            caught: list[tuple[Any, bool]] = []
            own = task.thread
            task.excepthook = lambda kind, *_: caught.append(
                (kind, threading.current_thread() is own)
            )
            schedule(task, raising(event), event == "ev_timeout")
            task.resume(timeout=30)
            task.join()
            assert caught == [(Raised, True)]
            check_usable(task, schedule)
            task.resume(timeout=30)
            task.join()
            assert len(caught) == 1
            assert task.max_retcode() == RETURN_CODES.get(schedule, 3)
        finally:
            task.abort(kill=True)
            task.thread.join(10)
