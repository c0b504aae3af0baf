"""The ways in, against real servers: OpenSSH for keys and agents, asyncssh for passwords."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from pyclustershell.exceptions import AuthenticationError
from pyclustershell.task import Task
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, make_key
from tests.tasks import fresh_task

PASSWORD = "correct horse"


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
    path.chmod(0o600)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSWORD, "-f", str(path)],
        check=True,
        capture_output=True,
    )
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


def test_a_key_that_others_can_read_is_not_used(sshd: Sshd, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "open"
    shutil.copy(sshd.key, path)
    path.chmod(0o644)
    task.configure_ssh(**in_code(sshd, pkeys=[str(path)]))
    with pytest.raises(AuthenticationError, match="permissions 0644 are too open"):
        outcome(task, "127.0.0.1")


def test_the_agents_keys(
    sshd: Sshd, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = shutil.which("ssh-agent")
    if agent is None:
        if os.environ.get("CI"):
            pytest.fail("no ssh-agent in PATH: install openssh-client")
        pytest.skip("no ssh-agent in PATH")
    # In a short path: a socket's may have 108 characters.
    directory = Path(os.path.realpath("/tmp")) / f"agent-{os.getpid()}"
    directory.mkdir(mode=0o700)
    socket_path = directory / "s"
    process = subprocess.Popen(
        [agent, "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(500):
            if socket_path.exists():
                break
            threading.Event().wait(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket_path)}
        subprocess.run(["ssh-add", "-q", str(sshd.key)], env=environment, check=True)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        task.configure_ssh(**in_code(sshd, agent=True))
        task.run("echo ok", nodes="127.0.0.[1-9]", timeout=30)
        assert list(task.iter_failures()) == []
        task.close()
        task.configure_ssh(agent=False)
        with pytest.raises(AuthenticationError, match="Permission denied"):
            outcome(task, "127.0.0.1")
        task.configure_ssh(agent=str(socket_path))
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert outcome(task, "127.0.0.1") == b"ok"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory)


# -- host certificates --


def test_a_host_certificate_of_a_known_authority(task: Task, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "ca")
    make_key(tmp_path / "host")
    subprocess.run(
        [
            *("ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "test"),
            *("-h", "-n", "127.0.0.1", str(tmp_path / "host.pub")),
        ],
        check=True,
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


class PasswordServer:
    """An asyncssh server in a thread, for what sshd cannot do without PAM and real accounts."""

    def __init__(self, methods: str) -> None:
        self.methods = methods
        self.attempts: list[tuple[str, str]] = []
        self.port = 0
        self.host_key = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> PasswordServer:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_details: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def _serve(self) -> None:
        outer = self
        asyncio.set_event_loop(self._loop)

        class Server(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return outer.methods == "password"

            def validate_password(self, username: str, password: str) -> bool:
                outer.attempts.append((username, password))
                return password == PASSWORD

            def kbdint_auth_supported(self) -> bool:
                return outer.methods == "keyboard-interactive"

            def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
                return "", "", "", [("Password: ", False)]

            def validate_kbdint_response(self, username: str, responses: Any) -> bool:
                outer.attempts.append((username, responses[0]))
                return bool(responses[0] == PASSWORD)

        def run(process: Any) -> None:
            process.stdout.write("ok\n")
            process.exit(0)

        async def listen() -> Any:
            key = asyncssh.generate_private_key("ssh-ed25519")
            self.host_key = key.export_public_key().decode().strip()
            return await asyncssh.create_server(
                Server, "127.0.0.1", 0, server_host_keys=[key], process_factory=run
            )

        listener = self._loop.run_until_complete(listen())
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        listener.close()
        self._loop.run_until_complete(listener.wait_closed())
        pending = asyncio.all_tasks(self._loop)
        for unfinished in pending:
            unfinished.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive"])
def test_passwords(methods: str) -> None:
    with PasswordServer(methods) as server, fresh_task() as task:
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
