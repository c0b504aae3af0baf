"""A channel through a jump host as the stream under another transport."""

from __future__ import annotations

from typing import Any, Callable, Optional, Protocol

from ...engine.engine import Engine
from ..protocol import ClientChannel, read_available
from ..protocol.bytestream import ByteStream


class Carrier(Protocol):
    """The part of the jump host's connection that a tunnel uses."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when the jump host has sent bytes."""
        ...

    def read_now(self) -> None:
        """Read all bytes that the jump host has sent."""
        ...


class TunnelStream(ByteStream):
    """A direct-tcpip channel (RFC 4254 7.2) of the jump host's transport.

    Bytes that arrive are read in the engine's next pass. Bytes that the channel's window has no
    room for are sent as soon as the jump host grants more.

    Args:
        channel: the open channel, which this object owns from now on.
        carrier: the jump host's connection.
        engine: the engine.
        address: the server's name, for messages.
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
        """Return the descriptor of the jump host's connection."""
        return self._carrier.fileno()

    # -- reading --

    def read(self) -> Optional[bytes]:
        """Return the bytes that have arrived: None if there are none, b'' at the end."""
        channel = self._channel
        # First this, then the data: bytes sent before the end have arrived by then.
        ended = self._shut or channel.closed or bool(channel.eof_received)
        data = read_available(channel, stderr=False)
        if data:
            return self._count(data)
        return b"" if ended else None

    def fetch(self) -> None:
        """Make the jump host's connection read."""
        self._carrier.read_now()

    def watch(self, on_readable: Callable[[], bool]) -> None:
        """Make the engine read from now on, including bytes that have arrived already."""
        self._on_readable = on_readable
        self._channel.watch_data(self._on_data)

    def unwatch(self) -> None:
        """Stop the engine's reading."""
        self._on_readable = None

    @property
    def watched(self) -> bool:
        """True if the engine reads."""
        return self._on_readable is not None

    def _on_data(self) -> None:
        # Called on the thread that feeds the jump host's transport, with the buffer's lock held:
        # only post.
        if not self._posted:
            self._posted = True
            self._engine.post(self._read_all)

    def _read_all(self) -> None:
        self._posted = False
        # No descriptor reports the bytes that are left: read them all.
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
            if size == 0:  # closed: the reader notices it
                return len(data)
            sent += size
        return sent

    # -- the end --

    @property
    def ended_below(self) -> bool:
        """True if the jump host's connection has ended, and not just this channel of it."""
        if self._shut:
            return self._lost
        return self._channel.closed and not self._channel.closed_by_server

    def close(self) -> None:
        """Close the channel, on any thread. The jump host's connection goes on."""
        if self._shut:
            return
        # ended_below is read after the transport has closed this stream: keep its value.
        self._lost = self.ended_below
        self._shut = True
        # The channel's callbacks and the owner's lead back to this stream: without the collector,
        # nothing would free such a cycle.
        self._channel.drop()
        self._on_readable = None
        on_closed, self._on_closed = self._on_closed, lambda: None
        if not self._lost:
            on_closed()
