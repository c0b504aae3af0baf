"""Local commands for many nodes, and what workers over other local programs are built on."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from ..engine.client import EngineClient
from ..engine.engine import Engine
from ..exceptions import WorkerError
from ..nodeset import NodeSet
from ..transport.process import LocalProcess
from ..transport.state import Output, Record
from .command import CommandClient, CommandWorker, LocalClient
from .worker import DistantWorker

if TYPE_CHECKING:
    from ..task import Task

#: What a client runs: a string for the shell or a program with its arguments, and environment
#: variables to add, if any.
CommandLine = tuple[Union[str, Sequence[str]], Optional[Mapping[str, str]]]


class _Pattern(string.Template):
    delimiter = "%"


def replace_keywords(pattern: str, node: Any, rank: Optional[int]) -> str:
    """Fill a pattern in for one node.

    ``%h``, ``%host`` and ``%hosts`` stand for the node (or the node set), ``%n`` and ``%rank`` for
    its rank, ``%%`` for ``%``; ``%{host}`` is ``%host`` where a letter follows.

    Args:
        pattern: the pattern.
        node: the node's name, or the node set.
        rank: the node's place in the worker's node set, from 0; None stands for 0.

    Raises:
        WorkerError: there is a ``%`` that stands for nothing.
    """
    rank = rank or 0
    try:
        return _Pattern(pattern).substitute(h=node, host=node, hosts=node, n=rank, rank=rank)
    except KeyError as error:
        raise WorkerError(
            f"%{error.args[0]} in {pattern!r} stands for nothing: use %h, %host, %hosts, %n, "
            "%rank, or %% for a percent sign"
        ) from None
    except ValueError:
        raise WorkerError(
            f"a lone % in {pattern!r} stands for nothing: use %% for a percent sign"
        ) from None


class ExecClient(LocalClient):
    """One local command, of one node or of all nodes of a worker.

    A class of your own overrides :meth:`_build_cmd`, and a worker class of your own names it as its
    ``SHELL_CLASS``.

    Attributes:
        key: the node's name, or the NodeSet of a command for all nodes.
        command: the worker's command.
        worker: the worker.
        rank: the node's place in the worker's node set, from 0; None for all nodes.

    Args:
        node: the key.
        command: the command.
        worker: the worker.
        stderr: whether stderr is kept apart from stdout.
        timeout: seconds that the command may take, None or less than 0 for no limit.
        autoclose: whether the run may end although the command has not.
        rank: the rank.
    """

    _worker: ExecWorker

    def __init__(
        self,
        node: Any,
        command: Optional[str],
        worker: ExecWorker,
        stderr: bool,
        timeout: Optional[float],
        autoclose: bool = False,
        rank: Optional[int] = None,
    ) -> None:
        limit = None if timeout is None or timeout < 0 else float(timeout)
        super().__init__(worker, node, limit, autoclose)
        self.key = node
        self.command = command
        self.worker = worker
        self.rank = rank
        self.nodes: list[str] = list(node) if isinstance(node, NodeSet) else [node]
        self._stderr = stderr
        self._command_line: CommandLine = ((), None)

    def _build_cmd(self) -> CommandLine:
        """Say what to run. Called on the task's thread when the client's turn has come.

        Raises:
            WorkerError: it cannot be said; this leaves ``Task.resume()``.
        """
        return replace_keywords(self.command or "", self.key, self.rank), None

    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come."""
        # First of all: where there is no command line, nobody hears of a start.
        if not self._ended:
            self._command_line = self._build_cmd()
        super().start(engine)

    def _make_process(self, engine: Engine) -> LocalProcess:
        task = self.worker.bound_task()
        command, env = self._command_line
        shown = command if isinstance(command, str) else " ".join(command)
        task.debug(f"{type(self).__name__.upper()}: {shown}")
        return LocalProcess(
            command,
            engine,
            task.reaper,
            self._deliver,
            merge_stderr=not self._stderr,
            env=env,
            kill_grace=task.info("ssh_kill_grace"),
            name=str(self.key),
            line_limit=task.info("line_limit"),
        )

    def _hand_on(self, record: Record) -> None:
        if len(self.nodes) == 1:
            self._worker.deliver(self.nodes[0], record)
        elif isinstance(record, Output):
            for line in record.lines:
                for node in self.nodes:
                    if not self._worker.aborted:
                        self._worker.deliver(node, Output(record.sname, [line]))
        else:
            for node in self.nodes:
                self._worker.deliver(node, record)

    @property
    def ends(self) -> int:
        """How many ends the worker waits for: the nodes'."""
        return len(self.nodes)

    def _forget(self) -> None:
        for _ in range(self.ends):
            self._worker.forget_client()


class CopyClient(ExecClient):
    """One local ``cp``, of one node.

    A class of your own overrides :meth:`_build_cmd`, and a worker class of your own names it as its
    ``COPY_CLASS``.

    Attributes:
        source: the worker's source.
        dest: its destination.
        preserve: whether modification times and modes are preserved.
        reverse: whether the destination is copied to the source.
        isdir: whether what is copied is a directory; in reverse, always.

    Raises:
        ValueError: there is no destination; or, in reverse, it is no directory.
    """

    def __init__(
        self,
        node: Any,
        source: str,
        dest: Optional[str],
        worker: ExecWorker,
        stderr: bool,
        timeout: Optional[float],
        autoclose: bool = False,
        preserve: bool = False,
        reverse: bool = False,
        rank: Optional[int] = None,
    ) -> None:
        super().__init__(node, None, worker, stderr, timeout, autoclose, rank)
        if not dest:
            raise ValueError(f"no destination for the copy of {source!r}: say dest=")
        if reverse and not os.path.isdir(dest):
            raise ValueError(f"the destination of a reverse copy must be a directory, not {dest!r}")
        self.source = source
        self.dest = dest
        self.preserve = preserve
        self.reverse = reverse
        self.isdir = reverse or os.path.isdir(source)

    def _options(self) -> list[str]:
        """The options that cp, rcp and pdcp share."""
        return ["-r"] * bool(self.isdir) + ["-p"] * bool(self.preserve)

    def _build_cmd(self) -> CommandLine:
        source = replace_keywords(self.source, self.key, self.rank)
        dest = replace_keywords(self.dest, self.key, self.rank)
        paths = [dest, source] if self.reverse else [source, dest]
        return ["cp", *self._options(), *paths], None


class ExecWorker(CommandWorker, DistantWorker):
    """Runs a command on this host once for each node, or copies files on this host.

    In the command (or in source and dest) ``%h`` and ``%host`` are replaced by the node's name,
    ``%n`` and ``%rank`` by its place in the node set, ``%%`` by ``%``. A command with ``%hosts`` is
    run once for all nodes: it is replaced by the node set, and what the command prints and returns
    counts for each node.

    Worker classes over other local programs are derived from this one, with a client class that
    says what to run::

        class QuickClient(ExecClient):
            def _build_cmd(self):
                return ["quick-ssh", self.key, self.command], {"QUICK": "1"}

        class QuickWorker(ExecWorker):
            SHELL_CLASS = QuickClient

        task.set_default("distant_worker", QuickWorker)

    Args:
        nodes: the nodes: a NodeSet, or what NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that each command may take; None for no limit.
        command: the command, for this host's shell.
        source: what to copy, where there is no command; this needs a ``cp`` program.
        dest: where to copy it.
        preserve: whether copies preserve modification times and modes.
        reverse: whether to copy dest, a directory, to source.
        stderr: whether stderr is kept apart; if not, both streams are one.
        autoclose: whether the run may end although this worker has not.
        remote: accepted for ClusterShell's sake.

    Raises:
        ValueError: there is neither a command nor a source; or the copy makes no sense.
        NodeSetParseError: the nodes cannot be parsed.
    """

    #: The class of the clients that run a command.
    SHELL_CLASS: ClassVar[type[ExecClient]] = ExecClient
    #: The class of the clients that copy.
    COPY_CLASS: ClassVar[type[CopyClient]] = CopyClient

    def __init__(
        self,
        nodes: Any,
        handler: Any = None,
        timeout: Optional[float] = None,
        command: Union[str, bytes, None] = None,
        source: Optional[str] = None,
        dest: Optional[str] = None,
        preserve: Optional[bool] = False,
        reverse: bool = False,
        stderr: bool = False,
        autoclose: bool = False,
        remote: bool = True,
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        self.nodes = NodeSet(nodes)
        self.command: Optional[str] = (
            os.fsdecode(command) if isinstance(command, bytes) else command
        )
        self.source = source
        self.dest = dest
        self.preserve = bool(preserve)
        self.reverse = reverse
        if command is None and not source:
            raise ValueError(f"{type(self).__name__} needs a command, or a source and a dest")
        self._exec_clients = [self._make_client(key, rank) for key, rank in self._shares()]

    def __repr__(self) -> str:
        what = self.command if self.command is not None else f"{self.source} -> {self.dest}"
        return f"<{type(self).__name__} {what!r} on {self.nodes}: {self._open_clients} nodes to go>"

    def _shares(self) -> Iterable[tuple[Any, Optional[int]]]:
        """The key and the rank of each client: each node, or all of them."""
        if self.command is not None and ("%hosts" in self.command or "%{hosts}" in self.command):
            return [(self.nodes, None)]
        return [(node, rank) for rank, node in enumerate(self.nodes)]

    def _make_client(self, key: Any, rank: Optional[int]) -> ExecClient:
        if self.command is not None:
            return self.SHELL_CLASS(
                key, self.command, self, self.stderr, self._timeout, self._autoclose, rank
            )
        return self.COPY_CLASS(
            key,
            self.source or "",
            self.dest,
            self,
            self.stderr,
            self._timeout,
            self._autoclose,
            self.preserve,
            self.reverse,
            rank,
        )

    def bind(self, task: Task) -> list[EngineClient]:
        """Become a job of a task. Called by ``Task.schedule``."""
        clients = super().bind(task)
        # A client may be there for several nodes, each of which ends.
        self._open_clients = sum(client.ends for client in self._exec_clients)
        return clients

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        return list(self._exec_clients)


WORKER_CLASS = ExecWorker
