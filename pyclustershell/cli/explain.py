"""``pyclush --explain NODE``: the settings of a node's connection, and where each comes from."""

from __future__ import annotations

import optparse
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..exceptions import NodeConfigurationError
from .clushconfig import ClushConfig
from .program import EXIT_FAILED, Call

if TYPE_CHECKING:
    from ..task import Task

#: The settings in the order in which they are shown, each with its keyword of ssh_config(5); an
#: empty one: only options set it.
_KEYWORDS = {
    "hostname": "HostName",
    "port": "Port",
    "user": "User",
    "host_key_alias": "HostKeyAlias",
    "host_key_policy": "StrictHostKeyChecking",
    "known_hosts": "UserKnownHostsFile",
    "global_known_hosts": "GlobalKnownHostsFile",
    "revoked_host_keys": "RevokedHostKeys",
    "hash_known_hosts": "HashKnownHosts",
    "preferred_authentications": "PreferredAuthentications",
    "identity_files": "IdentityFile",
    "identities_only": "IdentitiesOnly",
    "certificates": "CertificateFile",
    "agent": "IdentityAgent",
    "identity_agent": "IdentityAgent",
    "forward_agent": "ForwardAgent",
    "password": "",
    "passphrase": "",
    "proxies": "ProxyJump",
    "proxy_command": "ProxyCommand",
    "address_family": "AddressFamily",
    "bind_address": "BindAddress",
    "connect_timeout": "ConnectTimeout",
    "auth_timeout": "",
    "connect_retries": "ConnectionAttempts",
    "tcp_keepalive": "TCPKeepAlive",
    "keepalive": "ServerAliveInterval",
    "keepalive_count": "ServerAliveCountMax",
    "ciphers": "Ciphers",
    "macs": "MACs",
    "kex": "KexAlgorithms",
    "host_key_algorithms": "HostKeyAlgorithms",
    "pubkey_algorithms": "PubkeyAcceptedAlgorithms",
    "compression": "Compression",
    "rekey_limit": "RekeyLimit",
    "env": "SendEnv",
    "pty": "RequestTTY",
}

_SECRETS = {"password", "passphrase"}

_DEFAULT = "default"


def explain(
    call: Call, options: optparse.Values, config: ClushConfig, task: Task, node: str
) -> int:
    """Print the settings of a node's connection; returns the exit status.

    Args:
        call: the call of the program.
        options: its options.
        config: the settings of clush.conf.
        task: the task, which has been set up.
        node: the node's name.
    """
    try:
        settings = task.connection_settings(node)
        sources = task.connection_sources(node)
    except NodeConfigurationError as error:
        call.complain(f"{call.prog}: {node}: {error}")
        return EXIT_FAILED
    rows = []
    for name, keyword in _KEYWORDS.items():
        value = getattr(settings, name)
        places = list(dict.fromkeys(each.place for each in sources if each.keyword == keyword))
        given = {"the command line": _option_of(name, options, config)}
        source = ", ".join(given.get(place, place) for place in places) or _DEFAULT
        if name == "proxies" and settings.balance_proxies:
            source = "the topology"
        if name in _SECRETS:
            source = f"--ask-{'pass' if name == 'password' else name}" if value else _DEFAULT
            value = "(not shown)" if value else None
        rows.append((name, _shown(name, value), source))
    width = max(len(name) for name in _KEYWORDS)
    call.write(f"{node}: {settings!r}\n")
    for name, text, source in rows:
        call.write(f"  {name:{width}}  {text}  [{source}]\n")
    return 0


def _option_of(name: str, options: optparse.Values, config: ClushConfig) -> str:
    """The option of the command line that sets a field, or the key of clush.conf."""
    flag, key = {
        "user": (options.user and "-l", "ssh_user"),
        "connect_timeout": (options.connect_timeout and "-t", "connect_timeout"),
    }.get(name, (None, ""))
    if flag:
        return str(flag)
    if key and config.is_set(key):
        return f"clush.conf: {key}"
    if options.demo:
        return "--demo"
    return "-o" if options.options else "clush.conf: ssh_options"


def _shown(name: str, value: Any) -> str:
    """A value as text."""
    if name == "address_family":
        value = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}.get(value, "any")
    if value is None or value in ((), ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(_parts(value))
    return str(value)


def _parts(value: tuple[Any, ...]) -> Iterator[str]:
    for part in value:
        # Pairs of env: only the names; values may be secret.
        yield str(part[0]) if isinstance(part, tuple) else str(part)
