"""Whether to trust the key that a server shows: by the known_hosts files and by the policy."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Callable, NamedTuple, Optional

from ...exceptions import (
    HostKeyChangedError,
    HostKeyError,
    HostKeyRevokedError,
    UnknownHostKeyError,
)
from ..config.context import Stamp, file_stamp
from ..config.settings import ConnectionSettings, is_known_hosts_entry
from . import certificates as hostcertificates
from .fields import Fields
from .knownhosts import (
    CODE,
    REVOKED,
    KnownHost,
    KnownHosts,
    append_line,
    fingerprint,
    format_line,
    held_open,
    host_name,
    key_name,
    read_lines,
)
from .revocation import RevokedKeys, read_revoked_keys

logger = logging.getLogger("pyclustershell.hostkeys")

_FAILED = "Host key verification failed."


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


# Where to look: lines and files, in order, each with the keys that were added to it since.
_Sources = list[tuple[KnownHosts, dict[str, list[KnownHost]]]]


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
        # By what the two settings say: the lines that are given literally, and the files' paths.
        self._places: dict[tuple[tuple[str, ...], ...], tuple[KnownHosts, list[str]]] = {}
        self._revoked: dict[str, tuple[Stamp, RevokedKeys]] = {}

    def known_algorithms(self, settings: ConnectionSettings) -> tuple[str, ...]:
        """Return the host key algorithms to ask for first: those of the keys known for the host.

        A server has several keys and shows the one whose algorithm the client likes best: it had
        better be one that we can compare. Where an authority is known, certificates come first.
        """
        sources, names = self._sources(settings), _names(settings)
        known = _known_algorithms(sources, names)
        if any(True for name in names for hosts, _ in sources for _ in hosts.authorities(name)):
            return (*hostcertificates.ALGORITHMS, *known)
        return known

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
            HostKeyRevokedError: the key is marked as revoked, or the list of revoked keys cannot be
                read; no policy allows that.
        """
        certificate = None
        if key_type.endswith(hostcertificates.SUFFIX):
            certificate = self._certificate(settings, key_blob)
        if settings.revoked_host_keys is not None:
            self._check_revoked(settings, settings.revoked_host_keys, key_blob, certificate)
        if certificate is not None:
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
                    verdict = self._accept(settings, key_type, key_blob)
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

    def _check_revoked(
        self,
        settings: ConnectionSettings,
        path: str,
        blob: bytes,
        certificate: Optional[hostcertificates.HostCertificate],
    ) -> None:
        """Refuse a key that ssh_config(5) RevokedHostKeys lists."""
        name = _names(settings)[0]
        try:
            revoked = self._revoked_keys(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            # As in OpenSSH: without the list, no key can be told from a revoked one.
            sentence = f"The host key of {name} cannot be checked: {path}: {reason}. {_FAILED}"
            cause = "the list of revoked host keys cannot be read"
            raise HostKeyRevokedError(settings.node, cause, sentence) from error
        public = blob if certificate is None else certificate.public
        if revoked.revokes(public, certificate):
            shown = f"{key_name(Fields(public).string().decode())} host key {fingerprint(public)}"
            raise HostKeyRevokedError(
                settings.node,
                "host key is revoked",
                f"The {shown} of {name} is revoked by {path}. {_FAILED}",
            )

    def _revoked_keys(self, path: str) -> RevokedKeys:
        """Return what a file revokes, read again only if it has changed."""
        with self._lock:
            stamp = file_stamp(path)
            known = self._revoked.get(path)
            if known is None or known[0] != stamp:
                known = self._revoked[path] = (stamp, read_revoked_keys(path))
            return known[1]

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

    def _sources(self, settings: ConnectionSettings) -> _Sources:
        asked = (settings.known_hosts, settings.global_known_hosts)
        with self._lock:
            found = self._places.get(asked)
            if found is None:
                lines = tuple(text for text in settings.known_hosts if is_known_hosts_entry(text))
                found = self._places[asked] = KnownHosts.parse(lines, CODE), list(_paths(settings))
            literal, paths = found
            files = map(self._file, paths)
            return [(literal, {}), *((file.hosts, file.added) for file in files)]

    def _file(self, path: str) -> _File:
        """Return a file's contents, read again only if it has changed."""
        stamp = file_stamp(path)
        file = self._files.get(path)
        if file is None or file.stamp != stamp:
            file = _File(stamp, KnownHosts.parse(read_lines(path), path), {})
            self._files[path] = file
        return file

    def _accept(self, settings: ConnectionSettings, key_type: str, blob: bytes) -> Verdict:
        """Add an unknown key to the user's first known_hosts file; called with the lock held.

        Returns:
            What is known of the host now.
        """
        name = _names(settings)[0]
        paths = [text for text in settings.known_hosts if not is_known_hosts_entry(text)]
        if not paths:
            logger.warning("%s: no known_hosts file to remember its host key in", settings.node)
            return Verdict(Standing.KNOWN)
        path = paths[0]
        file = judged = self._files[path]
        written = 0
        try:
            with held_open(path) as descriptor:
                file = self._file(path)
                if file is not judged:
                    # Others have added to it, perhaps this host: by this key, or by another one.
                    verdict = self.judge(settings, blob)
                    if verdict.standing is not Standing.UNKNOWN:
                        return verdict
                line = format_line(name, key_type, blob, settings.hash_known_hosts)
                written = append_line(descriptor, line)
        except OSError as error:
            # As in OpenSSH, the connection goes on: the key is as new as it was.
            logger.warning("cannot add the host key of %s to %s: %s", settings.node, path, error)
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
        return Verdict(Standing.KNOWN, entry)


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


def _known_algorithms(sources: _Sources, names: Sequence[str]) -> tuple[str, ...]:
    """The algorithms of the keys that are known for the first of the names that has any."""
    for name in names:
        types = dict.fromkeys(
            key_type
            for hosts, added in sources
            for key_type in (*hosts.key_types(name), *(e.key_type for e in added.get(name, ())))
        )
        if types:
            return tuple(algorithm for t in types for algorithm in _algorithms_of(t))
    return ()


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
