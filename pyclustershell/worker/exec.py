"""Local commands for many nodes, and the base classes of workers over other local programs."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Optional, Union

from ..arguments import check_command, check_flags, check_limit, check_path
from ..engine.engine import Engine, EngineClient
from ..exceptions import WorkerError
from ..local.process import LocalProcess
from ..nodeset import NodeSet
from ..phases import LoginTimes
from ..records import Output, Record
from ..ssh.config.names import check_hostname
from .command import CommandClient, CommandWorker, LocalClient
from .context import WorkerContext
from .worker import DistantWorker

#: The command line of a client: a string for the shell, or a program and its arguments; and
#: environment variables to add, or None.
CommandLine = tuple[Union[str, Sequence[str]], Optional[Mapping[str, str]]]


class _Pattern(string.Template):
    delimiter = "%"


def replace_keywords(pattern: str, node: Any, rank: Optional[int]) -> str:
    """Replace the keywords of a pattern for one node.

    ``%h``, ``%host`` and ``%hosts`` become the node (or the node set), ``%n`` and ``%rank`` its
    rank, and ``%%`` becomes ``%``. ``%{host}`` is ``%host`` if a letter follows.

    Args:
        pattern: the pattern.
        node: the node's name, or the node set.
        rank: the index of the node in the worker's node set, from 0; None for 0.

    Raises:
        WorkerError: the pattern has an unknown keyword or a lone ``%``.
    """
    rank = rank or 0
    try:
        return _Pattern(pattern).substitute(h=node, host=node, hosts=node, n=rank, rank=rank)
    except KeyError as error:
        raise WorkerError(
            f"unknown keyword %{error.args[0]} in {pattern!r}: use %h, %host, %hosts, %n, "
            "%rank, or %% for a percent sign"
        ) from None
    except ValueError:
        raise WorkerError(
            f"a lone % in {pattern!r} is not a keyword: use %% for a percent sign"
        ) from None


class ExecClient(LocalClient):
    """One local command, for one node or for all nodes of a worker.

    To run another command line, derive a class, override :meth:`_build_cmd`, and make the class the
    ``SHELL_CLASS`` of a worker class.

    Attributes:
        key: the node's name, or the NodeSet of a command for all nodes.
        nodes: the names of the nodes, a list.
        command: the worker's command.
        worker: the worker.
        rank: the index of the node in the worker's node set, from 0; None for all nodes.

    Args:
        node: the key.
        command: the command.
        worker: the worker.
        stderr: True to keep stderr apart from stdout; False to merge both streams.
        timeout: seconds that the command may take; None or less than 0 for no limit.
        autoclose: True if the run may end before the command has ended.
        rank: the rank.
    """

    def __init__(
        self,
        node: Any,
        command: Optional[str],
        worker: CommandWorker,
        stderr: bool,
        timeout: Optional[float],
        autoclose: bool = False,
        rank: Optional[int] = None,
    ) -> None:
        super().__init__(worker, node, check_limit("timeout", timeout), autoclose)
        self.key = node
        self.command = command
        self.worker = worker
        self.rank = rank
        self.nodes: list[str] = list(node) if isinstance(node, NodeSet) else [node]
        self._stderr = stderr
        self._command_line: CommandLine = ((), None)

    def _build_cmd(self) -> CommandLine:
        """Return the command line. Called on the task's thread, just before the start.

        Raises:
            WorkerError: there is no valid command line. Like any exception, it ends the run and
                leaves ``Task.resume()``; for a submitted worker, only its future fails with it.
        """
        command = self.command or ""
        if "%h" in command or "%{h" in command:
            self._check_names()
        return replace_keywords(command, self.key, self.rank), None

    def check_keywords(self) -> None:
        """Check at the worker's creation what :meth:`_build_cmd` would find wrong at the start.

        Raises:
            WorkerError: a keyword is unknown, or a name could be taken for something else.
        """
        # Other classes build other command lines, which may depend on the task.
        if type(self)._build_cmd in (ExecClient._build_cmd, CopyClient._build_cmd):
            self._build_cmd()

    def _check_names(self) -> None:
        """Check the nodes' names, which become part of a command line.

        Raises:
            WorkerError: a shell or a program could take a name for something else.
        """
        try:
            for node in self.nodes:
                check_hostname(node)
        except ValueError as error:
            raise WorkerError(str(error)) from None

    def start(self, engine: Engine) -> None:
        """Start the command. The engine calls this when the fanout has room."""
        # Before anything else: if there is no valid command line, no event reports a start.
        if not self._ended:
            try:
                self._command_line = self._build_cmd()
            except Exception as error:
                if not self._worker.keep_error(error):
                    raise
                self._worker.abort()  # ends this client as well
        super().start(engine)

    def _make_process(self, engine: Engine) -> LocalProcess:
        context = self.worker.context
        command, env = self._command_line
        shown = command if isinstance(command, str) else " ".join(command)
        context.debug(f"{type(self).__name__.upper()}: {shown}")
        return LocalProcess(
            command,
            engine,
            context.delayed_calls,
            self._deliver,
            merge_stderr=not self._stderr,
            env=env,
            kill_grace=context.info.get("ssh_kill_grace"),
            name=str(self.key),
            line_limit=context.info.get("line_limit"),
        )

    def _deliver_to_worker(self, record: Record) -> None:
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
    def num_ends(self) -> int:
        """The number of ends that the worker waits for: one for each node."""
        return len(self.nodes)

    def _note_turn(self, login: Optional[LoginTimes]) -> None:
        for node in self.nodes:
            self._worker.store.add_turn(node, login)

    def _end_unstarted(self) -> None:
        for node in self.nodes:
            self._worker.end_unstarted(node)


class CopyClient(ExecClient):
    """One local ``cp``, for one node.

    To run another copy program, derive a class, override :meth:`_build_cmd`, and make the class the
    ``COPY_CLASS`` of a worker class.

    Attributes:
        source: the worker's source.
        dest: the worker's destination.
        preserve: True if modification times and modes are preserved.
        reverse: True to copy in the reverse direction: from ``dest`` to ``source``, both with their
            keywords replaced.
        isdir: True if the source is a directory; always True for a reverse copy.

    Raises:
        ValueError: there is no destination, or the destination of a reverse copy is not a
            directory.
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
            raise ValueError(f"no destination for the copy of {source!r}: set dest=")
        if reverse and not os.path.isdir(dest):
            raise ValueError(f"the destination of a reverse copy must be a directory, not {dest!r}")
        self.source = source
        self.dest = dest
        self.preserve = preserve
        self.reverse = reverse
        self.isdir = reverse or os.path.isdir(source)

    def _options(self) -> list[str]:
        """Return the options that cp, rcp and pdcp have in common."""
        return ["-r"] * bool(self.isdir) + ["-p"] * bool(self.preserve)

    def _build_cmd(self) -> CommandLine:
        source = replace_keywords(self.source, self.key, self.rank)
        dest = replace_keywords(self.dest, self.key, self.rank)
        paths = [dest, source] if self.reverse else [source, dest]
        return ["cp", *self._options(), *paths], None


class ExecWorker(CommandWorker, DistantWorker):
    """Runs a command on this host once for each node, or copies files on this host.

    In the command (or in source and dest) ``%h`` and ``%host`` are replaced by the node's name,
    ``%n`` and ``%rank`` by its index in the node set, and ``%%`` by ``%``. A command with
    ``%hosts`` is run once for all nodes: ``%hosts`` is replaced by the node set, and each node gets
    the command's output and return code.

    To use another local program, derive a client class that builds its command line, and a worker
    class::

        class QuickClient(ExecClient):
            def _build_cmd(self):
                return ["quick-ssh", self.key, self.command], {"QUICK": "1"}

        class QuickWorker(ExecWorker):
            SHELL_CLASS = QuickClient

        task.set_default("distant_worker", QuickWorker)

    Args:
        nodes: the nodes: a NodeSet, or a value that NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that each command may take; None or less than 0 for no limit.
        command: the command, for the shell of this host; None for a copy.
        source: the file or directory to copy. A copy needs the ``cp`` program.
        dest: the destination of the copy.
        preserve: True to preserve modification times and modes of copied files.
        reverse: True to copy dest, which must be a directory, to source.
        stderr: True to keep stderr apart from stdout; False to merge both streams.
        autoclose: True if the run may end before this worker has ended.
        remote: ignored; accepted because ClusterShell's workers have it.

    Raises:
        ValueError: there is neither a command nor a source, or the destination of a copy is missing
            or wrong.
        WorkerError: a keyword is unknown, or a node's name that replaces one could have a meaning
            to the shell.
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
        source: Union[str, bytes, None] = None,
        dest: Union[str, bytes, None] = None,
        preserve: Optional[bool] = False,
        reverse: bool = False,
        stderr: bool = False,
        autoclose: bool = False,
        remote: bool = True,
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        check_command(command)
        check_path("source", source)
        check_path("dest", dest)
        check_flags(preserve=preserve, reverse=reverse)
        self.nodes = NodeSet(nodes)
        self.command: Optional[str] = (
            os.fsdecode(command) if isinstance(command, bytes) else command
        )
        self.source = None if source is None else os.fsdecode(source)
        self.dest = None if dest is None else os.fsdecode(dest)
        self.preserve = bool(preserve)
        self.reverse = reverse
        if command is None and not source:
            raise ValueError(f"{type(self).__name__} needs a command, or a source and a dest")
        self._exec_clients = [self._make_client(key, rank) for key, rank in self._client_keys()]
        for client in self._exec_clients:
            client.check_keywords()

    def __repr__(self) -> str:
        job = self.command if self.command is not None else f"{self.source} -> {self.dest}"
        return f"<{type(self).__name__} {job!r} on {self.nodes}: {self._ends_left} nodes left>"

    def _client_keys(self) -> Iterable[tuple[Any, Optional[int]]]:
        """Return the key and the rank of each client: one per node, or one for all nodes."""
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

    def bind(self, context: WorkerContext) -> list[EngineClient]:
        """Join a task. ``Task.schedule`` calls this."""
        clients = super().bind(context)
        # A client may run a command for several nodes, and each node has an end.
        self._ends_left = sum(client.num_ends for client in self._exec_clients)
        return clients

    def _make_command_clients(self, context: WorkerContext) -> list[CommandClient]:
        return list(self._exec_clients)

    def _drop_references(self) -> None:
        super()._drop_references()
        self._exec_clients.clear()


WORKER_CLASS = ExecWorker
