"""``Host`` and ``Match``: the conditions of the lines below them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ...exceptions import ConfigurationError
from .patterns import matches_list
from .tokens import expand_shell_tokens

if TYPE_CHECKING:
    from .query import Query


@dataclass(frozen=True)
class HostCondition:
    """``Host``: the host name matches one of the patterns, and no negated one."""

    patterns: tuple[str, ...]

    def is_met(self, query: Query) -> bool:
        """True if the lines below apply to this host."""
        return matches_list(query.host, self.patterns)

    def literals(self) -> Iterator[tuple[str, str]]:
        """Yield the literal beginning of each pattern, or its literal end if it has no beginning.

        The condition cannot be met for a host with none of them.
        """
        for pattern in self.patterns:
            if not pattern.startswith("!"):
                pieces = re.split(r"[*?]", pattern)
                yield (pieces[0], "") if pieces[0] else ("", pieces[-1])


Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Criterion:
    """One criterion of a ``Match`` line. Patterns of host names are in lower case.

    ``localnetwork`` has networks in place of patterns.
    """

    attribute: str
    patterns: tuple[str, ...]
    negated: bool
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class MatchCondition:
    """``Match``: all criteria are met."""

    criteria: tuple[Criterion, ...]
    filename: str
    line: int

    def is_met(self, query: Query) -> bool:
        """True if the lines below apply to this host.

        This is decided once per pass: the User and HostName that the lines below set must not end
        their own block.

        Raises:
            ConfigurationError: the outcome depends on a criterion that is not supported.
            LookupPending: the outcome depends on a command that has not been run, or on the
                addresses of this host, which have not been asked for.
        """
        decided = query.decided.get(id(self))
        if decided is None:
            decided = all(self._criterion_is_met(criterion, query) for criterion in self.criteria)
            query.decided[id(self)] = decided
        return decided

    def _criterion_is_met(self, criterion: Criterion, query: Query) -> bool:
        if criterion.attribute == "all":
            met = True
        elif criterion.attribute in ("canonical", "final"):
            met = query.final
        elif criterion.attribute == "host":
            met = matches_list(query.target.lower(), criterion.patterns)
        elif criterion.attribute == "originalhost":
            met = matches_list(query.original_host.lower(), criterion.patterns)
        elif criterion.attribute == "user":
            met = matches_list(query.user, criterion.patterns)
        elif criterion.attribute == "localuser":
            met = matches_list(query.environment.user, criterion.patterns)
        elif criterion.attribute == "tagged":
            met = matches_list(query.text("Tag") or "", criterion.patterns)
        elif criterion.attribute == "localnetwork":
            met = self._has_address_in(criterion.networks, query)
        elif criterion.attribute == "exec":
            met = self._command_succeeds(criterion.patterns[0], query)
        else:
            # Either guess, met or not met, could lead to the wrong host or the wrong user.
            raise self._error(
                f"'Match {criterion.attribute}' is not supported: remove it or give other files"
            )
        return met != criterion.negated

    def _command_succeeds(self, command: str, query: Query) -> bool:
        if not query.allow_match_exec:
            raise self._error("'Match exec' runs a command: allow it with allow_match_exec=True")
        try:
            return query.succeeds(expand_shell_tokens(command, query.tokens()))
        except ValueError as error:
            raise self._error(f"Match exec: {error}") from None

    def _has_address_in(self, networks: tuple[Network, ...], query: Query) -> bool:
        try:
            addresses = query.local_addresses()
        except ValueError as error:
            raise self._error(f"Match localnetwork: {error}") from None
        return any(address in network for address in addresses for network in networks)

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, self.filename, self.line)


Condition = Union[HostCondition, MatchCondition]


_MATCH_SUPPORTED = {
    "all",
    "canonical",
    "exec",
    "final",
    "host",
    "localnetwork",
    "localuser",
    "originalhost",
    "tagged",
    "user",
}
_MATCH_UNSUPPORTED = {"command", "sessiontype", "version"}
_MATCH_ALONE = frozenset({"all", "canonical", "final"})


def parse_match(words: Sequence[str], filename: str, line: int) -> MatchCondition:
    """Parse the criteria of a ``Match`` line.

    Raises:
        ConfigurationError: a criterion is unknown, lacks its value, has a value that is no list of
            networks, or cannot be combined.
    """
    criteria: list[Criterion] = []
    pending = list(words)
    while pending:
        attribute, equals, value = pending.pop(0).partition("=")
        negated = attribute.startswith("!")
        attribute = attribute.lstrip("!").lower() if negated else attribute.lower()
        if attribute not in _MATCH_SUPPORTED | _MATCH_UNSUPPORTED:
            raise ConfigurationError(f"unknown Match criterion {attribute!r}", filename, line)
        patterns: tuple[str, ...] = ()
        networks: tuple[Network, ...] = ()
        if attribute not in _MATCH_ALONE:
            if not equals and pending:
                value = pending.pop(0)
            if not value:
                raise ConfigurationError(f"'Match {attribute}' lacks its value", filename, line)
            if attribute == "exec":
                patterns = (value,)
            elif attribute == "localnetwork":
                networks = _parse_networks(value, filename, line)
            elif attribute in ("host", "originalhost"):
                patterns = tuple(value.lower().split(","))
            else:
                patterns = tuple(value.split(","))
        criteria.append(Criterion(attribute, patterns, negated, networks))
    for number, criterion in enumerate(criteria):
        before = criteria[number - 1].attribute if number else "final"
        alone = number == len(criteria) - 1 and number <= 1 and before in ("final", "canonical")
        if criterion.attribute == "all" and not alone:
            raise ConfigurationError(
                "'Match all' cannot be combined with other criteria", filename, line
            )
    return MatchCondition(tuple(criteria), filename, line)


def _parse_networks(value: str, filename: str, line: int) -> tuple[Network, ...]:
    """Parse a list of networks in CIDR notation.

    Raises:
        ConfigurationError: an entry is not valid, or has bits behind its prefix, as in 10.1.2.3/8.
    """
    networks = []
    for text in value.split(","):
        try:
            if not re.fullmatch(
                r"[0-9a-fA-F.:]+(/[0-9]+)?", text
            ):  # no netmask: 10.0.0.0/255.0.0.0
                raise ValueError(f"{text!r} is not an address with a prefix length")
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigurationError(
                f"Match localnetwork: {error}: write networks as in 10.0.0.0/8,fd00::/8",
                filename,
                line,
            ) from None
    return tuple(networks)
