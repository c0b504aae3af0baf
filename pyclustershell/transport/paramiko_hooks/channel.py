"""A channel that never makes a calling thread wait."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any, Callable, Optional

import paramiko
from paramiko import SSHException
from paramiko.common import (
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message

from ...printable import printable
from ..chunks import ChunkPipe
from .then import Then

logger = logging.getLogger("pyclustershell.transport")


_NOTHING = Then(lambda: None)


def text_of(message: Message) -> str:
    """The next field, which a server wrote for people to read: it will be shown on terminals."""
    return printable(message.get_binary().decode("utf-8", "replace"))


class ClientChannel(paramiko.Channel):
    """A channel of ours that tells of its end, also by a signal, and of room to write.

    A session's; or, then without requests, a tunnel's or a forwarded agent's.
    """

    def __init__(self, chanid: int) -> None:
        super().__init__(chanid)
        self.in_buffer: ChunkPipe = ChunkPipe()  # type: ignore[assignment]
        self.in_stderr_buffer: ChunkPipe = ChunkPipe()  # type: ignore[assignment]
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
        self._request_run("exec", command, then)

    def request_subsystem(self, name: str, then: Callable[[], Any]) -> None:
        """Ask for a subsystem (RFC 4254 6.5), as :meth:`request_exec` asks for a command."""
        self._request_run("subsystem", name.encode(), then)

    def _request_run(self, kind: str, what: bytes, then: Callable[[], Any]) -> None:
        def once() -> None:
            # paramiko sets the event again when the channel closes.
            self.event = _NOTHING
            then()

        m = self._request(kind, want_reply=True)
        m.add_string(what)
        self.event_ready = False
        self.event = Then(once)
        self.transport._send_user_message(m)

    @property
    def was_granted(self) -> bool:
        """Whether the server granted the request for the command, or the subsystem."""
        return bool(self.event_ready)

    def request_pty(self, term: str = "vt100", width: int = 80, height: int = 24) -> None:
        """Ask for a terminal (RFC 4254 6.2); ``Channel.get_pty`` waits for the answer."""
        m = self._request("pty-req")
        m.add_string(term)
        for number in (width, height, 0, 0):
            m.add_int(number)
        m.add_string(b"")
        self.transport._send_user_message(m)

    def request_agent_forwarding(self) -> None:
        """Let the command ask the user's agent (draft-ietf-sshm-ssh-agent); no answer comes."""
        self.transport._send_user_message(self._request("auth-agent-req@openssh.com"))

    def send_signal(self, name: str) -> None:
        """Have a signal sent to the command (RFC 4254 6.9), which paramiko cannot.

        Args:
            name: the signal's name without SIG, e.g. 'TERM'.
        """
        m = self._request("signal")
        m.add_string(name)
        self.transport._send_user_message(m)

    def _request(self, kind: str, want_reply: bool = False) -> Message:
        m = Message()
        m.add_byte(cMSG_CHANNEL_REQUEST)
        m.add_int(self.remote_chanid)
        m.add_string(kind)
        m.add_boolean(want_reply)
        return m

    def take_request(self, m: Message) -> None:
        """A request of the server, where the transport is fed.

        paramiko does not know exit-signal (RFC 4254 6.10): such a command would end with -1.
        """
        position = m.packet.tell()
        if m.get_text() == "exit-signal":
            m.get_boolean()
            self.exit_signal = m.get_text()
            self.status_event.set()
            return
        m.packet.seek(position)
        self._handle_request(m)

    def take_failure(self, m: Message) -> None:
        """The server refuses the request for the command, where the transport is fed."""
        self.was_refused = True
        self._request_failed(m)

    def take_close(self, m: Message) -> None:
        """The server closes the channel, where the transport is fed."""
        self.closed_by_server = True
        with self._order:
            self._handle_close(m)

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
            super().close()

    # -- data without copies --

    def divert(self, on_data: Callable[[memoryview], Any]) -> None:
        """Have standard output handed over as it comes, instead of being kept for ``recv``.

        There it would be copied into an array, and out of it again. The window is not opened again
        before :meth:`grant`.

        Args:
            on_data: called where the transport is fed with each piece; it must only post.
        """
        self._on_data = on_data
        # paramiko opens the window again for each tenth of it. Every packet costs the server's
        # waking up; half of the window is enough to go on with.
        self.in_window_threshold = self.in_window_size // 2

    def take_data(self, data: memoryview) -> None:
        """Standard output has come, where the transport is fed."""
        if self._on_data is None:
            self.in_buffer.feed(data)
            self._check_window()
        elif data:
            self._on_data(data)

    def take_extended_data(self, m: Message) -> None:
        """Standard error has come, where the transport is fed."""
        self._feed_extended(m)
        self._check_window()

    def _check_window(self) -> None:
        # What is not read here costs memory: a server that sends more than it may is hostile.
        size = self.in_buffer.size + self.in_stderr_buffer.size
        if size > self.in_window_size:
            raise SSHException(
                f"the server sent {size} bytes, and a window of {self.in_window_size} was granted"
            )

    def grant(self, size: int) -> None:
        """Diverted bytes have been dealt with: let the server send more."""
        with self._order:
            more = self._check_add_window(size)
            if more > 0:
                m = Message()
                m.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
                m.add_int(self.remote_chanid)
                m.add_int(more)
                self.transport._send_user_message(m)

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
            head = cMSG_CHANNEL_DATA + struct.pack(">II", self.remote_chanid, size)
            self.transport._send_user_message(Message(b"".join((head, *cut(size)))))
            return size

    def take_window(self, m: Message) -> None:
        """The server grants room for standard input, where the transport is fed."""
        self._window_adjust(m)
        if self._on_window is not None:
            self._on_window()


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
