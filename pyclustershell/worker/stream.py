"""Workers over files that are already open: pipes, sockets, terminals."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from ..engine.client import EngineClient
from ..engine.engine import READ, WRITE, Engine, Watch
from ..exceptions import LineTooLongError, NodeError, WorkerError
from ..linebuffer import LineBuffer
from ..transport.state import Failed, Output, Started
from ..writebuffer import WriteBuffer
from .worker import Worker

if TYPE_CHECKING:
    from ..task import Task

_READ_SIZE = 65536

# What a descriptor that is ready takes without blocking: POSIX promises it for pipes (poll(2)).
_SURE_SIZE = getattr(select, "PIPE_BUF", 512)


class _Stream:
    """A named stream of a worker, and the file behind it.

    Args:
        name: its name.
        sfile: an object with ``fileno()``, or a file descriptor.
        retain: whether the worker lives at least as long as this stream.
        closefd: whether the file is closed with the stream.
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
        # Regular files are always ready, and epoll does not take them.
        self._always_ready = False

    def watch(self, engine: Engine, callback: Callable[[], Any]) -> None:
        """Have ``callback()`` called whenever the stream is ready, until :meth:`unwatch`."""
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
        """Stop the calls."""
        self._always_ready = False
        if self._watch is not None and self._engine is not None:
            self._engine.unregister(self._watch)
        self._watch = None

    def close(self) -> None:
        """Stop the calls, and close the file if it goes with the stream."""
        self.unwatch()
        if self._closefd and not self.closed:
            with suppress(OSError):
                if hasattr(self.file, "close"):
                    self.file.close()
                else:
                    os.close(self.fd)
        self.closed = True


class _Reader(_Stream):
    events = READ

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lines = LineBuffer()

    def read(self) -> Optional[bytes]:
        """What has come: b'' at the end, None if there is nothing yet."""
        try:
            # Windows reads a socket by its own methods only.
            if hasattr(self.file, "recv"):
                return self.file.recv(_READ_SIZE)  # type: ignore[no-any-return]
            return os.read(self.fd, _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            # A terminal whose other end is closed says EIO, a socket ECONNRESET: nothing follows.
            return b""


class _Writer(_Stream):
    events = WRITE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = WriteBuffer()
        self._size: Optional[int] = None
        self.writing = False

    def write(self) -> int:
        """Write some of what waits; returns how many bytes, 0 if there is no room.

        Raises:
            OSError: nobody reads it any more.
        """
        if self._size is None:
            # The descriptor is the user's, perhaps shared with other processes: its mode stays as
            # it is. One that blocks gets no more than what cannot block.
            blocking = getattr(os, "get_blocking", lambda _fd: False)
            self._size = _SURE_SIZE if blocking(self.fd) else _READ_SIZE
        data = self.buffer.peek()[: self._size]
        try:
            if hasattr(self.file, "send"):
                sent: int = self.file.send(data)
            else:
                sent = os.write(self.fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        self.buffer.take(sent)
        return sent


class StreamClient(EngineClient):
    """The streams of one worker: it ends when none is left that retains it.

    Args:
        worker: the worker.
        key: what the results are kept under.
        stderr: accepted for ClusterShell's sake: each stream has a name of its own.
        timeout: seconds that the streams may take; None or less than 0 for no limit.
        autoclose: whether the run may end although the streams have not.
    """

    def __init__(
        self,
        worker: StreamWorker,
        key: Any,
        stderr: bool,
        timeout: Optional[float],
        autoclose: bool,
    ) -> None:
        self.worker = worker
        self.key = key
        self.timeout = None if timeout is None or timeout < 0 else float(timeout)
        self.autoclose = autoclose
        self.readers: dict[str, _Reader] = {}
        self.writers: dict[str, _Writer] = {}
        self._engine: Optional[Engine] = None
        self._line_limit: Optional[int] = None
        self._ended = False

    def __repr__(self) -> str:
        names = [stream.name for stream in self._streams() if not stream.closed]
        return f"<{type(self).__name__} {self.key}: {', '.join(names) or 'no open stream'}>"

    def _streams(self) -> list[_Stream]:
        return [*self.readers.values(), *self.writers.values()]

    @property
    def is_started(self) -> bool:
        """Whether the streams have been given to the engine."""
        return self._engine is not None

    # -- for the engine --

    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come."""
        if self._ended:  # it was aborted before
            engine.finished(self)
            return
        self._engine = engine
        self._line_limit = self.worker.bound_task().info("line_limit")
        engine.start_clock(self)
        self.worker.deliver(self.key, Started())
        for reader in self.readers.values():
            if not self._ended:
                reader.watch(engine, partial(self._on_readable, reader))
        for writer in list(self.writers.values()):
            self._on_writable(writer)
        self._end_if_released()

    def on_timeout(self) -> None:
        """End now, and deliver that time ran out."""
        self._end(timed_out=True)

    def abort(self, timed_out: bool = False) -> None:
        """End now, because the run or the worker ends."""
        if self._ended:
            return
        if self._engine is None:
            # Its turn never came: nobody has heard of it.
            self._ended = True
            self._close_streams()
            self.worker.forget_client()
        else:
            self._end(timed_out, aborted=True)

    # -- reading --

    def _on_readable(self, reader: _Reader) -> None:
        data = reader.read()
        if data is None:
            return
        if data:
            lines = reader.lines.feed(data)
            if lines:
                self.worker.deliver(self.key, Output(reader.name, lines))
            elif self._line_limit is not None and reader.lines.size > self._line_limit:
                # A line that never ends would take all memory: of all workers, it fails this one.
                self._fail(LineTooLongError.of(str(self.key), reader.name, self._line_limit))
            return
        reader.close()
        self._flush(reader)
        self._end_if_released()

    def _flush(self, reader: _Reader) -> None:
        rest = reader.lines.flush()
        if rest is not None and not self._ended:
            self.worker.deliver(self.key, Output(reader.name, [rest]))

    # -- writing --

    def put(self, data: Optional[bytes], sname: Optional[str] = None) -> None:
        """Write to one stream, or to all that can be written to; None closes them afterwards."""
        writers = list(self.writers.values()) if sname is None else [self.writers[sname]]
        # All of them first: a handler that hears that one has taken it may write what comes next.
        for writer in writers:
            if data is None:
                writer.buffer.end()
            else:
                writer.buffer.put(data)
        for writer in writers:
            self._on_writable(writer)

    def _on_writable(self, writer: _Writer) -> None:
        engine = self._engine
        if engine is None or self._ended or writer.closed or writer.writing:
            return
        # One share, then others have their turn. A handler that writes as soon as it hears that
        # something was written comes back here at once: the loop goes on with it later.
        if writer.buffer.size:
            try:
                sent = writer.write()
            except OSError:
                # Nobody reads it any more.
                writer.buffer.clear()
                sent = 0
            if sent:
                writer.writing = True
                try:
                    self.worker.deliver_written(self.key, writer.name, sent)
                finally:
                    writer.writing = False
        if writer.buffer.size and not self._ended:
            writer.watch(engine, partial(self._on_writable, writer))
            return
        writer.unwatch()
        if writer.buffer.ended:
            writer.close()
            self._end_if_released()

    # -- the end --

    def _end_if_released(self) -> None:
        if not any(stream.retain and not stream.closed for stream in self._streams()):
            self._end()

    def _end(self, timed_out: bool = False, aborted: bool = False) -> None:
        if self._ended:
            return
        if not aborted:
            for reader in self.readers.values():
                self._flush(reader)
            if self._ended:  # by the handler of the last line
                return
        self._ended = True
        self._close_streams()
        if self._engine is not None:
            # First of all: what the handler does now may need this place.
            self._engine.finished(self)
        self.worker.deliver_end(self.key, timed_out)

    def _fail(self, error: NodeError) -> None:
        self._ended = True
        self._close_streams()
        if self._engine is not None:
            self._engine.finished(self)
        self.worker.deliver(self.key, Failed(error))

    def _close_streams(self) -> None:
        for stream in self._streams():
            stream.close()
        for writer in self.writers.values():
            writer.buffer.clear()


class StreamWorker(Worker):
    """Reads and writes any number of named streams of your own, such as pipes and sockets.

    ::

        worker = StreamWorker(handler)
        worker.set_reader("answers", read_fd)
        worker.set_writer("questions", write_fd)
        task.schedule(worker)

    Each line that a reader brings is told through ``ev_read(worker, key, sname, msg)``, what a
    writer has taken through ``ev_written``. The worker ends when the last stream that retains it
    does: a reader at its end of file, a writer after :meth:`set_write_eof`. Then, also after a
    timeout, comes ``ev_hup(worker, key, None)``, and ``ev_close``. A line that is longer than the
    task's ``line_limit`` ends it, too: it has failed then, with 255 in the place of None.

    Args:
        handler: an EventHandler, or None; it is given the key where it is told of a node.
        key: what the results are kept under; by default, the worker itself.
        stderr: accepted for ClusterShell's sake: each stream has a name of its own.
        timeout: seconds that the streams may take; none if negative.
        autoclose: whether the run may end although the streams have not.
        client_class: the class of the engine's client, StreamClient or one derived from it.
    """

    def __init__(
        self,
        handler: Any = None,
        key: Any = None,
        stderr: bool = False,
        timeout: Optional[float] = -1,
        autoclose: bool = False,
        client_class: type[StreamClient] = StreamClient,
    ) -> None:
        super().__init__(handler)
        key = self if key is None else key
        self.clients = [client_class(self, key, stderr, timeout, autoclose)]

    def __repr__(self) -> str:
        client = self.clients[0]
        names = [*client.readers, *client.writers]
        return f"<{type(self).__name__} of {', '.join(names) or 'no streams'}>"

    def set_reader(self, sname: str, sfile: Any, retain: bool = True, closefd: bool = True) -> None:
        """Add a stream to read from.

        Args:
            sname: its name, which ev_read is given. The output of 'stdout' and 'stderr' is kept for
                the task's buffers.
            sfile: an object with ``fileno()``, or a file descriptor.
            retain: whether the worker lives at least as long as this stream.
            closefd: whether the file is closed at the stream's end.

        Raises:
            WorkerError: the worker has started.
        """
        self._check_not_started()
        self.clients[0].readers[sname] = _Reader(sname, sfile, retain, closefd)

    def set_writer(self, sname: str, sfile: Any, retain: bool = True, closefd: bool = True) -> None:
        """Add a stream to write to.

        Args:
            sname: its name, for :meth:`write`.
            sfile: an object with ``fileno()``, or a file descriptor.
            retain: whether the worker lives at least as long as this stream.
            closefd: whether the file is closed at the stream's end.

        Raises:
            WorkerError: the worker has started.
        """
        self._check_not_started()
        self.clients[0].writers[sname] = _Writer(sname, sfile, retain, closefd)

    def _check_not_started(self) -> None:
        if self.clients[0].is_started:
            raise WorkerError(f"{self!r} has started: set its streams before")

    def set_key(self, key: Any) -> None:
        """Keep the results under another key; before the worker starts."""
        self.clients[0].key = key

    def _make_clients(self, task: Task) -> list[EngineClient]:
        return list(self.clients)

    @property
    def input_full(self) -> bool:
        """Whether who writes should wait: a stream has 1 MiB and more to take."""
        return any(writer.buffer.full for writer in self.clients[0].writers.values())

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Write to a stream, as soon and as fast as it takes it. On the task's thread.

        Args:
            buf: the bytes. They are dropped where the stream has been closed.
            sname: the stream; None for all that can be written to.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_writer(sname)
        self.clients[0].put(bytes(buf), sname)

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close a stream, or all that can be written to, after what was written.

        Raises:
            ValueError: there is no such stream.
        """
        self._check_writer(sname)
        self.clients[0].put(None, sname)

    def _check_writer(self, sname: Optional[str]) -> None:
        names = self.clients[0].writers
        if sname is not None and sname not in names:
            raise ValueError(f"there is no stream {sname!r} to write to, only {sorted(names)}")

    def read(self, node: Any = None, sname: str = Worker.SNAME_STDOUT) -> Optional[bytes]:
        """What a stream brought so far, None if nothing.

        Args:
            node: ignored, or the key.
            sname: the stream.

        Raises:
            TaskMsgTreeError: it is not kept.
        """
        return super().read(self.clients[0].key if node is None else node, sname)

    def abort(self) -> None:
        """Close all streams. What was not written is dropped."""
        if self.task is not None:
            self.aborted = True
            self.clients[0].abort()

    # -- what the client tells --

    def deliver_written(self, key: Any, sname: str, size: int) -> None:
        """A stream has taken some bytes."""
        self._set_current_node(key)
        self.current_sname = sname
        if self._events is not None:
            self._events.written(self, key, sname, size)

    def deliver_end(self, key: Any, timed_out: bool) -> None:
        """The streams have ended, or their time ran out."""
        if timed_out:
            self.bound_task().results.add_timeout((self, key))
        self._hang_up(key, None)

    def _debug_name(self, key: Any) -> str:
        return "LINE"


class WorkerSimple(StreamWorker):
    """A worker over files for 'stdout', 'stdin' and 'stderr'; StreamWorker takes any names.

    Args:
        file_reader: what 'stdout' is read from, or None.
        file_writer: what 'stdin' writes to, or None.
        file_error: what 'stderr' is read from, or None.
        key: what the results are kept under; None for the worker itself.
        handler: an EventHandler, or None.
        stderr: accepted for ClusterShell's sake.
        timeout: seconds that the streams may take; none if negative.
        autoclose: whether the run may end although the streams have not.
        closefd: whether the files are closed at the streams' ends.
        client_class: as StreamWorker's.
    """

    def __init__(
        self,
        file_reader: Any,
        file_writer: Any,
        file_error: Any,
        key: Any,
        handler: Any,
        stderr: bool = False,
        timeout: Optional[float] = -1,
        autoclose: bool = False,
        closefd: bool = True,
        client_class: type[StreamClient] = StreamClient,
    ) -> None:
        super().__init__(handler, key, stderr, timeout, autoclose, client_class)
        if file_reader is not None:
            self.set_reader(self.SNAME_STDOUT, file_reader, closefd=closefd)
        if file_error is not None:
            self.set_reader(self.SNAME_STDERR, file_error, closefd=closefd)
        if file_writer is not None:
            self.set_writer(self.SNAME_STDIN, file_writer, closefd=closefd)

    def _set_current_node(self, key: Any) -> None:
        pass  # it stays None, as ClusterShell's

    def reader_fileno(self) -> int:
        """The descriptor of 'stdout'."""
        return self.clients[0].readers[self.SNAME_STDOUT].fd

    def error_fileno(self) -> int:
        """The descriptor of 'stderr'."""
        return self.clients[0].readers[self.SNAME_STDERR].fd

    def writer_fileno(self) -> int:
        """The descriptor of 'stdin'."""
        return self.clients[0].writers[self.SNAME_STDIN].fd

    def error(self) -> Optional[bytes]:
        """What 'stderr' brought so far, None if nothing."""
        return self.read(sname=self.SNAME_STDERR)
