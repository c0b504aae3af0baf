"""The records that a command or copy sends to its worker: events on one node."""

from __future__ import annotations

from typing import NamedTuple, Union

from .exceptions import NodeError


class Started(NamedTuple):
    """The command has started.

    Attributes:
        running: False if no command could be started. The record then only makes a pair with the
            end that follows.
    """

    running: bool = True


class Rerouted(NamedTuple):
    """Nothing has started: a jump host (``error.jump_host``) has failed, another is tried."""

    error: NodeError


class Output(NamedTuple):
    """Complete lines of one stream, without their newlines."""

    sname: str
    lines: list[bytes]


class Written(NamedTuple):
    """Bytes of standard input were sent."""

    size: int


class Exited(NamedTuple):
    """The command ended and its output is complete; rc is 128 + n if signal n ended it."""

    rc: int


class Failed(NamedTuple):
    """The command could not be run, or its connection was lost; or a copy failed."""

    error: NodeError
    #: In place of an exit status: 255, as of the ssh program, or 1 for a failed copy.
    rc: int = 255


class Copied(NamedTuple):
    """How many bytes of files have been copied so far."""

    size: int


class TimedOut(NamedTuple):
    """The time ran out before the command ended."""


class Aborted(NamedTuple):
    """The command was aborted before it ended by itself."""


Record = Union[Started, Rerouted, Output, Written, Copied, Exited, Failed, TimedOut, Aborted]
