"""Host certificates: made by ssh-keygen, wrong ones, and one of a real server."""

from __future__ import annotations

import base64
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable

import paramiko
import pytest

from pyclustershell.exceptions import HostKeyChangedError, HostKeyRevokedError, UnknownHostKeyError
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys import certificates as hostcertificates
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from tests.helpers.needs import require
from tests.servers import processes
from tests.servers.sshd import Sshd

pytestmark = pytest.mark.needs("ssh-keygen")

Sign = Callable[..., bytes]


def generate(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair; return the public key, type and base64."""
    processes.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def decode(line: str) -> bytes:
    return base64.b64decode(line.split()[1])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the keys ca, other and, of each kind, a host's."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("ca", "other"):
        generate(directory / name)
    for kind in ("ed25519", "rsa", "ecdsa"):
        generate(directory / kind, kind)
    return directory


def public(keys: Path, name: str) -> str:
    return " ".join((keys / f"{name}.pub").read_text().split()[:2])


@pytest.fixture
def sign(keys: Path, tmp_path: Path) -> Sign:
    """Return a function that signs a host key with ssh-keygen and returns the certificate."""

    def make(*arguments: str, kind: str = "ed25519", authority: str = "ca") -> bytes:
        copy = tmp_path / "host.pub"
        copy.write_text(public(keys, kind) + "\n")
        command = ["ssh-keygen", "-q", "-s", keys / authority, "-I", "id", *arguments, copy]
        processes.run(*command)
        return decode((tmp_path / "host-cert.pub").read_text())

    return make


def settings_for(
    *known_hosts: str, policy: str = "strict", host: str = "node1"
) -> ConnectionSettings:
    options = SSHOptions(
        config_files="none", host_key_policy=policy, overrides=["GlobalKnownHostsFile=none"]
    )
    return replace(resolve(host, options, config_cache=ConfigCache()), known_hosts=known_hosts)


def certificate_type(blob: bytes) -> str:
    return paramiko.Message(blob).get_text()


def check(blob: bytes, settings: ConnectionSettings, now: float | None = None) -> bool:
    checker = HostKeyChecker((lambda: now) if now is not None else time.time)
    return checker.check(settings, certificate_type(blob), blob)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("authority", ["ca", "rsa", "ecdsa"])
def test_a_certificate_of_a_known_authority(
    keys: Path, sign: Sign, kind: str, authority: str
) -> None:
    blob = sign("-h", "-n", "node1,node2", kind=kind, authority=authority)
    assert hostcertificates.parse(blob).public == decode(public(keys, kind))
    assert check(blob, settings_for(f"@cert-authority * {public(keys, authority)}"))


@pytest.mark.parametrize(
    "arguments",
    [("-h", "-n", "node1"), ("-h",), ("-h", "-n", "x,node1"), ("-h", "-n", "node*,node1")],
)
def test_principals(keys: Path, sign: Sign, arguments: tuple[str, ...]) -> None:
    assert check(sign(*arguments), settings_for(f"@cert-authority node? {public(keys, 'ca')}"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-h", "-n", "node2"), "it is for other hosts"),
        (("-h", "-n", "node*"), "it is for other hosts"),
        (("-h", "-n", "*"), "it is for other hosts"),
        (("-h", "-n", "NODE1"), "it is for other hosts"),
        (("-h", "-n", "!other"), "it is for other hosts"),
        (("-n", "node1"), "it is not a host certificate"),
        (("-h", "-V", "20200101:20210101"), "it has expired"),
        (("-h", "-V", "20990101:20991231"), "it is not yet valid"),
        (("-h", "-O", "critical:what=ever"), "it has critical options"),
    ],
)
def test_certificates_that_do_not_hold(
    keys: Path,
    sign: Sign,
    arguments: tuple[str, ...],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blob = sign(*arguments)
    settings = settings_for(f"@cert-authority * {public(keys, 'ca')}")
    with pytest.raises(UnknownHostKeyError):
        check(blob, settings)
    assert f"node1: its host certificate is refused: {reason}" in caplog.text


def test_validity_is_that_of_the_clock(keys: Path, sign: Sign) -> None:
    blob = sign("-h", "-V", "20200101000000Z:20210101000000Z")
    settings = settings_for(f"@cert-authority * {public(keys, 'ca')}")
    begin, end = 1577836800, 1609459200
    for now in (begin, end - 1):
        assert check(blob, settings, now)
    for now in (begin - 1, end):
        with pytest.raises(UnknownHostKeyError):
            check(blob, settings, now)


def test_a_changed_certificate_is_worth_nothing(
    keys: Path, sign: Sign, caplog: pytest.LogCaptureFixture
) -> None:
    blob = sign("-h", "-n", "node2")
    forged = blob.replace(b"node2", b"node1")
    with pytest.raises(UnknownHostKeyError):
        check(forged, settings_for(f"@cert-authority * {public(keys, 'ca')}"))
    assert "its signature is wrong" in caplog.text


def test_every_cut_is_noticed(sign: Sign) -> None:
    blob = sign("-h", "-n", "node1")
    for size in range(len(blob)):
        with pytest.raises(ValueError, match=r"damaged|unknown type"):
            hostcertificates.parse(blob[:size])
    with pytest.raises(ValueError, match="damaged"):
        hostcertificates.parse(blob + b"x")


def test_a_damaged_certificate_is_refused_under_every_policy(sign: Sign) -> None:
    blob = sign("-h")[:-1]
    for policy in ("strict", "accept-new", "off"):
        with pytest.raises(UnknownHostKeyError, match="cannot be read: the certificate is damaged"):
            check(blob, settings_for(policy=policy))


def test_without_its_authority_the_key_itself_counts(keys: Path, sign: Sign) -> None:
    blob = sign("-h")
    assert check(blob, settings_for(f"node1 {public(keys, 'ed25519')}"))
    assert check(blob, settings_for(f"@cert-authority * {public(keys, 'other')}", policy="off"))
    with pytest.raises(UnknownHostKeyError):
        check(blob, settings_for(f"@cert-authority node2 {public(keys, 'ca')}"))
    with pytest.raises(HostKeyChangedError):
        check(blob, settings_for(f"node1 {public(keys, 'other')}"))


@pytest.mark.parametrize("revoked", ["ca", "ed25519"])
def test_revoked_authorities_and_keys(keys: Path, sign: Sign, revoked: str) -> None:
    lines = (f"@cert-authority * {public(keys, 'ca')}", f"@revoked * {public(keys, revoked)}")
    for policy in ("strict", "off"):
        with pytest.raises(HostKeyRevokedError):
            check(sign("-h"), settings_for(*lines, policy=policy))


def test_accept_new_remembers_the_key_and_not_the_certificate(
    keys: Path, sign: Sign, tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    assert check(sign("-h"), settings_for(str(path), policy="accept-new"))
    assert path.read_text() == f"node1 {public(keys, 'ed25519')}\n"


def test_certificates_are_asked_for_where_an_authority_is_known(keys: Path) -> None:
    checker = HostKeyChecker()
    lines = (f"@cert-authority node* {public(keys, 'ca')}", f"node1 {public(keys, 'rsa')}")
    algorithms = checker.known_algorithms(settings_for(*lines))
    assert algorithms[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert algorithms[-2:] == ("rsa-sha2-512", "rsa-sha2-256")
    assert checker.known_algorithms(settings_for(*lines, host="other")) == ()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_server_that_shows_a_certificate(
    keys: Path, sign: Sign, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    require("sshd")
    sign("-h", "-n", "127.0.0.1", kind=kind)
    server_settings = {"HostKey": keys / kind, "HostCertificate": tmp_path / "host-cert.pub"}
    with Sshd(tmp_path_factory.mktemp("sshd"), nodes=1, **server_settings) as server:
        settings = settings_for(f"@cert-authority * {public(keys, 'ca')}", host="127.0.0.1")
        settings = replace(settings, port=server.port)
        checker = HostKeyChecker()
        transport = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port), 10))
        try:
            options = transport.get_security_options()
            options.key_types = [
                name for name in checker.known_algorithms(settings) if name in options.key_types
            ] or checker.known_algorithms(settings)
            transport.start_client(timeout=20)
            key = transport.get_remote_server_key()
            blob = key.public_blob.key_blob  # type: ignore[attr-defined]
        finally:
            transport.close()
        assert checker.check(settings, certificate_type(blob), blob)
