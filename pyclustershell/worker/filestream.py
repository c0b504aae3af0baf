"""Named streams of a worker over files that are already open: pipes, sockets, terminals."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any, Callable, Optional

from ..buffers import LineBuffer, WriteBuffer
from ..engine.engine import READ, WRITE, Engine, Watch

_READ_SIZE = 65536

# A ready pipe takes this many bytes without blocking; POSIX promises it (poll(2)).
_NONBLOCKING_SIZE = getattr(select, "PIPE_BUF", 512)


class FileStream:
    """A named stream of a worker, and its file.

    All methods, and the callback, are called on the task's thread.

    Args:
        name: the stream's name.
        sfile: an object with ``fileno()``, or a file descriptor.
        retain: True if the worker must not end before this stream.
        closefd: True to close the file with the stream.
    """

    events = 0

    def __init__(self, name: str, sfile: Any, retain: bool, closefd: bool) -> None:
        self.name = name
        self.file = sfile
        self.fd: int = sfile if isinstance(sfile, int) else sfile.fileno()
        self.retain = retain
        self.closed = False
        self._closefd = closefd
        self._engine: Optional[Engine] = None
        self._callback: Callable[[], Any] = lambda: None
        self._watch: Optional[Watch] = None
        # True for a regular file: it is always ready, and epoll does not accept it.
        self._always_ready = False

    def watch(self, engine: Engine, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` whenever the stream is ready, until :meth:`unwatch`."""
        if self._watch is not None or self._always_ready:
            return
        self._engine = engine
        self._callback = callback
        try:
            self._watch = engine.register(self.fd, self.events, lambda _events: callback())
        except PermissionError:
            self._always_ready = True
            engine.post(self._on_always_ready)

    def _on_always_ready(self) -> None:
        if self._always_ready and self._engine is not None:
            self._callback()
            self._engine.post(self._on_always_ready)

    def unwatch(self) -> None:
        """Stop calling the callback."""
        self._always_ready = False
        if self._watch is not None and self._engine is not None:
            self._engine.unregister(self._watch)
        self._watch = None

    def close(self) -> None:
        """Close the stream, and the file if ``closefd`` is True."""
        self.unwatch()
        if self._closefd and not self.closed:
            with suppress(OSError):
                if hasattr(self.file, "close"):
                    self.file.close()
                else:
                    os.close(self.fd)
        self.closed = True


class FileReader(FileStream):
    """A stream to read from."""

    events = READ

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lines = LineBuffer()

    def read(self) -> Optional[bytes]:
        """Read the bytes that have arrived.

        Returns:
            The bytes; b'' at the end of the stream; None if no bytes have arrived.
        """
        try:
            # On Windows, only a socket's own methods can read it.
            if hasattr(self.file, "recv"):
                return self.file.recv(_READ_SIZE)  # type: ignore[no-any-return]
            return os.read(self.fd, _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            # A terminal raises EIO when its other end is closed, a socket ECONNRESET. No bytes
            # follow.
            return b""


class FileWriter(FileStream):
    """A stream to write to."""

    events = WRITE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = WriteBuffer()
        self._write_size: Optional[int] = None
        self.writing = False

    def write(self) -> int:
        """Write some of the queued bytes.

        Returns:
            How many bytes were written; 0 if the file takes none now.

        Raises:
            OSError: the file cannot be written to; usually its reader has closed it.
        """
        if self._write_size is None:
            # The descriptor is the user's, and other processes may share it, so its mode does not
            # change. A blocking descriptor gets only as many bytes as it takes without blocking.
            blocking = getattr(os, "get_blocking", lambda _fd: False)
            self._write_size = _NONBLOCKING_SIZE if blocking(self.fd) else _READ_SIZE
        data = self.buffer.peek()[: self._write_size]
        try:
            if hasattr(self.file, "send"):
                sent: int = self.file.send(data)
            else:
                sent = os.write(self.fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        self.buffer.take(sent)
        return sent
