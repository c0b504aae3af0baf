"""OpenSSH client configuration: reads each file once, for all hosts.

The format and its rules are those of ssh_config(5): the first value of a keyword wins, IdentityFile
and a few others add up, ``Host`` and ``Match`` limit the lines below them to some hosts, and
``Include`` reads further files in place.

Reading and lookup are separate. :class:`SSHConfig` holds the contents of one file, with all files
that it includes: a flat tuple of sections, each with its conditions. :func:`.lookup.lookup` goes
through the sections for one host. A thousand ``Host`` blocks cost little, because sections are
found by the literal beginnings or ends of their patterns.
"""

from __future__ import annotations

import glob
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ... import platform
from ...exceptions import ConfigurationError
from ...filetrust import why_refused, why_untrusted
from .conditions import Condition, HostCondition, MatchCondition, parse_match
from .configline import Setting, parse_line
from .environment import Environment
from .filestamp import Stamp, file_stamp
from .memo import LookupPending, Memo

logger = logging.getLogger("pyclustershell.sshconfig")

MAX_INCLUDE_DEPTH = 16
"""The deepest level of ``Include``, as in OpenSSH."""


# -- contents --------------------------------------------------------------------------------------


@dataclass
class Section:
    """Settings with the same conditions: those of their block and of all blocks around it."""

    conditions: tuple[Condition, ...]
    settings: list[Setting] = field(default_factory=list)


class SSHConfig:
    """The contents of one configuration file, with all files that it includes. Immutable.

    Attributes:
        sections: the sections, in the order of the file.
        has_final: True if there is a ``Match final``, which requires a second pass.
        stamps: the stamps of all files that were read, by path, to notice changes.
        directory: relative names of included files start from this directory.
        check_owner: True if its files must not be writable by others.
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
        """Return the sections that may apply to this host, in order."""
        numbers = set(self._everywhere)
        for cut in range(len(host) + 1):
            numbers.update(self._by_literal.get((host[:cut], ""), ()))
            numbers.update(self._by_literal.get(("", host[cut:]), ()))
        return (self.sections[number] for number in sorted(numbers))


# -- reading ---------------------------------------------------------------------------------------


class _Reader:
    """Reads one file and the files that it includes into a flat list of sections."""

    def __init__(self, directory: str, environment: Environment, check_owner: bool) -> None:
        self.sections: list[Section] = []
        self.stamps: dict[str, Stamp] = {}
        self._directory = directory
        self._environment = environment
        self._check_owner = check_owner
        self._ignore: tuple[str, ...] = ()

    def read(self, path: str, around: tuple[Condition, ...] = (), depth: int = 0) -> None:
        """Read a file; ``around`` holds the conditions of the block that includes it.

        Raises:
            OSError: the file cannot be read.
            ConfigurationError: a line in it, or in a file that it includes, is wrong.
        """
        # Take the stamp first: a change during the reading is then noticed afterwards.
        self.stamps[path] = file_stamp(path)
        reason = why_refused(path)
        if reason is not None:
            # No error: then any user of Windows could keep the others from their nodes.
            logger.warning("%s: it is not read: %s", path, reason)
            return
        # newline="\n": a carriage return alone ends no line in OpenSSH.
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
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
                        # The path depends on the host: the lookup of a host reads the file.
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
            raise ConfigurationError(
                f"more than {MAX_INCLUDE_DEPTH} levels of Include: does the file include itself?",
                filename,
                line,
            )
        path = os.path.join(self._directory, self._environment.expand_home(pattern))
        # A new file in the directory must be noticed, so the directory gets a stamp as well.
        self.stamps[os.path.dirname(path)] = file_stamp(os.path.dirname(path))
        for name in sorted(glob.glob(path)):
            try:
                self.read(name, around, depth + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                if os.path.isdir(name):
                    continue  # ssh finds no lines in a directory.
                raise ConfigurationError(
                    f"cannot read {name}: {error.strerror}", filename, line
                ) from error


def _check_owner(path: str, status: os.stat_result) -> None:
    """Refuse a file that another user can write to, as OpenSSH does.

    Raises:
        ConfigurationError: the owner or the mode is not safe.
    """
    if not platform.POSIX_FILES:
        reason = why_untrusted(path)
        if reason is not None:
            raise ConfigurationError(
                f"bad owner or permissions: {reason}: change them with icacls", path
            )
        return
    if status.st_uid not in (0, os.getuid()):
        raise ConfigurationError("bad owner: the file must belong to you or to root (chown)", path)
    if status.st_mode & 0o022:
        raise ConfigurationError("bad permissions: others can write to it (chmod go-w)", path)


class ConfigCache:
    """Configuration files, each read again only after a change. Safe to use from several threads.

    Attributes:
        environment: this machine and its user.
        memo: the results of commands and name lookups.
    """

    def __init__(self, environment: Optional[Environment] = None) -> None:
        """Make an empty cache.

        Args:
            environment: this machine and its user; by default those of this process.
        """
        self.environment = environment or Environment()
        self.memo = Memo()
        # By path; held while the file is read, so that one thread reads it. Other files may be on a
        # disk that answers.
        self._reading: dict[str, threading.Lock] = {}
        self._configs: dict[str, SSHConfig] = {}
        self._warning = threading.Lock()
        self._warned: set[tuple[str, str, int]] = set()

    def included(self, config: SSHConfig, pattern: str, wait: bool = True) -> list[SSHConfig]:
        """Return the files that match the pattern of an ``Include`` line.

        Args:
            config: the configuration that contains the line.
            pattern: the pattern, with its tokens expanded.
            wait: True if the calling thread may wait for a disk.

        Raises:
            ConfigurationError: a file cannot be read, or a line in it is wrong.
            LookupPending: the calling thread may not wait.
        """
        if not wait:
            raise LookupPending
        path = os.path.join(config.directory, self.environment.expand_home(pattern))
        found = (
            self._load(name, config.directory, config.check_owner)
            for name in sorted(glob.glob(path))
            if not os.path.isdir(name)
        )
        return [included for included in found if included is not None]

    def defaults(self, wait: bool = True) -> list[SSHConfig]:
        """Return the user's and the system's configuration, as far as they exist.

        Args:
            wait: True if the calling thread may wait for a disk.

        Raises:
            ConfigurationError: a file cannot be read, or a line in it is wrong.
            LookupPending: a file may have to be read, and the calling thread may not wait.
        """
        user_directory = self.environment.user_directory
        system_directory = self.environment.system_directory
        found = [
            self._load(os.path.join(user_directory, "config"), user_directory, True, wait),
            self._load(os.path.join(system_directory, "ssh_config"), system_directory, False, wait),
        ]
        return [config for config in found if config is not None]

    def load(self, path: str, wait: bool = True) -> SSHConfig:
        """Return the contents of a file that the user named.

        Args:
            path: the file's path.
            wait: True if the calling thread may wait for a disk.

        Raises:
            ConfigurationError: the file does not exist or cannot be read, or a line in it is wrong.
            LookupPending: the file may have to be read, and the calling thread may not wait.
        """
        path = os.path.abspath(self.environment.expand_home(path, wait))
        config = self._load(path, self.environment.user_directory, False, wait)
        if config is None:
            raise ConfigurationError("no such configuration file", path)
        return config

    def _load(
        self, path: str, directory: str, check_owner: bool, wait: bool = True
    ) -> Optional[SSHConfig]:
        if not wait:
            return self._loaded(path)
        with self._reading.setdefault(path, threading.Lock()):
            config = self._configs.get(path)
            if config is not None:
                if all(file_stamp(name) == stamp for name, stamp in config.stamps.items()):
                    return config
                del self._configs[path]
            reader = _Reader(directory, self.environment, check_owner)
            try:
                reader.read(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise ConfigurationError(f"cannot be read: {error.strerror}", path) from error
            config = SSHConfig(reader.sections, reader.stamps, directory, check_owner)
            self._configs[path] = config
            return config

    def _loaded(self, path: str) -> Optional[SSHConfig]:
        """Return a file's contents without asking the disk; None if there is no such file.

        Raises:
            LookupPending: the file may have to be read.
        """
        config = self._configs.get(path)
        stamps: Mapping[str, Stamp] = {path: None} if config is None else config.stamps
        if not all(file_stamp(name, wait=False) == stamp for name, stamp in stamps.items()):
            raise LookupPending
        return config

    def warn_once(self, setting: Setting, message: str) -> None:
        """Log a warning once per line of configuration."""
        place = (setting.keyword, setting.filename, setting.line)
        with self._warning:
            if place in self._warned:
                return
            self._warned.add(place)
        logger.warning("%s: %s %s", setting.place, setting.keyword, message)
