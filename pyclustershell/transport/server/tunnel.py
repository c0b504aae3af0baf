"""The server's side of a tunnel: a channel that leads to another server (RFC 4254 7.2)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Callable

import paramiko

# One read fills one packet of 32 KiB, paramiko's and OpenSSH's largest.
_CHUNK = 32768 - 64

# What sending on a channel raises when the channel or the connection is gone.
_CHANNEL_GONE = (OSError, EOFError, paramiko.SSHException)


class Tunnel:
    """Passes bytes between a channel and a socket, with a thread for each direction.

    One thread for both would wait for the client's window while the other direction has data.

    Args:
        channel: the client's channel.
        sock: a connected socket, which this object owns from now on.
    """

    def __init__(self, channel: paramiko.Channel, sock: socket.socket) -> None:
        self._channel = channel
        self._sock = sock
        self._threads = [
            threading.Thread(target=work, name=f"pyclustershell tunnel {name}", daemon=True)
            for name, work in (("in", self._pass_in), ("out", self._pass_out))
        ]
        # The thread that ends last closes the descriptor.
        self._other_has_ended = threading.Semaphore(0)

    def start(self) -> None:
        """Begin to pass bytes on."""
        for thread in self._threads:
            thread.start()

    def _pass_in(self) -> None:
        self._pass_on(lambda: self._channel.recv(_CHUNK), self._sock.sendall)

    def _pass_out(self) -> None:
        self._pass_on(lambda: self._sock.recv(_CHUNK), self._channel.sendall)

    def _pass_on(self, receive: Callable[[], bytes], send: Callable[[bytes], object]) -> None:
        with suppress(*_CHANNEL_GONE):
            while True:
                data = receive()
                if not data:
                    break
                send(data)
        # SSH over it ends in both directions at once.
        self.close()
        if self._other_has_ended.acquire(blocking=False):
            self._sock.close()
        else:
            self._other_has_ended.release()

    @property
    def closed(self) -> bool:
        """Whether the tunnel has ended."""
        return self._channel.closed

    def close(self) -> None:
        """End it, in both directions. On any thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        with suppress(*_CHANNEL_GONE):
            self._channel.close()

    def join(self, timeout: float) -> None:
        """Wait for the threads, for so many seconds each."""
        for thread in self._threads:
            thread.join(timeout)
