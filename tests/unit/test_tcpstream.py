"""The socket under a transport: nothing waits, whatever the peer does."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any, Optional, cast

import pytest

from pyclustershell.ssh.connect.tcpstream import TCPStream


class Pair:
    """A TCPStream and its peer."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        for sock in (ours, self.peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.blocked = 0
        self.socket = TCPStream(ours, cast(Any, self))

    def post(self, _callback: Any) -> None:
        """In the place of an engine: only counts that it was told to wait."""
        self.blocked += 1

    def read(self) -> Optional[bytes]:
        """Wait for something to read, and read it."""
        assert select.select([self.socket], [], [], 10)[0]
        return self.socket.read()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.socket.close()
    pair.socket.free()
    pair.peer.close()


def test_reading_never_waits(pair: Pair) -> None:
    assert pair.socket.read() is None
    assert not pair.socket.received
    pair.peer.send(b"0123456789")
    assert pair.read() == b"0123456789"
    assert pair.socket.received
    assert pair.socket.read() is None
    pair.peer.close()
    assert pair.read() == b""


def test_a_peer_that_takes_nothing_blocks_nobody(pair: Pair) -> None:
    data = bytes(range(256)) * 4000
    assert pair.socket.send(data) == len(data)
    assert pair.socket.send(b"the end") == 7
    assert pair.blocked == 1
    assert pair.socket.backlog > 0
    received = b""
    while not pair.socket.flush() or len(received) < len(data) + 7:
        # With nothing to receive, it has to be flushed again: the system may free space late.
        if select.select([pair.peer], [], [], 0.01)[0]:
            received += pair.peer.recv(65536)
    assert received == data + b"the end"
    assert pair.socket.backlog == 0
    # And the next time it blocks, that is told again.
    pair.socket.send(data)
    assert pair.blocked == 2


def test_a_closed_stream_ends_but_keeps_its_descriptor(pair: Pair) -> None:
    descriptor = pair.socket.fileno()
    pair.socket.close()
    assert pair.socket.fileno() == descriptor
    assert pair.socket.read() == b""
    assert pair.peer.recv(16) == b""
    assert pair.socket.send(b"late") == 4
    pair.socket.free()
    assert pair.socket.fileno() == -1
    assert pair.socket.send(b"later") == 5


def test_writing_to_a_broken_connection_is_left_to_the_reader(pair: Pair) -> None:
    pair.peer.send(b"its last words")
    pair.peer.close()
    assert pair.socket.send(b"x" * 10) == 10
    assert pair.socket.send(b"x" * 10) == 10
    assert pair.read() == b"its last words"
    assert pair.read() == b""
