"""The settings of one host, as far as the lookup has found them."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional, cast

from ...exceptions import ConfigurationError
from ...local.shell import run_upcall
from .configline import Setting
from .environment import Address, Environment
from .keywords import Keyword
from .memo import Memo
from .patterns import matches_list
from .settings import DEFAULT_PORT
from .tokens import expand_hostname

MATCH_EXEC_TIMEOUT = 10.0
"""The longest time that the command of ``Match exec`` may take, in seconds."""

_COMPETING = {"ProxyJump": "ProxyCommand", "ProxyCommand": "ProxyJump"}
"""The first of these two keywords wins over the other; ssh_config(5), ProxyJump."""


class Query:
    """The lookup of one host: the settings found so far.

    Attributes:
        host: the name that ``Host`` patterns are compared with.
        original_host: the name that the user gave.
        final: True in the second pass, in which ``Match final`` is met.
        wants_final: True if a ``Match final`` requires a second pass.
        environment: this machine and its user.
        allow_match_exec: True if ``Match exec`` may run its command.
        decided: the outcome of each ``Match`` line in this pass, by the line's ``id()``.
        wait: True if the calling thread may wait for commands, name lookups and disks.
    """

    def __init__(
        self,
        host: str,
        environment: Environment,
        memo: Memo,
        allow_match_exec: bool = False,
        wait: bool = True,
    ) -> None:
        """Begin without any setting.

        Args:
            host: the name that the user gave.
            environment: this machine and its user.
            memo: the results of commands and name lookups.
            allow_match_exec: True if ``Match exec`` may run its command.
            wait: True if the calling thread may wait for commands, name lookups and disks.
        """
        self.host = host
        self.original_host = host
        self.final = False
        self.wants_final = False
        self.environment = environment
        self.allow_match_exec = allow_match_exec
        self.decided: dict[int, bool] = {}
        self._memo = memo
        self.wait = wait
        self._found: dict[str, list[Setting]] = {}

    def add(self, setting: Setting, keyword: Keyword) -> None:
        """Add a setting, unless an earlier one of its keyword has won."""
        if keyword.name in _COMPETING and self.get(_COMPETING[keyword.name]) is not None:
            return
        known = self._found.setdefault(keyword.name, [])
        if not known or (keyword.additive and all(s.value != setting.value for s in known)):
            known.append(setting)

    @property
    def user(self) -> str:
        """The remote user, by the settings found so far."""
        return self.text("User") or self.environment.user

    @property
    def target(self) -> str:
        """The name to connect to, by the settings found so far."""
        hostname = self.text("HostName")
        if hostname is None or self.final:
            return self.host
        return expand_hostname(hostname, self.host)

    def get(self, keyword: str) -> Optional[Setting]:
        """Return the setting that won, or None."""
        found = self._found.get(keyword)
        return found[0] if found else None

    def all(self, keyword: str) -> Sequence[Setting]:
        """Return all settings of a keyword whose values add up, in order."""
        return self._found.get(keyword, ())

    def settings(self) -> Iterator[Setting]:
        """Yield all settings."""
        for found in self._found.values():
            yield from found

    def text(self, keyword: str) -> Optional[str]:
        """Return the value of a keyword whose value is one word, or None."""
        setting = self.get(keyword)
        return setting.value if setting and isinstance(setting.value, str) else None

    def number(self, keyword: str) -> Optional[int]:
        """Return the value of a keyword whose value is a whole number, or None."""
        setting = self.get(keyword)
        return setting.value if setting and isinstance(setting.value, int) else None

    def flag(self, keyword: str, default: bool) -> bool:
        """Return the value of a yes-or-no keyword."""
        setting = self.get(keyword)
        return setting.value if setting and isinstance(setting.value, bool) else default

    def words(self, keyword: str) -> Optional[tuple[str, ...]]:
        """Return the value of a keyword whose value is several words, or None."""
        setting = self.get(keyword)
        return setting.value if setting and isinstance(setting.value, tuple) else None

    def tokens(self) -> Mapping[str, str]:
        """Return the tokens of ssh_config(5) TOKENS, by the settings found so far."""
        environment, host, user = self.environment, self.target, self.user
        port = str(self.number("Port") or DEFAULT_PORT)
        jump = self.text("ProxyJump") or ""
        connection = f"{environment.hostname}{host}{port}{user}"
        return {
            "C": hashlib.sha1(connection.encode("utf-8", "surrogateescape")).hexdigest(),  # noqa: S324 - the name of a socket, no protection
            "d": environment.home,
            "h": host,
            "i": environment.uid,
            "j": "" if jump.lower() == "none" else jump,
            "k": self.text("HostKeyAlias") or self.original_host,
            "L": environment.hostname.partition(".")[0],
            "l": environment.hostname,
            "n": self.original_host,
            "p": port,
            "r": user,
            "u": environment.user,
        }

    # -- commands and name lookups, which take time --

    def succeeds(self, command: str) -> bool:
        """True if a local command exits with 0. It runs once, for all hosts.

        Raises:
            ValueError: the command cannot be run, or takes longer than MATCH_EXEC_TIMEOUT.
            LookupPending: the command has not been run, and the calling thread may not wait.
        """

        def run() -> bool:
            try:
                return run_upcall(command, None, MATCH_EXEC_TIMEOUT)[0] == 0
            except (OSError, TimeoutError) as error:
                raise ValueError(f"{command!r}: {error}") from None

        return self._memo.get(("exec", command), run, self.wait)

    def local_addresses(self) -> frozenset[Address]:
        """Return the addresses of this host's interfaces. They are asked for once, for all hosts.

        Raises:
            ValueError: they cannot be asked for.
            LookupPending: they have not been asked for, and the calling thread may not wait.
        """
        return self._memo.get("local addresses", self.environment.local_addresses, self.wait)

    def canonical_name(self) -> Optional[str]:
        """Return the canonical name of the host, or None if CanonicalizeHostname is off.

        Raises:
            ConfigurationError: no domain has the name, and CanonicalizeFallbackLocal is off.
            LookupPending: the name has not been looked up, and the calling thread may not wait.
        """
        setting = self.get("CanonicalizeHostname")
        if setting is None or setting.value is False:
            return None
        name = self.target.lower()
        proxies = (self.get("ProxyJump"), self.get("ProxyCommand"))
        direct = all(p is None or str(p.value).lower() == "none" for p in proxies)
        if not direct and setting.value != "always":
            # The proxy looks the name up, perhaps in another network.
            return name
        family = self.number("AddressFamily") or socket.AF_UNSPEC
        most_dots = self.number("CanonicalizeMaxDots")
        domains = self.words("CanonicalDomains") or ()
        if name.endswith("."):
            candidates = [name]
        elif _is_address(name) or name.count(".") > (1 if most_dots is None else most_dots):
            return name
        else:
            candidates = [f"{name}.{domain}." for domain in domains if domain != "none"]

        def look_up() -> Optional[tuple[str, str]]:
            for candidate in candidates:
                found = self.environment.canonical_name(candidate, family)
                if found is not None:
                    return candidate.rstrip("."), found.rstrip(".").lower()
            return None

        found = self._memo.get(("name", *candidates, family), look_up, self.wait)
        if found is None:
            if not self.flag("CanonicalizeFallbackLocal", True):
                raise ConfigurationError(
                    f"{setting.place}: {name} is in none of the CanonicalDomains, "
                    "and CanonicalizeFallbackLocal is 'no': correct the name or add its domain"
                )
            return name
        return self._follow_alias(*found)

    def _follow_alias(self, name: str, alias_of: str) -> str:
        """Return the target of an alias (CNAME) if CanonicalizePermittedCNAMEs allows it."""
        setting = self.get("CanonicalizePermittedCNAMEs")
        rules = cast("tuple[tuple[str, str], ...]", setting.value) if setting else ()
        for sources, targets in rules:
            if matches_list(name, sources.split(",")) and matches_list(
                alias_of, targets.split(",")
            ):
                return alias_of
        return name


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name.partition("%")[0])
        except OSError:
            continue
        return True
    return False
