"""clush.conf: its files, its modes, and the options of the command line that override them."""

from __future__ import annotations

import glob
import optparse
import os
from collections.abc import Iterator
from configparser import (
    ConfigParser,
    DuplicateOptionError,
    DuplicateSectionError,
    InterpolationError,
    MissingSectionHeaderError,
    NoOptionError,
    NoSectionError,
)
from string import Template
from typing import Any, Callable, Optional, TypeVar

from .. import platform
from ..defaults import DEFAULTS, config_paths
from ..filetrust import why_refused
from .labelled import VERB_DEBUG, VERB_QUIET, VERB_STD, VERB_VERB
from .options import THREE_CHOICES
from .program import Failure

T = TypeVar("T")

_MAIN = "Main"
_MODE = "mode:"

#: The keys with values of their own, and these values.
_BUILT_IN = {
    "history_size": "100",
    "color": "",
    "verbosity": str(VERB_STD),
    "node_count": "yes",
    "maxrc": "no",
    "fd_max": "8192",
    "command_prefix": "",
    "password_prompt": "no",
}

#: The keys whose built-in values are those of DEFAULTS.
_DEFAULTS = ("fanout", "connect_timeout", "command_timeout")

#: The keys whose text is a key of the task's info as well.
TEXT_KEYS = (
    "ssh_user",
    "ssh_path",
    "ssh_options",
    "scp_path",
    "scp_options",
    "rsh_path",
    "rcp_path",
    "rsh_options",
)

#: All keys.
KEYS = (*_DEFAULTS, *_BUILT_IN, *TEXT_KEYS, "confdir")

#: The options of the command line that set a key to their value.
_VALUES = {
    "fanout": "fanout",
    "user": "ssh_user",
    "options": "ssh_options",
    "connect_timeout": "connect_timeout",
    "command_timeout": "command_timeout",
    "whencolor": "color",
    "maxrc": "maxrc",
}

#: The options that set the verbosity; the last one that is given counts.
_VERBOSITIES = {"quiet": VERB_QUIET, "verbose": VERB_VERB, "debug": VERB_DEBUG}


class ClushConfigError(Failure):
    """A value in clush.conf, or of -O, is wrong.

    Args:
        section: the section of the value, or None.
        option: its key, or None.
        msg: what is wrong, as text or as an exception.
    """

    def __init__(
        self, section: Optional[str] = None, option: Optional[str] = None, msg: object = None
    ) -> None:
        super().__init__(section, option, msg)
        self.section = section
        self.option = option
        self.msg = msg

    def __str__(self) -> str:
        place = f"(Config {self.section}.{self.option}): " if self.section and self.option else ""
        return f"{place}{self.msg or ''}"


def _is_number(text: str, least: int) -> bool:
    try:
        return int(text) >= least
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def _is_truth(text: str) -> bool:
    return text.lower() in ConfigParser.BOOLEAN_STATES


#: For keys that take not any text: whether a text is right, and what to write.
_RIGHT: dict[str, tuple[Callable[[str], bool], str]] = {
    "fanout": (lambda text: _is_number(text, 1), "a number from 1 on"),
    "fd_max": (lambda text: _is_number(text, 0), "a number from 0 on"),
    "history_size": (lambda text: _is_number(text, -1), "a number of commands, or -1 for all"),
    "verbosity": (lambda text: _is_number(text, 0), "a number from 0 to 3"),
    "connect_timeout": (_is_time, "a time in seconds"),
    "command_timeout": (_is_time, "a time in seconds, or 0 for no limit"),
    "color": (lambda text: text in THREE_CHOICES, "never, always or auto"),
    "node_count": (_is_truth, "yes or no"),
    "maxrc": (_is_truth, "yes or no"),
    "password_prompt": (_is_truth, "yes or no"),
}


def why_unreadable(error: Exception) -> str:
    """Why a clush.conf cannot be read, and what to do about it.

    Args:
        error: what ClushConfig has raised: a configparser.Error, an OSError or a UnicodeError.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeError):
        return "the file is not UTF-8"
    if isinstance(error, MissingSectionHeaderError):
        return f"{error.source} line {error.lineno}: no section begins above it: add [Main]"
    if isinstance(error, (DuplicateOptionError, DuplicateSectionError)):
        name = error.args[1] if isinstance(error, DuplicateOptionError) else f"[{error.section}]"
        return f"{error.source} line {error.lineno}: {name} is there twice: remove one"
    return " ".join(str(error).split())


class ClushConfig:
    """The settings of clush.

    The command line wins over the section of the mode, which wins over the section Main, which wins
    over the built-in values.

    Args:
        options: the values of the OptionParser.
        filename: the only file to read; None: all of those that config_paths() lists.

    Attributes:
        mode: the name of the mode, or None; see :meth:`set_mode`.
        parsed: the paths of the files that were read.

    Raises:
        ClushConfigError: ``confdir`` or the value of -O is wrong.
        OSError: ``filename`` cannot be read.
        configparser.Error: a file is no configuration file.
    """

    def __init__(self, options: optparse.Values, filename: Optional[str] = None) -> None:
        self.mode: Optional[str] = None
        self._parser = ConfigParser()
        built_in = {
            **_BUILT_IN,
            **{key: str(getattr(DEFAULTS, key)) for key in _DEFAULTS},
        }
        # The keys that the command line sets.
        self._given: set[str] = set()
        if filename:
            with open(filename, encoding="utf-8-sig") as file:
                self._parser.read_file(file, filename)
            self.parsed = [filename]
        else:
            self.parsed = self._parser.read(config_paths("clush.conf"), encoding="utf-8-sig")
        if self.parsed:
            self._read_directories(os.path.dirname(self.parsed[-1]))
        if not self._parser.has_section(_MAIN):
            self._parser.add_section(_MAIN)
        # The keys of Main that only have their built-in values.
        self._built_in = {key for key in built_in if not self._parser.has_option(_MAIN, key)}
        for key in self._built_in:
            self._parser.set(_MAIN, key, built_in[key])
        self._apply(options)

    def _read_directories(self, base: str) -> None:
        """Read the files in the directories that ``confdir`` names; $CFGDIR stands for base."""
        names = self._optional(_MAIN, "confdir") or ""
        paths = (
            os.path.normpath(Template(name).safe_substitute(CFGDIR=base))
            for name in platform.split_words(names)
        )
        for path in dict.fromkeys(paths):
            if os.path.isdir(path):
                files = sorted(glob.glob(os.path.join(glob.escape(path), "*.conf")))
                trusted = [file for file in files if why_refused(file) is None]
                self.parsed += self._parser.read(trusted, encoding="utf-8-sig")
            elif os.path.exists(path):
                raise ClushConfigError(msg=f"Defined confdir {path} is not a directory")

    def _apply(self, options: optparse.Values) -> None:
        for name, verbosity in _VERBOSITIES.items():
            if getattr(options, name, None):
                self._set_main("verbosity", verbosity)
        for name, key in _VALUES.items():
            value = getattr(options, name, None)
            if value:
                self._set_main(key, value)
        for text in getattr(options, "option", ()):
            key, found, value = text.partition("=")
            if not found:
                raise ClushConfigError(_MAIN, text, "invalid -O/--option value")
            self._set_main(key, value)

    def _set_main(self, option: str, value: object) -> None:
        """Set a key for this run, as an option of the command line does."""
        self._parser.set(_MAIN, option, str(value))
        self._given.add(self._parser.optionxform(option))

    # -- lookup --

    def _section(self, key: str) -> str:
        """The section whose value of a key counts."""
        if self.mode is not None and key not in self._given:
            section = f"{_MODE}{self.mode}"
            if self._parser.has_option(section, key):
                return section
        return _MAIN

    def _optional(self, section: str, key: str) -> Optional[str]:
        try:
            return self._parser.get(section, key)
        except (NoOptionError, NoSectionError):
            return None

    def _text(self, key: str) -> Optional[str]:
        """The value of a key; None if there is none."""
        return self._optional(self._section(key), key)

    def _convert(self, key: str, get: Callable[[str, str], T], section: str = "") -> T:
        section = section or self._section(key)
        try:
            return get(section, key)
        except (TypeError, ValueError) as error:
            raise ClushConfigError(section, key, error) from None

    def is_set(self, key: str) -> bool:
        """True if the command line or a file sets a key."""
        return key in self._given or self._section(key) != _MAIN or key not in self._built_in

    @property
    def verbosity(self) -> int:
        """VERB_QUIET to VERB_DEBUG; VERB_QUIET for a wrong value. The same in all modes."""
        try:
            return self._convert("verbosity", self._parser.getint, _MAIN)
        except ClushConfigError:
            return VERB_QUIET

    @property
    def color(self) -> str:
        """One of THREE_CHOICES."""
        when = self._text("color")
        if when not in THREE_CHOICES:
            raise ClushConfigError(self.mode or _MAIN, "color", f"choose from {THREE_CHOICES}")
        return when

    @property
    def fanout(self) -> int:
        """The number of nodes to run on at once."""
        return self._convert("fanout", self._parser.getint)

    @property
    def connect_timeout(self) -> float:
        """Seconds for connecting to a node."""
        return self._convert("connect_timeout", self._parser.getfloat)

    @property
    def command_timeout(self) -> float:
        """Seconds for the command on a node; 0 for no limit."""
        return self._convert("command_timeout", self._parser.getfloat)

    @property
    def fd_max(self) -> int:
        """The number of file descriptors that may be open. The same in all modes."""
        return self._convert("fd_max", self._parser.getint, _MAIN)

    @property
    def history_size(self) -> int:
        """The number of commands to keep for the interactive mode."""
        return self._convert("history_size", self._parser.getint)

    @property
    def node_count(self) -> bool:
        """True to print the number of nodes."""
        return self._convert("node_count", self._parser.getboolean)

    @property
    def maxrc(self) -> bool:
        """True to exit with the largest exit status of the nodes."""
        return self._convert("maxrc", self._parser.getboolean)

    @property
    def password_prompt(self) -> bool:
        """True to ask for a password, which the command reads first."""
        return self._convert("password_prompt", self._parser.getboolean)

    @property
    def command_prefix(self) -> Optional[str]:
        """Words before the command."""
        return self._text("command_prefix")

    def __getattr__(self, name: str) -> Optional[str]:
        """The text of a key of ssh, scp, rsh or rcp: None if it is not set."""
        if name in TEXT_KEYS:
            return self._text(name)
        raise AttributeError(f"clush.conf has no key {name!r}")

    def problem(self) -> Optional[str]:
        """The first value that is wrong: where it is, and what to write; None: all are right."""
        for key in KEYS:
            section = self._section(key)
            option = f"-O {key}" if key in self._given else f"[{section}] {key}"
            place = (
                option if key in self._given or not self.parsed else f"{self.parsed[-1]}: {option}"
            )
            try:
                value = self._text(key)
                if value is not None and key in _RIGHT:
                    is_right, wanted = _RIGHT[key]
                    if not is_right(value):
                        return f"{place} is {value!r}: write {wanted}"
                if key == "command_prefix":
                    platform.split_words(value or "")
            except InterpolationError:
                return f"{place}: write %% for a percent sign"
            except ValueError as error:
                return f"{place} is {value!r}: {error}"
        return None

    # -- modes --

    def modes(self) -> Iterator[str]:
        """The names of the modes, in the order of the files."""
        for section in self._parser.sections():
            if section.startswith(_MODE):
                yield section[len(_MODE) :]

    def set_mode(self, mode: str) -> None:
        """Choose a mode.

        Raises:
            ClushConfigError: there is no such mode.
        """
        if mode not in self.modes():
            available = " ".join(self.modes())
            raise ClushConfigError(msg=f'invalid mode "{mode}" (available: {available})')
        self.mode = mode


def make_config(options: optparse.Values) -> Any:
    """The settings for a command line, in the mode that it names.

    Raises:
        ClushConfigError, OSError, configparser.Error: see ClushConfig.
    """
    config = ClushConfig(options, options.conf)
    if options.mode:
        config.set_mode(options.mode)
    return config
