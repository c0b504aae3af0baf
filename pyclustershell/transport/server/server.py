"""SSH servers for many nodes on 127.0.0.1: what :mod:`pyclustershell.loopback` is made of.

One thread accepts the connections of all nodes. Each connection has the thread that paramiko gives
it, and each running command has three (see :class:`.server_session.Session`).
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

from ... import platform
from .files import LocalFiles, SFTPSubsystem
from .hooks import ServerTransport
from .session import SIGKILL, Session, signal_group
from .tunnel import Tunnel

ADDRESS = "127.0.0.1"

# How long processes may take to end after SIGHUP when their client has gone, in seconds.
_HANGUP_GRACE = 2.0
# How long stop() waits for any one thread, in seconds.
_JOIN_TIMEOUT = 5.0
# How long to accept nothing when there are no file descriptors left, in seconds.
_SHORTAGE_PAUSE = 0.05

# Unless the application listens, errors of the server reach nobody: without a handler, logging
# itself would print them to standard error.
LOGGER_NAME = "pyclustershell.loopback"
logger = logging.getLogger(LOGGER_NAME)
logger.addHandler(logging.NullHandler())

#: What is asked before a command is run: the node and the command to the command to be run in its
#: place, or to None, which refuses the request. On the connection's thread.
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
    """What the servers of all nodes have in common.

    Attributes:
        user: the only user.
        user_key: the only key accepted.
        shell: the argument vector to which a command is appended; its first word alone is the
            interactive shell.
        max_sessions: how many sessions one connection may have open, as sshd's MaxSessions.
        handler: asked before each command.
        max_tunnels: how many tunnels to other nodes one connection may have open; None: no limit.
    """

    user: str
    user_key: paramiko.PKey = field(repr=False)
    shell: Sequence[str]
    max_sessions: int
    handler: Optional[CommandHandler] = None
    max_tunnels: Optional[int] = None


class Connection(paramiko.ServerInterface):
    """One accepted connection: who may log in, and what may run.

    paramiko calls every method on the transport's thread, also those of
    :class:`.server_hooks.ConnectionEvents`.
    """

    def __init__(self, server: Server, node: str, sock: socket.socket) -> None:
        self.node = node
        self._server = server
        self._settings = server.settings
        # paramiko itself holds channels by weak references only.
        self._channels: dict[int, paramiko.Channel] = {}
        self._environments: dict[int, dict[str, str]] = {}
        self._sessions: dict[int, Session] = {}
        self._subsystems: dict[int, SFTPSubsystem] = {}
        self._tunnels: dict[int, Tunnel] = {}
        # What granted tunnels lead to, until their channels are there.
        self._targets: dict[int, socket.socket] = {}
        self.transport = ServerTransport(sock)
        self.transport.set_log_channel(LOGGER_NAME)
        self.transport.add_server_key(server.host_keys[node].key)

    def __repr__(self) -> str:
        return f"<Connection to {self.node}: {len(self._sessions)} sessions>"

    # -- logging in -------------------------------------------------------------------------------

    def get_allowed_auths(self, username: str) -> str:
        """Say that only keys are accepted."""
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
        """Grant tunnels to the other nodes, and to nothing else: a node can be a jump host."""
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
            # One of our own listeners: it answers at once.
            self._targets[chanid] = socket.create_connection((ADDRESS, port))
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        return OPEN_SUCCEEDED

    def channel_opened(self, channel: paramiko.Channel) -> None:
        """Keep the channel, and an environment to which requests add; or start the tunnel."""
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
        """Run the shell, which reads its commands from standard input."""
        return self._run(channel, self._settings.shell[:1])

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Run a command in the shell."""
        handler = self._settings.handler
        replaced = command if handler is None else handler(self.node, command)
        if replaced is None:
            return False
        # Windows has no arguments in bytes.
        argument = os.fsdecode(replaced) if platform.WINDOWS else replaced
        return self._run(channel, (*self._settings.shell, argument))

    def _run(self, channel: paramiko.Channel, arguments: Sequence[str | bytes]) -> bool:
        number = channel.chanid
        if number in self._sessions or number in self._subsystems:
            return False  # one per channel (RFC 4254, 6.5)
        home = self._server.homes[self.node]
        try:
            session = Session(
                channel,
                arguments,
                environment={
                    **os.environ,
                    "HOME": home,
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
            return False
        self._sessions[number] = session
        self._server.session_started(session)
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
        """Let what the request started begin."""
        session = self._sessions.get(channel.chanid)
        if session is not None:
            session.start()
        subsystem = self._subsystems.get(channel.chanid)
        if subsystem is not None:
            subsystem.begin()

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
        # On one of the session's threads. The channel is closed on this side; when the client has
        # closed it as well, the number can be used again.
        self._sessions.pop(number, None)
        self._server.session_ended(session)

    def connection_lost(self) -> None:
        """Hang up: the processes get SIGHUP, and SIGKILL a moment later.

        OpenSSH does so only for sessions with a terminal and leaves others to fail at their next
        write. Servers that live as long as a test should not leave processes behind.
        """
        for tunnel in self._tunnels.values():
            tunnel.close()
        sessions = list(self._sessions.values())
        for session in sessions:
            session.start()  # where the connection ended before its request could be answered
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
        homes: the nodes, with the directory in which each one's commands run.
        settings: what the nodes have in common.

    Attributes:
        host_keys: each node's host key.
        ports: each node's port, once started.
        closing: readable as soon as the server stops.
        stopping: whether it stops or has stopped.
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
        self._groups: set[int] = set()
        self._thread: Optional[threading.Thread] = None

    def __repr__(self) -> str:
        state = "stopped" if self.stopping else "listening" if self._listeners else "new"
        return (
            f"<Server {state}: {len(self.homes)} nodes, {len(self._connections)} connections, "
            f"{len(self._sessions)} sessions>"
        )

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: a socket could not be opened, for want of file descriptors for example. What
                was opened before remains so until stop().
        """
        for node in self.homes:
            listener = socket.socket()
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.bind((ADDRESS, 0))
            listener.listen(128)
            self.ports[node] = listener.getsockname()[1]
        # Made here, so that what is open when start() returns stays the same until stop().
        selector = selectors.DefaultSelector()
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
                with selectors.DefaultSelector() as pause:
                    pause.register(self.closing, selectors.EVENT_READ)
                    pause.select(_SHORTAGE_PAUSE)
            return  # otherwise: the client gave up meanwhile
        if address[0] != ADDRESS:
            # Another address of this machine, but any of its users can have those.
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
        except (OSError, RuntimeError):  # reset meanwhile; no more threads
            logger.exception("%s: cannot serve a connection", node)
            sock.close()

    # -- what connections report ------------------------------------------------------------------

    def session_started(self, session: Session) -> None:
        """Keep account of it."""
        with self._lock:
            self._sessions.add(session)

    def session_ended(self, session: Session) -> None:
        """Remember the process group where it has members left."""
        with self._lock:
            self._sessions.discard(session)
            self._groups.add(session.group)
            # The number of a group that is gone may be given to another one.
            self._groups = {group for group in self._groups if signal_group(group, 0)}

    def connection_lost(self, connection: Connection) -> None:
        """Forget it."""
        with self._lock:
            self._connections.discard(connection)

    # -- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop listening, end all connections, kill all processes, and wait until all is over.

        More than once does no harm.
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
        # What the connections still started before they ended is dead by now, too.
        for session in {*sessions, *self._snapshot()[1]}:
            session.join(_JOIN_TIMEOUT)
        for group in self._groups:
            signal_group(group, SIGKILL)
        self._groups.clear()
        self.closing.close()

    def _snapshot(self) -> tuple[list[Connection], list[Session]]:
        with self._lock:
            return list(self._connections), list(self._sessions)
