"""OpenSSH client configuration: files read once, questions answered per host.

The format and its rules are those of ssh_config(5): the first value of a keyword wins, IdentityFile
and a few others add up, ``Host`` and ``Match`` say for which hosts the lines below them hold, and
``Include`` reads further files in place.

Reading and answering are apart. :class:`SSHConfig` is what one file (with all it includes) says: a
flat tuple of sections, each with the conditions under which it holds. :func:`lookup` goes through
the sections for one host. A thousand ``Host`` blocks cost little, because sections are found by the
literal beginnings or ends of their patterns.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

from ...exceptions import ConfigurationError
from .context import LocalContext, Stamp, expand_hostname, file_stamp, matches_list
from .keywords import Keyword, Treatment, find_keyword, nearest_keyword

logger = logging.getLogger("pyclustershell.sshconfig")

MAX_INCLUDE_DEPTH = 16
"""How deep files may include files, as in OpenSSH."""

COMMAND_LINE = "command line"
"""The 'file' of an option that was given by ``-o``."""


# -- what a file says ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One keyword with its value, and where it was said.

    Attributes:
        keyword: the keyword, spelt as in the manual page.
        value: the value, as the keyword's parser made it.
        filename: the file, or ``COMMAND_LINE``.
        line: the line in that file, counted from 1.
    """

    keyword: str
    value: object
    filename: str
    line: int

    @property
    def place(self) -> str:
        """Where it was said, for messages."""
        if self.filename == COMMAND_LINE:
            return "the command line"
        return f"{self.filename} line {self.line}"


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
        else:
            # Taking it for met or for unmet could both lead to the wrong host or the wrong user.
            raise ConfigurationError(
                f"'Match {criterion.attribute}' is not supported", self.filename, self.line
            )
        return met != criterion.negated


Condition = Union[HostCondition, MatchCondition]


@dataclass
class Section:
    """Settings that hold under the same conditions: those of its block, and of all around it."""

    conditions: tuple[Condition, ...]
    settings: list[Setting] = field(default_factory=list)


class SSHConfig:
    """What one configuration file says, with all files that it includes. Not changed any more.

    Attributes:
        sections: in the order in which they are written.
        has_final: whether there is a ``Match final``, which asks for a second pass.
        stamps: the files that were read and their state, to tell when they have changed.
    """

    def __init__(self, sections: Sequence[Section], stamps: Mapping[str, Stamp]) -> None:
        self.sections = tuple(section for section in sections if section.settings)
        self.stamps = dict(stamps)
        self.has_final = any(
            criterion.attribute == "final"
            for section in sections
            for condition in section.conditions
            if isinstance(condition, MatchCondition)
            for criterion in condition.criteria
        )
        self._everywhere: list[int] = []
        self._by_literal: dict[tuple[str, str], list[int]] = {}
        for number, section in enumerate(self.sections):
            hosts = [item for item in section.conditions if isinstance(item, HostCondition)]
            if not hosts:
                self._everywhere.append(number)
                continue
            for literal in set(hosts[-1].literals()):
                self._by_literal.setdefault(literal, []).append(number)

    def candidates(self, host: str) -> Iterator[Section]:
        """Go through the sections that may hold for this host, in order."""
        numbers = set(self._everywhere)
        for cut in range(len(host) + 1):
            numbers.update(self._by_literal.get((host[:cut], ""), ()))
            numbers.update(self._by_literal.get(("", host[cut:]), ()))
        return (self.sections[number] for number in sorted(numbers))


# -- reading ---------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Split the rest of a configuration line into words, as OpenSSH does since release 8.7.

    Single and double quotes group, a backslash escapes quotes, itself and, outside of quotes, a
    space; ``#`` at the beginning of a word begins a comment.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[str] = []
    word: Optional[str] = None
    quote = ""
    position = 0
    while position < len(text):
        letter = text[position]
        following = text[position + 1 : position + 2]
        position += 1
        if word is None:
            if letter in " \t":
                continue
            if letter == "#":
                break
            word = ""
        if (
            letter == "\\"
            and following
            and (following in "'\"\\" or (following == " " and not quote))
        ):
            word += following
            position += 1
        elif letter == quote:
            quote = ""
        elif quote:
            word += letter
        elif letter in "'\"":
            quote = letter
        elif letter in " \t":
            words.append(word)
            word = None
        else:
            word += letter
    if quote:
        raise ValueError(f"no closing quotation {quote}")
    if word is not None:
        words.append(word)
    return words


_LINE = re.compile(
    r'[ \t]*(?:"(?P<quoted>[^"]*)"|(?P<plain>[^ \t="]+))[ \t]*=?[ \t]*(?P<rest>.*)', re.DOTALL
)


def parse_line(
    text: str, filename: str, line: int, ignore: Sequence[str] = ()
) -> Optional[Setting]:
    """Read one line of configuration.

    Args:
        text: the line.
        filename: the file it is in, for messages.
        line: its number.
        ignore: patterns of unknown keywords to pass over (IgnoreUnknown).

    Returns:
        The setting, or None for an empty line, a comment and an ignored keyword. Unsupported
        keywords are returned too: warning of them is for :func:`lookup`, when they apply.

    Raises:
        ConfigurationError: it is no valid line.
    """
    text = text.strip(" \t\r\n\f")
    if not text or text.startswith("#"):
        return None
    parts = _LINE.fullmatch(text)
    if parts is None:
        raise ConfigurationError(f"{text!r} does not begin with a keyword", filename, line)
    name = parts["quoted"] if parts["plain"] is None else parts["plain"]
    keyword = find_keyword(name)
    if keyword is None:
        if matches_list(name.lower(), ignore):
            return None
        near = nearest_keyword(name)
        hint = f" (did you mean {near}?)" if near else ""
        raise ConfigurationError(f"unknown keyword {name!r}{hint}", filename, line)
    try:
        words = [parts["rest"]] if keyword.raw else split_words(parts["rest"])
        if not words or words == [""]:
            raise ValueError("a value is missing")
        return Setting(keyword.name, keyword.parse(words), filename, line)
    except ValueError as error:
        raise ConfigurationError(f"{keyword.name}: {error}", filename, line) from None


_MATCH_SUPPORTED = {"all", "canonical", "final", "host", "localuser", "originalhost", "user"}
_MATCH_UNSUPPORTED = {"command", "exec", "localnetwork", "sessiontype", "tagged", "version"}
_MATCH_ALONE = frozenset({"all", "canonical", "final"})


def _parse_match(words: Sequence[str], filename: str, line: int) -> MatchCondition:
    """Read the criteria of a ``Match`` line."""
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
            names_host = attribute in ("host", "originalhost")
            patterns = tuple((value.lower() if names_host else value).split(","))
        criteria.append(Criterion(attribute, patterns, negated))
    for number, criterion in enumerate(criteria):
        before = criteria[number - 1].attribute if number else "final"
        alone = number == len(criteria) - 1 and number <= 1 and before in ("final", "canonical")
        if criterion.attribute == "all" and not alone:
            raise ConfigurationError("'Match all' cannot be combined", filename, line)
    return MatchCondition(tuple(criteria), filename, line)


class _Reader:
    """Reads one file and what it includes into a flat list of sections."""

    def __init__(self, directory: str, context: LocalContext, check_owner: bool) -> None:
        self.sections: list[Section] = []
        self.stamps: dict[str, Stamp] = {}
        self._directory = directory
        self._context = context
        self._check_owner = check_owner
        self._ignore: tuple[str, ...] = ()

    def read(self, path: str, around: tuple[Condition, ...] = (), depth: int = 0) -> None:
        """Read a file; ``around`` are the conditions of the block that includes it.

        Raises:
            OSError: it cannot be read.
            ConfigurationError: it, or a file it includes, is wrong.
        """
        # The stamp is taken first: a change while we read then shows as one afterwards.
        self.stamps[path] = file_stamp(path)
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if self._check_owner:
                _check_owner(path, os.fstat(file.fileno()))
            lines = file.read().split("\n")
        section = self._open(around)
        for number, text in enumerate(lines, start=1):
            setting = parse_line(text, path, number, self._ignore)
            if setting is None:
                continue
            words = setting.value if isinstance(setting.value, tuple) else ()
            if setting.keyword == "Host":
                section = self._open((*around, HostCondition(words)))
            elif setting.keyword == "Match":
                section = self._open((*around, _parse_match(words, path, number)))
            elif setting.keyword == "Include":
                for pattern in words:
                    self._include(pattern, path, number, section.conditions, depth)
                section = self._open(section.conditions)
            elif setting.keyword == "IgnoreUnknown":
                self._ignore += tuple(str(setting.value).lower().split(","))
            else:
                section.settings.append(setting)

    def _open(self, conditions: tuple[Condition, ...]) -> Section:
        self.sections.append(Section(conditions))
        return self.sections[-1]

    def _include(
        self, pattern: str, filename: str, line: int, around: tuple[Condition, ...], depth: int
    ) -> None:
        if depth >= MAX_INCLUDE_DEPTH:
            raise ConfigurationError("too many levels of Include", filename, line)
        path = os.path.join(self._directory, self._context.expand_home(pattern))
        # A file that is new in the directory must be noticed, so the directory is watched too.
        self.stamps[os.path.dirname(path)] = file_stamp(os.path.dirname(path))
        for name in sorted(glob.glob(path)):
            try:
                self.read(name, around, depth + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigurationError(
                    f"cannot read {name}: {error.strerror}", filename, line
                ) from error


def _check_owner(path: str, status: os.stat_result) -> None:
    """Refuse a file that another user may have written, as OpenSSH does.

    Raises:
        ConfigurationError: owner or mode are not safe.
    """
    if sys.platform == "win32":
        return
    if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
        raise ConfigurationError("bad owner or permissions: others could write to it", path)


class ConfigCache:
    """Configuration files, each read once until it changes. Safe to use from several threads."""

    def __init__(self, context: Optional[LocalContext] = None) -> None:
        """Make an empty cache.

        Args:
            context: who and where we are; by default, found out when needed.
        """
        self.context = context or LocalContext()
        self._lock = threading.Lock()
        self._configs: dict[str, SSHConfig] = {}
        self._warned: set[tuple[str, str, int]] = set()

    def defaults(self) -> list[SSHConfig]:
        """Return the user's and the system's configuration, those that exist.

        Raises:
            ConfigurationError: one is wrong.
        """
        user_directory = self.context.user_directory
        system_directory = self.context.system_directory
        found = [
            self._load(os.path.join(user_directory, "config"), user_directory, True),
            self._load(os.path.join(system_directory, "ssh_config"), system_directory, False),
        ]
        return [config for config in found if config is not None]

    def load(self, path: str) -> SSHConfig:
        """Return what one file says that was named explicitly.

        Raises:
            ConfigurationError: it does not exist, cannot be read or is wrong.
        """
        path = os.path.abspath(self.context.expand_home(path))
        config = self._load(path, self.context.user_directory, False)
        if config is None:
            raise ConfigurationError("no such configuration file", path)
        return config

    def _load(self, path: str, directory: str, check_owner: bool) -> Optional[SSHConfig]:
        with self._lock:
            config = self._configs.get(path)
            if config is not None:
                if all(file_stamp(name) == stamp for name, stamp in config.stamps.items()):
                    return config
                del self._configs[path]
            reader = _Reader(directory, self.context, check_owner)
            try:
                reader.read(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise ConfigurationError(f"cannot be read: {error.strerror}", path) from error
            config = SSHConfig(reader.sections, reader.stamps)
            self._configs[path] = config
            return config

    def warn_once(self, setting: Setting, message: str) -> None:
        """Log a warning, once for each place in the configuration."""
        place = (setting.keyword, setting.filename, setting.line)
        with self._lock:
            if place in self._warned:
                return
            self._warned.add(place)
        logger.warning("%s: %s %s", setting.place, setting.keyword, message)


# -- answering -------------------------------------------------------------------------------------


_COMPETING = {"ProxyJump": "ProxyCommand", "ProxyCommand": "ProxyJump"}
"""Whichever of these comes first makes the other void, as ssh_config(5) says of ProxyJump."""


class Query:
    """The question what holds for one host, and the answers found so far.

    Attributes:
        host: the name that ``Host`` patterns are matched against.
        original_host: the name as the user gave it.
        final: whether this is the second pass, in which ``Match final`` holds.
        context: who and where we are.
        decided: by the identity of a ``Match`` line, whether it holds in this pass.
    """

    def __init__(self, host: str, context: LocalContext) -> None:
        self.host = host
        self.original_host = host
        self.final = False
        self.context = context
        self.decided: dict[int, bool] = {}
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


def lookup(
    configs: Sequence[SSHConfig],
    host: str,
    given: Sequence[Setting] = (),
    cache: Optional[ConfigCache] = None,
) -> Query:
    """Find what holds for a host.

    Args:
        configs: the files in their order of precedence.
        host: the host as the user named it.
        given: settings that come before all files: command line and code.
        cache: gives the local context and remembers which warnings were given.

    Raises:
        ConfigurationError: a condition that matters cannot be evaluated.
    """
    cache = cache or ConfigCache()
    query = Query(host, cache.context)
    for setting in given:
        _take(query, setting, cache)
    _pass(query, configs, cache)
    canonicalize = query.flag("CanonicalizeHostname", False)
    if canonicalize or any(config.has_final for config in configs):
        # ssh_config(5): the files are read again, now with the name that we are going to use.
        query.host = query.target.lower()
        query.final = True
        _pass(query, configs, cache)
    return query


def _pass(query: Query, configs: Sequence[SSHConfig], cache: ConfigCache) -> None:
    query.decided.clear()
    for config in configs:
        for section in config.candidates(query.host):
            if all(condition.holds(query) for condition in section.conditions):
                for setting in section.settings:
                    _take(query, setting, cache)


def _take(query: Query, setting: Setting, cache: ConfigCache) -> None:
    keyword = find_keyword(setting.keyword)
    if keyword is None or keyword.treatment is Treatment.SILENT or setting.value is None:
        return  # A time of 'none' is as good as unset, and a later one wins, as in OpenSSH.
    if keyword.treatment is Treatment.WARNED and query.get(keyword.name) is None:
        words = setting.value if isinstance(setting.value, tuple) else ()
        if not (words and str(words[0]).lower() in keyword.neutral):
            cache.warn_once(setting, "is not supported and is ignored")
    query.take(setting, keyword)
