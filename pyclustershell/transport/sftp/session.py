"""One SFTP session on one node: requests out, replies in, and what becomes of them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from ...exceptions import (
    CopyError,
    MalformedPacketError,
    NodeError,
    SessionError,
    SFTPProtocolError,
    UnsafeCopyError,
)
from ...writebuffer import WriteBuffer
from ..connection import Connection
from ..ending import SessionEnding
from ..paramiko_hooks import ClientChannel
from ..session import Assignment, RemoteSession
from ..state import Copied, Exited, Failed, Output, Started
from . import codec
from .flow import Pending, Steps, Strand
from .state import SFTP_MOVES, SftpEvent, SftpState
from .sweep import Sweep

# How many bytes of requests may wait to be sent before nothing is added to them.
_LOW_WATER = 256 << 10

# What goes out in one packet. Less than that waits for what else there is to send in this turn.
_PACKET = 32 << 10

# How many bytes one session may send before others have their turn.
_FAIR_SHARE = 512 << 10

# What a server says on stderr before it gives up is worth reading, but not all of it.
_STDERR_SHOWN = 300

# Seconds that the removal of temporary files may take where ``ssh_kill_grace`` says nothing.
_GRACE = 2.0

# Status codes that say it all. Servers have words of their own for the others; for these, one set
# of words lets the failures of many nodes be told as one.
_CLEAR_CODES = (codec.NO_SUCH_FILE, codec.PERMISSION_DENIED)

# How many failures of one node are told; the others are counted.
_FAILURES_TOLD = 20


class _Request:
    """A request whose reply is awaited."""

    __slots__ = ("error", "expected", "path", "pending", "received", "sink", "size")

    def __init__(self, expected: type[Any], path: bytes) -> None:
        self.pending: Pending[Any] = Pending()
        self.expected = expected
        self.path = path
        # Of a READ: who takes the data, how much was asked for, how much has come.
        self.sink: Optional[Callable[[int, memoryview], Any]] = None
        self.size = 0
        self.received = 0
        self.error: Optional[CopyError] = None


class SftpSession(RemoteSession[SftpState, SftpEvent]):
    """An SFTP session that runs one job, from the request for a connection to the last reply.

    Requests are numbered, and sent as fast as the server takes them; any number of them may wait
    for their replies. The job is a coroutine that awaits replies (see ``flow.py``).

    Replies do not come through the channel's descriptor: paramiko would copy every byte into an
    array and out of it, and the server's bytes are copied often enough. What has been decrypted
    goes into a queue, from which the engine takes it in its next pass.

    What it delivers: Started, Copied..., Output..., then Exited or Failed. Aborted, it removes its
    temporary files within ``kill_grace`` seconds.

    Args:
        assignment: with which node, and for whom.
        job: makes the coroutine to run.

    Attributes:
        extensions: what the server can do beyond version 3, with its own words to each.
        copied: how many bytes of files have been copied; for the job to count.
        temporaries: the remote files that must not outlive the session, for the job to keep.
        stdin: never sent: a copy has no standard input.
    """

    asks_for = "subsystem"
    refusal = "The server has no SFTP subsystem, or refused it (see Subsystem in sshd_config(5))"
    # At least half of it is open, see ClientChannel.divert(): as much as one node is read ahead.
    window = 4 << 20
    moves = SFTP_MOVES
    first_state = SftpState.OPENING
    last_state = SftpState.DONE
    closed_event = SftpEvent.CLOSED
    aborted_event = SftpEvent.ABORTED

    def __init__(self, assignment: Assignment, job: Callable[[SftpSession], Steps]) -> None:
        super().__init__(assignment)
        self.extensions: dict[bytes, bytes] = {}
        self.copied = 0
        self.temporaries: set[bytes] = set()
        self.stdin = WriteBuffer()
        self._job = job
        # What comes in: put in where the transport is fed, taken out on the engine's thread. Each
        # of the two counts for itself, so that a server that ignores the window is noticed.
        self._chunks: deque[memoryview] = deque()
        self._arrived = 0
        self._taken = 0
        self._data_posted = False
        self._decoder = codec.Decoder()
        self._greeting = b""
        self._version: Pending[codec.Version] = Pending()
        # What goes out: packets, and how many bytes of the first one are still to be sent where it
        # has been begun.
        self._out: deque[memoryview] = deque()
        self._out_size = 0
        self._rest_of_packet = 0
        self._hungry: deque[Pending[None]] = deque()
        self._blocked = False
        self._awaits_share = False
        self._asked: dict[int, _Request] = {}
        self._last_number = 0
        # The job.
        self._main: Optional[Strand] = None
        self._closers: list[Callable[[], Any]] = []
        self._finished = False
        self._failures: list[CopyError] = []
        self._failures_untold = 0
        self._told = 0

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
        self._main = Strand(self._run(), self._on_end)
        self._main.go_on()
        self._turn_over()
        # What came before somebody listened.
        self._on_status()

    async def _run(self) -> None:
        version = await self._version
        if version.version < codec.VERSION_SPOKEN:
            raise SFTPProtocolError(
                self.settings.node, f"The server speaks version {version.version} of SFTP, not 3"
            )
        self.extensions = version.extensions
        self._move(SftpEvent.GREETED)
        await self._job(self)

    # -- for the job --

    @property
    def sessions_at_once(self) -> int:
        """How many nodes are busy in this run: what each may keep in memory depends on it."""
        return max(1, self._engine.active)

    def ask(
        self,
        kind: int,
        fields: bytes,
        expected: type[Any],
        path: bytes,
        data: Optional[memoryview] = None,
    ) -> Pending[Any]:
        """Make a request, which is sent when the callbacks of this turn have been made.

        Args:
            kind: its type.
            fields: its fields.
            expected: the class of the reply: Status, Handle, Names, Attributes or Extended.
            path: what it is about, for errors.
            data: what to send behind it, as a part of it.

        Returns:
            What will hold the reply's contents (of a Status, None). It fails with a CopyError where
            the server refuses.
        """
        return self._ask(kind, fields, _Request(expected, path), data).pending

    def ask_for_data(
        self, fields: bytes, path: bytes, size: int, sink: Callable[[int, memoryview], Any]
    ) -> Pending[int]:
        """Make a READ request.

        Args:
            fields: its fields.
            path: what it is about, for errors.
            size: how many bytes it asks for.
            sink: called with each piece of the data as it comes: where it begins, counted from the
                first byte asked for, and the piece. It may raise CopyError.

        Returns:
            What will hold the number of bytes that came: 0 at the end of the file.
        """
        request = _Request(codec.Piece, path)
        request.sink = sink
        request.size = size
        return self._ask(codec.READ, fields, request, None).pending

    def _ask(
        self, kind: int, fields: bytes, request: _Request, data: Optional[memoryview]
    ) -> _Request:
        # 32 bits; 0 is left to the greeting.
        self._last_number = number = self._last_number % 0xFFFFFFFF + 1
        self._asked[number] = request
        self._put(codec.request(kind, number, fields, 0 if data is None else len(data)))
        if data is not None:
            self._out.append(data)
            self._out_size += len(data)
        return request

    async def room(self) -> None:
        """Wait until the server has taken most of what was to be sent."""
        while self._out_size >= _LOW_WATER:
            hungry: Pending[None] = Pending()
            self._hungry.append(hungry)
            await hungry

    def on_close(self, closer: Callable[[], Any]) -> None:
        """Have something closed when the session ends, however it ends: what the job has begun."""
        self._closers.append(closer)

    def report(self, error: CopyError) -> None:
        """Note that one file could not be copied; the job goes on with the others."""
        if len(self._failures) < _FAILURES_TOLD:
            self._failures.append(error)
        else:
            self._failures_untold += 1

    def error(self, path: bytes, text: str, status: Optional[int] = None) -> CopyError:
        """What a failure with a remote file is told with."""
        shown = codec.readable(path, 4096)
        return CopyError(self.settings.node, f"{shown}: {text}", path=shown, status=status)

    def unsafe(self, path: bytes, text: str) -> UnsafeCopyError:
        """What is told of a server that offers what would do harm."""
        shown = codec.readable(path, 4096)
        return UnsafeCopyError(self.settings.node, f"{shown}: {text}", path=shown)

    # -- what comes in --

    def _take_data(self, data: memoryview) -> None:
        # Where the transport is fed.
        self._arrived += len(data)
        if self._arrived - self._taken > self.window:
            # No server that counts does that. What it sends now is not even kept.
            self._engine.post(self._on_flood)
            return
        self._chunks.append(data)
        if not self._data_posted:
            self._data_posted = True
            self._engine.post(self._on_data)

    def _on_flood(self) -> None:
        self._break_off(
            SFTPProtocolError(
                self.settings.node, "The server sends more than the channel's window allows"
            )
        )

    def _on_data(self) -> None:
        # First the flag, then the look: what comes meanwhile posts again.
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
            self._break_off(self._explain(error))
            return
        self._turn_over()

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
            raise MalformedPacketError("data that was not asked for")
        start = request.received
        request.received += len(piece.data)
        if request.received + piece.left > request.size or not request.received:
            raise MalformedPacketError(
                f"{request.received + piece.left} bytes of data where {request.size} were asked for"
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
            raise MalformedPacketError("a reply to nothing that was asked")
        if isinstance(reply, codec.Status):
            self._take_status(request, reply)
        elif isinstance(reply, request.expected):
            value = reply if isinstance(reply, codec.Attributes) else reply[0]
            request.pending.resolve(value)
        else:
            raise MalformedPacketError(
                f"{type(reply).__name__} where {request.expected.__name__} was asked for"
            )

    def _take_status(self, request: _Request, status: codec.Status) -> None:
        if status.code == codec.OK:
            if request.expected is not codec.Status:
                raise MalformedPacketError(
                    f"a mere status where {request.expected.__name__} was asked for"
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
        """What it means that something else than SFTP has come."""
        node = self.settings.node
        if self._version.done:
            return SFTPProtocolError(node, f"The server broke the SFTP protocol: {error}")
        return SFTPProtocolError(
            node,
            "Garbage packet: the SFTP session begins with text, not with SFTP. A start-up file of "
            "the remote shell, such as ~/.bashrc, prints it; it must print nothing where no "
            f"terminal is: {codec.readable(self._greeting.partition(bytes(1))[0])!r}",
        )

    # -- what goes out --

    def _put(self, packet: bytes) -> None:
        self._out.append(memoryview(packet))
        self._out_size += len(packet)

    def _post_room(self) -> None:
        # Where the transport is fed: the channel's lock may be held.
        if self._out:
            self._engine.post(self._turn_over)

    def _turn_over(self) -> None:
        """The end of every callback: send, and tell what there is to tell."""
        if self.done:
            return
        self._flush()
        if self.copied != self._told:
            self._told = self.copied
            self._deliver(Copied(self.copied))
        if self._finished and not self.done:
            self._finish()

    def _flush(self) -> None:
        """Send what the server takes now, but no more than a fair share."""
        channel = self._channel
        if channel is None:
            return
        share = _FAIR_SHARE
        while True:
            while self._hungry and self._out_size < _LOW_WATER:
                self._hungry.popleft().resolve(None)
            if not self._out or not self._may_send():
                return
            if share <= 0:
                self._come_back()
                return
            size = channel.send_now(self._out_size, self._cut)
            if not size:
                return  # _post_room follows
            share -= size

    def _may_send(self) -> bool:
        """Whether what is sent now goes out, instead of being kept in memory."""
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
        self._turn_over()

    def _come_back(self) -> None:
        if not self._awaits_share:
            self._awaits_share = True
            self._engine.post(self._on_share)

    def _on_share(self) -> None:
        self._awaits_share = False
        self._turn_over()

    def _cut(self, size: int) -> list[memoryview]:
        """The next ``size`` bytes to be sent."""
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
        """The job has ended. Told by :meth:`_turn_over`, when nothing of the job is running."""
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
        lines = [error.sentence.encode() for error in others]
        if self._failures_untold:
            lines.append(f"{self._failures_untold} more files could not be copied".encode())
        if lines:
            self._deliver(Output("stderr", lines))
        self._deliver(Failed(first, rc=1))

    def _break_off(self, error: CopyError) -> None:
        """Nothing that this server sends can be used any more."""
        if self.done:
            return
        self.report(error)
        self._failures.sort(key=lambda failure: failure is not error)
        self._finish()

    def _post_status(self) -> None:
        # Where the transport is fed, perhaps with the channel's lock held.
        self._engine.post(self._on_status)

    def _on_status(self) -> None:
        """The channel was closed, or the server's program has ended: the channel will be."""
        channel = self._channel
        if self.done or channel is None or not channel.closed or not channel.closed_by_server:
            return  # where the connection has ended, on_lost follows, and knows why
        self._on_data()
        if not self._move_to_done():
            return
        text = "The server ended the SFTP session"
        if channel.exit_status > 0:
            text += f" (exit status {channel.exit_status})"
        if channel.recv_stderr_ready():
            # OpenSSH's keeps it to itself.
            text += f": {codec.readable(channel.recv_stderr(_STDERR_SHOWN), _STDERR_SHOWN)}"
        self._give_back()
        self._fail(SessionError(self.settings.node, text))

    def _on_connection_lost(self, error: NodeError) -> None:
        self._move_to_done()
        self._stop()
        self._close_channel()
        self._fail(error)

    def _stop(self) -> None:
        if self._main is not None:
            self._main.close()
        for closer in self._closers:
            closer()
        self._closers.clear()
        self._asked.clear()
        self._chunks.clear()
        self._hungry.clear()
        self._out.clear()
        self._out_size = 0

    def send_input(self) -> None:
        """Do nothing: a copy has no standard input."""

    def _ending(self, channel: ClientChannel, connection: Connection) -> Optional[SessionEnding]:
        if not self.temporaries:
            return None
        grace = _GRACE if self._kill_grace is None else self._kill_grace
        first = self._last_number + 1
        removals = {
            number & 0xFFFFFFFF: path for number, path in enumerate(sorted(self.temporaries), first)
        }
        return Sweep(
            channel,
            connection,
            self._pool,
            self._reaper,
            grace,
            self._last_words(removals),
            removals,
            self._decoder,
            list(self._chunks),
        )

    def _last_words(self, removals: Mapping[int, bytes]) -> Iterable[memoryview]:
        """What is left of the packet that has been begun, and the end of temporary files."""
        views = []
        rest = self._rest_of_packet
        while rest:
            views.append(self._out[0][:rest])
            rest -= len(views[-1])
            self._out.popleft()
        for number, path in removals.items():
            packet = codec.request(codec.REMOVE, number, codec.string(path))
            views.append(memoryview(packet))
        return views
