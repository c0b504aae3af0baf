"""Workers over the local ``pdsh``, ``pdcp`` and ``rpdcp`` programs."""

from __future__ import annotations

import errno
import re
from typing import Any, NamedTuple, Optional

from ..exceptions import LineTooLongError, WorkerError
from ..nodeset import NodeSet
from ..records import Aborted, Exited, Failed, Output, Record, Started, TimedOut, Written
from .exec import CommandLine, CopyClient, ExecClient, ExecWorker
from .rsh import program

# A message of pdsh itself about a node: "pdsh@thishost: node: text".
_OWN_LINE = re.compile(rb"r?pd(?:sh|cp)@[^:\s]*: (?:(?P<node>[^:\s]+): )?(?P<text>.*)")
_EXITED = re.compile(rb".* exited with exit code (\d+)")
_KILLED = re.compile(rb".* killed by signal (\d+)")
_TIMED_OUT = b"command timeout"
# pdsh prints this when it kills a node's command after the command timeout.
_SENDING = re.compile(rb"sending (SIGTERM to|signal \d+ to) ")

_RC_FAILED = 255


class PdshLine(NamedTuple):
    """A parsed line of pdsh's output.

    Attributes:
        label: the node as pdsh writes it; None if the line concerns no node.
        text: a line of the node's output; None if there is none.
        end: the record of the node's end; None if the node has not ended.
    """

    label: Optional[str]
    text: Optional[bytes]
    end: Optional[Record] = None


def parse_line(line: bytes) -> PdshLine:
    """Parse a line of pdsh's output: a line of a node's output, or a message of pdsh itself."""
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

    pdsh labels each line with its node, and reports on its stderr each node whose command failed.
    It does not report success, so all other nodes end when pdsh ends. If one node prints a line
    that is too long, all nodes that have not ended fail.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open_nodes = dict.fromkeys(self.nodes)
        # The ends that pdsh has reported. Output of these nodes may still be unread.
        self._end_records: dict[str, Record] = {}
        # pdsh omits the domain in its labels if all nodes have the same one.
        self._by_label = {node.partition(".")[0]: node for node in self.nodes}
        self._by_label.update((node, node) for node in self.nodes)
        # Lines that concern no node. If pdsh fails, they say why.
        self._own_lines: list[bytes] = []

    @property
    def num_ends(self) -> int:
        """The number of ends that the worker waits for: the nodes' ends, then that of pdsh."""
        return len(self.nodes) + 1

    def _end_unstarted(self) -> None:
        super()._end_unstarted()
        self._worker.count_end()

    def _options(self) -> list[str]:
        """Return the options that pdsh and pdcp have in common."""
        return ["-b", "-f", str(self.worker.context.info.get("fanout")), "-w", self._targets()]

    def _targets(self) -> str:
        nodes = NodeSet(self.key)
        nodes.autostep = None  # pdsh does not support steps such as [0-8/2]
        return str(nodes)

    def _build_cmd(self) -> CommandLine:
        self._check_names()
        info = self.worker.context.info
        words = [*program(info.get("pdsh_path") or "pdsh"), *self._options()]
        env = {}
        if info.get("connect_timeout"):
            # The option -t of pdsh works with rsh only; ssh needs an option of its own.
            env["PDSH_SSH_ARGS_APPEND"] = f"-o ConnectTimeout={info.get('connect_timeout'):.0f}"
        if info.get("command_timeout"):
            words += ["-u", f"{info.get('command_timeout'):.0f}"]
        return [*words, self.command or ""], env

    def _deliver_to_worker(self, record: Record) -> None:
        if isinstance(record, Output):
            self._parse(record)
        elif isinstance(record, Started):
            for node in self.nodes:
                self._worker.deliver(node, record)
        elif not isinstance(record, Written):
            self._on_end(record)

    def _parse(self, record: Output) -> None:
        for line in record.lines:
            if self._ended:  # a handler has aborted the worker
                return
            label, text, end = parse_line(line)
            node = None if label is None else self._by_label.get(label)
            if node is None:
                self._own_lines.append(line)
            elif node in self._open_nodes:
                if text is not None:
                    self._worker.deliver(node, Output(record.sname, [text]))
                if end is not None:
                    self._on_node_end(node, end)

    def _on_node_end(self, node: str, end: Record) -> None:
        if node in self._end_records or self._engine is None:
            # The first report counts: after "command timeout", pdsh also reports the signal that
            # killed the command.
            return
        self._end_records[node] = end
        if self._stderr:
            # The node's last output may still be in the pipe of stdout. The loop reads this pipe
            # within one whole pass, and one whole pass lies between the two posts.
            self._engine.post(self._engine.post, self._close_node, node)
        else:
            self._close_node(node)

    def _close_node(self, node: str) -> None:
        if node in self._open_nodes:
            del self._open_nodes[node]
            self._worker.deliver(node, self._end_records[node])

    def _on_end(self, record: Record) -> None:
        """End the remaining nodes: pdsh has ended, or was ended.

        Raises:
            WorkerError: pdsh failed, and the worker was not submitted.
        """
        message = self._error_message(record)
        error = WorkerError(message) if message else None
        # A submitted worker: only its future fails.
        kept = error is None or self._worker.keep_error(error)
        for node in list(self._open_nodes):
            self._end_records.setdefault(node, Aborted() if message else record)
            self._close_node(node)
        self._worker.count_end()
        if error is not None and not kept:
            raise error

    def _error_message(self, record: Record) -> str:
        """Return an error message if pdsh itself failed, else an empty string."""
        if isinstance(record, Failed) and not isinstance(record.error, LineTooLongError):
            return f"cannot run pdsh: {record.error}"
        if isinstance(record, Exited) and record.rc > 0:
            reason = b"; ".join(self._own_lines).decode(errors="replace")
            return f"pdsh failed with exit status {record.rc}: {reason or 'it printed no reason'}"
        return ""


class PdcpClient(PdshClient, CopyClient):
    """The copies to or from all nodes through one ``pdcp`` or ``rpdcp``."""

    def _options(self) -> list[str]:
        options = PdshClient._options(self)
        connect_timeout = self.worker.context.info.get("connect_timeout")
        if connect_timeout:
            options += ["-t", f"{connect_timeout:.0f}"]
        return [*options, *CopyClient._options(self)]

    def _build_cmd(self) -> CommandLine:
        self._check_names()
        name = "rpdcp" if self.reverse else "pdcp"
        path = self.worker.context.info.get(f"{name}_path") or name
        return [*program(path), *self._options(), self.source, self.dest], None

    def _on_node_end(self, node: str, end: Record) -> None:
        # The node does not end here, because pdcp may report more about it. A reported status is
        # that of ssh and not that of the copy, so the return code is ENOENT.
        self._end_records.setdefault(node, Exited(errno.ENOENT) if isinstance(end, Exited) else end)


class WorkerPdsh(ExecWorker):
    """Runs a command, or copies files, through one local ``pdsh`` (``pdcp``, ``rpdcp``) program.

    pdsh connects to the nodes with its configured method (``PDSH_RCMD_TYPE``). The task's info keys
    ``pdsh_path``, ``pdcp_path`` and ``rpdcp_path`` (programs, perhaps with options), ``fanout``,
    ``connect_timeout`` and ``command_timeout`` (whole seconds) control the call.

    The limits of pdsh apply. There is no standard input. pdsh itself replaces ``%h`` and similar
    keywords in a command. The end of a successful command is reported only when all commands have
    ended. A failed copy has the return code ENOENT. If pdsh itself fails, ``Task.resume()`` raises
    a WorkerError.

    Arguments and errors are those of :class:`~.exec.ExecWorker`.
    """

    SHELL_CLASS = PdshClient
    COPY_CLASS = PdcpClient

    def _client_keys(self) -> list[tuple[Any, Optional[int]]]:
        return [(self.nodes, None)]

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Not supported: pdsh takes no standard input.

        Raises:
            WorkerError: always.
        """
        raise WorkerError("pdsh takes no standard input: use another worker to write to commands")

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Not supported: pdsh takes no standard input.

        Raises:
            WorkerError: always.
        """
        raise WorkerError("pdsh takes no standard input: there is nothing to close")


WORKER_CLASS = WorkerPdsh
