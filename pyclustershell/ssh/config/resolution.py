"""Combines options, configuration files and defaults into the settings of one node.

Options come from four sources. The first one that sets an option wins: the call or
``configure_ssh`` in code, ``ssh_options`` (an ssh command line), OpenSSH configuration files,
defaults. No file is read before :func:`resolve` is called, and paramiko is not needed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Callable, Optional, Union, cast

from ...exceptions import ConfigurationError, NodeConfigurationError
from ...nodeset.topology import Route
from .commandline import is_yes_or_no
from .configline import COMMAND_LINE, Setting
from .destination import Destination, destination_of
from .environment import Environment, null_file
from .keywords import KEYWORDS, Treatment
from .lookup import lookup
from .names import check_host, check_hostname, check_user
from .options import SSHOptions
from .patterns import matches_list
from .proxyjump import Hop, parse_chain
from .query import Query
from .settings import DEFAULT_PORT, ConnectionSettings, is_known_hosts_entry
from .sshconfig import ConfigCache
from .tokens import expand_environment, expand_shell_tokens, expand_tokens

DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_AUTH_TIMEOUT = 30.0
DEFAULT_IDENTITY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")
DEFAULT_AUTHENTICATIONS = ("gssapi-with-mic", "publickey", "keyboard-interactive", "password")

_NAME_CHECKS = {"HostName": check_host, "User": check_user}
_PROXIES = ("ProxyJump", "ProxyCommand")
_REFUSED = tuple(k.name for k in KEYWORDS.values() if k.treatment is Treatment.REFUSED)


class JumpHostResolver:
    """Makes the settings of jump hosts, once for all nodes that they lead to.

    A jump host is a destination of its own, as in OpenSSH: the options of the nodes that it leads
    to do not apply to it. Only their configuration files (``-F``) do.

    Args:
        options_of: returns the options that code sets for a jump host, given its name.
        gateway_options_of: the same for a gateway of a topology, which is a node itself.
    """

    def __init__(
        self,
        options_of: Callable[[str], SSHOptions] = lambda _name: SSHOptions(),
        gateway_options_of: Callable[[str], SSHOptions] = lambda _name: SSHOptions(),
    ) -> None:
        self._options_of = options_of
        self._gateway_options_of = gateway_options_of
        self._known: dict[Any, ConnectionSettings] = {}
        self._gateways: dict[tuple[Route, Any], tuple[ConnectionSettings, ...]] = {}

    def gateways(
        self, route: Route, config_files: Any, cache: ConfigCache, wait: bool
    ) -> tuple[ConnectionSettings, ...]:
        """Return the settings of the gateways at the end of a route.

        Args:
            route: the route.
            config_files: the configuration files of the nodes behind the gateways.
            cache: reads configuration files.
            wait: see :func:`resolve`.

        Raises:
            ConfigurationError: a setting is wrong.
            LookupPending: the calling thread would have to wait.
        """
        known = self._gateways.get((route, config_files))
        if known is None:
            known = tuple(
                self._gateway(name, route.previous, config_files, cache, wait)
                for name in route.gateways
            )
            self._gateways[route, config_files] = known
        return known

    def _gateway(
        self, name: str, route: Optional[Route], config_files: Any, cache: ConfigCache, wait: bool
    ) -> ConnectionSettings:
        options = self._gateway_options_of(name).over(SSHOptions(config_files=config_files))
        try:
            destination = destination_of(name)
            return _SettingsBuilder(
                name, destination, options, cache, self, wait, route=route
            ).settings()
        except (ConfigurationError, TypeError, ValueError) as error:
            raise ConfigurationError(f"gateway {name}: {error}") from error

    def settings(
        self,
        hop: Hop,
        previous: Optional[ConnectionSettings],
        destinations: tuple[str, ...],
        config_files: Any,
        cache: ConfigCache,
        wait: bool,
    ) -> ConnectionSettings:
        """Return the settings of a jump host.

        Args:
            hop: the jump host.
            previous: the jump host that leads to this one, if a chain is given. If None, the
                configuration of this jump host may name one.
            destinations: the names of the hosts that this one leads to.
            config_files: the configuration files of those hosts.
            cache: reads configuration files.
            wait: see :func:`resolve`.

        Raises:
            ConfigurationError: a setting is wrong, or the jump hosts form a loop.
            LookupPending: the calling thread would have to wait.
        """
        known = self._known.get((hop, previous, config_files))
        if known is not None:
            return known
        if hop.host in destinations:
            raise ConfigurationError(
                f"ProxyJump leads back to {hop.host}: say 'ProxyJump none' for that host"
            )
        options = self._options_of(hop.host)
        written = SSHOptions(
            user=hop.user, port=hop.port, proxy_jump=None if previous is None else "none"
        )
        options = written.over(options).over(SSHOptions(config_files=config_files))
        try:
            destination = Destination(hop.host)
            made = _SettingsBuilder(
                hop.host, destination, options, cache, self, wait, destinations
            ).settings()
        except (ConfigurationError, TypeError, ValueError) as error:
            raise ConfigurationError(f"jump host {hop.host}: {error}") from error
        if previous is not None:
            made = replace(made, proxies=(previous,), proxy_command=None)
        self._known[hop, previous, config_files] = made
        return made


def resolve(
    node: str,
    options: SSHOptions,
    *,
    config_cache: ConfigCache,
    jump_hosts: Optional[JumpHostResolver] = None,
    wait: bool = True,
    route: Optional[Route] = None,
) -> ConnectionSettings:
    """Combine options, configuration files and defaults into the settings of one node.

    Args:
        node: the name that the user gave: a host, or ``[user@]host[:port]``. As in ssh, options
            win over the user and the port in the name, which win over configuration files.
        options: the options of code and ``ssh_options``.
        config_cache: reads configuration files.
        jump_hosts: makes the settings of jump hosts; by default from configuration files alone.
        wait: True if the calling thread may wait for disks, the user database, commands
            (``Match exec``) and name lookups (CanonicalizeHostname).
        route: the gateways of a topology that lead to the node. Jump hosts and proxy commands of
            code and ``ssh_options`` win over them, and they win over configuration files.

    Raises:
        NodeConfigurationError: a setting is wrong or not supported.
        LookupPending: the calling thread would have to wait.
    """
    try:
        jump_hosts = jump_hosts or JumpHostResolver()
        destination = destination_of(node)
        return _SettingsBuilder(
            node, destination, options, config_cache, jump_hosts, wait, route=route
        ).settings()
    except (ConfigurationError, TypeError, ValueError) as error:
        raise NodeConfigurationError(node, str(error)) from error


def sources_of(node: str, options: SSHOptions, *, config_cache: ConfigCache) -> list[Setting]:
    """Return the settings of ssh_config(5) that decide on a node's connection, with their places.

    Waits for disks, the user database, commands and name lookups.

    Args:
        node: the name that the user gave.
        options: the options of code and ``ssh_options``.
        config_cache: reads configuration files.

    Returns:
        For each keyword the setting that has won, or all of them if they add up.

    Raises:
        NodeConfigurationError: a setting is wrong.
    """
    try:
        destination = destination_of(node)
        builder = _SettingsBuilder(
            node, destination, options, config_cache, JumpHostResolver(), wait=True
        )
        return list(builder.query.settings())
    except (ConfigurationError, TypeError, ValueError) as error:
        raise NodeConfigurationError(node, str(error)) from error


class _SettingsBuilder:
    """Makes the settings of one node from the lookup of its name."""

    def __init__(
        self,
        node: str,
        destination: Destination,
        options: SSHOptions,
        cache: ConfigCache,
        jump_hosts: JumpHostResolver,
        wait: bool,
        destinations: tuple[str, ...] = (),
        route: Optional[Route] = None,
    ) -> None:
        cache.environment.prepare(wait)
        if options.config_files is None:
            configs = cache.defaults(wait)
        else:
            paths = cast("tuple[str, ...]", options.config_files)
            configs = [
                cache.load(path, wait)
                for path in paths
                if path.lower() != "none" and null_file(path) != os.devnull
            ]
        self.node = node
        self.options = options
        self.cache = cache
        self.jump_hosts = jump_hosts
        self.wait = wait
        # This host, and the hosts that it leads to as a jump host.
        self.destinations = (*destinations, destination.host)
        self.environment: Environment = cache.environment
        allow_match_exec = bool(options.allow_match_exec)
        given = [*options.settings(node), *_settings_of(destination)]
        # A jump host or a proxy command that code asks for wins over the gateways of a topology.
        if route is not None and any(one.keyword in _PROXIES for one in given):
            route = None
        self.route = route
        # As in OpenSSH: before any file is read, for Match exec may run a command with these names.
        check_hostname(destination.host)
        for setting in given:
            if setting.keyword in _NAME_CHECKS:
                _NAME_CHECKS[setting.keyword](str(setting.value))
        self.query: Query = lookup(configs, destination.host, given, cache, allow_match_exec, wait)
        self.hostname = self.query.target.lower()
        self.port = self.query.number("Port") or DEFAULT_PORT
        self.user = self.query.user
        # Those of configuration files.
        check_host(self.hostname)
        if self.query.text("User") is not None:
            check_user(self.user)
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
            pubkey_algorithms=self._algorithms("PubkeyAcceptedAlgorithms"),
            compression=query.flag("Compression", False),
            rekey_limit=self._rekey_limit(),
            forward_agent=self._forward_agent(),
            env=self._env(),
            pty=query.flag("RequestTTY", False),
            authentication_notes=self._authentication_notes(),
            proxies=self._proxies(),
            balance_proxies=self.route is not None,
            proxy_command=self._proxy_command(),
        )

    def _refuse_unsupported(self) -> None:
        """Refuse unsupported settings that decide which host we talk to, or how we check it.

        Raises:
            ConfigurationError: one of them applies to this node.
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
        """Return the alternative jump hosts, each with the chain that leads to it."""
        if self.route is not None:
            return self.jump_hosts.gateways(
                self.route, self.options.config_files, self.cache, self.wait
            )
        setting = self.query.get("ProxyJump")
        if setting is None:
            return ()
        value = setting.value
        found = []
        for text in value if isinstance(value, tuple) else (str(value),):
            previous: Optional[ConnectionSettings] = None
            try:
                chain = parse_chain(self._proxy_text(text, setting))
            except ValueError as error:
                raise ConfigurationError(f"{setting.place}: ProxyJump: {error}") from None
            for hop in chain:
                previous = self.jump_hosts.settings(
                    hop,
                    previous,
                    self.destinations,
                    self.options.config_files,
                    self.cache,
                    self.wait,
                )
            if previous is not None:
                found.append(previous)
        return tuple(found)

    def _proxy_command(self) -> Optional[str]:
        """Return the command to connect through, with its tokens replaced."""
        if self.route is not None:
            return None
        setting = self.query.get("ProxyCommand")
        if setting is None or str(setting.value).lower() == "none":
            return None
        if self.query.flag("ProxyUseFdpass", False):
            raise ConfigurationError(
                f"{setting.place}: ProxyUseFdpass is not supported: let the command copy the data"
            )
        return self._proxy_text(str(setting.value), setting, expand_shell_tokens)

    def _proxy_text(
        self,
        text: str,
        setting: Setting,
        expand: Callable[[str, Mapping[str, str]], str] = expand_tokens,
    ) -> str:
        """Replace the tokens that ssh_config(5) allows in ProxyCommand and ProxyJump."""
        if "%" not in text:
            return text
        tokens = {name: value for name, value in self._all_tokens().items() if name in "hnpr"}
        try:
            return expand(text, tokens)
        except ValueError as error:
            raise ConfigurationError(f"{setting.place}: {setting.keyword}: {error}") from None

    def _identity_files(self) -> tuple[tuple[str, ...], bool]:
        settings = self.query.all("IdentityFile")
        if settings:
            paths = (self._path(str(s.value), s) for s in settings if s.value != "none")
            return tuple(dict.fromkeys(paths)), True
        if self.options.pkeys:
            return (), True
        directory = self.environment.user_directory
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
        """Return whether to use an agent, and its socket (None for that of the environment)."""
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
            directory = self.environment.user_directory
            return tuple(os.path.join(directory, name) for name in ("known_hosts", "known_hosts2"))
        return self._host_files(setting)

    def _global_known_hosts(self) -> tuple[str, ...]:
        setting = self.query.get("GlobalKnownHostsFile")
        if setting is None:
            directory = self.environment.system_directory
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
        """Return the first number of bytes and the first of seconds, perhaps of two lines."""
        limits = [
            cast("tuple[int, Optional[float]]", s.value) for s in self.query.all("RekeyLimit")
        ]
        times = [seconds for _, seconds in limits if seconds is not None]
        return limits[0][0] if limits else 0, times[0] if times else 0.0

    def _forward_agent(self) -> Union[bool, str]:
        """Return whether to forward the agent, or the path of the agent to forward."""
        found = self.query.all("ForwardAgent")
        if not found or str(found[0].value).lower() in ("no", "false"):
            return False
        # As in OpenSSH, also with -A: the first line decides whether, the first path which agent.
        setting = next((s for s in found if not is_yes_or_no(s.value)), None)
        if setting is None:
            return True
        text = str(setting.value)
        if text.startswith("$") and not text.startswith("${"):
            # As in OpenSSH, no agent is forwarded if the variable is not set.
            return os.environ.get(text[1:]) or False
        return self._path(text, setting)

    def _env(self) -> tuple[tuple[str, str], ...]:
        """Return the variables of SetEnv and of the options, then those that SendEnv names."""
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
        text = null_file(text)
        if "%" not in text and "${" not in text and not text.startswith("~"):
            return text
        try:
            return self.environment.expand_home(
                expand_tokens(expand_environment(text), self._all_tokens()), self.wait
            )
        except ValueError as error:
            if setting is None:
                raise
            raise ConfigurationError(f"{setting.place}: {setting.keyword}: {error}") from None

    def _all_tokens(self) -> Mapping[str, str]:
        """Return the tokens that ssh_config(5) allows in paths."""
        if self._tokens is None:
            self._tokens = {**self.query.tokens(), "h": self.hostname}
        return self._tokens


def _settings_of(destination: Destination) -> Iterator[Setting]:
    """Yield the settings that the name of a node gives."""
    if destination.user is not None:
        yield Setting("User", destination.user, COMMAND_LINE, 0)
    if destination.port is not None:
        yield Setting("Port", destination.port, COMMAND_LINE, 0)


def _unsupported(setting: Setting) -> ConfigurationError:
    return ConfigurationError(
        f"{setting.keyword} ({setting.place}) is not supported yet: remove it for this host"
    )
