"""The server's side of a tunnel: a channel that leads to another server (RFC 4254 7.2)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Callable

import paramiko

# One read fills one packet of 32 KiB, paramiko's and OpenSSH's largest.
_CHUNK = 32768 - 64

# The exceptions of sending on a channel after the channel or the connection has closed.
_CHANNEL_GONE = (OSError, EOFError, paramiko.SSHException)


class Tunnel:
    """Copies bytes between a channel and a socket, with a thread for each direction.

    A single thread would block on the client's window while the other direction has data.

    Args:
        channel: the client's channel.
        sock: a connected socket, which this object owns from now on.
    """

    def __init__(self, channel: paramiko.Channel, sock: socket.socket) -> None:
        self._channel = channel
        self._sock = sock
        self._threads = [
            threading.Thread(target=work, name=f"pyclustershell tunnel {name}", daemon=True)
            for name, work in (("in", self._copy_to_socket), ("out", self._copy_to_channel))
        ]
        # The thread that ends last closes the descriptor.
        self._other_has_ended = threading.Semaphore(0)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def _copy_to_socket(self) -> None:
        self._copy(lambda: self._channel.recv(_CHUNK), self._sock.sendall)

    def _copy_to_channel(self) -> None:
        self._copy(lambda: self._sock.recv(_CHUNK), self._channel.sendall)

    def _copy(self, receive: Callable[[], bytes], send: Callable[[bytes], object]) -> None:
        with suppress(*_CHANNEL_GONE):
            while True:
                data = receive()
                if not data:
                    break
                send(data)
        # A tunnelled SSH connection ends in both directions at once.
        self.close()
        if self._other_has_ended.acquire(blocking=False):
            self._sock.close()
        else:
            self._other_has_ended.release()

    @property
    def closed(self) -> bool:
        """True if the tunnel has ended."""
        return self._channel.closed

    def close(self) -> None:
        """End the tunnel in both directions. On any thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        with suppress(*_CHANNEL_GONE):
            self._channel.close()

    def join(self, timeout: float) -> None:
        """Wait for the threads, at most ``timeout`` seconds for each."""
        for thread in self._threads:
            thread.join(timeout)
