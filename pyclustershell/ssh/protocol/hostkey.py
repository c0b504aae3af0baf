"""The form of a server's host key and of its signature, in every key exchange."""

from __future__ import annotations

from paramiko import SSHException

from .algorithms import CERTIFICATE_SUFFIX
from .fields import Fields

# Each of these algorithms signs with an RSA key (RFC 8332 section 3).
_RSA_ALGORITHMS = frozenset({"rsa-sha2-256", "rsa-sha2-512"})


def check_host_key(algorithm: str, blob: bytes, signature: bytes) -> str:
    """Check that a host key and a signature are of the algorithm that was agreed on.

    paramiko verifies the signature with the algorithm that the signature itself names: a server,
    or an attacker, could choose SHA-1 although SHA-2 was agreed on.

    Args:
        algorithm: the host key algorithm that was agreed on.
        blob: the public key, or the certificate (RFC 4253 section 6.6).
        signature: the signature, with its algorithm.

    Returns:
        The type of the key.

    Raises:
        SSHException: the key or the signature is of another type, or has bytes after its end.
        ValueError: one of them is cut short.
    """
    plain = algorithm.replace(CERTIFICATE_SUFFIX, "")
    expected = algorithm.replace(plain, "ssh-rsa") if plain in _RSA_ALGORITHMS else algorithm
    key_type = Fields(blob, "the host key").string().decode("ascii", "replace")
    if key_type != expected:
        raise SSHException(f"the host key is of type {key_type!r}, not {expected} as agreed")
    fields = Fields(signature, "the signature of the host key")
    signer = fields.string().decode("ascii", "replace")
    fields.string()
    if fields.left:
        raise SSHException("the signature of the host key has bytes after its end")
    if signer != plain:
        raise SSHException(
            f"the server agreed on {plain}, but its host key has signed with {signer!r} "
            "(RFC 8332 section 3)"
        )
    return key_type
