"""Finished work leaves nothing of ours to the garbage collector.

The collector visits every object of the process: objects that a run leaves to it cost time
elsewhere, and they keep memory, descriptors and secrets until it runs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from pyclustershell.task import Task
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task
from tests.servers.sftp import open_directory
from tests.servers.sshd import Sshd

OURS = {"pyclustershell", "paramiko"}

Scenario = Callable[[Task, str], None]


def commands(task: Task, place: str) -> None:
    task.run("echo ok; echo no >&2; exit 3", nodes="node[1-10]", stderr=True)


def different_outputs(task: Task, place: str) -> None:
    task.run('echo same; echo "$PYCLUSTERSHELL_NODE"; echo end', nodes="node[1-5]")


def closed_connections(task: Task, place: str) -> None:
    task.set_info("ssh_pool_size", 3)
    task.set_info("fanout", 3)
    commands(task, place)


def a_closed_task(task: Task, place: str) -> None:
    commands(task, place)
    task.close()


def commands_that_take_too_long(task: Task, place: str) -> None:
    task.run("sleep 60", nodes="node[1-3]", timeout=0.3)
    task.close()  # ends the cleanups as well


def commands_whose_time_is_up_at_once(task: Task, place: str) -> None:
    task.run("true", nodes="node[1-3]", timeout=0.001)  # their sessions are being opened
    task.close()


def failed_connections(task: Task, place: str) -> None:
    task.run("echo ok", nodes="refused[1-3]")


def failed_logins(task: Task, place: str) -> None:
    task.run("echo ok", nodes="nobody@node1,nobody@node2")


def lost_connections(task: Task, place: str) -> None:
    task.run("kill -9 $PPID", nodes="node[1-2]")


def jump_hosts(task: Task, place: str) -> None:
    task.run("echo ok", nodes="behind[1-3]")
    task.close()


def copies(task: Task, place: str) -> None:
    task.copy(__file__, f"{place}/copied", "node[1-2]")
    task.resume()
    assert task.max_retcode() == 0


def reverse_copies(task: Task, place: str) -> None:
    Path(place, "there").write_bytes(b"contents")
    task.rcopy(f"{place}/there", place, "node[1-2]")
    task.resume()
    assert task.max_retcode() == 0


def failed_copies(task: Task, place: str) -> None:
    task.copy(__file__, f"{place}/no/such/directory", "node[1-2]")
    task.rcopy(f"{place}/nothing", place, "node[1-2]")
    task.resume()
    assert task.max_retcode() == 1


def local_commands(task: Task, place: str) -> None:
    task.run(sh("echo ok; exit 3"), key="key")
    task.run(sh("echo %h"), nodes="node[1-3]", remote=False)


def local_commands_that_take_too_long(task: Task, place: str) -> None:
    task.run(sh("sleep 60"), key="key", timeout=0.1)


SCENARIOS: list[Scenario] = [
    commands,
    different_outputs,
    closed_connections,
    a_closed_task,
    commands_that_take_too_long,
    commands_whose_time_is_up_at_once,
    failed_connections,
    failed_logins,
    lost_connections,
    jump_hosts,
    copies,
    reverse_copies,
    failed_copies,
    local_commands,
    local_commands_that_take_too_long,
]


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.configure_ssh("refused[1-3]", hostname="127.0.0.1", port=1)
        for number in range(1, 4):
            task.configure_ssh(f"behind{number}", hostname="127.0.0.1", proxy_jump="node1")
        yield task


@pytest.fixture
def place() -> Iterator[str]:
    """A directory of this host that is the nodes' as well."""
    with open_directory() as directory:
        yield directory


def left_to_the_collector() -> list[str]:
    """The classes and functions of ours among the objects that only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    names = set()
    for thing in found:
        # Functions have their module themselves.
        module = str(getattr(thing, "__module__", None) or type(thing).__module__)
        if module.split(".", maxsplit=1)[0] in OURS:
            names.add(f"{module}.{getattr(thing, '__qualname__', type(thing).__qualname__)}")
    return sorted(names)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_nothing_is_left_to_the_garbage_collector(
    task: Task, place: str, scenario: Scenario
) -> None:
    scenario(task, place)  # imports, and what is made once
    task.run(sh("echo"), key="results of the first time are replaced")
    gc.collect()
    gc.disable()
    try:
        scenario(task, place)
        task.run(sh("echo"), key="and those of the second")
        assert left_to_the_collector() == []
    finally:
        gc.enable()
