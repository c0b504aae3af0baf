"""Limits on hostile or careless peers, and secrets that must not leak."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pyclustershell import SSHOptions
from pyclustershell.defaults import TASK_INFO
from pyclustershell.exceptions import (
    ConnectionLostError,
    HandshakeError,
    SessionError,
    UnknownHostKeyError,
)
from pyclustershell.ssh.protocol.algorithms import explain_mismatch
from pyclustershell.task import Task
from tests.helpers.tasks import connect_to, fresh_task
from tests.servers import phases
from tests.servers.phases import PhaseServer

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture
def task() -> Iterator[Task]:
    """A task that logs in with a password, and reads no configuration."""
    with fresh_task() as task:
        task.configure_ssh(
            user="me",
            password="secret",
            agent=False,
            config_files=[],
            connect_retries=0,
            identity_files=[],
        )
        yield task


def failure(task: Task) -> Any:
    task.run("true", nodes="node")
    [(error, _nodes)] = task.iter_failures()
    return error


# -- secrets ---------------------------------------------------------------------------------------

PASSWORD = "pa55-of-the-node"
PASSPHRASE = "pa55-of-the-key"
ANSWER = "4nswer-to-the-prompt"


def pem(passphrase: str = "") -> str:
    """A new private key."""
    encryption: Any = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption)
        .decode()
    )


def everything(task: Task, worker: Any, errors: list[BaseException]) -> Iterator[str]:
    """All texts about a run that a user can see."""
    for thing in (
        task,
        worker,
        task._connections.pool,
        task._context.results,
        *task._connections.pool.__dict__.values(),
    ):
        yield repr(thing)
    for node in worker.nodes:
        yield repr(task.connection_settings(node, worker.ssh))
        yield str(task.connection_settings(node, worker.ssh))
    # The info keys that a user can read, and the attributes that a debugger shows first.
    yield repr({key: task.info(key) for key in (*TASK_INFO, "ssh_options", "ssh_user")})
    yield repr(vars(task))
    yield repr(vars(worker))
    for error, nodes in worker.iter_failures():
        yield f"{error!r} {error} {error.__dict__} {nodes}"
        yield "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for raised in errors:
        yield "".join(traceback.format_exception(type(raised), raised, raised.__traceback__))
    for stream in (worker.iter_buffers(), worker.iter_errors()):
        for message, nodes in stream:
            yield f"{bytes(message)!r} {nodes}"


@pytest.mark.parametrize("accepts", [True, False])
def test_no_secret_is_given_away(
    task: Task,
    accepts: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    key = pem()
    encrypted = tmp_path / "key"
    encrypted.touch(0o600)
    encrypted.write_text(pem(PASSPHRASE))
    secrets = [PASSWORD, PASSPHRASE, ANSWER, *key.splitlines()[1:-1]]
    asked = []
    lines: list[str] = []

    def answer(node: str, title: str, instructions: str, prompts: Any) -> list[str]:
        asked.append(node)
        return [ANSWER] * len(prompts)

    with PhaseServer({}, logins=phases.Logins(interactive=accepts, password=False)) as server:
        connect_to(task, server.address, server.known_host)
        task.set_info("debug", True)
        task.set_info("print_debug", lambda _task, line: lines.append(line))
        task.configure_ssh(
            password=lambda node: PASSWORD,
            passphrase=PASSPHRASE,
            pkeys=[key.encode(), str(encrypted)],
            keyboard_interactive=answer,
        )
        worker: Any = task.run("true", nodes="node[1-3]")
        assert (worker.node_retcode("node1") == 0) is accepts
        # A password is the last resort.
        assert server.tried >= {"publickey", "keyboard-interactive"}
        assert ("password" in server.tried) is not accepts
        assert asked
        # A mistake in the program: Python's traceback must not show more.
        errors: list[BaseException] = []
        for wrong in ({"password": 5, "passphrase": PASSPHRASE}, {"pasword": PASSWORD}):
            with pytest.raises(TypeError) as raised:
                task.configure_ssh(**wrong)
            errors.append(raised.value)
        seen = [*everything(task, worker, errors), *lines, caplog.text, *capfd.readouterr()]
    found = [(secret, text) for text in seen for secret in secrets if secret in text]
    assert found == []
    # Something was there to be searched.
    assert "trying" in caplog.text
    assert any("node1" in text for text in lines)


# -- output on terminals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        phases.wrong(phases.DISCONNECT, 11, ESCAPE, ""),
        phases.wrong(phases.CHANNEL_OPEN_FAILURE, 0, 1, ESCAPE, ""),
    ],
)
def test_a_servers_words_in_an_error_are_harmless(task: Task, rule: phases.Rule) -> None:
    with PhaseServer({phases.CHANNEL_OPEN: rule}) as server:
        connect_to(task, server.address, server.known_host)
        error = failure(task)
    assert isinstance(error, (SessionError, ConnectionLostError))
    assert "^[]0;owned^G^[[2J" in error.cause
    assert "\x1b" not in f"{error.cause}{error}{error!r}"
    assert b"\x1b" not in task.node_error("node") + task.node_buffer("node")


# -- algorithms ------------------------------------------------------------------------------------


def offering(kind: str, *names: str) -> Any:
    """Has a server offer these only, whether paramiko has them or not."""
    table = {"kex": "_kex_info", "ciphers": "_cipher_info", "macs": "_mac_info"}[kind]

    def offer(transport: Any) -> None:
        known = getattr(transport, table)
        setattr(transport, f"_preferred_{kind}", names)
        setattr(transport, table, {**dict.fromkeys(names, next(iter(known.values()))), **known})

    return offer


@pytest.mark.parametrize(
    ("kind", "names", "says"),
    [
        ("kex", ("diffie-hellman-group1-sha1",), "key exchange method"),
        ("ciphers", ("3des-cbc", "aes128-cbc"), "cipher"),
        ("macs", ("hmac-md5", "hmac-sha1"), "MAC"),
    ],
)
def test_weak_algorithms_are_not_used_and_named(
    task: Task, kind: str, names: tuple[str, ...], says: str
) -> None:
    with PhaseServer({}, offer=offering(kind, *names)) as server:
        connect_to(task, server.address, server.known_host)
        error = failure(task)
    assert isinstance(error, HandshakeError)
    # Strict key exchange is announced among the methods, and is none.
    assert f"no matching {says} found. Their offer: {','.join(names)}" in error.cause


def test_a_weak_algorithm_can_be_asked_for(task: Task) -> None:
    with PhaseServer({}, offer=offering("ciphers", "aes128-cbc")) as server:
        connect_to(task, server.address, server.known_host)
        assert "to use aes128-cbc all the same, set ciphers='+aes128-cbc'" in failure(task).cause
        task.configure_ssh(ciphers="+aes128-cbc")
        task.run("true", nodes="node")
        assert task.node_buffer("node") == b"ok"


@pytest.mark.parametrize(
    ("kind", "names", "setting", "reasons"),
    [
        (
            "ciphers",
            "aes192-ctr,aes128-cbc,chacha20",
            {"ciphers": "aes256-ctr"},
            (
                "left out by the setting of Ciphers: aes192-ctr; "
                "weak, and so left out by default: aes128-cbc"
            ),
        ),
        (
            "macs",
            "hmac-sha2-256",
            {"macs": "-hmac-sha2-256", "ciphers": "aes128-ctr"},
            "left out by the setting of MACs: hmac-sha2-256",
        ),
        (
            "kex",
            "ecdh-sha2-nistp256",
            {"kex": "ecdh-sha2-nistp384"},
            "left out by the setting of KexAlgorithms: ecdh-sha2-nistp256",
        ),
    ],
)
def test_algorithms_that_the_users_list_omits_are_not_called_weak(
    task: Task, kind: str, names: str, setting: dict[str, str], reasons: str
) -> None:
    with PhaseServer({}, offer=offering(kind, *names.split(","))) as server:
        connect_to(task, server.address, server.known_host)
        task.configure_ssh(**setting)
        assert failure(task).cause.endswith(f" found. Their offer: {names} ({reasons})")


def test_a_host_key_that_the_users_own_list_leaves_out_is_named(task: Task) -> None:
    with PhaseServer({}) as server:
        connect_to(task, server.address, server.known_host)
        task.configure_ssh(host_key_algorithms="ecdsa-sha2-nistp521")
        _, offered, reasons = re.split(r" Their offer: | \(", failure(task).cause)
    assert reasons == f"left out by the setting of HostKeyAlgorithms: {offered})"


def test_strict_key_exchange_is_asked_for(task: Task) -> None:
    seen = []

    def look(peer: phases.Peer, payload: bytes) -> bool:
        seen.append(payload)
        return True

    with PhaseServer({phases.KEXINIT: look}) as server:
        connect_to(task, server.address, server.known_host)
        task.run("true", nodes="node")
        assert task.max_retcode() == 0
    assert b"kex-strict-c-v00@openssh.com" in seen[0]


@pytest.mark.parametrize("number", [phases.KEXINIT, phases.KEX_INIT, phases.NEWKEYS])
def test_nothing_can_be_slipped_into_a_key_exchange(task: Task, number: int) -> None:
    # The prefix truncation attack (CVE-2023-48795) begins with such a message.
    with PhaseServer({number: phases.first(phases.IGNORE, b"x")}) as server:
        connect_to(task, server.address, server.known_host)
        if number == phases.NEWKEYS:
            # The server's own NEWKEYS has gone out: the message is encrypted, and allowed.
            task.run("true", nodes="node")
            assert task.max_retcode() == 0
        else:
            assert isinstance(failure(task), HandshakeError)


# -- host keys and reuse ---------------------------------------------------------------------------


def test_an_unchecked_connection_is_not_shared_with_checking_runs(task: Task) -> None:
    with PhaseServer({}) as server:
        connect_to(task, server.address, server.known_host)
        task.configure_ssh(known_hosts=[], host_key_policy="off")
        task.run("true", nodes="node")
        assert task.max_retcode() == 0
        task.configure_ssh(host_key_policy="strict")
        assert isinstance(failure(task), UnknownHostKeyError)
        assert server.accepted == 2
        # Also within one run, and for one call only.
        task.configure_ssh(host_key_policy="off")
        loose: Any = task.shell("true", nodes="node")
        strict: Any = task.shell("true", nodes="node", ssh=SSHOptions(host_key_policy="strict"))
        task.resume()
        assert loose.node_retcode("node") == 0
        assert isinstance(strict.node_failure("node"), UnknownHostKeyError)


# -- memory and time that a server may cost --------------------------------------------------------


def test_a_packet_longer_than_any_is_refused_at_once(task: Task) -> None:
    # Before the key exchange the length is readable: the client does not wait for the packet.
    with PhaseServer({phases.KEXINIT: phases.giant}) as server:
        connect_to(task, server.address, server.known_host)
        error = failure(task)
    assert isinstance(error, HandshakeError)
    assert "a packet has an impossible length of" in error.cause


@pytest.mark.parametrize("kind", ["keys", "ciphers", "kex", "macs"])
def test_a_wish_that_this_paramiko_cannot_fulfil_is_told(kind: str) -> None:
    sentence = explain_mismatch(kind, ["no-such-algorithm"], {"another"})
    assert sentence.endswith(
        f"Their offer: no-such-algorithm (paramiko {paramiko.__version__} has none of them)"
    )
    # Also in a list that is usable otherwise.
    sentence = explain_mismatch(
        kind, ["no-such-algorithm"], {"another"}, ("+no-such-algorithm", "another")
    )
    assert f"asks for no-such-algorithm: paramiko {paramiko.__version__} does not" in sentence
    # What is taken away is no wish.
    assert "asks for" not in explain_mismatch(kind, ["a"], {"another"}, ("-no-such", "x*"))
