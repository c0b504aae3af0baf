"""Standard input of the program, forwarded to all commands."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any, Callable

from ..exceptions import WorkerError

#: The number of bytes that are read at once: the size of a pipe.
_BLOCK = 1 << 16


def forward_input(
    stream: Any,
    worker: Any,
    on_read_error: Callable[[OSError], None],
    on_refused: Callable[[Exception], None],
) -> threading.Thread:
    """Read a stream to its end, on a thread of its own, and write it to a worker's commands.

    Each block is read when the slowest command has room for it: see CommandWorker.write().

    Args:
        stream: has a descriptor, which is read.
        worker: a scheduled worker.
        on_read_error: called on that thread if the stream cannot be read. The commands then get the
            end of their input.
        on_refused: called on that thread if the worker has no input to write to.

    Returns:
        The thread. It is a daemon: the program may end while the thread waits for input.
    """
    thread = threading.Thread(
        target=_copy, args=(stream, worker, on_read_error, on_refused), daemon=True
    )
    thread.name = "pyclush input"
    thread.start()
    return thread


def _copy(
    stream: Any,
    worker: Any,
    on_read_error: Callable[[OSError], None],
    on_refused: Callable[[Exception], None],
) -> None:
    try:
        try:
            while data := _read(stream):
                worker.write(data)
        except OSError as error:
            on_read_error(error)
    except WorkerError as error:
        on_refused(error)
    else:
        # Nothing is lost if a worker without input is not told of the end of an empty one.
        with suppress(WorkerError):
            worker.set_write_eof()


def _read(stream: Any) -> bytes:
    """The next bytes; none at the end."""
    descriptor = stream.fileno()
    while True:
        try:
            return os.read(descriptor, _BLOCK)
        except BlockingIOError:  # another program has made the descriptor non-blocking
            import select

            select.select([descriptor], [], [])
