"""A program on a pseudo-terminal of its own, which a test types into and reads from."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Optional

from tests.helpers.measured import python_module

DEADLINE = 30.0

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """Runs a program on a pseudo-terminal: its standard input, output and error are the terminal.

    Args:
        command: the command line.
        env: variables of the environment that differ from those of this process.
        columns: the width of the terminal.
    """

    def __init__(
        self, command: Sequence[str], env: Optional[Mapping[str, str]] = None, columns: int = 80
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # setsid, and the first terminal that is opened then controls the session.
        starter = (
            "import os, sys; os.setsid(); os.close(os.open(os.ttyname(0), os.O_RDWR)); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", starter, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **(env or {})},
        )
        os.close(theirs)
        #: All output so far.
        self.output = ""
        # The position up to which expect() has read.
        self._read = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Type a text; "\\r" is Enter, "\\x03" Ctrl-C, "\\x04" Ctrl-D."""
        os.write(self._ours, text.encode())

    def expect(self, pattern: str, typing: str = "") -> re.Match[str]:
        """Wait until the output that follows that of the last expect() has a pattern.

        Args:
            pattern: a regular expression.
            typing: a text to type, and again each second. Python's readline may miss a Ctrl-C that
                comes just when it has printed the prompt.

        Raises:
            AssertionError: it does not come.
        """
        deadline = time.monotonic() + DEADLINE
        next_typing = time.monotonic() if typing else deadline
        while True:
            found = re.compile(pattern).search(self.output, self._read)
            if found is not None:
                self._read = found.end()
                return found
            now = time.monotonic()
            if typing and now >= next_typing:
                self.type(typing)
                next_typing = now + 1  # the terminal echoes it: an echo is no reason to type
            if not self._receive(min(deadline, next_typing)) and (
                not typing or self.process.poll() is not None or time.monotonic() > deadline
            ):
                raise AssertionError(f"no {pattern!r} in {self.output[self._read :]!r}")

    def finish(self) -> int:
        """Wait for the end of the program; returns its exit status."""
        deadline = time.monotonic() + DEADLINE
        while self._receive(deadline):
            pass
        return self.process.wait(DEADLINE)

    def _receive(self, deadline: float) -> bool:
        """Read more output; returns False at its end, or after the deadline."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that the program has closed its side
            return False
        self.output += data.decode("utf-8", "replace")
        return bool(data)

    @property
    def text(self) -> str:
        """All output so far, without escape sequences."""
        return _SEQUENCES.sub("", self.output)


def program(name: str, *arguments: str) -> list[str]:
    """The command line of one of the package's programs, by any of its names."""
    return [*python_module("pyclustershell", measured=True), name, *arguments]


__all__: Sequence[Any] = ["DEADLINE", "Terminal", "program"]
