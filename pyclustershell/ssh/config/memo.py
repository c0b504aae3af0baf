"""Slow results, each computed once per key, and never on a thread that must not wait.

A configuration may depend on a command's outcome (``Match exec``), on names (CanonicalDomains) or
on this host's addresses (``Match localnetwork``). The engine's thread cannot wait for them. It asks
without waiting. An unknown result raises :class:`LookupPending`. Then another thread resolves the
configuration of the node.

Private keys are read and decrypted once for all nodes in the same way, on threads that may wait.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, Callable, Generic, NamedTuple, Optional, TypeVar, Union

T = TypeVar("T")


class LookupPending(Exception):
    """The result is not known yet, and the calling thread may not wait for it.

    The same call has to be made on a thread that may wait.
    """

    def __init__(self) -> None:
        super().__init__("the result has yet to be looked up, and this thread may not wait for it")


class Passing(NamedTuple):
    """A result for the threads that wait for it now. It is not kept: the next call computes again.

    For failures that may pass, such as a file that could not be opened for want of a descriptor.
    """

    value: Any


class _Entry(Generic[T]):
    """One result, or the exception raised in its place; its lock is held while it is computed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known = False
        self.passing = False
        self.value: Optional[T] = None
        self.error: Optional[Exception] = None

    def look_up(self, compute: Callable[[], Union[T, Passing]]) -> None:
        with self.lock:
            if self.known:
                return
            try:
                value = compute()
                self.passing = isinstance(value, Passing)
                self.value = value.value if isinstance(value, Passing) else value
            except Exception as error:
                # Every caller of Memo.get() gets it.
                self.error = error
            self.known = True


class Memo:
    """Results that are each computed once per key. Safe to use from several threads.

    Threads that want the same result wait for the first of them; different keys do not wait for
    each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry[Any]] = {}

    def abandon(self) -> None:
        """In a forked child: forget the results that threads of the parent were computing."""
        self._lock = threading.Lock()
        self._entries = {key: entry for key, entry in self._entries.items() if entry.known}

    def get(self, key: Hashable, compute: Callable[[], Union[T, Passing]], wait: bool = True) -> T:
        """Return the result of this key; compute it if that has not been done.

        Args:
            key: identifies the result.
            compute: computes it. An exception is as final as a result; see :class:`Passing`.
            wait: True if the calling thread may wait for that.

        Raises:
            LookupPending: the result is not known, and the calling thread may not wait.
            Exception: ``compute`` has raised it.
        """
        try:
            entry: _Entry[T] = self._entries[key]
        except KeyError:
            with self._lock:
                entry = self._entries.setdefault(key, _Entry())
        if not entry.known:
            if not wait:
                raise LookupPending
            entry.look_up(compute)
        if entry.passing:
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
        if entry.error is not None:
            raise entry.error
        return entry.value  # type: ignore[return-value] # known, and no error: it is a T
