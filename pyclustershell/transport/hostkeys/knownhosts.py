"""known_hosts files: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Read once, indexed, added to.

The index is by key first: a server that is known shows a key that is in the file, so that its name
has to be compared (or hashed) with that key's lines only. All lines of a host are looked for only
when its key is not among them, to tell a changed key from an unknown one.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import hashlib
import hmac
import itertools
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

from ..config.context import matches_list
from ..config.settings import DEFAULT_PORT
from .filelock import locked

logger = logging.getLogger("pyclustershell.hostkeys")

CODE = "the known_hosts entries given in code"
"""The 'file' of entries that are given as literal lines."""

REVOKED = "@revoked"
CERT_AUTHORITY = "@cert-authority"


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key, as ssh-keygen shows it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def key_name(key_type: str) -> str:
    """Return what people call a type of key: ED25519, ECDSA, RSA."""
    for name in ("ed25519", "ecdsa", "rsa", "dss"):
        if name in key_type:
            return name.upper()
    return key_type


def host_name(host: str, port: int) -> str:
    """Return the name under which known_hosts has a host: lower case, ``[host]:port`` unless 22."""
    host = host.lower()
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


_NEARBY = 8  # lines, enough for the next host or two
_SHA1_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def _sha1(data: bytes) -> Any:
    # The file format has it so. The hash hides names, it protects no key.
    return hashlib.new("sha1", data, usedforsecurity=False)


def hash_name(name: str, salt: bytes) -> bytes:
    """Return the hash of a name as known_hosts has it: HMAC-SHA1 keyed by the salt."""
    return hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1")


# -- lines -----------------------------------------------------------------------------------------


class KnownHost(NamedTuple):
    """One line of a known_hosts file.

    Attributes:
        marker: '', '@revoked' or '@cert-authority'.
        names: the host names and patterns, in lower case; empty for a hashed line.
        salt: the salt of a hashed line, else empty.
        digest: the hashed name of a hashed line, else empty.
        key_type: such as 'ssh-ed25519'.
        blob: the public key.
        filename: the file it is in.
        line: the line in that file, counted from 1.
    """

    marker: str
    names: tuple[str, ...]
    salt: bytes
    digest: bytes
    key_type: str
    blob: bytes
    filename: str
    line: int

    def matches(self, name: str) -> bool:
        """Tell whether this line is about the host of this name."""
        if self.salt:
            return hmac.compare_digest(hash_name(name, self.salt), self.digest)
        return matches_list(name, self.names)

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self.filename if self.filename == CODE else f"{self.filename} line {self.line}"


def parse_known_host(text: str, filename: str, line: int) -> Optional[KnownHost]:
    """Read one line of a known_hosts file.

    Returns:
        The entry, or None for an empty line or a comment.

    Raises:
        ValueError: it is no valid line.
    """
    words = text.split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", REVOKED, CERT_AUTHORITY):
        raise ValueError(f"unknown marker {marker}")
    if len(words) < 3:
        raise ValueError("fields are missing")
    hosts, key_type, encoded = words[:3]
    try:
        blob = binascii.a2b_base64(encoded)
        size = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + size] != key_type.encode():
            raise ValueError("the key is not of the type named before it")
        if not hosts.startswith("|"):
            names = tuple(hosts.lower().split(","))
            return KnownHost(marker, names, b"", b"", key_type, blob, filename, line)
        _, version, salt, digest = hosts.split("|")
        if version != "1":
            raise ValueError(f"unknown kind of hash |{version}|")
        decoded = binascii.a2b_base64(salt), binascii.a2b_base64(digest)
    except (binascii.Error, UnicodeError) as error:
        raise ValueError(str(error)) from None
    return KnownHost(marker, (), *decoded, key_type, blob, filename, line)


def _is_pattern(name: str) -> bool:
    return name.startswith("!") or "*" in name or "?" in name


class HashedLines:
    """The hashed lines of a file, in its order.

    Each line has a salt of its own, so a name must be hashed anew for each: HMAC-SHA1, that is two
    runs of SHA-1 over a block of the salt and then the text (RFC 2104). The blocks are hashed
    once, which makes a comparison twice as fast as with the hmac module.

    Attributes:
        lines: the lines.
        compared: how many comparisons were made, to see what a search costs.
    """

    def __init__(self, lines: Sequence[KnownHost]) -> None:
        self.lines = lines
        self.compared = 0
        self._started: Optional[list[tuple[Any, Any, bytes]]] = None
        self._start = 0
        by_type: dict[str, list[int]] = {}
        for number, line in enumerate(lines):
            by_type.setdefault(line.key_type, []).append(number)
        self._by_type = sorted(by_type.values(), key=len, reverse=True)

    def find(self, name: str, numbers: Iterable[int], first: bool = False) -> list[int]:
        """Return which of these lines are about the host, or only the first one."""
        if self._started is None:
            self._started = [_start_hash(line) for line in self.lines]
        started = self._started
        text = name.encode("utf-8", "surrogateescape")
        found: list[int] = []
        for number in numbers:
            inner, outer, digest = started[number]
            inner = inner.copy()
            inner.update(text)
            outer = outer.copy()
            outer.update(inner.digest())
            self.compared += 1
            if outer.digest() == digest:
                found.append(number)
                if first:
                    break
        return found

    def find_together(self, name: str) -> list[int]:
        """Return the lines about the host that stand together.

        Hosts are mostly asked for in the order in which they stand in the file, and the lines of
        one host stand together. So the search begins where the last one ended. Then come all
        lines with the commonest type of key, of which each host mostly has one, then the others.
        """
        start = self._start
        nearby = range(start, min(start + _NEARBY, len(self.lines)))
        by_type = (
            number
            for numbers in self._by_type
            for number in _rotated(numbers, bisect.bisect_left(numbers, start))
        )
        found = self.find(name, itertools.chain(nearby, by_type), first=True)
        if not found:
            return []
        for step in (-1, 1):
            number = found[0] + step
            while 0 <= number < len(self.lines) and self.find(name, [number]):
                found.append(number)
                number += step
        self._start = max(found) + 1
        return sorted(found)


def _rotated(numbers: Sequence[int], start: int) -> Iterator[int]:
    yield from itertools.islice(numbers, start, None)
    yield from itertools.islice(numbers, start)


def _start_hash(line: KnownHost) -> tuple[Any, Any, bytes]:
    block = line.salt if len(line.salt) <= _SHA1_BLOCK else _sha1(line.salt).digest()
    block = block.ljust(_SHA1_BLOCK, b"\0")
    return _sha1(block.translate(_INNER)), _sha1(block.translate(_OUTER)), line.digest


class KnownHosts:
    """The lines of one known_hosts file, indexed. Not changed once it is made.

    Only what is looked up is remembered besides, so it may be shared between threads.
    """

    def __init__(self, entries: Iterable[KnownHost]) -> None:
        self._by_key: dict[bytes, list[KnownHost]] = {}
        self._by_name: dict[str, list[KnownHost]] = {}
        self._patterns: list[KnownHost] = []
        hashed: list[KnownHost] = []
        for entry in entries:
            self._by_key.setdefault(entry.blob, []).append(entry)
            if entry.salt:
                hashed.append(entry)
            elif any(_is_pattern(name) for name in entry.names):
                self._patterns.append(entry)
            else:
                for name in set(entry.names):
                    self._by_name.setdefault(name, []).append(entry)
        self._authorities = [
            entry
            for found in self._by_key.values()
            for entry in found
            if entry.marker == CERT_AUTHORITY
        ]
        self._hashed = HashedLines(hashed)
        self._hashed_types = tuple(dict.fromkeys(e.key_type for e in hashed if not e.marker))
        self._nearby: dict[str, tuple[KnownHost, ...]] = {}

    @classmethod
    def parse(cls, lines: Iterable[str], filename: str) -> KnownHosts:
        """Read the lines of a file; those that are wrong are passed over, with one warning."""
        entries: list[KnownHost] = []
        wrong: list[str] = []
        for number, text in enumerate(lines, start=1):
            try:
                entry = parse_known_host(text, filename, number)
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
                continue
            if entry is not None:
                entries.append(entry)
        if wrong:
            logger.warning(
                "%s: ignoring %d invalid lines, first %s", filename, len(wrong), wrong[0]
            )
        return cls(entries)

    def with_key(self, name: str, blob: bytes) -> Iterator[KnownHost]:
        """Go through the lines that hold this key for this host."""
        return (entry for entry in self._by_key.get(blob, ()) if entry.matches(name))

    def authorities(self, name: str) -> Iterator[KnownHost]:
        """Go through the lines of the authorities that may certify this host's key."""
        return (entry for entry in self._authorities if entry.matches(name))

    def of_host(self, name: str) -> list[KnownHost]:
        """Return all lines about this host. Slow where many lines are hashed."""
        found = [*self._by_name.get(name, ())]
        found += [entry for entry in self._patterns if entry.matches(name)]
        lines = self._hashed.lines
        found += [lines[number] for number in self._hashed.find(name, range(len(lines)))]
        return sorted(found, key=lambda entry: entry.line)

    def key_types(self, name: str) -> tuple[str, ...]:
        """Return the types of the keys that are known for this host.

        Where the answer would cost a hash per line it may be incomplete, or hold a type for a host
        that is not in the file: it is meant for an order of preference, not for a decision.
        """
        entries = [*self._by_name.get(name, ())]
        entries += [entry for entry in self._patterns if entry.matches(name)]
        types = [entry.key_type for entry in entries if not entry.marker]
        if len(self._hashed_types) == 1:
            types += self._hashed_types
        elif self._hashed_types:
            types += [entry.key_type for entry in self._hashed_nearby(name) if not entry.marker]
        return tuple(dict.fromkeys(types))

    def _hashed_nearby(self, name: str) -> tuple[KnownHost, ...]:
        if name not in self._nearby:
            found = self._hashed.find_together(name)
            self._nearby[name] = tuple(self._hashed.lines[number] for number in found)
        return self._nearby[name]


# -- reading and writing ---------------------------------------------------------------------------


def read_lines(path: str) -> Sequence[str]:
    """Return the lines of a file; none if it does not exist or, with a warning, is unreadable."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        logger.warning("cannot read %s: %s", path, error.strerror)
        return ()


def format_line(name: str, key_type: str, blob: bytes, hashed: bool) -> str:
    """Return the line that says that this is a host's key, with the name hashed or not."""
    if hashed:
        salt = secrets.token_bytes(20)  # as long as the hash
        encoded = (base64.b64encode(part).decode() for part in (salt, hash_name(name, salt)))
        name = "|1|" + "|".join(encoded)
    return f"{name} {key_type} {base64.b64encode(blob).decode()}\n"


@contextmanager
def held_open(path: str) -> Iterator[int]:
    """Hold a known_hosts file open, to be added to, under its lock; make it where there is none.

    Yields:
        The descriptor of the file.

    Raises:
        OSError: that is not possible.
    """
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            with locked(descriptor):
                # Another program may have put a new file in its place (as ssh-keygen -R does)
                # while we waited for the lock of the old one.
                if _is_still(descriptor, path):
                    yield descriptor
                    return
        finally:
            os.close(descriptor)


def append_line(descriptor: int, line: str) -> int:
    """Add a line to a file that is held open; end the one before it where it has no end.

    Returns:
        The number of bytes written.

    Raises:
        OSError: that is not possible.
    """
    if os.lseek(descriptor, 0, os.SEEK_END) > 0:
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) != b"\n":
            line = "\n" + line
    return os.write(descriptor, line.encode("utf-8", "surrogateescape"))


def _is_still(descriptor: int, path: str) -> bool:
    """Tell whether the open file is the one that the path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
