"""Agent forwarding: the remote host asks the user's agent, over channels that its server opens.

Requests arrive on the thread that feeds the transport. An agent may take long, because it may ask
its user: so a few worker threads, shared by all connections, relay the requests. Each channel has
its own connection to the agent, as in OpenSSH: a binding (see :func:`session_bind`) applies to the
requests of one connection only.
"""

from __future__ import annotations

import logging
import threading
from typing import Optional

from paramiko import SSHException

from ...engine.threadpool import ThreadPool
from ..config.settings import ConnectionSettings
from ..protocol import ClientChannel, ClientTransport, write_available
from ..protocol.fields import ssh_string
from .agent import MAX_MESSAGE, AgentConnection, AgentError, default_agent

logger = logging.getLogger("pyclustershell.auth")

_THREADS = 8
_relays = ThreadPool("pyclustershell agent", _THREADS)

_EXTENSION = 27
_BIND = b"session-bind@openssh.com"


def agent_to_forward(settings: ConnectionSettings) -> Optional[str]:
    """Return the path of the agent that the settings forward, or None."""
    if isinstance(settings.forward_agent, str):
        return settings.forward_agent
    if not settings.forward_agent or not settings.agent:
        return None
    return settings.identity_agent or default_agent()


def forward_agent(
    transport: ClientTransport, channel: ClientChannel, settings: ConnectionSettings
) -> None:
    """Request agent forwarding for a channel, if the settings ask for it.

    Call it on the thread that feeds the transport, before the command is requested.
    """
    path = agent_to_forward(settings)
    if path is not None:
        timeout = settings.auth_timeout
        transport.on_agent_channel = lambda opened: _Relay(
            opened, AgentConnection(path, timeout), session_bind(transport), settings.node
        ).start()
        channel.request_agent_forwarding()


def session_bind(transport: ClientTransport) -> bytes:
    """Return the request that tells an agent which host a connection comes from.

    It is an extension of OpenSSH (PROTOCOL.agent, session-bind): keys that were added for some
    hosts only (``ssh-add -h``) can be used through a bound connection only, within their limits.
    The host's signature of the session proves its identity.
    """
    key, signature = transport.server_key[1], transport.server_signature
    parts = (_BIND, key, transport.session_id or b"", signature)
    body = b"".join(map(ssh_string, parts))
    return bytes([_EXTENSION]) + body + b"\1"  # 1: forwarded


class _Relay:
    """Relays the requests of one channel to the agent, one after another."""

    def __init__(
        self, channel: ClientChannel, agent: AgentConnection, bind: bytes, node: str
    ) -> None:
        self._channel = channel
        self._agent = agent
        self._bind: Optional[bytes] = bind
        self._node = node
        self._received = b""
        # True while a worker thread serves this channel; True if data has come since it last read.
        self._lock = threading.Lock()
        self._serving = False
        self._has_news = False
        # Set when there may be room for a reply, and when the channel closes.
        self._room = threading.Event()

    def start(self) -> None:
        """Start to listen for requests."""
        self._channel.watch(self._room.set, self._room.set)
        self._channel.watch_data(self._wake)

    def _wake(self) -> None:
        # On the thread that feeds the transport, with the lock of the channel or its buffer held.
        with self._lock:
            self._has_news = True
            if self._serving:
                return
            self._serving = True
        _relays.submit(self._serve)

    def _serve(self) -> None:
        """Relay the requests that have come. Runs on a worker thread."""
        try:
            while self._take_news():
                if not self._relay_requests():
                    break
            else:
                return
        except (AgentError, OSError, SSHException, EOFError) as error:
            logger.warning("%s: agent forwarding: %s", self._node, error)
        # _serving stays True, so that no thread serves this channel any more.
        self._agent.close()
        self._channel.drop()

    def _take_news(self) -> bool:
        with self._lock:
            self._serving = self._has_news
            self._has_news = False
            return self._serving

    def _relay_requests(self) -> bool:
        """Relay the complete requests. Returns False if no more can come."""
        channel = self._channel
        over = channel.eof_received or channel.closed
        while channel.recv_ready():
            self._received += channel.recv(MAX_MESSAGE)
        while len(self._received) >= 4:
            size = int.from_bytes(self._received[:4], "big")
            if not 0 < size <= MAX_MESSAGE:
                raise AgentError(f"the remote host's request claims to have {size} bytes")
            if len(self._received) < 4 + size:
                break
            request, self._received = self._received[4 : 4 + size], self._received[4 + size :]
            if self._bind is not None:
                # An agent that does not support this extension refuses it, which does no harm.
                self._agent.ask(self._bind)
                self._bind = None
            reply = self._agent.ask(request)
            self._send(ssh_string(reply))
        return not over

    def _send(self, data: bytes) -> None:
        """Send all data; wait while the server has no room for it.

        ``Channel.sendall`` would wait with the channel's lock held, so that the channel could not
        be closed.
        """
        while data:
            self._room.clear()
            sent = write_available(self._channel, data)
            data = data[sent:]
            # Replies are short. A server that does not read them must not occupy a thread for ever.
            if not sent and not self._room.wait(self._agent.timeout):
                raise TimeoutError("the remote host does not read the agent's reply")
