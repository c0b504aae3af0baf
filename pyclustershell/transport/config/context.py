"""What stands around OpenSSH's configuration: this machine and its user, patterns, tokens."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

from ... import platform
from ...exceptions import ConfigurationError

# -- who we are ------------------------------------------------------------------------------------


@dataclass
class LocalContext:
    """What the configuration may ask about this machine and its user; found out when asked for.

    Tests and servers acting for several users set the fields themselves.
    """

    _user: Optional[str] = None
    _home: Optional[str] = None
    _hostname: Optional[str] = None

    @property
    def user(self) -> str:
        """The local user's name.

        Raises:
            ConfigurationError: the system knows none, as in some containers.
        """
        if self._user is None:
            try:
                self._user = getpass.getuser()
            except (KeyError, OSError, ImportError):
                raise ConfigurationError("the local user has no name: say which user") from None
        return self._user

    @property
    def home(self) -> str:
        """The local user's home directory."""
        if self._home is None:
            self._home = os.path.expanduser("~")
        return self._home

    @property
    def hostname(self) -> str:
        """The local host's name, with its domain where the system has it so."""
        if self._hostname is None:
            self._hostname = socket.gethostname()
        return self._hostname

    @property
    def uid(self) -> str:
        """The local user's number, or the user's name where the system has no numbers."""
        if platform.POSIX_FILES:
            return str(os.getuid())
        return self.user

    @property
    def system_directory(self) -> str:
        """The directory of the system's SSH configuration."""
        if platform.WINDOWS:
            return os.path.join(os.environ.get("PROGRAMDATA", "C:\\ProgramData"), "ssh")
        return "/etc/ssh"

    @property
    def user_directory(self) -> str:
        """The directory of the user's SSH configuration."""
        return os.path.join(self.home, ".ssh")

    def look_up(self, name: str, family: int) -> Optional[str]:
        """Return the name that a host name is an alias of, itself if of none; None if unknown.

        Args:
            name: the host name, with a last dot if it is complete.
            family: ``socket.AF_UNSPEC``, ``AF_INET`` or ``AF_INET6``.
        """
        try:
            found = socket.getaddrinfo(
                name, None, family, socket.SOCK_STREAM, 0, socket.AI_CANONNAME
            )
        except (OSError, UnicodeError):
            return None
        return found[0][3] or name

    def expand_home(self, path: str) -> str:
        """Replace a leading ``~`` or ``~user``."""
        if path == "~" or path.startswith(("~/", "~\\")):
            return self.home + path[1:]
        return os.path.expanduser(path)


# -- patterns --------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of ssh_config(5) PATTERNS: ``*`` and ``?`` and nothing else."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped, re.DOTALL)


def matches(text: str, pattern: str) -> bool:
    """Tell whether the whole text matches this pattern of ``*`` and ``?``."""
    return _pattern(pattern).fullmatch(text) is not None


def matches_list(text: str, patterns: Iterable[str]) -> bool:
    """Tell whether the text matches one of these patterns and none that begins with ``!``."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if matches(text, pattern[1:]):
                return False
        elif not found:
            found = matches(text, pattern)
    return found


# -- the state of files ----------------------------------------------------------------------------

Stamp = Optional[tuple[int, int]]
"""Modification time in nanoseconds and size of a file; None where there is none."""


def file_stamp(path: str) -> Stamp:
    """Return what tells one state of a file from another."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


# -- tokens ----------------------------------------------------------------------------------------


def expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Replace the tokens of ssh_config(5) TOKENS, such as ``%h``.

    Args:
        text: the text; ``%%`` stands for one percent sign.
        tokens: what each letter stands for.

    Raises:
        ValueError: an unknown token.
    """
    if "%" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        if letter not in tokens:
            raise ValueError(f"unknown token %{letter} in {text!r}")
        return tokens[letter]

    return re.sub(r"%(.?)", replace, text, flags=re.DOTALL)


def expand_environment(text: str) -> str:
    """Replace ``${NAME}`` by the environment variable of that name.

    Raises:
        ValueError: there is no such variable.
    """
    if "${" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ValueError(f"environment variable {found[1]} is not set, in {text!r}")
        return os.environ[found[1]]

    return re.sub(r"\$\{([^}]*)\}", replace, text)


def expand_hostname(hostname: str, host: str) -> str:
    """Replace ``%h`` in a HostName by the name that the user gave.

    Raises:
        ConfigurationError: another token.
    """
    try:
        return expand_tokens(hostname, {"h": host})
    except ValueError as error:
        raise ConfigurationError(f"HostName: {error}") from None
