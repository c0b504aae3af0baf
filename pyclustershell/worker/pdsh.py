"""Workers over the local ``pdsh``, ``pdcp`` and ``rpdcp`` programs."""

from __future__ import annotations

import errno
import re
from typing import Any, NamedTuple, Optional

from ..exceptions import LineTooLongError, WorkerError
from ..nodeset import NodeSet
from ..transport.state import Aborted, Exited, Failed, Output, Record, Started, TimedOut, Written
from .exec import CommandLine, CopyClient, ExecClient, ExecWorker
from .rsh import program

# What pdsh says of a node itself: "pdsh@thishost: node: text".
_OWN_LINE = re.compile(rb"r?pd(?:sh|cp)@[^:\s]*: (?:(?P<node>[^:\s]+): )?(?P<text>.*)")
_EXITED = re.compile(rb".* exited with exit code (\d+)")
_KILLED = re.compile(rb".* killed by signal (\d+)")
_TIMED_OUT = b"command timeout"
# It says so when it ends a node's command after the command timeout.
_SENDING = re.compile(rb"sending (SIGTERM to|signal \d+ to) ")

_RC_FAILED = 255


class PdshLine(NamedTuple):
    """What a line of pdsh's output means.

    Attributes:
        label: the node as pdsh writes it; None if the line is of no node.
        text: a line to show for the node; None if there is none.
        end: how the node ended, None if the line does not tell.
    """

    label: Optional[str]
    text: Optional[bytes]
    end: Optional[Record] = None


def parse_line(line: bytes) -> PdshLine:
    """Read a line of pdsh's output: a node's line, or one of pdsh's own."""
    own = _OWN_LINE.fullmatch(line)
    if own is None:
        label, colon, text = line.partition(b": ")
        if not colon or _SENDING.match(line):
            return PdshLine(None, None)
        return PdshLine(_decode(label), text)
    if own["node"] is None:
        return PdshLine(None, None)
    node, text = _decode(own["node"]), own["text"]
    if text == _TIMED_OUT:
        return PdshLine(node, None, TimedOut())
    if exited := _EXITED.fullmatch(text):
        return PdshLine(node, None, Exited(int(exited[1])))
    if killed := _KILLED.fullmatch(text):
        return PdshLine(node, None, Exited(128 + int(killed[1])))
    # The connection failed ("connect: Connection refused"), or a file could not be copied.
    return PdshLine(node, text, Exited(_RC_FAILED))


def _decode(label: bytes) -> str:
    return label.decode(errors="surrogateescape")


class PdshClient(ExecClient):
    """The command of all nodes through one ``pdsh``.

    pdsh labels each line with its node, and tells on its stderr how a node ended, unless that was
    well: those nodes end with pdsh. Where one prints a line that is too long, they fail together.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open = dict.fromkeys(self.nodes)
        # How nodes ended of which pdsh has told, but of which output may still be on its way.
        self._ends: dict[str, Record] = {}
        # pdsh leaves the domain out of its labels where all nodes have the same one.
        self._by_label = {node.partition(".")[0]: node for node in self.nodes}
        self._by_label.update((node, node) for node in self.nodes)
        # What pdsh said of no node: its own trouble, should it fail.
        self._own_words: list[bytes] = []

    @property
    def ends(self) -> int:
        """How many ends the worker waits for: the nodes', and pdsh's own, after which it closes."""
        return len(self.nodes) + 1

    def _options(self) -> list[str]:
        """The options that pdsh and pdcp share."""
        return ["-b", "-f", str(self.worker.bound_task().info("fanout")), "-w", self._targets()]

    def _targets(self) -> str:
        nodes = NodeSet(self.key)
        nodes.autostep = None  # pdsh knows no steps
        return str(nodes)

    def _build_cmd(self) -> CommandLine:
        info = self.worker.bound_task().info
        words = [*program(info("pdsh_path") or "pdsh"), *self._options()]
        env = {}
        if info("connect_timeout"):
            # pdsh's own -t is for rsh; ssh is told by its options.
            env["PDSH_SSH_ARGS_APPEND"] = f"-o ConnectTimeout={info('connect_timeout'):.0f}"
        if info("command_timeout"):
            words += ["-u", f"{info('command_timeout'):.0f}"]
        return [*words, self.command or ""], env

    def _hand_on(self, record: Record) -> None:
        if isinstance(record, Output):
            self._parse(record)
        elif isinstance(record, Started):
            for node in self.nodes:
                self._worker.deliver(node, record)
        elif not isinstance(record, Written):
            self._on_end(record)

    def _parse(self, record: Output) -> None:
        for line in record.lines:
            if self._ended:  # by a handler
                return
            label, text, end = parse_line(line)
            node = None if label is None else self._by_label.get(label)
            if node is None:
                self._own_words.append(line)
            elif node in self._open:
                if text is not None:
                    self._worker.deliver(node, Output(record.sname, [text]))
                if end is not None:
                    self._on_node_end(node, end)

    def _on_node_end(self, node: str, end: Record) -> None:
        if node in self._ends or self._engine is None:
            # The first word counts: a node that timed out is killed by a signal next.
            return
        self._ends[node] = end
        if self._stderr:
            # Its last output may wait in the other pipe, which the loop will have read after one
            # whole pass: that is what lies between the two posts.
            self._engine.post(self._engine.post, self._close_node, node)
        else:
            self._close_node(node)

    def _close_node(self, node: str) -> None:
        if node in self._open:
            del self._open[node]
            self._worker.deliver(node, self._ends[node])

    def _on_end(self, record: Record) -> None:
        """pdsh itself has ended, or was ended."""
        trouble = self._trouble(record)
        for node in list(self._open):
            self._ends.setdefault(node, Aborted() if trouble else record)
            self._close_node(node)
        self._worker.forget_client()
        if trouble:
            raise WorkerError(trouble)

    def _trouble(self, record: Record) -> str:
        """What went wrong with pdsh itself, if anything."""
        if isinstance(record, Failed) and not isinstance(record.error, LineTooLongError):
            return f"cannot run pdsh: {record.error}"
        if isinstance(record, Exited) and record.rc > 0:
            words = b"; ".join(self._own_words).decode(errors="replace")
            return f"pdsh failed with {record.rc}: {words or 'it did not say why'}"
        return ""


class PdcpClient(PdshClient, CopyClient):
    """The copies to or from all nodes through one ``pdcp`` or ``rpdcp``."""

    def _options(self) -> list[str]:
        options = PdshClient._options(self)
        connect_timeout = self.worker.bound_task().info("connect_timeout")
        if connect_timeout:
            options += ["-t", f"{connect_timeout:.0f}"]
        return [*options, *CopyClient._options(self)]

    def _build_cmd(self) -> CommandLine:
        name = "rpdcp" if self.reverse else "pdcp"
        path = self.worker.bound_task().info(f"{name}_path") or name
        return [*program(path), *self._options(), self.source, self.dest], None

    def _on_node_end(self, node: str, end: Record) -> None:
        # More may be said of this node. The status of ssh, where one is told, is not the copy's.
        self._ends.setdefault(node, Exited(errno.ENOENT) if isinstance(end, Exited) else end)


class WorkerPdsh(ExecWorker):
    """Runs a command, or copies files, through one local ``pdsh`` (``pdcp``, ``rpdcp``) program.

    pdsh reaches the nodes as it is configured to (``PDSH_RCMD_TYPE``). The task's info keys
    ``pdsh_path``, ``pdcp_path`` and ``rpdcp_path`` (programs, perhaps with options), ``fanout``,
    ``connect_timeout`` and ``command_timeout`` (whole seconds) say how it is called.

    Its limits are pdsh's: there is no standard input, ``%h`` and the like in a command are for pdsh
    to replace, and a node whose command ended well is told of when all have ended. A copy that
    failed has the return code ENOENT. Where pdsh itself fails, a WorkerError leaves
    ``Task.resume()``.

    Args and errors: as :class:`~.exec.ExecWorker`.
    """

    SHELL_CLASS = PdshClient
    COPY_CLASS = PdcpClient

    def _shares(self) -> list[tuple[Any, Optional[int]]]:
        return [(self.nodes, None)]

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Not possible.

        Raises:
            WorkerError: always.
        """
        raise WorkerError("pdsh takes no standard input: use another worker to write to commands")

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Not possible, nor needed.

        Raises:
            WorkerError: always.
        """
        raise WorkerError("pdsh takes no standard input: there is nothing to close")


WORKER_CLASS = WorkerPdsh
