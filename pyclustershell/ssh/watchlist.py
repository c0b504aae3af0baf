"""The connections that the engine reads for."""

from __future__ import annotations

from .connection import Connection
from .states import ConnectionState


class WatchList:
    """Connections whose descriptors the engine waits on while it runs.

    A closed connection stays in the list until its descriptor is freed, which must not happen while
    the engine waits on it. The lock of the owner guards the list.
    """

    def __init__(self) -> None:
        self._connections: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        """Add a new connection."""
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a connection that has ended: the engine does not wait on it any more."""
        self._connections.discard(connection)

    def on_run_begins(self) -> None:
        """Read the bytes that arrived between two runs, then have the engine read."""
        for connection in list(self._connections):
            # The engine, which runs next, continues what is computed aside.
            connection.read_now(on_engine=True)
            connection.watch()

    def on_run_ends(self) -> None:
        """Stop the engine's reading; this frees the descriptors of closed connections."""
        for connection in self._connections:
            connection.unwatch()
        closed = ConnectionState.CLOSED
        self._connections = {c for c in self._connections if c.state is not closed}
