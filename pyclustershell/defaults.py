"""Defaults, and where configuration files are looked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Callable, Optional

from . import platform


def config_paths(config_name: str) -> list[str]:
    """Where a configuration file may be; the later in the list, the higher its precedence.

    The places are ClusterShell's: system-wide, pip's per-user prefix, the prefix of the Python
    installation (which is the virtual environment, in one), the user's configuration directory
    (XDG Base Directory Specification), and $CLUSTERSHELL_CFGDIR. On Windows, %APPDATA% as well.

    Args:
        config_name: the name of the file, for instance 'groups.conf'.
    """
    directories = [
        "/etc/clustershell",
        os.path.expanduser("~/.local/etc/clustershell"),
        os.path.join(sys.prefix, "etc/clustershell"),
    ]
    if platform.WINDOWS and os.environ.get("APPDATA"):
        directories.append(os.path.join(os.environ["APPDATA"], "clustershell"))
    config_home = os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config"))
    directories.append(os.path.join(config_home, "clustershell"))
    if "CLUSTERSHELL_CFGDIR" in os.environ:
        directories.append(os.environ["CLUSTERSHELL_CFGDIR"])
    return [os.path.join(directory, config_name) for directory in directories]


# -- what can be set --


def _print_debug(_task: Any, line: str) -> None:
    print(line)


#: The info keys that a task knows, with their values where nothing is set (see Task.set_info).
TASK_INFO: dict[str, Any] = {
    "debug": False,
    "print_debug": _print_debug,
    "fanout": 64,
    "grooming_delay": 0.25,
    "connect_timeout": 10,
    "command_timeout": 0,
    "ssh_pool_size": None,  # connections open at once; None: as many as the fanout
    "ssh_idle_ttl": 60.0,  # seconds
    "line_limit": 64 << 20,  # bytes of one line of output; None: as many as come
    "ssh_kill_grace": 2.0,  # seconds between TERM and KILL; None: leave the command running
}

#: The default keys of a task: what its workers are made with (see Task.set_default).
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

_OTHERS: dict[str, Any] = {"fold_axis": ()}


class Defaults:
    """What holds where nobody says otherwise: for tasks made later, and for node sets made later.

    Each key of a defaults.conf is an attribute that can be set, and ``print_debug``, which no file
    can hold. Values come from the library, then from the files, then from who sets them in code::

        DEFAULTS.fanout = 128

    Args:
        filenames: files in the form of defaults.conf, from the weakest to the strongest. None for
            those of the places that :func:`config_paths` lists; they are read when an attribute is
            first asked for.

    Attributes:
        fold_axis: the dimensions in which node sets are folded when written; empty: all.

    Raises:
        ConfigurationError: a file is wrong; it names file and line.
    """

    fold_axis: tuple[int, ...]

    def __init__(self, filenames: Optional[Iterable[str]] = None) -> None:
        # Past our own __setattr__(), which takes the keys only.
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
            # Here, not at the top: programs that only fold node sets shall start quickly.
            from .configfile import read_defaults

            for keys in read_defaults(existing).values():
                found.update(keys)
        # From now on the values are plain attributes: node sets look them up very often.
        self.__dict__.update(
            {**TASK_INFO, **TASK_DEFAULTS, **_OTHERS, **found, "_given": set(found)}
        )

    def __getattr__(self, name: str) -> Any:
        """Read the files: called where an attribute is not there (yet)."""
        if self.__dict__.get("_given", ()) is None and not name.startswith("__"):
            self._load(config_paths("defaults.conf"))
            return getattr(self, name)
        raise AttributeError(f"there is no default {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a default.

        Raises:
            AttributeError: there is no such key.
            ValueError, TypeError: the value is wrong for this key.
        """
        getattr(self, name)
        check_task_info(name, value)
        self.__dict__[name] = value
        self._given.add(name)

    def is_given(self, name: str) -> bool:
        """Whether a file or somebody in code has set a key."""
        return hasattr(self, name) and name in self._given

    def task_info(self) -> dict[str, Any]:
        """The info keys of a new task."""
        return {key: getattr(self, key) for key in TASK_INFO}

    def task_default(self) -> dict[str, Any]:
        """The default keys of a new task."""
        return {key: getattr(self, key) for key in TASK_DEFAULTS}


#: What holds for all tasks that are not given others.
DEFAULTS = Defaults()


# -- checks --


def check_task_info(key: str, value: Any) -> None:
    """Check the value of an info key.

    Raises:
        TypeError: it is of a wrong type.
        ValueError: it is out of range.
    """
    check = _INFO_CHECKS.get(key)
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


def _optional(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def check_unless_none(key: str, value: Optional[Any]) -> None:
        if value is not None:
            check(key, value)

    return check_unless_none


_INFO_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "fanout": _positive_integer,
    "ssh_pool_size": _optional(_positive_integer),
    "line_limit": _optional(_positive_integer),
    "connect_timeout": _seconds,
    "command_timeout": _seconds,
    "ssh_idle_ttl": _seconds,
    "ssh_kill_grace": _optional(_seconds),
}
