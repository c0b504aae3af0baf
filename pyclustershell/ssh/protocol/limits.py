"""Limits on a server's messages, which paramiko accepts in any size.

paramiko reads zeros beyond the end of a message. So a short message with a count of four billion
would keep it busy for hours, on the thread that serves all nodes.
"""

from __future__ import annotations

import zlib

from paramiko import SSHException
from paramiko.message import Message

from .received import check_end

#: The number of questions that one request may ask: OpenSSH's server accepts as many answers.
MAX_QUESTIONS = 100

#: The number of bytes that one request's title, instruction and questions may have together.
MAX_QUESTIONS_SIZE = 1 << 16

#: The number of requests of one attempt that are answered. A password change may take several
#: requests.
MAX_ROUNDS = 32

#: The number of extensions that a server may announce; OpenSSH's server announces five.
MAX_EXTENSIONS = 1024

#: The number of bytes that a decompressed packet may have: as many as one that was not compressed.
MAX_INFLATED_SIZE = 1 << 18


def check_questions(m: Message, rounds: int) -> None:
    """Check a request of keyboard-interactive authentication (RFC 4256 3.2).

    Args:
        m: the request; it is rewound afterwards.
        rounds: its number in this attempt, from 1.

    Raises:
        SSHException: it asks too many questions, too long ones, or comes too often; or its length
            is wrong.
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
    if count > MAX_QUESTIONS:
        raise SSHException(f"The server asks {count} questions at once, more than {MAX_QUESTIONS}")
    for _ in range(count):
        m.get_binary()
        m.get_boolean()
    check_end(m)
    m.rewind()


def check_extensions(m: Message) -> None:
    """Check a server's message about its extensions (RFC 8308 2.3).

    Args:
        m: the message; it is rewound afterwards.

    Raises:
        SSHException: it announces too many.
    """
    count = m.get_int()
    if count > MAX_EXTENSIONS:
        raise SSHException(f"The server announces {count} extensions, more than {MAX_EXTENSIONS}")
    m.rewind()


class Inflater:
    """Decompresses packets (RFC 4253 6.2), up to MAX_INFLATED_SIZE bytes each.

    A small packet can become a thousand times larger, and paramiko's decompressor has no limit.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def __call__(self, data: bytes) -> bytes:
        """Decompress the next packet.

        Raises:
            SSHException: it is too large, or damaged.
        """
        try:
            # One byte more than allowed: a larger packet fills it, an allowed one does not.
            found = self._stream.decompress(data, MAX_INFLATED_SIZE + 1)
        except zlib.error as error:
            raise SSHException(f"a packet cannot be decompressed: {error}") from None
        if len(found) > MAX_INFLATED_SIZE:
            raise SSHException(
                f"a packet has more than {MAX_INFLATED_SIZE} bytes when it is decompressed"
            )
        return found
