"""Processes that get a signal together."""

from __future__ import annotations

import os
import signal
from typing import Protocol

from .. import platform

#: The signal that a process cannot ignore. Windows has only one way to end a process.
SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class ProcessGroup(Protocol):
    """A process with its descendants, as far as these have not left the group."""

    def signal(self, number: int) -> bool:
        """Send a signal to all processes of the group.

        Args:
            number: the number of the signal; 0 only checks whether the group exists. Windows has no
                signals: there, any other number ends the processes.

        Returns:
            True if there was a process to signal.
        """
        ...


class PosixGroup:
    """A process group.

    Args:
        number: its number, which is the first process's.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<PosixGroup {self.number}>"

    def signal(self, number: int) -> bool:
        """Send a signal to the group."""
        try:
            os.killpg(self.number, number)
        except OSError:
            # It has ended, or holds zombies only, which some systems refuse to signal.
            return False
        return True


class SingleProcess:
    """A process on a system without groups.

    Args:
        number: its number.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<SingleProcess {self.number}>"

    def signal(self, number: int) -> bool:
        """Send a signal to the process. It never outlives itself: nothing is to be checked."""
        if not number:
            return False
        try:
            # On Windows, the numbers of some signals stand for keys, and the others end it.
            os.kill(self.number, signal.SIGTERM if platform.WINDOWS else number)
        except OSError:
            return False
        return True
