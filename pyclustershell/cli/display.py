"""What ``pyclush`` prints: lines as they come, gathered output, and the summary."""

from __future__ import annotations

import os
from typing import BinaryIO

from ..nodeset import NodeSet

_RULE = b"-" * 15


def label(nodes: NodeSet, counted: bool = True) -> str:
    """A folded node set, with the number of its nodes where there is more than one."""
    return f"{nodes} ({len(nodes)})" if counted and len(nodes) > 1 else str(nodes)


class Display:
    """Writes bytes as they are: what nodes print need not be text in this terminal's encoding.

    Each line is flushed, so that it is seen when it comes.

    Args:
        stdout: where the nodes' standard output goes.
        stderr: where their standard error and the summary go.
        quiet: print neither counts nor a summary.
        program: the name that begins the lines of the summary.
    """

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO, quiet: bool, program: str) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self._program = program

    def line(self, node: str, line: bytes) -> None:
        """Print a line of a node's standard output."""
        self._write(self._stdout, os.fsencode(node) + b": " + line + b"\n")

    def error_line(self, node: str, line: bytes) -> None:
        """Print a line of a node's standard error."""
        self._write(self._stderr, os.fsencode(node) + b": " + line + b"\n")

    def gathered(self, nodes: NodeSet, output: bytes) -> None:
        """Print the output that some nodes have in common, under their names."""
        title = os.fsencode(label(nodes, counted=not self._quiet))
        self._write(self._stdout, b"\n".join((_RULE, title, _RULE, output, b"")))

    def summary(self, nodes: NodeSet, text: str) -> None:
        """Print what became of some nodes, on standard error."""
        self.message(f"{label(nodes)}: {text}")

    def message(self, text: str) -> None:
        """Print a line about the run as a whole, on standard error, unless quiet."""
        if not self._quiet:
            self._write(self._stderr, os.fsencode(f"{self._program}: {text}\n"))

    @staticmethod
    def _write(stream: BinaryIO, data: bytes) -> None:
        stream.write(data)
        stream.flush()
