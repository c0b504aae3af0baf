"""Defaults, and where configuration files are looked for."""

from __future__ import annotations

import os
import sys


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
