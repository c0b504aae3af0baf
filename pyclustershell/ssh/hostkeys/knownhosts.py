"""known_hosts files: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Read once, indexed, added to.

The first index is by key: a known server shows a key that is in the file, so that its name is only
compared (or hashed) with the lines of that key. All lines of a host are searched only if its key is
not among them, to tell a changed key from an unknown one.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import errno
import hashlib
import hmac
import itertools
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

from ...engine.descriptors import is_shortage
from ...filetrust import why_refused
from ...local.filelock import locked
from ..config.patterns import lower_ascii, matches_list
from ..config.settings import DEFAULT_PORT

logger = logging.getLogger("pyclustershell.hostkeys")

CODE = "the known_hosts entries given in code"
"""Stands for the filename of entries that are given as literal lines."""

REVOKED = "@revoked"
CERT_AUTHORITY = "@cert-authority"


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key, in the form of ssh-keygen."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def key_name(key_type: str) -> str:
    """Return the common name of a type of key: ED25519, ECDSA, RSA."""
    for name in ("ed25519", "ecdsa", "rsa", "dss"):
        if name in key_type:
            return name.upper()
    return key_type


def host_name(host: str, port: int) -> str:
    """Return a host's name in known_hosts: lower case, ``[host]:port`` for a port other than 22."""
    host = lower_ascii(host)
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


_NEARBY = 8  # lines: enough for the next one or two hosts
_SHA1_BLOCK = 64
_SHA1_SIZE = 20
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def _sha1(data: bytes) -> Any:
    # The file format requires SHA-1. The hash hides names, it protects no key.
    return hashlib.new("sha1", data, usedforsecurity=False)


def hash_name(name: str, salt: bytes) -> bytes:
    """Return the hash of a name in known_hosts: HMAC-SHA1 with the salt as its key."""
    return hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1")


_BLANKS = " \t"
_BLANK = re.compile(f"[{_BLANKS}]+")
"""Separates fields: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. No other white space does."""

_LONGEST_PATTERN = 1022
"""OpenSSH's match_pattern_list() does not match a list with a longer pattern, in bytes."""


# -- lines -----------------------------------------------------------------------------------------


class KnownHost(NamedTuple):
    """One line of a known_hosts file.

    Attributes:
        marker: '', '@revoked' or '@cert-authority'.
        names: the host names and patterns, in lower case; empty for a hashed line.
        salt: the salt of a hashed line, else empty.
        digest: the hashed name of a hashed line, else empty.
        key_type: the type of the key, such as 'ssh-ed25519'.
        blob: the public key.
        filename: the file.
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
        """True if this line applies to the host of this name."""
        if self.salt:
            return hmac.compare_digest(hash_name(name, self.salt), self.digest)
        return matches_list(name, self.names)

    @property
    def place(self) -> str:
        """The file and line, for messages."""
        return self.filename if self.filename == CODE else f"{self.filename} line {self.line}"


def parse_known_host(text: str, filename: str, line: int) -> Optional[KnownHost]:
    """Parse one line of a known_hosts file.

    Returns:
        The entry, or None for an empty line or a comment.

    Raises:
        ValueError: the line is not valid.
    """
    # OpenSSH reads a C string: it ends at a NUL byte. The CR of a CRLF belongs to the line's end.
    text = text.partition("\0")[0].strip(_BLANKS).rstrip("\r")
    if not text or text.startswith("#"):
        return None
    marker = ""
    if text.startswith("@"):
        marker, text = _split_marker(text)
    words = _BLANK.split(text)
    if len(words) < 3:
        raise ValueError("fields are missing: write HOSTS TYPE KEY")
    hosts, key_type, encoded = words[:3]
    blob = decode_public_key(key_type, encoded)
    if hosts.startswith("|"):
        salt, digest = _parse_hash(hosts)
        return KnownHost(marker, (), salt, digest, key_type, blob, filename, line)
    names = tuple(lower_ascii(hosts).split(","))
    if any(len(name.encode("utf-8", "surrogateescape")) > _LONGEST_PATTERN for name in names):
        raise ValueError(f"a host name is longer than {_LONGEST_PATTERN} bytes")
    return KnownHost(marker, names, b"", b"", key_type, blob, filename, line)


def _split_marker(text: str) -> tuple[str, str]:
    """Split a line at the end of its marker."""
    marker, *rest = _BLANK.split(text, maxsplit=1)
    if marker not in (REVOKED, CERT_AUTHORITY):
        raise ValueError(
            f"unknown marker {marker}: only {REVOKED} and {CERT_AUTHORITY} are defined"
        )
    following = text[len(marker) :]
    # In a line with blanks and tabs, OpenSSH ends the marker at a blank only. It ignores a line
    # with another marker. We do that to an authority, but heed a revoked key in any case.
    if marker == CERT_AUTHORITY and following.startswith("\t") and " " in following:
        raise ValueError(f"a tab follows {marker}: write a blank")
    return marker, "".join(rest)


def _parse_hash(hosts: str) -> tuple[bytes, bytes]:
    """Return the salt and the hash of a hashed host name."""
    _, version, *parts = hosts.split("|")
    if version != "1":
        raise ValueError(f"unknown kind of hash |{version}|")
    if len(parts) != 2:
        raise ValueError("the hash of the host name is damaged: write |1|SALT|HASH")
    salt, digest = map(_decode_base64, parts)
    if not len(salt) == len(digest) == _SHA1_SIZE:
        raise ValueError(f"the salt and the hash of a host name have {_SHA1_SIZE} bytes each")
    return salt, digest


def decode_public_key(key_type: str, encoded: str) -> bytes:
    """Return the blob of a public key that is written as its type and base64.

    Raises:
        ValueError: it is not the base64 of a key of this type.
    """
    blob = _decode_base64(encoded)
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != key_type.encode("utf-8", "surrogateescape"):
        raise ValueError("the key is not of the type that precedes it")
    return blob


def _decode_base64(text: str) -> bytes:
    """Decode base64 as strictly as OpenSSH.

    Python's decoder ignores other characters, text after the padding, and the bits that are left
    over. So two programs would read two keys in one text. Only one text stands for given bytes.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError as error:
        raise ValueError(f"the base64 text is damaged: {error}") from None
    if base64.b64encode(data) != text.encode("ascii"):
        raise ValueError("the base64 text is damaged: it has wrong characters or wrong padding")
    return data


def _is_pattern(name: str) -> bool:
    return name.startswith("!") or "*" in name or "?" in name


class HashedLines:
    """The hashed lines of a file, in its order.

    Each line has its own salt, so a name is hashed again for each line: HMAC-SHA1, that is two
    SHA-1 hashes of a block made of the salt and then of the text (RFC 2104). The blocks are hashed
    once, which makes a comparison twice as fast as with the hmac module.

    Attributes:
        lines: the lines.
        compared: the number of comparisons so far, which is the cost of searches.
    """

    def __init__(self, lines: Sequence[KnownHost]) -> None:
        self.lines = lines
        self.compared = 0
        self._hash_states: Optional[list[tuple[Any, Any, bytes]]] = None
        self._next_line = 0
        by_type: dict[str, list[int]] = {}
        for number, line in enumerate(lines):
            by_type.setdefault(line.key_type, []).append(number)
        self._by_type = sorted(by_type.values(), key=len, reverse=True)

    def find(self, name: str, numbers: Iterable[int], first: bool = False) -> list[int]:
        """Return the numbers of those lines that apply to the host, or only the first one."""
        if self._hash_states is None:
            self._hash_states = [_hash_state(line) for line in self.lines]
        states = self._hash_states
        text = name.encode("utf-8", "surrogateescape")
        found: list[int] = []
        for number in numbers:
            inner, outer, digest = states[number]
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

    def find_adjacent(self, name: str) -> list[int]:
        """Return the numbers of adjacent lines that apply to the host.

        Hosts are mostly looked up in the order of the file, and the lines of one host are mostly
        adjacent. So the search begins after the lines found last. Then come all lines with the
        most frequent type of key (most hosts have one line of this type), then the other lines.
        """
        start = self._next_line
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
        self._next_line = max(found) + 1
        return sorted(found)


def _rotated(numbers: Sequence[int], start: int) -> Iterator[int]:
    yield from itertools.islice(numbers, start, None)
    yield from itertools.islice(numbers, start)


def _hash_state(line: KnownHost) -> tuple[Any, Any, bytes]:
    block = line.salt if len(line.salt) <= _SHA1_BLOCK else _sha1(line.salt).digest()
    block = block.ljust(_SHA1_BLOCK, b"\0")
    return _sha1(block.translate(_INNER)), _sha1(block.translate(_OUTER)), line.digest


class KnownHosts:
    """The lines of one known_hosts file, indexed. Immutable.

    Only the results of searches are cached, so several threads may share it.
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
        """Parse the lines of a file; invalid lines are skipped, with one warning for all."""
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
        """Yield the lines with this key for this host."""
        return (entry for entry in self._by_key.get(blob, ()) if entry.matches(name))

    def authorities(self, name: str) -> Iterator[KnownHost]:
        """Yield the lines of authorities that may certify this host's key."""
        return (entry for entry in self._authorities if entry.matches(name))

    def of_host(self, name: str) -> list[KnownHost]:
        """Return all lines that apply to this host. Slow if many lines are hashed."""
        found = [*self._by_name.get(name, ())]
        found += [entry for entry in self._patterns if entry.matches(name)]
        lines = self._hashed.lines
        found += [lines[number] for number in self._hashed.find(name, range(len(lines)))]
        return sorted(found, key=lambda entry: entry.line)

    def key_types(self, name: str) -> tuple[str, ...]:
        """Return the types of the known keys of this host.

        If that would cost a hash per line, the result may be incomplete, or contain a type for a
        host that is not in the file: use it for an order of preference, not for a decision.
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
            found = self._hashed.find_adjacent(name)
            self._nearby[name] = tuple(self._hashed.lines[number] for number in found)
        return self._nearby[name]


# -- reading and writing ---------------------------------------------------------------------------


def read_lines(path: str) -> Sequence[str]:
    """Return the lines of a file; none if it is missing or, with a warning, cannot be read.

    Raises:
        OSError: there is no descriptor left to read it. A known host must not look unknown then:
            the policy 'accept-new' would accept any key.
    """
    refused = why_refused(path)
    if refused is not None:
        logger.warning("%s: it is not read: %s", path, refused)
        return ()
    try:
        # newline="\n": a carriage return alone ends no line in OpenSSH.
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        if is_shortage(error):
            raise
        logger.warning("cannot read %s: %s", path, error.strerror)
        return ()


def format_line(name: str, key_type: str, blob: bytes, hashed: bool) -> str:
    """Return the line for a host's key, with the name hashed or not."""
    if hashed:
        salt = secrets.token_bytes(20)  # as long as the hash
        encoded = (base64.b64encode(part).decode() for part in (salt, hash_name(name, salt)))
        name = "|1|" + "|".join(encoded)
    return f"{name} {key_type} {base64.b64encode(blob).decode()}\n"


@contextmanager
def open_locked(path: str) -> Iterator[int]:
    """Open a known_hosts file for appending and hold its lock; create the file if necessary.

    Yields:
        The descriptor of the file.

    Raises:
        OSError: the file cannot be opened, locked or written.
    """
    if path == os.devnull:
        # It keeps nothing, and Windows has no lock for it.
        with open(path, "r+b", buffering=0) as file:
            yield file.fileno()
        return
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            with locked(descriptor):
                # While we waited for the lock, another program may have replaced the file, as
                # ssh-keygen -R does: then this lock is that of the old file.
                if _is_current(descriptor, path):
                    yield descriptor
                    return
        finally:
            os.close(descriptor)


def append_line(descriptor: int, line: str) -> int:
    """Append a line to an open file; first end its last line if the line break is missing.

    Returns:
        The number of bytes written.

    Raises:
        OSError: the line cannot be written: the disk may be full. Nothing of it is in the file.
    """
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size > 0:
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) != b"\n":
            line = "\n" + line
    data = line.encode("utf-8", "surrogateescape")
    written = os.write(descriptor, data)
    if written < len(data):
        # A full disk takes a part of it, and says so at the next byte only.
        if os.lseek(descriptor, 0, os.SEEK_END) == size + written:
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written


def _is_current(descriptor: int, path: str) -> bool:
    """True if the open file is the one that the path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
