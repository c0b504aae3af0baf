"""The connect timeout. It runs only while the server is awaited."""

from __future__ import annotations

from typing import Any, Callable, Optional

from ...engine.engine import Engine
from ...engine.timer import Timer


class PausableTimeout:
    """The time that a connection may take to be made, all login attempts together.

    It runs only while the server is awaited. It is paused while the connection waits for a permit
    of the handshake limiter or for a jump host. The time that a slow handler holds up the engine
    does not count.

    All methods are for the engine's thread.

    Args:
        engine: the engine.
        seconds: the time allowed.

    Attributes:
        on_exhausted: called on the engine's thread when no time is left.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self.on_exhausted: Callable[[], Any] = lambda: None
        self._engine = engine
        self._seconds = self._left = seconds
        self._since: Optional[float] = None
        self._stalled = 0.0
        self._timer: Optional[Timer] = None

    @property
    def left(self) -> float:
        """The number of seconds left."""
        if self._since is None:
            return self._left
        return self._left - (self._engine.clock() - self._since)

    def run(self) -> None:
        """Start, or go on after a pause. Does nothing if the timeout is running."""
        if self._since is None:
            self._since = self._engine.clock()
            self._stalled = self._engine.stalled
            self._timer = self._engine.call_later(self._left, self._on_timer)

    def _on_timer(self) -> None:
        stalled = self._engine.stalled - self._stalled
        if stalled:
            # A slow handler kept the engine from reading: that is not the peer's fault.
            self.grant(stalled)
        else:
            self.on_exhausted()

    def pause(self) -> None:
        """Stop the clock."""
        self._left = self.left
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Stop for good, and drop the reference to the callback."""
        self.pause()
        self.on_exhausted = lambda: None

    def grant(self, seconds: float) -> None:
        """Run for this many seconds from now on."""
        self.pause()
        self._left = seconds
        self.run()

    def renew(self) -> None:
        """Restore the whole time: the delay so far was not the server's fault."""
        self.pause()
        self._left = self._seconds
