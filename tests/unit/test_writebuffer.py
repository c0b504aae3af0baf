"""WriteBuffer does not copy bytes per reader, and tells when it is full."""

from __future__ import annotations

import pytest

from pyclustershell.buffers import HIGH_WATER, WriteBuffer


def take_all(buffer: WriteBuffer, size: int) -> list[bytes]:
    taken = []
    while buffer.size:
        chunk = bytes(buffer.peek()[:size])
        buffer.take(len(chunk))
        taken.append(chunk)
    return taken


def test_bytes_come_out_in_order_in_pieces_of_any_size() -> None:
    buffer = WriteBuffer()
    for data in (b"abc", b"", b"d", b"efgh" * 50_000, b"ij"):
        buffer.put(data)
    assert buffer.size == 200_006
    assert b"".join(take_all(buffer, 1000)) == b"abcd" + b"efgh" * 50_000 + b"ij"
    with pytest.raises(IndexError):
        buffer.peek()


def test_small_pieces_are_joined() -> None:
    buffer = WriteBuffer()
    for data in (b"one", b"two", b"three"):
        buffer.put(data)
    assert bytes(buffer.peek()) == b"onetwothree"


def test_many_buffers_refer_to_one_piece() -> None:
    data = bytes(10 << 20)
    buffers = [WriteBuffer() for _ in range(100)]
    for buffer in buffers:
        buffer.put(data)
        for _ in range(10):
            buffer.take(65536)
        assert buffer.peek().obj is data


def test_joining_does_not_copy_what_is_large() -> None:
    buffer = WriteBuffer()
    large = bytes(10 << 20)
    buffer.put(b"small")
    buffer.put(large)
    assert len(buffer.peek()) == 65536
    buffer.take(65536)
    assert buffer.peek().obj is large
    assert buffer.size == len(large) + 5 - 65536


def test_it_tells_when_it_is_full_and_when_no_longer() -> None:
    buffer = WriteBuffer()
    told: list[bool] = []
    buffer.on_full = told.append
    buffer.put(bytes(HIGH_WATER))
    assert told == []
    buffer.put(b"x")
    buffer.put(b"y")
    assert told == [True]
    buffer.take(1)
    assert told == [True]
    buffer.take(1)
    assert told == [True, False]
    buffer.put(bytes(10))
    buffer.clear()
    assert told == [True, False, True, False]
    assert buffer.size == 0


def test_nothing_comes_after_the_end() -> None:
    buffer = WriteBuffer()
    buffer.put(b"one")
    buffer.end()
    buffer.put(b"two")
    assert take_all(buffer, 10) == [b"one"]
