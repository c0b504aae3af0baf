"""Notices that the user presses Enter while a command runs."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable

from .. import platform

#: Seconds between two looks at a Windows console, which cannot be waited for.
_LOOK = 0.1


class Watcher:
    """Reads the lines of a terminal, on a thread, while the program is in the ``with`` block.

    The text is dropped: what is typed while a command runs is not for this program's next prompt.

    Args:
        terminal: the terminal.
        on_enter: called on the thread after each line.
    """

    def __init__(self, terminal: Any, on_enter: Callable[[], None]) -> None:
        self._terminal = terminal
        self._on_enter = on_enter
        self._stop = threading.Event()

    def __enter__(self) -> Watcher:
        self._read_end, self._write_end = os.pipe()
        watch = self._watch_console if platform.WINDOWS else self._watch_terminal
        self._thread = threading.Thread(target=watch, name="pyclush watcher", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def _watch_terminal(self) -> None:
        """Wait for a line, or for the end of the pipe."""
        import select

        descriptor = self._terminal.fileno()
        while True:
            ready, _, _ = select.select([descriptor, self._read_end], [], [])
            if self._read_end in ready or not os.read(descriptor, 4096):
                return
            self._on_enter()

    def _watch_console(self) -> None:
        import msvcrt

        while not self._stop.wait(_LOOK):
            while msvcrt.kbhit():  # type: ignore[attr-defined]
                if msvcrt.getwch() in "\r\n":  # type: ignore[attr-defined]
                    self._on_enter()
