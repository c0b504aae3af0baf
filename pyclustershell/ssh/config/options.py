"""The options of connections, set in code or on an ssh command line. Nothing here reads a file.

``resolution.py`` combines them with configuration files and defaults into one node's settings.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Callable, Optional, Union, cast

from ...arguments import is_coroutine_function
from ...exceptions import ConfigurationError
from .commandline import parse_options
from .configline import COMMAND_LINE, Setting
from .settings import KeyboardInteractive, PerNode, describe_key
from .validators import ASKING, VALIDATORS

if TYPE_CHECKING:
    import paramiko

# The types that the fields of SSHOptions accept. Afterwards, the fields contain tuples.
PathType = Union[str, "os.PathLike[str]"]
Paths = Union[PathType, Sequence[PathType]]
Names = Union[str, Sequence[str]]
Key = Union["paramiko.PKey", PathType, bytes]
Keys = Union[Key, Sequence[Key]]
Variables = Union[Mapping[str, str], Sequence[tuple[str, str]]]
Overrides = Union[str, Mapping[str, object], Sequence[Union[str, Setting]]]


@dataclass(frozen=True, repr=False)
class SSHOptions:
    """Options of connections; None means not set. Immutable and hashable.

    All arguments are keywords. An unknown one is a TypeError that suggests the nearest name; a
    wrong value is a TypeError or a ValueError that names the option. The words in brackets are the
    corresponding keywords of ssh_config(5).

    Attributes:
        user: login name, or a function of the node (User).
        port: TCP port, or a function of the node (Port).
        hostname: name or address to connect to, or a function of the node; ``%h`` becomes the
            node's name (HostName).
        password: password, or a function of the node, called on a worker thread when needed.
        passphrase: passphrase of encrypted keys, or a function of the node; a function is called
            once per key, on a worker thread.
        pkeys: private keys: paramiko keys, paths, or PEM texts. They are tried first, and the
            default identity files are not tried.
        certificates: OpenSSH certificates of keys: paths, or the lines themselves
            (CertificateFile).
        agent: True for the default agent, False for none, or the path of an agent's socket
            (IdentityAgent).
        keyboard_interactive: answers a server's questions, see :data:`KeyboardInteractive`.
        config_files: OpenSSH configuration files to read instead of the user's and the system's;
            'none' for none.
        known_hosts: known_hosts files, or lines of one, instead of the user's
            (UserKnownHostsFile).
        host_key_policy: 'strict', 'accept-new' or 'off' (StrictHostKeyChecking).
        proxy_jump: the host to connect through, ``[user@]host[:port]``; several hops separated by
            commas, in the order in which the connection passes them; 'none' for none
            (ProxyJump). A sequence of such texts gives alternatives: the first usable one is
            taken.
        forward_agent: True if the remote command may use the local agent, or the path of the agent
            that it may use (ForwardAgent). Root on the remote host can use it at the same time.
            True forwards the agent whose path a configuration file gives, if one does.
        env: environment variables to set remotely (SetEnv).
        pty: True if commands get a terminal (RequestTTY).
        compression: True to compress (Compression).
        keepalive: seconds between messages that keep an idle connection alive
            (ServerAliveInterval).
        connect_timeout: seconds for the TCP connection and the handshake (ConnectTimeout).
        auth_timeout: seconds for the authentication.
        connect_retries: how often to try again after the server has reset or closed the connection
            before authentication, as a busy server does; by default as often as
            ``connect_timeout`` allows (ConnectionAttempts, less one).
        ciphers, macs, kex, host_key_algorithms: algorithms in order of preference, a sequence or
            a comma-separated text; with a leading ``+``, ``-`` or ``^`` as in ssh_config(5).
        identity_files: paths of private keys (IdentityFile, ``-i``); those of configuration files
            are added.
        identities_only: True to offer no other keys of the agent (IdentitiesOnly).
        address_family: ``socket.AF_INET``, ``AF_INET6`` or ``AF_UNSPEC`` (AddressFamily).
        bind_address: local address to connect from (BindAddress).
        allow_match_exec: True if ``Match exec`` in configuration files may run its command, in
            ``/bin/sh``, for at most 10 s, and once for all nodes with the same command. Otherwise,
            nodes whose settings depend on such a command fail.
        overrides: further settings, ``keyword=value`` as with ``-o``. A keyword that has an option
            of its own sets that option.
    """

    user: Optional[PerNode[str]] = None
    port: Optional[PerNode[int]] = None
    hostname: Optional[PerNode[str]] = None
    password: Optional[PerNode[str]] = None
    passphrase: Optional[PerNode[str]] = None
    pkeys: Optional[Keys] = None
    certificates: Optional[Paths] = None
    agent: Optional[Union[bool, PathType]] = None
    keyboard_interactive: Optional[KeyboardInteractive] = None
    config_files: Optional[Paths] = None
    known_hosts: Optional[Paths] = None
    host_key_policy: Optional[str] = None
    proxy_jump: Optional[Names] = None
    forward_agent: Optional[Union[bool, PathType]] = None
    env: Optional[Variables] = None
    pty: Optional[bool] = None
    compression: Optional[bool] = None
    keepalive: Optional[float] = None
    connect_timeout: Optional[float] = None
    auth_timeout: Optional[float] = None
    connect_retries: Optional[int] = None
    ciphers: Optional[Names] = None
    macs: Optional[Names] = None
    kex: Optional[Names] = None
    host_key_algorithms: Optional[Names] = None
    identity_files: Optional[Paths] = None
    identities_only: Optional[bool] = None
    address_family: Optional[int] = None
    bind_address: Optional[str] = None
    allow_match_exec: Optional[bool] = None
    overrides: Overrides = ()

    def __new__(cls, *args: object, **options: object) -> SSHOptions:
        """Refuse positional arguments and unknown names before the fields are set."""
        if args:
            raise TypeError(f"{cls.__name__} takes keyword arguments only")
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"unknown SSH option {name!r}{hint}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check the values and convert each to its one form."""
        for name, check in VALIDATORS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))
        self._adopt_overrides()

    def _adopt_overrides(self) -> None:
        """Move overrides that have an option of their own to that option; the first one wins."""
        rest: list[Setting] = []
        collected: dict[str, list[Any]] = {}
        for setting in cast("tuple[Setting, ...]", self.overrides):
            name = _OPTION_OF_KEYWORD.get(setting.keyword)
            if name == "proxy_jump" and _has_proxy_command(rest):
                continue  # The first of the two wins, as in ssh_config(5).
            if name is None or setting.value is None:
                rest.append(setting)
            elif name in _ADDITIVE:
                collected.setdefault(name, list(getattr(self, name) or ())).append(setting.value)
            elif getattr(self, name) is None:
                value = _FROM_KEYWORD.get(name, lambda value: value)(setting.value)
                object.__setattr__(self, name, VALIDATORS[name](name, value))
        for name, values in collected.items():
            object.__setattr__(self, name, VALIDATORS[name](name, values))
        object.__setattr__(self, "overrides", tuple(rest))

    def settings(self, node: str) -> list[Setting]:
        """Return these options as settings of ssh_config(5), for one node.

        Raises:
            ValueError, TypeError: a function of the node failed or returned a wrong value.
        """
        if self._for_every_node is not None:
            return list(self._for_every_node)
        return self._settings(node)

    @cached_property
    def _for_every_node(self) -> Optional[list[Setting]]:
        """The settings, if no option is a function of the node; worked out once for all nodes."""
        if any(callable(getattr(self, name)) for name in _KEYWORD_OF_OPTION):
            return None
        return self._settings("")

    def _settings(self, node: str) -> list[Setting]:
        found = []
        for name, keyword in _KEYWORD_OF_OPTION.items():
            value = getattr(self, name)
            if value is None:
                continue
            if callable(value):
                value = VALIDATORS[name](name, _call(name, value, node))
            if name in _ADDITIVE:
                found += [Setting(keyword, item, COMMAND_LINE, 0) for item in value]
            else:
                value = _TO_KEYWORD.get(name, lambda value: value)(value)
                found.append(Setting(keyword, value, COMMAND_LINE, 0))
        return [*found, *self.overrides]

    def over(self, base: SSHOptions) -> SSHOptions:
        """Return these options, and those of ``base`` that are not set here."""
        settled = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "overrides" and getattr(self, field.name) is not None
        }
        if _has_proxy_command(cast("tuple[Setting, ...]", self.overrides)):
            settled.setdefault("proxy_jump", None)  # The stronger ProxyCommand wins over it.
        return replace(base, **settled, overrides=(*self.overrides, *base.overrides))

    def check_functions(self) -> None:
        """Refuse coroutine functions: only a Session of pyclustershell.aio can call them.

        Raises:
            TypeError: an option is a coroutine function.
        """
        for name in ASKING:
            if is_coroutine_function(getattr(self, name)):
                raise TypeError(
                    f"{name}= is a coroutine function, which only a Session calls: use "
                    "pyclustershell.aio.Session, or a plain function"
                )

    @classmethod
    def parse_command_line(cls, line: str) -> SSHOptions:
        """Parse options of an ssh command line, such as ``-F my_config -o Port=2222 -l root``.

        Options that only concern the ssh program's own process are accepted and ignored.

        Raises:
            ConfigurationError: an option is unknown or not supported, or its value is wrong.
        """
        return _parsed(line)

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={_shown(field.name, getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) not in (None, ())
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _has_proxy_command(settings: Sequence[Setting]) -> bool:
    return any(setting.keyword == "ProxyCommand" for setting in settings)


def _call(name: str, function: Callable[[str], Any], node: str) -> Any:
    try:
        return function(node)
    except Exception as error:
        # Any exception of it fails this node only: it must not end the run of the other nodes.
        raise ValueError(f"the function for {name} failed: {error!r}") from error


@lru_cache(maxsize=64)
def _parsed(line: str) -> SSHOptions:
    """Parse a command line once for all nodes."""
    settings, files = parse_options(line)
    try:
        return SSHOptions(overrides=settings, config_files=files or None)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"SSH options {line!r}: {error}") from None


def _shown(name: str, value: Any) -> str:
    """Return an option's value for repr(), without secrets."""
    if name in ("password", "passphrase"):
        return "'***'"
    if name == "pkeys":
        return "[" + ", ".join(describe_key(key) for key in value) + "]"
    if name == "env":
        return "{" + ", ".join(f"{key!r}: '***'" for key, _ in value) + "}"
    if name == "overrides":
        return repr([f"{setting.keyword}={setting.value}" for setting in value])
    if callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__name__)}>"
    return repr(value)


_KEYWORD_OF_OPTION: Mapping[str, str] = {
    "user": "User",
    "port": "Port",
    "hostname": "HostName",
    "certificates": "CertificateFile",
    "agent": "IdentityAgent",
    "known_hosts": "UserKnownHostsFile",
    "host_key_policy": "StrictHostKeyChecking",
    "proxy_jump": "ProxyJump",
    "forward_agent": "ForwardAgent",
    "env": "SetEnv",
    "pty": "RequestTTY",
    "compression": "Compression",
    "keepalive": "ServerAliveInterval",
    "connect_timeout": "ConnectTimeout",
    "ciphers": "Ciphers",
    "macs": "MACs",
    "kex": "KexAlgorithms",
    "host_key_algorithms": "HostKeyAlgorithms",
    "identity_files": "IdentityFile",
    "identities_only": "IdentitiesOnly",
    "address_family": "AddressFamily",
    "bind_address": "BindAddress",
}
_OPTION_OF_KEYWORD = {keyword: option for option, keyword in _KEYWORD_OF_OPTION.items()}
_ADDITIVE = frozenset({"certificates", "identity_files"})
_TO_KEYWORD: Mapping[str, Callable[[Any], Any]] = {
    "agent": lambda agent: {True: "SSH_AUTH_SOCK", False: "none"}.get(agent, agent),
    "forward_agent": lambda forward: {True: "yes", False: "no"}.get(forward, forward),
}
_FROM_KEYWORD: Mapping[str, Callable[[Any], Any]] = {
    "agent": lambda agent: {"SSH_AUTH_SOCK": True, "none": False}.get(agent, agent),
    "forward_agent": lambda forward: {
        **dict.fromkeys(("yes", "true"), True),
        **dict.fromkeys(("no", "false"), False),
    }.get(forward.lower(), forward),
}
