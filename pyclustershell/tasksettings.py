"""What is set for a task: its info keys, and what its workers are made with."""

from __future__ import annotations

import warnings
from typing import Any, Optional

from .defaults import DEFAULTS, Defaults, check_task_info
from .engine.polling import polling_name
from .worker.registry import worker_class


class TaskSettings:
    """The two dictionaries of a task.

    Args:
        defaults: what it begins with; None for DEFAULTS.

    Attributes:
        info: the values of the info keys; they are changed on the task's thread only.
        default: the values of the default keys.
    """

    def __init__(self, defaults: Optional[Defaults] = None) -> None:
        if defaults is None:
            defaults = DEFAULTS
        self.info: dict[str, Any] = defaults.task_info()
        self.default: dict[str, Any] = defaults.task_default()
        self.info["engine"] = polling_name(self.default["engine"])
        # What was set, as opposed to what is only a default: OpenSSH's files come in between.
        self._info_set = {key for key in self.info if defaults.is_given(key)}

    def is_set(self, info_key: str) -> bool:
        """Whether somebody has set an info key, in code or in defaults.conf."""
        return info_key in self._info_set

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key that has been checked."""
        self.info[info_key] = value
        self._info_set.add(info_key)

    def get_default(self, default_key: str, def_val: Any) -> Any:
        """The value of a default key: see ``Task.default()``."""
        if default_key in ("local_worker", "distant_worker") and default_key not in self.default:
            return worker_class(self.default[f"{default_key}name"])
        return self.default.get(default_key, def_val)

    def set_default(self, default_key: str, value: Any) -> None:
        """Check and set a default key: see ``Task.set_default()``."""
        if default_key in ("local_workername", "distant_workername"):
            self.default[default_key[: -len("name")]] = worker_class(value)
        elif default_key == "engine":
            self.info["engine"] = polling_name(value)
        self.default[default_key] = value


def check_info(info_key: str, value: Any) -> None:
    """Check the value of an info key, also where it becomes an option of SSH.

    Raises:
        ValueError, TypeError, ConfigurationError: the value is wrong for this key.
    """
    check_task_info(info_key, value)
    if info_key in ("ssh_options", "scp_options") and value:
        from .transport.config.options import SSHOptions

        SSHOptions.parse_command_line(value)
    if info_key in ("ssh_path", "scp_path") and value:
        # Who called Task.set_info() is to be shown.
        warnings.warn(
            f"{info_key} is ignored: no ssh program is started", UserWarning, stacklevel=3
        )
