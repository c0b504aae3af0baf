"""The socket under a transport: reads that are buffered, writes that never block."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pyclustershell.transport import packet_socket
from pyclustershell.transport.packet_socket import PacketSocket


class Pair:
    """A PacketSocket and its peer."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        for sock in (ours, self.peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.blocked = 0
        self.socket = PacketSocket(ours, self.on_blocked)

    def on_blocked(self) -> None:
        self.blocked += 1


# Windows has no MSG_DONTWAIT: the same tests hold the way that is taken there.
@pytest.fixture(params=["MSG_DONTWAIT", "without"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    if request.param == "without":
        monkeypatch.setattr(packet_socket, "_DONT_WAIT", None)
    elif packet_socket._DONT_WAIT is None:
        pytest.skip("this platform has no MSG_DONTWAIT")
    pair = Pair()
    yield pair
    pair.socket.close()
    pair.socket._sock.close()
    pair.peer.close()


def test_packets_are_cut_from_what_has_come(pair: Pair) -> None:
    pair.peer.send(b"0123456789")
    assert [pair.socket.recv(n) for n in (4, 4)] == [b"0123", b"4567"]
    pair.peer.send(b"abc")
    assert [pair.socket.recv(n) for n in (16, 16)] == [b"89", b"abc"]
    pair.peer.close()
    assert pair.socket.recv(16) == b""


def test_a_peer_that_takes_nothing_blocks_nobody(pair: Pair) -> None:
    data = bytes(range(256)) * 4000
    assert pair.socket.send(data) == len(data)
    assert pair.socket.send(b"the end") == 7
    assert pair.blocked == 1
    assert pair.socket.backlog > 0
    received = b""
    while not pair.socket.flush() or len(received) < len(data) + 7:
        received += pair.peer.recv(65536)
    assert received == data + b"the end"
    assert pair.socket.backlog == 0
    # And the next time it blocks, that is told again.
    pair.socket.send(data)
    assert pair.blocked == 2


def test_close_ends_a_waiting_reader_which_closes_the_descriptor(pair: Pair) -> None:
    results: list[bytes] = []
    waits = threading.Event()

    def read() -> None:
        pair.socket._reader = threading.get_ident()
        waits.set()
        results.append(pair.socket.recv(16))
        pair.socket.close()

    thread = threading.Thread(target=read)
    thread.start()
    assert waits.wait(10)
    pair.socket.close()
    thread.join(10)
    assert not thread.is_alive()
    assert results == [b""]
    assert pair.socket.fileno() == -1


def test_writing_to_a_broken_connection_is_left_to_the_reader(pair: Pair) -> None:
    pair.peer.close()
    assert pair.socket.send(b"x" * 10) == 10
    assert pair.socket.send(b"x" * 10) == 10
    assert pair.socket.recv(16) == b""
