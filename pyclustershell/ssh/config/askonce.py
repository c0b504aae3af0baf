"""Asks once for all nodes: passwords, passphrases, keyboard-interactive questions."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from enum import Enum
from typing import Any, Callable, Optional

from ...arguments import check_function
from ...engine.forking import abandon_in_child
from .memo import Memo


class AnswerState(Enum):
    """The state of the answer, and the next step of a connection that needs the answer."""

    UNTRIED = "try the answer first, and report whether the server accepts it"
    ON_TRIAL = "wait until another connection has tried it"
    ACCEPTED = "use it"
    REFUSED = "do not use it"


class AskOnce:
    """Calls a function once, and gives its answer to all nodes.

    For ``password``, ``passphrase`` and ``keyboard_interactive`` of SSHOptions. The function is
    called as it would be without AskOnce, for the first node that needs the answer. A
    keyboard-interactive function is called once for each different request, that is each different
    name, instruction and prompts: many servers put a user's or a host's name there.

    A wrong password that is sent to a thousand servers locks an account. So one node tries the
    answer first, while the others wait. If its server refuses the answer, the others do not send
    it: they fail, and their error names that node. A passphrase is not sent to a server: no node
    waits for a trial. An exception of the function is final as well: it is not called again, until
    :meth:`forget`.

    One-time codes are mostly good for one server: do not wrap the function that asks for them.

    Safe to use from several threads. The function is called on a worker thread, never the task's.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Wrap a function; it is not called yet.

        Args:
            function: a ``password``, ``passphrase`` or ``keyboard_interactive`` function.

        Raises:
            TypeError: the function cannot be called, or is a coroutine function.
        """
        # AskOnce is called on threads that have no event loop.
        check_function("AskOnce", function)
        self._function = function
        self._lock = threading.Lock()
        self._reset()
        abandon_in_child(self)

    def __repr__(self) -> str:
        return f"<AskOnce {getattr(self._function, '__qualname__', 'function')}>"

    def _reset(self) -> None:
        self._memo = Memo()
        self._state = AnswerState.UNTRIED
        self._first_node = ""
        self._waiting: list[Callable[[], Any]] = []

    def abandon(self) -> None:
        """In a forked child: keep the answer, but wait for no thread of the parent."""
        self._lock = threading.Lock()
        self._memo.abandon()
        self._waiting.clear()
        if self._state is AnswerState.ON_TRIAL:
            self._state = AnswerState.UNTRIED

    def __call__(self, node: str, *request: Hashable) -> Any:
        """Return the answer. The first caller's thread calls the function, other threads wait."""
        return self._memo.get(request, lambda: self._function(node, *request))

    def forget(self) -> None:
        """Forget all answers, also a refused one: the function is called again when needed."""
        with self._lock:
            waiting = self._waiting
            self._reset()
        for wake in waiting:
            wake()

    # -- for the authentication --

    @property
    def first_node(self) -> str:
        """The node that tries the answer first, or has tried it."""
        return self._first_node

    def claim(self, node: str, wake: Callable[[], Any]) -> AnswerState:
        """Return the next step of a connection that needs the answer; see :class:`AnswerState`.

        After UNTRIED, the connection has to call :meth:`report`, also if it fails.

        Args:
            node: the connection's node.
            wake: called once after ON_TRIAL, on any thread, when the connection has to claim
                again; not called after the other states.
        """
        with self._lock:
            state = self._state
            if state is AnswerState.UNTRIED:
                self._state = AnswerState.ON_TRIAL
                self._first_node = node
            elif state is AnswerState.ON_TRIAL:
                self._waiting.append(wake)
            return state

    def report(self, accepted: Optional[bool]) -> None:
        """Note the outcome of the trial, and wake the connections that wait for it.

        Args:
            accepted: True if the server accepted the answer; None if the connection ended before.
        """
        with self._lock:
            if accepted is None:
                self._state = AnswerState.UNTRIED
            else:
                self._state = AnswerState.ACCEPTED if accepted else AnswerState.REFUSED
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
