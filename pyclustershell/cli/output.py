"""Standard output of the programs: all of it is written, or there is an error."""

from __future__ import annotations

import codecs
import errno
import io
import os
import stat
import sys
from typing import Any, Optional, TextIO

from .. import platform
from .manner import Manner

#: The number of characters that are collected before they are written.
_FULL = 1 << 16


# Names may have bytes that are not text in this locale: they are written as they are. Other
# characters that its encoding lacks, as a code page of Windows does, are written as \u20ac.
_BYTES_OR_ESCAPES = "pyclustershell.bytes_or_escapes"


def _bytes_or_escapes(error: UnicodeError) -> tuple[bytes, int]:
    """Encode the characters that an encoding lacks: a handler for codecs.register_error()."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return b"".join(map(_byte_or_escape, part)), error.end


def _byte_or_escape(character: str) -> bytes:
    code = ord(character)
    if code >= 0xDC80 and code <= 0xDCFF:
        return bytes([code - 0xDC00])  # surrogateescape (PEP 383)
    return character.encode("ascii", "backslashreplace")


codecs.register_error(_BYTES_OR_ESCAPES, _bytes_or_escapes)


class Output:
    """Writes text to a stream, completely.

    Python's own streams lose output silently in two cases: with ``python -u``, if a write is short,
    as on a disk that becomes full; and at the end of the program, where an error is noticed too
    late for the exit status. So this writes to the raw file below the stream until nothing is left.

    A stream that a program has put in place of sys.stdout may have no file below it: then its
    write() is called.

    Args:
        stream: the text stream; None: there is none, because its descriptor was closed.
        manner: the manner to keep to.

    Attributes:
        encoding: the name of the stream's encoding.
    """

    def __init__(self, stream: Optional[TextIO], manner: Manner) -> None:
        self._stream = stream
        self._pieces: list[str] = []
        self._size = 0
        self._raw = _raw_file(stream)
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self._own_words = manner.own_words
        errors = getattr(stream, "errors", None) or "strict"
        self._errors = _BYTES_OR_ESCAPES if manner.own_words else errors
        self._at_once = self.isatty()

    def isatty(self) -> bool:
        """True if the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text: at once to a terminal, else when there is much of it; see flush().

        Returns:
            The number of characters, as other text streams do.

        Raises:
            OSError: it cannot be written; BrokenPipeError: the reader has gone.
            UnicodeEncodeError: the stream's encoding has no such character.
        """
        self._pieces.append(text)
        self._size += len(text)
        if self._size >= _FULL or self._at_once:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write all text so far. Errors as in write()."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._stream is None:
            if text:
                raise OSError(errno.EBADF, "standard output is closed")
            return
        if self._raw is None:
            if text:
                self._stream.write(text)
            self._stream.flush()
            return
        data = text.encode(self.encoding, self._errors)
        try:
            self._stream.flush()  # text that others have printed comes first
            write_all(self._raw, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self._own_words:
                raise
            raise OSError(error.errno, f"output cannot be written: {error.strerror}") from error

    def discard(self) -> None:
        """Drop all text that is not written yet, also in the stream.

        Otherwise the interpreter would try to write it again at its end, and print the error.
        """
        self._pieces.clear()
        self._size = 0
        for stream in filter(None, (self._stream, sys.stderr)):
            try:
                stream.flush()
            except OSError:
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)


def _raw_file(stream: Optional[TextIO]) -> Any:
    """The unbuffered file below a text stream, or None."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def write_all(file: Any, data: bytes) -> None:
    """Write bytes completely to a file, which may be raw and may be non-blocking.

    Raises:
        OSError: they cannot be written; BrokenPipeError: the reader has gone.
    """
    rest = memoryview(data)
    while rest:
        try:
            count = file.write(rest)
        except OSError as error:
            if platform.WINDOWS and error.errno == errno.EINVAL and _is_pipe(file):
                # The C library has no better number for ERROR_NO_DATA.
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            raise
        if count is None:  # the descriptor is non-blocking, and the reader is slow
            _wait(file)
        else:
            rest = rest[count:]
    if isinstance(file, io.BufferedIOBase):
        file.flush()


def _is_pipe(file: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    except OSError:
        return False


def _wait(file: Any) -> None:
    """Wait until a file can be written again."""
    import select

    select.select([], [file], [])
