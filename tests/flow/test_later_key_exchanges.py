"""Every key exchange is checked as the first one is: host key, revocation, signature."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import paramiko
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from paramiko.message import Message

from pyclustershell.exceptions import (
    HandshakeError,
    HostKeyChangedError,
    HostKeyRevokedError,
    NodeError,
    UnknownHostKeyError,
)
from pyclustershell.ssh.protocol.hostkey import check_host_key
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import Peer, PhaseServer, Rule


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", agent=False, config_files=[], connect_retries=0, password="x")
        yield task


def failure(task: Task) -> Optional[NodeError]:
    failures = [failure for failure, _nodes in task.iter_failures()]
    return failures[0] if failures else None


class RekeyServer(PhaseServer):
    """Exchanges keys again when a command has started, with another host key perhaps.

    Attributes:
        second: the host key of the second exchange.
        before: called before the second exchange.
    """

    def __init__(self, second: Optional[paramiko.PKey] = None) -> None:
        self.first = phases.host_key()
        self.second = second or self.first
        self.before: Callable[[], Any] = lambda: None
        self._transport: Any = None
        rules: dict[int, Rule] = {
            **phases.command(phases.accept, self._exchange),
            phases.NEWKEYS: self._finish,
        }
        super().__init__(rules, key=self.first, offer=self._keep)

    def _keep(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._exchanges = 0

    def _exchange(self, peer: Peer) -> None:
        self.before()
        self._transport.server_key_dict = {self.second.get_name(): self.second}
        self._transport.get_server_key = lambda: self.second
        self._transport._send_kex_init()

    def _finish(self, peer: Peer, payload: bytes) -> bool:
        self._exchanges += 1
        if self._exchanges == 2:
            for step in phases.ok()[1:]:
                step(peer)
        return True


def run(task: Task, server: RekeyServer, **options: Any) -> None:
    with server:
        settings = {"known_hosts": [server.known_host], **options}
        task.configure_ssh(hostname=server.address[0], port=server.port, **settings)
        task.run("true", nodes="node")


def test_the_same_key_again_is_accepted(task: Task) -> None:
    run(task, RekeyServer())
    assert failure(task) is None
    assert bytes(task.node_buffer("node")) == b"ok"


@pytest.mark.parametrize("policy", ["strict", "accept-new", "off"])
def test_another_key_is_refused_under_any_policy(task: Task, policy: str) -> None:
    run(task, RekeyServer(phases.host_key()), host_key_policy=policy)
    assert isinstance(failure(task), HostKeyChangedError)
    assert task.node_retcode("node") == 255
    assert task.node_buffer("node") in (None, b"")


@pytest.mark.parametrize("policy", ["accept-new", "off"])
def test_another_key_of_a_host_that_was_not_known_is_refused(
    task: Task, policy: str, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    run(task, RekeyServer(phases.host_key()), host_key_policy=policy, known_hosts=[str(known)])
    expected = HostKeyChangedError if policy == "accept-new" else UnknownHostKeyError
    assert isinstance(failure(task), expected)


def test_another_key_of_the_host_is_accepted_if_it_is_known(task: Task) -> None:
    second = phases.host_key()
    server = RekeyServer(second)
    name = server.known_host.split()[0]
    known = [server.known_host, f"{name} {second.get_name()} {second.get_base64()}"]
    run(task, server, known_hosts=known)
    assert failure(task) is None


@pytest.mark.parametrize("marker", ["", "@revoked "])
def test_a_key_that_was_revoked_in_the_meantime_is_refused(
    task: Task, marker: str, tmp_path: Path
) -> None:
    server = RekeyServer()
    known, revoked = tmp_path / "known_hosts", tmp_path / "revoked"
    known.write_text(server.known_host + "\n")
    revoked.touch()
    key = f"{server.first.get_name()} {server.first.get_base64()}\n"

    def revoke() -> None:
        if marker:
            with known.open("a") as file:
                file.write(f"{marker}* {key}")
        else:
            revoked.write_text(key)

    server.before = revoke
    config = tmp_path / "config"
    config.write_text(f"RevokedHostKeys {revoked}\n")
    run(task, server, known_hosts=[str(known)], config_files=[str(config)])
    assert isinstance(failure(task), HostKeyRevokedError)
    assert task.node_retcode("node") == 255


# -- the algorithm of the signature ----------------------------------------------------------------

RSA = paramiko.RSAKey.generate(2048)
HASHES: dict[str, Any] = {
    "ssh-rsa": hashes.SHA1,
    "rsa-sha2-256": hashes.SHA256,
    "rsa-sha2-512": hashes.SHA512,
}


def signing(agreed: str, signer: str) -> Callable[[paramiko.Transport], None]:
    """Have a server agree on one algorithm and sign with another one."""

    def sign(data: bytes, algorithm: Optional[str] = None) -> Message:
        message = Message()
        message.add_string(signer)
        message.add_string(RSA.key.sign(data, padding.PKCS1v15(), HASHES[signer]()))
        return message

    class Signer(paramiko.RSAKey):
        """The key, with signatures of our own."""

        sign_ssh_data = staticmethod(sign)

    key = Signer(key=RSA.key)

    def offer(transport: Any) -> None:
        transport._preferred_keys = (agreed,)
        transport.server_key_dict = {agreed: key}
        transport.get_server_key = lambda: key

    return offer


@pytest.mark.parametrize("signer", HASHES)
@pytest.mark.parametrize("agreed", ["rsa-sha2-256", "rsa-sha2-512"])
def test_the_signature_is_of_the_algorithm_agreed_on(task: Task, agreed: str, signer: str) -> None:
    with PhaseServer({}, key=RSA, offer=signing(agreed, signer)) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.run("true", nodes="node")
    if agreed == signer:
        assert failure(task) is None
        return
    error = failure(task)
    assert isinstance(error, HandshakeError)
    assert f"agreed on {agreed}, but its host key has signed with '{signer}'" in error.cause


def fields(*texts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(text)) + text for text in texts)


CERTIFICATE = "-cert-v01@openssh.com"


@pytest.mark.parametrize(
    ("algorithm", "key_type", "signer"),
    [
        ("ssh-rsa", "ssh-rsa", "ssh-rsa"),
        ("rsa-sha2-512", "ssh-rsa", "rsa-sha2-512"),
        ("rsa-sha2-256" + CERTIFICATE, "ssh-rsa" + CERTIFICATE, "rsa-sha2-256"),
        ("ssh-ed25519" + CERTIFICATE, "ssh-ed25519" + CERTIFICATE, "ssh-ed25519"),
        ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ],
)
def test_key_and_signature_belong_to_the_algorithm(
    algorithm: str, key_type: str, signer: str
) -> None:
    key, signature = fields(key_type.encode(), b"key"), fields(signer.encode(), b"signature")
    assert check_host_key(algorithm, key, signature) == key_type
    for other in ("ssh-dss", "ssh-rsa-cert-v00@openssh.com", "ecdsa-sha2-nistp384"):
        with pytest.raises(paramiko.SSHException, match="the host key is of type"):
            check_host_key(algorithm, fields(other.encode(), b"key"), signature)
        with pytest.raises(paramiko.SSHException, match="has signed with"):
            check_host_key(algorithm, key, fields(other.encode(), b"signature"))
    with pytest.raises(paramiko.SSHException, match="bytes after its end"):
        check_host_key(algorithm, key, signature + b"\0")
    with pytest.raises(ValueError, match="the signature of the host key is damaged"):
        check_host_key(algorithm, key, signature[:-1])


def test_a_host_key_with_bytes_after_its_end_is_not_remembered(task: Task, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    key = phases.host_key()

    class Longer(paramiko.Ed25519Key):
        """A key that the server sends with a byte more."""

        def asbytes(self) -> bytes:
            return bytes(super().asbytes()) + b"\0"

    key.__class__ = Longer
    with PhaseServer({}, key=key) as server:
        task.configure_ssh(
            hostname=server.address[0],
            port=server.port,
            known_hosts=[str(known)],
            host_key_policy="accept-new",
        )
        task.run("true", nodes="node")
    error = failure(task)
    assert isinstance(error, HandshakeError)
    assert "the host key has bytes that are not part of it" in error.cause
    assert known.read_text() == ""
