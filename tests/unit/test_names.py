"""Host and user names that a shell or a program would take for something else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.exceptions import NodeConfigurationError, WorkerError
from pyclustershell.ssh.config.names import check_host, check_hostname, check_user
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.worker.exec import ExecWorker
from pyclustershell.worker.pdsh import WorkerPdsh
from pyclustershell.worker.rsh import WorkerRsh
from tests.helpers.tasks import fresh_task, run_worker

# With each of them, `echo NAME` does more than print a word.
FOR_BOTH = ["$(>made)", "`>made`", "x;>made;", "x|>made", "x&>made", "x\n>made", ">made", "-F/made"]
FOR_HOSTS = [
    *FOR_BOTH,
    "$x",
    "a b",
    "a\tb",
    "a\\b",
    "a\x00b",
    "a\x7fb",
    "a\u00a0b",
    "'",
    '"',
    "{",
]
FOR_USERS = [
    *FOR_BOTH,
    "a\udcffb",
    "a -b",
    "a\t-b",
    "a\\",
    "a\x00b",
    "a\rb",
    "'a'",
    '"a"',
    "{a}",
    "(a)",
]


@pytest.mark.parametrize("name", FOR_HOSTS)
def test_host_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"host name .*: correct the name"):
        check_hostname(name)


CHANGED = ["\ufeffn1", "n\u00ad1", "n\u200b1", "\uff4e1", "n\u2460", "a\u3002b", "stra\u00dfe"]


@pytest.mark.parametrize("name", [*CHANGED, *FOR_HOSTS, "a\udcffb", "x" * 1026])
def test_hosts_that_are_not_connected_to(name: str) -> None:
    with pytest.raises(ValueError, match=r"^host name .*: (correct the|write that) name$"):
        check_host(name)


@pytest.mark.parametrize("name", CHANGED)
def test_names_that_the_resolver_would_change_are_no_danger_to_a_shell(name: str) -> None:
    check_hostname(name)


@pytest.mark.parametrize("name", FOR_USERS)
def test_user_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"user name .*: correct the name"):
        check_user(name)


@pytest.mark.parametrize(
    "name",
    [
        "node1",
        "n-1.example.org",
        "10.0.0.1",
        "fe80::1%eth0",
        "a_b",
        "bücher",
        "B\u00dccher.example",
        "[::1]",
        "u@h",
    ],
)
def test_host_names_that_are_accepted(name: str) -> None:
    check_hostname(name)
    check_host(name)


@pytest.mark.parametrize("name", ["root", "a.b-c_d", "DOMAIN\\user", "host$", "a b", "a@b", "#1"])
def test_user_names_that_are_accepted(name: str) -> None:
    check_user(name)


def settings_for(config: Path, node: str = "node1", **options: Any) -> ConnectionSettings:
    given = SSHOptions(config_files=config, allow_match_exec=True, **options)
    return resolve(node, given, config_cache=ConfigCache())


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file in which every token reaches a shell; 'made' must not appear beside it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config"
    path.write_text(
        'Match exec "echo %h %n %r %k %j >&2"\n  Port 2222\nHost *\n  ProxyCommand echo %h %n %r\n'
    )
    return path


@pytest.mark.parametrize("name", FOR_HOSTS)
def test_no_shell_reads_a_bad_host_name(config: Path, name: str) -> None:
    for options in ({"node": name}, {"hostname": lambda node: name}):
        with pytest.raises((NodeConfigurationError, ValueError)):
            settings_for(config, **options)
    assert list(config.parent.iterdir()) == [config]


@pytest.mark.parametrize("name", FOR_BOTH)
@pytest.mark.parametrize("keyword", ["HostKeyAlias", "ProxyJump"])
def test_no_shell_reads_a_bad_alias_or_jump_host(config: Path, keyword: str, name: str) -> None:
    with pytest.raises((NodeConfigurationError, ValueError)):
        settings_for(config, overrides=[f"{keyword}={name}"])
    assert list(config.parent.iterdir()) == [config]


@pytest.mark.parametrize("name", FOR_USERS)
def test_no_shell_reads_a_bad_user_name(config: Path, name: str) -> None:
    with pytest.raises(NodeConfigurationError):
        settings_for(config, user=lambda node: name)
    with pytest.raises((NodeConfigurationError, ValueError)):
        settings_for(config, proxy_jump=f"{name}@node2")
    assert list(config.parent.iterdir()) == [config]


def test_bad_names_in_configuration_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for line, kind in (("HostName $(x)", "host name"), ("User $(x)", "user name")):
        path.write_text(f"Host *\n  {line}\n")
        with pytest.raises(NodeConfigurationError, match=kind):
            settings_for(path)


def test_good_names_reach_the_shell(config: Path) -> None:
    settings = settings_for(config, user="bob", hostname="%h.example.org")
    assert settings.port == 2222
    assert settings.proxy_command == "echo node1.example.org node1 bob"


@pytest.mark.parametrize("name", ["$(>made)", "x;>made;", "-oProxyCommand=x"])
@pytest.mark.parametrize(
    ("worker", "command"),
    [
        (ExecWorker, "echo %h"),
        (ExecWorker, "echo %{host}"),
        (ExecWorker, "echo %hosts"),
        (WorkerRsh, "true"),
        (WorkerPdsh, "true"),
    ],
)
def test_local_commands_refuse_bad_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, worker: Any, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with fresh_task() as task:
        for program in ("rsh", "pdsh"):
            task.set_info(f"{program}_path", f"sh -c {shlex.quote('>made')}")
        with pytest.raises(WorkerError, match="host name"):
            run_worker(task, worker(name, None, command=command))
    assert not list(tmp_path.iterdir())


def test_a_command_without_names_runs_for_any_name() -> None:
    with fresh_task() as task:
        run_worker(task, ExecWorker("a;b", None, command="exit 3"))
        assert task.max_retcode() == 3
