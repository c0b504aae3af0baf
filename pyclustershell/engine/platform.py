"""How this platform waits.

What depends on that asks here, when it needs it, and so the tests can play Windows on other
systems, too (``python -m pytest --windows-profile``).
"""

from __future__ import annotations

import sys
from typing import Optional

#: Whether selectors take sockets only: pipes are then pumped through socket pairs.
SOCKETS_ONLY = sys.platform == "win32"

#: Seconds that a selector may sleep at the most; None for as long as nothing happens. Ctrl-C does
#: not wake select() up on Windows: it is noticed when that returns.
LONGEST_SLEEP: Optional[float] = 0.5 if sys.platform == "win32" else None
