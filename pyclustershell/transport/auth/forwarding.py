"""Agent forwarding: the remote host asks the user's agent, over channels that its server opens.

Requests come in where the transport is fed. An agent may take its time, for it may ask its user: so
threads of their own pass the requests on, a few for all connections. Each channel has a connection
of its own to the agent, as the ssh program has it: what was agreed on over one (see
:func:`binding`) holds for its requests only.
"""

from __future__ import annotations

import logging
import threading
from typing import Optional

from paramiko import SSHException

from ..background import Background
from ..config.settings import ConnectionSettings
from ..paramiko_hooks import ClientChannel, ClientTransport, write_available
from .agent import MAX_MESSAGE, AgentConnection, AgentError, default_agent

logger = logging.getLogger("pyclustershell.auth")

_THREADS = 8
_relays = Background("pyclustershell agent", _THREADS)

_EXTENSION = 27
_BIND = b"session-bind@openssh.com"


def agent_to_forward(settings: ConnectionSettings) -> Optional[str]:
    """Return where the agent is that the settings want to be forwarded, or None for none."""
    if isinstance(settings.forward_agent, str):
        return settings.forward_agent
    if not settings.forward_agent or not settings.agent:
        return None
    return settings.identity_agent or default_agent()


def forward_agent(
    transport: ClientTransport, channel: ClientChannel, settings: ConnectionSettings
) -> None:
    """Let the command of a channel use the agent, where the settings say so.

    Where the transport is fed, before the command is asked for.
    """
    path = agent_to_forward(settings)
    if path is not None:
        timeout = settings.auth_timeout
        transport.on_agent_channel = lambda opened: _Relay(
            opened, AgentConnection(path, timeout), binding(transport), settings.node
        ).start()
        channel.request_agent_forwarding()


def binding(transport: ClientTransport) -> bytes:
    """Return the request that tells an agent which host a connection to it comes from.

    It is OpenSSH's (PROTOCOL.agent, session-bind): keys that were added for some hosts only
    (``ssh-add -h``) can be used through a connection that is bound, and only as they allow. The
    host proves who it is by its signature of the session.
    """
    key, signature = transport.server_key[1], transport.server_signature
    parts = (_BIND, key, transport.session_id or b"", signature)
    body = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return bytes([_EXTENSION]) + body + b"\1"  # forwarded


class _Relay:
    """Passes the requests of one channel on to the agent, one after the other."""

    def __init__(
        self, channel: ClientChannel, agent: AgentConnection, bind: bytes, node: str
    ) -> None:
        self._channel = channel
        self._agent = agent
        self._bind: Optional[bytes] = bind
        self._node = node
        self._received = b""
        # Whether a thread sees to this channel, and whether something has come that it must see.
        self._lock = threading.Lock()
        self._served = False
        self._news = False
        # Set when there may be room for an answer, and when the channel closes.
        self._room = threading.Event()

    def start(self) -> None:
        """Listen."""
        self._channel.watch(self._room.set, self._room.set)
        self._channel.watch_data(self._wake)

    def _wake(self) -> None:
        # Where the transport is fed, with the channel's lock or its buffer's held.
        with self._lock:
            self._news = True
            if self._served:
                return
            self._served = True
        _relays.submit(self._serve)

    def _serve(self) -> None:
        """Pass on what has come. On a thread of the background's."""
        try:
            while self._see_news():
                if not self._pass_on():
                    break
            else:
                return
        except (AgentError, OSError, SSHException, EOFError) as error:
            logger.warning("%s: agent forwarding: %s", self._node, error)
        # From now on it counts as served: nobody looks at it any more.
        self._agent.close()
        self._channel.drop()

    def _see_news(self) -> bool:
        with self._lock:
            self._served = self._news
            self._news = False
            return self._served

    def _pass_on(self) -> bool:
        """Pass on the requests that are complete; False if no more can come."""
        channel = self._channel
        over = channel.eof_received or channel.closed
        while channel.recv_ready():
            self._received += channel.recv(MAX_MESSAGE)
        while len(self._received) >= 4:
            size = int.from_bytes(self._received[:4], "big")
            if not 0 < size <= MAX_MESSAGE:
                raise AgentError("the remote host's request makes no sense")
            if len(self._received) < 4 + size:
                break
            request, self._received = self._received[4 : 4 + size], self._received[4 + size :]
            if self._bind is not None:
                # An agent that does not know this request says so, and that is all.
                self._agent.ask(self._bind)
                self._bind = None
            answer = self._agent.ask(request)
            self._send(len(answer).to_bytes(4, "big") + answer)
        return not over

    def _send(self, data: bytes) -> None:
        """Send all of it, as the server has room for it.

        ``Channel.sendall`` waits with the channel held, so that it could not be closed meanwhile.
        """
        while data:
            self._room.clear()
            sent = write_available(self._channel, data)
            data = data[sent:]
            # Answers are short. A server that does not take them must not hold a thread for ever.
            if not sent and not self._room.wait(self._agent.timeout):
                raise TimeoutError("the remote host does not take the answer")
