"""A channel through a jump host as the stream under another transport."""

from __future__ import annotations

from typing import Any, Callable, Optional, Protocol

from ..engine.engine import Engine
from .paramiko_hooks import ClientChannel, read_available
from .stream import PacketStream


class Carrier(Protocol):
    """The jump host's connection, as a tunnel needs it."""

    def fileno(self) -> int:
        """The descriptor that is readable when the jump host has sent something."""
        ...

    def read_now(self) -> None:
        """Read what the jump host has sent."""
        ...


class TunnelStream(PacketStream):
    """A direct-tcpip channel (RFC 4254 7.2) of the jump host's transport.

    What has come is read in the engine's next pass. What the channel's window has no room for is
    sent as soon as the jump host grants more.

    Args:
        channel: the open channel, which this object owns from now on.
        carrier: the jump host's connection.
        engine: the engine.
        address: whom it leads to, for messages.
        on_closed: called once, on any thread, when this side has closed the stream, unless the
            jump host's connection has ended before.
    """

    def __init__(
        self,
        channel: ClientChannel,
        carrier: Carrier,
        engine: Engine,
        address: str,
        on_closed: Callable[[], Any],
    ) -> None:
        super().__init__(address)
        self._channel = channel
        self._carrier = carrier
        self._engine = engine
        self._on_closed = on_closed
        self._on_readable: Optional[Callable[[], bool]] = None
        self._posted = False
        self._lost = False
        channel.watch(lambda: None, self.flush)

    def fileno(self) -> int:
        """The descriptor of the jump host's connection."""
        return self._carrier.fileno()

    # -- reading --

    def read(self) -> Optional[bytes]:
        """What has come: None where that is nothing, b'' at the end of the stream."""
        channel = self._channel
        # Before the look at the data: what came before the end is there by now.
        ended = self._shut or channel.closed or bool(channel.eof_received)
        data = read_available(channel, stderr=False)
        if data:
            return self._count(data)
        return b"" if ended else None

    def fetch(self) -> None:
        """Let the jump host's connection read."""
        self._carrier.read_now()

    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Have what comes read by the engine from now on, and what has come."""
        self._on_readable = on_readable
        self._channel.watch_data(self._on_data)

    def unwatch(self) -> None:
        """Have it read no more."""
        self._on_readable = None

    @property
    def watched(self) -> bool:
        """Whether the engine reads."""
        return self._on_readable is not None

    def _on_data(self) -> None:
        # Where the jump host's transport is fed, with the buffer's lock held: only post.
        if not self._posted:
            self._posted = True
            self._engine.post(self._read_all)

    def _read_all(self) -> None:
        self._posted = False
        # No descriptor tells again of what is left.
        while self._on_readable is not None and self._on_readable():
            pass

    # -- writing --

    def _send_some(self, data: bytes) -> int:
        channel = self._channel
        sent = 0
        while sent < len(data) and channel.send_ready():
            try:
                size = channel.send(data[sent:])
            except OSError:
                size = 0
            if size == 0:  # closed: the reader learns of it
                return len(data)
            sent += size
        return sent

    # -- the end --

    @property
    def ended_below(self) -> bool:
        """Whether the jump host's connection has ended, and not just this channel of it."""
        if self._shut:
            return self._lost
        return self._channel.closed and not self._channel.closed_by_server

    def close(self) -> None:
        """Close the channel, on any thread. The jump host's connection goes on."""
        if self._shut:
            return
        # It is asked for after the transport has closed us.
        self._lost = self.ended_below
        self._shut = True
        self._channel.close()
        if not self._lost:
            self._on_closed()
