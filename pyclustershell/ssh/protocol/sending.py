"""The sending side of a transport: messages go out at once, or after a key exchange."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import paramiko
from paramiko import SSHException
from paramiko.message import Message

from .bytestream import ByteStream
from .packets import PacketCodec

# How many answers to a server's requests may wait until it reads them.
_MAX_ANSWERS = 10_000


class Sending(paramiko.Transport):
    """The part of a transport that sends, from any thread, and never waits.

    Args:
        stream: carries the packets.
    """

    #: Replaces paramiko's Packetizer, which reads in its own thread.
    packetizer: PacketCodec  # type: ignore[assignment]

    #: True if the connection ended because the server broke the protocol.
    is_violated = False

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        # How many answers have been sent since the peer accepted all bytes.
        self._answers = 0
        # Messages that wait for the end of a key exchange, and callbacks for that end.
        self._deferred: list[bytes] = []
        self._when_clear: list[Callable[[], Any]] = []
        super().__init__(stream, packetizer_class=PacketCodec)  # type: ignore[arg-type]

    def _send_user_message(self, data: Message) -> None:
        # paramiko waits here, polling 10 times a second, until a key exchange is over. The thread
        # that feeds the transport would wait for itself (30 s, then an error), any other thread
        # for a server. A message that cannot be sent now is sent after the exchange.
        self.send_payload(data.asbytes())

    def send_payload(self, payload: bytes) -> None:
        """Send a message, or keep it until a key exchange is over. On any thread; never waits."""
        with self.clear_to_send_lock:
            if self._deferred or not self.clear_to_send.is_set():
                if self.active:
                    self._deferred.append(payload)
                return
            self.packetizer.send_payload(payload)

    def send_answer(self, payload: bytes) -> None:
        """Send the answer to a request of the server's.

        Raises:
            SSHException: the server asks for ever and does not read the answers: they would fill
                the memory.
        """
        self._answers = self._answers + 1 if self._stream.backlog else 0
        if self._answers > _MAX_ANSWERS:
            raise SSHException(f"the server has not read {_MAX_ANSWERS} answers to its requests")
        self.send_payload(payload)

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Collect the messages that the with block sends; send them at its end in one call."""
        self.packetizer.cork()
        try:
            yield
        finally:
            self.packetizer.uncork()

    def is_clear(self, then: Callable[[], Any]) -> bool:
        """True if a message sent now goes out, and does not wait for a key exchange.

        Args:
            then: called once after the exchange, if there is one, on the thread that feeds the
                transport: it must only post.
        """
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set() and not self._deferred:
                return True
            self._when_clear.append(then)
            return False

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)
        with self.clear_to_send_lock:
            for payload in self._deferred:
                self.packetizer.send_payload(payload)
            self._deferred.clear()
            callbacks, self._when_clear = self._when_clear, []
        for callback in callbacks:
            callback()
