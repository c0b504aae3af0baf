"""Workers over files that are already open: pipes, sockets, terminals."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Optional

from ..arguments import check_flags, check_input, check_key, check_limit
from ..buffers import LineBuffer
from ..engine.engine import Engine, EngineClient
from ..exceptions import NodeError, WorkerError
from ..records import Failed, Output, Started
from .context import WorkerContext
from .filestream import FileReader, FileStream, FileWriter
from .worker import Worker


class StreamClient(EngineClient):
    """The streams of one worker. The client ends when no open stream retains it.

    All methods are called on the task's thread.

    Args:
        worker: the worker.
        key: the key of the results.
        stderr: ignored, because each stream has its own name. ClusterShell's class has it.
        timeout: seconds that the streams may take; None or less than 0 for no limit.
        autoclose: True if the run may end before the streams have ended.
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
        self.timeout = check_limit("timeout", timeout)
        self.autoclose = autoclose
        self.readers: dict[str, FileReader] = {}
        self.writers: dict[str, FileWriter] = {}
        self._engine: Optional[Engine] = None
        self._ended = False

    def __repr__(self) -> str:
        names = [stream.name for stream in self._streams() if not stream.closed]
        return f"<{type(self).__name__} {self.key}: {', '.join(names) or 'no open stream'}>"

    def _streams(self) -> list[FileStream]:
        return [*self.readers.values(), *self.writers.values()]

    @property
    def is_started(self) -> bool:
        """True when the engine has started the client."""
        return self._engine is not None

    # -- for the engine --

    def start(self, engine: Engine) -> None:
        """Start to read and write. The engine calls this when the fanout has room."""
        if self._ended:  # it was aborted before its start
            engine.finished(self)
            return
        self._engine = engine
        limit = self.worker.context.info.get("line_limit")
        for reader in self.readers.values():
            reader.lines = LineBuffer(reader.name, limit, str(self.key))
        self.worker.note_turn(self.key)
        engine.start_clock(self)
        self.worker.deliver(self.key, Started())
        for reader in self.readers.values():
            if not self._ended:
                self._watch(reader, partial(self._on_readable, reader))
        for writer in list(self.writers.values()):
            self._on_writable(writer)
        self._end_if_none_retained()

    def _watch(self, stream: FileStream, callback: Callable[[], Any]) -> None:
        """Watch a stream; if its descriptor is none that can be watched, the worker fails."""
        if self._engine is None:
            return
        try:
            stream.watch(self._engine, callback)
        except (OSError, ValueError) as error:
            cause = f"cannot watch stream {stream.name!r} (descriptor {stream.fd}): {error}"
            self._fail(NodeError(str(self.key), cause))

    def on_timeout(self) -> None:
        """End the streams, and report the timeout to the worker."""
        self._end(timed_out=True)

    def abort(self, timed_out: bool = False) -> None:
        """End the streams, because the run or the worker ends.

        Args:
            timed_out: True to report a timeout to the worker.
        """
        if self._ended:
            return
        if self._engine is None:
            # It has not been started: ev_result is its only event.
            self._ended = True
            self._close_streams()
            self.worker.end_unstarted(self.key)
        else:
            self._end(timed_out, aborted=True)

    # -- reading --

    def _on_readable(self, reader: FileReader) -> None:
        data = reader.read()
        if data is None:
            return
        if data:
            lines = reader.lines.feed(data)
            if lines:
                self.worker.deliver(self.key, Output(reader.name, lines))
            elif (error := reader.lines.overflow()) is not None:
                self._fail(error)
            return
        reader.close()
        self._flush(reader)
        self._end_if_none_retained()

    def _flush(self, reader: FileReader) -> None:
        rest = reader.lines.flush()
        if rest is not None and not self._ended:
            self.worker.deliver(self.key, Output(reader.name, [rest]))

    # -- writing --

    def put(self, data: Optional[bytes], sname: Optional[str] = None) -> None:
        """Queue bytes for one writer, or for all; None closes them after the queued bytes."""
        writers = list(self.writers.values()) if sname is None else [self.writers[sname]]
        # Every queue first: writing calls ev_written, and a handler may write the next bytes there.
        # The order of the bytes must be the same for every writer.
        for writer in writers:
            if data is None:
                writer.buffer.end()
            else:
                writer.buffer.put(data)
        for writer in writers:
            self._on_writable(writer)

    def _on_writable(self, writer: FileWriter) -> None:
        engine = self._engine
        if engine is None or self._ended or writer.closed or writer.writing:
            return
        # Write once, then let other clients run. A handler that writes in ev_written calls this
        # method again at once: ``writing`` leaves those bytes to the loop's next pass.
        if writer.buffer.size:
            try:
                sent = writer.write()
            except OSError:
                # The reader has closed the file.
                writer.buffer.clear()
                sent = 0
            if sent:
                writer.writing = True
                try:
                    self.worker.deliver_written(self.key, writer.name, sent)
                finally:
                    writer.writing = False
        if writer.buffer.size and not self._ended:
            self._watch(writer, partial(self._on_writable, writer))
            return
        writer.unwatch()
        if writer.buffer.ended:
            writer.close()
            self._end_if_none_retained()

    # -- the end --

    def _end_if_none_retained(self) -> None:
        if not any(stream.retain and not stream.closed for stream in self._streams()):
            self._end()

    def _end(self, timed_out: bool = False, aborted: bool = False) -> None:
        if self._ended:
            return
        if not aborted:
            for reader in self.readers.values():
                self._flush(reader)
            if self._ended:  # the handler of the last line has aborted the worker
                return
        self._ended = True
        self._close_streams()
        if self._engine is not None:
            # Before the handler is called: a command that it schedules may need this place in the
            # fanout.
            self._engine.finished(self)
        self.worker.deliver_end(self.key, timed_out, aborted)

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
    """Reads and writes any number of named streams, such as pipes and sockets.

    ::

        worker = StreamWorker(handler)
        worker.set_reader("answers", read_fd)
        worker.set_writer("questions", write_fd)
        task.schedule(worker)

    ``ev_read(worker, key, sname, msg)`` reports each line that a reader receives; ``ev_written``
    reports the bytes that a writer has sent. A reader ends at its end of file, a writer after
    :meth:`set_write_eof`. The worker ends with the last stream that retains it. Then
    ``ev_hup(worker, key, None)`` and ``ev_close`` are called, also after a timeout. A line that is
    longer than the task's ``line_limit`` also ends the worker: it has failed, and ``ev_hup``
    receives 255 in place of None.

    Args:
        handler: an EventHandler, or None. Its events receive the key in place of a node.
        key: the key of the results; None for the worker itself.
        stderr: ignored, because each stream has its own name. ClusterShell's class has it.
        timeout: seconds that the streams may take; None or less than 0 for no limit.
        autoclose: True if the run may end before the streams have ended.
        client_class: the class of the engine's client: StreamClient or a class derived from it.
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
        check_flags(autoclose=autoclose)
        check_key(key)
        key = self if key is None else key
        self.clients = [client_class(self, key, stderr, timeout, autoclose)]

    def __repr__(self) -> str:
        client = self.clients[0]
        names = [*client.readers, *client.writers]
        return f"<{type(self).__name__} of {', '.join(names) or 'no streams'}>"

    def set_reader(self, sname: str, sfile: Any, retain: bool = True, closefd: bool = True) -> None:
        """Add a stream to read from.

        Args:
            sname: the stream's name, for ``ev_read``. The output of 'stdout' and 'stderr' is kept
                for the task's buffers.
            sfile: an object with ``fileno()``, or a file descriptor.
            retain: True if the worker must not end before this stream.
            closefd: True to close the file at the stream's end.

        Raises:
            WorkerError: the worker has started.
        """
        self._check_not_started()
        self.clients[0].readers[sname] = FileReader(sname, sfile, retain, closefd)

    def set_writer(self, sname: str, sfile: Any, retain: bool = True, closefd: bool = True) -> None:
        """Add a stream to write to.

        Args:
            sname: the stream's name, for :meth:`write`.
            sfile: an object with ``fileno()``, or a file descriptor.
            retain: True if the worker must not end before this stream.
            closefd: True to close the file at the stream's end.

        Raises:
            WorkerError: the worker has started.
        """
        self._check_not_started()
        self.clients[0].writers[sname] = FileWriter(sname, sfile, retain, closefd)

    def _check_not_started(self) -> None:
        if self.clients[0].is_started:
            raise WorkerError(f"{self!r} has started: set its streams before the run")

    def set_key(self, key: Any) -> None:
        """Change the key of the results. To be called before the worker starts.

        Raises:
            TypeError: it cannot be a key of a dictionary.
        """
        check_key(key)
        self.clients[0].key = key

    def _make_clients(self, context: WorkerContext) -> list[EngineClient]:
        return list(self.clients)

    @property
    def input_full(self) -> bool:
        """True while more than 1 MiB is queued for one stream."""
        return any(writer.buffer.full for writer in self.clients[0].writers.values())

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Queue bytes for a stream, which takes them as fast as its reader reads.

        May be called from any thread. It never waits: see :attr:`input_full`.

        Args:
            buf: the bytes. They are dropped if the stream has been closed.
            sname: the name of a writer; None for all writers.

        Raises:
            ValueError: there is no writer of this name.
            TypeError: ``buf`` is not bytes.
        """
        self._check_writer(sname)
        self._put(check_input(buf), sname)

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close a writer, or all writers, after the queued bytes.

        May be called from any thread.

        Args:
            sname: the name of a writer; None for all writers.

        Raises:
            ValueError: there is no writer of this name.
        """
        self._check_writer(sname)
        self._put(None, sname)

    def _put(self, data: Optional[bytes], sname: Optional[str]) -> None:
        if self._context is None:
            self.clients[0].put(data, sname)  # nothing is written before the start
        else:
            self._on_task_thread(self.clients[0].put, data, sname)

    def _check_writer(self, sname: Optional[str]) -> None:
        names = self.clients[0].writers
        if sname is not None and sname not in names:
            raise ValueError(f"there is no stream {sname!r} to write to, only {sorted(names)}")

    def read(self, node: Any = None, sname: str = Worker.SNAME_STDOUT) -> Optional[bytes]:
        """Return the output of a stream so far; None if there is none.

        Args:
            node: None, or the key.
            sname: the stream's name.

        Raises:
            TaskMsgTreeError: the stream's output is not kept.
        """
        return super().read(self.clients[0].key if node is None else node, sname)

    def abort(self) -> None:
        """Close all streams. Bytes that were not written are dropped.

        May be called from any thread; see Worker.abort().
        """
        super().abort()

    def _abort(self) -> None:
        self.aborted = True
        self.clients[0].abort()

    # -- for the client --

    def note_turn(self, key: Any) -> None:
        """Note that the streams are read and written from now on."""
        self.store.add_turn(self._stored(key))

    def deliver_written(self, key: Any, sname: str, size: int) -> None:
        """Report bytes that a stream has taken: call ``ev_written``."""
        self._set_current_node(key)
        self.current_sname = sname
        if self._events is not None:
            self._events.written(self, key, sname, size)

    def deliver_end(self, key: Any, timed_out: bool, aborted: bool) -> None:
        """Report the end of the streams: call ``ev_hup``, ``ev_result`` and ``ev_close``."""
        stored = self._stored(key)
        if timed_out:
            self.store.add_timeout(stored)
        elif aborted:
            self.store.add_abort(stored)
        else:
            self.store.add_end(stored)
        self._hang_up(key, None)

    def _debug_name(self, key: Any) -> str:
        return "LINE"


class WorkerSimple(StreamWorker):
    """A worker over files for 'stdout', 'stdin' and 'stderr'; StreamWorker takes any names.

    Args:
        file_reader: the file that 'stdout' is read from, or None.
        file_writer: the file that 'stdin' is written to, or None.
        file_error: the file that 'stderr' is read from, or None.
        key: the key of the results; None for the worker itself.
        handler: an EventHandler, or None.
        stderr: ignored, because each stream has its own name. ClusterShell's class has it.
        timeout: seconds that the streams may take; None or less than 0 for no limit.
        autoclose: True if the run may end before the streams have ended.
        closefd: True to close the files at the streams' ends.
        client_class: the class of the engine's client: StreamClient or a class derived from it.
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
        pass  # current_node stays None, as in ClusterShell

    def reader_fileno(self) -> int:
        """Return the file descriptor of 'stdout'."""
        return self.clients[0].readers[self.SNAME_STDOUT].fd

    def error_fileno(self) -> int:
        """Return the file descriptor of 'stderr'."""
        return self.clients[0].readers[self.SNAME_STDERR].fd

    def writer_fileno(self) -> int:
        """Return the file descriptor of 'stdin'."""
        return self.clients[0].writers[self.SNAME_STDIN].fd

    def error(self) -> Optional[bytes]:
        """Return the output of 'stderr' so far; None if there is none.

        Raises:
            TaskMsgTreeError: stderr is not kept.
        """
        return self.read(sname=self.SNAME_STDERR)
