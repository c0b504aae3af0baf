"""A channel that never makes a calling thread wait."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

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
from .callbackevent import CallbackEvent
from .fields import ssh_string
from .receivebuffer import ReceiveBuffer
from .received import ReceivedMessage, cut_short, too_long
from .sending import Sending

logger = logging.getLogger("pyclustershell.ssh")

INT = struct.Struct(">I")
#: The beginning of a message for a channel: its type and the channel's number.
HEAD = struct.Struct(">BI")
_HEAD_INT = struct.Struct(">BII")
_TWO_INTS = struct.Struct(">II")

# The largest window (RFC 4254 5.2).
_MAX_WINDOW = 0xFFFFFFFF

# The beginning of the request that reports an exit status (RFC 4254 6.10); the status follows.
_EXIT_STATUS = b"\0\0\0\x0bexit-status"

# The type of extended data that is standard error (RFC 4254 5.2).
_STDERR = 1

_NOTHING = CallbackEvent(lambda: None)


class _NoWaiters:
    """Replaces a threading.Condition: no thread waits for a channel."""

    def notify_all(self) -> None:
        """Do nothing."""


_NO_WAITERS = _NoWaiters()


def text_of(message: Message) -> str:
    """Return the next field, a text of the server, made safe for terminals."""
    return printable(message.get_binary().decode("utf-8", "replace"))


class ClientChannel(paramiko.Channel):
    """A channel that reports data, its end (also by a signal) and room to write, by callbacks.

    It carries a session; or, without requests, a tunnel or a forwarded agent.

    Args:
        chanid: our number of the channel.
    """

    # paramiko's channel makes seven locks, events and conditions. No thread waits here: one lock is
    # enough. All attributes that paramiko's methods use are set here.
    def __init__(self, chanid: int) -> None:
        self.chanid = chanid
        self.remote_chanid = 0
        self.transport: Sending
        self.active = False
        self.closed = False
        self.eof_received = 0
        self.eof_sent = 0
        self.in_buffer: ReceiveBuffer = ReceiveBuffer()  # type: ignore[assignment]
        self.in_stderr_buffer: ReceiveBuffer = ReceiveBuffer()  # type: ignore[assignment]
        self.timeout = 0.0
        self.ultra_debug = False
        self.lock = threading.Lock()
        self.out_buffer_cv = _NO_WAITERS  # type: ignore[assignment]
        self.in_window_size = 0
        self.out_window_size = 0
        self.in_max_packet_size = 0
        self.out_max_packet_size = 0
        self.in_window_threshold = 0
        self.in_window_sofar = 0
        # How many bytes the server may still send; below 0 if it has sent more.
        self._room = 0
        self._allowance = 0
        # True while the server owes the answer to a request.
        self._asked = False
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
        #: True if the server closed the channel. ``closed`` is also set when the connection ends,
        #: even before the transport is no longer active.
        self.closed_by_server = False
        #: True if the server refused the request for the command or the subsystem.
        self.was_refused = False
        self._on_window: Optional[Callable[[], Any]] = None
        # Held from the check that the channel is open until the message is sent.
        self._order = threading.RLock()
        self._on_data: Optional[Callable[[memoryview], Any]] = None

    def _set_transport(self, transport: Any) -> None:
        self.transport = transport

    def _set_window(self, window_size: int, max_packet_size: int) -> None:
        self.in_window_size = window_size
        self.in_max_packet_size = max_packet_size
        self._room = window_size
        # As in OpenSSH: a tenth of the window may be exceeded.
        self._allowance = -(window_size // 10)
        # How many bytes may be read before the window is opened again. paramiko's value is a tenth
        # of the window: then every sixth packet costs a window message.
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
        """Set the callbacks for changes. Both must only post: the channel's lock may be held.

        Args:
            on_status: called on the thread that feeds the transport when the exit status has come,
                and when the channel closes. The channel's descriptor tells neither.
            on_window: called on that thread when the server grants more room for standard input.
                The descriptor does not tell that either (paramiko#695).
        """
        self.status_event = CallbackEvent(on_status)
        self._on_window = on_window

    def fileno(self) -> int:
        """The descriptor on which this channel's bytes arrive: the engine waits on it.

        It is the socket of the connection; behind a jump host, the socket of the connection that
        carries this one; with a ProxyCommand, the socket that leads to the command. It belongs to
        all channels of the connection, and it is no longer readable when the transport has been
        fed: :meth:`watch_data` tells of the data of this channel.

        ``paramiko.Channel.fileno()`` makes a pipe per channel and writes to it when the transport's
        thread has read data. Here the engine feeds the transport itself, and no pipe is needed.
        """
        return self.transport.sock.fileno()

    def watch_data(self, on_data: Callable[[], Any]) -> None:
        """Set the callback for data and for its end.

        The pipe of ``paramiko.Channel.fileno()`` would cost eight system calls for a short command,
        and the selector's bookkeeping.

        Args:
            on_data: called on the thread that feeds the transport when bytes have come on either
                stream, and at the end; called at once if there are bytes already. A buffer's lock
                is held: it must only post.
        """
        event = CallbackEvent(on_data)
        self.in_buffer.set_event(event)
        self.in_stderr_buffer.set_event(event)

    def unwatch(self) -> None:
        """Drop all callbacks: they and the channel would keep each other alive.

        Objects that refer to each other wait for the garbage collector, which then looks at every
        object of the process: a seventh of the cost of a command.
        """
        self.event = self.status_event = _NOTHING
        self._on_window = self._on_data = None
        self.in_buffer.set_event(None)
        self.in_stderr_buffer.set_event(None)

    def abandon(self) -> None:
        """In a forked child: the channel is the parent's. It sends nothing any more."""
        self.closed = True
        self.lock = threading.Lock()
        self._order = threading.RLock()

    def drop(self) -> None:
        """Close the channel, and drop all callbacks."""
        self.close()
        self.unwatch()

    @property
    def has_exit_status(self) -> bool:
        """True if the exit status or signal has come; -1 is paramiko's value for 'not yet'."""
        return self.exit_signal is not None or self.exit_status != -1

    @property
    def is_violated(self) -> bool:
        """True if the connection has ended because the server broke the protocol."""
        return self.transport.is_violated

    def request_exec(self, command: bytes, then: Callable[[], Any]) -> None:
        """Request a command (RFC 4254 6.5); ``Channel.exec_command`` waits for the answer.

        Args:
            command: the command.
            then: called on the thread that feeds the transport when the server has answered, or
                the channel has closed: see :attr:`was_granted`, :attr:`was_refused`,
                :attr:`closed_by_server`. It must only post: the channel's lock may be held.
        """
        self._request_run(b"exec", command, then)

    def request_subsystem(self, name: str, then: Callable[[], Any]) -> None:
        """Request a subsystem (RFC 4254 6.5), as :meth:`request_exec` requests a command."""
        self._request_run(b"subsystem", name.encode(), then)

    def _request_run(self, kind: bytes, name: bytes, then: Callable[[], Any]) -> None:
        def once() -> None:
            # paramiko sets the event again when the channel closes.
            self.event = _NOTHING
            then()

        self.event_ready = False
        self._asked = True
        self.event = CallbackEvent(once)
        self._send_request(kind, ssh_string(name), want_reply=True)

    @property
    def was_granted(self) -> bool:
        """True if the server granted the request for the command or the subsystem."""
        return bool(self.event_ready)

    def request_pty(self, term: str = "vt100", width: int = 80, height: int = 24) -> None:
        """Request a terminal (RFC 4254 6.2); ``Channel.get_pty`` waits for the answer."""
        size = struct.pack(">IIII", width, height, 0, 0)
        self._send_request(b"pty-req", ssh_string(term.encode()) + size + ssh_string(b""))

    def request_agent_forwarding(self) -> None:
        """Let the command use the user's agent (draft-ietf-sshm-ssh-agent); no answer comes."""
        self._send_request(b"auth-agent-req@openssh.com")

    def send_signal(self, name: str) -> None:
        """Ask the server to signal the command (RFC 4254 6.9); paramiko has no method for it.

        Does nothing if the channel is closed.

        Args:
            name: the signal's name without SIG, e.g. 'TERM'.
        """
        self._send_request(b"signal", ssh_string(name.encode()))

    def _send_request(self, kind: bytes, details: bytes = b"", want_reply: bool = False) -> None:
        head = HEAD.pack(MSG_CHANNEL_REQUEST, self.remote_chanid)
        payload = b"%b%b%b%b" % (head, ssh_string(kind), b"\1" if want_reply else b"\0", details)
        with self._order:
            if not self.closed:
                self.transport.send_payload(payload)

    # -- messages of the server, on the thread that feeds the transport --
    # Each method gets the rest of the message after the channel's number.

    def take_request(self, rest: memoryview) -> None:
        """Handle a request of the server: mostly the command's exit status."""
        if rest[: len(_EXIT_STATUS)] == _EXIT_STATUS:
            # A boolean follows, whether the server wants an answer, and the status.
            size = len(_EXIT_STATUS) + 5
            _check_size(MSG_CHANNEL_REQUEST, rest, size)
            (self.exit_status,) = INT.unpack_from(rest, size - 4)
            self.status_event.set()
            return
        m = ReceivedMessage(bytes(rest))
        m.kind = MSG_CHANNEL_REQUEST
        kind, wants_answer = m.get_binary(), m.get_boolean()
        if kind == b"exit-signal":
            # paramiko does not know exit-signal (RFC 4254 6.10): such a command would end with -1.
            signal = printable(m.get_binary().decode("utf-8", "replace"))
            m.get_boolean()
            m.get_binary()
            m.get_binary()
            m.check_end()
            self.exit_signal = signal
            self.status_event.set()
        elif wants_answer and not self.closed:
            self._refuse_request()

    def _refuse_request(self) -> None:
        with self._order:
            if not self.closed:
                self.transport.send_answer(HEAD.pack(MSG_CHANNEL_FAILURE, self.remote_chanid))

    def take_success(self, rest: memoryview) -> None:
        """Note that the server grants the request for the command."""
        self._check_answer(MSG_CHANNEL_SUCCESS, rest)
        self.event_ready = True
        self.event.set()

    def take_failure(self, rest: memoryview) -> None:
        """Note that the server refuses the request for the command."""
        self._check_answer(MSG_CHANNEL_FAILURE, rest)
        self.was_refused = True
        self.close()

    def _check_answer(self, kind: int, rest: memoryview) -> None:
        # Only the request for a command or a subsystem asks for an answer. An answer to none would
        # pass for the answer to the next request.
        _check_size(kind, rest, 0)
        if not self._asked:
            raise SSHException(f"channel {self.chanid}: answer {kind} came without a request")
        self._asked = False

    def take_eof(self, rest: memoryview) -> None:
        """Note that the server sends no more data."""
        _check_size(MSG_CHANNEL_EOF, rest, 0)
        self.eof_received = 1
        self.in_buffer.close()
        self.in_stderr_buffer.close()

    def take_close(self, rest: memoryview) -> None:
        """Note that the server closes the channel."""
        _check_size(MSG_CHANNEL_CLOSE, rest, 0)
        self.closed_by_server = True
        self.close()
        self.transport._unlink_channel(self.chanid)

    def take_window(self, rest: memoryview) -> None:
        """Add the room that the server grants for standard input."""
        (size,) = INT.unpack_from(rest)
        _check_size(MSG_CHANNEL_WINDOW_ADJUST, rest, 4)
        with self.lock:
            self.out_window_size += size
            if self.out_window_size > _MAX_WINDOW:
                raise SSHException(f"channel {self.chanid}: the server's window overflows")
        if self._on_window is not None:
            self._on_window()

    def take_data(self, rest: memoryview) -> None:
        """Take bytes of standard output."""
        (size,) = INT.unpack_from(rest)
        data = rest[4:]
        if size != len(data):
            _check_size(MSG_CHANNEL_DATA, data, size)
        self._room -= size
        if self._room < self._allowance or self.eof_received:
            self._check_data()
        if self._on_data is None:
            self.in_buffer.feed(data)
        elif data:
            self._on_data(data)

    def take_extended_data(self, rest: memoryview) -> None:
        """Take bytes of standard error. As in OpenSSH, bytes of an unknown kind are dropped."""
        kind, size = _TWO_INTS.unpack_from(rest)
        data = rest[8:]
        _check_size(MSG_CHANNEL_EXTENDED_DATA, data, size)
        self._room -= size
        self._check_data()
        if kind == _STDERR:
            (self.in_buffer if self.combine_stderr else self.in_stderr_buffer).feed(data)

    def _check_data(self) -> None:
        # Unread bytes cost memory: a server that sends more than the window allows is hostile.
        if self._room < self._allowance:
            raise SSHException(
                f"channel {self.chanid}: the server sent {-self._room} bytes more than the window "
                f"of {self.in_window_size} allows"
            )
        # The reader has been told that no more data comes: these bytes would be lost.
        if self.eof_received:
            raise SSHException(f"channel {self.chanid}: data came after its end")

    def _check_add_window(self, n: int) -> int:
        more = int(super()._check_add_window(n))
        self._room += more
        return more

    # -- sending --

    # paramiko checks that the channel is open, releases the lock, and then sends: in between,
    # another thread may close the channel. A message after the close would reach a new channel with
    # the same number, or make the server end the whole connection.

    def _send(self, s: bytes, m: Message) -> int:
        with self._order:
            return int(super()._send(s, m))

    def shutdown(self, how: int) -> None:
        """Send no more, receive no more, or both, as ``socket.shutdown`` does."""
        with self._order:
            super().shutdown(how)

    def close(self) -> None:
        """Close the channel; no message follows."""
        with self._order:
            for payload in self._end():
                self.transport.send_payload(payload)

    def _end(self) -> list[bytes]:
        """Mark the channel as closed; return the messages to send: none if it was not open."""
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
        """Pass standard output on as it comes, instead of keeping it for ``recv``.

        paramiko would copy it into an array, and out of it again. The window is not opened again
        before :meth:`grant`.

        Args:
            on_data: called on the thread that feeds the transport with each piece; it must only
                post.
        """
        self._on_data = on_data
        # Each window message wakes the server up; with half of the window it still has work.
        self.in_window_threshold = self.in_window_size // 2

    def grant(self, size: int) -> None:
        """Let the server send ``size`` more bytes: so many have been processed."""
        with self._order:
            more = self._check_add_window(size)
            if more > 0:
                self.transport.send_payload(
                    _HEAD_INT.pack(MSG_CHANNEL_WINDOW_ADJUST, self.remote_chanid, more)
                )

    def send_now(self, size: int, cut: Callable[[int], Sequence[memoryview]]) -> int:
        """Send as many bytes as there is room for now, in one packet. Never blocks.

        ``Channel.send`` copies the bytes twice, and waits for room or raises.

        Args:
            size: how many bytes there are to send.
            cut: called if there is room, with the number of bytes to send: returns them.

        Returns:
            How many bytes were sent; 0 if there is no room, or the channel is closed.
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


def _check_size(kind: int, rest: memoryview, size: int) -> None:
    """Check that the rest of a message has ``size`` bytes."""
    if len(rest) != size:
        raise cut_short(kind) if len(rest) < size else too_long(kind, len(rest) - size)


#: The methods for messages that begin with a channel's number (RFC 4254 5), except the answers to
#: its opening.
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
    """Take all bytes that have come on one stream; b'' if there are none. Never blocks.

    There are at most as many as the window allows. The window is opened again.
    """
    data = (channel.in_stderr_buffer if stderr else channel.in_buffer).empty()
    if data:
        channel.grant(len(data))
    return data


def write_available(channel: ClientChannel, data: bytes) -> int:
    """Send as many bytes as the server's window allows; return how many. Never blocks."""
    try:
        return channel.send(data)
    except socket.timeout:
        return 0
