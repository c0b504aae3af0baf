"""One task per thread: the map from threads to tasks, and a lookup of threads by identifier."""

from __future__ import annotations

import threading
import weakref
from typing import Callable, Generic, Optional, TypeVar

from ..engine.forking import abandon_in_child

T = TypeVar("T")


class ThreadRegistry(Generic[T]):
    """Maps each thread to its task. All methods may be called from any thread.

    A thread that has ended and been freed is no longer in the map.

    Attributes:
        lock: guards the map. It is reentrant: a caller that holds it can use every method.
    """

    def __init__(self) -> None:
        self._reset()
        abandon_in_child(self)

    def _reset(self) -> None:
        self.lock = threading.RLock()
        self._tasks: weakref.WeakKeyDictionary[threading.Thread, T] = weakref.WeakKeyDictionary()

    def abandon(self) -> None:
        """In a forked child: the tasks are the parent's, and each thread gets a new one."""
        self._reset()

    def find_or_make(self, thread: threading.Thread, make: Callable[[], T]) -> T:
        """Return a thread's task; create it with ``make()`` at first use."""
        with self.lock:
            task = self._tasks.get(thread)
            if task is None:
                task = self._tasks[thread] = make()
            return task

    def add(self, thread: threading.Thread, task: T) -> None:
        """Register the task of a thread."""
        with self.lock:
            self._tasks[thread] = task

    def remove(self, thread: threading.Thread, task: T) -> None:
        """Remove the task of a thread. Does nothing if the thread now has another task."""
        with self.lock:
            if self._tasks.get(thread) is task:
                del self._tasks[thread]

    def all(self) -> list[T]:
        """Return all tasks."""
        return [task for _, task in self.items()]

    def items(self) -> list[tuple[threading.Thread, T]]:
        """Return all threads that have a task, with their tasks."""
        with self.lock:
            return list(self._tasks.items())


def find_thread(thread_id: int) -> threading.Thread:
    """Find the running thread with an identifier.

    Args:
        thread_id: ``threading.get_ident()`` of the thread, or ``Thread.ident``.

    Raises:
        TypeError: ``thread_id`` is not an integer.
        ValueError: no thread of this program has the identifier.
    """
    if not isinstance(thread_id, int) or isinstance(thread_id, bool):
        raise TypeError(
            f"thread_id must be the identifier of a thread, an int, not {thread_id!r}: "
            "see threading.get_ident()"
        )
    found: Optional[threading.Thread] = None
    for thread in threading.enumerate():
        if thread.ident == thread_id:
            found = thread
    if found is None:
        raise ValueError(
            f"no running thread has the identifier thread_id={thread_id}: use the ident of a "
            "thread that has been started and has not ended, as threading.get_ident() returns it"
        )
    return found
