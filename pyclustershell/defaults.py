"""Default settings, and the search path of configuration files."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, Callable, Optional

from . import platform
from .arguments import check_function
from .filetrust import program_data, why_refused
from .printable import print_line

logger = logging.getLogger("pyclustershell.defaults")


def config_paths(config_name: str) -> list[str]:
    """The paths that a configuration file may have; later paths take precedence.

    The directories are ClusterShell's: system-wide, pip's per-user prefix, the prefix of the Python
    installation (in a virtual environment, its own prefix), the user's configuration directory
    (XDG Base Directory Specification), and $CLUSTERSHELL_CFGDIR. On Windows, the system's is
    %PROGRAMDATA%\\clustershell, without files that another user can change, and the user's is also
    %APPDATA%\\clustershell.

    Args:
        config_name: the name of the file, for instance 'groups.conf'.
    """
    directories = [
        os.path.expanduser("~/.local/etc/clustershell"),
        os.path.join(sys.prefix, "etc/clustershell"),
    ]
    if platform.WINDOWS and os.environ.get("APPDATA"):
        directories.append(os.path.join(os.environ["APPDATA"], "clustershell"))
    config_home = os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config"))
    directories.append(os.path.join(config_home, "clustershell"))
    if "CLUSTERSHELL_CFGDIR" in os.environ:
        directories.append(os.environ["CLUSTERSHELL_CFGDIR"])
    paths = [os.path.join(directory, config_name) for directory in directories]
    system_wide = os.path.join(_system_directory(), config_name)
    reason = why_refused(system_wide)
    if reason is None:
        return [system_wide, *paths]
    logger.warning("%s: it is not read: %s", system_wide, reason)
    return paths


def _system_directory() -> str:
    if platform.WINDOWS:
        return os.path.join(program_data(), "clustershell")
    return "/etc/clustershell"


# -- the keys and their default values --


def _print_debug(_task: Any, line: str) -> None:
    print_line(line)


#: The info keys of a task, with their default values (see Task.set_info).
TASK_INFO: dict[str, Any] = {
    "debug": False,
    "print_debug": _print_debug,
    "fanout": 64,
    "grooming_delay": 0.25,
    "connect_timeout": 10,
    "command_timeout": 0,
    "ssh_pool_size": None,  # connections open at once; None: as many as the fanout
    "ssh_idle_ttl": 60.0,  # seconds
    "fd_max": None,  # open files of the process; None: as many as the system allows
    "line_limit": 64 << 20,  # bytes of one line of output; None: no limit
    "ssh_kill_grace": 2.0,  # seconds between TERM and KILL; None: leave the command running
}

#: The default keys of a task, which apply to its workers (see Task.set_default).
TASK_DEFAULTS: dict[str, Any] = {
    "stderr": False,
    "stdin": True,
    "stdout_msgtree": True,
    "stderr_msgtree": True,
    "port_qlimit": 100,
    "engine": "auto",
    "auto_tree": True,
    "local_workername": "exec",
    "distant_workername": "ssh",
}

# Info keys that are strings, and that have no default value.
_TEXT_KEYS = (
    *("ssh_user", "ssh_options", "ssh_path", "scp_user", "scp_options", "scp_path"),
    *("rsh_user", "rsh_options", "rsh_path", "rcp_options", "rcp_path"),
    *("pdsh_path", "pdcp_path", "rpdcp_path"),
)

#: The info keys that the library reads.
INFO_KEYS = (*TASK_INFO, *_TEXT_KEYS, "engine")

_OTHERS: dict[str, Any] = {"fold_axis": ()}


class Defaults:
    """The default settings of tasks and node sets that are made later.

    Each key of defaults.conf is an attribute that can be set; so is ``print_debug``, which cannot
    be set in a file. Files override the library's values, and code overrides files::

        DEFAULTS.fanout = 128

    Args:
        filenames: files in the format of defaults.conf; later ones take precedence. None: those
            that :func:`config_paths` lists, which are read when an attribute is first used.

    Attributes:
        fold_axis: the dimensions that the str() of a node set folds; empty: all.

    Raises:
        ConfigurationError: a file is invalid; the error names file and line.
    """

    fold_axis: tuple[int, ...]

    def __init__(self, filenames: Optional[Iterable[str]] = None) -> None:
        # Bypass our own __setattr__(), which accepts only the keys.
        self.__dict__["_given"] = None
        if filenames is not None:
            self._load(filenames)

    def __repr__(self) -> str:
        given = self._given
        return f"<Defaults {'not read yet' if given is None else f'{len(given)} keys set'}>"

    def _load(self, filenames: Iterable[str]) -> None:
        found: dict[str, Any] = {}
        existing = [filename for filename in filenames if os.path.exists(filename)]
        if existing:
            # Imported here: programs that only fold node sets shall start quickly.
            from .defaultsfile import read_defaults

            for keys in read_defaults(existing).values():
                found.update(keys)
        # The values become plain attributes: node sets look them up very often.
        self.__dict__.update(
            {**TASK_INFO, **TASK_DEFAULTS, **_OTHERS, **found, "_given": set(found)}
        )

    def __getattr__(self, name: str) -> Any:
        """Read the files. Python calls this for an attribute that does not exist yet."""
        if self.__dict__.get("_given", ()) is None and not name.startswith("__"):
            self._load(config_paths("defaults.conf"))
            return getattr(self, name)
        raise AttributeError(f"there is no default {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a default.

        Raises:
            AttributeError: there is no such key.
            ValueError, TypeError: the value is not valid for this key.
        """
        getattr(self, name)
        check_setting(name, value)
        self.__dict__[name] = value
        self._given.add(name)

    def is_given(self, name: str) -> bool:
        """True if a file or code has set a key."""
        return hasattr(self, name) and name in self._given

    def task_info(self) -> dict[str, Any]:
        """The info keys of a new task."""
        return {key: getattr(self, key) for key in TASK_INFO}

    def task_default(self) -> dict[str, Any]:
        """The default keys of a new task."""
        return {key: getattr(self, key) for key in TASK_DEFAULTS}


#: The defaults of all tasks and node sets.
DEFAULTS = Defaults()


# -- checks --


def check_setting(key: str, value: Any) -> None:
    """Check the value of an info key or a default key.

    Raises:
        TypeError: the value has a wrong type.
        ValueError: the value is out of range.
    """
    check = _CHECKS.get(key)
    if check is not None:
        check(key, value)


def _positive_integer(key: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{key} must be at least 1, not {value}")


def _seconds(key: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{key} must be a number of seconds, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{key} must not be negative, but is {value}")


def _text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{key} must be a string, not {value!r}")


def _callable(key: str, value: Any) -> None:
    check_function(key, value)


def _flag(key: str, value: Any) -> None:
    # A string would be true whatever it says.
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{key} must be True or False, not {value!r}")


def _optional(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def check_unless_none(key: str, value: Optional[Any]) -> None:
        if value is not None:
            check(key, value)

    return check_unless_none


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "fanout": _positive_integer,
    "ssh_pool_size": _optional(_positive_integer),
    "fd_max": _optional(_positive_integer),
    "line_limit": _optional(_positive_integer),
    "connect_timeout": _seconds,
    "command_timeout": _seconds,
    "ssh_idle_ttl": _seconds,
    "ssh_kill_grace": _optional(_seconds),
    "grooming_delay": _seconds,
    "print_debug": _callable,
    "port_qlimit": _positive_integer,
    **dict.fromkeys(_TEXT_KEYS, _optional(_text)),
    **dict.fromkeys(("stderr", "stdin", "stdout_msgtree", "stderr_msgtree", "auto_tree"), _flag),
}
