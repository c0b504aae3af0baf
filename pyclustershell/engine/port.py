"""The only way into an engine's loop from another thread."""

from __future__ import annotations

import socket
import threading
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
        #: The thread that looks for itself, before it waits: calls that it posts need no signal.
        self.owner: Optional[int] = None

    def __repr__(self) -> str:
        return f"<Mailbox {'open' if self.is_open else 'closed'}, {len(self._calls)} calls waiting>"

    def __bool__(self) -> bool:
        """Whether calls are waiting."""
        return bool(self._calls)

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
        if not self._signalled and self._sender is not None and self.owner != threading.get_ident():
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
        try:
            self.make_calls()
        finally:
            # Also where a call raised: the ones behind it must not wait for another post.
            if self._calls and not self._signalled:
                self._signal()

    def make_calls(self) -> None:
        """Make the calls that are waiting now, whether or not they were signalled."""
        calls = self._calls
        for _ in range(len(calls)):
            callback, args = calls.popleft()
            callback(*args)

    def close(self) -> None:
        """Free the descriptors. Calls that wait are made once the mailbox is opened again."""
        receiver, sender = self._receiver, self._sender
        self._receiver = self._sender = None
        self._signalled = False
        for end in (sender, receiver):
            if end is not None:
                end.close()


class _Letter:
    """A message on its way to a port, and whether it arrived."""

    __slots__ = ("arrived", "decided", "message")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.arrived = False
        self.decided = threading.Event()

    def decide(self, arrived: bool) -> None:
        self.arrived = arrived
        self.decided.set()


class EnginePort:
    """Takes messages from any thread to a handler on its task's thread.

    Made by ``Task.port()``. A port outlives the run: messages that come between runs are delivered
    when the next one begins.

    Attributes:
        eh: the event handler, whose ``ev_port_start`` and ``ev_msg`` are called.
        autoclose: whether the engine may end its loop although the port is open.

    Args:
        post: the engine's :meth:`~.engine.Engine.post`.
        handler: the event handler, or None.
        autoclose: see above.
        limit: how many messages may wait; who sends one more has to wait, too.
        thread: the task's thread.
    """

    def __init__(
        self,
        post: Callable[..., Any],
        handler: Any,
        autoclose: bool,
        limit: int,
        thread: threading.Thread,
    ) -> None:
        self.eh = handler
        self.autoclose = autoclose
        self._post = post
        self._thread = thread
        self._limit = limit
        self._letters: deque[_Letter] = deque()
        self._changed = threading.Condition()
        self._started = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<EnginePort {state}, {len(self._letters)} messages waiting>"

    # -- for the engine, on its thread --

    def start(self) -> None:
        """The engine runs: tell the handler, once."""
        if not self._started:
            self._started = True
            if self.eh is not None:
                self.eh.ev_port_start(self)

    def close(self) -> None:
        """Take no messages any more; those that wait are dropped, and their senders told."""
        with self._changed:
            self._closed = True
            dropped = list(self._letters)
            self._letters.clear()
            self._changed.notify_all()
        for letter in dropped:
            letter.decide(False)

    def _deliver(self) -> None:
        with self._changed:
            if not self._letters:
                return  # closed meanwhile
            letter = self._letters.popleft()
            self._changed.notify()
        # Before the handler is called, so that it can answer to a sender that waits.
        letter.decide(True)
        if self.eh is not None:
            self.eh.ev_msg(self, letter.message)

    # -- for users, on any thread --

    def msg(self, send_msg: Any, send_once: bool = False) -> bool:
        """Send a message, and wait until the task has taken it.

        ``ev_msg(port, message)`` is then called on the task's thread. On that thread itself there
        is nothing to wait for: the message is delivered in the loop's next pass.

        Args:
            send_msg: any object.
            send_once: do not wait.

        Returns:
            Whether the message was (or, where nobody waits, will be) delivered: False if the port
            is closed.
        """
        letter = _Letter(send_msg)
        own_thread = threading.current_thread() is self._thread
        with self._changed:
            if not own_thread:
                # On the task's own thread a full queue would wait for itself.
                self._changed.wait_for(lambda: self._closed or len(self._letters) < self._limit)
            if self._closed:
                return False
            self._letters.append(letter)
        self._post(self._deliver)
        if send_once or own_thread:
            return True
        letter.decided.wait()
        return letter.arrived

    def msg_send(self, send_msg: Any) -> bool:
        """Send a message without waiting: see :meth:`msg`."""
        return self.msg(send_msg, send_once=True)
