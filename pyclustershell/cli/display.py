"""What ``pyclush`` prints: lines as they come, gathered output, and the summary."""

from __future__ import annotations

import os
from typing import BinaryIO

from ..nodeset import NodeSet
from ..printable import printable, printable_bytes

_RULE = b"-" * 15


def label(nodes: NodeSet, counted: bool = True) -> str:
    """A folded node set, with the number of its nodes where there is more than one."""
    return f"{nodes} ({len(nodes)})" if counted and len(nodes) > 1 else str(nodes)


class Display:
    """Writes bytes as they are: what nodes print need not be text in this terminal's encoding.

    On a terminal, though, controls in what nodes print are shown by name (``^[``), colours aside:
    a node must not rewrite other nodes' lines, nor have the terminal do worse. What the summary
    says of a node's troubles may be the node's own words: there, no controls are let through
    anywhere.

    Each line is flushed, so that it is seen when it comes.

    Args:
        stdout: where the nodes' standard output goes.
        stderr: where their standard error and the summary go.
        quiet: print neither counts nor a summary.
        program: the name that begins the lines of the summary.
        raw: print what nodes say as it is on terminals, too.
    """

    def __init__(
        self, stdout: BinaryIO, stderr: BinaryIO, quiet: bool, program: str, raw: bool = False
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self._program = program
        self._progress_shown = False
        self._shown = {stream for stream in (stdout, stderr) if stream.isatty() and not raw}

    def line(self, node: str, line: bytes) -> None:
        """Print a line of a node's standard output."""
        self._write(self._stdout, _encode(node) + b": " + self._said(self._stdout, line) + b"\n")

    def error_line(self, node: str, line: bytes) -> None:
        """Print a line of a node's standard error."""
        self._write(self._stderr, _encode(node) + b": " + self._said(self._stderr, line) + b"\n")

    def gathered(self, nodes: NodeSet, output: bytes) -> None:
        """Print the output that some nodes have in common, under their names."""
        title = _encode(label(nodes, counted=not self._quiet))
        output = self._said(self._stdout, output)
        self._write(self._stdout, b"\n".join((_RULE, title, _RULE, output, b"")))

    def summary(self, nodes: NodeSet, text: str) -> None:
        """Print what became of some nodes, on standard error."""
        self.message(f"{label(nodes)}: {text}")

    def message(self, text: str) -> None:
        """Print a line about the run as a whole, on standard error, unless quiet."""
        if not self._quiet:
            self._write(self._stderr, _encode(f"{self._program}: {text}") + b"\n")

    def progress(self, text: str) -> None:
        """Show how far it has come in the terminal's last line, where standard error is one.

        Args:
            text: what to show, in the place of what was shown before; '' to show nothing.
        """
        if self._quiet or not self._stderr.isatty() or not (text or self._progress_shown):
            return
        # Back to the line's begin, and what is right of the text is erased (ECMA-48, EL).
        shown = _encode(f"{self._program}: {text}") if text else b""
        self._progress_shown = False
        self._write(self._stderr, b"\r" + shown + b"\x1b[K")
        self._progress_shown = bool(text)

    def _said(self, stream: BinaryIO, data: bytes) -> bytes:
        """What a node has said, as a stream may get it."""
        return printable_bytes(data, colours=True) if stream in self._shown else data

    def _write(self, stream: BinaryIO, data: bytes) -> None:
        if self._progress_shown:
            self.progress("")  # no line is written behind it
        stream.write(data)
        stream.flush()


def _encode(text: str) -> bytes:
    return os.fsencode(printable(text))
