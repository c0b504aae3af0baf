"""Limits the handshakes in flight with one server; the limit is learnt from the outcomes.

A server accepts a number of unauthenticated connections and turns the others away (MaxStartups in
sshd_config(5)). It does not tell the number. As with TCP's congestion window, our limit is halved
when a handshake is turned away, and grows by one for each round that went well.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from enum import Enum
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

#: The limit for a server that is not known yet.
START = 64.0

#: The lowest limit for the nodes behind a jump host, which share one: a node may turn us away for
#: reasons of its own. sshd accepts this number by default before it drops any.
JUMP_FLOOR = 10.0


class Limit(NamedTuple):
    """The limit of one server.

    Attributes:
        allowed: the number of handshakes that may be in flight; a fraction counts towards the next.
        lowered: how often the number was lowered.
    """

    allowed: float = START
    lowered: int = 0


class Outcome(Enum):
    """The end of a handshake, as a hint at the server's limit."""

    SERVED = "served"  # authenticated, or refused for another reason
    TURNED_AWAY = "turned away"  # closed or reset before that
    UNKNOWN = "unknown"  # given up by us, or never begun


def learn(limit: Limit, outcome: Outcome, lowered: int, in_flight: int, floor: float) -> Limit:
    """Learn from the end of one handshake. Pure.

    1. It was turned away: half of the handshakes in flight, or half of the limit if that is less;
       never less than the floor.
    2. It was turned away, but began before the limit was last lowered: no change, this is known.
    3. It was served while most permits were in use: a little more, one for a whole round of them.
    4. It was served while permits were left, or its end says nothing: no change.

    Args:
        limit: the limit so far.
        outcome: the end of the handshake.
        lowered: ``limit.lowered`` when it began.
        in_flight: the number of handshakes in flight, this one included.
        floor: the lowest limit.
    """
    if outcome is Outcome.TURNED_AWAY:
        if lowered < limit.lowered:
            return limit
        half = min(limit.allowed, in_flight) / 2
        return Limit(max(floor, half), limit.lowered + 1)
    if outcome is Outcome.SERVED and 2 * in_flight > limit.allowed:
        return limit._replace(allowed=limit.allowed + 1 / limit.allowed)
    return limit


class _Server:
    """One server: its limit, its handshakes and its queue. The limiter's lock guards it."""

    def __init__(self) -> None:
        self.limit = Limit()
        self.in_flight = 0
        self.waiting: deque[Permit] = deque()


class Permit:
    """The permission for one handshake: awaited, acquired, released.

    See :meth:`HandshakeLimiter.acquire`.
    """

    def __init__(
        self, limiter: HandshakeLimiter, server: Hashable, floor: float, then: Callable[[], Any]
    ) -> None:
        self.server = server
        self.floor = floor
        #: None once the permit is released.
        self.then: Optional[Callable[[], Any]] = then
        #: ``Limit.lowered`` when the permit was acquired; None before.
        self.lowered: Optional[int] = None
        self._limiter = limiter

    def release(self, outcome: Outcome) -> None:
        """Release the permit, or stop waiting for it. On any thread; only the first call counts."""
        self._limiter.release(self, outcome)


class HandshakeLimiter:
    """Allows as many handshakes with each server at once as the server seems to accept.

    Args:
        post: has a call made on the engine's thread, from any thread.
    """

    def __init__(self, post: Callable[[Callable[[], Any]], Any]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._servers: dict[Hashable, _Server] = {}

    def __repr__(self) -> str:
        with self._lock:
            in_flight = sum(server.in_flight for server in self._servers.values())
            waiting = sum(len(server.waiting) for server in self._servers.values())
        return f"<HandshakeLimiter: {in_flight} handshakes in flight, {waiting} wait>"

    def acquire(self, server: Hashable, floor: float, then: Callable[[], Any]) -> Permit:
        """Acquire a permit, or wait for one. On the engine's thread.

        Args:
            server: identifies the server; handshakes that share a limit have it in common.
            floor: the lowest limit.
            then: called on the engine's thread when the permit is acquired: at once, or later.
        """
        permit = Permit(self, server, floor, then)
        with self._lock:
            known = self._servers.setdefault(server, _Server())
            if known.waiting or not self._admit(known, permit):
                known.waiting.append(permit)
                return permit
        then()
        return permit

    @staticmethod
    def _admit(known: _Server, permit: Permit) -> bool:
        if known.in_flight >= max(1, int(known.limit.allowed)):
            return False
        known.in_flight += 1
        permit.lowered = known.limit.lowered
        return True

    def release(self, permit: Permit, outcome: Outcome) -> None:
        """Release a permit; see :meth:`Permit.release`."""
        with self._lock:
            if permit.then is None:
                return
            permit.then = None
            known = self._servers[permit.server]
            if permit.lowered is None:
                known.waiting.remove(permit)
            else:
                known.limit = learn(
                    known.limit, outcome, permit.lowered, known.in_flight, permit.floor
                )
                known.in_flight -= 1
            admitted = []
            while known.waiting and self._admit(known, known.waiting[0]):
                admitted.append(known.waiting.popleft())
            if not known.in_flight and not known.limit.lowered:
                del self._servers[permit.server]  # nothing was learnt
        for other in admitted:
            self._post(partial(self._proceed, other))

    @staticmethod
    def _proceed(permit: Permit) -> None:
        # The permit may have been released since.
        if permit.then is not None:
            permit.then()
