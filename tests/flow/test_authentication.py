"""The ways in, against real servers: OpenSSH for keys and agents, asyncssh for passwords."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import paramiko
import pytest

from pyclustershell.exceptions import AuthenticationError
from pyclustershell.ssh.auth import authenticator
from pyclustershell.ssh.protocol import gssapi_obstacle
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.agent import running_agent
from tests.servers.leaks import no_leaks
from tests.servers.passwords import PASSWORD, PasswordServer
from tests.servers.sshd import Sshd, make_key
from tests.servers.steps import StepServer


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


def in_code(server: Sshd, **options: Any) -> dict[str, Any]:
    """All that is needed to reach a server but for a way to authenticate."""
    return {
        "config_files": [],
        "user": server.user,
        "port": server.port,
        "known_hosts": [str(server.known_hosts)],
        "agent": False,
        "identity_files": [],
        **options,
    }


def outcome(task: Task, node: str) -> bytes:
    task.run("echo ok", nodes=node, timeout=30)
    for failure, _nodes in task.iter_failures():
        raise failure
    return task.node_buffer(node)


# -- keys --


def encrypted_key(server: Sshd, directory: Path) -> Path:
    """A copy of the server's client key, encrypted."""
    path = directory / "encrypted"
    shutil.copy(server.key, path)
    processes.set_mode(path, 0o600)
    processes.run("ssh-keygen", "-q", "-p", "-P", "", "-N", PASSWORD, "-f", path)
    return path


def test_a_key_file_with_a_passphrase(sshd: Sshd, task: Task, tmp_path: Path) -> None:
    path = encrypted_key(sshd, tmp_path)
    task.configure_ssh(**in_code(sshd, pkeys=[str(path)]))
    with pytest.raises(AuthenticationError, match="encrypted, and no passphrase was given"):
        outcome(task, "127.0.0.1")
    task.configure_ssh(passphrase="wrong")
    with pytest.raises(AuthenticationError, match="the passphrase is wrong"):
        outcome(task, "127.0.0.1")
    asked: list[str] = []

    def passphrase(node: str) -> str:
        asked.append(node)
        return PASSWORD

    task.configure_ssh(passphrase=passphrase)
    task.run("echo ok", nodes="127.0.0.[1-9]", timeout=30)
    assert list(task.iter_failures()) == []
    # Once per key, however many nodes want it.
    assert len(asked) == 1


def test_a_key_in_memory(sshd: Sshd, task: Task) -> None:
    task.configure_ssh(**in_code(sshd, pkeys=[Path(sshd.key).read_bytes()]))
    assert outcome(task, "127.0.0.1") == b"ok"


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_a_key_that_others_can_read_is_not_used(sshd: Sshd, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "open"
    shutil.copy(sshd.key, path)
    path.chmod(0o644)
    task.configure_ssh(**in_code(sshd, pkeys=[str(path)]))
    with pytest.raises(AuthenticationError, match="permissions 0644 are too open"):
        outcome(task, "127.0.0.1")


def test_the_agents_keys(sshd: Sshd, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_agent(sshd.key) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
        task.configure_ssh(**in_code(sshd, agent=True))
        task.run("echo ok", nodes="127.0.0.[1-9]", timeout=30)
        assert list(task.iter_failures()) == []
        task.close()
        task.configure_ssh(agent=False)
        with pytest.raises(AuthenticationError, match="Permission denied"):
            outcome(task, "127.0.0.1")
        task.configure_ssh(agent=agent.path)
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert outcome(task, "127.0.0.1") == b"ok"


def test_too_many_keys_are_explained(task: Task, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_key(tmp_path / name)
    directory = tmp_path / "sshd"
    directory.mkdir()
    with Sshd(directory, MaxAuthTries=2) as server:
        keys = [tmp_path / "a", tmp_path / "b", tmp_path / "c", server.key]
        with running_agent(*keys) as agent:
            task.configure_ssh(**in_code(server, agent=agent.path))
            with pytest.raises(AuthenticationError) as raised:
                outcome(task, "127.0.0.1")
            assert raised.value.cause == "Too many authentication failures"
            assert "of them with keys: name the right key" in str(raised.value)
            assert "IdentitiesOnly" in str(raised.value)
            # The advice works: the agent has the key, and a public key names it.
            named = {"identity_files": [f"{server.key}.pub"], "identities_only": True}
            task.configure_ssh(**named)
            assert outcome(task, "127.0.0.1") == b"ok"
        task.close()


@pytest.mark.skipif(not gssapi_obstacle(), reason="GSSAPI can be used here: it is tried")
def test_gssapi_that_cannot_be_used_is_explained(task: Task, tmp_path: Path) -> None:
    with Sshd(tmp_path, GSSAPIAuthentication="yes") as server:
        task.configure_ssh(**in_code(server, overrides=["GSSAPIAuthentication=yes"]))
        with pytest.raises(AuthenticationError, match="GSSAPI cannot be used: "):
            outcome(task, "127.0.0.1")
        # Other methods still work.
        task.configure_ssh(pkeys=[str(server.key)])
        assert outcome(task, "127.0.0.1") == b"ok"
        task.close()


@pytest.mark.skipif(find_spec("paramiko.ssh_gss") is None, reason="this paramiko has no GSSAPI")
def test_gssapi_without_a_ticket_leaves_the_other_methods(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoTicket(Exception):
        pass

    hosts: list[str] = []

    class Mechanism:
        """Stands for the gssapi package: there is no KDC here."""

        def __init__(self, method: str, delegate: bool) -> None:
            assert (method, delegate) == ("gssapi-with-mic", True)

        def ssh_gss_oids(self) -> bytes:
            # One object identifier: Kerberos 5 (RFC 4462 section 3.2).
            oid = bytes.fromhex("06092a864886f712010202")
            return (1).to_bytes(4, "big") + len(oid).to_bytes(4, "big") + oid

        def ssh_init_sec_context(self, host: str, *_rest: object) -> bytes:
            hosts.append(host)
            raise NoTicket

    gss = import_module("paramiko.ssh_gss")
    monkeypatch.setattr(gss, "GSSAuth", Mechanism)
    monkeypatch.setattr(gss, "GSS_EXCEPTIONS", (NoTicket,))
    monkeypatch.setattr(authenticator, "gssapi_obstacle", lambda: "")
    settings = ["GSSAPIAuthentication=yes", "GSSAPIDelegateCredentials=yes"]
    with Sshd(tmp_path, GSSAPIAuthentication="yes", LogLevel="DEBUG1") as server:
        task.configure_ssh(**in_code(server, overrides=settings, pkeys=[str(server.key)]))
        assert outcome(task, "127.0.0.1") == b"ok"
        assert "method gssapi-with-mic" in server.log()
        assert set(hosts) <= {"127.0.0.1"}
        task.close()


# -- host certificates --


def test_a_host_certificate_of_a_known_authority(task: Task, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "ca")
    make_key(tmp_path / "host")
    processes.run(
        *("ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "test"),
        *("-h", "-n", "127.0.0.1", tmp_path / "host.pub"),
    )
    settings = {"HostKey": tmp_path / "host", "HostCertificate": tmp_path / "host-cert.pub"}
    directory = tmp_path / "sshd"
    directory.mkdir()
    with Sshd(directory, **settings) as server:
        task.configure_ssh(
            **in_code(
                server,
                pkeys=[str(server.key)],
                known_hosts=[f"@cert-authority 127.0.0.*,[127.0.0.*]:{server.port} {authority}"],
            )
        )
        assert outcome(task, "127.0.0.1") == b"ok"
        # The certificate is for 127.0.0.1 only.
        task.run("echo ok", nodes="127.0.0.2", timeout=30)
        [(failure, _nodes)] = task.iter_failures()
        assert failure.phase == "host key"
        task.close()


# -- passwords --


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive"])
def test_passwords(methods: str) -> None:
    with PasswordServer([methods]) as server, fresh_task() as task:
        task.configure_ssh(
            config_files=[],
            user="somebody",
            port=server.port,
            known_hosts=[f"[127.0.0.1]:{server.port} {server.host_key}"],
            agent=False,
            identity_files=[],
            password=lambda node: f"not the one of {node}",
        )
        task.run("anything", nodes="127.0.0.1", timeout=30)
        [(failure, _nodes)] = task.iter_failures()
        assert isinstance(failure, AuthenticationError)
        assert "not the one of" not in f"{failure!r} {failure}"
        assert f"Permission denied ({methods})" in str(failure)
        assert server.attempts == [("somebody", "not the one of 127.0.0.1")]
        task.configure_ssh(password=PASSWORD)
        assert PASSWORD not in repr(task.connection_settings("127.0.0.1"))
        task.run("anything", nodes="127.0.0.1", timeout=30)
        assert task.node_buffer("127.0.0.1") == b"ok"


@pytest.mark.parametrize(
    ("methods", "given"),
    [
        (["publickey", "keyboard-interactive"], "keyboard_interactive"),
        (["publickey", "password"], "password"),
        (["password", "publickey"], "password"),
    ],
)
def test_several_methods_one_after_the_other(methods: list[str], given: str) -> None:
    key = paramiko.ECDSAKey.generate()
    answers = {
        "password": PASSWORD,
        "keyboard_interactive": lambda _node, _title, _text, prompts: [PASSWORD] * len(prompts),
    }
    with StepServer(methods, key) as server:
        options: dict[str, Any] = {
            "config_files": [],
            "user": "somebody",
            "port": server.port,
            "known_hosts": [f"[127.0.0.1]:{server.port} {server.host_key}"],
            "agent": False,
            "identity_files": [],
            "pkeys": [key],
        }
        with fresh_task() as task:
            task.configure_ssh(**options, **{given: answers[given]})
            assert outcome(task, "127.0.0.1") == b"ok"
        taken = [method for method, right in server.steps if right]
        assert list(dict.fromkeys(taken)) == methods
        # One of two steps is not enough, and the failure names the missing one.
        with fresh_task() as task:
            task.configure_ssh(**options)
            missing = next(method for method in methods if method != "publickey")
            with pytest.raises(AuthenticationError, match=missing):
                outcome(task, "127.0.0.1")
