"""The first thing to try on a new system: each kind of work once, with 100 nodes of OpenSSH's.

.ci/windows runs it before the other tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyclustershell import NodeSet
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import Task
from tests.helpers.programs import ROOT
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task, outputs
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path
from tests.servers.sftp import open_directory
from tests.servers.sshd import Sshd

MANY = "node[1-100]"


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        yield task


def test_many_nodes(task: Task) -> None:
    task.run("echo ok; exit 3", nodes=MANY, timeout=50)
    assert list(task.iter_failures()) == []
    [(buffer, nodes)] = task.iter_buffers()
    assert (bytes(buffer), str(NodeSet.fromlist(nodes))) == (b"ok", MANY)
    assert [(rc, len(nodes)) for rc, nodes in task.iter_retcodes()] == [(3, 100)]


def test_standard_input(task: Task) -> None:
    worker = task.shell("wc -c", nodes="node[1-2]", timeout=50)
    worker.write(b"x" * 3_000_000)
    worker.set_write_eof()
    task.resume()
    assert outputs(task) == dict.fromkeys(("node1", "node2"), b"3000000")


def test_a_timeout(task: Task) -> None:
    task.run("sleep 60", nodes="node[1-3]", timeout=1)
    assert (task.num_timeout(), list(task.iter_retcodes())) == (3, [])


def test_failures(task: Task) -> None:
    task.configure_ssh("refused", hostname="127.0.0.1", port=1)
    task.configure_ssh("unknown", hostname="no-such-host.invalid")
    task.run("echo ok", nodes="refused,unknown,nobody@node1,node2", timeout=50)
    phases = {str(NodeSet.fromlist(nodes)): it.phase for it, nodes in task.iter_failures()}
    assert phases == {"refused": "connect", "unknown": "resolve", "nobody@node1": "authentication"}
    assert outputs(task) == {"node2": b"ok"}


def test_copies_both_ways(task: Task, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    contents = os.urandom(1_000_000) + b"\r\n\n"
    (tree / "file").write_bytes(contents)
    with open_directory() as place:
        task.copy(str(tree), f"{place}/there", "node1")
        task.resume()
        assert (task.max_retcode(), list(task.iter_failures())) == (0, [])
        task.rcopy(f"{place}/there", str(tmp_path), "node[1-2]")
        task.resume()
        assert (task.max_retcode(), list(task.iter_failures())) == (0, [])
    for node in ("node1", "node2"):
        assert (tmp_path / f"there.{node}" / "file").read_bytes() == contents


def test_local_commands(task: Task) -> None:
    task.shell(sh("echo out; echo err >&2; exit 3"), key="key", stderr=True)
    task.resume()
    assert (task.key_buffer("key"), task.key_error("key")) == (b"out", b"err")
    assert task.key_retcode("key") == 3


def test_the_loopback_cluster_with_the_systems_shell(task: Task) -> None:
    with LoopbackCluster("own[1-4]") as cluster:
        cluster.configure(task)
        task.run("echo ok&& exit 5", nodes="own[1-4]", timeout=50)
        assert [bytes(buffer).strip() for buffer, _ in task.iter_buffers()] == [b"ok"]
        assert [(rc, len(nodes)) for rc, nodes in task.iter_retcodes()] == [(5, 4)]
        task.close()


def test_a_command_line(sshd: Sshd) -> None:
    arguments = ["-o", f"-F {sshd.ssh_config}", "-b", "-w", "node[1-3]", "printf '\\303\\244\\n'"]
    done = subprocess.run(
        [sys.executable, "-m", "pyclustershell.cli.clush", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [b"-" * 15, b"node[1-3]", b"(3)", b"-" * 15, "\u00e4".encode()]


def test_a_file_of_the_nodes_is_one_of_this_host(task: Task) -> None:
    # The other tests rely on it.
    with open_directory() as place:
        task.run(f"echo here >{node_path(place)}/file", nodes="node1", timeout=50)
        assert Path(place, "file").read_bytes() == b"here\n"
