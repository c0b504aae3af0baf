"""Ctrl-C (SIGINT) waits until the state of a task is whole.

Python raises KeyboardInterrupt between any two bytecodes. In the middle of a change it would leave
a selector, a pool or a count half changed, and the task would hang or fail in a later run. So while
the package's code changes such state, a handler only notes the signal. The event loop raises
KeyboardInterrupt at one point, right after it has waited for descriptors.

The code of a user's event handler can be interrupted everywhere: it may run long, and an exception
in it ends the run in good order. If it calls this package, the interrupt waits for the end of that
call, and is raised when the event handler has returned.

Only Python's default handler of SIGINT is replaced, and only on the main thread. A program with a
handler of its own keeps it; if that handler raises an exception, this can cut a change in two.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, Callable, Optional, TypeVar, cast

from ..event import INTERRUPTIBLE
from .forking import abandon_in_child

Method = TypeVar("Method", bound=Callable[..., Any])

_PACKAGE = __name__.partition(".")[0]


def _nothing() -> None:
    pass


def _plain_getsignal() -> Callable[[int], Any]:
    """Return the function below signal.getsignal().

    That one looks for the handler among the members of an enum. The error that it drops has the
    handler's repr(): under asyncio.run() this is the repr() of the main task, 20 us each time.
    """
    try:
        return cast(Callable[[int], Any], import_module("_signal").getsignal)
    except (ImportError, AttributeError):  # another Python than CPython and PyPy
        return signal.getsignal


_handler_of = _plain_getsignal()


class _Interrupts:
    """The interrupts of this process: a context manager, which defers them. It may be nested.

    It does nothing on other threads than the main thread.

    Attributes:
        requested: True if a signal has come, and no KeyboardInterrupt has been raised for it.
        wake: called when a signal has come, to end the waiting of the main thread's loop.
    """

    def __init__(self) -> None:
        self.requested = False
        self.wake: Callable[[], Any] = _nothing
        self._depth = 0
        # The thread that is in the with block.
        self._thread = 0
        # True while a signal writes to the descriptor of an engine.
        self._writes = False
        # One object: each access to a method makes another one.
        self._handler = self._on_signal
        abandon_in_child(self)

    def abandon(self) -> None:
        """In a forked child: its engines have descriptors of their own."""
        self.wake = _nothing
        if self._writes:
            self._writes = False
            signal.set_wakeup_fd(-1)
        if self._depth and self._thread != threading.get_ident():
            # Another thread has forked: no with block ends here.
            self._depth = 0
            self.requested = False
            if _handler_of(signal.SIGINT) is self._handler:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if _handler_of(signal.SIGINT) is signal.default_int_handler:
            # First this: from here on, no exception can come in between.
            signal.signal(signal.SIGINT, self._handler)
            self._depth = 0
            self._thread = threading.get_ident()
        self._depth += 1

    def __exit__(self, *exc_info: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth <= 0 and _handler_of(signal.SIGINT) is self._handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.requested:
                self.raise_now()

    @contextmanager
    def waking(self, wake: Callable[[], Any], fileno: int) -> Iterator[None]:
        """Wake a loop when a signal comes; called on the loop's thread.

        Args:
            wake: wakes the loop.
            fileno: a descriptor; a byte written there wakes the loop. A signal may come after
                Python's last look for signals and before the system call that waits: only this
                is in time then.
        """
        if not self._depth or threading.current_thread() is not threading.main_thread():
            yield
            return
        before, self.wake = self.wake, wake
        other = signal.set_wakeup_fd(fileno, warn_on_full_buffer=False)
        if other != -1:
            # It belongs to another loop of the program (asyncio's).
            signal.set_wakeup_fd(other)
        self._writes = other == -1
        try:
            yield
        finally:
            if self._writes:
                signal.set_wakeup_fd(-1)
            self._writes = False
            self.wake = before

    def raise_now(self) -> None:
        """Raise the KeyboardInterrupt that was deferred."""
        self.requested = False
        raise KeyboardInterrupt

    def _on_signal(self, _number: int, frame: Optional[FrameType]) -> None:
        if _runs_users_code(frame):
            self.requested = False
            raise KeyboardInterrupt
        self.requested = True
        self.wake()


def _runs_users_code(frame: Optional[FrameType]) -> bool:
    """Return True if an event handler runs, or a function that it has called.

    The innermost function of this package on the stack decides: if it is one that calls users'
    code, and is not itself the one that was interrupted, then users' code runs.
    """
    innermost = frame
    while frame is not None:
        module: str = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] == _PACKAGE:
            return frame is not innermost and frame.f_code in INTERRUPTIBLE
        frame = frame.f_back
    return True


#: Defers SIGINT in a with block.
interrupts = _Interrupts()


def uninterrupted(method: Method) -> Method:
    """Have a method run to its end before SIGINT raises KeyboardInterrupt."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with interrupts:
            return method(*args, **kwargs)

    return cast(Method, call)
