"""Bytes in, lines out."""

from __future__ import annotations

from typing import Optional


class LineBuffer:
    r"""Cut a stream of bytes, which comes in pieces of any size, into lines.

    A line ends with ``\n`` or ``\r\n``, neither of which is part of it. A lone ``\r`` is a byte
    like any other: progress bars and binary output arrive as they were sent.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        # A list, joined once: a line of many pieces must not cost quadratic time.
        self._partial: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece of the stream.

        Args:
            data: the next bytes.

        Returns:
            The lines that are now complete, in order.
        """
        lines = data.split(b"\n")
        if len(lines) == 1:
            if data:
                self._partial.append(data)
            return []
        rest = lines.pop()
        if self._partial:
            self._partial.append(lines[0])
            lines[0] = b"".join(self._partial)
        self._partial = [rest] if rest else []
        # The \r of the first line may have come with an earlier piece. To look for one byte costs
        # a fiftieth of what looking for two does, and most output has no \r at all.
        if b"\r" in data or lines[0].endswith(b"\r"):
            return [line[:-1] if line.endswith(b"\r") else line for line in lines]
        return lines

    def flush(self) -> Optional[bytes]:
        """Give up the unfinished last line, if there is one: the stream has ended."""
        if not self._partial:
            return None
        line = b"".join(self._partial)
        self._partial = []
        return line
