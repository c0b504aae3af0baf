"""Keys that no host may show: the files of ssh_config(5) RevokedHostKeys.

Such a file has one public key per line, or it is a key revocation list (KRL) as ``ssh-keygen -k``
makes it, whose format is described in OpenSSH's PROTOCOL.krl. What cannot be understood is an
error, never passed over: a key that was revoked must not slip through.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from .certificates import HostCertificate
from .fields import Fields

_MAGIC = b"SSHKRL\n\0"
_DAMAGED = "the key revocation list"
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
        # No serial number was given: 0 names no certificate.
        return serial != 0 and (
            serial in self.serials or any(low <= serial <= high for low, high in self.ranges)
        )


@dataclass
class RevokedKeys:
    """What one file revokes. Not changed once it is read."""

    keys: set[bytes] = field(default_factory=set)
    sha1: set[bytes] = field(default_factory=set)
    sha256: set[bytes] = field(default_factory=set)
    certificates: list[_Certificates] = field(default_factory=list)

    def revokes(self, public: bytes, certificate: Optional[HostCertificate] = None) -> bool:
        """Tell whether a key is revoked, or its certificate, or the authority that signed that.

        Args:
            public: the public key.
            certificate: the certificate that was shown, if any.
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
            # The format's own choice, and OpenSSH writes both.
            or hashlib.new("sha1", blob, usedforsecurity=False).digest() in self.sha1
        )


def read_revoked_keys(path: str) -> RevokedKeys:
    """Read a file of revoked keys.

    Raises:
        OSError: it cannot be read.
        ValueError: it cannot be understood.
    """
    with open(path, "rb") as file:
        data = file.read()
    return _read_list(data) if data.startswith(_MAGIC) else RevokedKeys(set(_read_lines(data)))


def _read_lines(data: bytes) -> Iterator[bytes]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            blob = binascii.a2b_base64(words[1])
            if Fields(blob).string() != words[0]:
                raise ValueError
        except (IndexError, ValueError):
            raise ValueError(f"line {number} is no public key") from None
        yield blob


def _read_list(data: bytes) -> RevokedKeys:
    fields = Fields(data, _DAMAGED)
    fields.take(len(_MAGIC))
    version = fields.number(4)
    if version != 1:
        raise ValueError(f"{_DAMAGED} has the unknown version {version}")
    fields.take(3 * 8)  # its number, its date, flags
    fields.string()  # reserved
    fields.string()  # comment
    revoked = RevokedKeys()
    while not fields.at_end():
        kind, section = fields.number(1), fields.inner()
        if kind == _CERTIFICATES:
            revoked.certificates.append(_read_certificates(section))
        elif kind in (_KEYS, _SHA1, _SHA256):
            found = {_KEYS: revoked.keys, _SHA1: revoked.sha1, _SHA256: revoked.sha256}[kind]
            while not section.at_end():
                found.add(section.string())
        elif kind == _SIGNATURE:
            # OpenSSH does not verify them either, and nothing else may follow.
            break
        elif kind == _EXTENSION:
            _refuse_critical(section)
        else:
            raise ValueError(f"{_DAMAGED} has a section of the unknown type {kind}")
    return revoked


def _read_certificates(section: Fields) -> _Certificates:
    found = _Certificates(section.string())
    section.string()  # reserved
    while not section.at_end():
        kind, inner = section.number(1), section.inner()
        if kind == _INNER_EXTENSION:
            _refuse_critical(inner)
            continue
        while not inner.at_end():
            if kind == _SERIAL_LIST:
                found.serials.add(inner.number(8))
            elif kind == _SERIAL_RANGE:
                found.ranges.append((inner.number(8), inner.number(8)))
            elif kind == _SERIAL_BITMAP:
                offset = inner.number(8)
                bits = int.from_bytes(inner.string(), "big")
                found.serials.update(offset + n for n in range(bits.bit_length()) if bits >> n & 1)
            elif kind == _KEY_IDS:
                found.key_ids.add(inner.string())
            else:
                raise ValueError(f"{_DAMAGED} has certificates listed in an unknown way ({kind})")
    return found


def _refuse_critical(extension: Fields) -> None:
    name = extension.string().decode("utf-8", "replace")
    if extension.number(1):
        raise ValueError(f"{_DAMAGED} has the unknown critical extension {name!r}")
