"""What is different on Windows, one difference at a time: it can be played on other systems."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyclustershell import EventHandler, platform
from pyclustershell.ssh.auth.keystore import KeyStore
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.sftp.localfile import LocalFile
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.trees import process_runs


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


def test_paths_keep_their_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    # (What has been parsed is remembered.)
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    assert SSHOptions.parse_command_line(r"-i C:\keys\id").identity_files == (r"C:\keys\id",)
    monkeypatch.setattr(platform, "WINDOWS_PATHS", False)
    assert SSHOptions.parse_command_line(r"-i D:\keys\id").identity_files == ("D:keysid",)


def test_the_directory_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRAMDATA", "/data")
    monkeypatch.setattr(platform, "WINDOWS", True)
    assert Environment().system_directory == os.path.join("/data", "ssh")
    monkeypatch.setattr(platform, "WINDOWS", False)
    assert Environment().system_directory == "/etc/ssh"


def test_users_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    assert Environment(_user="me").uid == "me"


def test_a_mode_that_means_nothing_keeps_no_key_from_being_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o644)
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    assert KeyStore().load(str(path), None, "node").pkey is not None


def test_a_file_without_a_mode_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "POSIX_FILES", False)
    monkeypatch.delattr(os, "pwrite", raising=False)
    target = tmp_path / "file"
    file = LocalFile(str(target), 0o600, inplace=False)
    file.write(6, memoryview(b"second"))
    file.write(0, memoryview(b"first "))
    file.finish(None, 0o640)
    assert target.read_bytes() == b"first second"
    assert list(tmp_path.iterdir()) == [target]


class Ender(EventHandler):
    """Ends a worker as soon as it says something."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        worker.abort()


def test_a_process_without_a_group_is_ended_itself(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "PROCESS_GROUPS", False)
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(50)"
    task.shell(f'exec "{sys.executable}" -c "{code}"', key="local", handler=Ender())
    task.resume()
    pid = int(task.key_buffer("local"))
    deadline = time.monotonic() + 10
    while process_runs(pid):  # it has been told to end
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
