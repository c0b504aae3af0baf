"""The progress of a run on a terminal: ClusterShell's counter, and this package's line."""

from __future__ import annotations

import os
import threading
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

from ..event import EventHandler
from ..nodeset import NodeSet
from ..printable import printable

if TYPE_CHECKING:
    from ..task import Task

#: So few running nodes are named.
_NAMED = 8

_BINARY_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Progress(EventHandler):
    """Notes the progress of a run. This class shows nothing."""

    def watch(self, task: Task, total: int) -> None:
        """Begin to show the progress of the task's next run.

        Args:
            task: the task.
            total: the number of commands or copies: one for each node.
        """

    def note_start(self, node: Any) -> None:
        """The command of a node has started."""

    def note_end(self, node: Any, ok: bool) -> None:
        """A node has ended."""

    def note_bytes(self, size: int) -> None:
        """So many bytes of input or of files have been written."""

    def expect_files(self, paths: Sequence[str], copies: int) -> None:
        """So many copies of these files and directories of this host are to be made."""

    def clear(self) -> None:
        """Remove the progress from its line, before another line is printed."""

    def finish(self) -> None:
        """The run has ended."""


class Counter(Progress):
    """ClusterShell's counter of the nodes that have ended: ``clush: 1/4``.

    Args:
        prog: the program's name.
        err: the stream.
        newline: True to leave the last line; False for a line that the next one overwrites.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        prog: str,
        err: Any,
        newline: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prog = prog
        self._err = err
        self._newline = newline
        self._clock = clock
        self._total = self._ended = self._bytes = 0
        self._began = 0.0
        self._shown = ""
        self._length = 0

    def watch(self, task: Task, total: int) -> None:
        """Show the counter from 1.33 s on, three times in a second."""
        self._total = total
        self._began = self._clock()
        task.timer(1.33, self, interval=1 / 3, autoclose=True)

    def note_end(self, node: Any, ok: bool) -> None:
        """Count a node."""
        self._ended += 1

    def note_bytes(self, size: int) -> None:
        """Add bytes to those of the rate."""
        self._bytes += size

    def ev_timer(self, timer: Any) -> None:
        """Show the counter if it has changed."""
        text = self._text(self._ended)
        if self._bytes:
            rate = self._bytes / max(self._clock() - self._began, 1e-3)
            text += f" write: {binary_size(rate)}/s"
        elif text == self._shown and self._length:
            return
        self._write(text + "\r")
        self._shown = text
        self._length = len(text) + 1

    def _text(self, ended: int) -> str:
        width = len(str(self._total))
        return f"{self._prog}: {ended:{width}}/{self._total:{width}}"

    def clear(self) -> None:
        """Overwrite the counter with blanks."""
        if self._length:
            self._write(" " * self._length + "\r")
            self._length = 0

    def finish(self) -> None:
        """Show the whole number, if the counter was shown at all."""
        if self._shown:
            self.clear()
            self._write(self._text(self._total) + ("\n" if self._newline else "\r"))
            self._shown = ""

    def _write(self, text: str) -> None:
        self._err.write(text)
        self._err.flush()


class StatusLine(Progress):
    """One line at the bottom of a terminal: the nodes that are done, have failed, run and wait.

    It is shown from the first second on and redrawn at most ten times a second. It fits into the
    width of the terminal, which may change.

    Args:
        prog: the program's name.
        err: the stream, a terminal.
        width: returns the width of the terminal in columns; None: that of standard error.
        clock: monotonic time in seconds.
        visible: returns False if the line is not to be drawn now, as in the background.
    """

    def __init__(
        self,
        prog: str,
        err: Any,
        width: Optional[Callable[[], int]] = None,
        clock: Callable[[], float] = time.monotonic,
        visible: Callable[[], bool] = lambda: True,
    ) -> None:
        self._prog = prog
        self._err = err
        self._visible = visible
        self._width = width or terminal_width
        self._clock = clock
        self._total = self._done = self._failed = self._bytes = 0
        self._running: dict[Any, None] = {}
        # How many bytes are to be copied; 0: unknown.
        self._total_bytes = 0
        self._began = 0.0
        self._shown = ""

    def watch(self, task: Task, total: int) -> None:
        """Show the line from one second on, ten times in a second."""
        self._total = total
        self._began = self._clock()
        task.timer(1.0, self, interval=0.1, autoclose=True)

    def note_start(self, node: Any) -> None:
        """A node runs."""
        self._running[node] = None

    def note_end(self, node: Any, ok: bool) -> None:
        """A node is done, or has failed."""
        self._running.pop(node, None)
        self._done += ok
        self._failed += not ok

    def note_bytes(self, size: int) -> None:
        """Add bytes."""
        self._bytes += size

    def expect_files(self, paths: Sequence[str], copies: int) -> None:
        """Add up the sizes, on a thread: a tree may be large."""

        def add_up() -> None:
            self._total_bytes = copies * sum(map(size_of, paths))

        threading.Thread(target=add_up, name="pyclush sizes", daemon=True).start()

    def ev_timer(self, timer: Any) -> None:
        """Draw the line if it has changed."""
        if not self._visible():
            return
        text = fitting(self._texts(), self._width() - 1)
        if text != self._shown:
            self._draw(text)

    def _texts(self) -> Iterable[str]:
        """The line, from its longest form to its shortest."""
        running = len(self._running)
        waiting = max(0, self._total - self._done - self._failed - running)
        done = f"{self._done} of {self._total} done"
        failed = f", {self._failed} failed" if self._failed else ""
        rest = f"{failed}, {running} running" + (f", {waiting} waiting" if waiting else "")
        amount = self._amount()
        if 0 < running <= _NAMED and not waiting:
            names = printable(str(NodeSet.fromlist(map(str, self._running))))
            yield f"{self._prog}: {done}{rest} ({names}){amount}"
        yield f"{self._prog}: {done}{rest}{amount}"
        yield f"{done}{rest}{amount}"
        yield f"{done}{failed}{amount}"
        yield f"{done}{failed}"
        yield f"{self._done}/{self._total}"

    def _amount(self) -> str:
        """Bytes, rate and remaining time; '' if there are no bytes."""
        if not self._bytes:
            return ""
        rate = self._bytes / max(self._clock() - self._began, 1e-3)
        text = f", {human(self._bytes)}, {human(rate)}/s"
        left = self._total_bytes - self._bytes
        return f"{text}, {duration(left / rate)} left" if left > 0 else text

    def clear(self) -> None:
        """Remove the line."""
        if self._shown and self._visible():
            self._draw("")
        self._shown = ""  # in the background, the shell has written over it

    def finish(self) -> None:
        """Remove the line."""
        self.clear()

    def _draw(self, text: str) -> None:
        # Return to the begin of the line; erase the rest of it after the text (ECMA-48, EL).
        self._err.write(f"\r{text}\x1b[K")
        self._err.flush()
        self._shown = text


def size_of(path: str) -> int:
    """The bytes of a file, or of all files in a directory; what cannot be read counts as 0."""
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.exists(path) else 0
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


def terminal_width() -> int:
    """The width of the terminal of standard error, in columns."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def columns(text: str) -> int:
    """The columns that a text takes on a terminal: wide characters take two, marks none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def fitting(texts: Iterable[str], width: int) -> str:
    """The first text that fits into this number of columns; the last one is cut if none does."""
    text = ""
    for text in texts:
        if columns(text) <= width:
            return text
    while columns(text) > max(width, 0):
        text = text[:-1]
    return text


def binary_size(size: float) -> str:
    """A number of bytes as ClusterShell writes it."""
    for unit, name in _BINARY_UNITS:
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{int(size)} B"


def human(size: float) -> str:
    """A number of bytes, in two or three digits and a unit."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    for unit in units[:-1]:
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"


def duration(seconds: float) -> str:
    """A time, such as ``2:05`` or ``1:00:00``."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
