"""Defaults, and where configuration files are looked for."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any, Callable, Optional


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
    if sys.platform == "win32" and os.environ.get("APPDATA"):
        directories.append(os.path.join(os.environ["APPDATA"], "clustershell"))
    config_home = os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config"))
    directories.append(os.path.join(config_home, "clustershell"))
    if "CLUSTERSHELL_CFGDIR" in os.environ:
        directories.append(os.environ["CLUSTERSHELL_CFGDIR"])
    return [os.path.join(directory, config_name) for directory in directories]


class Defaults:
    """What holds where a call does not say otherwise. Set the attributes to change it.

    Attributes:
        fold_axis: the dimensions in which node sets are folded when written; empty: all.
    """

    def __init__(self) -> None:
        self.fold_axis: tuple[int, ...] = ()


DEFAULTS = Defaults()


@cache
def file_defaults() -> dict[str, dict[str, Any]]:
    """What defaults.conf says, by section; read once, when it is first needed.

    Raises:
        ConfigurationError: a value is wrong; it names file and line.
    """
    # Here, not at the top: node sets are made with what is set in code alone.
    from .configfile import read_defaults

    return read_defaults(config_paths("defaults.conf"))


# -- tasks --

#: The info keys that a task knows, with their values where nothing is set (see Task.set_info).
TASK_INFO: dict[str, Any] = {
    "debug": False,
    "fanout": 64,
    "grooming_delay": 0.25,
    "connect_timeout": 10,
    "command_timeout": 0,
    "ssh_pool_size": None,  # connections open at once; None: as many as the fanout
    "ssh_idle_ttl": 60.0,  # seconds
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


def task_info() -> dict[str, Any]:
    """The info keys of a new task: those above, and what defaults.conf says."""
    return {**TASK_INFO, **file_defaults().get("task.info", {})}


def task_defaults() -> dict[str, Any]:
    """The default keys of a new task: those above, and what defaults.conf says."""
    sections = file_defaults()
    return {**TASK_DEFAULTS, **sections.get("engine", {}), **sections.get("task.default", {})}


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
    "connect_timeout": _seconds,
    "command_timeout": _seconds,
    "ssh_idle_ttl": _seconds,
    "ssh_kill_grace": _optional(_seconds),
}
