"""The end of an aborted SFTP session: its temporary files are removed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Union

from paramiko import SSHException

from ...exceptions import MalformedPacketError
from ..cleanup import RemoteCleanup
from .codec import Answer, Attributes, Decoder, Piece

# No engine may be running to read replies: look for them at growing intervals, in seconds.
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.2


def _beginning(view: memoryview, size: int) -> list[memoryview]:
    return [view[:size]]


class TempFileCleanup(RemoteCleanup):
    """Sends a session's last requests, and gives its connection back after their replies.

    :meth:`prepare` comes before :meth:`begin`. The end of the input follows the last reply:
    OpenSSH's server ends as soon as it reads the end, even with requests left to do.

    Attributes:
        grace: seconds after which the channel is closed in any case.
    """

    def prepare(
        self,
        last_packets: Iterable[memoryview],
        numbers: Iterable[int],
        follow_ups: Mapping[int, tuple[int, bytes]],
        decoder: Decoder,
        unread: Iterable[memoryview],
    ) -> None:
        """Take over from the session.

        Args:
            last_packets: the bytes to send: the rest of a packet sent in part, then requests.
            numbers: the numbers of these requests.
            follow_ups: by the number of one of these: a request to send if the reply has
                attributes, with its own number.
            decoder: the decoder of the replies so far.
            unread: received bytes that it has not read.
        """
        # Guards the bytes to send: the window may open on any thread that reads.
        self._lock = threading.Lock()
        self._out = deque(last_packets)
        # The requests without a reply. Changes only on the thread that feeds the transport.
        self._awaited = set(numbers)
        self._follow_ups = follow_ups
        self._decoder = decoder
        self._unread = unread
        self._eof_sent = False
        self._interval = _FIRST_LOOK

    def _start(self) -> None:
        """Send as many bytes as the server takes now."""
        self._deadline = self._cleanups.clock() + self.grace
        self._channel.divert(self._take)
        self._channel.watch(lambda: None, self._send)
        # If the connection is gone, the server ends the session by itself.
        with suppress(SSHException, OSError, EOFError):
            for data in self._unread:
                self._take(data)
            self._send()
        self._wait()

    def _take(self, data: memoryview) -> None:
        """Take replies. On the thread that feeds the transport."""
        self._channel.grant(len(data))
        if not self._awaited:
            return
        try:
            for found in self._decoder.feed(data):
                self._take_reply(found)
        except MalformedPacketError:
            self._awaited.clear()  # no reply will come
        if not self._awaited or self._out:
            self._send()

    def _take_reply(self, found: Union[Answer, Piece]) -> None:
        self._awaited.discard(found.number)
        follow_up = self._follow_ups.get(found.number)
        if follow_up is None or isinstance(found, Piece):
            return
        if isinstance(found.reply, Attributes):
            number, packet = follow_up
            self._awaited.add(number)
            with self._lock:
                self._out.append(memoryview(packet))

    def _send(self) -> None:
        """Send as the window allows; after the last reply, the end. On any thread."""
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
        self._call_later(self._interval, self._check)
        self._interval = min(2 * self._interval, _LONGEST_LOOK)

    def _check(self) -> None:
        # On the thread of DelayedCalls.
        if self._poll() or self._cleanups.clock() >= self._deadline:
            self._end()
        else:
            self._wait()
