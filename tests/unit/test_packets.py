"""Packets: ours are read by paramiko's own Packetizer, and its packets by ours."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.message import Message
from paramiko.packet import Packetizer

from pyclustershell.ssh.protocol.packets import PacketCodec

CIPHERS = [
    (cipher, mac)
    for cipher in ("aes128-ctr", "aes256-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
    for mac in ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com")
    # paramiko 3.4 has no AES-GCM. With AES-GCM there is no MAC to choose.
    if cipher in paramiko.Transport._cipher_info and ("gcm" not in cipher or mac == "hmac-sha2-256")
]


class Wire:
    """A stream that keeps the sent bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def send(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def close(self) -> None:
        self.closed = True


class Keys:
    """Keys of one direction, the same on both sides."""

    def __init__(self, cipher: str, mac: str) -> None:
        self.cipher = cipher
        self.info: dict[str, Any] = paramiko.Transport._cipher_info[cipher]
        self.mac: dict[str, Any] = paramiko.Transport._mac_info[mac]
        self.etm = "etm" in mac
        self.aead = bool(self.info.get("is_aead"))
        self.key = os.urandom(self.info["key-size"])
        self.iv = os.urandom(self.info.get("iv-size", self.info["block-size"]))
        self.mac_key = os.urandom(self.mac["class"]().digest_size)

    def arguments(self, direction: str) -> dict[str, Any]:
        transport = paramiko.Transport.__new__(paramiko.Transport)
        operation = transport._ENCRYPT if direction == "out" else transport._DECRYPT
        named = (self.cipher, self.key, self.iv, operation)
        engine = (
            transport._get_engine(*named, aead=self.aead)
            if hasattr(transport, "_get_engine")
            else transport._get_cipher(*named)  # 3.4
        )
        arguments: dict[str, Any] = {
            "block_engine": engine,
            "block_size": self.info["block-size"],
            "mac_engine": None if self.aead else self.mac["class"],
            "mac_size": 16 if self.aead else self.mac["size"],
            "mac_key": None if self.aead else self.mac_key,
            "etm": self.etm and not self.aead,
        }
        if self.aead:
            arguments.update({"aead": True, f"iv_{direction}": self.iv})
        if direction == "out":
            arguments["sdctr"] = self.cipher.endswith("-ctr")
        return arguments


def messages() -> list[bytes]:
    sizes = [1, 2, 5, 15, 16, 17, 1000, 32768, 100_000]
    return [bytes([94]) + os.urandom(size - 1) for size in sizes]


def decode(codec: PacketCodec, data: bytes) -> Iterator[bytes]:
    """Feed it in pieces of all sizes."""
    for size in itertools.cycle([1, 3, 16, 1000, 2, 65536, 4, 5]):
        if not data:
            return
        codec.feed(data[:size])
        data = data[size:]
        while (found := codec.next_payload()) is not None:
            yield bytes(found)


@pytest.mark.parametrize(("cipher", "mac"), [(None, None), *CIPHERS])
def test_what_paramiko_writes_is_read(cipher: Any, mac: Any) -> None:
    wire = Wire()
    theirs, ours = Packetizer(wire), PacketCodec(Wire())
    if cipher is not None:
        keys = Keys(cipher, mac)
        theirs.set_outbound_cipher(**keys.arguments("out"))
        ours.set_inbound_cipher(**keys.arguments("in"))
    sent = messages()
    for message in sent:
        theirs.send_message(Message(message))
    assert list(decode(ours, wire.data)) == sent


@pytest.mark.parametrize(("cipher", "mac"), [(None, None), *CIPHERS])
def test_paramiko_reads_what_is_written(cipher: Any, mac: Any) -> None:
    wire = Wire()
    ours = PacketCodec(wire)
    near, far = socket.socketpair()
    with near, far:
        theirs = Packetizer(far)
        if cipher is not None:
            keys = Keys(cipher, mac)
            ours.set_outbound_cipher(**keys.arguments("out"))
            theirs.set_inbound_cipher(**keys.arguments("in"))
        for message in messages():
            ours.send_message(Message(message))
            near.sendall(wire.data)
            wire.data = b""
            kind, read = theirs.read_message()
            assert bytes([kind]) + read.asbytes() == message


@pytest.mark.parametrize(("cipher", "mac"), CIPHERS)
def test_a_changed_bit_is_noticed(cipher: str, mac: str) -> None:
    wire = Wire()
    ours = PacketCodec(wire)
    keys = Keys(cipher, mac)
    ours.set_outbound_cipher(**keys.arguments("out"))
    ours.send_message(Message(b"\x5e" + bytes(100)))
    # Damage bytes after the first block. That one holds the length: we would wait, or refuse.
    for position in range(16, len(wire.data)):
        damaged = bytearray(wire.data)
        damaged[position] ^= 1
        reader = PacketCodec(Wire())
        reader.set_inbound_cipher(**keys.arguments("in"))
        reader.feed(bytes(damaged))
        with pytest.raises(paramiko.SSHException, match="damaged"):
            reader.next_payload()


@pytest.mark.parametrize("size", [0, 1, (1 << 18) + 1, 0xFFFFFFFF])
def test_an_impossible_length_is_refused_before_it_is_waited_for(size: int) -> None:
    codec = PacketCodec(Wire())
    codec.feed(size.to_bytes(4, "big") + bytes(16))
    with pytest.raises(paramiko.SSHException, match=f"{size} bytes"):
        codec.next_payload()


def test_more_padding_than_packet_is_refused() -> None:
    codec = PacketCodec(Wire())
    codec.feed(b"\0\0\0\x0c\xff" + bytes(11))
    with pytest.raises(paramiko.SSHException):
        codec.next_payload()


@given(st.binary(max_size=300), st.sampled_from(["", *(cipher for cipher, _mac in CIPHERS)]))
def test_any_bytes_are_waited_for_or_refused(data: bytes, cipher: str) -> None:
    codec = PacketCodec(Wire())
    if cipher:
        codec.set_inbound_cipher(**Keys(cipher, "hmac-sha2-256").arguments("in"))
    codec.feed(data)
    try:
        while codec.next_payload() is not None:
            pass
    except paramiko.SSHException:
        pass  # the documented answer to garbage


def test_lines_before_the_first_packet() -> None:
    codec = PacketCodec(Wire())
    codec.feed(b"Hello\r\nSSH-2.0-x y\r\nrest")
    assert codec.next_line() == "Hello"
    assert codec.next_line() == "SSH-2.0-x y"
    assert codec.next_line() is None
    codec.feed(b"x" * 9000)
    with pytest.raises(paramiko.SSHException, match="too long"):
        codec.next_line()


def test_corked_messages_are_sent_together() -> None:
    wire = Wire()
    codec = PacketCodec(wire)
    codec.cork()
    codec.write_all(b"SSH-2.0-test\r\n")
    codec.send_message(Message(b"\x14"))
    assert wire.data == b""
    codec.uncork()
    assert wire.data.startswith(b"SSH-2.0-test\r\n\0\0\0")
    before = len(wire.data)
    codec.send_message(Message(b"\x15"))
    assert len(wire.data) > before


def test_nothing_is_lost_where_messages_are_corked_twice() -> None:
    wire = Wire()
    codec = PacketCodec(wire)
    codec.cork()
    codec.write_all(b"first ")
    codec.cork()
    codec.write_all(b"second ")
    codec.uncork()
    codec.write_all(b"third")
    codec.uncork()
    assert wire.data == b"first second third"


def test_new_keys_are_wanted_in_time_and_a_peer_that_ignores_it_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PacketCodec, "REKEY_BYTES", 1000)
    monkeypatch.setattr("pyclustershell.ssh.protocol.packets._REKEY_ALLOWANCE", 1000)
    wire = Wire()
    ours, peer = PacketCodec(wire), PacketCodec(Wire())
    keys = Keys("aes128-ctr", "hmac-sha2-256")
    ours.set_outbound_cipher(**keys.arguments("out"))
    peer.set_inbound_cipher(**keys.arguments("in"))
    for _ in range(9):
        ours.send_message(Message(b"\x5e" + bytes(100)))
    assert ours.need_rekey()
    peer.feed(wire.data)
    while peer.next_payload() is not None:
        pass
    assert peer.need_rekey()
    wire.data = b""
    for _ in range(9):
        ours.send_message(Message(b"\x5e" + bytes(100)))
    peer.feed(wire.data)
    with pytest.raises(paramiko.SSHException, match="ignores"):
        list(iter(peer.next_payload, None))
    # After new keys in both directions, no more are requested.
    for codec in (ours, peer):
        codec.set_inbound_cipher(**keys.arguments("in"))
        codec.set_outbound_cipher(**keys.arguments("out"))
        assert not codec.need_rekey()
