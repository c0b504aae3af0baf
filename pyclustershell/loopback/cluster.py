"""A cluster on this machine: real SSH and SFTP servers on 127.0.0.1, one per node.

For trials without a cluster, and for tests::

    with LoopbackCluster("node[1-8]") as cluster:
        task = task_self()
        cluster.configure(task)
        task.run("echo $PYCLUSTERSHELL_NODE", nodes="node[1-8]")

Neither ``sshd`` nor ``ssh`` is needed. Commands really run, with the rights of the user of this
program. So the servers listen only on 127.0.0.1, and accept a single key, which is made at the
start and stays in a private directory.
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

from .. import platform
from ..arguments import check_function
from ..engine.descriptors import ensure_descriptors
from ..engine.forking import abandon_in_child
from ..exceptions import PyClusterShellError
from ..nodeset import NodeSet
from .server import ADDRESS, CommandHandler, Server, ServerSettings, make_key_pair

__all__ = ["LoopbackCluster"]

# /d: without the commands that the registry may name; /s: see local/process.py.
DEFAULT_SHELL = ("cmd.exe", "/d", "/s", "/c") if platform.WINDOWS else ("/bin/sh", "-c")

# sshd's default.
DEFAULT_MAX_SESSIONS = 10

# Each node has a listening socket. A node that runs a command also has a connection, whose client
# may be in this process (with a pipe), and the three pipes of the command.
_DESCRIPTORS_PER_BUSY_NODE = 8
_BUSY_NODES = 64  # the default fanout

# Names are written to configuration files, and are names of directories.
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
    """The part of a task that :meth:`LoopbackCluster.configure` uses."""

    def set_info(self, info_key: str, value: object) -> object:
        """Set one of the task's settings."""
        ...


class LoopbackCluster:
    """Real SSH servers on 127.0.0.1, one per node, each on a port of its own.

    Commands run in a shell of this machine, in a process group of their own. PYCLUSTERSHELL_NODE is
    the node's name, and HOME a directory of this node alone. HOME is the working directory of
    commands, and relative names of SFTP are relative to it; absolute names are this machine's.
    SHELL, USER and LOGNAME are those of the login, as sshd sets them; all other variables are this
    process's.

    The cluster listens from :meth:`start` (or ``with``) to :meth:`stop` (or the end of the
    program), which leaves no thread, file descriptor, process or temporary file behind. It can be
    started again, with new keys and ports.

    Args:
        nodes: a node set string, a NodeSet, or names.
        handler: called before each command with the node's name and the command (bytes); returns
            the command to run in its place, or None to refuse the request. Called on the
            connection's thread, so several calls can run at once.
        shell: the argument vector to which commands are appended.
        max_sessions: the most open sessions of a connection, as sshd's MaxSessions.
        max_tunnels: the most tunnels to other nodes that a connection to a jump host
            (``proxy_jump``) may have open; None for no limit. Tunnels lead only to nodes of this
            cluster.

    Attributes:
        nodes: the names of the nodes, in order.
        user: the name of the only user.

    Raises:
        ValueError: a node's name cannot be used, or there is no node.
        TypeError: the handler cannot be called, or is a coroutine function.
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
        if handler is not None:
            check_function("handler=", handler)
        self._handler = handler
        self._shell = tuple(shell)
        self._max_sessions = max_sessions
        self._max_tunnels = max_tunnels
        # The process that started it.
        self._owner = os.getpid()
        self._directory: Optional[tempfile.TemporaryDirectory[str]] = None
        self._server: Optional[Server] = None
        abandon_in_child(self)

    def __repr__(self) -> str:
        state = "stopped" if self._server is None else repr(self._server)
        return f"<LoopbackCluster of {len(self.nodes)} nodes: {state}>"

    # -- start and end ----------------------------------------------------------------------------

    def start(self) -> None:
        """Make keys and configuration files, and listen. Does nothing if already started.

        Raises:
            EngineCapacityError: the system allows fewer open files than the cluster needs.
            OSError: temporary files could not be written, or a socket could not be opened.
        """
        if self._server is not None:
            return
        busy = min(len(self.nodes), _BUSY_NODES)
        ensure_descriptors(
            len(self.nodes) + _DESCRIPTORS_PER_BUSY_NODE * busy,
            "use fewer nodes" if len(self.nodes) > 1 else "",
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

        Returns when all of this is done. Does nothing if not started. Must not be called from a
        ``handler``.
        """
        atexit.unregister(self.stop)
        if self._owner != os.getpid():
            return  # a forked child
        server, self._server = self._server, None
        directory, self._directory = self._directory, None
        if server is not None:
            server.stop()
        if directory is not None:
            directory.cleanup()

    def abandon(self) -> None:
        """In a forked child: the cluster is the parent's. It can be reached, but not stopped."""
        if self._directory is not None:
            # Otherwise the end of the child would remove the parent's files.
            self._directory._finalizer.detach()  # type: ignore[attr-defined]

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
        """Path of the accepted private key, in OpenSSH's format."""
        return self._path("id_ed25519")

    @property
    def known_hosts(self) -> str:
        """Path of a known_hosts file with each node's key under the node's name."""
        return self._path("known_hosts")

    @property
    def connections(self) -> int:
        """The number of open connections of all nodes."""
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
        """Let a task connect to these nodes: sets its ``ssh_options`` to the configuration file."""
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
    """Write a file that only its owner can read, as ssh requires for keys."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _config_path(path: Path) -> str:
    """A path for an OpenSSH configuration file: quoted, and without tokens to expand."""
    return '"' + path.as_posix().replace("%", "%%") + '"'
