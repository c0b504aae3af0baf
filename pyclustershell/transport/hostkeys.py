"""Host keys: known_hosts files, and whether to trust the key that a server shows.

The file format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". A file is read once, indexed, and
shared between threads. The index is by key first: a server that is known shows a key that is in the
file, so that its name has to be compared (or hashed) with that key's lines only. All lines of a
host are looked for only when its key is not among them, to tell a changed key from an unknown one.
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
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Callable, NamedTuple, Optional

from ..exceptions import (
    HostKeyChangedError,
    HostKeyError,
    HostKeyRevokedError,
    UnknownHostKeyError,
)
from . import hostcertificates
from .settings import DEFAULT_PORT, ConnectionSettings, is_known_hosts_entry
from .sshcontext import Stamp, file_stamp, matches_list

logger = logging.getLogger("pyclustershell.hostkeys")

CODE = "the known_hosts entries given in code"
"""The 'file' of entries that are given as literal lines."""

_FAILED = "Host key verification failed."

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


# -- the files -------------------------------------------------------------------------------------


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


class _HashedLines:
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
        self._hashed = _HashedLines(hashed)
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


# -- whether to trust a key ------------------------------------------------------------------------


class Standing(Enum):
    """What the known_hosts files say about a host's key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


class Verdict(NamedTuple):
    """What the known_hosts files say about a host's key, and the line that says so, if any."""

    standing: Standing
    entry: Optional[KnownHost] = None


class _File(NamedTuple):
    """A known_hosts file as it was read, and the keys that were added to it since."""

    stamp: Stamp
    hosts: KnownHosts
    added: dict[str, list[KnownHost]]


class HostKeyChecker:
    """Checks servers' host keys. One is enough for a process; safe to use from several threads."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Make a checker that has read nothing yet.

        Args:
            now: gives the seconds since 1970, for the validity of certificates.
        """
        self._now = now
        self._lock = threading.RLock()
        self._files: dict[str, _File] = {}
        self._literal: dict[tuple[str, ...], KnownHosts] = {}

    def known_algorithms(self, settings: ConnectionSettings) -> tuple[str, ...]:
        """Return the host key algorithms to ask for first: those of the keys known for the host.

        A server has several keys and shows the one whose algorithm the client likes best: it had
        better be one that we can compare. Where an authority is known, certificates come first.
        """
        for name in _names(settings):
            if any(True for _ in self._authorities(settings, name)):
                return (*hostcertificates.ALGORITHMS, *self._known_algorithms(settings))
        return self._known_algorithms(settings)

    def _known_algorithms(self, settings: ConnectionSettings) -> tuple[str, ...]:
        for name in _names(settings):
            types = dict.fromkeys(
                key_type
                for hosts, added in self._sources(settings)
                for key_type in (*hosts.key_types(name), *(e.key_type for e in added.get(name, ())))
            )
            if types:
                return tuple(algorithm for t in types for algorithm in _algorithms_of(t))
        return ()

    def check(
        self,
        settings: ConnectionSettings,
        key_type: str,
        key_blob: bytes,
        address: Optional[str] = None,
    ) -> bool:
        """Check the key that a server shows; return if the connection may go on.

        Args:
            settings: the connection's settings.
            key_type: type of the key, such as 'ssh-ed25519'.
            key_blob: the public key or certificate as it came over the wire (RFC 4253 section
                6.6).
            address: the address we are connected to, for messages; ssh_config(5) CheckHostIP is
                off by default, so it is not compared.

        Returns:
            False if the policy 'off' lets a key pass that contradicts known_hosts: the server may
            be another one, and should not be given a password. Otherwise True.

        Raises:
            UnknownHostKeyError: the host is not known and the policy is 'strict'.
            HostKeyChangedError: the host is known by other keys.
            HostKeyRevokedError: the key is marked as revoked; no policy allows that.
        """
        if key_type.endswith(hostcertificates.SUFFIX):
            certificate = self._certificate(settings, key_blob)
            verdict = self._judge_certificate(settings, certificate)
            if verdict.standing is Standing.KNOWN:
                return True
            # As in OpenSSH, a certificate that does not help leaves the key that it certifies.
            key_type, key_blob = certificate.key_type, certificate.public
            if verdict.standing is Standing.REVOKED:
                raise _refusal(verdict, settings, key_type, key_blob)
        verdict = self.judge(settings, key_blob)
        if verdict.standing is Standing.UNKNOWN and settings.host_key_policy == "accept-new":
            with self._lock:
                # Another connection to the same host may have added its key in the meantime.
                verdict = self.judge(settings, key_blob)
                if verdict.standing is Standing.UNKNOWN:
                    self._accept(settings, key_type, key_blob)
                    return True
        if verdict.standing is Standing.KNOWN:
            return True
        error = _refusal(verdict, settings, key_type, key_blob)
        if settings.host_key_policy == "off" and verdict.standing is not Standing.REVOKED:
            logger.warning(
                "%s: accepting its %s host key %s unchecked (%s)%s",
                settings.node,
                key_name(key_type),
                fingerprint(key_blob),
                error.cause,
                f" from {address}" if address else "",
            )
            return verdict.standing is Standing.UNKNOWN
        raise error

    def _certificate(
        self, settings: ConnectionSettings, blob: bytes
    ) -> hostcertificates.HostCertificate:
        try:
            return hostcertificates.parse(blob)
        except ValueError as error:
            sentence = f"The host key of {_names(settings)[0]} cannot be read: {error}. {_FAILED}"
            raise UnknownHostKeyError(settings.node, str(error), sentence) from None

    def _judge_certificate(
        self, settings: ConnectionSettings, certificate: hostcertificates.HostCertificate
    ) -> Verdict:
        """Say what the known authorities make of a certificate: KNOWN, REVOKED or UNKNOWN."""
        for blob in (certificate.authority, certificate.public):
            verdict = self.judge(settings, blob)
            if verdict.standing is Standing.REVOKED:
                return verdict
        for name in _names(settings):
            for entry in self._authorities(settings, name):
                if entry.blob == certificate.authority:
                    host = settings.host_key_alias or settings.hostname
                    refusal = certificate.refusal(host.lower(), self._now())
                    if refusal is None:
                        return Verdict(Standing.KNOWN, entry)
                    logger.warning("%s: its certificate is refused: %s", settings.node, refusal)
        return Verdict(Standing.UNKNOWN)

    def _authorities(self, settings: ConnectionSettings, name: str) -> Iterator[KnownHost]:
        for hosts, _added in self._sources(settings):
            yield from hosts.authorities(name)

    def judge(self, settings: ConnectionSettings, blob: bytes) -> Verdict:
        """Say what the known_hosts files say about this key, whatever the policy."""
        names = _names(settings)
        sources = self._sources(settings)
        matching = [
            entry
            for name in names
            for hosts, added in sources
            for entry in (*hosts.with_key(name, blob), *added.get(name, ()))
            if entry.blob == blob
        ]
        for entry in matching:
            if entry.marker == REVOKED:
                return Verdict(Standing.REVOKED, entry)
        for entry in matching:
            if not entry.marker:
                return Verdict(Standing.KNOWN, entry)
        # With a port of its own, a host counts as changed only under the name with the port: the
        # server on the default port is another one (as in OpenSSH).
        for hosts, added in sources:
            for entry in (*hosts.of_host(names[0]), *added.get(names[0], ())):
                if not entry.marker:
                    return Verdict(Standing.CHANGED, entry)
        return Verdict(Standing.UNKNOWN)

    def _sources(
        self, settings: ConnectionSettings
    ) -> list[tuple[KnownHosts, dict[str, list[KnownHost]]]]:
        lines = tuple(text for text in settings.known_hosts if is_known_hosts_entry(text))
        with self._lock:
            if lines not in self._literal:
                self._literal[lines] = KnownHosts.parse(lines, CODE)
            files = [self._file(path) for path in _paths(settings)]
            return [(self._literal[lines], {}), *((file.hosts, file.added) for file in files)]

    def _file(self, path: str) -> _File:
        """Return a file's contents, read again only if it has changed."""
        stamp = file_stamp(path)
        file = self._files.get(path)
        if file is None or file.stamp != stamp:
            file = _File(stamp, KnownHosts.parse(_read_lines(path), path), {})
            self._files[path] = file
        return file

    def _accept(self, settings: ConnectionSettings, key_type: str, blob: bytes) -> None:
        """Add a key to the user's first known_hosts file; called with the lock held."""
        name = _names(settings)[0]
        paths = [text for text in settings.known_hosts if not is_known_hosts_entry(text)]
        if not paths:
            logger.warning("%s: no known_hosts file to remember its host key in", settings.node)
            return
        path = paths[0]
        file = self._file(path)
        line = f"{_written_name(name, settings.hash_known_hosts)} {key_type} "
        line += base64.b64encode(blob).decode() + "\n"
        try:
            written = append_line(path, line)
        except OSError as error:
            # As in OpenSSH, the connection goes on: the key is as new as it was.
            logger.warning("cannot add the host key of %s to %s: %s", settings.node, path, error)
            written = 0
        # Reading the whole file again for each of a thousand new hosts would take a while, so the
        # entry is remembered beside it, unless somebody else has written to the file as well.
        stamp = file_stamp(path)
        entry = KnownHost("", (name,), b"", b"", key_type, blob, path, 0)
        file.added.setdefault(name, []).append(entry)
        size = file.stamp[1] if file.stamp else 0
        if stamp and stamp[1] == size + written:
            self._files[path] = file._replace(stamp=stamp)
        logger.info(
            "%s: added its %s host key %s to %s",
            settings.node,
            key_name(key_type),
            fingerprint(blob),
            path,
        )


def append_line(path: str, line: str) -> int:
    """Add a line to a known_hosts file with one write, making the file where there is none.

    Returns:
        The number of bytes written.

    Raises:
        OSError: that is not possible.
    """
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.lseek(descriptor, 0, os.SEEK_END) > 0:
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                line = "\n" + line
        return os.write(descriptor, line.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)


def _read_lines(path: str) -> Sequence[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        logger.warning("cannot read %s: %s", path, error.strerror)
        return ()


def _paths(settings: ConnectionSettings) -> Iterator[str]:
    for text in (*settings.known_hosts, *settings.global_known_hosts):
        if not is_known_hosts_entry(text):
            yield text


def _names(settings: ConnectionSettings) -> tuple[str, ...]:
    """The names to look up: the one that counts, then the one that serves in its place."""
    if settings.host_key_alias is not None:
        return (settings.host_key_alias.lower(),)
    host = settings.hostname.lower()
    name = host_name(host, settings.port)
    return (name,) if name == host else (name, host)


def _written_name(name: str, hashed: bool) -> str:
    if not hashed:
        return name
    salt = secrets.token_bytes(20)  # as long as the hash
    encoded = (base64.b64encode(part).decode() for part in (salt, hash_name(name, salt)))
    return "|1|" + "|".join(encoded)


def _algorithms_of(key_type: str) -> tuple[str, ...]:
    """The signature algorithms that a type of key serves (RFC 8332 for RSA)."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def _refusal(
    verdict: Verdict, settings: ConnectionSettings, key_type: str, blob: bytes
) -> HostKeyError:
    """Make the exception for a key that is not to be trusted."""
    name = _names(settings)[0]
    shown = f"{key_name(key_type)} host key {fingerprint(blob)}"
    entry = verdict.entry
    if entry is None:
        sentence = (
            f"The {shown} of {name} is not known and checking is strict; compare it and add it to "
            f"known_hosts, or use the policy 'accept-new'. {_FAILED}"
        )
        return UnknownHostKeyError(settings.node, "host key is not known", sentence)
    if verdict.standing is Standing.REVOKED:
        sentence = f"The {shown} of {name} is marked as revoked in {entry.place}. {_FAILED}"
        return HostKeyRevokedError(settings.node, "host key is revoked", sentence)
    sentence = (
        f"The host key of {name} has changed: {entry.place} has the {key_name(entry.key_type)} key "
        f"{fingerprint(entry.blob)}, the server shows the {shown}; another machine may be posing "
        f"as it, or it was set up anew: only then remove that line. {_FAILED}"
    )
    return HostKeyChangedError(settings.node, "host key has changed", sentence)
