"""Diffie-Hellman key exchange (RFC 4253 section 8, RFC 4419, RFC 8268): the client's side.

paramiko accepts groups of 1024 bits, even moduli and values such as 1 and p - 1. Its secret
exponents are as long as the group, so that a group of 8192 bits costs seconds. And it computes on
the thread that reads, which here serves all nodes.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache, partial
from typing import Any, ClassVar, Protocol

from paramiko import SSHException
from paramiko.message import Message

from .received import check_end

# The sizes of groups, in bits, that OpenSSH accepts (dh.h).
MIN_GROUP_SIZE, MAX_GROUP_SIZE = 2048, 8192

# The size to ask for: it is as strong as AES with 128 bits (NIST SP 800-57 part 1, table 2).
PREFERRED_GROUP_SIZE = 3072

# A secret exponent has twice as many bits as the strength that is needed (RFC 4419 section 6.2);
# OpenSSH never takes a strength of less than this.
_MIN_STRENGTH = 256

# A public value has at least as many bits set, as in OpenSSH.
_MIN_BITS_SET = 4

# The messages (RFC 4253 section 8, RFC 4419 section 5).
_DH_INIT, _DH_REPLY = 30, 31
_GEX_GROUP, _GEX_INIT, _GEX_REPLY, _GEX_REQUEST = 31, 32, 33, 34

# How many bits of an exponent are processed at once.
_WINDOW = 5

# RFC 3526: the groups' moduli are 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + offset).
# The group of 1024 bits has the same form (RFC 2409 section 6.2).
_MODP_OFFSETS = {1024: 129093, 2048: 124476, 4096: 240904, 8192: 4743158}


@lru_cache
def _modp(size: int) -> int:
    """Return the modulus of a MODP group of RFC 3526, from its definition."""
    # Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239); 64 more bits than are used.
    one = 1 << (size - 130 + 64)
    pi = 16 * _arctan(5, one) - 4 * _arctan(239, one)
    return int((1 << size) - (1 << (size - 64)) - 1 + ((pi >> 64) + _MODP_OFFSETS[size] << 64))


def _arctan(inverse: int, one: int) -> int:
    """Return arctan(1 / inverse), times ``one``."""
    power = total = one // inverse
    divisor, sign = 1, 1
    while power:
        power //= inverse * inverse
        divisor, sign = divisor + 2, -sign
        total += sign * (power // divisor)
    return total


def power(base: int, exponent: int, modulus: int) -> int:
    """Return ``pow(base, exponent, modulus)``, in small steps.

    ``pow`` holds Python's global lock until it returns, up to 0.2 s here: no other thread could
    run. This loop takes as long, and other threads run in between.
    """
    powers = [1, base % modulus]
    for _ in range(2, 1 << _WINDOW):
        powers.append(powers[-1] * base % modulus)
    digits = []
    while exponent:
        digits.append(exponent & ((1 << _WINDOW) - 1))
        exponent >>= _WINDOW
    result = 1
    for digit in reversed(digits):
        for _ in range(_WINDOW):
            result = result * result % modulus
        result = result * powers[digit] % modulus
    return result


def exponent_size(strength: int, group_size: int) -> int:
    """Return the size of a secret exponent, in bits, as OpenSSH chooses it (dh.c).

    Args:
        strength: the strength that is needed: the bits of the longest key of the session.
        group_size: the bits of the group's modulus.
    """
    return min(2 * max(strength, _MIN_STRENGTH), group_size - 1)


def check_group(modulus: int, generator: int) -> None:
    """Check a group that the server has chosen, as OpenSSH and its libcrypto do.

    Raises:
        SSHException: the modulus is too small, too large or even, or the generator is trivial.
    """
    size = modulus.bit_length()
    if modulus <= 0 or not MIN_GROUP_SIZE <= size <= MAX_GROUP_SIZE:
        raise SSHException(
            f"the server's Diffie-Hellman group has {size} bits, not {MIN_GROUP_SIZE} to "
            f"{MAX_GROUP_SIZE}"
        )
    if not modulus & 1:
        raise SSHException("the modulus of the server's Diffie-Hellman group is even")
    if not 1 < generator < modulus - 1:
        raise SSHException("the generator of the server's Diffie-Hellman group is out of range")


def check_value(value: int, modulus: int) -> None:
    """Check a public value: with a trivial one, the secret could be guessed (RFC 4253 section 8).

    Raises:
        SSHException: it is trivial.
    """
    if not 1 < value < modulus - 1:
        raise SSHException("a public value of the Diffie-Hellman key exchange is out of range")
    if bin(value).count("1") < _MIN_BITS_SET:
        raise SSHException("a public value of the Diffie-Hellman key exchange has too few bits set")


class Exchanging(Protocol):
    """The transport, as a key exchange method uses it."""

    local_version: str
    remote_version: str
    local_kex_init: bytes
    remote_kex_init: bytes

    @property
    def strength(self) -> int:
        """The bits of the longest key of the session."""
        ...

    def run_aside(self, step: Any) -> None:
        """Run a step that computes for long; no message is handled meanwhile."""
        ...

    def _expect_packet(self, *kinds: int) -> None: ...

    def _send_message(self, message: Message) -> None: ...

    def _set_K_H(self, secret: int, exchange_hash: bytes) -> None: ...  # noqa: N802

    def _verify_key(self, host_key: bytes, signature: bytes) -> None: ...

    def _activate_outbound(self) -> None: ...


class DiffieHellman:
    """Diffie-Hellman key exchange with a group that has a name.

    Messages are read on the thread that feeds the transport. All computing is done aside.

    Attributes:
        hash_algo: the hash of the method; paramiko's name.
        size: the bits of the group's modulus.

    Args:
        transport: the transport that exchanges keys.
    """

    hash_algo: ClassVar[Any] = staticmethod(hashlib.sha256)
    size: ClassVar[int] = 2048
    _init, _reply = _DH_INIT, _DH_REPLY

    def __init__(self, transport: Exchanging) -> None:
        self._transport = transport
        self._modulus = self._generator = self._exponent = self._public = 0

    def start_kex(self) -> None:
        """Begin the exchange; paramiko's name."""
        self._transport.run_aside(self._start)

    def _start(self) -> None:
        self._modulus, self._generator = _modp(self.size), 2
        self._send_public()

    def _send_public(self) -> None:
        modulus, transport = self._modulus, self._transport
        size = exponent_size(transport.strength, modulus.bit_length())
        # The highest bit is set, as in libcrypto: the exponent has the size that was chosen.
        self._exponent = secrets.randbits(size) | 1 << (size - 1)
        self._public = power(self._generator, self._exponent, modulus)
        check_value(self._public, modulus)
        message = Message()
        message.add_byte(bytes([self._init]))
        message.add_mpint(self._public)
        transport._send_message(message)
        transport._expect_packet(self._reply)

    def parse_next(self, kind: int, m: Message) -> None:
        """Handle the server's next message; paramiko's name.

        Raises:
            SSHException: the message is malformed, or its value is trivial.
        """
        host_key, value, signature = m.get_binary(), m.get_mpint(), m.get_binary()
        check_end(m)
        check_value(value, self._modulus)
        self._transport.run_aside(partial(self._finish, host_key, value, signature))

    def _finish(self, host_key: bytes, value: int, signature: bytes) -> None:
        transport = self._transport
        secret = power(value, self._exponent, self._modulus)
        # A value of a small subgroup leads to a trivial secret; libcrypto checks that as well.
        check_value(secret, self._modulus)
        m = Message()
        m.add(
            transport.local_version,
            transport.remote_version,
            transport.local_kex_init,
            transport.remote_kex_init,
            host_key,
        )
        self._add_group(m)
        for number in (self._public, value, secret):
            m.add_mpint(number)
        transport._set_K_H(secret, self.hash_algo(m.asbytes()).digest())
        transport._verify_key(host_key, signature)
        transport._activate_outbound()

    def _add_group(self, m: Message) -> None:
        """Add the group's part of the exchange hash: nothing if the group has a name."""


class Group16(DiffieHellman):
    """diffie-hellman-group16-sha512 (RFC 8268)."""

    hash_algo = staticmethod(hashlib.sha512)
    size = 4096


class Group18(DiffieHellman):
    """diffie-hellman-group18-sha512 (RFC 8268)."""

    hash_algo = staticmethod(hashlib.sha512)
    size = 8192


class Group14SHA1(DiffieHellman):
    """diffie-hellman-group14-sha1 (RFC 4253 section 8.2): for old servers, if the user asks."""

    hash_algo = staticmethod(hashlib.sha1)


class Group1SHA1(Group14SHA1):
    """diffie-hellman-group1-sha1 (RFC 4253 section 8.1): for old servers, if the user asks."""

    size = 1024


class GroupExchange(DiffieHellman):
    """Key exchange with a group that the server chooses (RFC 4419)."""

    _init, _reply = _GEX_INIT, _GEX_REPLY
    _sizes = (MIN_GROUP_SIZE, PREFERRED_GROUP_SIZE, MAX_GROUP_SIZE)

    def start_kex(self) -> None:
        """Ask for a group; paramiko's name."""
        message = Message()
        message.add_byte(bytes([_GEX_REQUEST]))
        for size in self._sizes:
            message.add_int(size)
        self._transport._send_message(message)
        self._transport._expect_packet(_GEX_GROUP)

    def parse_next(self, kind: int, m: Message) -> None:
        """Handle the server's group, or its reply; paramiko's name.

        Raises:
            SSHException: the message is malformed, or the group or its value is not accepted.
        """
        if kind != _GEX_GROUP:
            super().parse_next(kind, m)
            return
        self._modulus, self._generator = m.get_mpint(), m.get_mpint()
        check_end(m)
        check_group(self._modulus, self._generator)
        self._transport.run_aside(self._send_public)

    def _add_group(self, m: Message) -> None:
        for size in self._sizes:
            m.add_int(size)
        m.add_mpint(self._modulus)
        m.add_mpint(self._generator)


class GroupExchangeSHA1(GroupExchange):
    """diffie-hellman-group-exchange-sha1 (RFC 4419 section 4.1): for old servers, if asked for."""

    hash_algo = staticmethod(hashlib.sha1)


#: The methods, by their names. The SHA-1 ones are used only if the user asks for them.
METHODS: dict[str, type[DiffieHellman]] = {
    "diffie-hellman-group-exchange-sha256": GroupExchange,
    "diffie-hellman-group16-sha512": Group16,
    "diffie-hellman-group18-sha512": Group18,
    "diffie-hellman-group14-sha256": DiffieHellman,
    "diffie-hellman-group-exchange-sha1": GroupExchangeSHA1,
    "diffie-hellman-group14-sha1": Group14SHA1,
    "diffie-hellman-group1-sha1": Group1SHA1,
}
