"""Every touch of the server side on a name that paramiko does not document, each with its reason.

Tested against the oldest and the newest supported paramiko by tests/test_loopback.py.
"""

from __future__ import annotations

import os
import socket
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

# A wake-up of an idle connection, in seconds; also how late a mute client may be noticed.
IDLE_CHECK_INTERVAL = 30.0


class ConnectionEvents(Protocol):
    """What the server object of a :class:`ServerTransport` is told, on the transport's thread."""

    def channel_opened(self, channel: Channel) -> None:
        """A channel was opened; whoever keeps no reference to it closes it."""
        ...

    def request_answered(self, channel: Channel) -> None:
        """The reply to a channel request was sent: what the request started may send now."""
        ...

    def signal_requested(self, channel: Channel, name: str) -> bool:
        """The client wants a signal delivered (RFC 4254, 6.9); returns whether it was."""
        ...

    def input_arrived(self, channel: Channel) -> None:
        """Data for the command's standard input is in the channel's buffer."""
        ...

    def input_ended(self, channel: Channel) -> None:
        """The client sent EOF, or closed the channel."""
        ...

    def connection_lost(self) -> None:
        """The connection is over, whoever ended it. Last of all calls."""
        ...


def _on_request(channel: Any, message: Message) -> None:
    """Answer a channel request, then say so.

    paramiko's own method knows no ``signal`` request. And it replies only after the server object
    was asked, so a fast command could send its exit status and its close before the reply, which
    reads as a refusal to the client.
    """
    events = _events(channel)
    if message.get_text() == "signal":
        want_reply = message.get_boolean()
        delivered = events.signal_requested(channel, message.get_text())
        if want_reply:
            _reply(channel, delivered)
        return
    message.rewind()
    message.get_int()  # the channel's number, which the transport had read already
    channel._handle_request(message)
    events.request_answered(channel)


def _on_data(channel: Any, message: Message) -> None:
    """Buffer data, then say so: no thread has to wait for input that may never come."""
    channel._feed(message)
    _events(channel).input_arrived(channel)


def _on_eof(channel: Any, message: Message) -> None:
    """Note the end of input, then say so."""
    channel._handle_eof(message)
    _events(channel).input_ended(channel)


def _on_close(channel: Any, message: Message) -> None:
    """Note the close, then say so: a closed channel is the end of input, too."""
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
    """A request whose texts are names of files: any bytes, which paramiko takes for UTF-8."""

    def get_text(self) -> str:
        """The next string, as ``os.fsencode`` turns it into bytes again."""
        return os.fsdecode(self.get_string())


class ExtensibleSFTPServer(paramiko.SFTPServer):
    """paramiko's SFTP server, which also says what extensions it has, and takes names of any bytes.

    Attributes:
        EXTENSIONS: their names, each with the version that filexfer-02, 4.2 wants beside it.
    """

    EXTENSIONS: ClassVar[dict[str, str]] = {}

    def answer_extension(self, name: str, request: Message) -> Union[bytes, int, None]:
        """Answer a request of an extension.

        Args:
            name: the extension's.
            request: its fields.

        Returns:
            The reply's fields, an SFTP status, or None for what paramiko does itself.
        """
        return None

    def open_file(self, handle: bytes) -> Optional[paramiko.SFTPHandle]:
        """The open file of a handle, None where there is none."""
        file: Optional[paramiko.SFTPHandle] = self.file_table.get(handle)
        return file

    def _send_server_version(self) -> int:
        # paramiko's names one extension, "check-file", and has no way to name more.
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
    """A packetizer that times the handshake without a thread.

    paramiko starts a timer thread for each connection and ends it with the first packet of the key
    exchange: a client that leaves before keeps that thread, and the interpreter, for 15 s.
    """

    _deadline: Optional[float] = None

    def start_handshake(self, timeout: float) -> None:
        """Note by when the handshake has to be over."""
        self._deadline = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        """Whether the handshake is late; asked at each wake-up of the reader."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def complete_handshake(self) -> None:
        """Stop timing."""
        self._deadline = None


class ServerTransport(paramiko.Transport):
    """The server's end of one connection; its server object gets :class:`ConnectionEvents`."""

    # By default, the transport wakes up 10 times a second to see whether it was closed
    # (paramiko#361). Here the socket is shut down instead, see disconnect().
    _active_check_timeout = IDLE_CHECK_INTERVAL

    # paramiko tells a server about requests only, and not about signals.
    _channel_handler_table: ClassVar[dict[int, Callable[..., Any]]] = {
        **cast(Any, paramiko.Transport)._channel_handler_table,
        MSG_CHANNEL_REQUEST: _on_request,
        MSG_CHANNEL_DATA: _on_data,
        MSG_CHANNEL_EOF: _on_eof,
        MSG_CHANNEL_CLOSE: _on_close,
    }

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, packetizer_class=ThreadlessPacketizer)

    def _queue_incoming_channel(self, channel: Channel) -> None:
        """Hand a new channel over at once.

        paramiko queues it for ``accept()``, which needs a thread that waits for it.
        """
        _events(channel).channel_opened(channel)

    def run(self) -> None:
        """Serve the connection, then say that it is over: paramiko has no callback for that."""
        try:
            super().run()
        finally:
            events: ConnectionEvents = self.server_object  # type: ignore[assignment]
            events.connection_lost()

    def disconnect(self) -> None:
        """End the connection at once, from any thread. The transport's thread cleans up.

        A read that is under way on another thread does not notice ``close()``, but it does notice
        the end of the stream.
        """
        with suppress(OSError):  # it may have ended by itself
            self.sock.shutdown(socket.SHUT_RDWR)
