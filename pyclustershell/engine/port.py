"""Ports: messages from any thread to an event handler on its task's thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Callable

from ..event import interruptible


class _Letter:
    """A message to a port. ``arrived`` is True once it was delivered."""

    __slots__ = ("arrived", "decided", "message")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.arrived = False
        self.decided = threading.Event()

    def decide(self, arrived: bool) -> None:
        self.arrived = arrived
        self.decided.set()


class EnginePort:
    """Delivers messages from any thread to an event handler on its task's thread.

    Made by ``Task.port()``. A port outlives the run: messages sent between two runs are delivered
    when the next one begins.

    Attributes:
        eh: the event handler, whose ``ev_port_start`` and ``ev_msg`` are called.
        autoclose: True if the engine may end its loop although the port is open.

    Args:
        post: the engine's :meth:`~.engine.Engine.post`.
        handler: the event handler, or None.
        autoclose: see above.
        limit: the number of messages that may wait. If the queue is full, the next sender waits
            until there is room.
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

    @interruptible
    def start(self) -> None:
        """Call the handler's ``ev_port_start`` in the first run."""
        if not self._started:
            self._started = True
            if self.eh is not None:
                self.eh.ev_port_start(self)

    def close(self) -> None:
        """Accept no more messages. Waiting messages are dropped: their senders get False."""
        with self._changed:
            self._closed = True
            dropped = list(self._letters)
            self._letters.clear()
            self._changed.notify_all()
        for letter in dropped:
            letter.decide(False)

    def abandon(self) -> None:
        """In a forked child: the port is the parent's. Messages to it are refused."""
        self._changed = threading.Condition()
        self._closed = True
        self._letters.clear()

    @interruptible
    def _deliver(self) -> None:
        with self._changed:
            if not self._letters:
                return  # closed meanwhile
            letter = self._letters.popleft()
            self._changed.notify()
        # Before the handler is called, so that the handler can send to the waiting thread.
        letter.decide(True)
        if self.eh is not None:
            self.eh.ev_msg(self, letter.message)

    # -- for users, on any thread --

    @interruptible
    def msg(self, send_msg: Any, send_once: bool = False) -> bool:
        """Send a message, and wait until the task has taken it.

        ``ev_msg(port, message)`` is then called on the task's thread. A call on that thread does
        not wait: the message is delivered in the loop's next pass.

        Args:
            send_msg: any object.
            send_once: True to return without waiting.

        Returns:
            True if the message was delivered; without waiting, True if it will be. False if the
            port is closed.
        """
        letter = _Letter(send_msg)
        own_thread = threading.current_thread() is self._thread
        with self._changed:
            if not own_thread:
                # The task's own thread would wait for itself if the queue were full.
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
