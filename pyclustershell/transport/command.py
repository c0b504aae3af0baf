"""One command on one node: an exec channel over a leased connection."""

from __future__ import annotations

from contextlib import suppress
from typing import Optional

from ..exceptions import LineTooLongError, NodeError, SessionError
from ..linebuffer import LineBuffer
from ..writebuffer import WriteBuffer
from .connection import Connection
from .ending import SessionEnding, Termination
from .paramiko_hooks import ClientChannel, read_available, write_available
from .session import Assignment, RemoteSession
from .state import (
    COMMAND_MOVES,
    CommandEvent,
    CommandState,
    Exited,
    Output,
    Started,
    Written,
)

# Signal numbers of the names that SSH can send (RFC 4254 6.10), as POSIX numbers them where it
# does: the remote host's numbers, so that the control host's signal module (Windows has few of
# them) is no help.
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

# No command could be run, or its end is not known: what the ssh program exits with.
_RC_FAILED = 255

# How many bytes one command may be sent before others have their turn.
_FAIR_SHARE = 4 << 20

# How many bytes are handed to a channel at once: it sends one packet of 32 KiB or less.
_PACKET_SIZE = 1 << 15


# While its output is read.
_READING = (CommandState.RUNNING, CommandState.AWAITING_EOF)


class RemoteCommand(RemoteSession[CommandState, CommandEvent]):
    """A command on one node, from the request for a connection to its last line of output.

    What it delivers: Started, Output..., then Exited or Failed. Aborted, it gets TERM, and KILL
    after ``kill_grace`` seconds; None: it is not killed.

    Args:
        assignment: where it runs, and for whom.
        command: what to run, in the remote user's shell.
        merge_stderr: whether stderr comes in stdout, in the order in which both were sent.
        line_limit: how many bytes one line of output may have; None for any number. A command
            that prints a longer one is aborted, and fails.

    Attributes:
        stdin: what is to be sent to it; see :meth:`send_input`. Another buffer can be put here
            before the start.
    """

    refusal = "The server refused to run the command"
    moves = COMMAND_MOVES
    first_state = CommandState.OPENING
    last_state = CommandState.DONE
    closed_event = CommandEvent.CLOSED
    aborted_event = CommandEvent.ABORTED

    def __init__(
        self,
        assignment: Assignment,
        command: bytes,
        merge_stderr: bool = False,
        line_limit: Optional[int] = None,
    ) -> None:
        super().__init__(assignment)
        self._command = command
        self._merge_stderr = merge_stderr
        self._line_limit = line_limit
        self._stdout = LineBuffer()
        self._stderr = LineBuffer()
        self.stdin = WriteBuffer()
        self._writing = False
        self._eof_sent = False
        self._status_posted = False
        self._data_posted = False

    def __repr__(self) -> str:
        return f"<RemoteCommand on {self.settings.node}: {self.state.value}>"

    # -- the start --

    def _request(self, channel: ClientChannel) -> None:
        channel.set_combine_stderr(self._merge_stderr)
        channel.watch(self._post_status, self._post_window)
        for name, value in self.settings.env:
            channel.set_environment_variable(name, value)
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
            # What came before the answer was looked at.
            self._on_status()

    # -- output --

    def _post_data(self) -> None:
        # Where the transport is fed, with a buffer's lock held: read in the engine's next pass, all
        # that has come by then.
        if not self._data_posted and self.state in _READING:
            self._data_posted = True
            self._engine.post(self._on_data)

    def _on_data(self) -> None:
        """Something has come, or the end of it."""
        self._data_posted = False
        channel = self._channel
        if channel is None or self.state not in _READING:
            return
        self._drain(channel)
        if self.done or not (channel.eof_received or channel.closed):
            return
        self._flush_lines()
        if self._move(CommandEvent.EOF) is CommandState.AWAITING_EOF:
            self._finish()
        else:
            self._on_status()

    def _drain(self, channel: ClientChannel) -> None:
        """Deliver what has come: no more than the window allows."""
        out = read_available(channel, stderr=False)
        if out:
            self._take_output("stdout", self._stdout, out)
        if not self._merge_stderr and not self.done:
            err = read_available(channel, stderr=True)
            if err:
                self._take_output("stderr", self._stderr, err)

    def _take_output(self, sname: str, buffer: LineBuffer, data: bytes) -> None:
        lines = buffer.feed(data)
        if lines:
            self._deliver(Output(sname, lines))
        elif self._line_limit is not None and buffer.size > self._line_limit:
            # A line that never ends would take all memory: of all nodes, it fails this one.
            self.abort()
            self._fail(LineTooLongError.of(self.settings.node, sname, self._line_limit))

    def _flush_lines(self) -> None:
        for sname, buffer in (("stdout", self._stdout), ("stderr", self._stderr)):
            rest = buffer.flush()
            if rest is not None and not self.done:
                self._deliver(Output(sname, [rest]))

    # -- standard input --

    def _post_window(self) -> None:
        # Where the transport is fed: the channel's lock may be held.
        if self.stdin.size:
            self._engine.post(self.send_input)

    def send_input(self) -> None:
        """Send what waits in :attr:`stdin`, as soon and as fast as the command takes it."""
        channel = self._channel
        if channel is None or self.state in (CommandState.OPENING, CommandState.DONE):
            return
        if self._writing:
            # A handler that writes as soon as it hears that something was written: the loop
            # below, from which it was called, goes on with it.
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
        """Send what the server's window has room for, but no more than a fair share."""
        share = _FAIR_SHARE
        while self.stdin.size and not self.done and channel.send_ready():
            if share <= 0:
                # Others first. No descriptor tells of the room that is left: come back.
                self._engine.post(self.send_input)
                return
            try:
                sent = write_available(channel, bytes(self.stdin.peek()[:_PACKET_SIZE]))
            except OSError:
                # Closed by the server: nobody reads it any more.
                self.stdin.clear()
                return
            if sent == 0:
                return
            self.stdin.take(sent)
            share -= sent
            self._deliver(Written(sent))

    # -- the end --

    def _post_status(self) -> None:
        # Where the transport is fed, perhaps with the channel's lock held: have it looked at once.
        if not self._status_posted:
            self._status_posted = True
            self._engine.post(self._on_status)

    def _on_status(self) -> None:
        """The exit status has come, or the channel was closed."""
        self._status_posted = False
        channel = self._channel
        if channel is None or self.state in (CommandState.OPENING, CommandState.DONE):
            return
        if (
            channel.has_exit_status
            and self._move(CommandEvent.EXITED) is CommandState.AWAITING_EXIT
        ):
            self._finish()
        elif channel.closed:
            # Closed without EOF (or without exit status): what is in the buffers is all there is.
            self._on_closed(channel)

    def _on_closed(self, channel: ClientChannel) -> None:
        if not channel.closed_by_server:
            return  # the connection has ended: on_lost follows, and knows why
        self._drain_all(channel)
        if not self._move_to_done():
            return
        if channel.has_exit_status:
            self._finish()
            return
        self._give_back()
        self._fail(SessionError(self.settings.node, "The command ended without an exit status"))

    def _drain_all(self, channel: ClientChannel) -> None:
        self._drain(channel)
        self._flush_lines()

    def _finish(self) -> None:
        channel = self._channel
        if channel is None:
            raise RuntimeError(f"{self!r} cannot finish without a channel")
        signal = channel.exit_signal
        # A server may have signals of its own ("sig@host"): no number is known for them.
        rc = channel.exit_status if signal is None else 128 + SIGNAL_NUMBERS.get(signal, 0)
        self._give_back()
        self._deliver(Exited(rc))

    def _on_connection_lost(self, error: NodeError) -> None:
        channel = self._channel
        if channel is not None and self.state is not CommandState.OPENING:
            self._drain_all(channel)
            if self.done:
                return
            if channel.has_exit_status:
                # All that was still to come is the connection's own end.
                self._finish()
                return
        self._move(CommandEvent.CLOSED)
        self.stdin.clear()
        self._close_channel()
        self._fail(error)

    def _stop(self) -> None:
        self.stdin.clear()

    def _ending(self, channel: ClientChannel, connection: Connection) -> Optional[SessionEnding]:
        if self._kill_grace is None:
            return None
        return Termination(channel, connection, self._pool, self._reaper, self._kill_grace)
