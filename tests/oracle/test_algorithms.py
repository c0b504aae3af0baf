"""Servers with one algorithm only: ``ssh`` is the oracle.

ssh(1) and the library meet an sshd that has a single key exchange method, cipher, MAC or host key
algorithm: with their defaults, and with a setting that asks for this algorithm in addition. Both
agree with the server, or both say that nothing matches. The library may be stricter: if paramiko
has no such algorithm, which the failure must tell, or for a reason in :data:`STRICTER`.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import NamedTuple

import paramiko
import pytest

from pyclustershell.exceptions import AuthenticationError, HandshakeError
from pyclustershell.ssh.protocol.algorithms import KEX_METHODS
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path
from tests.servers.sshd import find_sshd

pytestmark = pytest.mark.needs("ssh", "ssh-keygen", "sshd")


class Kind(NamedTuple):
    """A kind of algorithms.

    Attributes:
        keyword: of ssh_config(5) and sshd_config(5).
        query: the argument of ``ssh -Q``.
        known: the algorithms that the library knows with this paramiko.
        names: the algorithms to try.
        others: settings of both sides, so that the algorithm is used.
    """

    keyword: str
    query: str
    known: frozenset[str]
    names: str
    others: tuple[str, ...] = ()


KINDS = [
    Kind(
        "KexAlgorithms",
        "kex",
        frozenset(KEX_METHODS),
        "diffie-hellman-group1-sha1 diffie-hellman-group14-sha1 diffie-hellman-group14-sha256 "
        "diffie-hellman-group16-sha512 diffie-hellman-group18-sha512 "
        "diffie-hellman-group-exchange-sha1 diffie-hellman-group-exchange-sha256 "
        "ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521 curve25519-sha256 "
        "curve25519-sha256@libssh.org sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com "
        "mlkem768x25519-sha256",
    ),
    Kind(
        "Ciphers",
        "cipher",
        frozenset(paramiko.Transport._cipher_info),
        "3des-cbc aes128-cbc aes192-cbc aes256-cbc aes128-ctr aes192-ctr aes256-ctr "
        "aes128-gcm@openssh.com aes256-gcm@openssh.com chacha20-poly1305@openssh.com",
    ),
    Kind(
        "MACs",
        "mac",
        frozenset(paramiko.Transport._mac_info),
        "hmac-sha1 hmac-sha1-96 hmac-sha2-256 hmac-sha2-512 hmac-md5 hmac-md5-96 "
        "umac-64@openssh.com umac-128@openssh.com hmac-sha1-etm@openssh.com "
        "hmac-sha1-96-etm@openssh.com hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com "
        "hmac-md5-etm@openssh.com hmac-md5-96-etm@openssh.com umac-64-etm@openssh.com "
        "umac-128-etm@openssh.com",
        ("Ciphers=aes128-ctr",),
    ),
    Kind(
        "HostKeyAlgorithms",
        "HostKeyAlgorithms",
        frozenset(paramiko.Transport._key_info),
        "ssh-ed25519 ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521 rsa-sha2-512 "
        "rsa-sha2-256 ssh-rsa",
    ),
]

STRICTER = {"hmac-sha1": "as all of SHA-1, it has to be asked for"}

# Parts of the names of algorithms that one side at least does not offer without being asked.
_BY_WISH = ("sha1", "md5", "cbc", "umac", "-96", "chacha20", "sntrup", "ssh-rsa")

CASES = [
    pytest.param(kind, name, wish, id=f"{wish}{name}")
    for kind in KINDS
    for name in kind.names.split()
    for wish in ("", "+")
    if not wish or any(part in name for part in _BY_WISH)
]

AGREE, NOTHING_MATCHES = "they agree", "nothing matches"


class Server:
    """Starts one sshd for each connection, with host keys of each type."""

    def __init__(self, directory: Path) -> None:
        if processes.user_id() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd requires it
        lines = ["UsePAM no", "LogLevel QUIET"]
        self.keys: list[str] = []
        for name, bits in (("ed25519", 256), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)):
            self._add(directory / f"{name}-{bits}", name, bits, lines)
        self._add(directory / "rsa", "rsa", 2048, lines)
        config = directory / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        self._command = [str(find_sshd()), "-i", "-f", node_path(config)]

    def _add(self, path: Path, kind: str, bits: int, lines: list[str]) -> None:
        processes.run("ssh-keygen", "-q", "-t", kind, "-b", str(bits), "-N", "", "-f", path)
        lines.append(f"HostKey {node_path(path)}")
        self.keys.append("node1 " + path.with_name(path.name + ".pub").read_text())

    def command(self, *settings: str) -> str:
        """Return the command of an sshd with settings of sshd_config(5)."""
        options = [f"-o{setting}" for setting in settings]
        return shlex.join([*self._command, *options])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("server"))


def of_ssh(command: str, settings: list[str], known_hosts: Path) -> str:
    """Return whether ssh and a server agree."""
    settings = [
        *settings,
        f"UserKnownHostsFile={node_path(known_hosts)}",
        "GlobalKnownHostsFile=/dev/null",
        "PreferredAuthentications=none",
        "BatchMode=yes",
        f"ProxyCommand={command}",
    ]
    options = [f"-o{setting}" for setting in settings]
    done = processes.run("ssh", "-F", "/dev/null", *options, "node1", "true", check=False)
    agreed = "Permission denied" in done.stderr
    assert agreed != ("no matching" in done.stderr), done.stderr
    return AGREE if agreed else NOTHING_MATCHES


def of_library(command: str, settings: list[str], known_hosts: Path) -> tuple[str, str]:
    """Return whether the library and a server agree, and its message."""
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(
            config_files=[],
            known_hosts=known_hosts,
            agent=False,
            overrides=[*settings, f"ProxyCommand={command}", "IdentityFile=none"],
        )
        for _ in range(10):
            task.run("true", nodes="node1", timeout=50)
            [(failure, _nodes)] = task.iter_failures()
            # sshd comes to its own verdict, and its end may be seen before ours.
            if "ProxyCommand ended" not in str(failure):
                break
    if isinstance(failure, AuthenticationError):
        return AGREE, ""
    assert isinstance(failure, HandshakeError)
    assert "no matching" in str(failure)
    return NOTHING_MATCHES, str(failure)


@pytest.mark.parametrize(("kind", "name", "wish"), CASES)
def test_the_agreement_is_that_of_ssh(
    server: Server, tmp_path: Path, kind: Kind, name: str, wish: str
) -> None:
    if name not in processes.run("ssh", "-Q", kind.query).stdout.split():
        pytest.skip("this OpenSSH does not have it")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("".join(server.keys))
    command = server.command(f"{kind.keyword}={name}", *kind.others)
    settings = [*kind.others, *([f"{kind.keyword}=+{name}"] if wish else [])]
    theirs = of_ssh(command, settings, known_hosts)
    ours, message = of_library(command, settings, known_hosts)
    if theirs == AGREE and name not in kind.known:
        assert ours == NOTHING_MATCHES
        assert f"paramiko {paramiko.__version__} has none of them" in message
    elif name in STRICTER and not wish:
        assert theirs == AGREE, "remove the reason: ssh does not offer it either"
        assert ours == NOTHING_MATCHES
    else:
        assert ours == theirs
