"""A peer that never stops sending: it gets its share of the reading thread, and no more."""

from __future__ import annotations

import struct
from typing import Any, Callable, Optional

import paramiko
import pytest

from pyclustershell.engine.delayed import DelayedCalls
from pyclustershell.engine.engine import Engine
from pyclustershell.engine.threadpool import ThreadPool
from pyclustershell.ssh.cleanup import RemoteCleanup, RunningCleanups
from pyclustershell.ssh.link import Link
from pyclustershell.ssh.protocol import transport as transports
from pyclustershell.ssh.protocol.bytestream import ByteStream

IGNORE, UNIMPLEMENTED = 2, 3


def packet(payload: bytes) -> bytes:
    """A packet before the first key exchange (RFC 4253 section 6)."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


IGNORED = packet(bytes([IGNORE]) + bytes(20)) * 1000


class Flood(ByteStream):
    """A peer that has always sent more."""

    def __init__(self) -> None:
        super().__init__("peer")
        self.reads = 0
        self.silent = False
        self.begun = False

    def read(self) -> Optional[bytes]:
        if self.silent:
            return None
        self.reads += 1
        if not self.begun:
            self.begun = True
            return self._count(b"SSH-2.0-flood\r\n" + IGNORED)
        return self._count(IGNORED)

    def watch(self, on_readable: Callable[[], bool]) -> None:
        pass

    def unwatch(self) -> None:
        pass

    @property
    def watched(self) -> bool:
        return True

    def fileno(self) -> int:
        return -1

    def _send_some(self, data: bytes) -> int:
        return 0  # it reads nothing

    def close(self) -> None:
        self._shut = True


class Clock:
    """A clock that goes on by a step at each look."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def flooded(clock: Callable[[], float]) -> tuple[Link, Flood]:
    stream = Flood()
    link = Link(stream, Engine(clock=clock), ThreadPool("test", 1), lambda: None)
    link.transport.negotiate(lambda: None)
    return link, stream


def test_reading_outside_the_loop_ends_after_some_bytes() -> None:
    link, stream = flooded(lambda: 0.0)
    link.read_now()
    assert 1 << 21 <= stream.bytes_received <= (1 << 21) + len(IGNORED)
    link.close()


def test_reading_outside_the_loop_ends_after_some_time() -> None:
    link, stream = flooded(Clock(0.015))
    link.read_now()
    assert stream.reads == 1
    link.close()


def test_one_call_handles_a_share_of_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    link, stream = flooded(lambda: 0.0)
    handled: list[int] = []
    transport = link.transport
    monkeypatch.setattr(transport, "_take_message", lambda kind, _message: handled.append(kind))
    assert link._read() is False
    assert transport.has_more
    share = len(handled)
    assert share == transports._SHARE // transports._COST
    # Nothing more is read before these messages are handled: the peer has to wait (TCP).
    for count in range(2, 5):
        link._read()
        assert (stream.reads, len(handled)) == (1, count * share)
    # All of them are handled in the end, and nothing is lost.
    while transport.has_more:
        transport.feed(b"")
    assert handled == [IGNORE] * 1000
    link.close()


def test_the_engine_continues_once_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[Callable[[], Any]] = []
    link, stream = flooded(lambda: 0.0)
    monkeypatch.setattr(link._engine, "post", lambda call, *_args: posted.append(call))
    for _ in range(3):
        link._read()
    assert len(posted) == 1
    passes = 0
    stream.silent = True
    while posted:
        posted.pop()()
        passes += 1
        assert len(posted) <= 1
    assert not link.transport.has_more
    # Each pass handles one share.
    assert passes == -(-1000 * transports._COST // transports._SHARE) - 3
    link.close()


def test_a_further_key_exchange_uses_up_the_share() -> None:
    assert transports._KEX_COST >= transports._SHARE


def test_answers_that_nobody_reads_end_the_connection() -> None:
    link, stream = flooded(lambda: 0.0)
    transport = link.transport
    transport.clear_to_send.set()
    for _ in range(10_000):
        transport.send_answer(bytes([UNIMPLEMENTED]))
    with pytest.raises(paramiko.SSHException, match="has not read 10000 answers"):
        transport.send_answer(bytes([UNIMPLEMENTED]))
    # When everything has been accepted, the count begins again.
    stream._backlog.clear()
    transport.send_answer(bytes([UNIMPLEMENTED]))
    link.close()


# -- cleanups --------------------------------------------------------------------------------------


class FakeConnection:
    """A connection on which a flood comes: each reading takes a second."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.readings = 0

    def fileno(self) -> int:
        return -1

    def read_now(self, on_engine: bool = False) -> None:
        self.readings += 1
        self.clock.now += 1.0


class FakeChannel:
    """The channel of a command that never ends."""

    has_exit_status = closed = False

    def drop(self) -> None:
        pass


class Slow(RemoteCleanup):
    """A cleanup that waits for the end of its command."""

    killed: Optional[bool] = None

    def _start(self) -> None:
        pass

    def kill(self, read: bool = True) -> None:
        self.killed = read
        self._end()


def test_closing_takes_no_longer_than_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyclustershell.ssh.cleanup.wait_readable", lambda *_args: None)
    clock = Clock(0.0)
    released: list[Any] = []
    running = RunningCleanups(DelayedCalls(), clock, released.append)
    connections = [FakeConnection(clock) for _ in range(100)]
    cleanups: list[Slow] = [
        Slow(FakeChannel(), connection, running, 5.0)  # type: ignore[arg-type]
        for connection in connections
    ]
    for cleanup in cleanups:
        cleanup.begin()
    running.close()
    assert released == connections or set(released) == set(connections)
    # Five readings fill the grace of five seconds; then no server is read from any more.
    assert sum(connection.readings for connection in connections) == 5
    assert clock.now == 5.0
    assert all(cleanup.killed is not None for cleanup in cleanups)
