"""``Host`` and ``Match``: under which conditions the lines below them hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ...exceptions import ConfigurationError
from .context import expand_tokens, matches_list

if TYPE_CHECKING:
    from .lookup import Query


@dataclass(frozen=True)
class HostCondition:
    """``Host``: the host name is matched by one of the patterns, and by no negated one."""

    patterns: tuple[str, ...]

    def holds(self, query: Query) -> bool:
        """Tell whether the lines below hold for this query."""
        return matches_list(query.host, self.patterns)

    def literals(self) -> Iterator[tuple[str, str]]:
        """The literal beginning or, where there is none, the literal end of each pattern.

        A host that has none of them is not meant.
        """
        for pattern in self.patterns:
            if not pattern.startswith("!"):
                pieces = re.split(r"[*?]", pattern)
                yield (pieces[0], "") if pieces[0] else ("", pieces[-1])


@dataclass(frozen=True)
class Criterion:
    """One criterion of a ``Match`` line; patterns of host names are in lower case."""

    attribute: str
    patterns: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class MatchCondition:
    """``Match``: all criteria hold."""

    criteria: tuple[Criterion, ...]
    filename: str
    line: int

    def holds(self, query: Query) -> bool:
        """Tell whether the lines below hold for this query.

        It is decided once in a pass: what the lines below say of User and HostName does not end
        their own block.

        Raises:
            ConfigurationError: the answer depends on a criterion that is not supported.
            Unanswered: it depends on a command that has yet to be run.
        """
        decided = query.decided.get(id(self))
        if decided is None:
            decided = all(self._is_met(criterion, query) for criterion in self.criteria)
            query.decided[id(self)] = decided
        return decided

    def _is_met(self, criterion: Criterion, query: Query) -> bool:
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
            met = matches_list(query.context.user, criterion.patterns)
        elif criterion.attribute == "exec":
            met = self._is_executed(criterion.patterns[0], query)
        else:
            # Taking it for met or for unmet could both lead to the wrong host or the wrong user.
            raise self._error(f"'Match {criterion.attribute}' is not supported")
        return met != criterion.negated

    def _is_executed(self, command: str, query: Query) -> bool:
        if not query.allow_match_exec:
            raise self._error("'Match exec' runs a command: allow it with allow_match_exec=True")
        try:
            return query.succeeds(expand_tokens(command, query.tokens()))
        except ValueError as error:
            raise self._error(f"Match exec: {error}") from None

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, self.filename, self.line)


Condition = Union[HostCondition, MatchCondition]


_MATCH_SUPPORTED = {
    "all",
    "canonical",
    "exec",
    "final",
    "host",
    "localuser",
    "originalhost",
    "user",
}
_MATCH_UNSUPPORTED = {"command", "localnetwork", "sessiontype", "tagged", "version"}
_MATCH_ALONE = frozenset({"all", "canonical", "final"})


def parse_match(words: Sequence[str], filename: str, line: int) -> MatchCondition:
    """Read the criteria of a ``Match`` line.

    Raises:
        ConfigurationError: they are wrong.
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
        if attribute not in _MATCH_ALONE:
            if not equals and pending:
                value = pending.pop(0)
            if not value:
                raise ConfigurationError(f"'Match {attribute}' lacks its value", filename, line)
            if attribute == "exec":
                patterns = (value,)
            elif attribute in ("host", "originalhost"):
                patterns = tuple(value.lower().split(","))
            else:
                patterns = tuple(value.split(","))
        criteria.append(Criterion(attribute, patterns, negated))
    for number, criterion in enumerate(criteria):
        before = criteria[number - 1].attribute if number else "final"
        alone = number == len(criteria) - 1 and number <= 1 and before in ("final", "canonical")
        if criterion.attribute == "all" and not alone:
            raise ConfigurationError("'Match all' cannot be combined", filename, line)
    return MatchCondition(tuple(criteria), filename, line)
