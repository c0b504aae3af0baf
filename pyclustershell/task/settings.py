"""The settings of a task: its info keys and its default keys."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Optional

from .. import platform
from ..defaults import DEFAULTS, INFO_KEYS, TASK_DEFAULTS, Defaults, check_setting
from ..engine.polling import polling_name
from ..suggestions import did_you_mean
from ..worker.registry import worker_class

#: The default keys that the task reads. Classes can be set in place of names.
DEFAULT_KEYS = (*TASK_DEFAULTS, "local_worker", "distant_worker")

# A program, or options: words as in a shell.
_COMMAND_WORDS = (
    *("rsh_path", "rcp_path", "pdsh_path", "pdcp_path", "rpdcp_path"),
    *("rsh_options", "rcp_options"),
)

# Two names that are this similar differ by a typing error.
_TYPO = 0.8


def check_key(key: str, known: Iterable[str], others: Iterable[str], right: str) -> None:
    """Check that an unknown key is not a misplaced or misspelled one. Scripts may have own keys.

    Args:
        key: the key.
        known: the keys of this kind that the task reads.
        others: the keys of the other kind.
        right: the method that sets the keys of the other kind.

    Raises:
        ValueError: the key is unknown, and is of the other kind, or similar to one of this kind.
        TypeError: the key is not a string.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key must be a string, not {key!r}")
    if key in known or key.startswith("USER_"):
        return
    if key in others:
        raise ValueError(f"{key!r} has no effect here: set it with {right}()")
    near = did_you_mean(key, known, _TYPO)
    if near:
        raise ValueError(f"unknown key {key!r}{near} (keys of your own begin with USER_)")


class TaskSettings:
    """The info keys and default keys of a task.

    Args:
        defaults: the initial values; None for DEFAULTS.

    Attributes:
        info: the values of the info keys. They change on the task's thread only.
        default: the values of the default keys. Workers are created with them.
    """

    def __init__(self, defaults: Optional[Defaults] = None) -> None:
        """Make the dictionaries of a new task.

        Raises:
            KeyError: there is no engine of the name in the defaults.
            TypeError: ``defaults`` are no Defaults.
        """
        if not isinstance(defaults, (Defaults, type(None))):
            raise TypeError(f"defaults= takes Defaults(), not {defaults!r}")
        if defaults is None:
            defaults = DEFAULTS
        self.info: dict[str, Any] = defaults.task_info()
        self.default: dict[str, Any] = defaults.task_default()
        try:
            self.info["engine"] = polling_name(self.default["engine"])
        except ValueError as error:
            # A KeyError, as in ClusterShell.
            raise KeyError(f"DEFAULTS.engine: {error}") from None
        # The keys that were set. OpenSSH's configuration files win over the defaults, but not over
        # keys that were set.
        self._info_set = {key for key in self.info if defaults.is_given(key)}

    def is_set(self, info_key: str) -> bool:
        """Return True if an info key was set, in code or in defaults.conf."""
        return info_key in self._info_set

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key. The value must have been checked: see :func:`check_info`."""
        self.info[info_key] = value
        self._info_set.add(info_key)

    def get_default(self, default_key: str, def_val: Any = None) -> Any:
        """Return the value of a default key: see ``Task.default()``."""
        if default_key in ("local_worker", "distant_worker") and default_key not in self.default:
            return worker_class(self.default[f"{default_key}name"])
        return self.default.get(default_key, def_val)

    def set_default(self, default_key: str, value: Any) -> None:
        """Check and set a default key: see ``Task.set_default()``.

        Raises:
            ImportError: ``*_workername`` is the name of no worker.
            ValueError: the value is wrong for this key, or the key is misspelled or an info key.
            TypeError: the value has a wrong type.
        """
        check_key(default_key, DEFAULT_KEYS, INFO_KEYS, "set_info")
        check_setting(default_key, value)
        if default_key in ("local_workername", "distant_workername"):
            self.default[default_key[: -len("name")]] = worker_class(value)
        elif default_key == "engine":
            self.info["engine"] = polling_name(value)
        self.default[default_key] = value


def check_info(info_key: str, value: Any) -> None:
    """Check the value of an info key, including the SSH options in it.

    Raises:
        ValueError, TypeError, ConfigurationError: the value is wrong for this key.
        ValueError: the key is misspelled, or a default key.
    """
    check_key(info_key, INFO_KEYS, DEFAULT_KEYS, "set_default")
    check_setting(info_key, value)
    if info_key in ("ssh_options", "scp_options") and value:
        from ..ssh.config.options import SSHOptions

        SSHOptions.parse_command_line(value)
    if info_key in _COMMAND_WORDS and value:
        try:
            platform.split_words(value)
        except ValueError as error:
            raise ValueError(f"{info_key}={value!r} cannot be split into words: {error}") from None
    if info_key in ("ssh_path", "scp_path") and value:
        # The warning shows the line that called Task.set_info().
        warnings.warn(
            f"{info_key} is ignored: no ssh program is started", UserWarning, stacklevel=3
        )
