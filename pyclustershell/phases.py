"""The seconds that a login spends in each of its phases."""

from __future__ import annotations

from typing import NamedTuple, Optional


class LoginSeconds(NamedTuple):
    """The seconds of a login by phase, all attempts together. They add up to its whole time.

    Attributes:
        waiting: waiting for a permit of the handshake limiter, or for the next attempt.
        resolving: looking up the host name.
        connecting: until the server was reached; also the connection to a jump host.
        key_exchange: the key exchange, including the check of the host key.
        authenticating: the authentication.
    """

    waiting: float = 0.0
    resolving: float = 0.0
    connecting: float = 0.0
    key_exchange: float = 0.0
    authenticating: float = 0.0


# The phases: indexes of LoginSeconds.
WAITING, RESOLVING, CONNECTING, KEY_EXCHANGE, AUTHENTICATING = range(len(LoginSeconds._fields))


class LoginTimes:
    """The stopwatch of one connection, for all its login attempts together.

    It has no clock of its own: the caller passes the time. Exactly one phase is measured at a time.

    Attributes:
        complete: True if the login has succeeded.
    """

    __slots__ = ("_phase", "_seconds", "_since", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._seconds = [0.0] * len(LoginSeconds._fields)
        self._phase: Optional[int] = None
        self._since = 0.0

    def enter(self, phase: Optional[int], now: float) -> None:
        """A phase begins; the one before it has ended.

        Args:
            phase: the new phase, such as WAITING; None if the login has ended or is given up.
            now: the time in seconds.
        """
        before = self._phase
        if before is not None:
            self._seconds[before] += now - self._since
        self._phase = phase
        self._since = now

    def succeed(self, now: float) -> None:
        """The login has succeeded."""
        self.enter(None, now)
        self.complete = True

    def seconds(self) -> LoginSeconds:
        """Return the seconds of the phases that have ended."""
        return LoginSeconds(*self._seconds)
