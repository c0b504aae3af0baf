"""Cleanups after aborted sessions: they end the commands that still run on the nodes."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, Optional

from paramiko import SSHException

from ..engine.delayed import DelayedCalls
from ..engine.polling import wait_readable
from .config.settings import ConnectionSettings
from .connection import Connection
from .protocol import ClientChannel
from .remotekill import KillState, RemoteKill

logger = logging.getLogger("pyclustershell.command")

# Seconds until KILL is sent again if the server has not reported the end of a killed command; twice
# as long each time.
_FIRST_KILL_WAIT = 0.05

# Seconds that the script has to start, at least; then the server is sent signals.
_SCRIPT_WAIT = 0.3

_NOT_BEGUN = "the server has not run /bin/sh in time before, and may have run a forced command"

# Seconds between two looks at a connection: no engine may read for it. Twice as long each time.
_FIRST_LOOK = 0.005
_LONGEST_LOOK = 0.2

# The exceptions of sending after the connection has ended.
_CONNECTION_ENDED = (SSHException, OSError, EOFError, RuntimeError)

# Seconds of one wait while a closing thread reads instead of the engine. The engine may read the
# bytes first: the descriptor is not readable then.
_READ_INTERVAL = 0.05

# Seconds after the grace period in which a closing thread still reads before it sends KILL.
_LAST_READING = 0.2


class RunningCleanups:
    """All cleanups that are under way in one pool's connections.

    A cleanup leases its connection until it is over. It does not need the engine, for the run may
    have ended: its steps are delayed calls.

    Args:
        delayed_calls: makes the calls.
        clock: monotonic time in seconds.
        release: gives a connection back to the pool.

    Attributes:
        delayed_calls: as given.
        clock: as given.
        release: as given.
        left_running: the reason for each node on which an aborted command may still run.
    """

    def __init__(
        self,
        delayed_calls: DelayedCalls,
        clock: Callable[[], float],
        release: Callable[[Connection], Any],
    ) -> None:
        self.delayed_calls = delayed_calls
        self.release = release
        self.clock = clock
        self.left_running: dict[str, str] = {}
        # The reason for each server that runs no script, and the connections on which a command was
        # left running on purpose: a script would end this one as well.
        self._obstacles: dict[ConnectionSettings, str] = {}
        self._shared: weakref.WeakSet[Connection] = weakref.WeakSet()
        # The servers that have run a script.
        self._proven: set[ConnectionSettings] = set()
        self._running: set[RemoteCleanup] = set()
        self._changed = threading.Condition()

    def add(self, cleanup: RemoteCleanup) -> None:
        """A cleanup begins."""
        with self._changed:
            self._running.add(cleanup)

    def remove(self, cleanup: RemoteCleanup) -> None:
        """A cleanup is over, and its connection is released. On any thread."""
        with self._changed:
            self._running.discard(cleanup)
            self._changed.notify_all()

    @property
    def connections(self) -> set[Connection]:
        """The connections that the cleanups lease."""
        with self._changed:
            return {cleanup.connection for cleanup in self._running}

    def leave_running(self, connection: Connection) -> None:
        """A command is left running on this connection, on purpose."""
        with self._changed:
            self._shared.add(connection)

    def obstacle(self, connection: Connection) -> Optional[str]:
        """Return the reason why no script can end a command on a connection; None if one can."""
        with self._changed:
            if connection in self._shared:
                return "another command was left running on its connection"
            if connection.transport.forced_command:
                # A script would be that command once more.
                return "the server runs a forced command only"
            return self._obstacles.get(connection.settings)

    def note_obstacle(self, connection: Connection, reason: str) -> None:
        """The server of a connection runs no script."""
        with self._changed:
            self._obstacles[connection.settings] = reason

    def note_script(self, connection: Connection, begun: bool) -> None:
        """The server of a connection has run a script, or what it has run has not begun like one.

        In the latter case it may have run the command of ``ForceCommand``, which no client can see:
        that is done once, and not again. A server that has run a script before is only slow.
        """
        with self._changed:
            if begun:
                self._proven.add(connection.settings)
            elif connection.settings not in self._proven:
                self._obstacles[connection.settings] = _NOT_BEGUN

    def note_left_running(self, node: str, reason: str) -> None:
        """A command may still run on a node."""
        with self._changed:
            self.left_running[node] = reason

    def close(self) -> None:
        """Wait until all cleanups are over, but not longer than they may take; kill the rest.

        A cleanup is over when its connection is released: that may happen on another thread, and
        needs the engine. On any thread.
        """
        with self._changed:
            running = list(self._running)
        deadline = self.clock() + max((cleanup.grace for cleanup in running), default=0.0)
        self._read_until_gone(running, deadline)
        with self._changed:
            # The delayed calls release the connections; see CommandKill.
            left = max(0.0, deadline - self.clock())
            self._changed.wait_for(lambda: not self._running, left)
            running = list(self._running)
        # A server that floods us keeps each cleanup reading for a while: for few of them only.
        last = deadline + _LAST_READING
        for cleanup in running:
            cleanup.kill(read=self.clock() < last)

    def _read_until_gone(self, cleanups: Iterable[RemoteCleanup], deadline: float) -> None:
        """Read for the cleanups' connections: the engine may be at rest."""
        while (left := deadline - self.clock()) > 0:
            cleanups = [cleanup for cleanup in cleanups if not cleanup.is_gone]
            if not cleanups:
                return
            wait_readable([c.connection for c in cleanups], min(left, _READ_INTERVAL))
            for cleanup in cleanups:
                cleanup.connection.read_now()
                if self.clock() >= deadline:
                    return


class RemoteCleanup:
    """The cleanup after one aborted session. It leases the session's connection until it is over.

    Args:
        channel: the session's channel.
        connection: the session's connection.
        cleanups: all cleanups of the pool.
        grace: seconds that the server has to end the command.

    Attributes:
        connection: as given.
        grace: the seconds until the cleanup is over, at most.
        when_over: called once when the cleanup is over, on any thread. It must not raise.
    """

    #: Seconds that the cleanup may take after the grace period.
    _aftermath = 0.0

    def __init__(
        self,
        channel: ClientChannel,
        connection: Connection,
        cleanups: RunningCleanups,
        grace: float,
    ) -> None:
        self.connection = connection
        self.grace = grace + self._aftermath
        self._grace = grace
        self._channel = channel
        self._cleanups = cleanups
        self._cancel: Optional[Callable[[], None]] = None
        self._end_lock = threading.Lock()
        self._ended = False
        self.when_over: Callable[[], Any] = lambda: None

    @property
    def is_gone(self) -> bool:
        """True if the server has ended the command in the channel."""
        return self._channel.has_exit_status or self._channel.closed

    def begin(self) -> None:
        """Ask the server to end the command. On the engine's thread."""
        self._cleanups.add(self)
        self._start()

    def _start(self) -> None:
        """Send the first request, and plan the next step."""
        raise NotImplementedError

    def kill(self, read: bool = True) -> None:
        """Stop waiting. On the thread of the delayed calls, or on one that closes the pool.

        Args:
            read: True to look first whether the server has ended the command.
        """
        self._end()

    def _call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Plan the next step, on the thread of the delayed calls; the end cancels it."""
        self._cancel = self._cleanups.delayed_calls.call_later(delay, function)

    def _poll(self) -> bool:
        """Read and send kept bytes, as no engine may do so now; then return :attr:`is_gone`."""
        self.connection.read_now()
        return self.is_gone

    def _end(self) -> None:
        """Release the connection. Only the first call counts. On any thread."""
        with self._end_lock:
            if self._ended:
                return
            self._ended = True
        try:
            self._release()
        finally:
            self._cleanups.remove(self)
            self.when_over()

    def _release(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._channel.drop()
        self._cleanups.release(self.connection)


class CommandKill(RemoteCleanup):
    """Ends a command and its processes: TERM first, KILL after the grace period.

    A script on the node does it: see :mod:`.remotekill`. If the server runs no script, it gets
    ``signal`` requests instead. Not every server obeys them, and none reports that it does not
    (RFC 4254 6.9).

    The connection is released when the command is gone, or when that cannot be found out. In the
    latter case :attr:`RunningCleanups.left_running` names the node. The connection is closed
    first if the script may still run.
    """

    _aftermath = 1.0

    def _start(self) -> None:
        self._began = self._cleanups.clock()
        self._interval = _FIRST_LOOK
        self._look_posted = False
        self._killer: Optional[RemoteKill] = None
        # The time after the beginning when the next signal request is due, and the pause after it.
        self._next_signal = max(self._grace / 2, _SCRIPT_WAIT)
        self._kill_wait = _FIRST_KILL_WAIT
        self._signalled = False
        self._reason: Optional[str] = None
        self._channel.watch(self._on_change, lambda: None)
        # The command's channel ends with its connection.
        with suppress(*_CONNECTION_ENDED):
            self._reason = self._cleanups.obstacle(self.connection)
            if self._reason is None:
                killer = RemoteKill(self.connection.transport, self._grace, self._on_change)
                killer.start()
                self._killer = killer
        if self._killer is None:
            self._signal(0.0)
        self._call_later(self._interval, self._step)

    @property
    def is_gone(self) -> bool:
        """True if nothing of the command is left, as far as can be found out."""
        killer = self._killer
        if killer is not None and killer.state is KillState.GONE:
            return True
        if killer is None or killer.ended or self._signalled or self._is_lost:
            return super().is_gone
        # The shell may have ended: the script waits for the other processes.
        return False

    @property
    def _is_lost(self) -> bool:
        """True if the connection has ended before the command's channel."""
        channel = self._channel
        return channel.closed and not (channel.closed_by_server or channel.was_refused)

    # -- on the thread of the delayed calls --

    def _on_change(self) -> None:
        """Called on the thread that feeds the transport, perhaps with a channel's lock held."""
        # So it only posts.
        if not self._look_posted:
            self._look_posted = True
            self._cleanups.delayed_calls.call_later(0, self._look)

    def _poll(self) -> bool:
        self._look_posted = False
        self.connection.read_now()
        killer = self._killer
        if killer is not None:
            killer.read()
            if killer.impossible:
                self._cleanups.note_obstacle(self.connection, killer.reason)
            if killer.state is KillState.FAILED and not self._signalled:
                self._next_signal = 0.0  # at once
        return self.is_gone

    def _look(self) -> bool:
        """Read; end the cleanup if the command is gone. Returns True at the end."""
        if not self._ended and self._poll():
            self._end()
        return self._ended

    def _step(self) -> None:
        """Look, send the signals that are due, and plan the next step."""
        if self._look():
            return
        passed = self._cleanups.clock() - self._began
        if passed >= self.grace:
            self._end()
            return
        killer = self._killer
        script_runs = killer is not None and killer.state is KillState.RUNNING
        if script_runs:
            # A busy node may not have sent KILL in time.
            self._next_signal = max(self._next_signal, self._grace + _SCRIPT_WAIT)
        if passed >= self._next_signal:
            self._signal(passed)
        self._interval = min(2 * self._interval, _LONGEST_LOOK)
        due = self._next_signal if self._next_signal > passed else self.grace
        self._call_later(min(self._interval, due - passed), self._step)

    # -- signals --

    def _signal(self, passed: float) -> None:
        """Send TERM; or, after the grace period, KILL, several times.

        OpenSSH signals the command's process group, which it creates a moment after it has granted
        the command. A signal that arrives in between is lost, and the client is not told.

        Args:
            passed: the seconds since the beginning.
        """
        if not self._signalled:
            self._signalled = True
            self._send("TERM")
        if passed < self._grace:
            self._next_signal = self._grace
        else:
            self._send("KILL")
            self._next_signal = passed + self._kill_wait
            self._kill_wait *= 2

    def _send(self, signal: str) -> None:
        with suppress(*_CONNECTION_ENDED):
            self._channel.send_signal(signal)

    # -- the end --

    def kill(self, read: bool = True) -> None:
        """Send KILL now, and release the connection."""
        if not (self._poll() if read else self.is_gone):
            self._signalled = True
            self._send("KILL")
        self._end()

    def _release(self) -> None:
        killer = self._killer
        if self._is_lost:
            # A script that runs needs no connection to end the command.
            script_runs = killer is not None and killer.state is KillState.RUNNING
            if not (script_runs or self._channel.has_exit_status):
                self._note_left_running("the connection was lost before it ended")
        elif not self.is_gone or (killer is not None and killer.left):
            reason = self._reason or (killer.reason if killer is not None else "no session is left")
            signals = ", and the signals that it was sent had no effect" if self._signalled else ""
            self._note_left_running(f"{reason}{signals}")
        if killer is not None:
            if killer.begun or (killer.was_granted and not killer.impossible):
                self._cleanups.note_script(self.connection, killer.begun)
            killer.drop()
            if not killer.ended:
                # The script ends whatever command it finds on this connection: there must be no
                # other one.
                self.connection.close()
        super()._release()

    def _note_left_running(self, reason: str) -> None:
        node = self.connection.settings.node
        logger.warning("%s: the command may still be running: %s", node, reason)
        self._cleanups.note_left_running(node, reason)
