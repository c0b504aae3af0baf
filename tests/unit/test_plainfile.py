"""Files that users name, and what is refused in their place: its reading would not end."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.exceptions import ConfigurationError, NodeConfigurationError, TopologyError
from pyclustershell.nodeset.groupsconf import GroupsConfig
from pyclustershell.nodeset.topology import TopologyParser
from pyclustershell.plainfile import LARGEST, file_or_pipe, regular_file
from pyclustershell.ssh.auth.keystore import KeyStore
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.knownhosts import read_lines
from pyclustershell.ssh.hostkeys.revocation import read_revoked_keys

pytestmark = pytest.mark.posix_only("Windows has no such files")


def contents(path: str, opener: Any) -> bytes:
    with open(path, "rb", opener=opener) as file:
        return file.read()


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A pipe that nobody writes to: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def test_files_and_the_null_device_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    for opener in (regular_file, file_or_pipe):
        assert contents(str(tmp_path / "file"), opener) == b"text"
        assert contents(os.devnull, opener) == b""


def test_a_pipe_of_the_shell_is_read(pipe: str) -> None:
    for opener in (regular_file, file_or_pipe):
        reading, writing = os.pipe()
        os.write(writing, b"text")
        os.close(writing)
        assert contents(f"/dev/fd/{reading}", opener) == b"text"
        os.close(reading)
    # A pipe with a name is waited for where a command line names it.
    holding = os.open(pipe, os.O_RDWR)
    os.write(holding, b"line\nmore")
    with open(pipe, opener=file_or_pipe) as file:
        assert file.readline() == "line\n"
    os.close(holding)


@pytest.mark.parametrize("opener", [regular_file, file_or_pipe])
def test_devices_and_sockets_are_refused(opener: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is a device: name a regular file: '/dev/zero'"):
        contents("/dev/zero", opener)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        # The system's own refusal: ENXIO or EOPNOTSUPP.
        with pytest.raises(OSError, match=r"No such device|not supported"):
            contents(path, opener)


def test_a_pipe_with_a_name_is_refused_at_once(pipe: str) -> None:
    with pytest.raises(OSError, match="it is a pipe: name a regular file"):
        contents(pipe, regular_file)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(OSError, match=f"it has {LARGEST + 1} bytes, more than {LARGEST}: name"):
        contents(str(tmp_path / "large"), regular_file)


@pytest.fixture(params=["/dev/zero", "pipe"])
def endless(request: pytest.FixtureRequest, pipe: str) -> str:
    """A path whose reading does not end."""
    return pipe if request.param == "pipe" else str(request.param)


def test_keys_and_certificates(endless: str, tmp_path: Path) -> None:
    assert f"{endless}: it is a " in KeyStore().load(endless).reason
    assert f"{endless}: it is a " in str(KeyStore().certificate(endless))
    # The public key that lies beside a private one.
    (tmp_path / "key.pub").symlink_to(endless)
    assert KeyStore().load(str(tmp_path / "key")).missing


def test_known_and_revoked_hosts(endless: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert read_lines(endless) == ()
    assert f"cannot read {endless}: it is a " in caplog.text
    with pytest.raises(OSError, match="name a regular file"):
        read_revoked_keys(endless)
    assert read_lines(os.devnull) == [""]


def test_configuration_of_ssh(endless: str, tmp_path: Path) -> None:
    with pytest.raises((NodeConfigurationError, OSError), match="name a regular file"):
        resolve("node1", SSHOptions(config_files=endless), config_cache=ConfigCache())
    (tmp_path / "config").write_text(f"Include {endless}\n")
    with pytest.raises(ConfigurationError, match=f"cannot read {endless}: it is a .*: name a"):
        ConfigCache().load(str(tmp_path / "config"))
    resolve("node1", SSHOptions(config_files=os.devnull), config_cache=ConfigCache())


def test_groups_and_topologies() -> None:
    config = GroupsConfig(["/dev/zero"])
    assert config.problems == ["/dev/zero: the file cannot be read"]
    with pytest.raises(TopologyError, match="/dev/zero: it is a device: name a regular file"):
        TopologyParser("/dev/zero")
