"""What this platform can wait for.

Windows selects on sockets only. What depends on that asks here, and so the tests can play Windows
on other systems, too (``python -m pytest --windows-profile``).
"""

from __future__ import annotations

import sys

#: Whether selectors take sockets only: pipes are then pumped through socket pairs.
SOCKETS_ONLY = sys.platform == "win32"
