"""The end of an SFTP session that did not end by itself: its temporary files are removed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from paramiko import SSHException

from ...exceptions import MalformedPacketError
from ..connection import Connection
from ..ending import SessionEnding
from ..paramiko_hooks import ClientChannel
from ..pool import TransportPool
from ..reaper import Reaper
from .codec import Decoder

# The run may have ended, so that nobody reads: look, at growing intervals, in seconds.
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.2


def _beginning(view: memoryview, size: int) -> list[memoryview]:
    return [view[:size]]


class Sweep(SessionEnding):
    """Sends a session's last requests, and gives its connection back when they are dealt with.

    The end of the input comes after the last reply: OpenSSH's server ends as soon as it sees it,
    whatever it has still to do.

    Args:
        channel: the session's channel.
        connection: its connection.
        pool: where the connection goes.
        reaper: looks whether it is over.
        grace: seconds after which the channel is closed in any case.
        last_words: what is to be sent: the rest of a packet that has been begun, then requests.
        numbers: those of the requests.
        decoder: what the replies that have come have been read with.
        unread: what has come since.
    """

    def __init__(
        self,
        channel: ClientChannel,
        connection: Connection,
        pool: TransportPool,
        reaper: Reaper,
        grace: float,
        last_words: Iterable[memoryview],
        numbers: Iterable[int],
        decoder: Decoder,
        unread: Iterable[memoryview],
    ) -> None:
        super().__init__(channel, connection, pool, reaper, grace)
        # Guards what is to be sent: the window may open on whatever thread reads.
        self._lock = threading.Lock()
        self._out = deque(last_words)
        # Whose replies have not come. Changes where the transport is fed only.
        self._awaited = set(numbers)
        self._decoder = decoder
        self._unread = unread
        self._eof_sent = False
        self._interval = _FIRST_LOOK
        self._waited = 0.0

    def begin(self) -> None:
        """Send what is to be sent, as far as the server takes it now."""
        self._pool.begin_ending(self)
        self._channel.divert(self._take)
        self._channel.watch(lambda: None, self._send)
        # A connection that is gone takes the server's end of the session with it.
        with suppress(SSHException, OSError, EOFError):
            for data in self._unread:
                self._take(data)
            self._send()
        self._wait()

    def _take(self, data: memoryview) -> None:
        """Look which replies have come. Where the transport is fed."""
        self._channel.grant(len(data))
        if not self._awaited:
            return
        try:
            for found in self._decoder.feed(data):
                self._awaited.discard(found.number)
        except MalformedPacketError:
            self._awaited.clear()  # there is nothing to wait for
        if not self._awaited:
            self._send()

    def _send(self) -> None:
        """Send what the window has room for, and the end after the replies. On any thread."""
        with self._lock:
            while self._out:
                view = self._out.popleft()
                size = self._channel.send_now(len(view), partial(_beginning, view))
                if size < len(view):
                    self._out.appendleft(view[size:])
                if not size:
                    return
            if not self._awaited and not self._eof_sent:
                self._eof_sent = True
                self._channel.shutdown_write()

    def _wait(self) -> None:
        self._call_later(self._interval, self._go_on)
        self._waited += self._interval
        self._interval = min(2 * self._interval, _LONGEST_LOOK)

    def _go_on(self) -> None:
        # On the reaper's thread.
        if self._look() or self._waited >= self.grace:
            self._end()
        else:
            self._wait()
