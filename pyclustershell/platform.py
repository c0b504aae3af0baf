"""What this system is, and what it has. Nobody else asks it.

The others look here when they need to know, not when they are imported, and so the tests can play
Windows on other systems, too (``python -m pytest --windows-profile``). Each name is one difference,
so that what cannot be played (process groups, owners of files) stays as it is.

mypy checks the code for both: it knows no more of these names than that they are true or false.
"""

from __future__ import annotations

import sys
from typing import Optional

#: Whether this is Windows, with its directories, its shell and its own ways to reach agents.
WINDOWS = sys.platform == "win32"

#: Whether paths have backslashes, and some names are no files' names.
WINDOWS_PATHS = WINDOWS

#: Whether a process and its descendants make a group, which can be signalled.
PROCESS_GROUPS = not WINDOWS

#: Whether files have an owner and a mode, and users numbers.
POSIX_FILES = not WINDOWS

#: Whether selectors take sockets only: pipes are then pumped through socket pairs.
SOCKETS_ONLY = WINDOWS

#: Seconds that a selector may sleep at the most; None for as long as nothing happens. Ctrl-C does
#: not wake select() up on Windows: it is noticed when that returns.
LONGEST_SLEEP: Optional[float] = 0.5 if WINDOWS else None
