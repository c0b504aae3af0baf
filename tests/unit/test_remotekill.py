"""The script that ends a command on its node, in the shells and process tables that it meets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.ssh.remotekill import kill_command
from tests.faults.laboratory import processes_with
from tests.helpers.waiting import wait_until
from tests.servers.trees import process_runs

pytestmark = [
    pytest.mark.posix_only("it runs the nodes' script in this process's system"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see what is left"),
]

CONNECTION = "10.0.0.1 50000 10.0.0.2 22"

#: Login shells: the script must reach /bin/sh through each of them.
SHELLS = {
    "sh": ["/bin/sh"],
    "bash": ["bash"],
    "dash": ["dash"],
    "ash": ["busybox", "ash"],
    "csh": ["tcsh"],
    "fish": ["fish"],
}

#: Shells that some systems have as /bin/sh.
INTERPRETERS = {
    "bash": ["bash", "--posix"],
    "dash": ["dash"],
    "ash": ["busybox", "ash"],
    "ksh": ["ksh"],
    "mksh": ["mksh"],
    "zsh": ["zsh", "--emulate", "sh"],
}

# A server with a process for each connection: it starts a command, tells its number, and starts the
# script when it is told to. It is named as its file is: a link to Python.
SERVER = """
import os, subprocess, sys
own, command, script = sys.argv[1] == "own", sys.argv[2], sys.argv[3]
def start(line):
    words = ["/bin/sh", "-c", line]
    return subprocess.Popen(words, start_new_session=own, stdin=-3, stdout=-1)
running = start(command)
running.stdout.readline()
print(flush=True)
sys.stdin.readline()
print(start(script).communicate()[0].decode())
"""


def environment(mark: str, connection: str = CONNECTION) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k != "SSH_CONNECTION"}
    name, value = mark.split("=")
    return {**inherited, "SSH_CONNECTION": connection, name: value}


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a command has in its environment; what is left of it in the end is killed."""
    mark = f"REMOTEKILL={os.getpid()}.{id(request)}"
    yield mark
    for pid in processes_with(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start(command: str, mark: str, connection: str = CONNECTION) -> subprocess.Popen[bytes]:
    """Start a command as a server does; return when it has written a line."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        env=environment(mark, connection),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def end(mark: str, shell: list[str], grace: float = 0.3, connection: str = CONNECTION) -> str:
    """Run the script as a server does; returns its last report."""
    process = subprocess.run(
        [*shell, "-c", kill_command(grace)],
        env=environment(mark.replace("=", "=script"), connection),
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=True,
    )
    first, *rest = process.stdout.decode().split("\n")
    assert first == "pyclustershell-kill: begun"
    return " ".join(rest).replace("pyclustershell-kill:", "").strip()


def running(mark: str) -> list[int]:
    return [pid for pid in processes_with(mark) if process_runs(pid)]


COMMANDS = {
    "one process": "echo begun; exec sleep 300",
    "children": "sleep 300 & sleep 300 & echo begun; wait",
    "a child that ignores TERM": (
        "sh -c 'trap \"\" TERM; sleep 300; sleep 300' & echo begun; wait"
    ),
    "an orphan": "(sleep 300 &); echo begun; sleep 300",
    "one that ignores TERM": "trap '' TERM; echo begun; sleep 300; sleep 300",
    "one that stops": "echo begun; kill -STOP $$",
    "a group of its own": "echo begun; timeout 300 sleep 300",
    "no environment": "echo begun; exec env -i REMOTEKILL=$REMOTEKILL sleep 300",
}


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_every_login_shell_runs_the_script(shell: list[str], mark: str) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    with start(COMMANDS["children"], mark):
        # A child that is about to become another program has no environment for a moment.
        wait_until(lambda: len(running(mark)) == 3)
        assert end(mark, shell) == "gone"
        assert not running(mark)


@pytest.mark.parametrize("shell", INTERPRETERS.values(), ids=INTERPRETERS)
def test_every_posix_shell_can_be_sh(shell: list[str], mark: str) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    _prefix, script, _rest = kill_command(0.3).decode().split("'")
    with start(COMMANDS["a child that ignores TERM"], mark):
        done = subprocess.run(
            [*shell, "-c", script],
            env=environment(mark.replace("=", "=script")),
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=True,
        )
        assert done.stdout.endswith(b"gone\n")
        assert not running(mark)


@pytest.mark.parametrize("command", [c for n, c in COMMANDS.items() if n != "no environment"])
def test_no_process_of_the_session_is_left(command: str, mark: str) -> None:
    with start(command, mark):
        assert running(mark)
        assert end(mark, ["/bin/sh"]) == "gone"
        assert not running(mark)


def test_term_comes_first(mark: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with start(f"trap 'echo term > {note}; exit' TERM; echo begun; sleep 300 & wait", mark):
        assert end(mark, ["/bin/sh"], grace=30) == "gone"
    assert note.read_text() == "term\n"


def test_a_daemon_is_left_alone(mark: str) -> None:
    daemon = "setsid sh -c 'echo begun; exec sleep 300 >/dev/null' & exec sleep 301 >/dev/null"
    with start(daemon, mark):
        assert end(mark, ["/bin/sh"]) == "gone"
        [left] = running(mark)
        assert b"300" in Path(f"/proc/{left}/cmdline").read_bytes()
        os.kill(left, signal.SIGKILL)


def test_other_connections_are_left_alone(mark: str) -> None:
    other = CONNECTION + "22"
    with start(COMMANDS["one process"], mark) as mine, start("echo begun; sleep 9", mark, other):
        assert end(mark, ["/bin/sh"]) == "gone"
        assert not process_runs(mine.pid)
        left = running(mark)
        assert left
        assert end(mark, ["/bin/sh"], connection=other) == "gone"
        assert not running(mark)


@pytest.mark.parametrize("connection", ["", "10.0.0.1 1 10.0.0.2 22"])
def test_nothing_is_signalled_if_the_command_is_not_found(mark: str, connection: str) -> None:
    with start(COMMANDS["one process"], mark) as process:
        assert end(mark, ["/bin/sh"], connection=connection) == "unknown"
        assert process_runs(process.pid)
        process.kill()


def test_a_connection_that_the_server_has_inherited_does_not_count(
    mark: str, tmp_path: Path
) -> None:
    # A server that somebody has started in a session of sshd: all its commands have one value.
    code = (
        "import subprocess, sys; from pyclustershell.ssh.remotekill import kill_command\n"
        "other = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "line = ['/bin/sh', '-c', kill_command(0.3)]\n"
        "print(subprocess.run(line, stdout=-1, start_new_session=True).stdout.decode())\n"
        "print(other.poll()); other.kill()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(mark), stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.split() == [
        *(b"pyclustershell-kill:", b"begun", b"pyclustershell-kill:", b"unknown", b"None")
    ]


def served() -> Iterator[Any]:
    """The name of a server, the process file system, and the command, of each case."""
    for name, command in COMMANDS.items():
        yield pytest.param("sshd", "/proc", command, id=f"sshd, {name}")
        # Without /proc, ps shows process groups: sshd's commands lead one.
        if name != "a group of its own":
            yield pytest.param("sshd", "/nowhere", command, id=f"sshd without /proc, {name}")
        # dropbear's commands share its session: nothing shows whose an orphan is.
        if name != "an orphan":
            yield pytest.param("dropbear", "/proc", command, id=f"dropbear, {name}")
    yield pytest.param("sshd-session", "/proc", COMMANDS["children"], id="sshd-session, children")


@pytest.mark.parametrize(("name", "proc", "command"), list(served()))
def test_servers_with_a_process_for_each_connection(
    name: str, proc: str, command: str, mark: str, tmp_path: Path
) -> None:
    if proc != "/proc" and shutil.which("ps") is None:
        pytest.skip("no ps")
    server = tmp_path / name
    server.symlink_to(sys.executable)
    session = "shared" if name == "dropbear" else "own"
    process = subprocess.Popen(
        [server, "-c", SERVER, session, command, kill_command(0.3, proc)],
        env={**environment(mark), "PYTHONHOME": sys.base_prefix},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [pid for pid in running(mark) if pid != process.pid]
        out, _ = process.communicate(b"\n", timeout=60)
        assert out.split()[-1] == b"gone"
        assert not running(mark)


def test_the_script_ends_although_nobody_reads_its_reports(mark: str) -> None:
    """The connection may be gone by then. The script must not go on for ever on the node."""
    reader, writer = os.pipe()
    os.close(reader)
    for command in (None, COMMANDS["children"]):
        script = subprocess.Popen(
            ["/bin/sh", "-c", kill_command(0.1)],
            env=environment(mark if command is None else mark.replace("=", "=script")),
            stdout=writer,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if command is None:
            script.wait(20)
        else:
            with start(command, mark):
                script.wait(20)
    os.close(writer)


def test_the_script_is_one_line_that_every_shell_passes_on() -> None:
    text = kill_command(2.0).decode()
    prefix, script, rest = text.split("'")
    assert prefix == "exec /bin/sh -c "
    assert rest == ""
    assert not set("\n!") & set(script)
    assert len(text) < 4096  # csh's words were this long once
