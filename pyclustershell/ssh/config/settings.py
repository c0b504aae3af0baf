"""The settings of one node's connection, resolved from all sources."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, Callable, Optional, TypeVar, Union

from .patterns import matches_list

T = TypeVar("T")
PerNode = Union[T, Callable[[str], T]]
"""A value, or a function that takes the node's name and returns the value."""

Prompts = Sequence[tuple[str, bool]]
"""The prompts of one keyboard-interactive request: text, and whether the answer may be shown."""

KeyboardInteractive = Callable[[str, str, str, Prompts], Sequence[str]]
"""Answers a server's questions: takes the node, the request's name, its instruction and its
prompts, and returns one answer per prompt. Called on a worker thread, one call at a time."""

DEFAULT_PORT = 22


@dataclass(frozen=True, repr=False)
class ConnectionSettings:
    """All settings of one node's connection. Immutable and hashable: the pool's key.

    Attributes:
        node: the name that the user gave.
        hostname: name or address to connect to.
        port: TCP port.
        user: login name.
        host_key_alias: the name to look up in known_hosts instead of the host's, or None.
        identity_files: paths of private keys, in the order in which they are tried.
        identity_files_given: False if these are only the defaults, which need not exist.
        identities_only: True if only those of the agent's keys are used that ``identity_files``
            names.
        pkeys: private keys given in code: paramiko keys, paths (str), PEM texts (bytes).
        certificates: certificates of keys: paths, or the lines themselves.
        password: the password, or a function of the node, or None.
        passphrase: the keys' passphrase, or a function of the node, or None.
        agent: True if an agent is used.
        identity_agent: the agent's socket; None for that of the environment.
        keyboard_interactive: answers a server's questions, or None.
        preferred_authentications: methods in order, without disabled ones.
        gssapi_host: the host for which GSSAPI requests a service ticket.
        gssapi_delegate: True if GSSAPI delegates the user's credentials to the server.
        known_hosts: the user's known_hosts files, and entries given as literal lines.
        global_known_hosts: the system's known_hosts files.
        host_key_policy: 'strict', 'accept-new' or 'off'.
        revoked_host_keys: a file of revoked host keys, or None.
        hash_known_hosts: True if names are hashed when they are added to known_hosts.
        address_family: ``socket.AF_UNSPEC``, ``AF_INET`` or ``AF_INET6``.
        bind_address: local address to connect from, or None.
        connect_timeout: seconds for the TCP connection and the handshake.
        auth_timeout: seconds for the authentication.
        connect_retries: how often to try again after the server has closed the connection before
            authentication; None for as often as ``connect_timeout`` allows.
        tcp_keepalive: True if SO_KEEPALIVE is set.
        keepalive: seconds between keepalive messages, 0 for none.
        keepalive_count: how many unanswered messages end the connection.
        ciphers, macs, kex, host_key_algorithms, pubkey_algorithms: names in order of preference, or
            None for the defaults; the last ones are of the user's signatures. They may contain
            names that paramiko does not know. The first name may begin with ``+``, ``-`` or ``^``,
            see :func:`select_algorithms`.
        compression: True if the connection is compressed.
        rekey_limit: the number of bytes, and of seconds, after which new session keys are agreed
            on; 0 for paramiko's own limit of bytes, and for no limit of time.
        forward_agent: True if the remote command may use the local agent, or the path of another
            agent that it may use.
        env: environment variables to set remotely, as pairs.
        pty: True if commands get a terminal.
        proxies: alternative jump hosts: the first usable one is taken. Each may have jump hosts
            of its own, for several hops.
        balance_proxies: True to take the jump host that carries the fewest connections, in place of
            the first one.
        proxy_command: the local command to connect through, with its tokens replaced, or None.
        authentication_notes: notes on configured authentication methods that are not supported,
            for error messages.
    """

    node: str
    hostname: str
    port: int
    user: str
    host_key_alias: Optional[str]
    identity_files: tuple[str, ...]
    identity_files_given: bool
    identities_only: bool
    pkeys: tuple[Any, ...]
    certificates: tuple[str, ...]
    password: Optional[PerNode[str]]
    passphrase: Optional[PerNode[str]]
    agent: bool
    identity_agent: Optional[str]
    keyboard_interactive: Optional[KeyboardInteractive]
    preferred_authentications: tuple[str, ...]
    gssapi_host: str
    gssapi_delegate: bool
    known_hosts: tuple[str, ...]
    global_known_hosts: tuple[str, ...]
    host_key_policy: str
    revoked_host_keys: Optional[str]
    hash_known_hosts: bool
    address_family: int
    bind_address: Optional[str]
    connect_timeout: float
    auth_timeout: float
    connect_retries: Optional[int]
    tcp_keepalive: bool
    keepalive: float
    keepalive_count: int
    ciphers: Optional[tuple[str, ...]]
    macs: Optional[tuple[str, ...]]
    kex: Optional[tuple[str, ...]]
    host_key_algorithms: Optional[tuple[str, ...]]
    pubkey_algorithms: Optional[tuple[str, ...]]
    compression: bool
    rekey_limit: tuple[int, float]
    forward_agent: Union[bool, str]
    env: tuple[tuple[str, str], ...]
    pty: bool
    authentication_notes: tuple[str, ...] = ()
    proxies: tuple[ConnectionSettings, ...] = ()
    balance_proxies: bool = False
    proxy_command: Optional[str] = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConnectionSettings):
            return NotImplemented
        # The hash first, as most settings differ in it: a full pool compares the settings of every
        # idle connection.
        return self._hash == other._hash and _values(self) == _values(other)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Computed once: the pool looks settings up a dozen times per command.
        return hash(_values(self))

    @property
    def endpoint(self) -> str:
        """The destination in the form that ssh uses in messages: ``user@host``."""
        return f"{self.user}@{self.hostname}"

    def __repr__(self) -> str:
        port = "" if self.port == DEFAULT_PORT else f" port {self.port}"
        return f"<ConnectionSettings {self.node}: {self.endpoint}{port}>"


# Returns the values of all fields. One call, because it is made for every node.
_values = attrgetter(*(field.name for field in fields(ConnectionSettings)))


def select_algorithms(
    wanted: Optional[Sequence[str]], available: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    """Choose algorithms by the rules of ssh_config(5) for Ciphers, MACs and similar keywords.

    Args:
        wanted: names in order of preference, or None for the defaults. A ``+`` before the first
            name appends them to the defaults, a ``-`` removes them (patterns) from the defaults,
            a ``^`` puts them before the defaults.
        available: the algorithms that are implemented.
        default: the defaults.

    Returns:
        The available names in order of preference, perhaps none.
    """
    names = list(wanted or default)
    modifier = names[0][:1] if wanted else ""
    if modifier in ("+", "-", "^"):
        names[0] = names[0][1:]
        if modifier == "+":
            names = [*default, *names]
        elif modifier == "^":
            names = [*names, *default]
        else:
            names = [name for name in default if not matches_list(name, names)]
    return tuple(name for name in dict.fromkeys(names) if name in available)


def is_known_hosts_entry(text: str) -> bool:
    """True if the text is a known_hosts line, not the path of a known_hosts file."""
    words = text.split()
    if words and words[0].startswith("@"):
        words = words[1:]
    # Every key begins with the length of its type's name: three zero bytes, 'AAAA' in base64.
    return len(words) >= 3 and words[2].startswith("AAAA")


def describe_key(key: object) -> str:
    """Describe a private key in messages: its path or its fingerprint, never its contents."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return f"<PEM key {hashlib.sha256(key).hexdigest()[:8]}>"
    name = getattr(key, "get_name", lambda: "key")()
    return f"{name} {getattr(key, 'fingerprint', '')}".strip()
