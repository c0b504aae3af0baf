"""Commands on many nodes over SSH, and copies over SFTP."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from .. import platform
from ..arguments import check_command, check_flags, check_no_zero_byte, check_path
from ..engine.engine import Engine
from ..exceptions import CopyError, NodeError, WorkerError
from ..nodeset import NodeSet
from ..ssh.config.destination import host_of
from ..ssh.config.memo import LookupPending
from ..ssh.config.options import SSHOptions
from ..ssh.sftp.copyoptions import CopyOptions
from ..ssh.sftp.localpaths import Placed
from ..ssh.sftp.names import why_unsafe
from .command import CommandClient, CommandWorker
from .context import WorkerContext
from .worker import DistantWorker

if TYPE_CHECKING:
    from ..nodeset.topology import Route, Router, TopologyTree
    from ..ssh.command import RemoteCommand
    from ..ssh.session import SessionContext
    from ..ssh.sftp.download import Download
    from ..ssh.sftp.sftpsession import SftpSession
    from ..ssh.sftp.source import Source
    from ..ssh.sftp.upload import Upload


def route_of(router: Router, node: str) -> Optional[Route]:
    """Return the route to a node, also if its name has a user or a port."""
    route = router.route(node)
    return router.route(host_of(node)) if route is None else route


class RemoteClient(CommandClient):
    """A client that connects to its node: the base of commands and copies."""

    # The connection's socket.
    descriptors = 1
    # True for a copy: ``scp_user`` and ``scp_options`` apply.
    copying = False
    # The gateways that lead to the node; None for none.
    route: Optional[Route] = None
    _worker: WorkerSsh

    def start(self, engine: Engine) -> None:
        """Start the command or copy. The engine calls this when the fanout has room."""
        try:
            super().start(engine)
        except LookupPending:
            # A configuration file has to be read, or depends on a command or a name. The engine
            # must not block, so another thread does it. A disk may never answer: the time counts.
            engine.start_clock(self)
            self._worker.context.connections.look_up(
                *(self.server, self._worker.ssh, self.copying, self.route),
                lambda: self._start_again(engine),
            )

    @property
    def server(self) -> str:
        """The name of the host to connect to."""
        return str(self._key)

    def _start_again(self, engine: Engine) -> None:
        if not self._ended:
            # The wait for a connection of the pool does not count.
            engine.stop_clock(self)
            self.start(engine)

    def _session_context(self, engine: Engine) -> SessionContext:
        """Make the context of the session with the node.

        Raises:
            NodeConfigurationError: options or configuration files are wrong for this node.
            LookupPending: the settings have to be resolved on another thread first.
        """
        # Not at the top: a program that runs local commands only must not import paramiko.
        from ..ssh.session import SessionContext

        context = self._worker.context
        connections = context.connections
        return SessionContext(
            settings=connections.settings_of(
                self.server, self._worker.ssh, False, self.copying, self.route
            ),
            engine=engine,
            pool=connections.pool,
            deliver=self._deliver,
            on_dequeued=self._take_turn,
            kill_grace=context.info.get("ssh_kill_grace"),
        )


class SshClient(RemoteClient):
    """The command of one node, over SSH."""

    @property
    def encoded_command(self) -> bytes:
        """The command, for the remote user's shell."""
        return self._worker.encoded_command

    def _make_command(self, engine: Engine) -> RemoteCommand:
        from ..ssh.command import RemoteCommand

        context = self._worker.context
        session = self._session_context(engine)
        context.debug(f"SSH: {session.settings!r}: {self._worker.command!r}")
        return RemoteCommand(
            session,
            self.encoded_command,
            merge_stderr=not self._worker.stderr,
            line_limit=context.info.get("line_limit"),
            window=self._worker.read_ahead,
        )


@dataclass(frozen=True)
class CopyRequest:
    """The paths and options of a worker's copy.

    Attributes:
        source: the file or directory to copy: of this host, or of each node (reverse copy).
        dest: the destination on the nodes; for a reverse copy, a directory of this host.
        reverse: True to copy from the nodes to this host.
        options: the copy's options.

    Raises:
        ValueError: the destination of a reverse copy is not a directory.
    """

    source: str
    dest: str
    reverse: bool
    options: CopyOptions

    def __post_init__(self) -> None:
        if self.reverse and not os.path.isdir(self.dest):
            raise ValueError(
                f"the destination of a reverse copy must be a directory, not {self.dest!r}"
            )

    def target(self, node: str) -> str:
        """Return the path of one node's reverse copy: ``dest/NAME.NODE``, as in ClusterShell.

        Raises:
            CopyError: this host can have no file of this name.
        """
        # The source is a path of the node: only '/' divides it, also on Windows.
        name = f"{posixpath.basename(self.source.rstrip('/'))}.{node}"
        reason = why_unsafe(os.fsencode(name), platform.WINDOWS_PATHS)
        if reason is not None:
            cause = f"{name!r} cannot be the name of a copy on this host: {reason}"
            raise CopyError(node, cause, path=self.source)
        return os.path.join(self.dest, name)


class ScpClient(RemoteClient):
    """One node's copy over SFTP. It has ClusterShell's name; no ``scp`` program is started."""

    copying = True

    def _make_command(self, engine: Engine) -> SftpSession:
        from ..ssh.sftp.sftpsession import SftpSession

        session = self._session_context(engine)
        copy = self._worker.copy_request()
        self._worker.context.debug(f"SFTP: {session.settings!r}: {copy.source!r} to {copy.dest!r}")
        job = self._make_copy(copy)
        # The list of the skipped files, which the copy fills.
        self._worker.skipped_paths[self._key] = job.skipped
        return SftpSession(session, job.run)

    def _make_copy(self, copy: CopyRequest) -> Union[Upload, Download]:
        if copy.reverse:
            from ..ssh.sftp.download import Download

            return Download(
                os.fsencode(copy.source),
                copy.target(self._key),
                copy.options,
                self._worker.placed,
            )
        from ..ssh.sftp.upload import Upload

        return Upload(self._worker.shared_source(), os.fsencode(copy.dest), copy.options)

    def _connect_input(self) -> None:
        # A copy reads no input. Bytes that are written are dropped, so no writer waits.
        self.stdin.clear()


class WorkerSsh(CommandWorker, DistantWorker):
    """Runs a command on many nodes over SSH, or copies files to or from them over SFTP.

    Both use the task's pool of transports; no ``ssh`` and no ``scp`` program is started. Nodes
    start in the order of the node set, as many at once as the task's fanout allows.

    A copy is recursive. If dest is an existing directory, the copy is placed in it under the
    source's name; otherwise dest is the name of the copy. A reverse copy is written to
    ``dest/NAME.NODE``. A file appears under its name only when it is complete. A file that existed
    before keeps its mode. Remote paths may be relative to the home directory, or begin with ``~``.
    The return code of a node is 0 if everything was copied, 1 if some file was not (see
    ``iter_failures()``), and 255 if there was no connection. ``ev_written`` reports the progress.

    Args:
        nodes: the nodes: a NodeSet, or a value that NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that the command or copy may take on each node, including the time to
            connect; None for the task's ``command_timeout``.
        command: the command, for the remote user's shell; None for a copy.
        stderr: True to keep stderr apart from stdout; False to merge both streams, in the order in
            which their bytes arrived.
        autoclose: True if the run may end before this worker has ended.
        remote: ignored; a command over SSH is always remote. ClusterShell's workers have it.
        ssh: options for this worker's connections; they win over all others.
        source: the file or directory to copy: of this host, or of each node (reverse copy).
        dest: the destination on the nodes; for a reverse copy, a directory of this host.
        preserve: True to give copies the source's times and modes.
        reverse: True to copy from the nodes.
        follow_symlinks: True to copy the targets of symbolic links; False to copy the links.
        inplace: True to write files directly under their names. Links and owners then stay, and
            only the files' own permissions are needed; but a copy that fails leaves an incomplete
            file.
        skip_unchanged: True to skip files that already exist with the same size and modification
            time: see :meth:`skipped`. Useful with ``preserve``.
        checksum: True to compare contents in place of times, with ``skip_unchanged``. The file on
            the node is then read over SFTP.
        fsync: True to flush files on the nodes to disk before they get their names.
        topology: the gateways that lead to the nodes, a TopologyTree; None to connect directly.

    Raises:
        ValueError: there is neither a command nor a source, the destination of a copy is missing or
            wrong, or a command or path has a zero byte.
        NodeSetParseError: the nodes cannot be parsed.
    """

    def __init__(
        self,
        nodes: Any,
        handler: Any = None,
        timeout: Optional[float] = None,
        command: Union[str, bytes, None] = None,
        stderr: bool = False,
        autoclose: bool = False,
        remote: bool = True,
        ssh: Optional[SSHOptions] = None,
        source: Union[str, bytes, None] = None,
        dest: Union[str, bytes, None] = None,
        preserve: Optional[bool] = False,
        reverse: bool = False,
        follow_symlinks: bool = True,
        inplace: bool = False,
        skip_unchanged: bool = False,
        checksum: bool = False,
        fsync: bool = False,
        topology: Optional[TopologyTree] = None,
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        check_command(command)
        check_flags(
            preserve=preserve,
            reverse=reverse,
            follow_symlinks=follow_symlinks,
            inplace=inplace,
            skip_unchanged=skip_unchanged,
            checksum=checksum,
            fsync=fsync,
        )
        if ssh is not None and not isinstance(ssh, SSHOptions):
            # The value is not shown: it may have a password.
            raise TypeError(f"ssh= takes SSHOptions(user=..., ...), not a {type(ssh).__name__}")
        if ssh is not None:
            ssh.check_functions()
        self.nodes = NodeSet(nodes)
        self.command = command
        check_path("source", source)
        check_path("dest", dest)
        self.source = None if source is None else os.fsdecode(source)
        self.dest = None if dest is None else os.fsdecode(dest)
        self.preserve = bool(preserve)
        self.reverse = reverse
        self.ssh = ssh
        self.topology = topology
        # The nodes that are on their way to another gateway: see _on_rerouted().
        self._rerouted: dict[Optional[str], tuple[NodeError, list[str]]] = {}
        # Bytes that are not UTF-8 are surrogates in sys.argv and os.fsdecode() (PEP 383).
        self.encoded_command = (
            command
            if isinstance(command, bytes)
            else (command or "").encode("utf-8", "surrogateescape")
        )
        # OpenSSH's server ends the connection for it, and others cut the command there.
        check_no_zero_byte("command", self.encoded_command)
        self._copy: Optional[CopyRequest] = None
        self._shared_source: Optional[Source] = None
        #: The files of a reverse copy, and of those that run at the same time.
        self.placed = Placed()
        # The paths of the skipped files by node: see skipped(). The clients fill it.
        self.skipped_paths: dict[str, list[bytes]] = {}
        if not command:
            if not self.source:
                raise ValueError("WorkerSsh needs a command, or a source and a dest")
            if not self.dest:
                raise ValueError(f"no destination for the copy of {self.source!r}: set dest=")
            options = CopyOptions(
                self.preserve, follow_symlinks, inplace, skip_unchanged, checksum, fsync
            )
            self._copy = CopyRequest(self.source, self.dest, reverse, options)

    def __repr__(self) -> str:
        job = self.command if self._copy is None else f"{self.source} -> {self.dest}"
        return f"<WorkerSsh {job!r} on {self.nodes}: {self._ends_left} nodes left>"

    def _make_command_clients(self, context: WorkerContext) -> list[CommandClient]:
        # Now, at the scheduling: there may be no descriptors left for it when the clients start.
        from .preload import load_platform_modules

        load_platform_modules()
        if self._copy is not None and self._copy.reverse:
            self.placed = context.placed.get()
        timeout = self._timeout
        if timeout is None:
            timeout = context.info.get("command_timeout") or None
        router = self._router(context)
        return [
            self._make_client(
                node, rank, timeout, None if router is None else route_of(router, node)
            )
            for rank, node in enumerate(self.nodes)
        ]

    def _router(self, context: WorkerContext) -> Optional[Router]:
        """Return the router that finds the gateways; None for none."""
        return None if self.topology is None else self.topology.router()

    def _make_client(
        self, node: str, rank: int, timeout: Optional[float], route: Optional[Route]
    ) -> CommandClient:
        """Create the client of a node, which is reached by a route."""
        client = (SshClient if self._copy is None else ScpClient)(
            self, node, timeout, self._autoclose
        )
        client.route = route
        return client

    # -- gateways --

    def _on_rerouted(self, key: Any, error: NodeError) -> None:
        # The nodes that waited for the same gateway are told one after the other: one event.
        if not self._rerouted:
            self.context.engine.post(self._report_reroutes)
        self._rerouted.setdefault(error.jump_host, (error, []))[1].append(key)

    def _report_reroutes(self) -> None:
        rerouted, self._rerouted = self._rerouted, {}
        for gateway, (error, nodes) in rerouted.items():
            if self._ends_left:
                self._report_reroute(str(gateway), error, NodeSet.fromlist(nodes))

    def _report_reroute(self, gateway: str, error: NodeError, nodes: NodeSet) -> None:
        """Call ``ev_routing``."""
        if self._events is not None:
            arg = {"event": "reroute", "gateway": gateway, "targets": nodes, "error": error}
            self._events.routing(self, arg)

    # -- copies --

    def copy_request(self) -> CopyRequest:
        """Return the paths and options of the copy.

        Raises:
            WorkerError: this worker runs a command.
        """
        if self._copy is None:
            raise WorkerError(f"{self!r} runs a command and copies nothing")
        return self._copy

    def shared_source(self) -> Source:
        """Return the source on this host, which all nodes share."""
        if self._shared_source is None:
            from ..ssh.sftp.source import Source

            copy = self.copy_request()
            self._shared_source = Source(copy.source, copy.options.follow_symlinks)
        return self._shared_source

    def _drop_references(self) -> None:
        super()._drop_references()
        if self._shared_source is not None:
            self._shared_source.close()
        self.placed = Placed()

    def skipped(self, node: str) -> list[str]:
        """Return the paths of the files that ``skip_unchanged`` skipped for a node.

        They are paths on the node; for a reverse copy, paths on this host.

        Raises:
            KeyError: the node is not one of this worker's, or this worker runs a command.
        """
        if self._copy is None or node not in self.nodes:
            raise KeyError(node)
        return [os.fsdecode(path) for path in self.skipped_paths.get(node, ())]
