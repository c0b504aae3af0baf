"""Platform differences, in one place.

Other modules read these names when they need them, not when they are imported. Each name is one
difference. So a test can try one difference on any system (``tests/unit/test_platform.py``);
``.ci/windows`` tries all of them on Python for Windows.

mypy checks the code for both values of each name.
"""

from __future__ import annotations

import shlex
import sys
from typing import Optional

#: True on Windows, with its own directories, its own shell and its own ways to reach agents.
WINDOWS = sys.platform == "win32"

#: True if paths have backslashes, and some names are reserved.
WINDOWS_PATHS = WINDOWS

#: True if a process and its descendants are a group, which can be signalled.
PROCESS_GROUPS = not WINDOWS

#: True if files have an owner and a mode, and users have numbers.
POSIX_FILES = not WINDOWS

#: True if selectors take only sockets: pipes are then pumped through socket pairs.
SOCKETS_ONLY = WINDOWS

#: The most seconds that a selector may sleep; None for no limit. On Windows, Ctrl-C does not wake
#: select() up: it is handled when select() returns.
LONGEST_SLEEP: Optional[float] = 0.5 if WINDOWS else None


def split_words(text: str) -> list[str]:
    """Split text into words as a shell does; on Windows, a backslash belongs to its word.

    Raises:
        ValueError: a quote is not closed.
    """
    words = shlex.shlex(text, posix=True)
    words.whitespace_split = True
    words.commenters = ""
    if WINDOWS_PATHS:
        words.escape = ""
    return list(words)
