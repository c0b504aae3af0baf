"""Bytes in, lines out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyclustershell.buffers import LineBuffer


@pytest.mark.parametrize(
    ("pieces", "lines", "rest"),
    [
        ([b"one\ntwo\n"], [b"one", b"two"], None),
        ([b"on", b"e\ntw", b"o"], [b"one"], b"two"),
        ([b"one\r", b"\ntwo\r\n"], [b"one", b"two"], None),
        ([b"10%\r20%\r100%\n"], [b"10%\r20%\r100%"], None),
        ([b"\n\n"], [b"", b""], None),
        ([b"\xff\x00\xfe\n\x80"], [b"\xff\x00\xfe"], b"\x80"),
        ([b"ends with \r"], [], b"ends with \r"),
        ([b""], [], None),
    ],
)
def test_lines(pieces: list[bytes], lines: list[bytes], rest: bytes | None) -> None:
    buffer = LineBuffer()
    assert [line for piece in pieces for line in buffer.feed(piece)] == lines
    assert buffer.flush() == rest
    assert buffer.flush() is None


@given(st.binary(), st.lists(st.integers(min_value=0, max_value=40)))
def test_how_the_stream_is_cut_makes_no_difference(stream: bytes, sizes: list[int]) -> None:
    whole, cut = LineBuffer(), LineBuffer()
    expected = whole.feed(stream)
    actual = []
    position = 0
    for size in [*sizes, len(stream)]:
        actual += cut.feed(stream[position : position + size])
        position += size
    assert actual == expected
    assert cut.flush() == whole.flush()


def test_a_line_of_many_pieces_costs_linear_time() -> None:
    # 200,000 pieces: with a bytes object that grows, this would copy 20 GB.
    buffer = LineBuffer()
    for _ in range(200_000):
        assert buffer.feed(b"x") == []
    assert buffer.feed(b"\n") == [b"x" * 200_000]


def test_an_unfinished_line_may_be_as_long_as_the_limit() -> None:
    buffer = LineBuffer("stderr", limit=4, node="node1")
    assert buffer.feed(b"1234") == []
    assert buffer.overflow() is None
    assert buffer.feed(b"5") == []
    error = buffer.overflow()
    assert error is not None
    assert error.sentence == (
        "A line of stderr is longer than 4 bytes (the info key 'line_limit'): the command was "
        "ended."
    )
    assert error.node == "node1"


def test_complete_lines_and_streams_without_a_limit_never_overflow() -> None:
    limited, unlimited = LineBuffer(limit=4), LineBuffer()
    assert limited.feed(b"12345\n1234") == [b"12345"]
    assert unlimited.feed(b"12345") == []
    assert limited.overflow() is unlimited.overflow() is None
