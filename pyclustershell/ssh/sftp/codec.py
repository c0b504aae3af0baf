"""SFTP version 3 on the wire: from requests to bytes, and from a stream of bytes to replies. Pure.

The protocol is draft-ietf-secsh-filexfer-02, which every server speaks. No server is trusted: every
length is checked before it is used, and no packet is longer than :data:`MAX_PACKET`.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional, Union

from ...exceptions import MalformedPacketError
from ...printable import printable_line
from ..protocol.fields import Fields

VERSION_SPOKEN = 3

# Packet types (filexfer-02, 3).
INIT = 1
VERSION = 2
OPEN = 3
CLOSE = 4
READ = 5
WRITE = 6
LSTAT = 7
FSTAT = 8
SETSTAT = 9
FSETSTAT = 10
OPENDIR = 11
READDIR = 12
REMOVE = 13
MKDIR = 14
REALPATH = 16
STAT = 17
RENAME = 18
READLINK = 19
SYMLINK = 20
STATUS = 101
HANDLE = 102
DATA = 103
NAME = 104
ATTRS = 105
EXTENDED = 200
EXTENDED_REPLY = 201

# Flags of OPEN (6.3).
OPEN_READ = 0x01
OPEN_WRITE = 0x02
OPEN_CREATE = 0x08
OPEN_TRUNCATE = 0x10
OPEN_EXCLUSIVE = 0x20

# Status codes (7).
OK = 0
EOF = 1
NO_SUCH_FILE = 2
PERMISSION_DENIED = 3
FAILURE = 4
OP_UNSUPPORTED = 8

#: The meaning of each status code, from 0, if the server's text is not better.
STATUS_TEXTS = (
    "Success",
    "End of file",
    "No such file or directory",
    "Permission denied",
    "Failure",
    "Bad message",
    "No connection",
    "Connection lost",
    "Operation unsupported",
)

#: The longest packet that is sent or accepted, in bytes without its length field: the limit of
#: OpenSSH's client (SFTP_MAX_MSG_LENGTH), and some room for servers that count the payload only.
MAX_PACKET = (256 << 10) + 1024

#: The longest handle, in bytes (3: "The length of the handle string MUST NOT exceed 256").
MAX_HANDLE = 256

# Flags for the attributes that follow (5).
_HAS_SIZE = 0x01
_HAS_OWNER = 0x02
_HAS_MODE = 0x04
_HAS_TIMES = 0x08
_HAS_EXTENDED = 0x80000000

_UINT32 = struct.Struct(">I")
_UINT64 = struct.Struct(">Q")
_REQUEST = struct.Struct(">IBI")
_DATA_HEAD = struct.Struct(">IBII")


class Attributes(NamedTuple):
    """A file's attributes; None if unknown. The size is in bytes, times are in seconds."""

    size: Optional[int] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    mode: Optional[int] = None
    atime: Optional[int] = None
    mtime: Optional[int] = None

    @property
    def is_directory(self) -> bool:
        """True if this is known to be a directory."""
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """True if this is known to be a symbolic link."""
        return self.mode is not None and stat.S_ISLNK(self.mode)

    @property
    def is_special(self) -> bool:
        """True if this is a device, a socket or a pipe.

        Some servers leave the type out of the mode: then this counts as a file.
        """
        if self.mode is None or stat.S_IFMT(self.mode) == 0:
            return False
        return not (stat.S_ISREG(self.mode) or self.is_directory or self.is_link)

    def encode(self) -> bytes:
        """Encode the attributes."""
        flags = 0
        fields = b""
        if self.size is not None:
            flags |= _HAS_SIZE
            fields += _UINT64.pack(self.size)
        if self.uid is not None and self.gid is not None:
            flags |= _HAS_OWNER
            fields += _UINT32.pack(self.uid) + _UINT32.pack(self.gid)
        if self.mode is not None:
            flags |= _HAS_MODE
            fields += _UINT32.pack(self.mode)
        if self.atime is not None and self.mtime is not None:
            flags |= _HAS_TIMES
            # 32 bits: seconds from 1970 to 2106.
            fields += _UINT32.pack(_clamped(self.atime)) + _UINT32.pack(_clamped(self.mtime))
        return _UINT32.pack(flags) + fields


NO_ATTRIBUTES = Attributes()


def _clamped(seconds: int) -> int:
    return min(max(0, seconds), 0xFFFFFFFF)


# -- requests --------------------------------------------------------------------------------------


def uint32(number: int) -> bytes:
    """Encode a number of 32 bits."""
    return _UINT32.pack(number)


def uint64(number: int) -> bytes:
    """Encode a number of 64 bits."""
    return _UINT64.pack(number)


def init() -> bytes:
    """Encode the packet that begins a session."""
    return struct.pack(">IBI", 5, INIT, VERSION_SPOKEN)


def request(kind: int, number: int, fields: bytes, following: int = 0) -> bytes:
    """Encode a request.

    Args:
        kind: its type.
        number: its number, which the reply repeats.
        fields: its encoded fields.
        following: how many bytes of data belong to it and are sent after these.
    """
    return _REQUEST.pack(5 + len(fields) + following, kind, number) + fields


# -- replies ---------------------------------------------------------------------------------------


class Version(NamedTuple):
    """The server's answer to INIT."""

    version: int
    extensions: dict[bytes, bytes]


class Status(NamedTuple):
    """The result of a request: a code and a text."""

    code: int
    message: str


class Handle(NamedTuple):
    """An open file or directory."""

    handle: bytes


class Name(NamedTuple):
    """An entry of a directory, or a path."""

    filename: bytes
    attributes: Attributes


class Names(NamedTuple):
    """Entries of a directory, or one path."""

    names: list[Name]


class Extended(NamedTuple):
    """The reply to an extended request: fields that the extension defines."""

    data: bytes


Reply = Union[Version, Status, Handle, Names, Attributes, Extended]


class Answer(NamedTuple):
    """A complete reply, with the number of its request (0 for the answer to INIT)."""

    number: int
    reply: Reply


class Piece(NamedTuple):
    """A part of the data of a reply to READ, in order and not copied.

    Attributes:
        number: the request's number.
        data: the part; empty only if the reply is empty.
        left: how many bytes of the reply are still to come.
    """

    number: int
    data: memoryview
    left: int


class ReplyFields(Fields):
    """Reads the fields of a reply.

    Raises:
        MalformedPacketError: by every method, if fewer bytes are left than it reads.
    """

    __slots__ = ()

    error = MalformedPacketError

    def attributes(self) -> Attributes:
        """Return a file's attributes (5)."""
        flags = self.uint32()
        size = uid = gid = mode = atime = mtime = None
        if flags & _HAS_SIZE:
            size = self.uint64()
        if flags & _HAS_OWNER:
            uid, gid = self.uint32(), self.uint32()
        if flags & _HAS_MODE:
            mode = self.uint32()
        if flags & _HAS_TIMES:
            atime, mtime = self.uint32(), self.uint32()
        if flags & _HAS_EXTENDED:
            for _ in range(self._count(2 * 4)):
                self.string()
                self.string()
        return Attributes(size, uid, gid, mode, atime, mtime)

    def names(self) -> list[Name]:
        """Return entries of a directory."""
        names = []
        # Each entry has at least 12 bytes: two empty strings, and attributes without a field.
        for _ in range(self._count(3 * 4)):
            filename = self.string()
            self.string()  # for people to read: the line of ls -l
            names.append(Name(filename, self.attributes()))
        return names

    def _count(self, least: int) -> int:
        """Return a number of items. Each has ``least`` bytes or more, which must be there."""
        count = self.uint32()
        if count * least > self.left:
            raise MalformedPacketError(f"{count} items in the {self.left} bytes of a packet")
        return count


def parse(kind: int, body: bytes) -> Answer:
    """Parse a reply.

    Args:
        kind: the packet's type.
        body: the bytes after the type.

    Raises:
        MalformedPacketError: it is no reply, or it is cut short.
    """
    fields = ReplyFields(body)
    if kind == VERSION:
        version = fields.uint32()
        extensions = {}
        while fields.left:
            name = fields.string()
            extensions[name] = fields.string()
        return Answer(0, Version(version, extensions))
    number = fields.uint32()
    if kind == STATUS:
        code = fields.uint32()
        # Version 3 added the text, but not every server sends it.
        return Answer(number, Status(code, printable_line(fields.string() if fields.left else b"")))
    if kind == HANDLE:
        handle = fields.string()
        if len(handle) > MAX_HANDLE:
            raise MalformedPacketError(f"a handle of {len(handle)} bytes")
        return Answer(number, Handle(handle))
    if kind == NAME:
        return Answer(number, Names(fields.names()))
    if kind == ATTRS:
        return Answer(number, fields.attributes())
    if kind == EXTENDED_REPLY:
        return Answer(number, Extended(fields.take(fields.left)))
    raise MalformedPacketError(f"a packet of type {kind} is no reply")


class Decoder:
    """Cuts the server's stream into replies.

    The data of a READ is passed on in pieces as it comes; other replies are collected first.
    """

    def __init__(self) -> None:
        # The packet being collected, from its length field on, and how many bytes of it are needed
        # before the next look at it.
        self._head = bytearray()
        self._wanted = 5
        # How many bytes of a READ's data are still to come, and the number of its request.
        self._data_left = 0
        self._data_number = 0

    def feed(self, data: memoryview) -> Iterator[Union[Answer, Piece]]:
        """Take received bytes.

        Yields:
            Answers and pieces of data, in order.

        Raises:
            MalformedPacketError: this is no SFTP. The decoder cannot be used any more.
        """
        position, end = 0, len(data)
        while position < end:
            if self._data_left:
                piece = data[position : position + self._data_left]
                position += len(piece)
                self._data_left -= len(piece)
                yield Piece(self._data_number, piece, self._data_left)
                continue
            some = data[position : position + self._wanted - len(self._head)]
            self._head += some
            position += len(some)
            if len(self._head) < self._wanted:
                return
            found = self._look()
            if found is not None:
                yield found

    def _look(self) -> Union[Answer, Piece, None]:
        """Look at the collected bytes; return None if more are needed, or if data follows."""
        head = self._head
        size, kind = _UINT32.unpack_from(head)[0], head[4]
        if len(head) == 5:
            if not 1 <= size <= MAX_PACKET:
                raise MalformedPacketError(f"a packet of {size} bytes")
            self._wanted = _DATA_HEAD.size if kind == DATA else 4 + size
            if self._wanted > 5:
                return None
        if kind == DATA:
            _, _, self._data_number, self._data_left = _DATA_HEAD.unpack(head)
            if size != _DATA_HEAD.size - 4 + self._data_left:
                raise MalformedPacketError(
                    f"{self._data_left} bytes of data in a packet of {size} bytes"
                )
            self._start_over()
            return None if self._data_left else Piece(self._data_number, memoryview(b""), 0)
        body = bytes(head[5:])
        self._start_over()
        return parse(kind, body)

    def _start_over(self) -> None:
        self._head.clear()
        self._wanted = 5
