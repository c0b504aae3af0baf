"""``pyclush --json``: one line for each node, a JSON object with its results."""

from __future__ import annotations

import json
from typing import Any

from .labelled import Display
from .outputhandlers import CopyHandler, OutputHandler


def print_result(display: Display, result: Any, **more: Any) -> None:
    """Print a NodeResult, with more items, as a line of JSON (jsonlines.org), in ASCII."""
    display.out.write(json.dumps({**result.to_dict(), **more}) + "\n")
    display.out.flush()


class JsonHandler(OutputHandler):
    """Prints the result of each node when it has ended, and no output."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        """Write a line to its file; the result has it as well."""
        if sname in self.files:
            self.files[sname].write(node, msg)

    def ev_result(self, worker: Any, node: Any, result: Any) -> None:
        """Print a result."""
        self.clear_progress()
        print_result(self._display, result)


class JsonCopyHandler(CopyHandler):
    """Prints the result of each copy when it has ended, with its source and destination."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        """Print nothing: the result has the line."""

    def ev_result(self, worker: Any, node: Any, result: Any) -> None:
        """Print a result."""
        self.clear_progress()
        print_result(self._display, result, source=str(worker.source), dest=str(worker.dest))
