"""How many handshakes with one server may be in flight, learnt from how it behaves.

A server keeps so many unauthenticated connections and turns others away (MaxStartups in
sshd_config(5)); it does not say how many. As with TCP's congestion window, the number is halved
when somebody is turned away, and grows by one for each round that went well.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from enum import Enum
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

#: With how many a server that is not known yet is trusted.
START = 64.0

#: Below that nobody behind a jump host has to wait for others: one of the nodes may turn us away
#: for reasons of its own. It is what sshd allows by default before it drops any.
JUMP_FLOOR = 10.0


class Limit(NamedTuple):
    """What is known of one server.

    Attributes:
        allowed: how many handshakes may be in flight; a fraction is on the way to the next one.
        lowered: how often the number was lowered.
    """

    allowed: float = START
    lowered: int = 0


class Outcome(Enum):
    """How a handshake ended, as far as it says something about the server's limit."""

    SERVED = "served"  # authenticated, or refused for a reason of its own
    TURNED_AWAY = "turned away"  # closed or reset before that
    UNKNOWN = "unknown"  # given up by us, or never begun


def learn(limit: Limit, outcome: Outcome, lowered: int, in_flight: int, floor: float) -> Limit:
    """Learn from the end of one handshake. Pure.

    1. It was turned away: half of those that were in flight, or half of what was allowed if that
       is less; never less than the floor.
    2. It was turned away, but began before the number was lowered last: that is known already.
    3. It was served while most places were taken: a little more, one for a whole round of them.
    4. It was served while there was room, or its end says nothing: no change.

    Args:
        limit: what was known.
        outcome: how the handshake ended.
        lowered: ``limit.lowered`` when it began.
        in_flight: how many were in flight, this one included.
        floor: the least number to come down to.
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
    """One server: what is known of it, who is in, who waits. Guarded by the gate's lock."""

    def __init__(self) -> None:
        self.limit = Limit()
        self.in_flight = 0
        self.waiting: deque[Ticket] = deque()


class Ticket:
    """One handshake's place: waited for, taken, given back. Made by :meth:`HandshakeGate.enter`."""

    def __init__(
        self, gate: HandshakeGate, server: Hashable, floor: float, then: Callable[[], Any]
    ) -> None:
        self.server = server
        self.floor = floor
        self.then: Optional[Callable[[], Any]] = then
        #: ``Limit.lowered`` when the place was taken; None before that, and after it was left.
        self.lowered: Optional[int] = None
        self._gate = gate

    def leave(self, outcome: Outcome) -> None:
        """The handshake is over, or it is not waited for any more. On any thread, any number
        of times: the first one counts."""
        self._gate.leave(self, outcome)


class HandshakeGate:
    """Lets as many handshakes with each server begin as it seems to bear.

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
        return f"<HandshakeGate: {in_flight} handshakes in flight, {waiting} wait>"

    def enter(self, server: Hashable, floor: float, then: Callable[[], Any]) -> Ticket:
        """Take a place, or wait for one; on the engine's thread.

        Args:
            server: whose place: what handshakes that share a limit have in common.
            floor: the least number that the limit may come down to.
            then: called on the engine's thread when the place is taken: at once, or later.
        """
        ticket = Ticket(self, server, floor, then)
        with self._lock:
            known = self._servers.setdefault(server, _Server())
            if known.waiting or not self._admit(known, ticket):
                known.waiting.append(ticket)
                return ticket
        then()
        return ticket

    @staticmethod
    def _admit(known: _Server, ticket: Ticket) -> bool:
        if known.in_flight >= max(1, int(known.limit.allowed)):
            return False
        known.in_flight += 1
        ticket.lowered = known.limit.lowered
        return True

    def leave(self, ticket: Ticket, outcome: Outcome) -> None:
        """Give a place back; see :meth:`Ticket.leave`."""
        with self._lock:
            if ticket.then is None:
                return
            ticket.then = None
            known = self._servers[ticket.server]
            if ticket.lowered is None:
                known.waiting.remove(ticket)
            else:
                known.limit = learn(
                    known.limit, outcome, ticket.lowered, known.in_flight, ticket.floor
                )
                known.in_flight -= 1
            admitted = []
            while known.waiting and self._admit(known, known.waiting[0]):
                admitted.append(known.waiting.popleft())
            if not known.in_flight and not known.limit.lowered:
                del self._servers[ticket.server]  # nothing was learnt
        for other in admitted:
            self._post(partial(self._proceed, other))

    @staticmethod
    def _proceed(ticket: Ticket) -> None:
        # It may have been left since.
        if ticket.then is not None:
            ticket.then()
