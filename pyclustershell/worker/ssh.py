"""A command on many nodes over SSH, or a copy over SFTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Union

from ..engine.engine import Engine
from ..exceptions import WorkerError
from ..nodeset import NodeSet
from ..transport.config.options import SSHOptions
from ..transport.sftp.options import CopyOptions
from .command import CommandClient, CommandWorker
from .copy import CopyRequest, ScpClient
from .remote import RemoteClient
from .worker import DistantWorker

if TYPE_CHECKING:
    from ..task import Task
    from ..transport.command import RemoteCommand
    from ..transport.sftp.source import Source


class SshClient(RemoteClient):
    """One node's command over SSH."""

    def _make_command(self, engine: Engine) -> RemoteCommand:
        from ..transport.command import RemoteCommand

        task = self._worker.bound_task()
        assignment = self._assignment(engine)
        task.debug(f"SSH: {assignment.settings!r}: {self._worker.command!r}")
        return RemoteCommand(
            assignment,
            self._worker.encoded_command,
            merge_stderr=not self._worker.stderr,
            line_limit=task.info("line_limit"),
        )


class WorkerSsh(CommandWorker, DistantWorker):
    """Runs a command on many nodes over SSH, or copies files to or from them over SFTP.

    Both go over the task's pool of transports; no ``ssh`` and no ``scp`` program is started. Nodes
    are started in the order of the node set, as many at once as the task's fanout allows.

    A copy is recursive. Where dest is a directory that exists, what is copied gets its own name in
    it; otherwise dest is its name. In reverse, what is copied arrives as ``dest/NAME.NODE``. A file
    appears under its name when it is whole, and keeps the mode that it had, if it was there before.
    Remote paths may be relative to the home directory, and begin with ``~``. The return code of a
    node is 0 when everything was copied, 1 when something was not (see ``iter_failures()``), 255
    where there was no connection. ``ev_written`` tells the progress.

    Args:
        nodes: the nodes: a NodeSet, or what NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that the command or copy may take on each node, its connection included;
            None for the task's ``command_timeout``.
        command: the command, for the remote user's shell.
        stderr: whether stderr is kept apart; if not, both streams are one, in the order in which
            they came.
        autoclose: whether the run may end although this worker has not.
        remote: accepted for ClusterShell's sake; a command over SSH is always remote.
        ssh: options for this worker's connections, before all others.
        source: what to copy, where there is no command: a file or directory of this host, or (in
            reverse) of each node.
        dest: where to; in reverse, a directory of this host.
        preserve: whether copies get the source's times and modes.
        reverse: whether to copy from the nodes.
        follow_symlinks: whether what symbolic links lead to is copied; if not, they are copied as
            links.
        inplace: whether files are written under their own names, so that links and owners stay, and
            nothing but their own permissions is needed; a copy that fails leaves half a file.
        skip_unchanged: whether files that are there already, with the same size and modification
            time, are left alone: see :meth:`skipped`. Useful with ``preserve``.
        checksum: with ``skip_unchanged``, whether contents are compared, not times. The file on the
            node is read for it, over SFTP.
        fsync: whether files on the nodes are put on their disks before they get their names.

    Raises:
        ValueError: there is neither a command nor a source; or the copy makes no sense.
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
    ) -> None:
        super().__init__(handler, timeout, stderr, autoclose)
        self.nodes = NodeSet(nodes)
        self.command = command
        self.source = None if source is None else os.fsdecode(source)
        self.dest = None if dest is None else os.fsdecode(dest)
        self.preserve = bool(preserve)
        self.reverse = reverse
        self.ssh = ssh
        self.encoded_command = command if isinstance(command, bytes) else (command or "").encode()
        self._copy: Optional[CopyRequest] = None
        self._shared_source: Optional[Source] = None
        #: What :meth:`skipped` tells; for the clients.
        self.skipped_paths: dict[str, list[bytes]] = {}
        if not command:
            if not self.source:
                raise ValueError("WorkerSsh needs a command, or a source and a dest")
            if not self.dest:
                raise ValueError(f"no destination for the copy of {self.source!r}: say dest=")
            options = CopyOptions(
                self.preserve, follow_symlinks, inplace, skip_unchanged, checksum, fsync
            )
            self._copy = CopyRequest(self.source, self.dest, reverse, options)

    def __repr__(self) -> str:
        what = self.command if self._copy is None else f"{self.source} -> {self.dest}"
        return f"<WorkerSsh {what!r} on {self.nodes}: {self._open_clients} nodes to go>"

    def _make_command_clients(self, task: Task) -> list[CommandClient]:
        timeout = self._timeout
        if timeout is None:
            timeout = task.info("command_timeout") or None
        client = SshClient if self._copy is None else ScpClient
        return [client(self, node, timeout, self._autoclose) for node in self.nodes]

    # -- copies --

    def copy_request(self) -> CopyRequest:
        """What is to be copied.

        Raises:
            WorkerError: this worker runs a command.
        """
        if self._copy is None:
            raise WorkerError(f"{self!r} copies nothing: it runs a command")
        return self._copy

    def shared_source(self) -> Source:
        """What is copied from this host: read once, for all nodes."""
        if self._shared_source is None:
            from ..transport.sftp.source import Source

            copy = self.copy_request()
            self._shared_source = Source(copy.source, copy.options.follow_symlinks)
        return self._shared_source

    def _let_go(self) -> None:
        super()._let_go()
        if self._shared_source is not None:
            self._shared_source.close()

    def skipped(self, node: str) -> list[str]:
        """The files that ``skip_unchanged`` found on a node (in reverse, here), by their paths.

        Raises:
            KeyError: the node is not one of this worker's, or it runs a command.
        """
        if self._copy is None or node not in self.nodes:
            raise KeyError(node)
        return [os.fsdecode(path) for path in self.skipped_paths.get(node, ())]
