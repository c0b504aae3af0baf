"""One command on one node: an exec channel over a leased connection."""

from __future__ import annotations

from contextlib import suppress
from typing import Optional

from ..buffers import LineBuffer, WriteBuffer
from ..exceptions import NodeError, SessionError
from ..records import Exited, Output, Started, Written
from .cleanup import CommandKill, RemoteCleanup
from .connection import Connection
from .protocol import ClientChannel, read_available, write_available
from .session import RemoteSession, SessionContext
from .states import COMMAND_MOVES, CommandEvent, CommandState

# The numbers of the signals that SSH has names for (RFC 4254 6.10); POSIX defines most of them.
# These are the remote host's numbers. The control host's signal module may lack some (on Windows).
SIGNAL_NUMBERS = {
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "ABRT": 6,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
}

# The exit status of the ssh program if no command could be run, or if its end is not known.
_RC_FAILED = 255

# The number of bytes that one command is sent before the others are served.
_FAIR_SHARE = 4 << 20

# The number of bytes handed to a channel at once: one packet is 32 KiB at most.
_PACKET_SIZE = 1 << 15

# The states in which output is read.
_READING = (CommandState.RUNNING, CommandState.AWAITING_EOF)


class RemoteCommand(RemoteSession[CommandState, CommandEvent]):
    """A command on one node, from the lease of a connection to the last line of output.

    It delivers Started, Output..., then Exited or Failed. If it is aborted, the command is sent
    TERM, and KILL after ``kill_grace`` seconds; it goes on if ``kill_grace`` is None.

    Args:
        context: the node's settings, and the objects to work with.
        command: the command line, for the remote user's shell.
        merge_stderr: True to have stderr in stdout, in the order in which both were sent.
        line_limit: the number of bytes allowed in one line of output; None for any number. A
            command that prints a longer line is aborted, and fails.
        window: the number of bytes that the server may send before they are processed; None for
            paramiko's 2 MiB.

    Attributes:
        stdin: the bytes to send to the command; see :meth:`send_input`. The caller may put another
            buffer here before the start.
    """

    refusal = "The server refused to run the command"
    moves = COMMAND_MOVES
    first_state = CommandState.OPENING
    last_state = CommandState.DONE
    closed_event = CommandEvent.CLOSED
    aborted_event = CommandEvent.ABORTED

    def __init__(
        self,
        context: SessionContext,
        command: bytes,
        merge_stderr: bool = False,
        line_limit: Optional[int] = None,
        window: Optional[int] = None,
    ) -> None:
        super().__init__(context)
        self.window = window
        self._command = command
        self._merge_stderr = merge_stderr
        node = context.settings.node
        self._stdout = LineBuffer("stdout", line_limit, node)
        self._stderr = LineBuffer("stderr", line_limit, node)
        self.stdin = WriteBuffer()
        self._writing = False
        self._eof_sent = False
        self._status_posted = False
        self._data_posted = False
        self._output_paused = False

    def __repr__(self) -> str:
        return f"<RemoteCommand on {self.settings.node}: {self.state.value}>"

    # -- the start --

    def _request(self, channel: ClientChannel) -> None:
        channel.set_combine_stderr(self._merge_stderr)
        channel.watch(self._post_status, self._post_window)
        for name, value in self.settings.env:
            # As bytes: local variables (SendEnv) may have bytes that are not UTF-8.
            channel.set_environment_variable(_encoded(name), _encoded(value))
        if self.settings.forward_agent and self._connection is not None:
            self._connection.forward_agent(channel)
        if self.settings.pty:
            channel.request_pty()
        channel.request_exec(self._command, self._post_answer)

    def _on_granted(self, channel: ClientChannel) -> None:
        self._move(CommandEvent.STARTED)
        if self._connection is not None:
            self._connection.watch_peer()
        self._deliver(Started())
        if not self.done:
            self.send_input()
            channel.watch_data(self._post_data)
            # The status may have arrived before the answer was handled.
            self._on_status()

    # -- output --

    def _post_data(self) -> None:
        # Called on the thread that feeds the transport, with a buffer's lock held. The engine's
        # next pass reads all bytes that have arrived by then.
        if not (self._data_posted or self._output_paused) and self.state in _READING:
            self._data_posted = True
            self._engine.post(self._on_data)

    def _on_data(self) -> None:
        """Output has arrived, or its end."""
        self._data_posted = False
        channel = self._channel
        if channel is None or self._output_paused or self.state not in _READING:
            return
        self._drain(channel)
        # If the connection has ended, on_lost follows, with the reason.
        if self._halted or not (channel.eof_received or channel.closed_by_server):
            return
        self._flush_lines()
        if self._move(CommandEvent.EOF) is CommandState.AWAITING_EOF:
            self._finish()
        else:
            self._on_status()

    def _drain(self, channel: ClientChannel) -> None:
        """Deliver the output that has arrived. The window limits its size."""
        out = read_available(channel, stderr=False)
        if out:
            self._take_output(self._stdout, out)
        if not self._merge_stderr and not self._halted:
            err = read_available(channel, stderr=True)
            if err:
                self._take_output(self._stderr, err)

    @property
    def _halted(self) -> bool:
        # A handler may have paused the output, or ended the command.
        return self.done or self._output_paused

    def pause_output(self, paused: bool) -> None:
        """Stop reading the output (True), or go on (False).

        The server sends as much as the window allows, and then holds the command back. The end of
        the command is not reported before its output has been read, unless the connection ends:
        then the rest is delivered, which is not more than the window.
        """
        if paused is not self._output_paused:
            self._output_paused = paused
            if not paused:
                # Later, as for new data: a handler may have called this.
                self._post_data()
                self._post_status()

    def _take_output(self, buffer: LineBuffer, data: bytes) -> None:
        lines = buffer.feed(data)
        if lines:
            self._deliver(Output(buffer.sname, lines))
        elif (error := buffer.overflow()) is not None:
            self.abort()
            self._fail(error)

    def _flush_lines(self) -> None:
        for buffer in (self._stdout, self._stderr):
            rest = buffer.flush()
            if rest is not None and not self.done:
                self._deliver(Output(buffer.sname, [rest]))

    # -- standard input --

    def _post_window(self) -> None:
        # Called on the thread that feeds the transport: the channel's lock may be held.
        if self.stdin.size:
            self._engine.post(self.send_input)

    def send_input(self) -> None:
        """Send the bytes in :attr:`stdin`, as fast as the command accepts them."""
        channel = self._channel
        if channel is None or self.state in (CommandState.OPENING, CommandState.DONE):
            return
        if self._writing:
            # A handler of ev_written has written more. The loop below, which called the handler,
            # sends these bytes.
            return
        self._writing = True
        try:
            self._write_share(channel)
        finally:
            self._writing = False
        if self.stdin.ended and not self.stdin.size and not self._eof_sent and not self.done:
            self._eof_sent = True
            with suppress(OSError):  # closed by the server
                channel.shutdown_write()

    def _write_share(self, channel: ClientChannel) -> None:
        """Send the bytes that the server's window has room for, but no more than a fair share."""
        share = _FAIR_SHARE
        while self.stdin.size and not self.done and channel.send_ready():
            if share <= 0:
                # Serve the others first, then go on. No descriptor reports room in the window.
                self._engine.post(self.send_input)
                return
            try:
                sent = write_available(channel, bytes(self.stdin.peek()[:_PACKET_SIZE]))
            except OSError:
                # Closed by the server: the command does not read any more.
                self.stdin.clear()
                return
            if sent == 0:
                return
            self.stdin.take(sent)
            share -= sent
            self._deliver(Written(sent))

    # -- the end --

    def _post_status(self) -> None:
        # Called on the thread that feeds the transport, perhaps with the channel's lock held: post
        # it once.
        if not self._status_posted:
            self._status_posted = True
            self._engine.post(self._on_status)

    def _on_status(self) -> None:
        """The exit status has arrived, or the channel has closed."""
        self._status_posted = False
        channel = self._channel
        if channel is None or self.state in (CommandState.OPENING, CommandState.DONE):
            return
        if self._output_paused:
            return  # pause_output() calls again
        if (
            channel.has_exit_status
            and self._move(CommandEvent.EXITED) is CommandState.AWAITING_EXIT
        ):
            self._finish()
        elif channel.closed:
            # Closed without EOF or without exit status: no more output follows.
            self._on_closed(channel)

    def _on_closed(self, channel: ClientChannel) -> None:
        if not channel.closed_by_server:
            return  # the connection has ended: on_lost follows, with the reason
        self._drain_all(channel)
        if not self._move_to_done():
            return
        if channel.has_exit_status:
            self._finish()
            return
        self._give_back()
        self._fail(SessionError(self.settings.node, "The command ended without an exit status"))

    def _drain_all(self, channel: ClientChannel) -> None:
        self._output_paused = False
        self._drain(channel)
        if self._output_paused:
            # A handler has paused after the first stream: this is the rest.
            self._output_paused = False
            self._drain(channel)
        self._flush_lines()

    def _finish(self) -> None:
        channel = self._channel
        if channel is None:
            raise RuntimeError(f"{self!r} cannot finish without a channel")
        signal = channel.exit_signal
        # A server may have signals of its own ("sig@host"), which have no number.
        rc = channel.exit_status if signal is None else 128 + SIGNAL_NUMBERS.get(signal, 0)
        self._give_back()
        self._deliver(Exited(rc))

    def _on_connection_lost(self, error: NodeError) -> None:
        channel = self._channel
        if channel is not None and self.state is not CommandState.OPENING:
            self._drain_all(channel)
            if self.done:
                return
            if channel.has_exit_status and not channel.is_violated:
                # The command had ended before the connection did: its status counts, as in ssh.
                # But if the server broke the protocol, its output may be wrong.
                self._finish()
                return
        self._move(CommandEvent.CLOSED)
        self.stdin.clear()
        self._close_channel()
        self._fail(error)

    def _stop(self) -> None:
        self.stdin.clear()

    def _cleanup(self, channel: ClientChannel, connection: Connection) -> Optional[RemoteCleanup]:
        if self._kill_grace is None:
            self._pool.cleanups.leave_running(connection)
            return None
        return CommandKill(channel, connection, self._pool.cleanups, self._kill_grace)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
