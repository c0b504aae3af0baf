"""What takes time to find out, found out once, and never on a thread that must not wait.

A configuration may depend on a command's outcome (``Match exec``) or on names (CanonicalDomains).
The engine's thread cannot wait for either. So it asks without waiting: where the answer is not
known yet, :class:`Unanswered` leaves the question to a thread that may wait, and then the node's
configuration is looked up once more from the beginning, which costs 0.1 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, Callable, Generic, Optional, TypeVar

T = TypeVar("T")


class Unanswered(Exception):
    """The answer is not known yet.

    Attributes:
        find_out: finds the answer out, however long that takes; does not raise.
    """

    def __init__(self, find_out: Callable[[], None]) -> None:
        super().__init__("this takes time to find out")
        self.find_out = find_out


class _Answer(Generic[T]):
    """One answer, or the error that came instead, once its lock can be had."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known = False
        self.value: Optional[T] = None
        self.error: Optional[Exception] = None

    def find_out(self, ask: Callable[[], T]) -> None:
        with self.lock:
            if self.known:
                return
            try:
                self.value = ask()
            except Exception as error:
                # Raised where the question came from, each time.
                self.error = error
            self.known = True


class Answers:
    """Answers, each found out once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, _Answer[Any]] = {}

    def get(self, question: Hashable, ask: Callable[[], T], wait: bool) -> T:
        """Return the answer to a question.

        Args:
            question: by which it is remembered.
            ask: finds it out.
            wait: whether the calling thread may wait.

        Raises:
            Unanswered: it is not known, and the calling thread may not wait.
            Exception: what ``ask`` has raised.
        """
        with self._lock:
            answer: _Answer[T] = self._answers.setdefault(question, _Answer())
        if not answer.known:
            if not wait:
                raise Unanswered(lambda: answer.find_out(ask))
            answer.find_out(ask)
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value] # known, and no error: it is a T
