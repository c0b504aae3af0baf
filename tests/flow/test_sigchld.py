"""A program that ignores SIGCHLD, or collects every child, sees true exit statuses, or an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from pyclustershell import EventHandler, NodeSet
from pyclustershell.exceptions import (
    HandshakeError,
    NodeConfigurationError,
    NodeSetParseError,
    StatusLostError,
)
from pyclustershell.local.child import STATUS_LOST, ChildProcess
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset.groups import GroupResolver
from pyclustershell.nodeset.groupsources import UpcallGroupSource
from tests.helpers.tasks import connect_to, fresh_task
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.posix_only("Windows has no SIGCHLD")


def collect_all(_number: int, _frame: Any) -> None:
    """Do as daemons and web servers do: take the status of every child."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


@pytest.fixture(params=[signal.SIG_IGN, collect_all], ids=["ignored", "collected"])
def statuses_taken(request: pytest.FixtureRequest) -> Iterator[None]:
    """The program takes the exit status of every child."""
    before = signal.signal(signal.SIGCHLD, request.param)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def statuses_lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No launcher can be started, as in a program with an embedded Python, and each status is lost.

    (A handler that collects statuses would get some of them only: our own threads ask as well.)
    """
    monkeypatch.setattr(sys, "executable", "/usr/sbin/embedding-program")
    monkeypatch.setattr(ChildProcess, "_others_collect", False)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has a launcher, as after the first lost status."""
    monkeypatch.setattr(ChildProcess, "_others_collect", True)


def lookup(command: str) -> NodeSet:
    """Look up a group of a source whose 'map' is this command."""
    resolver = GroupResolver(default_source=UpcallGroupSource("source", command))
    return NodeSet("@group", resolver=resolver)


def user_if_match_exec(command: str, directory: Path) -> Optional[str]:
    """Return the user of a node: 'somebody' if the command of Match exec succeeds."""
    config = directory / "config"
    config.write_text(f"Match exec '{command}'\n  User somebody\n")
    with fresh_task() as task:
        task.configure_ssh(config_files=[str(config)], allow_match_exec=True)
        return task.connection_settings("node1").user


def proxy_failure(command: str) -> str:
    """The failure of a node whose ProxyCommand is this command."""
    with fresh_task() as task:
        connect_to(task, ("127.0.0.1", 1))
        task.configure_ssh(connect_retries=0)
        task.set_info("ssh_options", f"-F none -o ProxyCommand='{command}'")
        worker = task.shell("true", nodes="node1")
        task.resume()
        failure = worker.node_failure("node1")
    assert isinstance(failure, HandshakeError)
    return failure.sentence


# -- the true status -------------------------------------------------------------------------------


@pytest.mark.usefixtures("statuses_taken")
def test_local_commands() -> None:
    with fresh_task() as task:
        for code in (0, 3, 255):
            task.shell(f"echo out; exit {code}", key=str(code))
        task.shell("exit 4", nodes="node[1-2]", remote=False)
        task.resume()
        codes = {key: code for code, keys in task.iter_retcodes() for key in keys}
        assert codes == {"0": 0, "3": 3, "255": 255, "node1": 4, "node2": 4}
        assert bytes(task.key_buffer("3")) == b"out"
        assert not list(task.iter_failures())


@pytest.mark.usefixtures("statuses_taken")
def test_group_sources() -> None:
    assert str(lookup("echo node1")) == "node1"
    with pytest.raises(NodeSetParseError, match="exited with status 3"):
        lookup("echo node1; exit 3")


@pytest.mark.usefixtures("statuses_taken")
@pytest.mark.parametrize("code", [0, 3])
def test_match_exec(tmp_path: Path, code: int) -> None:
    assert (user_if_match_exec(f"exit {code}", tmp_path) == "somebody") is (code == 0)


@pytest.mark.usefixtures("statuses_taken")
def test_proxy_command() -> None:
    assert "exit status 3: why" in proxy_failure('sh -c "echo why >&2; exit 3"')


@pytest.mark.usefixtures("statuses_taken")
def test_servers_of_the_loopback_cluster() -> None:
    with LoopbackCluster("node1") as cluster, fresh_task() as task:
        cluster.configure(task)
        for code in (0, 3):
            task.run(f"exit {code}", nodes="node1")
            assert task.node_retcode("node1") == code


class Aborting(EventHandler):
    """Aborts the command that prints its process id."""

    pid = 0

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        self.pid = int(msg)
        worker.abort()


def has_ended(pid: int) -> bool:
    """True if there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.usefixtures("statuses_taken")
def test_the_end_of_a_command_that_ignores_term() -> None:
    handler = Aborting()
    with fresh_task() as task:
        task.set_info("ssh_kill_grace", 0.1)
        command = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
        task.run(command, key="key", handler=handler)
        wait_until(lambda: has_ended(handler.pid))


@pytest.mark.usefixtures("launched")
def test_a_command_that_a_signal_ends() -> None:
    process = ChildProcess(["sleep", "60"], start_new_session=True)
    with pytest.raises(subprocess.TimeoutExpired, match="sleep"):
        process.wait(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == process.returncode == -signal.SIGTERM
    with fresh_task() as task:
        task.run("kill -9 $$", key="key")
        assert task.max_retcode() == 128 + signal.SIGKILL


def own_view(shown: str, **options: Any) -> bytes:
    """What a command sees of itself."""
    process = ChildProcess(["sh", "-c", shown], stdin=-1, stdout=-1, **options)
    return process.communicate()[0]


@pytest.mark.parametrize(
    "shown",
    [
        "env -0 | sort -z",
        "ls -l /dev/fd/ | wc -l",
        "pwd",
        "umask",
        "kill -PIPE $$; echo 'SIGPIPE is ignored'",
        "trap",
    ],
)
@pytest.mark.parametrize(
    "environment", [{}, {"LC_CTYPE": "C"}, {"LC_ALL": "C"}, {"PYTHONHOME": "/nowhere"}]
)
def test_a_command_sees_nothing_of_the_launcher(
    shown: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "ODD": "\udcff\n=", **environment}
    options = {"env": environment, "cwd": str(tmp_path)}
    direct = own_view(shown, **options)
    monkeypatch.setattr(ChildProcess, "_others_collect", True)
    assert own_view(shown, **options) == direct


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux shows ignored signals")
def test_a_command_does_not_inherit_the_ignored_sigchld() -> None:
    """Programs that start processes would lose statuses themselves."""

    def ignored() -> int:
        shown = own_view("grep SigIgn /proc/self/status")
        return int(shown.split()[1], 16) & 0x7FFFFFFF  # not those that belong to the C library

    direct = ignored()
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert ignored() == direct
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("launched")
def test_arguments_of_any_bytes() -> None:
    process = ChildProcess(["printf", "%s.", b"\xff", "\udcfe", "", "-I"], stdout=-1)
    assert process.communicate()[0] == b"\xff.\xfe..-I."


@pytest.mark.usefixtures("launched")
def test_streams_end_when_the_command_closes_them() -> None:
    process = ChildProcess(["sh", "-c", "exec <&- >&-; sleep 60"], stdin=-1, stdout=-1)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.read() == b""
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"data")
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "options", "error", "name"),
    [
        (["nonexistent-command"], {}, FileNotFoundError, "nonexistent-command"),
        (["/"], {}, PermissionError, "/"),
        (["true"], {"cwd": "/nowhere"}, FileNotFoundError, "/nowhere"),
    ],
)
@pytest.mark.parametrize("other", [False, True], ids=["direct", "launched"])
def test_a_command_that_cannot_be_started(
    command: list[str],
    options: dict[str, Any],
    error: type[OSError],
    name: str,
    other: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ChildProcess, "_others_collect", other)
    with pytest.raises(error) as info:
        ChildProcess(command, stdin=-1, stdout=-1, stderr=-1, **options)
    assert info.value.filename == name


@pytest.mark.usefixtures("launched")
def test_a_launcher_is_collected() -> None:
    process = ChildProcess(["sh", "-c", "echo $PPID"], stdout=-1)
    launcher = int(process.communicate()[0])
    with pytest.raises(ChildProcessError):
        os.waitpid(launcher, os.WNOHANG)


@pytest.mark.parametrize("code", [0, 3])
def test_other_programs_have_no_launcher(code: int) -> None:
    with fresh_task() as task:
        task.run(f"echo $PPID; exit {code}", key="key")
        assert bytes(task.key_buffer("key")) == b"%d" % os.getpid()
        assert task.max_retcode() == code
        assert not list(task.iter_failures())


# -- an error with the cause -----------------------------------------------------------------------


@pytest.mark.usefixtures("statuses_lost")
def test_local_commands_fail_with_the_cause() -> None:
    with fresh_task() as task:
        task.shell("echo out; exit 3", key="three")
        worker = task.shell("exit 0", nodes="node[1-2]", remote=False)
        task.resume()
        assert [code for code, _keys in task.iter_retcodes()] == [255]
        assert bytes(task.key_buffer("three")) == b"out"
        failure = worker.node_failure("node1")
        assert isinstance(failure, StatusLostError)
        assert "SIGCHLD" in failure.sentence


@pytest.mark.usefixtures("statuses_lost")
def test_other_callers_fail_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(NodeSetParseError, match="SIGCHLD"):
        lookup("echo node1; exit 3")
    with pytest.raises(NodeConfigurationError, match="SIGCHLD"):
        user_if_match_exec("exit 3", tmp_path)
    assert "SIGCHLD" in proxy_failure("exit 3")


def test_a_server_of_the_loopback_cluster_invents_no_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(process: ChildProcess) -> None:
        os.waitpid(process.pid, 0)
        collect(process)

    monkeypatch.setattr(ChildProcess, "_others_collect", False)
    with LoopbackCluster("node1") as cluster, fresh_task() as task:
        cluster.configure(task)
        collect = ChildProcess._collect
        monkeypatch.setattr(ChildProcess, "_collect", lose)
        worker = task.run("exit 3", nodes="node1")
        failure = worker.node_failure("node1")
    assert "without an exit status" in str(failure)
    assert "SIGCHLD" in caplog.text


def test_after_a_lost_status_there_is_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """No handler tells that a thread calls os.wait(): the first status shows it."""
    monkeypatch.setattr(ChildProcess, "_others_collect", False)
    process = ChildProcess(["true"])
    os.waitpid(process.pid, 0)
    assert process.wait() == process.poll() == process.returncode == STATUS_LOST
    assert "SIGCHLD" in process.why_lost
    process = ChildProcess(["sh", "-c", "exit 3"])
    os.waitpid(-1, 0)
    assert process.wait() == 3
    assert not process.why_lost


def test_a_status_lost_while_sigchld_was_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """When SIGCHLD has its default again, no launcher is needed."""
    monkeypatch.setattr(ChildProcess, "_others_collect", False)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with monkeypatch.context() as embedded:
        embedded.setattr(sys, "executable", "/usr/sbin/embedding-program")
        assert ChildProcess(["true"]).wait() == STATUS_LOST
    signal.signal(signal.SIGCHLD, before)
    process = ChildProcess(["sh", "-c", "echo $PPID"], stdout=-1)
    assert int(process.communicate()[0]) == os.getpid()


@pytest.mark.usefixtures("launched")
def test_a_launcher_that_is_killed() -> None:
    process = ChildProcess(["sh", "-c", "echo $PPID; read line"], stdin=-1, stdout=-1)
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert process.wait() == STATUS_LOST
    assert "launcher" in process.why_lost
    process.communicate(b"line\n")


@pytest.mark.usefixtures("launched")
def test_a_launcher_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(OSError, match=f"can {broken} be run"):
        ChildProcess(["true"], stdin=-1)


@pytest.mark.parametrize("timeout", [None, 10.0])
@pytest.mark.parametrize("other", [False, True], ids=["direct", "launched"])
def test_wait(timeout: Optional[float], other: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildProcess, "_others_collect", other)
    process = ChildProcess(["sh", "-c", "exit 3"])
    assert process.wait(timeout) == 3
    assert not process.why_lost


def test_wait_with_a_timeout() -> None:
    process = ChildProcess(["sleep", "60"])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    wait_until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGTERM
