"""The engine's thread asks no disk: one that does not answer would stop every node and timeout."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from cryptography.hazmat.primitives import serialization

from pyclustershell.engine import engine as engines
from pyclustershell.engine.slowcalls import DEFAULT_LIMIT, SlowCalls
from pyclustershell.task import Task
from tests.helpers.disk import TAKES, SlowDisk
from tests.helpers.needs import require
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, make_key


@pytest.fixture
def task(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """A task whose disk is slow for its thread, and which reports slow callbacks."""
    disk = SlowDisk(monkeypatch)
    monkeypatch.setattr(engines, "slow_calls", lambda _clock: SlowCalls(DEFAULT_LIMIT, disk.clock))
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.configure_ssh(agent=False)
        yield task


def reports(task: Task, caplog: pytest.LogCaptureFixture, nodes: str = "node[1-20]") -> list[str]:
    """Run a command on new connections, and again on those that are kept; return the reports."""
    with caplog.at_level(logging.WARNING, "pyclustershell.engine"):
        for _ in range(2):
            task.run("seq 5000", nodes=nodes, timeout=50)
            assert [(str(it), len(nodes)) for it, nodes in task.iter_failures()] == []
            assert task.max_retcode() == 0
    return [r.getMessage() for r in caplog.records if "engine's thread" in r.getMessage()]


def test_the_reports_are_of_the_disk(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    task._engine.call_later(0.0, lambda: os.stat(__file__))
    [report] = reports(task, caplog, "node1")
    assert f"kept the engine's thread for {TAKES:.3f} s" in report


def _as_configured(_task: Task, _sshd: Sshd, _directory: Path) -> None:
    """One key file, and one known_hosts file."""


def _several_keys(task: Task, sshd: Sshd, directory: Path) -> None:
    make_key(directory / "wrong")
    task.configure_ssh(identity_files=[directory / "missing", directory / "wrong", sshd.key])


def _passphrase(task: Task, sshd: Sshd, directory: Path) -> None:
    key = serialization.load_ssh_private_key(sshd.key.read_bytes(), None)
    encrypted = directory / "encrypted"
    encrypted.touch(mode=0o600)
    form = serialization.PrivateFormat.OpenSSH
    encryption = form.encryption_builder().kdf_rounds(1).build(b"secret")
    encrypted.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    task.configure_ssh(pkeys=[encrypted], passphrase=lambda _node: "secret")


def _certificates(task: Task, sshd: Sshd, directory: Path) -> None:
    """A certificate beside the key, and one that is named; the server takes the plain key."""
    require("ssh-keygen")
    make_key(directory / "authority")
    key = directory / "key"
    for name, public in ((key, sshd.key.with_name("id_ed25519.pub")), (directory / "other", None)):
        name.touch(mode=0o600)
        if public is None:
            make_key(name)
        else:
            name.write_bytes(sshd.key.read_bytes())
            name.with_name("key.pub").write_bytes(public.read_bytes())
        command = ["ssh-keygen", "-q", "-s", directory / "authority", "-I", "x", f"{name}.pub"]
        processes.run(*command)
    task.configure_ssh(pkeys=[key], certificates=[directory / "other-cert.pub"])


def _revoked_keys(task: Task, _sshd: Sshd, directory: Path) -> None:
    (directory / "revoked").write_text("")
    task.configure_ssh(overrides=[f"RevokedHostKeys={directory / 'revoked'}"])


def _new_hosts(task: Task, _sshd: Sshd, directory: Path) -> None:
    known_hosts = directory / "known_hosts"
    task.configure_ssh(known_hosts=known_hosts, host_key_policy="accept-new")
    task.configure_ssh(overrides=["HostKeyAlias=none"])


def _new_session_keys(task: Task, _sshd: Sshd, _directory: Path) -> None:
    task.configure_ssh(overrides=["RekeyLimit=1K"])


def _jump_host(task: Task, sshd: Sshd, _directory: Path) -> None:
    task.configure_ssh("node[1-20]", proxy_jump="node30")


@pytest.mark.parametrize(
    "prepare",
    [
        _as_configured,
        _several_keys,
        _passphrase,
        _certificates,
        _revoked_keys,
        _new_hosts,
        _new_session_keys,
        _jump_host,
    ],
)
def test_no_callback_asks_the_disk(
    sshd: Sshd,
    task: Task,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[Task, Sshd, Path], Any],
) -> None:
    prepare(task, sshd, tmp_path)
    assert reports(task, caplog) == []
