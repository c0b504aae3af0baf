"""Counters of a pool of transports."""

from __future__ import annotations

from typing import NamedTuple


class PoolStats(NamedTuple):
    """The present state of one pool, and its totals since it was made. A snapshot.

    Attributes:
        open: transports to nodes that are open or being opened, idle ones included.
        idle: those of them that wait for their next command.
        handshakes: those of them that are not authenticated yet.
        waiting: commands that wait for a transport.
        jump_hosts: transports to jump hosts. They are not part of ``open`` and do not count for the
            limit.
        opened: transports to nodes that were dialed.
        reused: commands that were given an idle transport.
        evicted: idle transports that were closed to make room for another node's.
        retried: login attempts that were made again after a server turned one away.
        bytes_sent: bytes written to nodes, as SSH sends them (without TCP's headers).
        bytes_received: bytes read from nodes, likewise.
    """

    open: int = 0
    idle: int = 0
    handshakes: int = 0
    waiting: int = 0
    jump_hosts: int = 0
    opened: int = 0
    reused: int = 0
    evicted: int = 0
    retried: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def plus(self, other: PoolStats) -> PoolStats:
        """Return the sums of both."""
        return PoolStats(*map(sum, zip(self, other)))
