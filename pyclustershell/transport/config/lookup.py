"""What holds for one host: the answer of OpenSSH's configuration files, and how it is found."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional, cast

from ...exceptions import ConfigurationError
from ..upcall import run_upcall
from .context import expand_environment, expand_hostname, expand_tokens, matches_list
from .keywords import Keyword, Treatment, find_keyword
from .settings import DEFAULT_PORT
from .sshconfig import MAX_INCLUDE_DEPTH, ConfigCache, Setting, SSHConfig

logger = logging.getLogger("pyclustershell.sshconfig")

MATCH_EXEC_TIMEOUT = 10.0
"""How many seconds the command of ``Match exec`` may take."""

_COMPETING = {"ProxyJump": "ProxyCommand", "ProxyCommand": "ProxyJump"}
"""Whichever of these comes first makes the other void, as ssh_config(5) says of ProxyJump."""


class Query:
    """The question what holds for one host, and the answers found so far.

    Attributes:
        host: the name that ``Host`` patterns are matched against.
        original_host: the name as the user gave it.
        final: whether this is the second pass, in which ``Match final`` holds.
        wants_final: whether a ``Match final`` asks for a second pass.
        context: who and where we are.
        allow_match_exec: whether ``Match exec`` may run its command.
        decided: by the identity of a ``Match`` line, whether it holds in this pass.
    """

    def __init__(
        self, host: str, cache: ConfigCache, allow_match_exec: bool = False, wait: bool = True
    ) -> None:
        """Begin; nothing is known yet.

        Args:
            host: the host as the user named it.
            cache: gives the local context, and what has been found out.
            allow_match_exec: see above.
            wait: whether the calling thread may wait for commands and for names.
        """
        self.host = host
        self.original_host = host
        self.final = False
        self.wants_final = False
        self.context = cache.context
        self.allow_match_exec = allow_match_exec
        self.decided: dict[int, bool] = {}
        self._cache = cache
        self._wait = wait
        self._found: dict[str, list[Setting]] = {}

    def take(self, setting: Setting, keyword: Keyword) -> None:
        """Note a setting that holds, unless an earlier one of its keyword has won."""
        if keyword.name in _COMPETING and self.get(_COMPETING[keyword.name]) is not None:
            return
        known = self._found.setdefault(keyword.name, [])
        if not known or (keyword.additive and all(s.value != setting.value for s in known)):
            known.append(setting)

    @property
    def user(self) -> str:
        """The remote user, as far as it is known by now."""
        return self.text("User") or self.context.user

    @property
    def target(self) -> str:
        """The name to connect to, as far as it is known by now."""
        hostname = self.text("HostName")
        if hostname is None or self.final:
            return self.host
        return expand_hostname(hostname, self.host)

    def get(self, keyword: str) -> Optional[Setting]:
        """Return the setting that won, or None."""
        found = self._found.get(keyword)
        return found[0] if found else None

    def all(self, keyword: str) -> Sequence[Setting]:
        """Return all settings of a keyword that adds up, in order."""
        return self._found.get(keyword, ())

    def settings(self) -> Iterator[Setting]:
        """Go through all settings that hold."""
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
        """The tokens of ssh_config(5) TOKENS, as far as they are known by now."""
        context, host, user = self.context, self.target, self.user
        port = str(self.number("Port") or DEFAULT_PORT)
        jump = self.text("ProxyJump") or ""
        connection = f"{context.hostname}{host}{port}{user}"
        return {
            "C": hashlib.sha1(connection.encode()).hexdigest(),  # noqa: S324 - a name, no proof
            "d": context.home,
            "h": host,
            "i": context.uid,
            "j": "" if jump.lower() == "none" else jump,
            "k": self.text("HostKeyAlias") or self.original_host,
            "L": context.hostname.partition(".")[0],
            "l": context.hostname,
            "n": self.original_host,
            "p": port,
            "r": user,
            "u": context.user,
        }

    # -- what takes time --

    def succeeds(self, command: str) -> bool:
        """Tell whether a local command ends with 0; it is run once, whoever asks.

        Raises:
            ValueError: it could not be run, or took too long: nobody knows.
            Unanswered: it has yet to be run.
        """

        def run() -> bool:
            try:
                return run_upcall(command, None, MATCH_EXEC_TIMEOUT)[0] == 0
            except (OSError, TimeoutError) as error:
                raise ValueError(f"{command!r}: {error}") from None

        return self._cache.answers.get(("exec", command), run, self._wait)

    def canonical_name(self) -> Optional[str]:
        """Return the name that CanonicalizeHostname makes of the host's, or None if it is not on.

        Raises:
            ConfigurationError: there is no such name, and CanonicalizeFallbackLocal is off.
            Unanswered: it has yet to be looked up.
        """
        setting = self.get("CanonicalizeHostname")
        if setting is None or setting.value is False:
            return None
        name = self.target.lower()
        proxies = (self.get("ProxyJump"), self.get("ProxyCommand"))
        direct = all(p is None or str(p.value).lower() == "none" for p in proxies)
        if not direct and setting.value != "always":
            # The proxy will look it up, perhaps in another network.
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
                found = self.context.look_up(candidate, family)
                if found is not None:
                    return candidate.rstrip("."), found.rstrip(".").lower()
            return None

        found = self._cache.answers.get(("name", *candidates, family), look_up, self._wait)
        if found is None:
            if not self.flag("CanonicalizeFallbackLocal", True):
                raise ConfigurationError(
                    f"{setting.place}: {name} is in none of the CanonicalDomains, "
                    "and CanonicalizeFallbackLocal is 'no'"
                )
            return name
        return self._followed(*found)

    def _followed(self, name: str, alias_of: str) -> str:
        """The name, or what it is an alias of (CNAME) where CanonicalizePermittedCNAMEs allows."""
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


def lookup(
    configs: Sequence[SSHConfig],
    host: str,
    given: Sequence[Setting] = (),
    cache: Optional[ConfigCache] = None,
    allow_match_exec: bool = False,
    wait: bool = True,
) -> Query:
    """Find what holds for a host.

    Args:
        configs: the files in their order of precedence.
        host: the host as the user named it.
        given: settings that come before all files: command line and code.
        cache: gives the local context and remembers which warnings were given.
        allow_match_exec: whether ``Match exec`` may run its command.
        wait: whether the calling thread may wait for commands and for names.

    Raises:
        ConfigurationError: a condition that matters cannot be evaluated.
        Unanswered: something has to be waited for.
    """
    cache = cache or ConfigCache()
    query = Query(host, cache, allow_match_exec, wait)
    for setting in given:
        _take(query, setting, cache)
    _pass(query, configs, cache)
    canonical = query.canonical_name()
    if canonical is not None or query.wants_final:
        # ssh_config(5): the files are read again, now with the name that we are going to use.
        query.host = canonical or query.target.lower()
        query.final = True
        _pass(query, configs, cache)
    return query


def _pass(query: Query, configs: Sequence[SSHConfig], cache: ConfigCache) -> None:
    query.decided.clear()
    for config in configs:
        _apply(query, config, cache, 0)


def _apply(query: Query, config: SSHConfig, cache: ConfigCache, depth: int) -> None:
    query.wants_final |= config.has_final
    for section in config.candidates(query.host):
        if all(condition.holds(query) for condition in section.conditions):
            for setting in section.settings:
                if setting.keyword == "Include":
                    _include(query, setting, config, cache, depth)
                else:
                    _take(query, setting, cache)


def _include(
    query: Query, setting: Setting, config: SSHConfig, cache: ConfigCache, depth: int
) -> None:
    """Go through files whose names depend on the host, as OpenSSH does since release 9.9."""
    if depth >= MAX_INCLUDE_DEPTH:
        raise ConfigurationError("too many levels of Include", setting.filename, setting.line)
    try:
        pattern = expand_tokens(expand_environment(str(setting.value)), query.tokens())
    except ValueError as error:
        raise ConfigurationError(f"Include: {error}", setting.filename, setting.line) from None
    for included in cache.included(config, pattern):
        _apply(query, included, cache, depth + 1)


def _take(query: Query, setting: Setting, cache: ConfigCache) -> None:
    keyword = find_keyword(setting.keyword)
    if keyword is None or keyword.treatment is Treatment.SILENT or setting.value is None:
        return  # A time of 'none' is as good as unset, and a later one wins, as in OpenSSH.
    if keyword.treatment is Treatment.WARNED and query.get(keyword.name) is None:
        words = setting.value if isinstance(setting.value, tuple) else ()
        if not (words and str(words[0]).lower() in keyword.neutral):
            cache.warn_once(setting, "is not supported and is ignored")
    query.take(setting, keyword)
