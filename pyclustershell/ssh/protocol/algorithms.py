"""The algorithms offered by default, and why none of a server's matches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Optional

import paramiko

from ..config.settings import select_algorithms
from . import diffiehellman

CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
"""Ends the type of a certificate; the type of the certified key stands before it."""

# Announced among the key exchange methods, but no methods (RFC 8308 2.1, OpenSSH's PROTOCOL).
ANNOUNCEMENTS = frozenset({"ext-info-s", "kex-strict-s-v00@openssh.com"})


def _strong(names: Sequence[str]) -> tuple[str, ...]:
    """Leave out SHA-1 signatures and key exchanges, and DSA, as OpenSSH does since 8.8."""
    return tuple(n for n in names if not n.endswith("sha1") and n not in ("ssh-rsa", "ssh-dss"))


# AES-GCM comes first; paramiko puts it last. With CTR and HMAC, each packet's MAC is compared in a
# Python loop, 20% of all CPU. CBC, 3DES, MD5 and SHA-1 are not offered. paramiko 3.4 has no GCM.
CIPHERS = tuple(
    name
    for name in (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    )
    if name in paramiko.Transport._cipher_info
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_CURVE25519 = "curve25519-sha256"


def _kex_methods() -> dict[str, Any]:
    """Return the key exchange methods by name: paramiko's, except those that we have ourselves."""
    known = paramiko.Transport._kex_info
    methods = {name: method for name, method in known.items() if not name.startswith("gss-")}
    # RFC 8731 gave the method its standard name; paramiko knows only the older one.
    if _CURVE25519 + "@libssh.org" in methods:
        methods[_CURVE25519] = methods[_CURVE25519 + "@libssh.org"]
    return {**methods, **diffiehellman.METHODS}


KEX_METHODS: Mapping[str, Any] = _kex_methods()

# In OpenSSH's order. Diffie-Hellman groups come last, as they cost ten times as much.
KEX = tuple(
    name
    for name in (
        "mlkem768x25519-sha256",
        _CURVE25519,
        _CURVE25519 + "@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "diffie-hellman-group-exchange-sha256",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512",
        "diffie-hellman-group14-sha256",
    )
    if name in KEX_METHODS
)
KEYS = _strong(paramiko.Transport._preferred_keys)
PUBKEYS = _strong(paramiko.Transport._preferred_pubkeys)


@lru_cache(maxsize=256)
def with_certificates(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return these host key types, then the types of their certificates not among them."""
    return names + tuple(
        name + CERTIFICATE_SUFFIX
        for name in names
        if not name.endswith(CERTIFICATE_SUFFIX) and name + CERTIFICATE_SUFFIX not in names
    )


# The algorithms of signatures for a login. Only an agent signs with security keys.
SIGNATURES = with_certificates(
    (*PUBKEYS, "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
)
_KNOWN_SIGNATURES = frozenset({*paramiko.Transport._key_info, *SIGNATURES})

# RFC 8332: the key type "ssh-rsa" has three algorithms. The oldest one has the key type's name.
_RSA = frozenset({"rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"})


def choose_signature(
    key_type: str,
    wanted: Optional[Sequence[str]],
    accepted: Optional[Collection[str]],
    old_certificates: bool = False,
) -> Optional[str]:
    """Choose the algorithm of the signature that a key makes for a login, as OpenSSH does.

    Args:
        key_type: the type of the key or of its certificate.
        wanted: the value of PubkeyAcceptedAlgorithms, see :func:`.select_algorithms`; None for the
            defaults.
        accepted: the server's algorithms (server-sig-algs, RFC 8308); None if it has sent none.
        old_certificates: True if the server takes signatures of RSA certificates only with SHA-1.

    Returns:
        The algorithm, or None if the key must not be used.
    """
    plain = key_type[: -len(CERTIFICATE_SUFFIX)] if _is_certificate(key_type) else key_type
    if plain != "ssh-rsa":
        # By default also types that only an agent knows.
        allowed = wanted is None or key_type in _signatures(tuple(wanted))
        return key_type if allowed else None
    names = SIGNATURES if wanted is None else _signatures(tuple(wanted))
    suffix = key_type[len(plain) :]
    possible = [name for name in names if name in {n + suffix for n in _RSA}]
    if suffix and old_certificates:
        possible = [name for name in possible if name == key_type]
    elif accepted is not None:
        possible = [name for name in possible if name[: len(name) - len(suffix)] in accepted]
    elif key_type in possible:
        return key_type  # the server may be older than the others
    return possible[0] if possible else None


@lru_cache(maxsize=256)
def _signatures(wanted: tuple[str, ...]) -> tuple[str, ...]:
    return select_algorithms(wanted, tuple(_KNOWN_SIGNATURES), SIGNATURES)


def _is_certificate(key_type: str) -> bool:
    return key_type.endswith(CERTIFICATE_SUFFIX)


class _Kind(NamedTuple):
    """The names of a kind of algorithms: in a sentence, in ssh_config(5), in SSHOptions."""

    name: str
    keyword: str
    option: str
    default: tuple[str, ...]


_KINDS: Mapping[str, _Kind] = {
    "ciphers": _Kind("cipher", "Ciphers", "ciphers", CIPHERS),
    "macs": _Kind("MAC", "MACs", "macs", MACS),
    "kex": _Kind("key exchange method", "KexAlgorithms", "kex", KEX),
    "keys": _Kind(
        "host key type", "HostKeyAlgorithms", "host_key_algorithms", with_certificates(KEYS)
    ),
}


def explain_wishes(keyword: str, wanted: Optional[Sequence[str]], known: Collection[str]) -> str:
    """Say which algorithms a setting asks for in vain; '' if there are none.

    Args:
        keyword: the setting's keyword in ssh_config(5).
        wanted: its value, see :func:`.select_algorithms`; None if it is not set.
        known: paramiko's algorithms.
    """
    if not wanted or wanted[0].startswith("-"):
        return ""
    names = (wanted[0].lstrip("+^"), *wanted[1:])
    missing = ",".join(name for name in names if name not in known)
    if not missing:
        return ""
    return f"{keyword} asks for {missing}: paramiko {paramiko.__version__} does not have it"


def explain_signature_wishes(wanted: Optional[Sequence[str]]) -> str:
    """Say which algorithms PubkeyAcceptedAlgorithms asks for in vain; '' if there are none."""
    return explain_wishes("PubkeyAcceptedAlgorithms", wanted, _KNOWN_SIGNATURES)


def explain_empty(kind: str, wanted: Sequence[str], known: Collection[str]) -> str:
    """Say that a setting leaves no algorithm of a kind.

    Args:
        kind: 'ciphers', 'macs', 'kex' or 'keys'.
        wanted: the setting's value.
        known: paramiko's algorithms.
    """
    keyword = _KINDS[kind].keyword
    reason = explain_wishes(keyword, wanted, known)
    sentence = f"'{keyword} {','.join(wanted)}' leaves no {_KINDS[kind].name} to offer"
    return f"{sentence} ({reason})" if reason else sentence


def explain_mismatch(
    kind: str,
    offered: Sequence[str],
    known: Collection[str],
    wanted: Optional[Sequence[str]] = None,
) -> str:
    """Say that no algorithm of a kind matches: the server's offer, and why we do not use it.

    Args:
        kind: 'ciphers', 'macs', 'kex' or 'keys'.
        offered: the server's algorithms.
        known: paramiko's algorithms.
        wanted: the value of the setting; None if it is not set.
    """
    name, keyword, option, default = _KINDS[kind]
    usable = [algorithm for algorithm in offered if algorithm in known]
    # An algorithm offered by default is missing only because a setting leaves it out.
    refused = [algorithm for algorithm in usable if algorithm in default]
    weak = [algorithm for algorithm in usable if algorithm not in default]
    reasons = []
    if not usable:
        # Such as '+ssh-rsa' with paramiko 5: no setting helps.
        reasons.append(f"paramiko {paramiko.__version__} has none of them")
    wishes = explain_wishes(keyword, wanted, known)
    if wishes:
        reasons.append(wishes)
    if refused:
        reasons.append(f"left out by the setting of {keyword}: {','.join(refused)}")
    if weak:
        reasons.append(f"weak, and so left out by default: {','.join(weak)}")
    if weak and not refused:
        reasons.append(f"to use {weak[0]} all the same, set {option}='+{weak[0]}'")
    sentence = f"no matching {name} found. Their offer: {','.join(offered)}"
    return f"{sentence} ({'; '.join(reasons)})" if reasons else sentence
