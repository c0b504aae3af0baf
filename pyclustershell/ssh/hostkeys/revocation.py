"""Revoked host keys: the files of ssh_config(5) RevokedHostKeys.

Such a file contains one public key per line, or it is a key revocation list (KRL) made by
``ssh-keygen -k``; OpenSSH's PROTOCOL.krl describes the format. Anything unknown in it is an error
and never skipped: a revoked key must not be accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from ..protocol.fields import Fields
from .certificates import HostCertificate
from .knownhosts import decode_public_key

_MAGIC = b"SSHKRL\n\0"
_LIST = "the key revocation list"
# Types of sections, and of sections in a section of certificates.
_CERTIFICATES, _KEYS, _SHA1, _SIGNATURE, _SHA256, _EXTENSION = 1, 2, 3, 4, 5, 255
_SERIAL_LIST, _SERIAL_RANGE, _SERIAL_BITMAP, _KEY_IDS, _INNER_EXTENSION = 32, 33, 34, 35, 57


@dataclass
class _Certificates:
    """The revoked certificates of one authority, or of all (``authority`` is empty)."""

    authority: bytes
    serials: set[int] = field(default_factory=set)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    key_ids: set[bytes] = field(default_factory=set)

    def revokes(self, certificate: HostCertificate) -> bool:
        if self.authority not in (b"", certificate.authority):
            return False
        if certificate.key_id in self.key_ids:
            return True
        serial = certificate.serial
        # 0 means that the authority gave no serial number: it identifies no certificate.
        return serial != 0 and (
            serial in self.serials or any(low <= serial <= high for low, high in self.ranges)
        )


@dataclass
class RevokedKeys:
    """The contents of one file of revoked keys. Immutable once it is read."""

    keys: set[bytes] = field(default_factory=set)
    sha1: set[bytes] = field(default_factory=set)
    sha256: set[bytes] = field(default_factory=set)
    certificates: list[_Certificates] = field(default_factory=list)

    def revokes(self, public: bytes, certificate: Optional[HostCertificate] = None) -> bool:
        """True if a key, its certificate or the authority of its certificate is revoked.

        Args:
            public: the public key.
            certificate: the certificate that the server showed, if any.
        """
        if self._revokes_key(public):
            return True
        return certificate is not None and (
            self._revokes_key(certificate.authority)
            or any(some.revokes(certificate) for some in self.certificates)
        )

    def _revokes_key(self, blob: bytes) -> bool:
        return (
            blob in self.keys
            or hashlib.sha256(blob).digest() in self.sha256
            # SHA-1 is part of the format, and OpenSSH writes both hashes.
            or hashlib.new("sha1", blob, usedforsecurity=False).digest() in self.sha1
        )


def read_revoked_keys(path: str) -> RevokedKeys:
    """Read a file of revoked keys.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line or a section is damaged or unknown.
    """
    with open(path, "rb") as file:
        data = file.read()
    return _read_list(data) if data.startswith(_MAGIC) else RevokedKeys(set(_read_lines(data)))


def _read_lines(data: bytes) -> Iterator[bytes]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = line.strip(b" \t\r").replace(b"\t", b" ").split(b" ", 1)
        if not words[0] or words[0].startswith(b"#"):
            continue
        try:
            key_type, rest = words
            encoded = rest.lstrip(b" ").partition(b" ")[0]
            yield decode_public_key(key_type.decode(), encoded.decode())
        except ValueError:
            raise ValueError(f"line {number} is not a public key") from None


def _read_list(data: bytes) -> RevokedKeys:
    fields = Fields(data, _LIST)
    fields.take(len(_MAGIC))
    version = fields.uint32()
    if version != 1:
        raise ValueError(f"{_LIST} has the unknown version {version}, not 1")
    fields.take(3 * 8)  # its number, its date, flags
    fields.string()  # reserved
    fields.string()  # comment
    revoked = RevokedKeys()
    while fields.left:
        kind, section = fields.byte(), fields.inner()
        if kind == _CERTIFICATES:
            revoked.certificates.append(_read_certificates(section))
        elif kind in (_KEYS, _SHA1, _SHA256):
            found = {_KEYS: revoked.keys, _SHA1: revoked.sha1, _SHA256: revoked.sha256}[kind]
            while section.left:
                found.add(section.string())
        elif kind == _SIGNATURE:
            # OpenSSH does not verify signatures either, and only signatures may follow.
            break
        elif kind == _EXTENSION:
            _refuse_critical(section)
        else:
            raise ValueError(f"{_LIST} has a section of the unknown type {kind}")
    return revoked


def _read_certificates(section: Fields) -> _Certificates:
    found = _Certificates(section.string())
    section.string()  # reserved
    while section.left:
        kind, inner = section.byte(), section.inner()
        if kind == _INNER_EXTENSION:
            _refuse_critical(inner)
            continue
        while inner.left:
            if kind == _SERIAL_LIST:
                found.serials.add(inner.uint64())
            elif kind == _SERIAL_RANGE:
                found.ranges.append((inner.uint64(), inner.uint64()))
            elif kind == _SERIAL_BITMAP:
                offset = inner.uint64()
                bits = int.from_bytes(inner.string(), "big")
                found.serials.update(offset + n for n in range(bits.bit_length()) if bits >> n & 1)
            elif kind == _KEY_IDS:
                found.key_ids.add(inner.string())
            else:
                raise ValueError(
                    f"{_LIST} lists certificates in a section of the unknown type {kind}"
                )
    return found


def _refuse_critical(extension: Fields) -> None:
    name = extension.string().decode("utf-8", "replace")
    if extension.byte():
        raise ValueError(f"{_LIST} has the unknown critical extension {name!r}")
