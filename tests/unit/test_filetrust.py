"""Which configuration files are trusted on Windows."""

from __future__ import annotations

import ctypes
import optparse
import sys
from pathlib import Path
from typing import Optional

import pytest

from pyclustershell.cli.clushconfig import ClushConfig
from pyclustershell.defaults import config_paths
from pyclustershell.exceptions import ConfigurationError
from pyclustershell.filetrust import judge, why_refused, why_untrusted
from pyclustershell.nodeset.groups import GroupResolverConfig
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.knownhosts import read_lines

ME = "S-1-5-21-1-2-3-1001"
SYSTEM, ADMINISTRATORS, USERS = "S-1-5-18", "S-1-5-32-544", "S-1-5-32-545"
READ, MODIFY, ALL = 0x1200A9, 0x1301BF, 0x1F01FF

windows_only = pytest.mark.skipif(sys.platform != "win32", reason="only Windows has such rights")


@pytest.mark.parametrize(
    ("owner", "grants", "reason"),
    [
        (ME, [(ME, ALL), (SYSTEM, ALL), (ADMINISTRATORS, ALL)], None),
        (ADMINISTRATORS, [(ADMINISTRATORS, ALL), (USERS, READ)], None),
        (SYSTEM, [], None),
        (USERS, [(ME, ALL)], f"it belongs to another user ({USERS})"),
        (ME, [(ME, ALL), (USERS, MODIFY)], f"another user can change it ({USERS})"),
        (ME, [(USERS, 0x40000000)], f"another user can change it ({USERS})"),
        (ME, [(USERS, 0x00040000)], f"another user can change it ({USERS})"),
        (ME, None, "every user can change it"),
    ],
)
def test_judgement(
    owner: str, grants: Optional[list[tuple[str, int]]], reason: Optional[str]
) -> None:
    assert judge(ME, owner, grants) == reason


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has something to look at")
def test_posix_has_owners_and_modes_instead(tmp_path: Path) -> None:
    assert why_untrusted(str(tmp_path)) is None
    assert why_refused("/etc/clustershell/groups.conf") is None


def open_to_all(path: Path) -> None:
    """Let every user change a file: it has no list of rights."""
    done = ctypes.WinDLL("advapi32").SetNamedSecurityInfoW(str(path), 1, 4, None, None, None, None)
    assert done == 0


@pytest.fixture
def system_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """%PROGRAMDATA%\\clustershell, and no other place with a configuration."""
    for variable in ("APPDATA", "XDG_CONFIG_HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.delenv("CLUSTERSHELL_CFGDIR", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nothing"))
    monkeypatch.setenv("PROGRAMDATA", str(tmp_path))
    directory = tmp_path / "clustershell"
    (directory / "more").mkdir(parents=True)
    (directory / "groups.conf").write_text(
        "[Main]\nconfdir: $CFGDIR/more\n[one]\nmap: echo node1\n", encoding="utf-8"
    )
    (directory / "more" / "two.conf").write_text("[two]\nmap: echo node2\n", encoding="utf-8")
    (directory / "clush.conf").write_text(
        "[Main]\nconfdir: $CFGDIR/more\nfanout: 7\n", encoding="utf-8"
    )
    (directory / "more" / "mode.conf").write_text(
        "[mode:planted]\ncommand_prefix: evil\n", encoding="utf-8"
    )
    return directory


@windows_only
def test_files_that_only_administrators_can_change_are_read(system_directory: Path) -> None:
    paths = config_paths("groups.conf")
    assert paths[0] == str(system_directory / "groups.conf")
    config = ClushConfig(optparse.Values())
    assert config.parsed == [
        str(system_directory / "clush.conf"),
        *(str(system_directory / "more" / name) for name in ("mode.conf", "two.conf")),
    ]
    assert sorted(GroupResolverConfig(paths).sources()) == ["one", "two"]


@windows_only
def test_files_that_others_can_change_are_not_read(
    system_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = config_paths("groups.conf")
    open_to_all(system_directory / "more" / "two.conf")
    open_to_all(system_directory / "more" / "mode.conf")
    assert GroupResolverConfig(paths).sources() == ["one"]
    assert ClushConfig(optparse.Values()).parsed == [str(system_directory / "clush.conf")]
    assert "two.conf: " in caplog.text
    open_to_all(system_directory / "groups.conf")
    open_to_all(system_directory / "clush.conf")
    assert str(system_directory / "groups.conf") not in config_paths("groups.conf")
    assert ClushConfig(optparse.Values()).parsed == []
    assert "groups.conf: it is not read: " in caplog.text


@windows_only
def test_the_users_ssh_configuration_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / ".ssh" / "config"
    path.parent.mkdir()
    path.write_text("User me\n", encoding="utf-8")
    environment = Environment(_home=str(tmp_path))
    assert len(ConfigCache(environment).defaults()) == 1
    open_to_all(path)
    with pytest.raises(ConfigurationError, match=r"user can change it.*icacls"):
        ConfigCache(environment).defaults()


@windows_only
def test_the_systems_ssh_configuration_is_the_administrators(
    system_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = system_directory.parent / "ssh"
    directory.mkdir()
    config, hosts = directory / "ssh_config", directory / "ssh_known_hosts"
    config.write_text("ProxyCommand evil\n", encoding="utf-8")
    hosts.write_text("node1 ssh-ed25519 AAAA\n", encoding="utf-8")
    environment = Environment(_home=str(directory))
    (read,) = ConfigCache(environment).defaults()
    assert [setting.keyword for setting in read.sections[0].settings] == ["ProxyCommand"]
    assert len(read_lines(str(hosts))) == 2
    open_to_all(config)
    open_to_all(hosts)
    (read,) = ConfigCache(environment).defaults()
    assert read.sections == ()
    assert list(read_lines(str(hosts))) == []
    for path in (config, hosts):
        assert f"{path}: it is not read: " in caplog.text
