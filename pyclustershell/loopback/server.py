"""SSH servers for many nodes on 127.0.0.1, for :class:`.cluster.LoopbackCluster`.

One thread accepts the connections of all nodes. Each connection has paramiko's thread, and each
running command has three threads (see :class:`.serversession.Session`).
"""

from __future__ import annotations

import errno
import io
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_FAILED_UNKNOWN_CHANNEL_TYPE,
    OPEN_SUCCEEDED,
)

from .. import platform
from ..engine.forking import abandon_in_child
from ..engine.polling import make_selector
from ..local.group import SIGKILL, ProcessGroup
from ..local.process import Arguments, shell_arguments
from .directtcpip import Tunnel
from .paramiko_hooks import ServerTransport, StoppableSocket
from .serversession import Session, send_failure
from .sftpserver import LocalFiles, SFTPSubsystem

ADDRESS = "127.0.0.1"

# Seconds between SIGHUP and SIGKILL for the processes of a client that has disconnected.
_HANGUP_GRACE = 2.0
# The most seconds that stop() waits for a thread.
_JOIN_TIMEOUT = 5.0
# Seconds between two looks for killed processes.
_KILLED_INTERVAL = 0.01
# Seconds to wait before accepting again after the file descriptors ran out.
_SHORTAGE_PAUSE = 0.05

# Errors of the server are only for applications that configure logging: without a handler, Python
# would print them to standard error.
LOGGER_NAME = "pyclustershell.loopback"
logger = logging.getLogger(LOGGER_NAME)
logger.addHandler(logging.NullHandler())

#: Called before a command is run, with the node and the command. Returns the command to run in its
#: place, or None to refuse the request. On the connection's thread.
CommandHandler = Callable[[str, bytes], Optional[bytes]]


class KeyPair(NamedTuple):
    """A new ed25519 key."""

    key: paramiko.PKey
    pem: str
    """The private key in OpenSSH's format."""

    @property
    def public_line(self) -> str:
        """Type and public key, as in known_hosts and authorized_keys files."""
        return f"{self.key.get_name()} {self.key.get_base64()}"

    def __repr__(self) -> str:
        return f"KeyPair({self.public_line})"


def make_key_pair() -> KeyPair:
    """Make an ed25519 key."""
    pem = (
        Ed25519PrivateKey.generate()
        .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        .decode("ascii")
    )
    return KeyPair(paramiko.Ed25519Key(file_obj=io.StringIO(pem)), pem)


@dataclass(frozen=True)
class ServerSettings:
    """The settings of the servers of all nodes.

    Attributes:
        user: the only user.
        user_key: the only key accepted.
        shell: the argument vector to which a command is appended; its first word alone is the
            interactive shell.
        max_sessions: the most open sessions of one connection, as sshd's MaxSessions.
        handler: called before each command.
        max_tunnels: the most open tunnels to other nodes of one connection; None: no limit.
    """

    user: str
    user_key: paramiko.PKey = field(repr=False)
    shell: Sequence[str]
    max_sessions: int
    handler: Optional[CommandHandler] = None
    max_tunnels: Optional[int] = None


class Connection(paramiko.ServerInterface):
    """One accepted connection: its authentication, its channels and their requests.

    paramiko calls every method on the transport's thread, including those of
    :class:`.paramiko_hooks.ConnectionEvents`.
    """

    def __init__(self, server: Server, node: str, sock: socket.socket) -> None:
        self.node = node
        self._server = server
        self._settings = server.settings
        # paramiko has only weak references to channels.
        self._channels: dict[int, paramiko.Channel] = {}
        self._environments: dict[int, dict[str, str]] = {}
        # The arguments of commands whose requests are granted and not yet answered.
        self._granted: dict[int, Arguments] = {}
        self._sessions: dict[int, Session] = {}
        self._subsystems: dict[int, SFTPSubsystem] = {}
        self._tunnels: dict[int, Tunnel] = {}
        # The sockets of granted tunnels, until their channels are open.
        self._targets: dict[int, socket.socket] = {}
        self.transport = ServerTransport(
            StoppableSocket(sock, server.closing) if platform.WINDOWS else sock
        )
        self.transport.set_log_channel(LOGGER_NAME)
        self.transport.add_server_key(server.host_keys[node].key)

    def __repr__(self) -> str:
        return f"<Connection to {self.node}: {len(self._sessions)} sessions>"

    # -- logging in -------------------------------------------------------------------------------

    def get_allowed_auths(self, username: str) -> str:
        """Only public keys are accepted."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Accept the one user with the one key."""
        known = username == self._settings.user and key == self._settings.user_key
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    # -- channels and requests --------------------------------------------------------------------

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Grant session channels, up to the limit."""
        if kind != "session":
            return OPEN_FAILED_UNKNOWN_CHANNEL_TYPE
        self._forget_closed_channels()
        if len(self._channels) >= self._settings.max_sessions:
            return OPEN_FAILED_CONNECT_FAILED  # as OpenSSH's sshd does
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """Grant tunnels to other nodes only: a node can be a jump host."""
        host, port = destination
        if host not in (ADDRESS, "localhost") or port not in self._server.ports.values():
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        for number, tunnel in list(self._tunnels.items()):
            if tunnel.closed:
                del self._tunnels[number]
        limit = self._settings.max_tunnels
        if limit is not None and len(self._tunnels) >= limit:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        try:
            # This is one of our own listeners: it answers at once.
            self._targets[chanid] = socket.create_connection((ADDRESS, port))
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        return OPEN_SUCCEEDED

    def channel_opened(self, channel: paramiko.Channel) -> None:
        """Store the channel and an empty environment for it; or start its tunnel."""
        target = self._targets.pop(channel.chanid, None)
        if target is not None:
            self._tunnels[channel.chanid] = tunnel = Tunnel(channel, target)
            tunnel.start()
            return
        self._channels[channel.chanid] = channel
        self._environments[channel.chanid] = {}

    def _forget_closed_channels(self) -> None:
        for number, channel in list(self._channels.items()):
            if channel.closed:
                del self._channels[number], self._environments[number]
                self._subsystems.pop(number, None)

    def check_channel_env_request(
        self, channel: paramiko.Channel, name: bytes, value: bytes
    ) -> bool:
        """Accept every variable."""
        self._environments[channel.chanid][os.fsdecode(name)] = os.fsdecode(value)
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        """Run the shell, which reads commands from standard input."""
        return self._run(channel, self._settings.shell[:1])

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Run a command in the shell."""
        handler = self._settings.handler
        replaced = command if handler is None else handler(self.node, command)
        if replaced is None:
            return False
        return self._run(channel, shell_arguments(self._settings.shell, replaced))

    def _run(self, channel: paramiko.Channel, arguments: Arguments) -> bool:
        """Grant a request; the process is started after the answer.

        To start 600 processes at once can take longer than a client waits for an answer.
        """
        number = channel.chanid
        if number in self._sessions or number in self._subsystems or number in self._granted:
            return False  # one per channel (RFC 4254, 6.5)
        self._granted[number] = arguments
        return True

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        """Serve files to SFTP clients."""
        number = channel.chanid
        if name != "sftp" or number in self._sessions or number in self._subsystems:
            return False
        files = LocalFiles(self, self._server.homes[self.node])
        self._subsystems[number] = SFTPSubsystem(channel, self, files)
        return True

    # -- events -----------------------------------------------------------------------------------

    def request_answered(self, channel: paramiko.Channel) -> None:
        """Start the command or the subsystem of the request."""
        arguments = self._granted.pop(channel.chanid, None)
        if arguments is not None:
            self._start(channel, arguments)
        subsystem = self._subsystems.get(channel.chanid)
        if subsystem is not None:
            subsystem.begin()

    def _start(self, channel: paramiko.Channel, arguments: Arguments) -> None:
        number = channel.chanid
        home = self._server.homes[self.node]
        try:
            session = Session(
                channel,
                arguments,
                environment={
                    **os.environ,
                    # As sshd sets them. This process may have none: a service or a container.
                    "HOME": home,
                    "SHELL": self._settings.shell[0],
                    "USER": self._settings.user,
                    "LOGNAME": self._settings.user,
                    "PWD": home,
                    "PYCLUSTERSHELL_NODE": self.node,
                    **self._environments[number],
                },
                directory=home,
                closing=self._server.closing,
                on_ended=lambda session: self._session_ended(number, session),
            )
        except (OSError, ValueError) as error:  # ValueError: a null byte
            logger.warning("%s: the command could not be started: %s", self.node, error)
            send_failure(channel, f"the command could not be started: {error}")
            return
        self._sessions[number] = session
        self._server.session_started(session)
        session.start()

    def signal_requested(self, channel: paramiko.Channel, name: str) -> bool:
        """Send the signal to the command's process group."""
        session = self._sessions.get(channel.chanid)
        return session is not None and session.send_signal(name)

    def input_arrived(self, channel: paramiko.Channel) -> None:
        """Pass input on."""
        session = self._sessions.get(channel.chanid)
        if session is not None:
            session.feed_input()

    def input_ended(self, channel: paramiko.Channel) -> None:
        """Pass the end of input on."""
        session = self._sessions.get(channel.chanid)
        if session is not None:
            session.end_input()

    def _session_ended(self, number: int, session: Session) -> None:
        # On one of the session's threads. The channel is closed on this side. Once the client has
        # closed it, its number can be used again.
        self._sessions.pop(number, None)
        self._server.session_ended(session)

    def connection_lost(self) -> None:
        """Hang up: the processes get SIGHUP, and SIGKILL a moment later.

        OpenSSH does so only for sessions with a terminal; other commands fail at their next write.
        A server that lives as long as a test must not leave processes behind.
        """
        for tunnel in self._tunnels.values():
            tunnel.close()
        sessions = list(self._sessions.values())
        for session in sessions:
            session.end_input()
            session.send_signal("HUP")
        deadline = time.monotonic() + (0 if self._server.stopping else _HANGUP_GRACE)
        for session in sessions:
            session.wait(max(0.0, deadline - time.monotonic()))  # stop() cuts it short
            session.kill()
        self._channels.clear()
        self._server.connection_lost(self)

    def join(self) -> None:
        """Wait for the connection's threads."""
        self.transport.join(_JOIN_TIMEOUT)
        for subsystem in list(self._subsystems.values()):
            subsystem.join(_JOIN_TIMEOUT)
        for tunnel in list(self._tunnels.values()):
            tunnel.join(_JOIN_TIMEOUT)


class Server:
    """SSH servers, one listening socket per node, on 127.0.0.1.

    Args:
        homes: each node's home directory, in which its commands run.
        settings: the settings of all nodes.

    Attributes:
        host_keys: each node's host key.
        ports: each node's port; empty before start().
        closing: a socket that becomes readable when the server stops.
        stopping: True once the server stops or has stopped.
    """

    def __init__(self, homes: Mapping[str, str], settings: ServerSettings) -> None:
        self.homes = dict(homes)
        self.settings = settings
        self.host_keys = {node: make_key_pair() for node in self.homes}
        self.ports: dict[str, int] = {}
        self.stopping = False
        self.closing, self._closer = socket.socketpair()
        self._listeners: list[socket.socket] = []
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._sessions: set[Session] = set()
        # Process groups that outlived their session: commands left in the background.
        self._groups: set[ProcessGroup] = set()
        self._thread: Optional[threading.Thread] = None
        abandon_in_child(self)

    def __repr__(self) -> str:
        state = "stopped" if self.stopping else "listening" if self._listeners else "new"
        return (
            f"<Server {state}: {len(self.homes)} nodes, {len(self._connections)} connections, "
            f"{len(self._sessions)} sessions>"
        )

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: a socket could not be opened, for example because there are no file descriptors
                left. Sockets opened before stay open until stop().
        """
        for node in self.homes:
            listener = socket.socket()
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.bind((ADDRESS, 0))
            listener.listen(128)
            self.ports[node] = listener.getsockname()[1]
        # Made here, so that the open descriptors are the same from start() to stop().
        selector = make_selector()
        selector.register(self.closing, selectors.EVENT_READ)
        for node, listener in zip(self.homes, self._listeners):
            selector.register(listener, selectors.EVENT_READ, node)
        self._thread = threading.Thread(
            target=self._accept_all, args=(selector,), name="loopback-accept", daemon=True
        )
        self._thread.start()

    # -- the accept loop --------------------------------------------------------------------------

    def _accept_all(self, selector: selectors.BaseSelector) -> None:
        with selector:
            while not self.stopping:
                for key, _ in selector.select():
                    if key.data is not None and not self.stopping:
                        self._accept(key.data, key.fileobj)  # type: ignore[arg-type]

    def _accept(self, node: str, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # The connection stays in the queue and the listener ready: do not spin.
                logger.error("%s: cannot accept: %s", node, error)
                with make_selector() as pause:
                    pause.register(self.closing, selectors.EVENT_READ)
                    pause.select(_SHORTAGE_PAUSE)
            return  # any other error: the client has gone
        if address[0] != ADDRESS:
            # The client has another address of this machine, which any user can have.
            logger.warning("%s: refused a connection from %s", node, address[0])
            sock.close()
            return
        try:
            # A command's output, exit status and close are small packets in a row.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, node, sock)
            with self._lock:
                self._connections.add(connection)
            try:
                connection.transport.start_server(event=threading.Event(), server=connection)
            except RuntimeError:
                self.connection_lost(connection)
                raise
        except (OSError, RuntimeError):  # a reset connection; no more threads
            logger.exception("%s: cannot serve a connection", node)
            sock.close()

    # -- calls from connections ------------------------------------------------------------------

    def session_started(self, session: Session) -> None:
        """Store the session."""
        with self._lock:
            self._sessions.add(session)

    def session_ended(self, session: Session) -> None:
        """Remove the session; remember its process group if it has processes left."""
        with self._lock:
            self._sessions.discard(session)
            self._groups.add(session.group)
            # The number of a group that has ended may be used for another one.
            self._groups = {group for group in self._groups if group.signal(0)}

    def connection_lost(self, connection: Connection) -> None:
        """Remove the connection."""
        with self._lock:
            self._connections.discard(connection)

    # -- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop listening, end all connections, kill all processes, and wait until all have ended.

        Further calls do nothing.
        """
        if self.stopping:
            return
        self.stopping = True
        self._closer.close()
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT)
        for listener in self._listeners:
            listener.close()
        connections, sessions = self._snapshot()
        for connection in connections:
            connection.transport.disconnect()
        for session in sessions:
            session.kill()
        for connection in connections:
            connection.join()
        # Connections may have started more sessions before they ended: these are dead as well.
        for session in {*sessions, *self._snapshot()[1]}:
            session.join(_JOIN_TIMEOUT)
        for group in self._groups:
            group.signal(SIGKILL)
        if platform.WINDOWS:
            self._await_groups()
        self._groups.clear()
        self.closing.close()

    def _await_groups(self) -> None:
        """Wait for the end of processes that were killed: Windows keeps their working directory."""
        deadline = time.monotonic() + _JOIN_TIMEOUT
        while any(group.signal(0) for group in self._groups) and time.monotonic() < deadline:
            time.sleep(_KILLED_INTERVAL)

    def abandon(self) -> None:
        """In a forked child: the servers, with all their connections, are the parent's."""
        self._lock = threading.Lock()
        self.stopping = True
        for connection in self._connections:
            connection.transport.abandon()
        self._connections.clear()
        self._sessions.clear()
        self._groups.clear()
        for sock in (*self._listeners, self._closer, self.closing):
            sock.close()
        self._listeners.clear()

    def _snapshot(self) -> tuple[list[Connection], list[Session]]:
        with self._lock:
            return list(self._connections), list(self._sessions)
