"""Programs that Linux runs for tests on Windows: their output, their end, their errors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.programs import ROOT
from tests.helpers.waiting import wait_until
from tests.servers.trees import process_runs
from tests.windows import linuxside

pytestmark = pytest.mark.posix_only("it starts a server of its own, as .ci/windows does")


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.windows.linuxside"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        monkeypatch.setenv(linuxside.VARIABLE, process.stdout.readline().strip())
        yield
        process.communicate(timeout=20)  # ends with its standard input
        assert process.returncode == 0


def test_a_program_runs_to_its_end(tmp_path: Path) -> None:
    done = linuxside.run(
        ["sh", "-c", 'cat; echo "$NAME" >&2; pwd; exit 3'],
        stdin=b"\xff\n",
        environment={"NAME": "value"},
        directory=tmp_path,
    )
    assert (done.returncode, done.stderr) == (3, b"value\n")
    assert done.stdout == b"\xff\n" + f"{tmp_path}\n".encode()


def test_a_program_that_is_left_is_killed_with_its_children() -> None:
    with linuxside.LinuxProgram(["sh", "-c", "sleep 300 & wait"]) as program:
        with pytest.raises(TimeoutError):
            program.wait(0.05)
        assert process_runs(program.pid)
    assert not process_runs(program.pid)


def test_a_client_that_dies_leaves_nothing() -> None:
    program = linuxside.LinuxProgram(["sleep", "300"])
    program._connection.close()
    wait_until(lambda: not process_runs(program.pid))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        linuxside.run(["no-such-program"])


def test_nobody_without_the_token_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(os.environ[linuxside.VARIABLE].partition(":")[0])
    request = {"token": "guessed", "arguments": ["touch", str(tmp_path / "file")]}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        assert connection.recv(1) == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Z:\\tmp\\a b", "/tmp/a b"),
        ("z:/tmp/x", "/tmp/x"),
        ("-oOption=Z:\\x", "-oOption=Z:\\x"),
        (Path("/tmp/x"), "/tmp/x"),
    ],
)
def test_paths_of_windows_are_linuxs(path: str, expected: str) -> None:
    assert linuxside.linux_path(path) == expected
