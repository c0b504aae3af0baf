"""What is asked for, configuration files and defaults, brought together for one node.

Options come from four places. The first that says something wins: the call or ``configure_ssh`` in
code, ``ssh_options`` (an ssh command line), OpenSSH configuration files, defaults. Nothing reads a
file before :func:`resolve` does, and paramiko is not needed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, Optional, Union, cast

from ...exceptions import ConfigurationError, NodeConfigurationError
from .context import LocalContext, expand_environment, expand_tokens, matches_list
from .jumps import Hop, parse_chain
from .keywords import KEYWORDS, Treatment
from .lookup import Query, lookup
from .options import SSHOptions
from .settings import DEFAULT_PORT, ConnectionSettings, is_known_hosts_entry
from .sshconfig import COMMAND_LINE, ConfigCache, Setting

DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_AUTH_TIMEOUT = 30.0
DEFAULT_IDENTITY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")
DEFAULT_AUTHENTICATIONS = ("gssapi-with-mic", "publickey", "keyboard-interactive", "password")

_REFUSED = tuple(k.name for k in KEYWORDS.values() if k.treatment is Treatment.REFUSED)


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
        said = self.query.all("ForwardAgent")
        if not said or str(said[0].value).lower() in ("no", "false"):
            return False
        if said[0].filename == COMMAND_LINE:
            said = said[:1]
        # As in OpenSSH: the first line says whether, and the first with a path which one.
        switches = ("yes", "no", "true", "false")
        setting = next((s for s in said if str(s.value).lower() not in switches), None)
        if setting is None:
            return True
        text = str(setting.value)
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
