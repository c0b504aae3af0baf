"""Effects of ssh_config keywords, as OpenSSH's server and its commands see them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Union

import paramiko
import pytest

from pyclustershell.exceptions import (
    AuthenticationError,
    ConnectError,
    HandshakeError,
    HostKeyChangedError,
    HostKeyRevokedError,
    ResolveError,
    UnknownHostKeyError,
)
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.loopback.paramiko_hooks import ServerTransport
from pyclustershell.task import Task
from tests.helpers.needs import require
from tests.helpers.sh import SHELL
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.faults import dropping_address
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, make_key

NODE = "127.0.0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server that logs the agreed algorithms."""
    require("sshd")
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
    """Return a function that searches the server's log since the beginning of the test."""
    begin = len(server.log())
    return lambda pattern: re.findall(pattern, server.log()[begin:])


Logged = Callable[[str], list[str]]

# -- algorithms ------------------------------------------------------------------------------------


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
    "line",
    [
        "Ciphers chacha20-poly1305@openssh.com",
        "MACs umac-64@openssh.com",
        "KexAlgorithms no-such,another",
        "HostKeyAlgorithms no-such",
        "Ciphers -*",
    ],
)
def test_algorithms_that_are_not_there(run: Run, line: str) -> None:
    keyword, value = line.split(" ")
    with pytest.raises(HandshakeError) as info:
        run(line)
    sentence = info.value.sentence
    assert f"'{line}' leaves no " in sentence
    told = f"{keyword} asks for {value}: paramiko {paramiko.__version__} does not have it"
    assert (told in sentence) is (value != "-*")


def test_an_algorithm_that_only_the_server_has(task: Task, tmp_path: Path) -> None:
    """A wish in a list that is usable otherwise."""
    with Sshd(tmp_path, nodes=0, Ciphers="chacha20-poly1305@openssh.com") as server:
        path = server.write_ssh_config(tmp_path / "config")
        task.set_info("ssh_options", f"-F {path} -o Ciphers=+chacha20-poly1305@openssh.com")
        worker = task.run("true", nodes=NODE, timeout=30)
        failure = worker.node_failure(NODE)
    assert isinstance(failure, HandshakeError)
    asked = "Ciphers asks for chacha20-poly1305@openssh.com"
    assert f"{asked}: paramiko {paramiko.__version__} does not have it" in failure.sentence


# -- the user's signatures -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RSA key that the server does not know."""
    path = tmp_path_factory.mktemp("keys") / "rsa"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(path))
    return path


def without_keys(config: Union[str, Path], directory: Path) -> Path:
    """A copy of a configuration file that names no key and no agent."""
    lines = Path(config).read_text().splitlines()
    path = directory / "without_keys"
    kept = (line for line in lines if "IdentityFile" not in line)
    path.write_text("\n".join(["IdentityAgent none", *kept]))
    return path


@pytest.mark.parametrize(
    ("line", "algorithms"),
    [
        ("", ["rsa-sha2-512", "ssh-ed25519"]),
        ("PubkeyAcceptedAlgorithms ^rsa-sha2-256", ["rsa-sha2-256", "ssh-ed25519"]),
        ("PubkeyAcceptedKeyTypes rsa-sha2-256,ssh-ed25519", ["rsa-sha2-256", "ssh-ed25519"]),
        ("PubkeyAcceptedAlgorithms -rsa-*", ["ssh-ed25519"]),
        ("PubkeyAcceptedAlgorithms ssh-ed25519,no-such", ["ssh-ed25519"]),
    ],
)
def test_algorithms_of_signatures(
    run: Run, logged: Logged, rsa_key: Path, line: str, algorithms: list[str]
) -> None:
    assert run(f"IdentityFile {rsa_key}\n{line}", "echo ok") == "ok"
    assert logged(r"userauth_pubkey: \S+ user \S+ .*public key (\S+) ") == algorithms


def test_a_key_without_an_accepted_algorithm(run: Run, rsa_key: Path) -> None:
    with pytest.raises(AuthenticationError) as info:
        run(f"IdentitiesOnly yes\nIdentityFile {rsa_key}\nPubkeyAcceptedAlgorithms ssh-dss")
    assert f"key {rsa_key} is not used: no algorithm for its signature" in info.value.sentence


def test_a_server_that_accepts_no_algorithm_of_a_key(
    task: Task, rsa_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next key is tried. The connection failed."""
    monkeypatch.setattr(ServerTransport, "preferred_pubkeys", ("ssh-ed25519",))
    with LoopbackCluster("node1", shell=SHELL) as cluster:
        cluster.configure(task)
        task.configure_ssh(pkeys=[str(rsa_key)])
        task.run("echo ok", nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"ok"
        task.set_info("ssh_options", f"-F {without_keys(cluster.ssh_config, tmp_path)}")
        failure = task.run("true", nodes="node1", timeout=30).node_failure("node1")
        assert isinstance(failure, AuthenticationError)
        assert f"key {rsa_key} is not used" in failure.sentence


@pytest.mark.parametrize("wish", ["+no-such", "^no-such", "ssh-ed25519,no-such"])
def test_a_signature_that_cannot_be_made_is_told(
    server: Sshd, task: Task, tmp_path: Path, wish: str
) -> None:
    make_key(tmp_path / "unknown")
    task.configure_ssh(pkeys=[str(tmp_path / "unknown")])
    config = without_keys(server.ssh_config, tmp_path)
    task.set_info("ssh_options", f"-F {config} -o PubkeyAcceptedAlgorithms={wish}")
    failure = task.run("true", nodes=NODE, timeout=30).node_failure(NODE)
    assert isinstance(failure, AuthenticationError)
    cause = f"PubkeyAcceptedAlgorithms asks for no-such: paramiko {paramiko.__version__} does not"
    assert cause in failure.sentence


def test_host_key_algorithms(task: Task, tmp_path: Path) -> None:
    make_key(tmp_path / "ed25519")
    processes.run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "ecdsa")
    ecdsa = (tmp_path / "ecdsa.pub").read_text()
    directory = tmp_path / "sshd"
    directory.mkdir()
    # One HostKey line can hold one key only: a second one hides in the value.
    there = processes.node_path(tmp_path)
    keys = f"{there}/ed25519\nHostKey {there}/ecdsa"
    with Sshd(directory, nodes=0, HostKey=keys) as server:
        path = server.write_ssh_config(tmp_path / "config")
        path.write_text("HostKeyAlgorithms ecdsa-sha2-nistp256\n" + path.read_text())
        server.known_hosts.write_text(f"pyclustershell-tests {ecdsa}")
        task.set_info("ssh_options", f"-F {path}")
        task.run("echo ok", nodes=NODE, timeout=30)
        assert task.node_buffer(NODE) == b"ok"
        task.set_info("ssh_options", f"-F {path} -o HostKeyAlgorithms=ssh-ed25519")
        task.run("echo ok", nodes=NODE, timeout=30)
        ((failure, _nodes),) = task.iter_failures()
        assert isinstance(failure, HostKeyChangedError)
        task.close()


# -- the environment of a command ------------------------------------------------------------------


def test_send_env_and_set_env(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCS_ONE", "1")
    monkeypatch.setenv("PYCS_TWO", "2")
    monkeypatch.setenv("OTHER", "3")
    command = "env | grep -e PYCS -e OTHER -e FOUR | sort"
    assert (
        run("SendEnv PYCS_ONE PYCS_TWO\nSendEnv -*_TWO\nSetEnv FOUR=4", command)
        == "FOUR=4\nPYCS_ONE=1"
    )
    assert run('SetEnv PYCS_ONE="a b" FOUR=4', command) == "FOUR=4\nPYCS_ONE=a b"
    assert run("", f"{command}; echo end") == "end"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("RequestTTY force", "tty", marks=pytest.mark.needs("terminals")),
        pytest.param("RequestTTY yes", "tty", marks=pytest.mark.needs("terminals")),
        ("RequestTTY auto", ""),
        ("", ""),
    ],
)
def test_request_tty(run: Run, line: str, expected: str) -> None:
    assert run(line, "test -t 1 && echo tty; true").strip() == expected


# -- how it gets there -----------------------------------------------------------------------------


def test_bind_address(run: Run, logged: Logged) -> None:
    run("BindAddress 127.0.0.77")
    assert len(logged(r"Connection from 127\.0\.0\.77 port")) == 1


def test_user_port_and_host_name(run: Run, server: Sshd) -> None:
    assert run(f"Host far\nHostName 127.0.0.%%1\nHost *\nUser {server.user}", "true") == ""
    assert run(f"Port {server.port}\nHostName 127.0.0.1", "echo ok", node="far") == "ok"
    with pytest.raises(AuthenticationError, match=r"nobody@127\.0\.0\.1: Permission denied"):
        run("User nobody")
    with pytest.raises(ConnectError, match="port 1: Connection refused"):
        run("Port 1")


def test_address_family(run: Run) -> None:
    assert run("AddressFamily inet") == ""
    with pytest.raises(ResolveError):
        run("AddressFamily inet6")


def test_connect_timeout(run: Run) -> None:
    with dropping_address() as (address, port):
        with pytest.raises(ConnectError, match="Connection timed out"):
            run(f"ConnectTimeout 1\nHostName {address}\nPort {port}")


def test_preferred_authentications(run: Run, logged: Logged) -> None:
    with pytest.raises(AuthenticationError):
        run("PreferredAuthentications keyboard-interactive,password")
    with pytest.raises(AuthenticationError):
        run("PubkeyAuthentication no")
    assert logged("method publickey") == []
    run("PreferredAuthentications password,publickey")


def test_identity_files(run: Run, server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    # The server's configuration adds its own key: identity files add up.
    assert run(f"IdentityFile {tmp_path}/other") == ""
    assert run(f"IdentityFile {tmp_path}/missing") == ""


@pytest.mark.parametrize(
    ("line", "known"), [("HostKeyAlias nobody", False), ("HostKeyAlias pyclustershell-tests", True)]
)
def test_host_key_alias(run: Run, line: str, known: bool) -> None:
    if known:
        assert run(line) == ""
        return
    with pytest.raises(UnknownHostKeyError, match="of nobody is not known"):
        run(line)


def test_known_hosts_files_and_policies(run: Run, server: Sshd, tmp_path: Path) -> None:
    files = f"UserKnownHostsFile {tmp_path}/none {tmp_path}/new\nHostKeyAlias pyclustershell-tests"
    with pytest.raises(UnknownHostKeyError):
        run(files)
    assert run(f"{files}\nGlobalKnownHostsFile {server.known_hosts}") == ""
    assert run(f"{files}\nStrictHostKeyChecking no") == ""
    assert not (tmp_path / "none").exists()
    assert run(f"{files}\nStrictHostKeyChecking accept-new\nHashKnownHosts yes") == ""
    assert (tmp_path / "none").read_text().startswith("|1|")
    assert run(files) == ""


def test_revoked_host_keys(run: Run, server: Sshd, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text(server.host_key + "\n")
    with pytest.raises(HostKeyRevokedError, match=f"is revoked by {re.escape(str(revoked))}"):
        run(f"RevokedHostKeys {revoked}")
    with pytest.raises(HostKeyRevokedError, match="is revoked by"):
        run(f"RevokedHostKeys {revoked}\nStrictHostKeyChecking no")


def test_certificates(task: Task, tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    make_key(tmp_path / "user")
    directory = tmp_path / "sshd"
    directory.mkdir()
    with Sshd(directory, nodes=0, TrustedUserCAKeys=tmp_path / "ca.pub") as server:
        sign = ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "id", "-n", server.user]
        processes.run(*sign, tmp_path / "user.pub")
        # Elsewhere, so that it is not found beside the key.
        (tmp_path / "user-cert.pub").rename(tmp_path / "certificate")
        path = server.write_ssh_config(tmp_path / "config", IdentityFile=tmp_path / "user")
        task.set_info("ssh_options", f"-F {path}")
        task.run("echo ok", nodes=NODE, timeout=30)
        assert len(list(task.iter_failures())) == 1
        task.set_info("ssh_options", f"-F {path} -o CertificateFile={tmp_path}/certificate")
        task.run("echo ok", nodes=NODE, timeout=30)
        assert task.node_buffer(NODE) == b"ok"
        task.close()


def test_two_keys_one_after_the_other(task: Task, tmp_path: Path) -> None:
    make_key(tmp_path / "second")
    directory = tmp_path / "sshd"
    directory.mkdir()
    with Sshd(directory, nodes=0, AuthenticationMethods="publickey,publickey") as server:
        path = server.write_ssh_config(tmp_path / "config")
        task.set_info("ssh_options", f"-F {path}")
        task.run("echo ok", nodes=NODE, timeout=30)
        ((failure, _nodes),) = task.iter_failures()
        assert isinstance(failure, AuthenticationError)
        settings = (server.directory / "sshd_config").read_text()
        keys = Path(re.findall("AuthorizedKeysFile (.*)", settings)[0])
        keys.write_text(keys.read_text() + (tmp_path / "second.pub").read_text())
        task.set_info("ssh_options", f"-F {path} -i {tmp_path}/second")
        task.run("echo ok", nodes=NODE, timeout=30)
        assert task.node_buffer(NODE) == b"ok"
        task.close()
