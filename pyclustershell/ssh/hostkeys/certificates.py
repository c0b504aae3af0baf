"""Host certificates: host keys signed by an authority (OpenSSH's PROTOCOL.certkeys)."""

from __future__ import annotations

from typing import NamedTuple, Optional

import paramiko
from paramiko.message import Message
from paramiko.pkey import UnknownKeyType

from ..protocol.algorithms import CERTIFICATE_SUFFIX
from ..protocol.fields import Fields, ssh_string

SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""How hosts and authorities may sign: the default of ssh_config(5) CASignatureAlgorithms, without
SHA-1."""

ALGORITHMS = tuple(name + CERTIFICATE_SUFFIX for name in SIGNATURE_ALGORITHMS)
"""The host key algorithms to request if an authority is known for the host."""

_HOST = 2
_KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "ecdsa-sha2": 2}


class HostCertificate(NamedTuple):
    """The parts of a certificate that a client needs.

    Attributes:
        public: the certified public key.
        serial: the serial number given by the authority, 0 for none.
        kind: 1 for a user certificate, 2 for a host certificate.
        key_id: the identifier given by the authority.
        principals: the host names for which it is valid; empty for all.
        valid_after: the first second of its validity, since 1970.
        valid_before: the first second after its validity, since 1970.
        critical: the encoded critical options.
        authority: the public key of the authority.
        signed: the bytes that the authority signed.
        signature: the authority's signature.
    """

    public: bytes
    serial: int
    kind: int
    key_id: bytes
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical: bytes
    authority: bytes
    signed: bytes
    signature: bytes

    @property
    def key_type(self) -> str:
        """The type of the certified key, such as 'ssh-ed25519'."""
        return Message(self.public).get_text()

    def invalid_reason(self, name: str, now: float) -> Optional[str]:
        """Return the reason why the certificate is not valid for a host, or None if it is.

        The caller checks whether its authority is trusted.

        Args:
            name: the host's name, without a port, in lower case. It must be one of the principals,
                with the same case and without wildcards, as in OpenSSH: an authority that signs
                for "*" would otherwise certify every host.
            now: seconds since 1970.
        """
        if self.kind != _HOST:
            return "it is not a host certificate"
        if self.principals and name not in self.principals:
            return "it is for other hosts"
        if now < self.valid_after:
            return "it is not yet valid"
        if now >= self.valid_before:
            return "it has expired"
        if self.critical:
            return "it has critical options, but none is defined for hosts"
        if not self._is_signed():
            return "its signature is wrong"
        return None

    def _is_signed(self) -> bool:
        try:
            if Message(self.signature).get_text() not in SIGNATURE_ALGORITHMS:
                return False
            kind = Message(self.authority).get_text()
            key = paramiko.PKey.from_type_string(kind, self.authority)
            return bool(key.verify_ssh_sig(self.signed, Message(self.signature)))
        except (ValueError, paramiko.SSHException, UnknownKeyType):
            return False


def parse(blob: bytes) -> HostCertificate:
    """Parse a certificate.

    Raises:
        ValueError: the blob is not a certificate, is damaged or has an unknown type of key.
    """
    fields = Fields(blob, "the certificate")
    plain = fields.string().decode("ascii", "replace").replace(CERTIFICATE_SUFFIX, "")
    counts = [count for prefix, count in _KEY_FIELDS.items() if plain.startswith(prefix)]
    if not counts:
        raise ValueError(f"the certificate has an unknown type of key: {plain!r}")
    fields.string()  # the nonce
    public = [plain.encode(), *(fields.string() for _ in range(counts[0]))]
    serial = fields.uint64()
    kind = fields.uint32()
    key_id = fields.string()
    names = fields.inner()
    principals = []
    while names.left:
        principals.append(names.string().decode("utf-8", "surrogateescape"))
    valid_after, valid_before = fields.uint64(), fields.uint64()
    critical = fields.string()
    fields.string()  # extensions
    fields.string()  # reserved
    authority = fields.string()
    signed = fields.consumed
    signature = fields.string()
    if fields.left:
        raise ValueError("the certificate is damaged: data follows its signature")
    return HostCertificate(
        b"".join(map(ssh_string, public)),
        serial,
        kind,
        key_id,
        tuple(principals),
        valid_after,
        valid_before,
        critical,
        authority,
        signed,
        signature,
    )
