"""What a session leaves to be ended on its node when nobody waits for it any more."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Callable, Optional

from paramiko import SSHException

from .connection import Connection
from .paramiko_hooks import ClientChannel
from .pool import TransportPool
from .reaper import Reaper

logger = logging.getLogger("pyclustershell.command")

# How long a server may take to say that a killed command has ended before it is sent KILL again,
# in seconds: twice as long each time.
_FIRST_KILL_WAIT = 0.05
_LONGEST_KILL_WAIT = 0.4


class SessionEnding:
    """The end of a session that did not end by itself. Its connection is in use until then.

    It does not need the engine: the run may have ended.

    Args:
        channel: the session's channel.
        connection: its connection.
        pool: where the connection goes.
        reaper: calls when it is time to look.
        grace: seconds that it has to end by itself.

    Attributes:
        grace: seconds until it is over, at the most.
    """

    #: Seconds that the end may take when the grace period is over.
    _aftermath = 0.0

    def __init__(
        self,
        channel: ClientChannel,
        connection: Connection,
        pool: TransportPool,
        reaper: Reaper,
        grace: float,
    ) -> None:
        self.connection = connection
        self.grace = grace + self._aftermath
        self._grace = grace
        self._channel = channel
        self._pool = pool
        self._reaper = reaper
        self._cancel: Optional[Callable[[], None]] = None

    @property
    def is_gone(self) -> bool:
        """Whether the server has ended what ran there."""
        return self._channel.has_exit_status or self._channel.closed

    def begin(self) -> None:
        """Ask the server for the end, and see to it from now on."""
        raise NotImplementedError

    def kill(self) -> None:
        """Wait no longer. On the reaper's thread, or on one that closes the pool."""
        self._end()

    def _call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Have the next step taken on the reaper's thread, unless it is over by then."""
        self._cancel = self._reaper.call_later(delay, function)

    def _look(self) -> bool:
        """Whether it is gone. Between two runs nobody has read, nor sent what had to wait."""
        self.connection.read_now()
        return self.is_gone

    def _end(self) -> None:
        self._pool.finish_ending(self, self._give_back)

    def _give_back(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._channel.drop()
        self._pool.release(self.connection)


class Termination(SessionEnding):
    """The end of a command: TERM, and after a while KILL.

    Its connection is given back when the command is gone, or when that cannot be found out: not
    every server delivers signals, and none says that it does not (RFC 4254 6.9).
    """

    _aftermath = 2 * _LONGEST_KILL_WAIT
    _kill_wait = _FIRST_KILL_WAIT

    def begin(self) -> None:
        """Send TERM."""
        self._pool.begin_ending(self)
        self._call_later(self._grace, self._send_kill)
        self._channel.watch(self._on_status, lambda: None)
        self._send("TERM")
        self._on_status()

    def _send(self, signal: str) -> None:
        # A connection that is gone takes the command's channel with it.
        with suppress(SSHException, OSError, EOFError):
            self._channel.send_signal(signal)

    def _on_status(self) -> None:
        """Where the transport is fed, perhaps with the channel's lock held."""
        if self.is_gone:
            self._reaper.call_later(0, self._end)

    def _send_kill(self) -> None:
        """The grace period is over: send KILL, again and again. On the reaper's thread.

        OpenSSH signals the command's process group, which is made a moment after the command was
        granted: a signal that comes in between is lost, and nobody is told.
        """
        if self._look() or self._kill_wait > _LONGEST_KILL_WAIT:
            self._end()
            return
        self._send("KILL")
        self._call_later(self._kill_wait, self._send_kill)
        self._kill_wait *= 2

    def kill(self) -> None:
        """Send KILL now, and give the connection back."""
        if not self._look():
            self._send("KILL")
        self._end()

    def _give_back(self) -> None:
        if not self.is_gone:
            logger.warning(
                "%s: the command was sent TERM and KILL, and the server has not said that it "
                "ended: it may go on (OpenSSH delivers signals since 7.9)",
                self.connection.settings.node,
            )
        super()._give_back()
