"""/dev/null in configurations, on Windows as well, where it is NUL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.knownhosts import append_line, open_locked, read_lines
from tests.helpers.tasks import fresh_task, outputs

NAMES = ["/dev/null", *["NUL", "nul", "NUL:"] * (sys.platform == "win32")]


@pytest.fixture
def cache(tmp_path: Path) -> ConfigCache:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Port 2222\n", encoding="utf-8")
    return ConfigCache(Environment(_user="me", _home=str(tmp_path)))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_no_configuration(cache: ConfigCache, name: str) -> None:
    options = SSHOptions.parse_command_line(f"-F {name}")
    assert resolve("node1", options, config_cache=cache).port == 22
    assert resolve("node1", SSHOptions(), config_cache=cache).port == 2222


@pytest.mark.parametrize("name", ["/dev/null", "NUL"])
def test_windows_knows_both_names(
    cache: ConfigCache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    options = SSHOptions(
        config_files=name, known_hosts=name, identity_files=name, certificates=name
    )
    settings = resolve("node1", options, config_cache=cache)
    assert settings.known_hosts == (os.devnull,)
    assert settings.identity_files == (os.devnull,)
    assert settings.certificates == (os.devnull,)
    assert settings.port == 22


def test_it_keeps_no_host_keys() -> None:
    with open_locked(os.devnull) as descriptor:
        append_line(descriptor, "node1 ssh-ed25519 AAAA\n")
    assert "".join(read_lines(os.devnull)) == ""


def test_host_keys_are_accepted_and_not_kept(tmp_path: Path) -> None:
    """The usual options for nodes that are installed anew all the time."""
    with LoopbackCluster("node1") as cluster, fresh_task() as task:
        task.set_info(
            "ssh_options",
            f"-F /dev/null -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no "
            f"-p {cluster.port('node1')} -l {cluster.user} -i '{cluster.identity_file}' "
            "-o HostName=127.0.0.1",
        )
        for _ in range(2):
            task.run("echo ok", nodes="node1")
            assert [failure.args for failure, _ in task.iter_failures()] == []
            assert outputs(task)["node1"].strip() == b"ok"
            task.close()
