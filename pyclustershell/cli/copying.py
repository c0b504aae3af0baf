"""The paths of ``--copy`` and ``--rcopy``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from .. import platform


def check_paths(sources: Sequence[str], dest: Optional[str], reverse: bool) -> Optional[str]:
    """Check the paths on this host; returns an error message, or None."""
    if not reverse:
        for source in sources:
            if not os.path.exists(source):
                name = source or "''"
                return f"{name}: there is no such file or directory to copy"
        if dest is None and platform.WINDOWS_PATHS:
            return f"{default_dest(sources[0])} is no path of nodes: name another with --dest"
    elif dest is not None and not os.path.isdir(dest):
        return f"--dest {dest}: not a directory, which --rcopy needs"
    else:
        for source in sources:
            directory = default_dest(source)
            if dest is None and not os.path.isdir(directory):
                return f"{directory}: there is no such directory here: name another with --dest"
    return None


def default_dest(source: str) -> str:
    """The destination of a source without --dest: its own directory, as in clush."""
    return os.path.dirname(os.path.abspath(source))
