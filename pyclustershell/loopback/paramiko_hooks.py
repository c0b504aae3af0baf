"""The undocumented names of paramiko that the server uses, each with the reason.

Tested against the oldest and the newest supported paramiko by tests/flow/test_loopback.py.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Callable, ClassVar, Optional, Protocol, Union, cast

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_REQUEST,
)
from paramiko.packet import Packetizer
from paramiko.sftp import CMD_EXTENDED, CMD_EXTENDED_REPLY, CMD_INIT, CMD_VERSION

Channel = paramiko.Channel
Message = paramiko.Message

# Seconds between two wake-ups of an idle connection. A silent client is noticed at the next one.
IDLE_CHECK_INTERVAL = 30.0


class ConnectionEvents(Protocol):
    """The calls of a :class:`ServerTransport` to its server object, on the transport's thread."""

    def channel_opened(self, channel: Channel) -> None:
        """A channel was opened. It is closed unless the server object keeps a reference to it."""
        ...

    def request_answered(self, channel: Channel) -> None:
        """The reply to a channel request was sent: its command or subsystem may send now."""
        ...

    def signal_requested(self, channel: Channel, name: str) -> bool:
        """The client asks for a signal (RFC 4254, 6.9); returns True if it was delivered."""
        ...

    def input_arrived(self, channel: Channel) -> None:
        """Data for the command's standard input is in the channel's buffer."""
        ...

    def input_ended(self, channel: Channel) -> None:
        """The client sent EOF, or closed the channel."""
        ...

    def connection_lost(self) -> None:
        """The connection has ended, on either side. The last call."""
        ...


def _on_request(channel: Any, message: Message) -> None:
    """Answer a channel request, then call the server object.

    paramiko does not support ``signal`` requests. And it replies only after the call of the server
    object, so a fast command could send its exit status and its close before the reply: the client
    would take that for a refusal.
    """
    events = _events(channel)
    if message.get_text() == "signal":
        want_reply = message.get_boolean()
        delivered = events.signal_requested(channel, message.get_text())
        if want_reply:
            _reply(channel, delivered)
        return
    message.rewind()
    message.get_int()  # the channel's number, which the transport has already read
    channel._handle_request(message)
    events.request_answered(channel)


def _on_data(channel: Any, message: Message) -> None:
    """Buffer data, then call the server object: no thread waits for input that may never come."""
    channel._feed(message)
    _events(channel).input_arrived(channel)


def _on_eof(channel: Any, message: Message) -> None:
    """Record the end of input, then call the server object."""
    channel._handle_eof(message)
    _events(channel).input_ended(channel)


def _on_close(channel: Any, message: Message) -> None:
    """Record the close, then call the server object: a closed channel also ends the input."""
    channel._handle_close(message)
    _events(channel).input_ended(channel)


def _events(channel: Any) -> ConnectionEvents:
    events: ConnectionEvents = channel.get_transport().server_object
    return events


def _reply(channel: Any, success: bool) -> None:
    """Answer a channel request (RFC 4254, 5.4)."""
    reply = Message()
    reply.add_byte(b"\x63" if success else b"\x64")  # SSH_MSG_CHANNEL_SUCCESS, _FAILURE
    reply.add_int(channel.remote_chanid)
    channel.get_transport()._send_user_message(reply)


def send_exit_signal(channel: Any, name: str) -> None:
    """Report that the command was killed by a signal (RFC 4254, 6.10).

    paramiko's servers can only send an exit status.

    Args:
        channel: the command's channel.
        name: the signal without "SIG".
    """
    message = Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)  # no reply wanted
    message.add_string(name)
    message.add_boolean(False)  # whether a core was dumped is unknown
    message.add_string("")  # error message
    message.add_string("")  # its language
    channel.get_transport()._send_user_message(message)


class _NameMessage(Message):
    """A request with names of files, which may be any bytes; paramiko expects UTF-8."""

    def get_text(self) -> str:
        """The next string, decoded so that ``os.fsencode`` gives the same bytes."""
        return os.fsdecode(self.get_string())


class ExtensibleSFTPServer(paramiko.SFTPServer):
    """paramiko's SFTP server, which also announces extensions, and accepts names of any bytes.

    Attributes:
        EXTENSIONS: the names of the extensions, each with its version (filexfer-02, 4.2).
    """

    EXTENSIONS: ClassVar[dict[str, str]] = {}

    def answer_extension(self, name: str, request: Message) -> Union[bytes, int, None]:
        """Answer a request of an extension.

        Args:
            name: the name of the extension.
            request: the fields of the request.

        Returns:
            The fields of the reply, an SFTP status, or None if paramiko shall answer.
        """
        return None

    def open_file(self, handle: bytes) -> Optional[paramiko.SFTPHandle]:
        """The open file of a handle; None if there is none."""
        file: Optional[paramiko.SFTPHandle] = self.file_table.get(handle)
        return file

    def _send_server_version(self) -> int:
        # paramiko announces one extension, "check-file", and cannot announce more.
        kind, data = self._read_packet()
        if kind != CMD_INIT:
            raise paramiko.SFTPError("Incompatible sftp protocol")
        message = Message()
        message.add_int(3)
        for name, version in self.EXTENSIONS.items():
            message.add_string(name)
            message.add_string(version)
        self._send_packet(CMD_VERSION, message)
        return int.from_bytes(data[:4], "big")

    def _process(self, kind: int, number: int, message: Message) -> None:
        request = _NameMessage(message.get_remainder())
        if kind == CMD_EXTENDED:
            answer = self.answer_extension(request.get_text(), request)
            if isinstance(answer, bytes):
                reply = Message()
                reply.add_int(number)
                reply.add_bytes(answer)
                self._send_packet(CMD_EXTENDED_REPLY, reply)
                return
            if answer is not None:
                self._send_status(number, answer)
                return
            request.rewind()
        super()._process(kind, number, request)


class ThreadlessPacketizer(Packetizer):
    """A packetizer that limits the time of the handshake without a thread.

    paramiko starts a timer thread for each connection and ends it with the first packet of the key
    exchange. If the client leaves before, the thread keeps the interpreter alive for 15 s.
    """

    _deadline: Optional[float] = None

    def start_handshake(self, timeout: float) -> None:
        """Set the deadline of the handshake."""
        self._deadline = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        """True if the deadline has passed. The reader calls it at each wake-up."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def complete_handshake(self) -> None:
        """Clear the deadline."""
        self._deadline = None


class StoppableSocket:
    """A connected socket whose recv() ends when the server stops.

    On Windows, shutdown() does not end a recv() that another thread has begun, and to close the
    socket could have that thread read from another one with the same number.

    Args:
        sock: the socket.
        closing: a socket that becomes readable when the server stops.
    """

    def __init__(self, sock: socket.socket, closing: socket.socket) -> None:
        self._sock = sock
        self._closing = closing

    def recv(self, size: int) -> bytes:
        """Return bytes that have arrived; b'' at the end of the stream, and if the server stops.

        Raises:
            socket.timeout: nothing has come within the socket's timeout.
        """
        waiting = [self._sock, self._closing]
        ready, _, _ = select.select(waiting, [], [], self._sock.gettimeout())
        if self._closing in ready:
            return b""
        if not ready:
            raise socket.timeout("timed out")
        return self._sock.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class ServerTransport(paramiko.Transport):
    """The server's end of one connection; calls its server object's :class:`ConnectionEvents`."""

    # By default, the transport wakes up 10 times a second to check if it was closed (paramiko#361).
    # Here the socket is shut down instead; see disconnect().
    _active_check_timeout = IDLE_CHECK_INTERVAL

    # paramiko passes only requests to a server object, and no signals.
    _channel_handler_table: ClassVar[dict[int, Callable[..., Any]]] = {
        **cast(Any, paramiko.Transport)._channel_handler_table,
        MSG_CHANNEL_REQUEST: _on_request,
        MSG_CHANNEL_DATA: _on_data,
        MSG_CHANNEL_EOF: _on_eof,
        MSG_CHANNEL_CLOSE: _on_close,
    }

    def __init__(self, sock: Union[socket.socket, StoppableSocket]) -> None:
        # paramiko needs the methods of a socket only.
        super().__init__(cast(socket.socket, sock), packetizer_class=ThreadlessPacketizer)

    def _queue_incoming_channel(self, channel: Channel) -> None:
        """Pass a new channel to the server object at once.

        paramiko queues it for ``accept()``, which needs a waiting thread.
        """
        _events(channel).channel_opened(channel)

    def run(self) -> None:
        """Serve the connection, then report its end, for which paramiko has no callback."""
        try:
            super().run()
        finally:
            events: ConnectionEvents = self.server_object  # type: ignore[assignment]
            events.connection_lost()

    def abandon(self) -> None:
        """In a forked child: the connection is the parent's. The channels send nothing any more."""
        self.active = False
        self.sock.close()
        # Not values(): another thread may have held its lock at the fork.
        for channel in list(self._channels._map.values()):
            channel.closed = True
            channel.lock = threading.Lock()

    def disconnect(self) -> None:
        """End the connection at once, from any thread. The transport's thread cleans up.

        ``close()`` does not end a read that another thread has begun; the end of the stream does.
        """
        with suppress(OSError):  # the connection may have ended already
            self.sock.shutdown(socket.SHUT_RDWR)
