"""The states of a connection and of a command, what moves them, and the records of what happened.

Each machine is one table: (state, event) -> state. A move that is not in the table is a bug, and
raises. Events that may come late, because another thread or the network was on its way when the
machine moved on, are rows of the table that change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, TypeVar, Union

from ..exceptions import NodeError


class Label(Enum):
    """A state, or an event. Each exists once, so that it is its identity that is hashed.

    Enum's own hash is computed in Python, twice for each move.
    """

    __hash__ = object.__hash__


class ConnectionState(Label):
    """Where one SSH connection is."""

    NEW = "new"
    DIALING = "dialing"  # resolving the name, connecting TCP
    HANDSHAKING = "handshaking"  # banner, key exchange, host key
    AUTHENTICATING = "authenticating"
    READY = "ready"  # idle in the pool
    LEASED = "leased"  # serves one command
    CLOSED = "closed"


class ConnectionEvent(Label):
    """What moves a connection."""

    DIAL = "dial"
    CONNECTED = "connected"
    TURNED_AWAY = "turned away"  # and worth another attempt
    KEYED = "keyed"  # keys exchanged and the host key accepted
    AUTHENTICATED = "authenticated"
    LEASE = "lease"
    RELEASE = "release"
    CLOSE = "close"  # by us, by the peer, or by a failure


class CommandState(Label):
    """Where one command is."""

    OPENING = "opening"  # a channel is asked for, then the command
    RUNNING = "running"
    AWAITING_EXIT = "awaiting exit"  # both streams ended, the exit status has not come
    AWAITING_EOF = "awaiting EOF"  # the exit status came, output may follow
    DONE = "done"


class CommandEvent(Label):
    """What moves a command."""

    STARTED = "started"
    EOF = "EOF"
    EXITED = "exited"
    CLOSED = "closed"  # channel or connection closed, refused or lost
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
    # It can end at any moment.
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
    # Late: it had been posted when the command was aborted or lost.
    (_S.DONE, _SE.STARTED): _S.DONE,
    (_S.DONE, _SE.EOF): _S.DONE,
    (_S.DONE, _SE.EXITED): _S.DONE,
    (_S.DONE, _SE.CLOSED): _S.DONE,
    (_S.DONE, _SE.ABORTED): _S.DONE,
    # The exit status is told once, but a channel's status is looked at more often.
    (_S.AWAITING_EOF, _SE.EXITED): _S.AWAITING_EOF,
}

StateT = TypeVar("StateT", bound=Label)
EventT = TypeVar("EventT", bound=Label)


class IllegalMoveError(RuntimeError):
    """A state machine was told of an event that cannot happen in its state: a bug."""


def move(table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT) -> StateT:
    """The state that follows.

    Raises:
        IllegalMoveError: the table has no such row.
    """
    try:
        return table[state, event]
    except KeyError:
        raise IllegalMoveError(
            f"{event} cannot happen in {state}: a row is missing, or the caller is wrong"
        ) from None


# -- records: what a command tells its worker --


class Started(NamedTuple):
    """The command has started."""


class Output(NamedTuple):
    """Complete lines of one stream, without their newlines."""

    sname: str
    lines: list[bytes]


class Written(NamedTuple):
    """Bytes of standard input were sent."""

    size: int


class Exited(NamedTuple):
    """The command ended and its output is complete; 128 + n where signal n ended it."""

    rc: int


class Failed(NamedTuple):
    """No command could be run, or it was lost; or a copy failed."""

    error: NodeError
    #: What stands for an exit status: 255, as the ssh program has it, or 1 for a failed copy.
    rc: int = 255


class Copied(NamedTuple):
    """So many bytes of files have been copied so far."""

    size: int


class TimedOut(NamedTuple):
    """Time ran out before the command ended."""


class Aborted(NamedTuple):
    """The command was ended by us before it ended by itself."""


Record = Union[Started, Output, Written, Copied, Exited, Failed, TimedOut, Aborted]
