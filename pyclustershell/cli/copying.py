"""``pyclush --copy`` and ``--rcopy``: what is copied where, and how far it has come."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Optional

from ..event import EventHandler
from ..nodeset import NodeSet
from .display import Display

if TYPE_CHECKING:
    from ..task import Task
    from ..worker.ssh import WorkerSsh

# Seconds between two looks at the progress, at the least.
_INTERVAL = 0.2

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def check_paths(sources: Sequence[str], dest: Optional[str], reverse: bool) -> Optional[str]:
    """What is wrong with the paths of this host, if anything."""
    if not reverse:
        for source in sources:
            if not os.path.exists(source):
                return f"{source}: there is no such file or directory to copy"
    elif dest is not None and not os.path.isdir(dest):
        return f"--dest {dest}: not a directory, which --rcopy needs"
    else:
        for source in sources:
            directory = default_dest(source)
            if dest is None and not os.path.isdir(directory):
                return f"{directory}: there is no such directory here: name another with --dest"
    return None


def default_dest(source: str) -> str:
    """Where a source goes without --dest: to the directory that it comes from, as clush has it."""
    return os.path.dirname(os.path.abspath(source))


def schedule_copies(
    task: Task,
    nodes: NodeSet,
    sources: Sequence[str],
    dest: Optional[str],
    preserve: bool,
    reverse: bool,
    handler: EventHandler,
) -> None:
    """Schedule a copy for each source."""
    for source in sources:
        to = dest
        if to is None:
            to = default_dest(source)
            if not reverse:
                to = os.path.join(to, "")  # a directory: a file of this name is not wanted
        task.copy(source, to, nodes, handler=handler, preserve=preserve, reverse=reverse)


def human(size: float) -> str:
    """A number of bytes in three digits or so."""
    for unit in _UNITS[:-1]:
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


class CopyHandler(EventHandler):
    """Prints the nodes' failures, and the progress on a terminal.

    Args:
        display: prints.
        ends: how many times a node has to end: nodes times sources.
        verbose: print what was copied where, and what scp would say of each node that failed.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        display: Display,
        ends: int,
        verbose: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display = display
        self._ends = ends
        self._verbose = verbose
        self._clock = clock
        self._began = self._told = clock()
        self._sizes: dict[tuple[WorkerSsh, str], int] = {}
        self._size = 0
        self._ended = 0

    def ev_written(self, worker: WorkerSsh, node: str, sname: str, size: int) -> None:  # type: ignore[override]
        """A node has got further: tell, now and then."""
        self._size += size - self._sizes.get((worker, node), 0)
        self._sizes[worker, node] = size
        now = self._clock()
        if now - self._told >= _INTERVAL:
            self._told = now
            self._display.progress(self._progress(now))

    def _progress(self, now: float) -> str:
        rate = self._size / max(now - self._began, 1e-3)
        return f"{self._ended}/{self._ends} done, {human(self._size)}, {human(rate)}/s"

    def ev_read(self, worker: WorkerSsh, node: str, sname: str, msg: bytes) -> None:  # type: ignore[override]
        """Something could not be copied. What failed as a whole is in the summary."""
        if self._verbose or worker.node_failure(node) is None:
            self._display.error_line(node, msg)

    def ev_hup(self, worker: WorkerSsh, node: str, rc: Optional[int]) -> None:  # type: ignore[override]
        """A node has ended."""
        self._ended += 1

    def ev_close(self, worker: WorkerSsh, timedout: bool) -> None:  # type: ignore[override]
        """All nodes have ended for one source."""
        self._display.progress("")
        if not self._verbose:
            return
        for rc, nodes in worker.iter_retcodes():
            if rc == 0:
                source, dest = f"{worker.source}", f"{nodes}:{worker.dest}"
                if worker.reverse:
                    source, dest = f"{nodes}:{worker.source}", f"{worker.dest}"
                self._display.message(f"{source} -> {dest}")
