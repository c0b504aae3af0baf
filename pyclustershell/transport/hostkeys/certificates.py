"""Host certificates: a host key that an authority has signed (OpenSSH's PROTOCOL.certkeys)."""

from __future__ import annotations

from typing import NamedTuple, Optional

import paramiko
from paramiko.message import Message
from paramiko.pkey import UnknownKeyType

from ..config.context import matches
from .fields import Fields

SUFFIX = "-cert-v01@openssh.com"

ALGORITHMS = tuple(
    name + SUFFIX
    for name in (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
)
"""The algorithms to ask for where an authority is known for a host."""

_HOST = 2
_KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "ecdsa-sha2": 2}
_SIGNATURES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    }
)
"""How an authority may sign: the default of ssh_config(5) CASignatureAlgorithms, without SHA-1."""


class HostCertificate(NamedTuple):
    """The parts of a certificate that matter to a client.

    Attributes:
        public: the certified public key.
        serial: the number that the authority gave it, 0 for none.
        kind: 1 for a user's, 2 for a host's.
        key_id: the name that the authority gave it.
        principals: the names that it holds for, patterns; empty for all.
        valid_after: the first second at which it holds, since 1970.
        valid_before: the first second at which it no longer does.
        critical: the encoded critical options.
        authority: the public key of the authority.
        signed: what the authority signed.
        signature: its signature.
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

    def refusal(self, name: str, now: float) -> Optional[str]:
        """Return why the certificate does not hold for a host, or None if it does.

        Whether its authority is to be trusted is not asked here.

        Args:
            name: the host's name, without a port, in lower case.
            now: seconds since 1970.
        """
        if self.kind != _HOST:
            return "it is no host certificate"
        if self.principals and not any(matches(name, pattern) for pattern in self.principals):
            return "it is for other hosts"
        if now < self.valid_after:
            return "it is not yet valid"
        if now >= self.valid_before:
            return "it has expired"
        if self.critical:
            return "it has critical options, of which none is known for hosts"
        if not self._is_signed():
            return "its signature is wrong"
        return None

    def _is_signed(self) -> bool:
        try:
            if Message(self.signature).get_text() not in _SIGNATURES:
                return False
            kind = Message(self.authority).get_text()
            key = paramiko.PKey.from_type_string(kind, self.authority)
            return bool(key.verify_ssh_sig(self.signed, Message(self.signature)))
        except (ValueError, paramiko.SSHException, UnknownKeyType):
            return False


def parse(blob: bytes) -> HostCertificate:
    """Read a certificate.

    Raises:
        ValueError: it is none.
    """
    fields = Fields(blob)
    plain = fields.string().decode("ascii", "replace").replace(SUFFIX, "")
    counts = [count for prefix, count in _KEY_FIELDS.items() if plain.startswith(prefix)]
    if not counts:
        raise ValueError(f"a certificate of an unknown type of key: {plain}")
    fields.string()  # the nonce
    public = [plain.encode(), *(fields.string() for _ in range(counts[0]))]
    serial = fields.number(8)
    kind = fields.number(4)
    key_id = fields.string()
    names = fields.inner()
    principals = []
    while not names.at_end():
        principals.append(names.string().decode("utf-8", "replace").lower())
    valid_after, valid_before = fields.number(8), fields.number(8)
    critical = fields.string()
    fields.string()  # extensions
    fields.string()  # reserved
    authority = fields.string()
    signed = fields.so_far()
    signature = fields.string()
    if not fields.at_end():
        raise ValueError("the certificate is damaged")
    return HostCertificate(
        b"".join(len(part).to_bytes(4, "big") + part for part in public),
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
