"""What one node's connection is made with, brought together from all sources."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Callable, Optional, TypeVar, Union

from .context import matches_list

T = TypeVar("T")
PerNode = Union[T, Callable[[str], T]]
"""A value, or a function that is given the node's name and returns the value."""

Prompts = Sequence[tuple[str, bool]]
"""The questions of one keyboard-interactive request: text, and whether the answer may be shown."""

KeyboardInteractive = Callable[[str, str, str, Prompts], Sequence[str]]
"""Answers a server's questions: called with the node, the request's name, its instruction and its
prompts; returns one answer per prompt. Runs on a thread aside, one call at a time."""

DEFAULT_PORT = 22


@dataclass(frozen=True, repr=False)
class ConnectionSettings:
    """Everything that one node's connection is made with. Immutable and hashable: the pool's key.

    Attributes:
        node: the node's name as the user gave it.
        hostname: name or address to connect to.
        port: TCP port.
        user: login name.
        host_key_alias: the name to look up in known_hosts instead of the host's, or None.
        identity_files: paths of private keys in the order in which they are tried.
        identity_files_given: False if these are only the defaults, which need not exist.
        identities_only: whether only the agent's keys that are named in ``identity_files`` count.
        pkeys: private keys given in code: paramiko keys, paths (str), PEM texts (bytes).
        certificates: certificates of keys: paths, or the lines themselves.
        password: the password, or a function of the node, or None.
        passphrase: the keys' passphrase, or a function of the node, or None.
        agent: whether to ask an agent.
        identity_agent: the agent's socket; None means that of the environment.
        keyboard_interactive: answers a server's questions, or None.
        preferred_authentications: methods in order, those switched off left out.
        gssapi_host: the host whose service ticket GSSAPI asks for.
        gssapi_delegate: whether GSSAPI passes the user's credentials on to the server.
        known_hosts: the user's known_hosts files, and entries given as literal lines.
        global_known_hosts: the system's known_hosts files.
        host_key_policy: 'strict', 'accept-new' or 'off'.
        revoked_host_keys: a file of keys that no host may show, or None.
        hash_known_hosts: whether names are hashed when they are added to known_hosts.
        address_family: ``socket.AF_UNSPEC``, ``AF_INET`` or ``AF_INET6``.
        bind_address: local address to connect from, or None.
        connect_timeout: seconds for the TCP connection and the handshake.
        auth_timeout: seconds for the authentication.
        connect_retries: how often to try again when the server turns us away; None for as often
            as there is time.
        tcp_keepalive: whether to set SO_KEEPALIVE.
        keepalive: seconds between keepalive messages, 0 for none.
        keepalive_count: unanswered ones after which the peer is taken for dead.
        ciphers, macs, kex, host_key_algorithms: names in order of preference, or None for the
            defaults; they may contain names that paramiko does not know. ``+``, ``-`` and ``^``
            stand before the first name as they were given, see :func:`select_algorithms`.
        compression: whether to compress.
        rekey_limit: after how many bytes, and after how many seconds, new session keys are agreed
            on; 0 for paramiko's own limit of bytes, and for no limit of time.
        forward_agent: whether the remote command may use the local agent; the path of one that is
            not the one that is asked for keys.
        env: environment variables to set remotely, as pairs.
        pty: whether commands get a terminal.
        proxies: the jump hosts to connect through: one of them, the first that can be used. Each
            may have its own, for several hops.
        proxy_command: the local command to connect through, ready to be run, or None.
        authentication_notes: methods that the configuration asks for and that are not supported.
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
    compression: bool
    rekey_limit: tuple[int, float]
    forward_agent: Union[bool, str]
    env: tuple[tuple[str, str], ...]
    pty: bool
    authentication_notes: tuple[str, ...] = ()
    proxies: tuple[ConnectionSettings, ...] = ()
    proxy_command: Optional[str] = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConnectionSettings):
            return NotImplemented
        # First what tells most of them apart: a full pool compares those of every idle connection.
        return self._hash == other._hash and self._values() == other._values()

    def __hash__(self) -> int:
        return self._hash

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def _hash(self) -> int:
        # Made once: the pool looks settings up a dozen times per command.
        return hash(self._values())

    @property
    def endpoint(self) -> str:
        """The destination as ssh names it in messages: ``user@host``."""
        return f"{self.user}@{self.hostname}"

    def __repr__(self) -> str:
        port = "" if self.port == DEFAULT_PORT else f" port {self.port}"
        return f"<ConnectionSettings {self.node}: {self.endpoint}{port}>"


def select_algorithms(
    wanted: Optional[Sequence[str]], available: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    """Choose algorithms as ssh_config(5) has it for Ciphers, MACs and the like.

    Args:
        wanted: names in order of preference; a ``+`` before the first appends them to the
            defaults, a ``-`` takes them (patterns) out, a ``^`` puts them first. None for the
            defaults.
        available: what can be used at all.
        default: what is used where nothing is wanted.

    Returns:
        Names in order of preference, only available ones, perhaps none.
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
    """Tell a literal known_hosts line from the path of a known_hosts file."""
    words = text.split()
    if words and words[0].startswith("@"):
        words = words[1:]
    # Every key begins with the length of its type's name: three zero bytes, 'AAAA' in base64.
    return len(words) >= 3 and words[2].startswith("AAAA")


def describe_key(key: object) -> str:
    """Describe a private key for people: its path or its fingerprint, never its contents."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return f"<PEM key {hashlib.sha256(key).hexdigest()[:8]}>"
    name = getattr(key, "get_name", lambda: "key")()
    return f"{name} {getattr(key, 'fingerprint', '')}".strip()
