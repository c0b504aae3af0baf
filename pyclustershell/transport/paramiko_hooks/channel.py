"""A channel that never makes a calling thread wait."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

import paramiko
from paramiko import SSHException
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message

from ...printable import printable
from ..chunks import ChunkPipe
from .then import Then

if TYPE_CHECKING:
    from .transport import ClientTransport

logger = logging.getLogger("pyclustershell.transport")

INT = struct.Struct(">I")
#: How a message that concerns a channel begins: its type, the channel's number.
HEAD = struct.Struct(">BI")
_HEAD_INT = struct.Struct(">BII")

_NOTHING = Then(lambda: None)


class _Nobody:
    """Who waits for a channel: stands in for a threading.Condition."""

    def notify_all(self) -> None:
        """Do nothing."""


_NOBODY = _Nobody()


def string(data: bytes) -> bytes:
    """Bytes as a field of a message (RFC 4251 5)."""
    return INT.pack(len(data)) + data


def text_of(message: Message) -> str:
    """The next field, which a server wrote for people to read: it will be shown on terminals."""
    return printable(message.get_binary().decode("utf-8", "replace"))


class ClientChannel(paramiko.Channel):
    """A channel of ours that tells of its end, also by a signal, and of room to write.

    A session's; or, then without requests, a tunnel's or a forwarded agent's.
    """

    # paramiko's makes seven locks, events and conditions. Nobody waits here: a lock is enough.
    def __init__(self, chanid: int) -> None:
        self.chanid = chanid
        self.remote_chanid = 0
        self.transport: ClientTransport
        self.active = False
        self.closed = False
        self.eof_received = 0
        self.eof_sent = 0
        self.in_buffer: ChunkPipe = ChunkPipe()  # type: ignore[assignment]
        self.in_stderr_buffer: ChunkPipe = ChunkPipe()  # type: ignore[assignment]
        self.timeout = 0.0
        self.ultra_debug = False
        self.lock = threading.Lock()
        self.out_buffer_cv = _NOBODY  # type: ignore[assignment]
        self.in_window_size = 0
        self.out_window_size = 0
        self.in_max_packet_size = 0
        self.out_max_packet_size = 0
        self.in_window_threshold = 0
        self.in_window_sofar = 0
        self.status_event = self.event = _NOTHING
        self.event_ready = False
        self.logger = logger
        self.combine_stderr = False
        self.exit_status = -1
        self.origin_addr = None
        self._name = str(chanid)
        self._pipe = None
        #: The signal that ended the command (RFC 4254 6.10), e.g. 'KILL'.
        self.exit_signal: Optional[str] = None
        #: Whether the server closed the channel. ``closed`` is also set when the connection ends,
        #: before the transport says that it is not active any more.
        self.closed_by_server = False
        #: Whether the server refused the request for the command, or the subsystem.
        self.was_refused = False
        self._on_window: Optional[Callable[[], Any]] = None
        # Held from the look whether the channel is open to the message that goes out.
        self._order = threading.RLock()
        self._on_data: Optional[Callable[[memoryview], Any]] = None

    def _set_transport(self, transport: Any) -> None:
        self.transport = transport

    def _set_window(self, window_size: int, max_packet_size: int) -> None:
        self.in_window_size = window_size
        self.in_max_packet_size = max_packet_size
        # How many bytes may be read before the window is opened again: a tenth is paramiko's, and
        # then every sixth packet costs one that says so.
        self.in_window_threshold = window_size // 4

    def _set_remote_channel(self, chanid: int, window_size: int, max_packet_size: int) -> None:
        self.remote_chanid = chanid
        self.out_window_size = window_size
        self.out_max_packet_size = self.transport._sanitize_packet_size(max_packet_size)
        self.active = True

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        # See ClientTransport._log.
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("channel %s: %s", self.chanid, msg % args if args else msg)

    def watch(self, on_status: Callable[[], Any], on_window: Callable[[], Any]) -> None:
        """Have changes told. Both callbacks must only post: the channel's lock may be held.

        Args:
            on_status: called where the transport is fed when the exit status has come, and when
                the channel closes. The channel's descriptor tells of neither.
            on_window: called there when the server grants more room for standard input, of which
                the descriptor does not tell either (paramiko#695).
        """
        self.status_event = Then(on_status)
        self._on_window = on_window

    def watch_data(self, on_data: Callable[[], Any]) -> None:
        """Have data told, and the end of it, without a descriptor.

        ``Channel.fileno()`` makes a pipe (two descriptors), writes to it and reads from it: eight
        system calls for a short command, and the selector's bookkeeping.

        Args:
            on_data: called where the transport is fed when something has come on either stream, and
                when no more will; also at once, where there is something. A buffer's lock is held:
                it must only post.
        """
        event = Then(on_data)
        self.in_buffer.set_event(event)
        self.in_stderr_buffer.set_event(event)

    def unwatch(self) -> None:
        """Have nothing told any more: what was told would keep the channel alive, and it that.

        Objects that refer to each other wait for the garbage collector, which then looks at every
        object of the process: a seventh of what a command costs.
        """
        self.event = self.status_event = _NOTHING
        self._on_window = self._on_data = None
        self.in_buffer.set_event(None)
        self.in_stderr_buffer.set_event(None)

    def drop(self) -> None:
        """Close the channel, and have nothing told any more."""
        self.close()
        self.unwatch()

    @property
    def has_exit_status(self) -> bool:
        """Whether the command's end has been told; -1 is paramiko's 'not yet'."""
        return self.exit_signal is not None or self.exit_status != -1

    def request_exec(self, command: bytes, then: Callable[[], Any]) -> None:
        """Ask for a command (RFC 4254 6.5); ``Channel.exec_command`` waits for the answer.

        Args:
            command: the command.
            then: called where the transport is fed when the server has answered, or the channel has
                closed: see :attr:`was_granted`, :attr:`was_refused`, :attr:`closed_by_server`. It
                must only post: the channel's lock may be held.
        """
        self._request_run(b"exec", command, then)

    def request_subsystem(self, name: str, then: Callable[[], Any]) -> None:
        """Ask for a subsystem (RFC 4254 6.5), as :meth:`request_exec` asks for a command."""
        self._request_run(b"subsystem", name.encode(), then)

    def _request_run(self, kind: bytes, what: bytes, then: Callable[[], Any]) -> None:
        def once() -> None:
            # paramiko sets the event again when the channel closes.
            self.event = _NOTHING
            then()

        self.event_ready = False
        self.event = Then(once)
        self._send_request(kind, string(what), want_reply=True)

    @property
    def was_granted(self) -> bool:
        """Whether the server granted the request for the command, or the subsystem."""
        return bool(self.event_ready)

    def request_pty(self, term: str = "vt100", width: int = 80, height: int = 24) -> None:
        """Ask for a terminal (RFC 4254 6.2); ``Channel.get_pty`` waits for the answer."""
        size = struct.pack(">IIII", width, height, 0, 0)
        self._send_request(b"pty-req", string(term.encode()) + size + string(b""))

    def request_agent_forwarding(self) -> None:
        """Let the command ask the user's agent (draft-ietf-sshm-ssh-agent); no answer comes."""
        self._send_request(b"auth-agent-req@openssh.com")

    def send_signal(self, name: str) -> None:
        """Have a signal sent to the command (RFC 4254 6.9), which paramiko cannot.

        Args:
            name: the signal's name without SIG, e.g. 'TERM'.
        """
        self._send_request(b"signal", string(name.encode()))

    def _send_request(self, kind: bytes, details: bytes = b"", want_reply: bool = False) -> None:
        head = HEAD.pack(MSG_CHANNEL_REQUEST, self.remote_chanid)
        self.transport.send_payload(
            b"%b%b%b%b" % (head, string(kind), b"\1" if want_reply else b"\0", details)
        )

    # -- what the server says, where the transport is fed: all that follows the channel's number --

    def take_request(self, rest: memoryview) -> None:
        """A request of the server: the command's exit status, mostly."""
        m = Message(bytes(rest))
        kind = m.get_binary()
        if kind == b"exit-status":
            m.get_boolean()
            self.exit_status = m.get_int()
            self.status_event.set()
        elif kind == b"exit-signal":
            # paramiko does not know it (RFC 4254 6.10): such a command would end with -1.
            m.get_boolean()
            self.exit_signal = m.get_text()
            self.status_event.set()
        else:
            m.rewind()
            self._handle_request(m)

    def take_success(self, _rest: memoryview) -> None:
        """The server grants the request for the command."""
        self.event_ready = True
        self.event.set()

    def take_failure(self, _rest: memoryview) -> None:
        """The server refuses the request for the command."""
        self.was_refused = True
        self.close()

    def take_eof(self, _rest: memoryview) -> None:
        """The server sends no more."""
        self.eof_received = 1
        self.in_buffer.close()
        self.in_stderr_buffer.close()

    def take_close(self, _rest: memoryview) -> None:
        """The server closes the channel."""
        self.closed_by_server = True
        self.close()
        self.transport._unlink_channel(self.chanid)

    def take_window(self, rest: memoryview) -> None:
        """The server grants room for standard input."""
        (size,) = INT.unpack_from(rest)
        with self.lock:
            self.out_window_size += size
        if self._on_window is not None:
            self._on_window()

    def take_data(self, rest: memoryview) -> None:
        """Standard output has come."""
        (size,) = INT.unpack_from(rest)
        data = rest[4 : 4 + size]
        if self._on_data is None:
            self.in_buffer.feed(data)
            self._check_window()
        elif data:
            self._on_data(data)

    def take_extended_data(self, rest: memoryview) -> None:
        """Standard error has come."""
        self._feed_extended(Message(bytes(rest)))
        self._check_window()

    def _check_window(self) -> None:
        # What is not read here costs memory: a server that sends more than it may is hostile.
        size = self.in_buffer.size + self.in_stderr_buffer.size
        if size > self.in_window_size:
            raise SSHException(
                f"the server sent {size} bytes, and a window of {self.in_window_size} was granted"
            )

    # -- sending --

    # paramiko looks whether the channel is open, and sends after it has let go of the lock: by
    # then the channel may be closed from another thread. Data after the close would reach whoever
    # has been given the channel's number since, or have the server end the whole connection.

    def _send(self, s: bytes, m: Message) -> int:
        with self._order:
            return int(super()._send(s, m))

    def shutdown(self, how: int) -> None:
        """Send no more, receive no more, or both, as ``socket.shutdown`` has it."""
        with self._order:
            super().shutdown(how)

    def close(self) -> None:
        """Close the channel; nothing is sent any more."""
        with self._order:
            for payload in self._end():
                self.transport.send_payload(payload)

    def _end(self) -> list[bytes]:
        """Close it; the messages that say so. None where it is closed already, or never opened."""
        with self.lock:
            if not self.active or self.closed:
                return []
            close = HEAD.pack(MSG_CHANNEL_CLOSE, self.remote_chanid)
            eof = HEAD.pack(MSG_CHANNEL_EOF, self.remote_chanid)
            payloads = [close] if self.eof_sent else [eof, close]
            self.eof_sent = 1
            self._set_closed()
        return payloads

    # -- data without copies --

    def divert(self, on_data: Callable[[memoryview], Any]) -> None:
        """Have standard output handed over as it comes, instead of being kept for ``recv``.

        There it would be copied into an array, and out of it again. The window is not opened again
        before :meth:`grant`.

        Args:
            on_data: called where the transport is fed with each piece; it must only post.
        """
        self._on_data = on_data
        # Every packet costs the server's waking up; half of the window is enough to go on with.
        self.in_window_threshold = self.in_window_size // 2

    def grant(self, size: int) -> None:
        """Diverted bytes have been dealt with: let the server send more."""
        with self._order:
            more = self._check_add_window(size)
            if more > 0:
                self.transport.send_payload(
                    _HEAD_INT.pack(MSG_CHANNEL_WINDOW_ADJUST, self.remote_chanid, more)
                )

    def send_now(self, size: int, cut: Callable[[int], Sequence[memoryview]]) -> int:
        """Send as much as there is room for now, in one packet. Never blocks.

        ``Channel.send`` copies what it sends twice, and waits for room or raises.

        Args:
            size: how much there is to send.
            cut: called where there is room, with how many bytes there is room for: gives them.

        Returns:
            How many bytes that were; 0 where there is no room, or the channel is closed.
        """
        with self._order:
            with self.lock:
                if self.closed or self.eof_sent:
                    return 0
                size = min(size, self.out_window_size, self.out_max_packet_size - 64)
                if size <= 0:
                    return 0
                self.out_window_size -= size
            head = _HEAD_INT.pack(MSG_CHANNEL_DATA, self.remote_chanid, size)
            self.transport.send_payload(b"".join((head, *cut(size))))
            return size


#: What takes each of the messages that begin with a channel's number (RFC 4254 5), but for those
#: that answer its opening.
CHANNEL_MESSAGES: Mapping[int, Callable[[ClientChannel, memoryview], None]] = {
    MSG_CHANNEL_CLOSE: ClientChannel.take_close,
    MSG_CHANNEL_DATA: ClientChannel.take_data,
    MSG_CHANNEL_EOF: ClientChannel.take_eof,
    MSG_CHANNEL_EXTENDED_DATA: ClientChannel.take_extended_data,
    MSG_CHANNEL_FAILURE: ClientChannel.take_failure,
    MSG_CHANNEL_REQUEST: ClientChannel.take_request,
    MSG_CHANNEL_SUCCESS: ClientChannel.take_success,
    MSG_CHANNEL_WINDOW_ADJUST: ClientChannel.take_window,
}


def read_available(channel: ClientChannel, stderr: bool) -> bytes:
    """All that has come on one stream, b'' where nothing has. Never blocks.

    It is no more than the window allows; which is opened again.
    """
    data = (channel.in_stderr_buffer if stderr else channel.in_buffer).empty()
    if data:
        channel.grant(len(data))
    return data


def write_available(channel: ClientChannel, data: bytes) -> int:
    """Send what the server's window has room for; returns how many bytes. Never blocks."""
    try:
        return channel.send(data)
    except socket.timeout:
        return 0
