"""This machine and its user, as OpenSSH's configuration refers to them."""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Optional, Union

from ... import platform
from ...exceptions import ConfigurationError
from ...filetrust import program_data
from .memo import LookupPending

# "~user" at the beginning of a path.
_TILDE = re.compile(r"~[^/\\]+" if os.sep == "\\" else "~[^/]+")

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def null_file(path: str) -> str:
    """Return a path; the empty file ``/dev/null`` by the name that this system has for it.

    Configurations name it on Windows as well, and OpenSSH for Windows knows both names.
    """
    if path == "/dev/null" or (platform.WINDOWS_PATHS and path.lower() in ("nul", "nul:")):
        return os.devnull
    return path


@dataclass
class Environment:
    """This machine and its user, for the configuration. Each value is looked up when it is needed.

    Users and their home directories may be those of a directory service (LDAP), which may be slow.

    Tests, and servers that act for several users, set the fields themselves.
    """

    _user: Optional[str] = None
    _home: Optional[str] = None
    _hostname: Optional[str] = None
    # The home directories of other users, by "~user".
    _homes: dict[str, str] = field(default_factory=dict)
    _is_known: bool = False

    def prepare(self, wait: bool) -> None:
        """Look up the user and the home directory, once.

        Args:
            wait: True if the calling thread may wait for that.

        Raises:
            LookupPending: they have not been looked up, and the calling thread may not wait.
        """
        if self._is_known:
            return
        if not wait:
            raise LookupPending
        _ = self.home
        with suppress(ConfigurationError):  # it matters only if no option names the user of a node
            _ = self.user
        self._is_known = True

    @property
    def user(self) -> str:
        """The local user's name.

        Raises:
            ConfigurationError: the system has no name for the user, as in some containers.
        """
        if self._user is None:
            try:
                self._user = getpass.getuser()
            except (KeyError, OSError, ImportError):
                self._user = ""
        if not self._user:
            raise ConfigurationError(
                "the local user has no name in the user database: set the option user"
            )
        return self._user

    @property
    def home(self) -> str:
        """The local user's home directory."""
        if self._home is None:
            self._home = os.path.expanduser("~")
        return self._home

    @property
    def hostname(self) -> str:
        """The local host's name, with its domain if the system is set up so."""
        if self._hostname is None:
            self._hostname = socket.gethostname()
        return self._hostname

    @property
    def uid(self) -> str:
        """The local user's number; the user's name on systems without such numbers."""
        if platform.POSIX_FILES:
            return str(os.getuid())
        return self.user

    @property
    def system_directory(self) -> str:
        """The directory of the system's SSH configuration."""
        if platform.WINDOWS:
            return os.path.join(program_data(), "ssh")
        return "/etc/ssh"

    @property
    def user_directory(self) -> str:
        """The directory of the user's SSH configuration."""
        return os.path.join(self.home, ".ssh")

    def canonical_name(self, name: str, family: int) -> Optional[str]:
        """Look up a host name (getaddrinfo, AI_CANONNAME). This may take seconds.

        Args:
            name: the host name; a final dot marks it as complete.
            family: ``socket.AF_UNSPEC``, ``AF_INET`` or ``AF_INET6``.

        Returns:
            The target if the name is an alias, the name if not, None if there is no such name.
        """
        try:
            found = socket.getaddrinfo(
                name, None, family, socket.SOCK_STREAM, 0, socket.AI_CANONNAME
            )
        except (OSError, UnicodeError):
            return None
        return found[0][3] or name

    def local_addresses(self) -> frozenset[Address]:
        """Ask the system for the addresses of all network interfaces that are up.

        IPv6 addresses with a scope (``fe80::1%eth0``) are left out: for OpenSSH they are in no
        network.

        Raises:
            ValueError: the package psutil is missing, or the system does not answer.
        """
        try:
            psutil = import_module("psutil")
        except ImportError as error:
            raise ValueError(
                f"the package psutil is needed ({error}): "
                "python -m pip install 'pyclustershell[localnetwork]'"
            ) from None
        try:
            interfaces, states = psutil.net_if_addrs(), psutil.net_if_stats()
        except (OSError, psutil.Error) as error:
            raise ValueError(
                f"the addresses of the network interfaces are not known: {error}"
            ) from None
        return frozenset(
            ipaddress.ip_address(entry.address)
            for name, entries in interfaces.items()
            if name in states and _is_up(states[name])
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6) and "%" not in entry.address
        )

    def expand_home(self, path: str, wait: bool = True) -> str:
        """Replace a leading ``~`` or ``~user`` by the home directory.

        Args:
            path: the path.
            wait: True if the calling thread may wait for the user database.

        Raises:
            LookupPending: another user's home directory has not been looked up, and the calling
                thread may not wait.
        """
        if path == "~" or path.startswith(("~/", "~\\")):
            return self.home + path[1:]
        user = _TILDE.match(path)
        if user is None:
            return path
        if user[0] not in self._homes:
            if not wait:
                raise LookupPending
            self._homes[user[0]] = os.path.expanduser(user[0])
        return self._homes[user[0]] + path[user.end() :]


def _is_up(state: object) -> bool:
    """True if an interface is up, by psutil's state. It may be without a carrier, as in OpenSSH."""
    flags = str(getattr(state, "flags", ""))  # not on Windows, nor in psutil before 5.9.3
    return "up" in flags.split(",") if flags else bool(getattr(state, "isup", False))
