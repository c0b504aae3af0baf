"""What keywords of ssh_config do on the wire, as OpenSSH's server and its commands see it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from pyclustershell.exceptions import HandshakeError
from pyclustershell.task import Task
from tests.conftest import require_sshd
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd
from tests.tasks import fresh_task

NODE = "127.0.0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server that logs what was agreed on."""
    require_sshd()
    with Sshd(tmp_path_factory.mktemp("sshd"), nodes=0, LogLevel="DEBUG2") as server:
        yield server


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


Run = Callable[..., str]


@pytest.fixture
def run(server: Sshd, task: Task, tmp_path: Path) -> Run:
    """Return a function that runs a command with some lines of configuration before the rest."""
    count = itertools.count()

    def run(lines: str = "", command: str = "true", node: str = NODE) -> str:
        path = server.write_ssh_config(tmp_path / f"config{next(count)}")
        path.write_text(lines + "\n" + path.read_text())
        task.set_info("ssh_options", f"-F {path}")
        task.run(command, nodes=node, timeout=30)
        for failure, _nodes in task.iter_failures():
            raise failure
        assert task.node_retcode(node) == 0
        return task.node_buffer(node).decode()

    return run


@pytest.fixture
def logged(server: Sshd) -> Callable[[str], list[str]]:
    """Return a function that finds what the server has logged since the test began."""
    begin = len(server.log())
    return lambda pattern: re.findall(pattern, server.log()[begin:])


Logged = Callable[[str], list[str]]

# -- what is agreed on -----------------------------------------------------------------------------


NEW_KEYS = "SSH2_MSG_NEWKEYS received"


def test_rekey_limit_of_bytes(run: Run, logged: Logged) -> None:
    # What the server has sent by the time that it hears of the exchange still comes under the old
    # keys, and so the output has pauses.
    command = "for i in 1 2 3 4; do head -c 30000 /dev/zero | tr '\\0' x; echo; sleep 0.2; done"
    assert run("RekeyLimit 20K", command) == "\n".join(["x" * 30000] * 4)
    assert len(logged(NEW_KEYS)) > 3


def test_rekey_limit_of_time(run: Run, logged: Logged) -> None:
    # The limit is in whole seconds: the command lives a little longer.
    assert run("RekeyLimit default 1", "sleep 1.2; echo a; sleep 0.1; echo b; sleep 0.1") == "a\nb"
    assert len(logged(NEW_KEYS)) == 2


def test_without_a_rekey_limit_the_keys_stay(run: Run, logged: Logged) -> None:
    run("", "head -c 300000 /dev/zero")
    assert len(logged(NEW_KEYS)) == 1


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("Ciphers aes256-ctr", "client->server cipher: aes256-ctr MAC: hmac-sha2-256-etm"),
        ("Ciphers aes192-ctr,aes256-ctr", "server->client cipher: aes192-ctr"),
        ("Ciphers ^aes256-ctr", "client->server cipher: aes256-ctr"),
        ("Ciphers -aes*-gcm@openssh.com", "client->server cipher: aes128-ctr"),
        ("Ciphers aes128-ctr\nMACs hmac-sha2-512", "client->server .* MAC: hmac-sha2-512 "),
        ("Ciphers aes128-ctr\nMACs -*-etm@openssh.com", "client->server .* MAC: hmac-sha2-256 "),
        ("KexAlgorithms ecdh-sha2-nistp384", "kex: algorithm: ecdh-sha2-nistp384"),
        ("KexAlgorithms ^diffie-hellman-group16-sha512", "kex: algorithm: diffie-hellman-group16"),
        ("Compression yes", "client->server .* compression: zlib@openssh.com"),
        ("Compression no", "client->server .* compression: none"),
    ],
)
def test_algorithms(run: Run, logged: Logged, line: str, pattern: str) -> None:
    output = run(line, "head -c 100000 /dev/zero | tr '\\0' x")
    assert output == "x" * 100000
    assert len(logged(pattern)) == 1


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Ciphers chacha20-poly1305@openssh.com", "ciphers"),
        ("MACs umac-64@openssh.com", "macs"),
        ("KexAlgorithms no-such", "kex"),
        ("HostKeyAlgorithms ssh-dss", "keys"),
    ],
)
def test_algorithms_that_are_not_there(run: Run, line: str, kind: str) -> None:
    with pytest.raises(HandshakeError, match=f"none of the {kind} asked for is supported"):
        run(line)
