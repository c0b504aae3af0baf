"""The only way into an engine's loop from another thread."""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Optional


class Mailbox:
    """Calls that other threads want made on the engine's thread.

    :meth:`post` may be called from any thread, at any time, also under foreign locks: it never
    blocks. The calls are made in the order in which they were posted. The other methods are for
    the engine's thread.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._receiver: Optional[socket.socket] = None
        self._sender: Optional[socket.socket] = None
        self._signalled = False

    def __repr__(self) -> str:
        return f"<Mailbox {'open' if self.is_open else 'closed'}, {len(self._calls)} calls waiting>"

    @property
    def is_open(self) -> bool:
        """Whether there is a descriptor to wait for. Calls can be posted before there is one."""
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
        """Have ``callback(*args)`` called on the engine's thread, in its loop's next pass."""
        # The call first, then the look at the sender: open() does it the other way round, so that
        # one of the two signals it.
        self._calls.append((callback, args))
        if not self._signalled and self._sender is not None:
            self._signal()

    def _signal(self) -> None:
        sender = self._sender
        if sender is None:
            return
        self._signalled = True
        try:
            sender.send(b"\0")
        except OSError:
            # Full: then the loop is awake. Just closed: then the call waits for the next open().
            self._signalled = False

    def drain(self) -> None:
        """Make the calls that are waiting now; those that they post wait for the next pass."""
        if self._receiver is not None:
            # Nothing to read where the caller drains without a signal, to be sure.
            with suppress(BlockingIOError):
                self._receiver.recv(4096)
        # The byte first, then the flag, then the calls: a call posted in between either finds the
        # flag set and is made below, or sends a byte of its own.
        self._signalled = False
        calls = self._calls
        try:
            for _ in range(len(calls)):
                callback, args = calls.popleft()
                callback(*args)
        finally:
            # Also where a call raised: the ones behind it must not wait for another post.
            if calls and not self._signalled:
                self._signal()

    def close(self) -> None:
        """Free the descriptors. Calls that wait are made once the mailbox is opened again."""
        receiver, sender = self._receiver, self._sender
        self._receiver = self._sender = None
        self._signalled = False
        for end in (sender, receiver):
            if end is not None:
                end.close()
