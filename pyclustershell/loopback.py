"""A cluster on this machine: real SSH and SFTP servers on 127.0.0.1, one per node.

For trying things without a cluster, and for tests::

    with LoopbackCluster("node[1-8]") as cluster:
        task = task_self()
        cluster.configure(task)
        task.run("echo $PYCLUSTERSHELL_NODE", nodes="node[1-8]")

No ``sshd`` and no ``ssh`` is needed. The commands are real ones, run with the rights of the user
who runs this program, so the servers listen on 127.0.0.1 only and accept a single key, which is
made at the start and never leaves a private directory.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional, Protocol, Union

from . import platform
from .engine.limits import ensure_descriptors
from .exceptions import PyClusterShellError
from .nodeset import NodeSet
from .transport.server.server import (
    ADDRESS,
    CommandHandler,
    Server,
    ServerSettings,
    make_key_pair,
)

__all__ = ["LoopbackCluster"]

DEFAULT_SHELL = ("cmd.exe", "/c") if platform.WINDOWS else ("/bin/sh", "-c")

# sshd's default.
DEFAULT_MAX_SESSIONS = 10

# Each node has a listening socket. One that runs a command has a connection, whose client may be in
# this process too (and have a pipe), and the three pipes of the command.
_DESCRIPTORS_PER_BUSY_NODE = 8
_BUSY_NODES = 64  # the default fanout
_DESCRIPTORS_SPARE = 64

# Names end up in configuration files and as directories.
_NODE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_NOT_STARTED = "the loopback cluster is not started: use 'with', or start()"

_HOST_BLOCK = """\
Host {node}
    HostName {address}
    Port {port}
    HostKeyAlias {node}
    User {user}
    IdentityFile {identity}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    StrictHostKeyChecking yes
"""


class ConfigurableTask(Protocol):
    """What :meth:`LoopbackCluster.configure` needs of a task."""

    def set_info(self, info_key: str, value: object) -> object:
        """Set one of the task's settings."""
        ...


class LoopbackCluster:
    """Real SSH servers on 127.0.0.1, one per node, each on a port of its own.

    Commands run in a shell of this machine, in a process group of their own, with
    PYCLUSTERSHELL_NODE set to the node's name and HOME to a directory that only this node has. It
    is where they start, and where relative names of SFTP begin; absolute ones are this machine's.

    It listens from :meth:`start` (or ``with``) to :meth:`stop` (or the end of the program), which
    leaves no thread, file descriptor, process or temporary file behind. It can be started again,
    with new keys and ports.

    Args:
        nodes: a node set string, a NodeSet, or names.
        handler: called before each command with the node's name and the command (bytes); returns
            the command to be run in its place, or None to refuse the request. It runs on the
            connection's thread, so several can run at once.
        shell: the argument vector to which commands are appended.
        max_sessions: how many sessions a connection may have open at once, as sshd's MaxSessions.
        max_tunnels: how many connections to other nodes a connection to a node that is a jump
            host (``proxy_jump``) may carry at once; None for any number. Tunnels lead to nodes of
            this cluster only.

    Attributes:
        nodes: the names of the nodes, in order.
        user: the name of the only user.

    Raises:
        ValueError: a node's name cannot be used, or there is none.
    """

    user = "loopback"

    def __init__(
        self,
        nodes: Union[str, Iterable[str]],
        *,
        handler: Optional[CommandHandler] = None,
        shell: Sequence[str] = DEFAULT_SHELL,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_tunnels: Optional[int] = None,
    ) -> None:
        names = NodeSet(nodes) if isinstance(nodes, str) else nodes
        self.nodes: tuple[str, ...] = tuple(dict.fromkeys(str(name) for name in names))
        if not self.nodes:
            raise ValueError("a loopback cluster needs at least one node")
        for node in self.nodes:
            if _NODE_NAME.fullmatch(node) is None:
                raise ValueError(
                    f"{node!r} cannot be the name of a loopback node: use letters, digits, "
                    "'.', '-' and '_'"
                )
        self._handler = handler
        self._shell = tuple(shell)
        self._max_sessions = max_sessions
        self._max_tunnels = max_tunnels
        self._directory: Optional[tempfile.TemporaryDirectory[str]] = None
        self._server: Optional[Server] = None

    def __repr__(self) -> str:
        state = "stopped" if self._server is None else repr(self._server)
        return f"<LoopbackCluster of {len(self.nodes)} nodes: {state}>"

    # -- start and end ----------------------------------------------------------------------------

    def start(self) -> None:
        """Make keys and configuration files, and listen. Does nothing where it already does.

        Raises:
            EngineCapacityError: the system does not allow as many open files as this takes.
            OSError: there is no room for temporary files.
        """
        if self._server is not None:
            return
        busy = min(len(self.nodes), _BUSY_NODES)
        ensure_descriptors(
            len(self.nodes) + _DESCRIPTORS_PER_BUSY_NODE * busy + _DESCRIPTORS_SPARE,
            "use fewer nodes, or raise the limit of open files (ulimit -n)",
        )
        self._directory = tempfile.TemporaryDirectory(prefix="pyclustershell-")
        try:
            self._start_in(Path(self._directory.name))
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)

    def _start_in(self, directory: Path) -> None:
        homes = {node: directory / "home" / node for node in self.nodes}
        for home in homes.values():
            home.mkdir(parents=True)
        user_key = make_key_pair()
        server = self._server = Server(
            {node: str(home) for node, home in homes.items()},
            ServerSettings(
                user=self.user,
                user_key=user_key.key,
                shell=self._shell,
                max_sessions=self._max_sessions,
                handler=self._handler,
                max_tunnels=self._max_tunnels,
            ),
        )
        server.start()
        identity, known_hosts = directory / "id_ed25519", directory / "known_hosts"
        _write_private(identity, user_key.pem)
        _write_private(
            known_hosts,
            "".join(f"{node} {server.host_keys[node].public_line}\n" for node in self.nodes),
        )
        _write_private(
            directory / "ssh_config",
            "".join(
                _HOST_BLOCK.format(
                    node=node,
                    address=ADDRESS,
                    port=server.ports[node],
                    user=self.user,
                    identity=_config_path(identity),
                    known_hosts=_config_path(known_hosts),
                )
                for node in self.nodes
            ),
        )

    def stop(self) -> None:
        """End all connections, kill all commands, stop listening, remove all files.

        Returns when all of it is done. Does nothing where nothing was started. Not to be called
        from a ``handler``.
        """
        atexit.unregister(self.stop)
        server, self._server = self._server, None
        directory, self._directory = self._directory, None
        if server is not None:
            server.stop()
        if directory is not None:
            directory.cleanup()

    def __enter__(self) -> LoopbackCluster:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- how to reach it --------------------------------------------------------------------------

    @property
    def ssh_config(self) -> str:
        """Path of an OpenSSH client configuration file (ssh_config(5)) for these nodes."""
        return self._path("ssh_config")

    @property
    def identity_file(self) -> str:
        """Path of the private key that is accepted, in OpenSSH's format."""
        return self._path("id_ed25519")

    @property
    def known_hosts(self) -> str:
        """Path of the known_hosts file that holds each node's key under the node's name."""
        return self._path("known_hosts")

    @property
    def connections(self) -> int:
        """How many connections are open now, of all nodes."""
        return self._running().connections

    def port(self, node: str) -> int:
        """The TCP port of a node's server.

        Raises:
            KeyError: there is no such node.
        """
        return self._running().ports[node]

    def home(self, node: str) -> str:
        """Path of a node's home directory.

        Raises:
            KeyError: there is no such node.
        """
        return self._running().homes[node]

    def configure(self, task: ConfigurableTask) -> None:
        """Let a task reach these nodes: its ``ssh_options`` name the configuration file."""
        task.set_info("ssh_options", "-F " + shlex.quote(self.ssh_config))

    def _running(self) -> Server:
        if self._server is None:
            raise PyClusterShellError(_NOT_STARTED)
        return self._server

    def _path(self, name: str) -> str:
        if self._directory is None:
            raise PyClusterShellError(_NOT_STARTED)
        return os.path.join(self._directory.name, name)


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, as ssh demands of keys."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _config_path(path: Path) -> str:
    """A path as an OpenSSH configuration file wants it: quoted, without tokens to expand."""
    return '"' + path.as_posix().replace("%", "%%") + '"'
