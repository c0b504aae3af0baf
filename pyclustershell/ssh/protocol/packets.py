"""SSH's binary packets (RFC 4253 section 6): from bytes to payloads and back. Pure."""

from __future__ import annotations

import hmac
import os
import struct
import threading
import time
from typing import Any, Callable, Optional, Protocol

from cryptography.exceptions import InvalidTag
from paramiko import SSHException
from paramiko.message import Message

# The longest packet that OpenSSH accepts, in bytes; RFC 4253 6.1 asks for 35,000.
_MAX_PACKET_SIZE = 1 << 18

# The version line has up to 255 bytes (RFC 4253 4.2). Lines before it may be longer.
_MAX_LINE_LENGTH = 8192

# How many bytes may still come with the old keys after new keys were requested.
_REKEY_ALLOWANCE = 1 << 29

# How many random bytes are drawn at once; a packet's padding has 4 to 255.
_NOISE_SIZE = 512

_LENGTH = struct.Struct(">I")
_SEQUENCE_MASK = 0xFFFFFFFF
_COUNTER_MASK = 0xFFFFFFFFFFFFFFFF

#: bytes -> bytes, with a state between calls: zlib.
Compressor = Callable[[bytes], bytes]


class Stream(Protocol):
    """Carries the packets."""

    def send(self, data: bytes) -> int:
        """Send all bytes, or queue them. Never waits."""
        ...

    def close(self) -> None:
        """Close the stream."""
        ...


class _Direction:
    """The keys and counters of one direction.

    Attributes:
        cipher: encrypts or decrypts; None before the first key exchange.
        block_size: a packet is padded to a multiple of this many bytes.
        digest: the name of the MAC's hash.
        mac_size: how many bytes the MAC has, or the tag of an AEAD cipher.
        length_is_clear: True if the packet's length is not encrypted: AEAD, or encrypt-then-MAC.
        compressor: compresses or decompresses payloads.
        sequence: the number of the next packet; its MAC covers it.
        size: how many bytes these keys have encrypted.
        packets: how many packets these keys have encrypted.
    """

    def __init__(self) -> None:
        self.cipher: Any = None
        self.block_size = 8
        self.digest = ""
        self.mac_size = 0
        self.mac_key = b""
        self.is_aead = False
        self.length_is_clear = False
        self.compressor: Optional[Compressor] = None
        self.sequence = 0
        self.size = 0
        self.packets = 0
        self._salt = b""
        self._counter = 0

    def use(
        self,
        cipher: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Optional[bytes],
        etm: bool,
        iv: Optional[bytes],
    ) -> None:
        """Use new keys from now on."""
        self.cipher = cipher
        self.block_size = block_size
        # By name: then hmac.digest() computes it in C.
        self.digest = mac_engine().name if mac_engine is not None else ""
        self.mac_size = mac_size
        self.mac_key = mac_key or b""
        self.is_aead = iv is not None
        self.length_is_clear = etm or self.is_aead
        if iv is not None:
            # RFC 5647 7.1: four bytes are fixed, eight count packets.
            self._salt, self._counter = iv[:4], int.from_bytes(iv[4:], "big")
        self.size = self.packets = 0

    def next_nonce(self) -> bytes:
        """Return the nonce of the next packet of an AEAD cipher, and count it."""
        nonce = self._salt + self._counter.to_bytes(8, "big")
        self._counter = (self._counter + 1) & _COUNTER_MASK
        return nonce

    def mac(self, data: bytes) -> bytes:
        """Return the MAC of the next packet (RFC 4253 6.4)."""
        covered = _LENGTH.pack(self.sequence) + data
        return hmac.digest(self.mac_key, covered, self.digest)[: self.mac_size]

    def count(self, size: int, keyed: bool) -> None:
        """Count a packet that has been encrypted or decrypted.

        Raises:
            SSHException: the sequence number rolls over in the first key exchange.
        """
        self.size += size
        self.packets += 1
        self.sequence = (self.sequence + 1) & _SEQUENCE_MASK
        if not self.sequence and not keyed:
            raise SSHException("the sequence number rolled over in the first key exchange")


class PacketCodec:
    """Replaces paramiko's Packetizer, which reads in its own thread and waits there.

    :meth:`feed` takes received bytes, :meth:`next_payload` returns complete payloads. Messages are
    sent at once, or collected while it is corked. One thread at a time may feed and take payloads;
    any thread may send.

    Args:
        stream: carries the packets.

    Attributes:
        received: the sequence number of the last packet received.
    """

    # paramiko's limits. RFC 4253 section 9 and RFC 4344 3.1 ask for new keys in time.
    REKEY_BYTES = 1 << 29
    REKEY_PACKETS = 1 << 29

    def __init__(self, stream: Stream) -> None:
        self.closed = False
        self.received = 0
        # Set by paramiko when the first key exchange is over.
        self._initial_kex_done = False
        self._stream = stream
        self._in = _Direction()
        self._out = _Direction()
        self._sending = threading.RLock()
        self._corked: Optional[list[bytes]] = None
        self._data = b""
        self._view = memoryview(b"")
        self._position = 0
        # The decrypted first block of a packet that is not complete yet.
        self._head = b""
        self._noise = b""
        self._needs_rekey = False
        self._renewed: set[str] = set()
        self._key_lifetime = 0.0
        self._keys_expire = 0.0

    def limit_keys(self, size: int, seconds: float) -> None:
        """Ask for new session keys after some bytes or seconds; checked with each packet.

        Args:
            size: how many bytes in one direction; 0 for the default of 512 MiB.
            seconds: how many seconds; 0 for no limit.
        """
        if size:
            self.REKEY_BYTES = size
        self._key_lifetime = seconds

    # -- from bytes to payloads --

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        if self._position < len(self._data):
            data = self._data[self._position :] + data
        self._data = data
        self._view = memoryview(data)
        self._position = 0

    def next_line(self) -> Optional[str]:
        """Return the next line before the first packet (RFC 4253 4.2).

        Returns:
            The line without its end; None if it is not complete.

        Raises:
            SSHException: the line is too long for a peer that speaks SSH.
        """
        end = self._data.find(b"\n", self._position)
        if (len(self._data) if end < 0 else end) - self._position > _MAX_LINE_LENGTH:
            raise SSHException("a line of the banner is too long")
        if end < 0:
            return None
        line = self._data[self._position : end]
        self._position = end + 1
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def next_payload(self) -> Optional[memoryview]:
        """Return the payload of the next packet (RFC 4253 6).

        Returns:
            The payload, at least one byte: the first one is the message's type. None if no packet
            is complete.

        Raises:
            SSHException: the packet is damaged, or its length is impossible; or the peer ignores
                our request for new keys.
        """
        keys = self._in
        start = self._position
        if keys.cipher is None or keys.length_is_clear:
            packet = self._next_clear_length(keys)
        else:
            packet = self._next_hidden_length(keys)
        if packet is None:
            return None
        payload = memoryview(packet)[1 : len(packet) - packet[0]]
        if keys.compressor is not None:
            payload = memoryview(keys.compressor(bytes(payload)))
        if not payload:
            raise SSHException("a packet has no contents")
        self.received = keys.sequence
        keys.count(self._position - start, self._initial_kex_done)
        self._check_rekey(keys)
        return payload

    def _next_clear_length(self, keys: _Direction) -> Optional[bytes]:
        begin = self._position + 4
        if begin > len(self._data):
            return None
        (size,) = _LENGTH.unpack_from(self._data, self._position)
        end = begin + size + keys.mac_size
        if end > len(self._data):
            if size > _MAX_PACKET_SIZE:
                raise _bad_length(size)
            return None
        if keys.is_aead:
            length, rest = self._view[begin - 4 : begin], self._view[begin:end]
            try:
                packet: bytes = keys.cipher.decrypt(keys.next_nonce(), rest, length)
            except InvalidTag:
                raise _damaged() from None
        elif keys.cipher is not None:
            covered = self._data[begin - 4 : begin + size]
            if not hmac.compare_digest(keys.mac(covered), self._data[begin + size : end]):
                raise _damaged()
            packet = keys.cipher.update(covered[4:])
        else:
            packet = self._data[begin:end]
        if size < 2 or packet[0] >= size:
            raise _bad_length(size)
        self._position = end
        return packet

    def _next_hidden_length(self, keys: _Direction) -> Optional[bytes]:
        begin = self._position
        if not self._head:
            if begin + keys.block_size > len(self._data):
                return None
            self._head = keys.cipher.update(self._data[begin : begin + keys.block_size])
        (size,) = _LENGTH.unpack_from(self._head)
        if size > _MAX_PACKET_SIZE or size + 4 < keys.block_size or (size + 4) % keys.block_size:
            raise _bad_length(size)
        end = begin + 4 + size + keys.mac_size
        if end > len(self._data):
            return None
        rest = self._data[begin + keys.block_size : begin + 4 + size]
        packet: bytes = self._head + keys.cipher.update(rest)
        self._head = b""
        if not hmac.compare_digest(keys.mac(packet), self._data[begin + 4 + size : end]):
            raise _damaged()
        if packet[4] >= size:
            raise _bad_length(size)
        self._position = end
        return packet[4:]

    # -- from messages to bytes --

    def cork(self) -> None:
        """Collect messages until the next :meth:`uncork`, which sends them in one system call."""
        if self._corked is None:
            self._corked = []

    def uncork(self) -> None:
        """Send the collected messages."""
        with self._sending:
            kept, self._corked = self._corked, None
            if kept:
                self._stream.send(kept[0] if len(kept) == 1 else b"".join(kept))

    def abandon(self) -> None:
        """In a forked child: renew the lock, which another thread may have held at the fork."""
        self._sending = threading.RLock()

    def write_all(self, data: bytes) -> None:
        """Send raw bytes: the version line, or an encoded packet."""
        if self._corked is None:
            self._stream.send(data)
        else:
            self._corked.append(data)

    def send_message(self, message: Message) -> None:
        """Send a message as a packet; paramiko calls this."""
        self.send_payload(message.asbytes())

    def send_payload(self, payload: bytes) -> None:
        """Send a payload as a packet. On any thread; never waits."""
        with self._sending:
            keys = self._out
            if keys.compressor is not None:
                payload = keys.compressor(payload)
            # Pad to whole blocks. The length field counts only if it is encrypted.
            hidden = 1 if keys.length_is_clear else 5
            padding = 3 + keys.block_size - (len(payload) + hidden + 3) % keys.block_size
            size = 1 + len(payload) + padding
            length = _LENGTH.pack(size)
            # Encrypted padding is random (RFC 4253 6), so that blocks cannot be guessed.
            filling = bytes(padding) if keys.cipher is None else self._random(padding)
            packet = b"%c%b%b" % (padding, payload, filling)
            if keys.cipher is None:
                data = length + packet
            elif keys.is_aead:
                data = length + keys.cipher.encrypt(keys.next_nonce(), packet, length)
            elif keys.length_is_clear:
                data = length + keys.cipher.update(packet)
                data += keys.mac(data)
            else:
                packet = length + packet
                data = keys.cipher.update(packet) + keys.mac(packet)
            self.write_all(data)
            keys.count(len(data), self._initial_kex_done)
            self._check_rekey(keys)

    def _random(self, size: int) -> bytes:
        """Return random bytes. One system call per packet would cost more than the encryption."""
        if len(self._noise) < size:
            self._noise = os.urandom(_NOISE_SIZE)
        noise, self._noise = self._noise[:size], self._noise[size:]
        return noise

    # -- for paramiko --

    def set_inbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Optional[bytes],
        etm: bool = False,
        aead: bool = False,
        iv_in: Optional[bytes] = None,
    ) -> None:
        """Use new keys for received packets."""
        iv = iv_in if aead else None
        self._in.use(block_engine, block_size, mac_engine, mac_size, mac_key, etm, iv)
        self._on_new_keys("in")

    def set_outbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Optional[bytes],
        sdctr: bool = False,
        etm: bool = False,
        aead: bool = False,
        iv_out: Optional[bytes] = None,
    ) -> None:
        """Use new keys for sent packets."""
        iv = iv_out if aead else None
        with self._sending:
            self._out.use(block_engine, block_size, mac_engine, mac_size, mac_key, etm, iv)
        self._on_new_keys("out")

    def _on_new_keys(self, direction: str) -> None:
        self._renewed.add(direction)
        if len(self._renewed) == 2:
            self._renewed.clear()
            self._needs_rekey = False
            self._keys_expire = time.monotonic() + self._key_lifetime

    def _check_rekey(self, keys: _Direction) -> None:
        if keys.size < self.REKEY_BYTES and keys.packets < self.REKEY_PACKETS:
            return
        self._needs_rekey = True
        # Packets already on their way when we ask still come with the old keys.
        if keys is self._in and keys.size >= self.REKEY_BYTES + _REKEY_ALLOWANCE:
            raise SSHException("the peer ignores our request for new keys")

    def need_rekey(self) -> bool:
        """True if new keys have to be requested."""
        if self._key_lifetime and self._initial_kex_done and time.monotonic() > self._keys_expire:
            self._needs_rekey = True
        return self._needs_rekey

    def set_inbound_compressor(self, compressor: Compressor) -> None:
        """Decompress from now on."""
        self._in.compressor = compressor

    def set_outbound_compressor(self, compressor: Compressor) -> None:
        """Compress from now on."""
        self._out.compressor = compressor

    def reset_seqno_in(self) -> None:
        """Count from 0 again: strict key exchange."""
        self._in.sequence = 0

    def reset_seqno_out(self) -> None:
        """Count from 0 again: strict key exchange."""
        self._out.sequence = 0

    def close(self) -> None:
        """Close the stream."""
        self.closed = True
        self._stream.close()

    def set_log(self, log: Any) -> None:
        """Do nothing: this class logs nothing."""


def _damaged() -> SSHException:
    return SSHException("a packet was damaged on its way: its MAC is wrong")


def _bad_length(size: int) -> SSHException:
    return SSHException(f"a packet has an impossible length of {size} bytes")
