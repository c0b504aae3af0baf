"""The choice of a signature's algorithm (RFC 8332, RFC 8308), as OpenSSH chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import paramiko
import pytest

from pyclustershell.ssh.protocol.algorithms import (
    CERTIFICATE_SUFFIX,
    choose_signature,
    explain_signature_wishes,
)

RSA = "ssh-rsa"
RSA_CERTIFICATE = RSA + CERTIFICATE_SUFFIX
ED25519 = "ssh-ed25519"
SECURITY_KEY = "sk-ssh-ed25519@openssh.com"
MODERN = ("ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512")

# Signatures with SHA-1 are those of paramiko before 5.
SHA1 = RSA if RSA in paramiko.Transport._key_info else None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key_type", "wanted", "accepted", "expected"),
    [
        # The defaults, with a server's list and without one.
        (RSA, None, MODERN, "rsa-sha2-512"),
        (RSA, None, ("rsa-sha2-256", RSA), "rsa-sha2-256"),
        (RSA, None, (RSA, ED25519), None),
        (RSA, None, None, "rsa-sha2-512"),
        (RSA, None, (), None),
        (RSA_CERTIFICATE, None, MODERN, "rsa-sha2-512" + CERTIFICATE_SUFFIX),
        (RSA_CERTIFICATE, None, ("rsa-sha2-256",), "rsa-sha2-256" + CERTIFICATE_SUFFIX),
        # The list is about RSA only, as in OpenSSH.
        (ED25519, None, ("rsa-sha2-256",), ED25519),
        (SECURITY_KEY, None, MODERN, SECURITY_KEY),
        ("no-such-type", None, MODERN, "no-such-type"),
        # Settings.
        (RSA, ("rsa-sha2-256", "rsa-sha2-512"), MODERN, "rsa-sha2-256"),
        (RSA, ("-rsa-sha2-512",), MODERN, "rsa-sha2-256"),
        (RSA, ("^rsa-sha2-256",), None, "rsa-sha2-256"),
        (RSA, (ED25519,), MODERN, None),
        (RSA, ("+ssh-rsa",), MODERN, "rsa-sha2-512"),
        (RSA, ("+ssh-rsa",), (RSA,), SHA1),
        (RSA, ("+ssh-rsa",), None, SHA1 or "rsa-sha2-512"),
        (RSA_CERTIFICATE, ("rsa-sha2-512",), MODERN, None),
        (ED25519, ("rsa-sha2-512",), MODERN, None),
        (ED25519, ("-ssh-*",), MODERN, None),
        (ED25519 + CERTIFICATE_SUFFIX, ("+ssh-rsa",), MODERN, ED25519 + CERTIFICATE_SUFFIX),
        (ED25519 + CERTIFICATE_SUFFIX, ("-*-cert-*",), MODERN, None),
        (SECURITY_KEY, (SECURITY_KEY,), MODERN, SECURITY_KEY),
        (SECURITY_KEY, (ED25519,), MODERN, None),
    ],
)
def test_the_choice(
    key_type: str,
    wanted: Optional[Sequence[str]],
    accepted: Optional[Sequence[str]],
    expected: Optional[str],
) -> None:
    assert choose_signature(key_type, wanted, accepted) == expected


def test_a_server_with_old_certificates() -> None:
    """It takes an RSA certificate with SHA-1 only, which has to be asked for."""
    assert choose_signature(RSA_CERTIFICATE, None, MODERN, old_certificates=True) is None
    wanted = (f"+{RSA_CERTIFICATE}",)
    expected = RSA_CERTIFICATE if SHA1 else None
    assert choose_signature(RSA_CERTIFICATE, wanted, MODERN, old_certificates=True) == expected
    assert choose_signature(RSA, None, MODERN, old_certificates=True) == "rsa-sha2-512"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (None, ""),
        (("+no-such", ED25519, "another"), "no-such,another"),
        (("^no-such",), "no-such"),
        ((ED25519, SECURITY_KEY, "no-such"), "no-such"),
        (("-no-such",), ""),
        ((ED25519, "rsa-sha2-512" + CERTIFICATE_SUFFIX), ""),
    ],
)
def test_wishes_that_cannot_be_fulfilled(wanted: Optional[Sequence[str]], told: str) -> None:
    sentence = explain_signature_wishes(wanted)
    start = f"PubkeyAcceptedAlgorithms asks for {told}: paramiko {paramiko.__version__} "
    assert sentence.startswith(start) if told else not sentence
