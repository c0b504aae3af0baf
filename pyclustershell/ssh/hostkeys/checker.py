"""Decides whether to trust a server's host key, by the known_hosts files and the policy."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Callable, NamedTuple, Optional

from ...engine.forking import abandon_in_child
from ...engine.threadpool import ThreadPool
from ...exceptions import (
    HostKeyChangedError,
    HostKeyError,
    HostKeyRevokedError,
    KnownHostsUnreadableError,
    UnknownHostKeyError,
)
from ..config.filestamp import Stamp, file_stamp
from ..config.memo import LookupPending
from ..config.patterns import lower_ascii
from ..config.settings import ConnectionSettings, is_known_hosts_entry
from ..protocol.algorithms import CERTIFICATE_SUFFIX
from ..protocol.fields import Fields
from . import certificates as hostcertificates
from .knownhosts import (
    CODE,
    REVOKED,
    KnownHost,
    KnownHosts,
    append_line,
    fingerprint,
    format_line,
    host_name,
    key_name,
    open_locked,
    read_lines,
)
from .revocation import RevokedKeys, read_revoked_keys

logger = logging.getLogger("pyclustershell.hostkeys")

_THREADS = 4

_FAILED = "Host key verification failed."


class HostKeyStatus(Enum):
    """The status of a host's key in the known_hosts files."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


class KnownHostsResult(NamedTuple):
    """The status of a host's key in the known_hosts files, and the line that decides it, if any."""

    status: HostKeyStatus
    entry: Optional[KnownHost] = None


class _File(NamedTuple):
    """A known_hosts file as it was read, and the keys that we have added to it since."""

    stamp: Stamp
    hosts: KnownHosts
    added: dict[str, list[KnownHost]]


# The contents of given lines and of files, in order, each with the keys added to it since.
_Sources = list[tuple[KnownHosts, dict[str, list[KnownHost]]]]


class HostKeyChecker:
    """Checks servers' host keys. One is enough for a process; safe to use from several threads.

    A disk may be slow, and another program may hold the lock of a known_hosts file. So the engine's
    thread calls the methods with ``wait=False``: they use the files as they were read and looked at
    within the last second. If they cannot, they raise LookupPending. Then the same call is made on
    one of :attr:`threads`.

    Attributes:
        threads: for checks that may block. They are not those of the authentication, which a
            silent agent may occupy.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Make a checker; it reads files when it needs them.

        Args:
            now: returns the seconds since 1970, for the validity of certificates.
        """
        self._now = now
        self.threads = ThreadPool("pyclustershell host keys", _THREADS)
        self._make_locks()
        self._files: dict[str, _File] = {}
        # The contents of literal lines and the paths of files, by the values of the two settings.
        self._by_settings: dict[tuple[tuple[str, ...], ...], tuple[KnownHosts, list[str]]] = {}
        self._revoked: dict[str, tuple[Stamp, RevokedKeys]] = {}
        abandon_in_child(self)

    def _make_locks(self) -> None:
        # Held while a file is read, so that one thread reads it. Threads that need no file that
        # has to be read do not wait for it.
        self._reading = threading.RLock()
        # Held while a key is added, also while another program holds the file's lock.
        self._adding = threading.Lock()

    def abandon(self) -> None:
        """In a forked child: a thread of the parent may have held the locks."""
        self._make_locks()

    def known_algorithms(self, settings: ConnectionSettings, wait: bool = True) -> tuple[str, ...]:
        """Return the host key algorithms to prefer: those of the host's known keys.

        A server has several keys and shows the one whose algorithm the client prefers: we prefer
        the keys that we can compare. If an authority is known, certificates come first.

        Args:
            settings: the connection's settings.
            wait: True if the calling thread may wait for a disk.

        Raises:
            LookupPending: the calling thread may not wait.
        """
        try:
            sources, names = self._sources(settings, wait), _names(settings)
        except HostKeyError:
            return ()  # check() tells
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
        wait: bool = True,
    ) -> bool:
        """Check the key that a server shows. Returns if the connection may continue.

        Args:
            settings: the connection's settings.
            key_type: type of the key, such as 'ssh-ed25519'.
            key_blob: the public key or certificate, as the server sent it (RFC 4253 section 6.6).
            address: the address we are connected to, for messages. It is not compared:
                ssh_config(5) CheckHostIP is off by default.
            wait: True if the calling thread may wait for a disk and for the lock of a file.

        Returns:
            False if the policy 'off' accepts a key that contradicts known_hosts: it may be another
            server, so send no password to it. Otherwise True.

        Raises:
            UnknownHostKeyError: the host is not known, and the policy is 'strict'.
            HostKeyChangedError: the host is known with other keys, and the policy is not 'off'.
            HostKeyRevokedError: the key is revoked, or the file of revoked keys cannot be read;
                under any policy.
            LookupPending: the calling thread may not wait.
        """
        certificate = None
        if key_type.endswith(CERTIFICATE_SUFFIX):
            certificate = self._certificate(settings, key_blob)
        if settings.revoked_host_keys is not None:
            self._check_revoked(settings, settings.revoked_host_keys, key_blob, certificate, wait)
        sources = self._sources(settings, wait)
        if certificate is not None:
            result = self._look_up_certificate(settings, certificate, sources)
            if result.status is HostKeyStatus.KNOWN:
                return True
            # As in OpenSSH: if the certificate is not accepted, its key may be.
            key_type, key_blob = certificate.key_type, certificate.public
            if result.status is HostKeyStatus.REVOKED:
                raise _host_key_error(result, settings, key_type, key_blob)
        result = _look_up(sources, _names(settings), key_blob)
        if result.status is HostKeyStatus.UNKNOWN and settings.host_key_policy == "accept-new":
            if not wait:
                raise LookupPending
            with self._adding:
                # Another connection to the same host may have added the key in the meantime.
                result = self.look_up(settings, key_blob)
                if result.status is HostKeyStatus.UNKNOWN:
                    result = self._accept(settings, key_type, key_blob)
        if result.status is HostKeyStatus.KNOWN:
            return True
        error = _host_key_error(result, settings, key_type, key_blob)
        if settings.host_key_policy == "off" and result.status is not HostKeyStatus.REVOKED:
            logger.warning(
                "%s: accepting its %s host key %s unchecked (%s)%s",
                settings.node,
                key_name(key_type),
                fingerprint(key_blob),
                error.cause,
                f" from {address}" if address else "",
            )
            return result.status is HostKeyStatus.UNKNOWN
        raise error

    def check_later(
        self, settings: ConnectionSettings, first: bytes, key_type: str, key_blob: bytes
    ) -> None:
        """Check the key that a server shows in a later key exchange of a connection.

        The key of the first exchange may have been revoked since. Any other key has to be in
        known_hosts, under any policy: a server has no reason to change to an unknown key in the
        middle of a session.

        Args:
            settings: the connection's settings.
            first: the key or the certificate of the first exchange, which :meth:`check` accepted.
            key_type: type of the key.
            key_blob: the public key or certificate.

        Raises:
            HostKeyError: the key is refused, see :meth:`check`.
        """
        if key_blob != first:
            self.check(replace(settings, host_key_policy="strict"), key_type, key_blob)
            return
        certificate = None
        if key_type.endswith(CERTIFICATE_SUFFIX):
            certificate = self._certificate(settings, key_blob)
        if settings.revoked_host_keys is not None:
            self._check_revoked(settings, settings.revoked_host_keys, key_blob, certificate)
        blobs = (key_blob,) if certificate is None else (certificate.authority, certificate.public)
        for blob in blobs:
            result = self.look_up(settings, blob)
            if result.status is HostKeyStatus.REVOKED:
                raise _host_key_error(result, settings, key_type, blob)

    def _check_revoked(
        self,
        settings: ConnectionSettings,
        path: str,
        blob: bytes,
        certificate: Optional[hostcertificates.HostCertificate],
        wait: bool = True,
    ) -> None:
        """Refuse a key that is listed in the file of ssh_config(5) RevokedHostKeys."""
        name = _names(settings)[0]
        try:
            revoked = self._revoked_keys(path, wait)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            # As in OpenSSH: without the file, any key could be a revoked one.
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

    def _revoked_keys(self, path: str, wait: bool) -> RevokedKeys:
        """Return the contents of a file of revoked keys; it is read again only after a change."""
        stamp = file_stamp(path, wait)
        known = self._revoked.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        if not wait:
            raise LookupPending
        with self._reading:
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

    def _look_up_certificate(
        self,
        settings: ConnectionSettings,
        certificate: hostcertificates.HostCertificate,
        sources: _Sources,
    ) -> KnownHostsResult:
        """Return a certificate's status by the known authorities: KNOWN, REVOKED or UNKNOWN."""
        names = _names(settings)
        for blob in (certificate.authority, certificate.public):
            result = _look_up(sources, names, blob)
            if result.status is HostKeyStatus.REVOKED:
                return result
        for name in names:
            for entry in (entry for hosts, _ in sources for entry in hosts.authorities(name)):
                if entry.blob == certificate.authority:
                    host = lower_ascii(settings.host_key_alias or settings.hostname)
                    reason = certificate.invalid_reason(host, self._now())
                    if reason is None:
                        return KnownHostsResult(HostKeyStatus.KNOWN, entry)
                    logger.warning("%s: its host certificate is refused: %s", settings.node, reason)
        return KnownHostsResult(HostKeyStatus.UNKNOWN)

    def look_up(self, settings: ConnectionSettings, blob: bytes) -> KnownHostsResult:
        """Return the status of this key in the known_hosts files, regardless of the policy.

        As in OpenSSH's check_host_key(): on another port than 22, the lines of ``[host]:port``
        decide, if there are any. The lines of the host alone are those of the server on port 22,
        and count only if there is none with the port. A revoked key is revoked under both names.
        """
        return _look_up(self._sources(settings), _names(settings), blob)

    def _sources(self, settings: ConnectionSettings, wait: bool = True) -> _Sources:
        key = (settings.known_hosts, settings.global_known_hosts)
        found = self._by_settings.get(key)
        if found is None:
            lines = tuple(text for text in settings.known_hosts if is_known_hosts_entry(text))
            made = KnownHosts.parse(lines, CODE), list(_paths(settings))
            found = self._by_settings.setdefault(key, made)
        literal, paths = found
        try:
            files = [self._file(path, wait) for path in paths]
        except OSError as error:
            raise _unreadable(settings, error) from error
        return [(literal, {}), *((file.hosts, file.added) for file in files)]

    def _file(self, path: str, wait: bool = True) -> _File:
        """Return a file's contents; it is read again only after a change."""
        stamp = file_stamp(path, wait)
        file = self._files.get(path)
        if file is not None and file.stamp == stamp:
            return file
        if not wait:
            raise LookupPending
        with self._reading:
            # Another thread may have read it meanwhile, or have added a key to it.
            stamp = file_stamp(path)
            file = self._files.get(path)
            if file is None or file.stamp != stamp:
                file = _File(stamp, KnownHosts.parse(read_lines(path), path), {})
                self._files[path] = file
        return file

    def _accept(self, settings: ConnectionSettings, key_type: str, blob: bytes) -> KnownHostsResult:
        """Add an unknown key to the user's first known_hosts file. Call it with _adding held.

        Returns:
            The status of the host's key now.
        """
        name = _names(settings)[0]
        paths = [text for text in settings.known_hosts if not is_known_hosts_entry(text)]
        if not paths:
            logger.warning("%s: no known_hosts file to remember its host key in", settings.node)
            return KnownHostsResult(HostKeyStatus.KNOWN)
        path = paths[0]
        try:
            self._file(path)
        except OSError as error:
            raise _unreadable(settings, error) from error
        entry = KnownHost("", (name,), b"", b"", key_type, blob, path, 0)
        try:
            # The lock may be held by another program. Only then is _reading taken: no thread that
            # reads the file waits for that program.
            with open_locked(path) as descriptor, self._reading:
                # Another program may have added this host, with any key, since it was looked up.
                result = self.look_up(settings, blob)
                if result.status is not HostKeyStatus.UNKNOWN:
                    return result
                file = self._file(path)
                line = format_line(name, key_type, blob, settings.hash_known_hosts)
                written = append_line(descriptor, line)
                self._note_added(file, entry, written)
        except OSError as error:
            # As in OpenSSH, the connection continues: the host stays unknown to the file.
            logger.warning("cannot add the host key of %s to %s: %s", settings.node, path, error)
            with self._reading, suppress(OSError):
                self._note_added(self._file(path), entry, 0)
        else:
            logger.info(
                "%s: added its %s host key %s to %s",
                settings.node,
                key_name(key_type),
                fingerprint(blob),
                path,
            )
        return KnownHostsResult(HostKeyStatus.KNOWN, entry)

    def _note_added(self, file: _File, entry: KnownHost, written: int) -> None:
        """Keep an added key beside the contents of its file. Call it with _reading held.

        Reading the whole file again for each of a thousand new hosts would take long. It is read
        again if another program has written to it as well.
        """
        path = entry.filename
        stamp = file_stamp(path)
        file.added.setdefault(entry.names[0], []).append(entry)
        size = file.stamp[1] if file.stamp else 0
        if stamp and stamp[1] == size + written:
            self._files[path] = file._replace(stamp=stamp)


def _unreadable(settings: ConnectionSettings, error: OSError) -> HostKeyError:
    """Return the error of a known_hosts file that cannot be opened now, but exists."""
    cause = f"known_hosts cannot be read: {error.strerror}"
    name = _names(settings)[0]
    sentence = f"The host key of {name} cannot be checked: {error}. {_FAILED}"
    return KnownHostsUnreadableError(settings.node, cause, sentence)


def _paths(settings: ConnectionSettings) -> Iterator[str]:
    for text in (*settings.known_hosts, *settings.global_known_hosts):
        if not is_known_hosts_entry(text):
            yield text


def _names(settings: ConnectionSettings) -> tuple[str, ...]:
    """Return the names to look up: the one with the port, then the one without it."""
    if settings.host_key_alias is not None:
        return (lower_ascii(settings.host_key_alias),)
    host = lower_ascii(settings.hostname)
    name = host_name(host, settings.port)
    return (name,) if name == host else (name, host)


def _look_up(sources: _Sources, names: Sequence[str], blob: bytes) -> KnownHostsResult:
    """Return the status of a key; see :meth:`HostKeyChecker.look_up`."""
    matching = [
        (name, entry)
        for name in names
        for hosts, added in sources
        for entry in (*hosts.with_key(name, blob), *added.get(name, ()))
        if entry.blob == blob
    ]
    for _, entry in matching:
        if entry.marker == REVOKED:
            return KnownHostsResult(HostKeyStatus.REVOKED, entry)
    # In the order of the names: a line with the port that has this key comes first.
    known = next((found for found in matching if not found[1].marker), None)
    if known is not None and known[0] == names[0]:
        return KnownHostsResult(HostKeyStatus.KNOWN, known[1])
    for hosts, added in sources:
        for entry in (*hosts.of_host(names[0]), *added.get(names[0], ())):
            if not entry.marker:
                return KnownHostsResult(HostKeyStatus.CHANGED, entry)
    if known is not None:
        return KnownHostsResult(HostKeyStatus.KNOWN, known[1])
    return KnownHostsResult(HostKeyStatus.UNKNOWN)


def _known_algorithms(sources: _Sources, names: Sequence[str]) -> tuple[str, ...]:
    """Return the algorithms of the known keys of the first name that has any."""
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
    """Return the signature algorithms of a type of key (RFC 8332 for RSA)."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def _host_key_error(
    result: KnownHostsResult, settings: ConnectionSettings, key_type: str, blob: bytes
) -> HostKeyError:
    """Return the exception for a key that is not trusted."""
    name = _names(settings)[0]
    shown = f"{key_name(key_type)} host key {fingerprint(blob)}"
    entry = result.entry
    if entry is None:
        sentence = (
            f"The {shown} of {name} is not known and checking is strict; compare it and add it to "
            f"known_hosts, or use the policy 'accept-new'. {_FAILED}"
        )
        return UnknownHostKeyError(settings.node, "host key is not known", sentence)
    if result.status is HostKeyStatus.REVOKED:
        sentence = f"The {shown} of {name} is marked as revoked in {entry.place}. {_FAILED}"
        return HostKeyRevokedError(settings.node, "host key is revoked", sentence)
    sentence = (
        f"The host key of {name} has changed: {entry.place} has the {key_name(entry.key_type)} key "
        f"{fingerprint(entry.blob)}, the server shows the {shown}; either another machine "
        f"poses as it, or it was set up anew: only then remove that line. {_FAILED}"
    )
    return HostKeyChangedError(settings.node, "host key has changed", sentence)
