"""The states of a connection and of a command, and their transitions.

Each machine is one table: (state, event) -> state. An event that has no row in the table is a bug,
and raises. An event may come late, because another thread or the network caused it before the
machine moved on: the table has a row for it that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class Label(Enum):
    """A state, or an event. Each exists once, so its identity serves as its hash.

    Enum's own hash is computed in Python, twice for each move.
    """

    __hash__ = object.__hash__


class ConnectionState(Label):
    """The state of one SSH connection."""

    NEW = "new"
    DIALING = "dialing"  # resolving the name, connecting TCP
    HANDSHAKING = "handshaking"  # banner, key exchange, host key
    AUTHENTICATING = "authenticating"
    READY = "ready"  # idle in the pool
    LEASED = "leased"  # used by one lessee
    CLOSED = "closed"


class ConnectionEvent(Label):
    """An event in the life of a connection."""

    DIAL = "dial"
    CONNECTED = "connected"
    TURNED_AWAY = "turned away"  # another attempt may succeed
    KEYED = "keyed"  # keys exchanged and the host key accepted
    AUTHENTICATED = "authenticated"
    LEASE = "lease"
    RELEASE = "release"
    CLOSE = "close"  # by us, by the peer, or by a failure


class CommandState(Label):
    """The state of one command."""

    OPENING = "opening"  # the channel is requested, then the command
    RUNNING = "running"
    AWAITING_EXIT = "awaiting exit"  # both streams have ended, the exit status has not arrived
    AWAITING_EOF = "awaiting EOF"  # the exit status has arrived, output may follow
    DONE = "done"


class CommandEvent(Label):
    """An event in the life of a command."""

    STARTED = "started"
    EOF = "EOF"
    EXITED = "exited"
    CLOSED = "closed"  # the channel or the connection closed, was refused or lost
    ABORTED = "aborted"  # by us: abort or timeout


_C, _CE = ConnectionState, ConnectionEvent

CONNECTION_MOVES: Mapping[tuple[ConnectionState, ConnectionEvent], ConnectionState] = {
    (_C.NEW, _CE.DIAL): _C.DIALING,
    (_C.DIALING, _CE.CONNECTED): _C.HANDSHAKING,
    (_C.HANDSHAKING, _CE.TURNED_AWAY): _C.DIALING,
    (_C.HANDSHAKING, _CE.KEYED): _C.AUTHENTICATING,
    (_C.AUTHENTICATING, _CE.AUTHENTICATED): _C.READY,
    (_C.READY, _CE.LEASE): _C.LEASED,
    (_C.LEASED, _CE.RELEASE): _C.READY,
    # A connection can end at any moment.
    (_C.NEW, _CE.CLOSE): _C.CLOSED,
    (_C.DIALING, _CE.CLOSE): _C.CLOSED,
    (_C.HANDSHAKING, _CE.CLOSE): _C.CLOSED,
    (_C.AUTHENTICATING, _CE.CLOSE): _C.CLOSED,
    (_C.READY, _CE.CLOSE): _C.CLOSED,
    (_C.LEASED, _CE.CLOSE): _C.CLOSED,
    # Late: the dial, the handshake or the lessee ended after the connection was closed.
    (_C.CLOSED, _CE.CONNECTED): _C.CLOSED,
    (_C.CLOSED, _CE.TURNED_AWAY): _C.CLOSED,
    (_C.CLOSED, _CE.KEYED): _C.CLOSED,
    (_C.CLOSED, _CE.AUTHENTICATED): _C.CLOSED,
    (_C.CLOSED, _CE.LEASE): _C.CLOSED,
    (_C.CLOSED, _CE.RELEASE): _C.CLOSED,
    (_C.CLOSED, _CE.CLOSE): _C.CLOSED,
}

_S, _SE = CommandState, CommandEvent

COMMAND_MOVES: Mapping[tuple[CommandState, CommandEvent], CommandState] = {
    (_S.OPENING, _SE.STARTED): _S.RUNNING,
    (_S.RUNNING, _SE.EOF): _S.AWAITING_EXIT,
    (_S.RUNNING, _SE.EXITED): _S.AWAITING_EOF,
    (_S.AWAITING_EXIT, _SE.EXITED): _S.DONE,
    (_S.AWAITING_EOF, _SE.EOF): _S.DONE,
    # A channel may close without EOF or exit status; a connection may be lost.
    (_S.OPENING, _SE.CLOSED): _S.DONE,
    (_S.RUNNING, _SE.CLOSED): _S.DONE,
    (_S.AWAITING_EXIT, _SE.CLOSED): _S.DONE,
    (_S.AWAITING_EOF, _SE.CLOSED): _S.DONE,
    (_S.OPENING, _SE.ABORTED): _S.DONE,
    (_S.RUNNING, _SE.ABORTED): _S.DONE,
    (_S.AWAITING_EXIT, _SE.ABORTED): _S.DONE,
    (_S.AWAITING_EOF, _SE.ABORTED): _S.DONE,
    # Late: the event was posted before the command was aborted or lost.
    (_S.DONE, _SE.STARTED): _S.DONE,
    (_S.DONE, _SE.EOF): _S.DONE,
    (_S.DONE, _SE.EXITED): _S.DONE,
    (_S.DONE, _SE.CLOSED): _S.DONE,
    (_S.DONE, _SE.ABORTED): _S.DONE,
    # The exit status arrives once, but the channel's status is checked more often.
    (_S.AWAITING_EOF, _SE.EXITED): _S.AWAITING_EOF,
}

StateT = TypeVar("StateT", bound=Label)
EventT = TypeVar("EventT", bound=Label)


class IllegalMoveError(RuntimeError):
    """A state machine got an event that cannot happen in its state: a bug."""


def move(table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT) -> StateT:
    """Return the state that follows.

    Raises:
        IllegalMoveError: the table has no such row.
    """
    try:
        return table[state, event]
    except KeyError:
        raise IllegalMoveError(
            f"{event} cannot happen in {state}: a row is missing, or the caller is wrong"
        ) from None
