"""The end of an SFTP session that did not end by itself: its temporary files are removed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Callable, Optional

from paramiko import SSHException

from ..connection import Connection
from ..paramiko_hooks import ClientChannel
from ..pool import TransportPool
from ..reaper import Reaper

# The run may have ended, so that nobody reads: look, at growing intervals, in seconds.
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.2


def _beginning(view: memoryview, size: int) -> list[memoryview]:
    return [view[:size]]


class Sweep:
    """Sends a session's last requests, and gives its connection back when they are dealt with.

    A server that gets to the end of its input ends when it has done all that came before. So nobody
    has to understand its replies. As the end of a command (see ``Termination``), this does not need
    the engine.

    Args:
        channel: the session's channel.
        connection: its connection.
        pool: where the connection goes.
        reaper: looks whether it is over.
        grace: seconds after which the channel is closed in any case.
    """

    def __init__(
        self,
        channel: ClientChannel,
        connection: Connection,
        pool: TransportPool,
        reaper: Reaper,
        grace: float,
    ) -> None:
        self.connection = connection
        self.grace = grace
        self._channel = channel
        self._pool = pool
        self._reaper = reaper
        # Guards what is to be sent: the window may open on whatever thread reads.
        self._lock = threading.Lock()
        self._out: deque[memoryview] = deque()
        self._eof_sent = False
        self._interval = _FIRST_LOOK
        self._waited = 0.0
        self._cancel: Optional[Callable[[], None]] = None

    @property
    def is_gone(self) -> bool:
        """Whether the server has ended the session."""
        return self._channel.has_exit_status or self._channel.closed

    def begin(self, last_words: Iterable[memoryview], unread: int) -> None:
        """Send what is to be sent, as far as the server takes it now.

        Args:
            last_words: the rest of a packet that has been begun, then whole ones.
            unread: how many bytes have come that nobody has dealt with.
        """
        self._pool.begin_ending(self)
        self._out.extend(last_words)
        self._channel.divert(lambda data: self._channel.grant(len(data)))
        self._channel.watch(lambda: None, self._send)
        # A connection that is gone takes the server's end of the session with it.
        with suppress(SSHException, OSError, EOFError):
            self._channel.grant(unread)
            self._send()
        self._look_later()

    def _send(self) -> None:
        """Send what the window has room for, and the end after it. On any thread."""
        with self._lock:
            while self._out:
                view = self._out.popleft()
                size = self._channel.send_now(len(view), partial(_beginning, view))
                if size < len(view):
                    self._out.appendleft(view[size:])
                if not size:
                    return
            if not self._eof_sent:
                self._eof_sent = True
                self._channel.shutdown_write()

    def _look_later(self) -> None:
        self._cancel = self._reaper.call_later(self._interval, self._look)
        self._waited += self._interval
        self._interval = min(2 * self._interval, _LONGEST_LOOK)

    def _look(self) -> None:
        # On the reaper's thread. Between two runs nobody else reads, nor sends what had to wait.
        self.connection.read_now()
        if self.is_gone or self._waited >= self.grace:
            self.kill()
        else:
            self._look_later()

    def kill(self) -> None:
        """Close the channel, and give the connection back. On the reaper's thread, mostly."""
        self._pool.finish_ending(self, self._give_back)

    def _give_back(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._channel.close()
        self._pool.release(self.connection)
