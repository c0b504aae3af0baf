"""The keywords of ssh_config(5): the form of each value, and the support for each keyword.

A keyword is honoured; or ignored, because it concerns the ssh program's own process only or does
not change the effect of a command; or ignored with one warning, because it is not supported. A
keyword that decides which server we talk to is honoured or refused for the nodes that it applies
to, never ignored. An authentication method that is not supported is named in the error if a server
asks for it.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Callable, Optional


class Treatment(Enum):
    """How a keyword is treated."""

    HONOURED = "honoured"
    SILENT = "ignored"
    WARNED = "ignored, with a warning"
    NEEDED = "refused where needed"
    REFUSED = "refused"


@dataclass(frozen=True)
class Keyword:
    """One keyword of ssh_config(5).

    Attributes:
        name: the name, spelt as in the manual page.
        parse: converts the words after the keyword into its value; raises ValueError.
        treatment: how the keyword is treated.
        additive: True if the values of several lines add up; otherwise the first one wins.
        raw: True if the rest of the line is one word, as for ProxyCommand.
        neutral: values in lower case that request nothing, so that they need no warning.
    """

    name: str
    parse: Callable[[Sequence[str]], object]
    treatment: Treatment = Treatment.HONOURED
    additive: bool = False
    raw: bool = False
    neutral: frozenset[str] = frozenset()


# -- values ----------------------------------------------------------------------------------------


def _single(words: Sequence[str]) -> str:
    if not words or not words[0]:
        raise ValueError("a value is missing")
    if len(words) > 1:
        raise ValueError(f"extra arguments at end of line: {' '.join(words[1:])!r}")
    return words[0]


def _several(words: Sequence[str]) -> tuple[str, ...]:
    if not all(words):
        raise ValueError("a value is empty")
    return tuple(words)


def _anything(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words)


def _choice(**values: object) -> Callable[[Sequence[str]], object]:
    """Return a parser of one of these words; underscores stand for hyphens."""
    by_word = {word.replace("_", "-"): value for word, value in values.items()}

    def parse(words: Sequence[str]) -> object:
        word = _single(words)
        if word.lower() not in by_word:
            raise ValueError(f"{word!r} is not one of {', '.join(by_word)}")
        return by_word[word.lower()]

    return parse


_YES_NO: Mapping[str, object] = {"yes": True, "no": False, "true": True, "false": False}
_flag = _choice(**_YES_NO)


def _integer(low: int, high: int) -> Callable[[Sequence[str]], int]:
    def parse(words: Sequence[str]) -> int:
        word = _single(words)
        if not re.fullmatch(r"[0-9]{1,9}", word) or not low <= int(word) <= high:
            raise ValueError(f"{word!r} is not a number from {low} to {high}")
        return int(word)

    return parse


def _port(words: Sequence[str]) -> int:
    word = _single(words)
    if word.isdigit():
        return _integer(1, 65535)(words)
    try:
        return socket.getservbyname(word, "tcp")
    except OSError:
        raise ValueError(f"{word!r} is not a port: write a number or a service's name") from None


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_seconds(word: str) -> Optional[float]:
    """Parse an interval in the form of sshd_config(5) "TIME FORMATS", such as 90, 10m or 1h30m.

    Returns:
        Seconds, or None for 'none'.

    Raises:
        ValueError: the word has another form.
    """
    if word == "none":
        return None
    if not re.fullmatch(r"([0-9]+[smhdwSMHDW])*[0-9]*", word) or not word:
        raise ValueError(f"{word!r} is not an interval such as 90, 10m or 1h30m")
    parts = re.findall(r"([0-9]+)([a-z]?)", word.lower())
    return float(sum(int(count) * _UNITS[unit] for count, unit in parts))


def _seconds(words: Sequence[str]) -> Optional[float]:
    return parse_seconds(_single(words))


_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _rekey_limit(words: Sequence[str]) -> tuple[int, Optional[float]]:
    """Parse a number of bytes, 0 for the default, and a number of seconds, None if not given."""
    if len(words) > 2:
        raise ValueError(f"extra arguments at end of line: {' '.join(words[2:])!r}")
    size = 0
    if words[0] != "default":
        parts = re.fullmatch(r"([0-9]+)([kmg]?)", words[0].lower())
        if parts is None:
            raise ValueError(f"{words[0]!r} is not a size such as 500M or 1G")
        size = int(parts[1]) * _SIZES[parts[2]]
        if 0 < size < 16:
            raise ValueError(f"{words[0]!r} is too small: the least is 16 bytes")
    # After 'none', a later line may set the time, as in OpenSSH.
    return size, parse_seconds(words[1]) if len(words) == 2 else None


def _files(words: Sequence[str]) -> tuple[str, ...]:
    if len(words) > 1 and any(word.lower() == "none" for word in words):
        raise ValueError("'none' must stand alone")
    return _several(words)


def _algorithms(words: Sequence[str]) -> str:
    word = _single(words)
    if not all(word.lstrip("+-^").split(",")):
        raise ValueError(f"{word!r} is not a comma-separated list of algorithms")
    return word


def _environment(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not of the form NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)


def _permitted_names(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Parse rules of the form SOURCES:TARGETS, each a list of patterns."""
    if [word.lower() for word in words] == ["none"]:
        return ()
    rules = []
    for word in words:
        sources, colon, targets = word.lower().partition(":")
        if not (sources and colon and targets) or ":" in targets:
            raise ValueError(f"{word!r} is not of the form SOURCES:TARGETS")
        rules.append((sources, targets))
    return tuple(rules)


# -- the table -------------------------------------------------------------------------------------


# These concern the ssh program's own process, its terminal and its shared connections, or change
# neither the effect of a command nor the server that we talk to.
_OWN_PROCESS = """
    BatchMode ChannelTimeout CheckHostIP ClearAllForwardings
    ControlMaster ControlPath ControlPersist
    EnableEscapeCommandline EnableSSHKeysign EscapeChar ExitOnForwardFailure
    ForkAfterAuthentication ForwardX11Timeout ForwardX11Trusted GatewayPorts
    GSSAPIClientIdentity GSSAPIKexAlgorithms GSSAPIRenewalForcesRekey GSSAPITrustDns IPQoS
    LocalCommand LogLevel LogVerbose NumberOfPasswordPrompts ObscureKeystrokeTiming PermitRemoteOpen
    SecurityKeyProvider SessionType StdinNull StreamLocalBindMask
    StreamLocalBindUnlink SyslogFacility TunnelDevice UpdateHostKeys UseKeychain
    VersionAddendum VisualHostKey WarnWeakCrypto XAuthLocation
"""
# OpenSSH has dropped these, and accepts them as well.
_LONG_GONE = """
    AFSTokenPassing Cipher CompressionLevel FallBackToRsh GlobalKnownHostsFile2
    KerberosAuthentication KerberosTGTPassing Protocol RhostsAuthentication
    RhostsRSAAuthentication RSAAuthentication UseBlacklistedKeys UsePrivilegedPort
    UserKnownHostsFile2 UseRoaming UseRsh
"""


def _table() -> Iterator[Keyword]:
    """Yield every keyword."""
    for name, parse in {
        "AddressFamily": _choice(any=socket.AF_UNSPEC, inet=socket.AF_INET, inet6=socket.AF_INET6),
        "BindAddress": _single,
        "CanonicalDomains": _several,
        "CanonicalizeHostname": _choice(**_YES_NO, always="always"),
        "CanonicalizeFallbackLocal": _flag,
        "CanonicalizeMaxDots": _integer(0, 1000),
        "CanonicalizePermittedCNAMEs": _permitted_names,
        "Ciphers": _algorithms,
        "Compression": _flag,
        "ConnectionAttempts": _integer(1, 1000000),
        "ConnectTimeout": _seconds,
        "GlobalKnownHostsFile": _files,
        "GSSAPIAuthentication": _flag,
        "GSSAPIDelegateCredentials": _flag,
        "GSSAPIServerIdentity": _single,
        "HashKnownHosts": _flag,
        "HostKeyAlgorithms": _algorithms,
        "HostKeyAlias": _single,
        "HostName": _single,
        "IdentitiesOnly": _flag,
        "IdentityAgent": _single,
        "KbdInteractiveAuthentication": _flag,
        "KexAlgorithms": _algorithms,
        "MACs": _algorithms,
        "PubkeyAcceptedAlgorithms": _algorithms,
        "PasswordAuthentication": _flag,
        "Port": _port,
        "PreferredAuthentications": _single,
        "PubkeyAuthentication": _choice(**_YES_NO, unbound=True, host_bound=True),
        "RefuseConnection": _single,
        "RequestTTY": _choice(**{**_YES_NO, "auto": False}, force=True),
        "RevokedHostKeys": _single,
        "ServerAliveCountMax": _integer(0, 1000000),
        "ServerAliveInterval": _seconds,
        "SetEnv": _environment,
        "StrictHostKeyChecking": _choice(
            yes="strict",
            true="strict",
            ask="strict",
            accept_new="accept-new",
            no="off",
            false="off",
            off="off",
        ),
        "TCPKeepAlive": _flag,
        "Tag": _single,
        "User": _single,
        "UserKnownHostsFile": _files,
    }.items():
        yield Keyword(name, parse)
    yield Keyword("BindInterface", _single, Treatment.REFUSED)
    yield Keyword("VerifyHostKeyDNS", _choice(**_YES_NO, ask=True), Treatment.REFUSED)
    yield Keyword("HostbasedAuthentication", _flag, Treatment.NEEDED)
    yield Keyword("PKCS11Provider", _single, Treatment.NEEDED)
    yield Keyword("ProxyUseFdpass", _flag, Treatment.NEEDED)
    yield Keyword("CertificateFile", _single, additive=True)
    yield Keyword("IdentityFile", _single, additive=True)
    # Two lines may decide: one whether to forward, one which agent; and one for each of the two
    # values of RekeyLimit.
    yield Keyword("ForwardAgent", _single, additive=True)
    yield Keyword("RekeyLimit", _rekey_limit, additive=True)
    yield Keyword("SendEnv", _several, additive=True)
    yield Keyword("IgnoreUnknown", _single)
    yield Keyword("ProxyCommand", _single, raw=True)
    yield Keyword("ProxyJump", _single, raw=True)
    # The reader of files handles these three itself.
    for name in ("Host", "Match", "Include"):
        yield Keyword(name, _several)

    for name in (*_OWN_PROCESS.split(), *_LONG_GONE.split()):
        yield Keyword(name, _anything, Treatment.SILENT)

    for name, neutral in {
        "AddKeysToAgent": "no false",
        "CASignatureAlgorithms": "",
        "DynamicForward": "",
        "FingerprintHash": "sha256",
        "ForwardX11": "no false",
        "GSSAPIKeyExchange": "no false",
        "HostbasedAcceptedAlgorithms": "",
        "KnownHostsCommand": "none",
        "LocalForward": "",
        "NoHostAuthenticationForLocalhost": "no false",
        "PermitLocalCommand": "no false",
        "RemoteCommand": "none",
        "RemoteForward": "",
        "RequiredRSASize": "1024",
        "Tunnel": "no false",
    }.items():
        yield Keyword(name, _anything, Treatment.WARNED, neutral=frozenset(neutral.split()))


KEYWORDS: Mapping[str, Keyword] = {keyword.name.lower(): keyword for keyword in _table()}

ALIASES: Mapping[str, str] = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "identityfile2": "identityfile",
    "keepalive": "tcpkeepalive",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "skeyauthentication": "kbdinteractiveauthentication",
    "smartcarddevice": "pkcs11provider",
    "tisauthentication": "kbdinteractiveauthentication",
}
"""Former names that OpenSSH still accepts."""


def find_keyword(name: str) -> Optional[Keyword]:
    """Return the keyword of this name, in any case, or of this former name; None if unknown."""
    lower = name.lower()
    return KEYWORDS.get(ALIASES.get(lower, lower))


def nearest_keyword(name: str) -> Optional[str]:
    """Return the keyword with the most similar spelling, or None if there is no similar one."""
    near = difflib.get_close_matches(name.lower(), KEYWORDS, n=1)
    return KEYWORDS[near[0]].name if near else None
