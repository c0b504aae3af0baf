"""Calls that other threads post to an engine's thread."""

from __future__ import annotations

import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Optional

from ..event import interruptible


class Mailbox:
    """Calls to make on the engine's thread, posted by any thread.

    :meth:`post` may be called from any thread, at any time and under any lock: it never blocks.
    The calls are made in the order in which they were posted. The other methods are for the
    engine's thread.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._receiver: Optional[socket.socket] = None
        self._sender: Optional[socket.socket] = None
        self._signalled = False
        #: The thread that runs the loop. It checks for calls before it waits: its own posts need
        #: no signal.
        self.owner: Optional[int] = None

    def __repr__(self) -> str:
        return f"<Mailbox {'open' if self.is_open else 'closed'}, {len(self._calls)} calls waiting>"

    def __bool__(self) -> bool:
        """True if calls are waiting."""
        return bool(self._calls)

    @property
    def is_open(self) -> bool:
        """True if there is a descriptor to wait on. Calls can be posted without one."""
        return self._receiver is not None

    def open(self) -> None:
        """Make the descriptor that is readable while calls are waiting."""
        # A socket pair, not a pipe: Windows selects on sockets only.
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        if self._calls:
            self._signal()

    def fileno(self) -> int:
        """The descriptor; -1 while the mailbox is closed."""
        return -1 if self._receiver is None else self._receiver.fileno()

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback(*args)`` on the engine's thread, in its loop's next pass."""
        # First add the call, then check the sender. open() does it in the opposite order, so that
        # one of the two sends the signal.
        self._calls.append((callback, args))
        if not self._signalled and self._sender is not None and self.owner != threading.get_ident():
            self._signal()

    def wake(self) -> None:
        """Let the loop make a pass, even if there is no call. In a signal's handler."""
        self._signal()

    def sender_fileno(self) -> int:
        """Return the descriptor that wakes the loop when a byte is written; -1 if there is none."""
        return -1 if self._sender is None else self._sender.fileno()

    def _signal(self) -> None:
        sender = self._sender
        if sender is None:
            return
        self._signalled = True
        try:
            sender.send(b"\0")
        except OSError:
            # If it is full, the loop is awake. If it was just closed, the call waits for open().
            self._signalled = False

    def drain(self) -> None:
        """Make the calls that wait now. Calls that these post wait for the next pass."""
        if self._receiver is not None:
            # There is nothing to read if no signal was sent: run() drains once at its start.
            with suppress(BlockingIOError):
                self._receiver.recv(4096)
        # First the byte, then the flag, then the calls: a call posted in between either finds the
        # flag set and is made below, or sends its own byte.
        self._signalled = False
        try:
            self.make_calls()
        finally:
            # Even if a call raised: the calls behind it must not wait for another post.
            if self._calls and not self._signalled:
                self._signal()

    @interruptible
    def make_calls(self) -> None:
        """Make the calls that wait now, signalled or not."""
        calls = self._calls
        for _ in range(len(calls)):
            if not calls:
                return  # a call has forked, and this is the child: see abandon()
            callback, args = calls.popleft()
            callback(*args)

    def abandon(self) -> None:
        """In a forked child: the calls are the parent's."""
        self._calls.clear()
        self.owner = None
        self.close()

    def close(self) -> None:
        """Free the descriptors. Waiting calls are made when the mailbox is opened again."""
        receiver, sender = self._receiver, self._sender
        self._receiver = self._sender = None
        self._signalled = False
        for end in (sender, receiver):
            if end is not None:
                end.close()
