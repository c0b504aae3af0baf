"""SFTP on the wire: encoded requests can be decoded, and no server is trusted."""

from __future__ import annotations

import contextlib
import struct
from typing import Any, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyclustershell.exceptions import MalformedPacketError
from pyclustershell.ssh.protocol.fields import ssh_string
from pyclustershell.ssh.sftp import codec
from pyclustershell.ssh.sftp.codec import (
    Answer,
    Attributes,
    Decoder,
    Extended,
    Handle,
    Name,
    Names,
    Piece,
    Status,
    Version,
)

Found = Union[Answer, Piece]

numbers = st.integers(0, 0xFFFFFFFF)
sizes = st.integers(0, (1 << 64) - 1)


def optional(strategy: Any) -> Any:
    return st.none() | strategy


@st.composite
def attributes(draw: Any) -> Attributes:
    owner = draw(optional(st.tuples(numbers, numbers))) or (None, None)
    times = draw(optional(st.tuples(numbers, numbers))) or (None, None)
    return Attributes(draw(optional(sizes)), *owner, draw(optional(numbers)), *times)


names = st.builds(Name, st.binary(max_size=20), attributes())
texts = st.text("abc /.", max_size=20).map(str.strip)
replies = st.one_of(
    st.builds(Status, numbers, texts),
    st.builds(Handle, st.binary(max_size=codec.MAX_HANDLE)),
    st.builds(Names, st.lists(names, max_size=5)),
    attributes(),
    st.builds(Extended, st.binary(max_size=50)),
)


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def encoded(answer: Answer) -> bytes:
    """A reply as a server would send it."""
    number, reply = struct.pack(">I", answer.number), answer.reply
    if isinstance(reply, Version):
        pairs = (ssh_string(k) + ssh_string(v) for k, v in reply.extensions.items())
        return packet(codec.VERSION, struct.pack(">I", reply.version) + b"".join(pairs))
    if isinstance(reply, Status):
        text = ssh_string(reply.message.encode()) + ssh_string(b"en")
        return packet(codec.STATUS, number + struct.pack(">I", reply.code) + text)
    if isinstance(reply, Handle):
        return packet(codec.HANDLE, number + ssh_string(reply.handle))
    if isinstance(reply, Names):
        entries = b"".join(
            ssh_string(name.filename) + ssh_string(b"-rw-r--r--") + name.attributes.encode()
            for name in reply.names
        )
        return packet(codec.NAME, number + struct.pack(">I", len(reply.names)) + entries)
    if isinstance(reply, Attributes):
        return packet(codec.ATTRS, number + reply.encode())
    return packet(codec.EXTENDED_REPLY, number + reply.data)


def data_packet(number: int, data: bytes) -> bytes:
    return packet(codec.DATA, struct.pack(">I", number) + ssh_string(data))


def cut(stream: bytes, places: list[int]) -> list[memoryview]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [memoryview(stream)[a:b] for a, b in zip(edges, edges[1:])]


def joined(found: list[Found]) -> list[Any]:
    """Answers, and the data of each READ in one piece."""
    result: list[Any] = []
    data: dict[int, bytes] = {}
    for item in found:
        if isinstance(item, Answer):
            result.append(item)
            continue
        data[item.number] = data.get(item.number, b"") + bytes(item.data)
        if not item.left:
            result.append((item.number, data.pop(item.number)))
    assert not data
    return result


@given(
    st.lists(
        st.one_of(st.builds(Answer, numbers, replies), st.tuples(numbers, st.binary(max_size=99)))
    ),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_replies_are_read_however_they_are_cut(expected: list[Any], places: list[int]) -> None:
    stream = b"".join(
        encoded(item) if isinstance(item, Answer) else data_packet(*item) for item in expected
    )
    decoder = Decoder()
    found = [item for part in cut(stream, places) for item in decoder.feed(part)]
    assert joined(found) == expected


@given(numbers, st.dictionaries(st.binary(max_size=20), st.binary(max_size=20), max_size=5))
def test_a_greeting_is_read(version: int, extensions: dict[bytes, bytes]) -> None:
    greeting = Answer(0, Version(version, extensions))
    assert list(Decoder().feed(memoryview(encoded(greeting)))) == [greeting]


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_bytes_do_more_than_raise_the_one_error(parts: list[bytes]) -> None:
    decoder = Decoder()
    kept = 0
    try:
        for part in parts:
            for item in decoder.feed(memoryview(part)):
                kept += isinstance(item, Answer)
    except MalformedPacketError:
        return
    assert len(decoder._head) <= codec.MAX_PACKET + 4


@given(st.sampled_from([101, 102, 104, 105, 201, 2]), st.binary(max_size=200))
def test_no_body_does_more_than_raise_the_one_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(MalformedPacketError):
        assert codec.parse(kind, body).number >= 0


@given(replies, st.integers(0, 400))
def test_a_reply_that_is_cut_short_is_malformed_or_another_reply(reply: Any, size: int) -> None:
    whole = encoded(Answer(1, reply))[5:]
    kind = encoded(Answer(1, reply))[4]
    try:
        answer = codec.parse(kind, whole[:size])
    except MalformedPacketError:
        return
    # A status may lack its text, and names may come with or without attributes.
    assert answer.number == 1


def raised(data: bytes) -> Optional[str]:
    try:
        list(Decoder().feed(memoryview(data)))
    except MalformedPacketError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"Welcome to the cluster!\n", "a packet of 1466264675 bytes"),
        (struct.pack(">IB", 0, 101), "a packet of 0 bytes"),
        (struct.pack(">IB", codec.MAX_PACKET + 1, 101), f"a packet of {codec.MAX_PACKET + 1}"),
        (packet(99, b"\0\0\0\1"), "type 99"),
        (packet(codec.DATA, struct.pack(">II", 1, 5) + b"data"), "5 bytes of data in a packet"),
        (packet(codec.DATA, struct.pack(">II", 1, 3) + b"data"), "3 bytes of data in a packet"),
        (packet(codec.HANDLE, struct.pack(">II", 1, 257) + bytes(257)), "a handle of 257 bytes"),
        (packet(codec.HANDLE, struct.pack(">II", 1, 9) + b"short"), "a field of 9 bytes"),
        (packet(codec.NAME, struct.pack(">II", 1, 0xFFFFFFFF)), "4294967295 items"),
        (
            packet(codec.ATTRS, struct.pack(">III", 1, 0x80000000, 0xFFFFFFF)),
            "268435455 items",
        ),
    ],
)
def test_lengths_that_are_not_true_are_refused(data: bytes, what: str) -> None:
    assert what in (raised(data) or "nothing")


def test_what_cannot_be_longer_is_refused_before_it_has_come() -> None:
    # The decoder does not wait for the 4 GB that a header announces.
    assert raised(b"\xff\xff\xff\xff\x65") is not None


@given(attributes())
def test_attributes_come_back(expected: Attributes) -> None:
    assert codec.ReplyFields(expected.encode()).attributes() == expected


def test_times_beyond_the_protocol_are_cut() -> None:
    sent = Attributes(atime=-5, mtime=1 << 40).encode()
    assert codec.ReplyFields(sent).attributes() == Attributes(atime=0, mtime=0xFFFFFFFF)


def test_a_request_counts_the_data_that_follow_it() -> None:
    head = codec.request(codec.WRITE, 7, b"fields", following=100)
    assert head == struct.pack(">IBI", 1 + 4 + 6 + 100, codec.WRITE, 7) + b"fields"
