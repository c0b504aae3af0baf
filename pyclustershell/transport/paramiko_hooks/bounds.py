"""How much is taken of what a server says, where paramiko would take anything.

A message that has ended goes on as zeros for paramiko, so that a count of four billion in a few
bytes keeps it busy for hours, on the thread that serves all nodes.
"""

from __future__ import annotations

import zlib

from paramiko import SSHException
from paramiko.message import Message

#: How many questions one request may ask: as many answers as OpenSSH's server takes.
MAX_QUESTIONS = 100

#: How many bytes one request's title, instruction and questions may have.
MAX_QUESTIONS_SIZE = 1 << 16

#: How many requests of one attempt are answered: a user who is asked to choose a new password, and
#: chooses badly, needs some.
MAX_ROUNDS = 32

#: How many extensions a server may announce; OpenSSH's has five.
MAX_EXTENSIONS = 1024

#: How many bytes a packet may have when it is inflated: as one that was not compressed.
MAX_INFLATED_SIZE = 1 << 18


def check_questions(m: Message, rounds: int) -> None:
    """Check a request of keyboard-interactive authentication (RFC 4256 3.2).

    Args:
        m: the request, read from its beginning afterwards.
        rounds: which one of the attempt it is, from 1.

    Raises:
        SSHException: it asks too much.
    """
    if rounds > MAX_ROUNDS:
        raise SSHException(f"The server asks more than {MAX_ROUNDS} times for answers")
    size = len(m.asbytes())
    if size > MAX_QUESTIONS_SIZE:
        raise SSHException(f"The server's questions have {size} bytes, not {MAX_QUESTIONS_SIZE}")
    m.rewind()
    for _ in ("name", "instruction", "language"):
        m.get_binary()
    count = m.get_int()
    m.rewind()
    if count > MAX_QUESTIONS:
        raise SSHException(f"The server asks {count} questions at once, more than {MAX_QUESTIONS}")


def check_extensions(m: Message) -> None:
    """Check what a server says that it can do (RFC 8308 2.3).

    Args:
        m: the message, read from its beginning afterwards.

    Raises:
        SSHException: there are too many.
    """
    count = m.get_int()
    m.rewind()
    if count > MAX_EXTENSIONS:
        raise SSHException(f"The server announces {count} extensions, more than {MAX_EXTENSIONS}")


class Inflater:
    """Decompresses packets (RFC 4253 6.2), whose size their senders choose freely: by a thousand.

    In the place of paramiko's, which has no bound.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def __call__(self, data: bytes) -> bytes:
        """The contents of the next packet.

        Raises:
            SSHException: they are too large, or damaged.
        """
        try:
            # One byte more: only where less has come than there was room for, that was all.
            found = self._stream.decompress(data, MAX_INFLATED_SIZE + 1)
        except zlib.error as error:
            raise SSHException(f"a packet cannot be decompressed: {error}") from None
        if len(found) > MAX_INFLATED_SIZE:
            raise SSHException(
                f"a packet has more than {MAX_INFLATED_SIZE} bytes when it is decompressed"
            )
        return found
