"""Which algorithms are offered unasked, and why none of a server's may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import paramiko

_CERTIFICATE = "-cert-v01@openssh.com"

# Not methods of key exchange, but announced among them (RFC 8308 2.1, and PROTOCOL of OpenSSH).
ANNOUNCEMENTS = frozenset({"ext-info-s", "kex-strict-s-v00@openssh.com"})


def _strong(names: Sequence[str]) -> tuple[str, ...]:
    """Without SHA-1 signatures and key exchanges, and without DSA: as OpenSSH since 8.8."""
    return tuple(n for n in names if not n.endswith("sha1") and n not in ("ssh-rsa", "ssh-dss"))


# paramiko puts AES-GCM last. With CTR and HMAC it compares each packet's MAC in a loop in Python,
# 20% of all CPU; and CBC, 3DES, MD5 and SHA-1 are not offered at all. 3.4 has no GCM.
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
KEX = _strong(paramiko.Transport._preferred_kex)
KEYS = _strong(paramiko.Transport._preferred_keys)
PUBKEYS = _strong(paramiko.Transport._preferred_pubkeys)


@lru_cache(maxsize=256)
def with_certificates(names: tuple[str, ...]) -> tuple[str, ...]:
    """These types of host keys, then those of their certificates that are not among them."""
    return names + tuple(
        name + _CERTIFICATE
        for name in names
        if not name.endswith(_CERTIFICATE) and name + _CERTIFICATE not in names
    )


class _Kind(NamedTuple):
    """What a kind of algorithms is called: in a sentence, in ssh_config(5), in SSHOptions."""

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


def explain_mismatch(kind: str, offered: Sequence[str], known: Collection[str]) -> str:
    """Say what a server has where it has nothing that we want, and why we do not want it.

    Args:
        kind: 'ciphers', 'macs', 'kex' or 'keys'.
        offered: what the server has.
        known: what paramiko has.
    """
    name, keyword, option, default = _KINDS[kind]
    usable = [algorithm for algorithm in offered if algorithm in known]
    # What is offered unasked is missing because somebody has said so.
    refused = [algorithm for algorithm in usable if algorithm in default]
    weak = [algorithm for algorithm in usable if algorithm not in default]
    reasons = []
    if refused:
        reasons.append(f"left out by the setting of {keyword}: {','.join(refused)}")
    if weak:
        reasons.append(f"weak, and so left out by default: {','.join(weak)}")
    if weak and not refused:
        reasons.append(f"to use {weak[0]} all the same, set {option}='+{weak[0]}'")
    sentence = f"no matching {name} found. Their offer: {','.join(offered)}"
    return f"{sentence} ({'; '.join(reasons)})" if reasons else sentence
