"""OpenSSH client configuration: files read once, questions answered per host.

The format and its rules are those of ssh_config(5): the first value of a keyword wins, IdentityFile
and a few others add up, ``Host`` and ``Match`` say for which hosts the lines below them hold, and
``Include`` reads further files in place.

Reading and answering are apart. :class:`SSHConfig` is what one file (with all it includes) says: a
flat tuple of sections, each with the conditions under which it holds. :func:`.lookup.lookup` goes
through the sections for one host. A thousand ``Host`` blocks cost little, because sections are
found by the literal beginnings or ends of their patterns.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ... import platform
from ...exceptions import ConfigurationError
from .answers import Answers
from .conditions import Condition, HostCondition, MatchCondition, parse_match
from .context import LocalContext, Stamp, file_stamp, matches_list
from .keywords import find_keyword, nearest_keyword

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
        directory: where the names of included files begin.
        check_owner: whether its files must not be writable by others.
    """

    def __init__(
        self,
        sections: Sequence[Section],
        stamps: Mapping[str, Stamp],
        directory: str,
        check_owner: bool,
    ) -> None:
        self.directory = directory
        self.check_owner = check_owner
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
                section = self._open((*around, parse_match(words, path, number)))
            elif setting.keyword == "Include":
                for pattern in words:
                    if "%" in pattern or "${" in pattern:
                        # What it stands for depends on the host: it is read when one is asked for.
                        section.settings.append(Setting("Include", pattern, path, number))
                    else:
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
    if not platform.POSIX_FILES:
        return
    if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
        raise ConfigurationError("bad owner or permissions: others could write to it", path)


class ConfigCache:
    """Configuration files, each read once until it changes. Safe to use from several threads.

    Attributes:
        context: who and where we are.
        answers: what commands and names have been found to be.
    """

    def __init__(self, context: Optional[LocalContext] = None) -> None:
        """Make an empty cache.

        Args:
            context: who and where we are; by default, found out when needed.
        """
        self.context = context or LocalContext()
        self.answers = Answers()
        self._lock = threading.Lock()
        self._configs: dict[str, SSHConfig] = {}
        self._warned: set[tuple[str, str, int]] = set()

    def included(self, config: SSHConfig, pattern: str) -> list[SSHConfig]:
        """Return the files that an Include of a configuration means, its tokens expanded.

        Raises:
            ConfigurationError: one cannot be read, or is wrong.
        """
        path = os.path.join(config.directory, self.context.expand_home(pattern))
        found = (
            self._load(name, config.directory, config.check_owner)
            for name in sorted(glob.glob(path))
        )
        return [included for included in found if included is not None]

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
            config = SSHConfig(reader.sections, reader.stamps, directory, check_owner)
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
