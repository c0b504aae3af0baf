"""The shells of the loopback cluster: quotes reach them, also cmd.exe; and its files on Windows."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.cli.clush import main
from pyclustershell.local.process import shell_arguments
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.loopback.cluster import DEFAULT_SHELL
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task, outputs
from tests.helpers.waiting import wait_until

NO_SHELL = ("/no/such/shell", "-c")

# Prints its arguments, one on a line.
ARGUMENTS = "import sys; sys.stdout.write(chr(10).join(sys.argv[1:]))"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-3]") as running:
        yield running


@pytest.fixture
def task(cluster: LoopbackCluster) -> Iterator[Task]:
    with fresh_task() as task:
        cluster.configure(task)
        yield task


def test_command_lines_of_cmd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "WINDOWS", True)
    shell = ("cmd.exe", "/d", "/s", "/c")
    assert shell_arguments(shell, b'echo "a b"') == 'cmd.exe /d /s /c "echo "a b""'
    quoted = (r"C:\my system\CMD.EXE", "/c")
    assert shell_arguments(quoted, b"dir") == r'"C:\my system\CMD.EXE" /c "dir"'
    assert shell_arguments(("pwsh", "-c"), b'echo "a b"') == ("pwsh", "-c", 'echo "a b"')
    assert shell_arguments(("pwsh", "-c"), "\u00e9".encode()) == ("pwsh", "-c", "\u00e9")
    monkeypatch.setattr(platform, "WINDOWS", False)
    assert shell_arguments(("/bin/sh", "-c"), b"\xff") == ("/bin/sh", "-c", b"\xff")


def test_quotes_reach_the_shell(task: Task, tmp_path: Path) -> None:
    script = tmp_path / "arguments with blanks.py"
    script.write_text(ARGUMENTS, encoding="utf-8")
    task.run(f'"{sys.executable}" "{script}" one "two  blanks" "" "a&b"', nodes="node1")
    assert outputs(task)["node1"] == b"one\ntwo  blanks\n\na&b"


def test_the_demonstration_takes_quotes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    code = "print('two  blanks')"
    assert main(["--demo", "-n", "-b", "-w", "demo[1-2]", f'"{sys.executable}" -c "{code}"']) == 0
    assert b"two  blanks" in capfdbinary.readouterr().out


def test_a_shell_that_cannot_be_started(task: Task) -> None:
    with LoopbackCluster("none", shell=NO_SHELL) as broken:
        broken.configure(task)
        worker = task.shell("echo ok", nodes="none", stderr=True)
        task.resume()
    assert task.max_retcode() == 127
    assert b"the command could not be started: " in bytes(worker.node_error("none"))


def test_copies_preserve_times(task: Task, cluster: LoopbackCluster, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"contents\r\n")
    for path in (tree / "file", tree):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    task.copy(str(tree), "there", "node1", preserve=True)
    task.resume()
    assert task.max_retcode() == 0
    task.rcopy("there", str(tmp_path), "node1", preserve=True)
    task.resume()
    assert task.max_retcode() == 0
    for copy in (Path(cluster.home("node1")) / "there", tmp_path / "there.node1"):
        assert (copy / "file").read_bytes() == b"contents\r\n"
        for path in (copy / "file", copy):
            assert int(path.stat().st_mtime) == 1_000_000_000
    task.copy(str(tree / "file"), "there/file", "node1", preserve=True, skip_unchanged=True)
    task.resume()
    assert task.max_retcode() == 0


def test_stop_after_a_timeout(task: Task) -> None:
    """It ends the connections, whose threads wait for clients, and the commands."""
    threads = set(threading.enumerate())
    with LoopbackCluster("node[1-3]", shell=DEFAULT_SHELL) as cluster:
        directory = Path(cluster.ssh_config).parent
        cluster.configure(task)
        code = "import time; time.sleep(600)"
        task.run(f'"{sys.executable}" -c "{code}"', nodes="node[1-3]", timeout=1)
        assert task.num_timeout() == 3
    assert not directory.exists()
    wait_until(
        lambda: not {t for t in set(threading.enumerate()) - threads if "loopback" in t.name}
    )
