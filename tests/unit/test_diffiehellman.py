"""Diffie-Hellman key exchange: OpenSSH's limits; computing does not block the engine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import paramiko
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paramiko.kex_group14 import KexGroup14SHA256
from paramiko.kex_group16 import KexGroup16SHA512
from paramiko.message import Message

from pyclustershell.exceptions import HandshakeError
from pyclustershell.ssh.protocol import diffiehellman
from pyclustershell.ssh.protocol.diffiehellman import (
    METHODS,
    DiffieHellman,
    GroupExchange,
    check_group,
    check_value,
    exponent_size,
    power,
)
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.phases import PhaseServer
from tests.servers.sshd import Sshd

PRIME = diffiehellman._modp(2048)


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", agent=False, config_files=[], connect_retries=0, password="x")
        yield task


@settings(deadline=None)
@given(
    st.integers(0, 1 << 600),
    st.integers(0, 1 << 130),
    st.integers(2, 1 << 600).map(lambda n: n | 1),
)
def test_powers_are_pows(base: int, exponent: int, modulus: int) -> None:
    assert power(base, exponent, modulus) == pow(base, exponent, modulus)


def test_the_groups_are_those_of_rfc_3526() -> None:
    assert diffiehellman._modp(2048) == KexGroup14SHA256.P
    assert diffiehellman._modp(4096) == KexGroup16SHA512.P
    # Of the text of the groups' hexadecimal digits: RFC 3526 section 7, RFC 2409 section 6.2.
    assert f"{diffiehellman._modp(8192):X}".endswith("60C980DD98EDD3DFFFFFFFFFFFFFFFFF")
    assert f"{diffiehellman._modp(1024):X}".endswith("49286651ECE65381FFFFFFFFFFFFFFFF")


@pytest.mark.parametrize(
    ("strength", "size", "expected"),
    [(128, 2048, 512), (256, 8192, 512), (512, 4096, 1024), (512, 1024, 1023)],
)
def test_exponents_are_as_long_as_openssh_makes_them(
    strength: int, size: int, expected: int
) -> None:
    assert exponent_size(strength, size) == expected


@pytest.mark.parametrize(
    ("modulus", "generator"),
    [
        (PRIME, 2),
        (PRIME, PRIME - 2),
        ((1 << 2047) + 1, 2),
        ((1 << 8192) - 1, 5),
    ],
)
def test_groups_that_openssh_accepts(modulus: int, generator: int) -> None:
    check_group(modulus, generator)


@pytest.mark.parametrize(
    ("modulus", "generator", "cause"),
    [
        ((1 << 2047) - 1, 2, "has 2047 bits"),
        ((1 << 8192) + 1, 2, "has 8193 bits"),
        (KexGroup14SHA256.P >> 1024, 2, "has 1024 bits"),
        (0, 2, "has 0 bits"),
        (-PRIME, 2, "has 2048 bits"),
        (PRIME - 1, 2, "is even"),
        (PRIME, -2, "generator .* out of range"),
        (PRIME, 0, "generator .* out of range"),
        (PRIME, 1, "generator .* out of range"),
        (PRIME, PRIME - 1, "generator .* out of range"),
        (PRIME, PRIME + 2, "generator .* out of range"),
    ],
)
def test_groups_that_are_refused(modulus: int, generator: int, cause: str) -> None:
    with pytest.raises(paramiko.SSHException, match=cause):
        check_group(modulus, generator)


@pytest.mark.parametrize("value", [-5, 0, 1, PRIME - 1, PRIME, PRIME + 15, 2, 1 << 2000, 7 << 90])
def test_values_that_are_refused(value: int) -> None:
    with pytest.raises(paramiko.SSHException, match="public value"):
        check_value(value, PRIME)


@pytest.mark.parametrize("value", [15, PRIME - 2, 15 << 1000])
def test_values_that_openssh_accepts(value: int) -> None:
    check_value(value, PRIME)


class Recorder:
    """A transport that keeps the messages sent, and the steps that run aside."""

    local_version = remote_version = "SSH-2.0-test"
    local_kex_init = remote_kex_init = b"\x14"
    strength = 128

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.steps: list[Callable[[], Any]] = []
        self.secrets: list[int] = []

    def run_aside(self, step: Callable[[], Any]) -> None:
        self.steps.append(step)

    def _expect_packet(self, *kinds: int) -> None:
        pass

    def _send_message(self, message: Message) -> None:
        self.sent.append(message.asbytes())

    def _set_K_H(self, secret: int, exchange_hash: bytes) -> None:  # noqa: N802
        self.secrets.append(secret)

    def _verify_key(self, host_key: bytes, signature: bytes) -> None:
        pass

    def _activate_outbound(self) -> None:
        pass


def reply(value: int) -> Message:
    message = Message()
    message.add_string(b"key")
    message.add_mpint(value)
    message.add_string(b"signature")
    return Message(message.asbytes())


@pytest.mark.parametrize("method", METHODS.values())
def test_every_computation_is_done_aside(method: type[DiffieHellman]) -> None:
    transport = Recorder()
    exchange = method(transport)
    exchange.start_kex()
    if issubclass(method, GroupExchange):
        # The request for a group costs nothing.
        assert len(transport.sent) == 1
        group = Message()
        group.add_mpint(PRIME)
        group.add_mpint(2)
        exchange.parse_next(31, Message(group.asbytes()))
    before = len(transport.sent)
    [start] = transport.steps
    start()
    message = Message(transport.sent[before][1:])
    public = message.get_mpint()
    # The other side's half.
    exponent = 12345678901234567890
    modulus = exchange._modulus
    assert exchange._exponent.bit_length() == 512
    exchange.parse_next(exchange._reply, reply(pow(2, exponent, modulus)))
    assert transport.secrets == []
    transport.steps[1]()
    assert transport.secrets == [pow(public, exponent, modulus)]


def test_a_trivial_value_is_refused_before_anything_is_computed() -> None:
    transport = Recorder()
    exchange = DiffieHellman(transport)
    exchange.start_kex()
    transport.steps.pop()()
    with pytest.raises(paramiko.SSHException, match="public value"):
        exchange.parse_next(31, reply(exchange._modulus - 1))
    assert transport.steps == []


def test_sha1_methods_are_not_offered_by_default() -> None:
    from pyclustershell.ssh.protocol.algorithms import KEX, KEX_METHODS

    assert {name for name in METHODS if name.endswith("sha1")}.isdisjoint(KEX)
    assert {name for name in METHODS if not name.endswith("sha1")} <= set(KEX)
    for name in METHODS:
        assert KEX_METHODS[name].hash_algo is getattr(hashlib, name.rpartition("-")[2])


# -- with servers ----------------------------------------------------------------------------------


def bad_group(generator: int, modulus: int) -> Callable[[Any], None]:
    """Have a server choose this group."""

    class Pack:
        """Stands in for the server's file of groups."""

        def get_modulus(self, *sizes: int) -> tuple[int, int]:
            return generator, modulus

    def offer(transport: Any) -> None:
        transport._preferred_kex = ("diffie-hellman-group-exchange-sha256",)
        transport._modulus_pack = Pack()
        transport._get_modulus_pack = Pack

    return offer


def test_a_server_with_a_bad_group_is_left(task: Task) -> None:
    with PhaseServer({}, offer=bad_group(2, KexGroup14SHA256.P >> 1024)) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.run("true", nodes="node")
    [(failure, _nodes)] = task.iter_failures()
    assert isinstance(failure, HandshakeError)
    assert "Diffie-Hellman group has 1024 bits, not 2048 to 8192" in failure.cause


@pytest.mark.parametrize(
    "kex", ["curve25519-sha256", *(name for name in METHODS if not name.endswith("sha1"))]
)
def test_openssh_agrees_and_the_keys_can_be_renewed(
    task: Task, sshd: Sshd, kex: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    compute = diffiehellman.power

    def note(*numbers: int) -> int:
        threads.append(threading.current_thread().name)
        return compute(*numbers)

    monkeypatch.setattr(diffiehellman, "power", note)
    config = tmp_path / "config"
    config.write_text(f"RekeyLimit 32K\nKexAlgorithms {kex}\n")
    task.configure_ssh(
        config_files=[str(config)],
        user=sshd.user,
        port=sshd.port,
        known_hosts=["* " + sshd.host_key],
        pkeys=[str(sshd.key)],
        password=None,
    )
    task.run("head -c 70000 /dev/zero | tr '\\0' x", nodes="127.0.0.1")
    assert bytes(task.node_buffer("127.0.0.1")) == b"x" * 70000
    # The second command waits for the new keys.
    task.run("echo ok", nodes="127.0.0.1")
    assert task.node_retcode("127.0.0.1") == 0, list(task.iter_failures())
    assert bytes(task.node_buffer("127.0.0.1")) == b"ok"
    assert task.stats().opened == 1
    assert threading.current_thread().name not in threads
    # Two computations for the first exchange, and two for each later one.
    assert len(threads) >= 4 if kex in METHODS else not threads
