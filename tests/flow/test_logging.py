"""Log messages about connections: none unless the program asks, then one line for each."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.sh import SHELL
from tests.helpers.tasks import fresh_task


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-4]", shell=SHELL) as running:
        yield running


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with fresh_task() as task:
        cluster.configure(task)
        yield task


def test_one_line_for_each_connection(
    cluster: LoopbackCluster, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pyclustershell.connection"):
        task.run("true", nodes="node[1-2]")
        task.run("true", nodes="node[1-2]")  # over the same ones
    lines = [r.getMessage() for r in caplog.records if r.name == "pyclustershell.connection"]
    assert len(lines) == 2
    for line in lines:
        node = line.partition(":")[0]
        assert re.fullmatch(
            rf"{node}: connected to 127\.0\.0\.1 port {cluster.port(node)} as loopback by key \S+, "
            r"host key ssh-ed25519 SHA256:[\w/+]{43}, in \d\.\d{3} s "
            r"\(TCP \d\.\d{3}, key exchange \d\.\d{3}, authentication \d\.\d{3}\)",
            line,
        )


def test_details_are_for_debugging(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pyclustershell"):
        task.run("true", nodes="node3")
    names = {record.name for record in caplog.records}
    assert names <= {name for name in names if name.startswith("pyclustershell.")}
    assert any("node3: trying key" in record.getMessage() for record in caplog.records)


def test_nothing_is_said_unasked(cluster: LoopbackCluster) -> None:
    # Without a handler Python prints warnings; a command that cannot be killed makes one.
    code = f"""
        import logging
        from pyclustershell import task_self
        logging.getLogger("pyclustershell.command").warning("a warning")
        with task_self() as task:
            task.set_info("ssh_options", "-F {cluster.ssh_config}")
            task.run("true", nodes="node[1-4],nowhere")
            print(task.max_retcode())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("255\n", "")


# -- numbers ---------------------------------------------------------------------------------------


def test_numbers_of_a_task(task: Task) -> None:
    assert sum(task.stats()) == 0
    task.set_info("fanout", 2)
    task.run("echo ok", nodes="node[1-2]")
    stats = task.stats()
    assert (stats.open, stats.idle, stats.opened, stats.reused, stats.evicted) == (2, 2, 2, 0, 0)
    assert stats.handshakes == stats.waiting == stats.retried == 0
    # Handshakes of a few packets, and "ok".
    assert 1000 < stats.bytes_sent < 20_000
    assert 1000 < stats.bytes_received < 20_000
    task.run("echo ok", nodes="node[1-4]")
    later = task.stats()
    assert (later.open, later.opened, later.reused, later.evicted) == (2, 4, 2, 2)
    assert later.bytes_sent > stats.bytes_sent
    task.close()
    closed = task.stats()
    assert (closed.open, closed.idle, closed.opened, closed.reused) == (0, 0, 4, 2)
    assert closed.bytes_sent >= later.bytes_sent
    task.run("echo ok", nodes="node1")
    assert (task.stats().open, task.stats().opened) == (1, 5)
