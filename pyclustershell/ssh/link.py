"""A transport and the byte stream under it."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from ..engine.engine import Engine
from ..engine.forking import abandon_in_child
from ..engine.threadpool import ThreadPool
from .protocol import ClientTransport
from .protocol.bytestream import ByteStream

# How long one call of read_now() reads, in seconds, and how many bytes, at most: as many as the
# window of one channel has.
_READING_TIME = 0.02
_READING_SIZE = 1 << 21


class Link:
    """An SSH transport over a byte stream: reads the stream and feeds the transport.

    The engine reads while it runs. Between two runs any thread may read, with :meth:`read_now`.

    Args:
        stream: carries the bytes; this object owns it from now on.
        engine: the engine that reads.
        threads: runs the steps that compute for long, and those that may wait for a disk.
        on_ended: see the attribute.

    Attributes:
        stream: the byte stream.
        transport: the SSH transport.
        on_ended: called once, on the reading thread, when the peer or an error has ended the
            transport. Not called after :meth:`close`. The owner of the link sets it.
    """

    def __init__(
        self,
        stream: ByteStream,
        engine: Engine,
        threads: ThreadPool,
        on_ended: Callable[[], Any],
    ) -> None:
        self.stream = stream
        self.on_ended = on_ended
        self.transport = ClientTransport(stream, self._on_transport_ended)
        self.transport.offload_computing = self._offload_computing
        self._engine = engine
        self._threads = threads
        self._closed = False
        # Guards the watch and the end: the engine's thread watches, any thread closes.
        self._lock = threading.Lock()
        # Held while the transport is fed: by the engine's thread, or between two runs by a thread
        # that closes connections or looks for expired ones.
        self._feeding = threading.RLock()
        # True while read_now() feeds the transport, and no engine continues a step.
        self._reading_now = False
        # True while a call of _continue() is on its way.
        self._continuing = False
        abandon_in_child(self)

    # -- reading --

    def watch(self) -> None:
        """Make the engine read from now on. On the engine's thread."""
        with self._lock:
            if not (self._closed or self.stream.watched or self.transport.paused):
                self.stream.watch(self._read)

    def unwatch(self) -> None:
        """Stop the engine's reading. On the engine's thread, or while the engine is at rest."""
        with self._lock:
            self.stream.unwatch()
            if self._closed:
                self.stream.free()

    def _read(self) -> bool:
        """Read once and feed the transport; returns True if there were bytes, and may be more."""
        stream, transport = self.stream, self.transport
        with self._feeding:
            if transport.has_more:
                # The peer has sent more than its share: read nothing before that is handled.
                transport.feed(b"")
                if transport.has_more:
                    return self._continue_later()
                if transport.paused:
                    return False
            try:
                data = stream.read()
            except OSError as error:
                transport.end(error)
                return False
            if data:
                transport.feed(data)
                if transport.has_more:
                    return self._continue_later()
            elif data is not None:
                transport.end(EOFError())
            return bool(data)

    def _continue_later(self) -> bool:
        """Go on in the engine's next pass, after the other connections; return False.

        No descriptor reports messages that have been read and not handled.
        """
        if not self._continuing:
            self._continuing = True
            self._engine.post(self._continue)
        return False

    def _continue(self) -> None:
        self._continuing = False
        if not (self._closed or self.transport.paused):
            self._read()

    def read_now(self, on_engine: bool = False) -> None:
        """Read the bytes that have arrived, without waiting. On any thread, run or no run.

        It stops after a share of bytes and of time: a peer that never stops sending would keep the
        calling thread for ever. Bytes that the peer did not accept before are sent as well, as far
        as it accepts them now.

        Args:
            on_engine: True on the engine's thread, while the engine runs or is about to: long
                computations are done on another thread.
        """
        with self._feeding:
            self._reading_now = not on_engine
            try:
                self.stream.fetch()
                self.stream.flush()
                stop = self._engine.clock() + _READING_TIME
                most = self.stream.bytes_received + _READING_SIZE
                while not self._closed and not self.transport.paused:
                    if not self._read() and not self.transport.has_more:
                        break
                    if self._engine.clock() >= stop or self.stream.bytes_received >= most:
                        break
            finally:
                self._reading_now = False

    # -- steps that may block --

    def offload(
        self,
        step: Callable[[], Any],
        then: Callable[[], Any],
        threads: Optional[ThreadPool] = None,
    ) -> None:
        """Run a step that may block on another thread. Nothing is read until it has returned.

        Args:
            step: the step; an exception that it raises ends the transport.
            then: called on the engine's thread when reading has been resumed; not called if the
                link has been closed.
            threads: run the step; by default those given to the link.
        """
        self.transport.paused = True
        self.unwatch()

        def job() -> None:
            self.transport.guard(step)
            self._engine.post(self._resume, then)

        (threads or self._threads).submit(job)

    def _offload_computing(self, step: Callable[[], Any]) -> None:
        """Run a step of a key exchange aside, so that the other nodes do not wait for it."""
        if self._reading_now:
            # No engine would continue; the reading thread may wait.
            self.transport.paused = False
            step()
        else:
            self.offload(step, lambda: None)

    def _resume(self, then: Callable[[], Any]) -> None:
        if self._closed:
            return
        with self._feeding:
            self.transport.resume()
            if self.transport.has_more:
                self._continue_later()
        self.watch()
        then()

    # -- the end --

    def _on_transport_ended(self) -> None:
        self.on_ended()

    def close(self) -> None:
        """End the transport and the stream; ``on_ended`` is not called. On any thread.

        The engine may be waiting on the stream's descriptor. In that case :meth:`unwatch` frees
        the descriptor.
        """
        with self._lock:
            self._closed = True
        self.transport.close()
        self.stream.close()
        with self._lock:
            if not self.stream.watched:
                self.stream.free()

    def abandon(self) -> None:
        """In a forked child: the connection is the parent's. Not a byte is sent on it."""
        self._closed = True
        self._lock = threading.Lock()
        self._feeding = threading.RLock()
        self.on_ended = lambda: None
        self.stream.abandon()
        self.transport.abandon()

    def drop_references(self) -> None:
        """Drop the references in a circle, so that a closed link is freed at once."""
        self.on_ended = lambda: None
        self.transport.drop_references()
