"""Event handlers of clush: they print output as it arrives."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from typing import IO, Any, Optional

from .. import platform
from ..event import EventHandler
from ..nodeset import NodeSet
from .labelled import VERB_QUIET, VERB_STD, VERB_VERB, Display, by_size
from .manner import Manner
from .progress import Progress

#: The number of files of --outdir, and of --errdir, that are open at once.
_OPEN_FILES = 64

# Characters that no name of a file can have, or that lead to another directory, drive or stream.
_NOT_ON_POSIX = "/\0"
_NOT_ON_WINDOWS = _NOT_ON_POSIX + '<>:"|?*\\'


class OutputHandler(EventHandler):
    """Prints each line as it arrives.

    Args:
        display: prints the lines.
        prog: the program's name.
        manner: the manner to keep to.
        progress: shows the progress.
        live: False to leave standard output for the end.
        ends: True to print the exit status of a node when it has ended, if it is not 0.

    Attributes:
        files: the files of --outdir and --errdir, by stream.
        ended: the nodes that have ended by themselves.
    """

    def __init__(
        self,
        display: Display,
        prog: str,
        manner: Manner,
        progress: Progress,
        live: bool = True,
        ends: bool = True,
    ) -> None:
        self._display = display
        self._prog = prog
        self._sums_up = manner.sums_up
        self._folds_failures = manner.sums_up and display.verbosity < VERB_VERB
        self._progress = progress
        self._live = live
        self._ends = ends and not manner.sums_up
        self.files: dict[str, NodeFiles] = {}
        self.ended: set[Any] = set()
        self._failed_gateways: set[str] = set()

    def ev_pickup(self, worker: Any, node: Any) -> None:
        """Count a command that runs."""
        self._progress.note_start(node)

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        """Print a line, and write it to its file."""
        if node in self._failed_gateways:
            # It has been said, see ev_routing(). ClusterShell shows this line as well.
            if not self._sums_up:
                self._print_error(node, msg)
            return
        if sname in self.files:
            self.files[sname].write(node, msg)
        if sname != worker.SNAME_STDOUT:
            # The summary prints a failure once for a thousand nodes, not a thousand times.
            if not self._folds_failures or not _failure(worker, node):
                self._print_error(node, msg)
        elif self._live:
            self._progress.clear()
            self._display.print_line(node, msg)
            self._display.out.flush()

    def _print_error(self, node: Any, msg: bytes) -> None:
        self._progress.clear()
        self._display.print_line_error(node, msg)
        self._display.err.flush()

    def ev_routing(self, worker: Any, arg: dict[str, Any]) -> None:
        """Say that a gateway has failed, and which nodes are reached through another one."""
        self._progress.clear()
        self._failed_gateways.add(arg["gateway"])
        if self._sums_up:
            text = (
                f"gateway {arg['gateway']} has failed ({arg['error'].cause}): "
                f"{arg['targets']}: another one is tried"
            )
        else:
            text = (
                f"rerouting commands for {arg['targets']} due to the failure of gateway "
                f"{arg['gateway']}"
            )
        self._display.vprint_err(VERB_STD, f"{self._prog}: {text}")

    def clear_progress(self) -> None:
        """Remove the progress, before another line is printed."""
        self._progress.clear()

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        """Count bytes of standard input."""
        self._progress.note_bytes(size)

    def ev_hup(self, worker: Any, node: Any, rc: Optional[int]) -> None:
        """Count a node that has ended; print its exit status."""
        self.ended.add(node)
        self._progress.note_end(node, not rc)
        if rc and rc > 0 and self._ends:
            self._progress.clear()
            level = VERB_STD if self._display.maxrc else VERB_QUIET
            self._display.vprint_err(level, f"{self._prog}: {node}: exited with exit code {rc}")

    def ev_close(self, worker: Any, timedout: bool) -> None:
        """Close the files."""
        for files in self.files.values():
            files.close()


def _failure(worker: Any, node: Any) -> Any:
    """Why no command could be run on a node; None for commands of this host."""
    return worker.node_failure(node) if hasattr(worker, "node_failure") else None


class LiveGatherHandler(OutputHandler):
    """Gathers line by line: a line is printed when all nodes have sent theirs, or have ended.

    Args:
        nodes: the nodes.
        display, prog, manner, progress: as for OutputHandler.
    """

    def __init__(
        self, nodes: NodeSet, display: Display, prog: str, manner: Manner, progress: Progress
    ) -> None:
        live = display.verbosity == VERB_VERB
        super().__init__(display, prog, manner, progress, live=live, ends=False)
        self._total = len(nodes)
        # The numbers of lines: of each node; printed so far; of the nodes that have ended.
        self._counts: Counter[str] = Counter()
        self._printed = 0
        self._ended: Counter[int] = Counter()
        # The number of ended nodes without a line for the first pending one.
        self._silent = 0
        # The pending lines: their texts, each with its nodes; and the number of all these nodes.
        self._pending: deque[dict[bytes, list[str]]] = deque()
        self._sizes: deque[int] = deque()

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        """Keep a line, and print those that are complete."""
        super().ev_read(worker, node, sname, msg)
        if sname != worker.SNAME_STDOUT:
            return
        position = self._counts[node] - self._printed
        self._counts[node] += 1
        if position == len(self._pending):
            self._pending.append({})
            self._sizes.append(0)
        self._pending[position].setdefault(msg, []).append(node)
        self._sizes[position] += 1
        self._print_complete()

    def ev_hup(self, worker: Any, node: Any, rc: Optional[int]) -> None:
        """Wait for this node no longer."""
        super().ev_hup(worker, node, rc)
        count = self._counts[node]
        self._ended[count] += 1
        if count <= self._printed:
            self._silent += 1
            self._print_complete()

    def _print_complete(self) -> None:
        while self._pending and self._sizes[0] + self._silent >= self._total:
            self._print_first()

    def _print_first(self) -> None:
        self._progress.clear()
        self._sizes.popleft()
        self._printed += 1
        self._silent += self._ended[self._printed]
        lines = self._pending.popleft().items()
        groups = [(NodeSet.fromlist(nodes), line) for line, nodes in lines]
        for nodes, line in sorted(groups, key=lambda group: by_size(group[0])):
            self._display.print_gather(nodes, [line])
        self._display.out.flush()

    def ev_close(self, worker: Any, timedout: bool) -> None:
        """Print the rest: some nodes have not ended by themselves."""
        super().ev_close(worker, timedout)
        while self._pending:
            self._print_first()


class CopyHandler(OutputHandler):
    """Prints the copies of one source after another, and the errors of single files.

    Args:
        sources: the number of sources.
        reverse: True for copies from the nodes.
        display, prog, manner, progress: as for OutputHandler.
    """

    def __init__(
        self,
        sources: int,
        reverse: bool,
        display: Display,
        prog: str,
        manner: Manner,
        progress: Progress,
    ) -> None:
        super().__init__(display, prog, manner, progress)
        self._sources_left = sources
        self._reverse = reverse
        self._sizes: dict[tuple[Any, Any], int] = {}

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        """Count bytes of files: the event tells all bytes of a node so far."""
        before = self._sizes.get((worker, node), 0)
        self._sizes[worker, node] = size
        self._progress.note_bytes(size - before)

    def ev_close(self, worker: Any, timedout: bool) -> None:
        """List the copies of a source that have succeeded, if verbose."""
        self._progress.clear()
        for rc, nodes in worker.iter_retcodes():
            if rc == 0 and self._display.verbosity >= VERB_VERB:
                self._print_copied(worker, nodes)
        self._sources_left -= 1
        if not self._sources_left:
            self._progress.finish()

    def _print_copied(self, worker: Any, nodes: NodeSet) -> None:
        source, dest = worker.source, worker.dest
        if self._sums_up:
            there = (
                f"{nodes}:{source} -> {dest}" if self._reverse else f"{source} -> {nodes}:{dest}"
            )
            self._display.vprint_err(VERB_VERB, f"{self._prog}: {there}")
        elif self._reverse:
            self._display.vprint(VERB_VERB, f"{nodes}:`{source}' -> `{dest}'")
        else:
            self._display.vprint(VERB_VERB, f"`{source}' -> {nodes}:`{dest}'")


def file_name(node: str) -> str:
    """Return the name of a node's file: the node's own, if a file can have it.

    Names of nodes come from files and groups: none may lead to another directory. Characters that
    cannot be in the name of a file are written as in URLs: ``ssh://node1`` is ``ssh:%2F%2Fnode1``.
    """
    refused = _NOT_ON_WINDOWS if platform.WINDOWS_PATHS else _NOT_ON_POSIX
    if node in (".", ".."):
        refused = "."
    return "".join(f"%{ord(char):02X}" if char in refused else char for char in node)


class NodeFiles:
    """A file for each node, named by :func:`file_name`. Few of them are open at once.

    Args:
        directory: where they are; it is made if it does not exist.
        nodes: the nodes; their files are emptied, or made.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(self, directory: str, nodes: Iterable[str]) -> None:
        self._directory = directory
        self._open: OrderedDict[str, IO[bytes]] = OrderedDict()
        if not os.path.exists(directory):
            os.makedirs(directory)
        for node in nodes:
            with open(self._path(node), "wb"):
                pass

    def _path(self, node: str) -> str:
        return os.path.join(self._directory, file_name(node))

    def write(self, node: str, line: bytes) -> None:
        """Append a line. Raises OSError if it cannot be written."""
        file = self._open.get(node)
        if file is None:
            file = self._open[node] = open(self._path(node), "ab")  # noqa: SIM115 see close()
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(node)
        file.write(line + b"\n")

    def close(self) -> None:
        """Write the rest. Raises OSError if it cannot be written."""
        while self._open:
            self._open.popitem()[1].close()
