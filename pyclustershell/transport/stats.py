"""What a pool of transports has done, in numbers."""

from __future__ import annotations

from typing import NamedTuple


class PoolStats(NamedTuple):
    """What one pool does now, and has done since it was made. A snapshot: it does not change.

    Attributes:
        open: transports to nodes that are open or being opened, idle ones included.
        idle: those of them that wait for their next command.
        handshakes: those of them that are not authenticated yet.
        waiting: commands that wait for a transport.
        bastions: transports to jump hosts, which count neither as open nor for the limit.
        opened: how many transports to nodes were dialed.
        reused: how many commands were given a transport that was there already.
        evicted: how many idle transports were closed to make room for another node's.
        retried: how many attempts to connect were made again, after a server turned one away.
        bytes_sent: bytes written to nodes, as they are on the wire (TCP's own not counted).
        bytes_received: bytes read from nodes, likewise.
    """

    open: int = 0
    idle: int = 0
    handshakes: int = 0
    waiting: int = 0
    bastions: int = 0
    opened: int = 0
    reused: int = 0
    evicted: int = 0
    retried: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def plus(self, other: PoolStats) -> PoolStats:
        """The sums of both."""
        return PoolStats(*map(sum, zip(self, other)))
