"""One answer for many nodes: passwords, passphrases, keyboard-interactive questions."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from enum import Enum
from typing import Any, Callable, Optional

from .answers import Answers


class Turn(Enum):
    """What a connection that comes for the answer may do."""

    TRY = "use the answer, and say whether it was accepted"
    GO = "use the answer"
    WAIT = "wait until another connection has tried it"
    REFUSED = "do without: a server has refused it"


class AskOnce:
    """Has a function asked once, and gives its answer to all nodes.

    For ``password``, ``passphrase`` and ``keyboard_interactive`` of SSHOptions. The function is
    called as it would be without this, for the node that comes first. A keyboard-interactive
    function is called once for each request that differs from those before in its name, its
    instruction or its prompts: many servers put a user's or a host's name there.

    A wrong password that is given to a thousand servers locks an account. So one node tries the
    answer first, while the others wait; where its server refuses, the others are not given it, and
    fail with a word about that. A passphrase concerns no server: it is tried at once. What the
    function raises is final as well: nobody is asked a second time, until :meth:`forget`.

    One-time codes are mostly good for one server: do not wrap the function that asks for them.

    Safe to use from several threads. The function is called on a thread aside, never the task's.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Wrap a function; it is not called yet.

        Args:
            function: a ``password``, ``passphrase`` or ``keyboard_interactive`` function.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(function):
            raise TypeError(f"AskOnce takes a function, not {type(function).__name__}")
        self._function = function
        self._lock = threading.Lock()
        self._reset()

    def __repr__(self) -> str:
        return f"<AskOnce {getattr(self._function, '__qualname__', 'function')}>"

    def _reset(self) -> None:
        self._answers = Answers()
        # None while nobody has tried the answer.
        self._accepted: Optional[bool] = None
        self._on_trial = False
        self._pilot = ""
        self._waiting: list[Callable[[], Any]] = []

    def __call__(self, node: str, *request: Hashable) -> Any:
        """Return the answer; the first caller's thread asks for it, the others' wait."""
        return self._answers.get(request, lambda: self._function(node, *request), wait=True)

    def forget(self) -> None:
        """Forget all answers, and that one was refused: the function is called again."""
        with self._lock:
            waiting = self._waiting
            self._reset()
        for wake in waiting:
            wake()

    # -- for the authentication --

    @property
    def pilot(self) -> str:
        """The node that tries the answer first, or has tried it."""
        return self._pilot

    def begin(self, node: str, wake: Callable[[], Any]) -> Turn:
        """A connection comes for the answer.

        Args:
            node: its node.
            wake: called, on any thread, when it has to come again; only after Turn.WAIT.
        """
        with self._lock:
            if self._on_trial:
                self._waiting.append(wake)
                return Turn.WAIT
            if self._accepted is None:
                self._on_trial = True
                self._pilot = node
                return Turn.TRY
            return Turn.REFUSED if self._accepted is False else Turn.GO

    def decide(self, accepted: Optional[bool]) -> None:
        """The connection that tried the answer has heard of its server, or never will (None)."""
        with self._lock:
            self._on_trial = False
            self._accepted = accepted
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
