"""One SFTP session on one node: sends requests, and resolves them with the replies."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Callable, Optional

from ...buffers import WriteBuffer
from ...exceptions import (
    CopyError,
    MalformedPacketError,
    NodeError,
    SessionError,
    SFTPProtocolError,
    UnsafeCopyError,
)
from ...printable import printable_line
from ...records import Copied, Exited, Failed, Output, Started
from ..cleanup import RemoteCleanup
from ..connection import Connection
from ..protocol import ClientChannel
from ..protocol.fields import ssh_string
from ..session import RemoteSession, SessionContext
from . import codec
from .coroutines import CoroutineRunner, Future, Steps
from .sftpstates import SFTP_MOVES, SftpEvent, SftpState
from .tempfiles import TempFileCleanup

# A job that has queued more bytes than this waits before it adds requests.
_LOW_WATER = 256 << 10

# The bytes that go out in one packet. Fewer bytes wait for more requests of the same callback.
_PACKET = 32 << 10

# At most this many bytes are sent for one session before others are served.
_FAIR_SHARE = 512 << 10

# The number of bytes of a server's stderr that are shown when it ends the session.
_STDERR_SHOWN = 300

# Seconds that the removal of temporary files may take if ``ssh_kill_grace`` is None.
_GRACE = 2.0

# Status codes that need no text of the server. The same text for all servers lets the failures of
# many nodes be reported as one.
_CLEAR_CODES = (codec.NO_SUCH_FILE, codec.PERMISSION_DENIED)

# The number of failures of one node that are reported; the others are counted.
_MOST_FAILURES = 20


class _Request:
    """A request that waits for its reply."""

    __slots__ = ("error", "expected", "path", "pending", "received", "sink", "size")

    def __init__(self, expected: type[Any], path: bytes) -> None:
        self.pending: Future[Any] = Future()
        self.expected = expected
        self.path = path
        # Of a READ: the receiver of the data, how many bytes were requested, how many have come.
        self.sink: Optional[Callable[[int, memoryview], Any]] = None
        self.size = 0
        self.received = 0
        self.error: Optional[CopyError] = None


class SftpSession(RemoteSession[SftpState, SftpEvent]):
    """An SFTP session that runs one job, from the request for a connection to the last reply.

    Requests are numbered, and sent as fast as the server takes them; any number of them may wait
    for their replies. The job is a coroutine that awaits replies (see :mod:`.coroutines`).

    Replies do not pass through paramiko's buffer, which would copy every byte into an array and out
    of it. Decrypted bytes go into a queue, and the engine takes them in its next pass.

    It delivers Started, Copied..., Output..., then Exited or Failed. If it is aborted, it removes
    its temporary files within ``kill_grace`` seconds.

    Args:
        context: the node, the engine and the receiver of the records.
        job: makes the coroutine to run.

    Attributes:
        extensions: the server's extensions to version 3, each with its data.
        copied: how many bytes of files have been copied; the job counts them.
        temporaries: the remote files that must not outlive the session; the job keeps this.
        asides: the remote files that have been renamed to be replaced, and the names to give back
            to them if the session is aborted; the job keeps this.
        stdin: never sent: a copy has no standard input.
    """

    request_type = "subsystem"
    refusal = "The server has no SFTP subsystem, or refused it (see Subsystem in sshd_config(5))"
    # At least half of the window is open, see ClientChannel.divert(): as many bytes as one session
    # reads ahead.
    window = 4 << 20
    moves = SFTP_MOVES
    first_state = SftpState.OPENING
    last_state = SftpState.DONE
    closed_event = SftpEvent.CLOSED
    aborted_event = SftpEvent.ABORTED

    def __init__(self, context: SessionContext, job: Callable[[SftpSession], Steps]) -> None:
        super().__init__(context)
        self.extensions: dict[bytes, bytes] = {}
        self.copied = 0
        self.temporaries: set[bytes] = set()
        self.asides: dict[bytes, bytes] = {}
        self.stdin = WriteBuffer()
        self._job = job
        # Received bytes: added on the thread that feeds the transport, taken on the engine's. Each
        # side counts its bytes, to notice a server that ignores the window.
        self._chunks: deque[memoryview] = deque()
        self._arrived = 0
        self._taken = 0
        self._data_posted = False
        self._decoder = codec.Decoder()
        self._greeting = b""
        self._version: Future[codec.Version] = Future()
        # Packets to send, and how many bytes of the first one are left if it has been sent in part.
        self._out: deque[memoryview] = deque()
        self._out_size = 0
        self._rest_of_packet = 0
        self._room_waiters: deque[Future[None]] = deque()
        self._blocked = False
        self._flush_posted = False
        self._asked: dict[int, _Request] = {}
        self._last_number = 0
        # The job.
        self._main: Optional[CoroutineRunner] = None
        self._closers: list[Callable[[], Any]] = []
        self._finished = False
        self._failures: list[CopyError] = []
        self._failures_unreported = 0
        self._copied_reported = 0

    def __repr__(self) -> str:
        waiting = f", {len(self._asked)} replies awaited" if self._asked else ""
        return f"<SftpSession on {self.settings.node}: {self.state.value}{waiting}>"

    # -- the start --

    def _request(self, channel: ClientChannel) -> None:
        channel.watch(self._post_status, self._post_room)
        channel.divert(self._take_data)
        channel.request_subsystem("sftp", self._post_answer)

    def _on_granted(self, channel: ClientChannel) -> None:
        self._move(SftpEvent.GRANTED)
        if self._connection is not None:
            self._connection.watch_peer()
        self._deliver(Started())
        if self.done:
            return
        self._put(codec.init())
        self._main = CoroutineRunner(self._run(), self._on_end)
        self._main.resume()
        self._send_and_report()
        # Take changes that came before the answer was handled.
        self._on_status()

    async def _run(self) -> None:
        version = await self._version
        if version.version < codec.VERSION_SPOKEN:
            raise SFTPProtocolError(
                self.settings.node, f"The server speaks version {version.version} of SFTP, not 3"
            )
        self.extensions = version.extensions
        self._move(SftpEvent.GREETED)
        # Not kept: the job's object refers to this one, and such a cycle waits for the collector.
        job = self._job
        del self._job
        await job(self)

    # -- for the job --

    @property
    def sessions_at_once(self) -> int:
        """How many nodes are busy in this run; each one's share of memory depends on it."""
        return max(1, self._engine.active)

    def ask(
        self,
        kind: int,
        fields: bytes,
        expected: type[Any],
        path: bytes,
        data: Optional[memoryview] = None,
    ) -> Future[Any]:
        """Make a request; it is sent after the callback that made it.

        Args:
            kind: its type.
            fields: its encoded fields.
            expected: the class of the reply: Status, Handle, Names, Attributes or Extended.
            path: the path that it concerns, for errors.
            data: bytes to send after the fields, as a part of the request.

        Returns:
            A future of the reply's contents (None for a Status). It fails with a CopyError if the
            server refuses.
        """
        return self._ask(kind, fields, _Request(expected, path), data).pending

    def ask_for_data(
        self, fields: bytes, path: bytes, size: int, sink: Callable[[int, memoryview], Any]
    ) -> Future[int]:
        """Make a READ request.

        Args:
            fields: its encoded fields.
            path: the path of the file, for errors.
            size: how many bytes it requests.
            sink: called with each piece of the data as it comes: its offset from the first byte
                requested, and the piece. It may raise CopyError.

        Returns:
            A future of the number of bytes that came: 0 at the end of the file.
        """
        request = _Request(codec.Piece, path)
        request.sink = sink
        request.size = size
        return self._ask(codec.READ, fields, request, None).pending

    def _ask(
        self, kind: int, fields: bytes, request: _Request, data: Optional[memoryview]
    ) -> _Request:
        # 32 bits; 0 stands for the greeting.
        self._last_number = number = self._last_number % 0xFFFFFFFF + 1
        self._asked[number] = request
        self._put(codec.request(kind, number, fields, 0 if data is None else len(data)))
        if data is not None:
            self._out.append(data)
            self._out_size += len(data)
        return request

    async def room(self) -> None:
        """Wait until the server has taken most of the queued bytes."""
        while self._out_size >= _LOW_WATER:
            waiter: Future[None] = Future()
            self._room_waiters.append(waiter)
            await waiter

    def on_close(self, closer: Callable[[], Any]) -> None:
        """Call a function when the session ends, for any reason, to close things of the job."""
        self._closers.append(closer)

    def report(self, error: CopyError) -> None:
        """Record that one file could not be copied; the job continues with the others."""
        error.__traceback__ = None  # its frames refer to this session
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append(error)
        else:
            self._failures_unreported += 1

    def error(self, path: bytes, text: str, status: Optional[int] = None) -> CopyError:
        """Make the error for a failure with a remote file."""
        shown = printable_line(path, 4096)
        return CopyError(self.settings.node, f"{shown}: {text}", path=shown, status=status)

    def unsafe(self, path: bytes, text: str) -> UnsafeCopyError:
        """Make the error for a server's name, link or file that could do harm."""
        shown = printable_line(path, 4096)
        return UnsafeCopyError(self.settings.node, f"{shown}: {text}", path=shown)

    # -- receiving --

    def _take_data(self, data: memoryview) -> None:
        # On the thread that feeds the transport.
        self._arrived += len(data)
        if self._arrived - self._taken > self.window:
            # A correct server never does this. Drop these bytes.
            self._engine.post(self._on_flood)
            return
        self._chunks.append(data)
        if not self._data_posted:
            self._data_posted = True
            self._engine.post(self._on_data)

    def _on_flood(self) -> None:
        self._end_with_error(
            SFTPProtocolError(
                self.settings.node, "The server sends more than the channel's window allows"
            )
        )

    def _on_data(self) -> None:
        # First the flag, then the queue: bytes that come meanwhile post again.
        self._data_posted = False
        channel, connection = self._channel, self._connection
        if self.done or channel is None or connection is None:
            return
        try:
            with connection.transport.corked():
                self._decode(channel)
                if self._out_size < _PACKET:
                    self._flush()
        except MalformedPacketError as error:
            self._end_with_error(self._explain(error))
            return
        self._send_and_report()

    def _decode(self, channel: ClientChannel) -> None:
        for _ in range(len(self._chunks)):
            chunk = self._chunks.popleft()
            if not self._version.done:
                self._greeting += chunk[: 200 - len(self._greeting)]
            for found in self._decoder.feed(chunk):
                if isinstance(found, codec.Piece):
                    self._take_piece(found)
                else:
                    self._take_answer(found)
            self._taken += len(chunk)
            channel.grant(len(chunk))

    def _take_piece(self, piece: codec.Piece) -> None:
        request = self._asked.get(piece.number)
        if request is None or request.sink is None:
            raise MalformedPacketError("data that was not requested")
        start = request.received
        request.received += len(piece.data)
        if request.received + piece.left > request.size or not request.received:
            raise MalformedPacketError(
                f"{request.received + piece.left} bytes of data, and {request.size} were requested"
            )
        if request.error is None:
            try:
                request.sink(start, piece.data)
            except CopyError as error:
                request.error = error
        if not piece.left:
            del self._asked[piece.number]
            if request.error is not None:
                request.pending.fail(request.error)
            else:
                request.pending.resolve(request.received)

    def _take_answer(self, answer: codec.Answer) -> None:
        reply = answer.reply
        if isinstance(reply, codec.Version):
            if self._version.done:
                raise MalformedPacketError("a second greeting")
            self._version.resolve(reply)
            return
        request = self._asked.pop(answer.number, None)
        if request is None:
            raise MalformedPacketError("a reply without a request")
        if isinstance(reply, codec.Status):
            self._take_status(request, reply)
        elif isinstance(reply, request.expected):
            value = reply if isinstance(reply, codec.Attributes) else reply[0]
            request.pending.resolve(value)
        else:
            raise MalformedPacketError(
                f"a reply of type {type(reply).__name__}, not {request.expected.__name__}"
            )

    def _take_status(self, request: _Request, status: codec.Status) -> None:
        if status.code == codec.OK:
            if request.expected is not codec.Status:
                raise MalformedPacketError(
                    f"a reply of type Status, not {request.expected.__name__}"
                )
            request.pending.resolve(None)
        elif status.code == codec.EOF and request.expected is codec.Piece:
            request.pending.resolve(0)
        elif status.code == codec.EOF and request.expected is codec.Names:
            request.pending.resolve([])
        else:
            known = status.code < len(codec.STATUS_TEXTS)
            text = codec.STATUS_TEXTS[status.code] if known else f"status {status.code}"
            if status.code not in _CLEAR_CODES and status.message not in ("", text):
                text = status.message if known else f"{status.message} ({text})"
            request.pending.fail(self.error(request.path, text, status.code))

    def _explain(self, error: MalformedPacketError) -> SFTPProtocolError:
        """Make the error for bytes that are no SFTP."""
        node = self.settings.node
        if self._version.done:
            return SFTPProtocolError(node, f"The server broke the SFTP protocol: {error}")
        return SFTPProtocolError(
            node,
            "Garbage packet: the SFTP session begins with text, not with SFTP. A start-up file of "
            "the remote shell, such as ~/.bashrc, prints it; it must print nothing without a "
            f"terminal: {printable_line(self._greeting.partition(bytes(1))[0])!r}",
        )

    # -- sending --

    def _put(self, packet: bytes) -> None:
        self._out.append(memoryview(packet))
        self._out_size += len(packet)

    def _post_room(self) -> None:
        # On the thread that feeds the transport: the channel's lock may be held.
        if self._out:
            self._engine.post(self._send_and_report)

    def _send_and_report(self) -> None:
        """End every callback with this: send requests, and deliver records."""
        if self.done:
            return
        self._flush()
        if self.copied != self._copied_reported:
            self._copied_reported = self.copied
            self._deliver(Copied(self.copied))
        if self._finished and not self.done:
            self._finish()

    def _flush(self) -> None:
        """Send as many bytes as the server takes now, up to a fair share."""
        channel = self._channel
        if channel is None:
            return
        share = _FAIR_SHARE
        while True:
            while self._room_waiters and self._out_size < _LOW_WATER:
                self._room_waiters.popleft().resolve(None)
            if not self._out or not self._may_send():
                return
            if share <= 0:
                self._flush_later()
                return
            size = channel.send_now(self._out_size, self._cut)
            if not size:
                return  # _post_room follows
            share -= size

    def _may_send(self) -> bool:
        """True if bytes sent now go out, and are not queued in memory."""
        connection = self._connection
        if self._blocked or connection is None:
            return False
        self._blocked = not (
            connection.transport.is_clear(lambda: self._engine.post(self._on_unblocked))
            and connection.is_drained(self._on_unblocked)
        )
        return not self._blocked

    def _on_unblocked(self) -> None:
        self._blocked = False
        self._send_and_report()

    def _flush_later(self) -> None:
        if not self._flush_posted:
            self._flush_posted = True
            self._engine.post(self._on_flush_due)

    def _on_flush_due(self) -> None:
        self._flush_posted = False
        self._send_and_report()

    def _cut(self, size: int) -> list[memoryview]:
        """Take the next ``size`` bytes to send."""
        self._out_size -= size
        out = self._out
        views = []
        while size:
            view = out[0]
            if not self._rest_of_packet:
                self._rest_of_packet = 4 + struct.unpack_from(">I", view)[0]
            if len(view) <= size:
                out.popleft()
            else:
                out[0] = view[size:]
                view = view[:size]
            self._rest_of_packet -= len(view)
            size -= len(view)
            views.append(view)
        return views

    # -- the end --

    def _on_end(self, error: Optional[CopyError]) -> None:
        """Note the end of the job; :meth:`_send_and_report` delivers it, not the job's code."""
        if error is not None:
            self.report(error)
        self._finished = True

    def _finish(self) -> None:
        self._move(SftpEvent.FINISHED)
        self._give_back()
        if not self._failures:
            self._deliver(Exited(0))
            return
        first, *others = self._failures
        lines = [error.encoded_sentence for error in others]
        if self._failures_unreported:
            lines.append(f"{self._failures_unreported} more files could not be copied".encode())
        if lines:
            self._deliver(Output("stderr", lines))
        self._deliver(Failed(first, rc=1))

    def _end_with_error(self, error: CopyError) -> None:
        """End the session with an error: the server's bytes cannot be used any more."""
        if self.done:
            return
        self.report(error)
        self._failures.sort(key=lambda failure: failure is not error)
        self._finish()

    def _post_status(self) -> None:
        # On the thread that feeds the transport: the channel's lock may be held.
        self._engine.post(self._on_status)

    def _on_status(self) -> None:
        """The channel was closed; or the server's program has ended, and the close follows."""
        channel = self._channel
        if self.done or channel is None or not channel.closed or not channel.closed_by_server:
            return  # if the connection has ended, on_lost() follows and knows the reason
        self._on_data()
        if not self._move_to_done():
            return
        text = "The server ended the SFTP session"
        if channel.exit_status > 0:
            text += f" (exit status {channel.exit_status})"
        if channel.recv_stderr_ready():
            # (OpenSSH's server sends nothing.)
            text += f": {printable_line(channel.recv_stderr(_STDERR_SHOWN), _STDERR_SHOWN)}"
        self._give_back()
        self._fail(SessionError(self.settings.node, text))

    def _on_connection_lost(self, error: NodeError) -> None:
        self._move_to_done()
        self._stop()
        self._close_channel()
        self._fail(error)

    def pause_output(self, paused: bool) -> None:
        """Do nothing: a copy has no output to hold back."""

    def _stop(self) -> None:
        if self._main is not None:
            self._main.close()
        for closer in self._closers:
            closer()
        self._closers.clear()
        self._asked.clear()
        self._chunks.clear()
        self._room_waiters.clear()
        self._out.clear()
        self._out_size = 0

    def send_input(self) -> None:
        """Do nothing: a copy has no standard input."""

    def _cleanup(self, channel: ClientChannel, connection: Connection) -> Optional[RemoteCleanup]:
        if not self.temporaries and not self.asides:
            return None
        grace = _GRACE if self._kill_grace is None else self._kill_grace
        packets, follow_ups = self._last_requests()
        views = self._rest_of_sent_packet() + [memoryview(p) for p in packets.values()]
        cleanup = TempFileCleanup(channel, connection, self._pool.cleanups, grace)
        cleanup.prepare(views, packets, follow_ups, self._decoder, list(self._chunks))
        return cleanup

    def _last_requests(self) -> tuple[dict[int, bytes], dict[int, tuple[int, bytes]]]:
        """Make the requests that clean up, by their numbers.

        Returns:
            The requests to send now. Then the requests that each follow a reply with attributes, by
            the number of the request that the reply is for.
        """
        packets: dict[int, bytes] = {}
        follow_ups: dict[int, tuple[int, bytes]] = {}

        def make(kind: int, *paths: bytes) -> tuple[int, bytes]:
            self._last_number = number = self._last_number % 0xFFFFFFFF + 1
            return number, codec.request(kind, number, b"".join(map(ssh_string, paths)))

        for aside, path in sorted(self.asides.items()):
            # RENAME fails if the new file has the name already. Only then there is one to look at,
            # and only then the old one may be removed.
            packets.update([make(codec.RENAME, aside, path)])
            number, packet = make(codec.LSTAT, path)
            packets[number] = packet
            follow_ups[number] = make(codec.REMOVE, aside)
        for path in sorted(self.temporaries):
            packets.update([make(codec.REMOVE, path)])
        return packets, follow_ups

    def _rest_of_sent_packet(self) -> list[memoryview]:
        """Return the bytes that are left of a packet sent in part."""
        views = []
        rest = self._rest_of_packet
        while rest:
            views.append(self._out[0][:rest])
            rest -= len(views[-1])
            self._out.popleft()
        return views
