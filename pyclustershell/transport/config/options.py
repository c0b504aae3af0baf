"""What one node's connection is made with.

:class:`SSHOptions` is what is asked for, :class:`ConnectionSettings` what it comes to for a node.

Options come from four places. The first that says something wins: the call or ``configure_ssh`` in
code, ``ssh_options`` (an ssh command line), OpenSSH configuration files, defaults. :func:`resolve`
brings them together for one node. Nothing here reads a file before that, and paramiko is not
needed.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Optional, Union, cast

from ...exceptions import ConfigurationError, NodeConfigurationError
from .checks import CHECKS
from .commandline import parse_options
from .context import LocalContext, expand_environment, expand_tokens, matches_list
from .jumps import Hop, parse_chain
from .keywords import KEYWORDS, Treatment
from .lookup import Query, lookup
from .settings import (
    DEFAULT_PORT,
    ConnectionSettings,
    KeyboardInteractive,
    PerNode,
    describe_key,
    is_known_hosts_entry,
    select_algorithms,
)
from .sshconfig import COMMAND_LINE, ConfigCache, Setting

if TYPE_CHECKING:
    import paramiko

__all__ = ["ConnectionSettings", "SSHOptions", "resolve", "select_algorithms"]

# What the fields of SSHOptions take. Whatever is given, they hold tuples afterwards.
PathType = Union[str, "os.PathLike[str]"]
Paths = Union[PathType, Sequence[PathType]]
Names = Union[str, Sequence[str]]
Key = Union["paramiko.PKey", PathType, bytes]
Keys = Union[Key, Sequence[Key]]
Variables = Union[Mapping[str, str], Sequence[tuple[str, str]]]
Overrides = Union[str, Mapping[str, object], Sequence[Union[str, Setting]]]

DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_AUTH_TIMEOUT = 30.0
DEFAULT_IDENTITY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")
DEFAULT_AUTHENTICATIONS = ("gssapi-with-mic", "publickey", "keyboard-interactive", "password")


# -- what is asked for -----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class SSHOptions:
    """What is asked for; None means that nothing was said. Immutable and hashable.

    All arguments are keywords. An unknown one is a TypeError that suggests the nearest name; a
    wrong value is a TypeError or a ValueError that names the option. The OpenSSH keywords that the
    options stand for are those of ssh_config(5).

    Attributes:
        user: login name, or a function of the node (User).
        port: TCP port, or a function of the node (Port).
        hostname: name or address to connect to, or a function of the node; ``%h`` stands for the
            node's name (HostName).
        password: password, or a function of the node, called on a thread aside when needed.
        passphrase: passphrase of encrypted keys, or a function of the node; a function is called
            once per key, on a thread aside.
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
            commas, the first one first; 'none' for none (ProxyJump). A sequence of such texts
            are alternatives: the first that can be used is.
        forward_agent: whether the remote command may use the local agent, or the path of the agent
            that it may use (ForwardAgent). Whoever is root there can use it as well, meanwhile.
        env: environment variables to set remotely (SetEnv).
        pty: whether commands get a terminal (RequestTTY).
        compression: whether to compress (Compression).
        keepalive: seconds between messages that keep an idle connection alive
            (ServerAliveInterval).
        connect_timeout: seconds for the TCP connection and the handshake (ConnectTimeout).
        auth_timeout: seconds for the authentication.
        connect_retries: how often to try again when the server turns us away: resets or closes the
            connection before authentication, as a busy one does; by default as often as
            ``connect_timeout`` allows (ConnectionAttempts, less one).
        ciphers, macs, kex, host_key_algorithms: algorithms in order of preference, a sequence or
            a comma-separated text; with a leading ``+``, ``-`` or ``^`` as in ssh_config(5).
        identity_files: paths of private keys (IdentityFile, ``-i``); those of configuration files
            are added.
        identities_only: whether to offer no other keys of the agent (IdentitiesOnly).
        address_family: ``socket.AF_INET``, ``AF_INET6`` or ``AF_UNSPEC`` (AddressFamily).
        bind_address: local address to connect from (BindAddress).
        allow_match_exec: whether ``Match exec`` in configuration files may run its command, in
            ``/bin/sh``, for 10 s at the most and once for all nodes where it is the same. Without
            it, nodes whose settings depend on such a command fail.
        overrides: further settings, ``keyword=value`` as with ``-o``; a keyword that has an option
            of its own becomes that option.
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
        """Refuse positional arguments and unknown names, before the fields are set."""
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
        """Check the values and bring them into one form each."""
        for name, check in CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))
        self._adopt_overrides()

    def _adopt_overrides(self) -> None:
        """Turn overrides that have an option of their own into that option; the first one wins."""
        rest: list[Setting] = []
        collected: dict[str, list[Any]] = {}
        for setting in cast("tuple[Setting, ...]", self.overrides):
            name = _OPTION_OF_KEYWORD.get(setting.keyword)
            if name is None or setting.value is None:
                rest.append(setting)
            elif name in _ADDITIVE:
                collected.setdefault(name, list(getattr(self, name) or ())).append(setting.value)
            elif getattr(self, name) is None:
                value = _FROM_KEYWORD.get(name, lambda value: value)(setting.value)
                object.__setattr__(self, name, CHECKS[name](name, value))
        for name, values in collected.items():
            object.__setattr__(self, name, CHECKS[name](name, values))
        object.__setattr__(self, "overrides", tuple(rest))

    def settings(self, node: str) -> list[Setting]:
        """Return what these options say as settings of ssh_config(5), for one node.

        Raises:
            ValueError, TypeError: a function of the node returned a wrong value.
        """
        found = []
        for name, keyword in _KEYWORD_OF_OPTION.items():
            value = getattr(self, name)
            if value is None:
                continue
            if callable(value):
                value = CHECKS[name](name, _call(name, value, node))
            if name in _ADDITIVE:
                found += [Setting(keyword, item, COMMAND_LINE, 0) for item in value]
            else:
                value = _TO_KEYWORD.get(name, lambda value: value)(value)
                found.append(Setting(keyword, value, COMMAND_LINE, 0))
        return [*found, *self.overrides]

    def over(self, base: SSHOptions) -> SSHOptions:
        """Return these options, completed by those of ``base``: what is set here wins."""
        settled = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "overrides" and getattr(self, field.name) is not None
        }
        return replace(base, **settled, overrides=(*self.overrides, *base.overrides))

    @classmethod
    def parse_command_line(cls, line: str) -> SSHOptions:
        """Read options as one gives them to ssh, such as ``-F my_config -o Port=2222 -l root``.

        Options that only concern the ssh program's own process are accepted and mean nothing here.

        Raises:
            ConfigurationError: an option that is unknown, unsupported or has a wrong value.
        """
        return _parsed(line)

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={_shown(field.name, getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) not in (None, ())
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _call(name: str, function: Callable[[str], Any], node: str) -> Any:
    try:
        return function(node)
    except Exception as error:
        # Whatever it raises, it is this node's failure and must not end the others' run.
        raise ValueError(f"the function for {name} failed: {error!r}") from error


@lru_cache(maxsize=64)
def _parsed(line: str) -> SSHOptions:
    """Read a command line once for all nodes."""
    settings, files = parse_options(line)
    try:
        return SSHOptions(overrides=settings, config_files=files or None)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"SSH options {line!r}: {error}") from None


def _shown(name: str, value: Any) -> str:
    """Show an option's value without its secrets."""
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


# -- what it comes to for one node -----------------------------------------------------------------


class JumpHosts:
    """The settings of jump hosts, each made once for all nodes behind it.

    A jump host is a destination of its own, as with ssh: what is said of the nodes behind it does
    not hold for it, but for the configuration files (``-F``).

    Args:
        options_of: what code says of a jump host, given its name.
    """

    def __init__(
        self, options_of: Callable[[str], SSHOptions] = lambda _name: SSHOptions()
    ) -> None:
        self._options_of = options_of
        self._known: dict[Any, ConnectionSettings] = {}

    def settings(
        self,
        hop: Hop,
        before: Optional[ConnectionSettings],
        behind: tuple[str, ...],
        config_files: Any,
        cache: ConfigCache,
        wait: bool,
    ) -> ConnectionSettings:
        """Make, or find, a jump host's settings.

        Args:
            hop: the jump host.
            before: the one that leads to it, if several are named; if not, what the
                configuration says of it counts.
            behind: the names of what it leads to.
            config_files: the configuration files of what it leads to.
            cache: reads them.
            wait: see :func:`resolve`.

        Raises:
            ConfigurationError: they are wrong, or lead back.
        """
        known = self._known.get((hop, before, config_files))
        if known is not None:
            return known
        if hop.host in behind:
            raise ConfigurationError(
                f"ProxyJump leads back to {hop.host}: say 'ProxyJump none' for that host"
            )
        options = self._options_of(hop.host)
        said = SSHOptions(
            user=hop.user, port=hop.port, proxy_jump=None if before is None else "none"
        )
        options = said.over(options).over(SSHOptions(config_files=config_files))
        try:
            made = _Resolver(hop.host, options, cache, self, wait, behind).settings()
        except (ConfigurationError, TypeError, ValueError) as error:
            raise ConfigurationError(f"jump host {hop.host}: {error}") from error
        if before is not None:
            made = replace(made, proxies=(before,), proxy_command=None)
        self._known[hop, before, config_files] = made
        return made


def resolve(
    node: str,
    options: SSHOptions,
    *,
    config_cache: ConfigCache,
    jump_hosts: Optional[JumpHosts] = None,
    wait: bool = True,
) -> ConnectionSettings:
    """Bring together what options, configuration files and defaults say for one node.

    Args:
        node: the node's name as the user gave it.
        options: what code and ``ssh_options`` say.
        config_cache: reads the configuration files, each once.
        jump_hosts: makes the settings of jump hosts; by default, of configuration files alone.
        wait: whether the calling thread may wait for commands (``Match exec``) and for names
            (CanonicalizeHostname).

    Raises:
        NodeConfigurationError: something is wrong, or asks for what is not supported.
        Unanswered: something has to be waited for.
    """
    try:
        jump_hosts = jump_hosts or JumpHosts()
        return _Resolver(node, options, config_cache, jump_hosts, wait).settings()
    except (ConfigurationError, TypeError, ValueError) as error:
        raise NodeConfigurationError(node, str(error)) from error


_REFUSED = tuple(k.name for k in KEYWORDS.values() if k.treatment is Treatment.REFUSED)


class _Resolver:
    """Makes the settings of one node out of what was found for it."""

    def __init__(
        self,
        node: str,
        options: SSHOptions,
        cache: ConfigCache,
        jump_hosts: JumpHosts,
        wait: bool,
        behind: tuple[str, ...] = (),
    ) -> None:
        if options.config_files is None:
            configs = cache.defaults()
        else:
            paths = cast("tuple[str, ...]", options.config_files)
            configs = [cache.load(path) for path in paths if path.lower() != "none"]
        self.node = node
        self.options = options
        self.cache = cache
        self.jump_hosts = jump_hosts
        self.wait = wait
        # This host, and those that it leads to as a jump host.
        self.behind = (*behind, node)
        self.context: LocalContext = cache.context
        allow_match_exec = bool(options.allow_match_exec)
        given = options.settings(node)
        self.query: Query = lookup(configs, node, given, cache, allow_match_exec, wait)
        self.hostname = self.query.target.lower()
        self.port = self.query.number("Port") or DEFAULT_PORT
        self.user = self.query.user
        self._tokens: Optional[Mapping[str, str]] = None

    def settings(self) -> ConnectionSettings:
        """Make the settings."""
        self._refuse_unsupported()
        query, options = self.query, self.options
        identity_files, given = self._identity_files()
        alias = query.text("HostKeyAlias")
        agent, identity_agent = self._agent()
        attempts = query.number("ConnectionAttempts")
        keepalive_count = query.number("ServerAliveCountMax")
        retries = options.connect_retries
        return ConnectionSettings(
            node=self.node,
            hostname=self.hostname,
            port=self.port,
            user=self.user,
            host_key_alias=alias and alias.lower(),
            identity_files=identity_files,
            identity_files_given=given,
            identities_only=query.flag("IdentitiesOnly", False),
            pkeys=self._pkeys(),
            certificates=self._certificates(),
            password=options.password,
            passphrase=options.passphrase,
            agent=agent,
            identity_agent=identity_agent,
            keyboard_interactive=options.keyboard_interactive,
            preferred_authentications=self._authentications(),
            gssapi_host=query.text("GSSAPIServerIdentity") or self.hostname,
            gssapi_delegate=query.flag("GSSAPIDelegateCredentials", False),
            known_hosts=self._known_hosts(),
            global_known_hosts=self._global_known_hosts(),
            host_key_policy=query.text("StrictHostKeyChecking") or "strict",
            revoked_host_keys=self._revoked_host_keys(),
            hash_known_hosts=query.flag("HashKnownHosts", False),
            address_family=query.number("AddressFamily") or socket.AF_UNSPEC,
            bind_address=query.text("BindAddress"),
            connect_timeout=self._seconds("ConnectTimeout") or DEFAULT_CONNECT_TIMEOUT,
            auth_timeout=options.auth_timeout or DEFAULT_AUTH_TIMEOUT,
            connect_retries=attempts and attempts - 1 if retries is None else retries,
            tcp_keepalive=query.flag("TCPKeepAlive", True),
            keepalive=self._seconds("ServerAliveInterval") or 0.0,
            keepalive_count=3 if keepalive_count is None else keepalive_count,
            ciphers=self._algorithms("Ciphers"),
            macs=self._algorithms("MACs"),
            kex=self._algorithms("KexAlgorithms"),
            host_key_algorithms=self._algorithms("HostKeyAlgorithms"),
            compression=query.flag("Compression", False),
            rekey_limit=self._rekey_limit(),
            forward_agent=self._forward_agent(),
            env=self._environment(),
            pty=query.flag("RequestTTY", False),
            authentication_notes=self._authentication_notes(),
            proxies=self._proxies(),
            proxy_command=self._proxy_command(),
        )

    def _refuse_unsupported(self) -> None:
        """Refuse what would change whom we talk to, or how we check it, if it were ignored.

        Raises:
            ConfigurationError: it applies to this node.
        """
        query = self.query
        for keyword in _REFUSED:
            setting = query.get(keyword)
            if setting is not None and setting.value is not False:
                raise _unsupported(setting)
        setting = query.get("RefuseConnection")
        if setting is not None:
            raise ConfigurationError(f"{setting.place} refuses the connection: {setting.value}")

    def _proxies(self) -> tuple[ConnectionSettings, ...]:
        """The jump hosts, of which the first that can be used is: a chain of hops each."""
        setting = self.query.get("ProxyJump")
        if setting is None:
            return ()
        value = setting.value
        found = []
        for text in value if isinstance(value, tuple) else (str(value),):
            before: Optional[ConnectionSettings] = None
            try:
                chain = parse_chain(self._proxy_text(text, setting))
            except ValueError as error:
                raise ConfigurationError(f"{setting.place}: ProxyJump: {error}") from None
            for hop in chain:
                before = self.jump_hosts.settings(
                    hop, before, self.behind, self.options.config_files, self.cache, self.wait
                )
            if before is not None:
                found.append(before)
        return tuple(found)

    def _proxy_command(self) -> Optional[str]:
        """The command to connect through, its tokens replaced."""
        setting = self.query.get("ProxyCommand")
        if setting is None or str(setting.value).lower() == "none":
            return None
        if self.query.flag("ProxyUseFdpass", False):
            raise ConfigurationError(f"{setting.place}: ProxyUseFdpass is not supported")
        return self._proxy_text(str(setting.value), setting)

    def _proxy_text(self, text: str, setting: Setting) -> str:
        """Replace the tokens that ssh_config(5) TOKENS allows in ProxyCommand and ProxyJump."""
        if "%" not in text:
            return text
        tokens = {name: value for name, value in self._all_tokens().items() if name in "hnpr"}
        try:
            return expand_tokens(text, tokens)
        except ValueError as error:
            raise ConfigurationError(f"{setting.place}: {setting.keyword}: {error}") from None

    def _identity_files(self) -> tuple[tuple[str, ...], bool]:
        settings = self.query.all("IdentityFile")
        if settings:
            paths = (self._path(str(s.value), s) for s in settings if s.value != "none")
            return tuple(dict.fromkeys(paths)), True
        if self.options.pkeys:
            return (), True
        directory = self.context.user_directory
        return tuple(os.path.join(directory, name) for name in DEFAULT_IDENTITY_FILES), False

    def _pkeys(self) -> tuple[Any, ...]:
        keys = cast("tuple[Any, ...]", self.options.pkeys or ())
        return tuple(self._path(key) if isinstance(key, str) else key for key in keys)

    def _certificates(self) -> tuple[str, ...]:
        return tuple(
            str(s.value) if " " in str(s.value) else self._path(str(s.value), s)
            for s in self.query.all("CertificateFile")
            if s.value != "none"
        )

    def _agent(self) -> tuple[bool, Optional[str]]:
        """Whether to ask an agent, and its socket (None for that of the environment)."""
        setting = self.query.get("IdentityAgent")
        if setting is None or setting.value == "SSH_AUTH_SOCK":
            return True, None
        text = str(setting.value)
        if text.lower() == "none":
            return False, None
        if text.startswith("$") and not text.startswith("${"):
            path = os.environ.get(text[1:], "")
            return bool(path), path or None
        return True, self._path(text, setting)

    def _authentications(self) -> tuple[str, ...]:
        text = self.query.text("PreferredAuthentications")
        wanted = tuple(text.split(",")) if text else DEFAULT_AUTHENTICATIONS
        switches = {
            "gssapi-with-mic": ("GSSAPIAuthentication", False),
            "publickey": ("PubkeyAuthentication", True),
            "keyboard-interactive": ("KbdInteractiveAuthentication", True),
            "password": ("PasswordAuthentication", True),
        }
        return tuple(
            method for method in wanted if method in switches and self.query.flag(*switches[method])
        )

    def _authentication_notes(self) -> tuple[str, ...]:
        notes = []
        for keyword in ("HostbasedAuthentication", "PKCS11Provider"):
            setting = self.query.get(keyword)
            if setting is not None and setting.value not in (False, "none"):
                notes.append(f"{keyword} ({setting.place}) is not supported")
        return tuple(notes)

    def _known_hosts(self) -> tuple[str, ...]:
        setting = self.query.get("UserKnownHostsFile")
        if setting is None:
            directory = self.context.user_directory
            return tuple(os.path.join(directory, name) for name in ("known_hosts", "known_hosts2"))
        return self._host_files(setting)

    def _global_known_hosts(self) -> tuple[str, ...]:
        setting = self.query.get("GlobalKnownHostsFile")
        if setting is None:
            directory = self.context.system_directory
            names = ("ssh_known_hosts", "ssh_known_hosts2")
            return tuple(os.path.join(directory, name) for name in names)
        return self._host_files(setting)

    def _host_files(self, setting: Setting) -> tuple[str, ...]:
        words = cast("tuple[str, ...]", setting.value)
        return tuple(
            word if is_known_hosts_entry(word) else self._path(word, setting)
            for word in words
            if word.lower() != "none"
        )

    def _seconds(self, keyword: str) -> Optional[float]:
        setting = self.query.get(keyword)
        return setting.value if setting and isinstance(setting.value, float) else None

    def _algorithms(self, keyword: str) -> Optional[tuple[str, ...]]:
        text = self.query.text(keyword)
        return tuple(text.split(",")) if text else None

    def _revoked_host_keys(self) -> Optional[str]:
        setting = self.query.get("RevokedHostKeys")
        if setting is None or str(setting.value).lower() == "none":
            return None
        return self._path(str(setting.value), setting)

    def _rekey_limit(self) -> tuple[int, float]:
        """The first number of bytes, and the first one of seconds, perhaps of another line."""
        said = [cast("tuple[int, Optional[float]]", s.value) for s in self.query.all("RekeyLimit")]
        times = [seconds for _, seconds in said if seconds is not None]
        return said[0][0] if said else 0, times[0] if times else 0.0

    def _forward_agent(self) -> Union[bool, str]:
        """Whether to forward the agent, or the path of the one to forward."""
        setting = self.query.get("ForwardAgent")
        text = "no" if setting is None else str(setting.value)
        if text.lower() in ("no", "false"):
            return False
        if text.lower() in ("yes", "true"):
            return True
        if text.startswith("$") and not text.startswith("${"):
            # As in OpenSSH, nothing is forwarded where there is no such variable.
            return os.environ.get(text[1:]) or False
        return self._path(text, setting)

    def _environment(self) -> tuple[tuple[str, str], ...]:
        """What SetEnv and the options say, then the local variables that SendEnv names."""
        setting = self.query.get("SetEnv")
        pairs = cast("tuple[tuple[str, str], ...]", setting.value) if setting else ()
        found: dict[str, str] = {}
        for name, value in pairs:
            found.setdefault(name, value)
        for name in self._sent_names():
            found.setdefault(name, os.environ[name])
        return tuple(found.items())

    def _sent_names(self) -> list[str]:
        patterns: list[str] = []
        for setting in self.query.all("SendEnv"):
            for pattern in cast("tuple[str, ...]", setting.value):
                if pattern.startswith("-"):
                    patterns = [name for name in patterns if not matches_list(name, [pattern[1:]])]
                else:
                    patterns.append(pattern)
        if not patterns:
            return []
        return [name for name in sorted(os.environ) if matches_list(name, patterns)]

    def _path(self, text: str, setting: Optional[Setting] = None) -> str:
        """Expand tokens, environment variables and the home directory in a path."""
        if "%" not in text and "${" not in text and not text.startswith("~"):
            return text
        try:
            return self.context.expand_home(
                expand_tokens(expand_environment(text), self._all_tokens())
            )
        except ValueError as error:
            if setting is None:
                raise
            raise ConfigurationError(f"{setting.place}: {setting.keyword}: {error}") from None

    def _all_tokens(self) -> Mapping[str, str]:
        """The tokens of ssh_config(5) TOKENS that paths accept."""
        if self._tokens is None:
            self._tokens = {**self.query.tokens(), "h": self.hostname}
        return self._tokens


def _unsupported(setting: Setting) -> ConfigurationError:
    return ConfigurationError(f"{setting.keyword} ({setting.place}) is not supported yet")
