"""How many handshakes with one server may be in flight: the decision, and the limiter."""

from __future__ import annotations

from typing import Any, Callable

from pyclustershell.ssh.connect.limiter import (
    START,
    HandshakeLimiter,
    Limit,
    Outcome,
    Permit,
    learn,
)

SERVED, TURNED_AWAY, UNKNOWN = Outcome.SERVED, Outcome.TURNED_AWAY, Outcome.UNKNOWN


# -- learning --


def test_case_1_half_of_those_that_were_in_flight() -> None:
    assert learn(Limit(64.0), TURNED_AWAY, 0, 64, 1.0) == Limit(32.0, 1)
    assert learn(Limit(64.0), TURNED_AWAY, 0, 20, 1.0) == Limit(10.0, 1)
    assert learn(Limit(16.0), TURNED_AWAY, 0, 30, 1.0) == Limit(8.0, 1)
    assert learn(Limit(64.0), TURNED_AWAY, 0, 4, 10.0) == Limit(10.0, 1)


def test_case_2_what_began_before_tells_nothing_new() -> None:
    assert learn(Limit(32.0, 1), TURNED_AWAY, 0, 63, 1.0) == Limit(32.0, 1)
    assert learn(Limit(32.0, 1), TURNED_AWAY, 1, 32, 1.0) == Limit(16.0, 2)


def test_case_3_one_more_for_each_round_that_went_well() -> None:
    limit = Limit(8.0, 3)
    for _ in range(9):
        limit = learn(limit, SERVED, 3, 8, 1.0)
    assert 9.0 <= limit.allowed < 9.1
    assert limit.lowered == 3


def test_case_4_what_was_not_tried_is_not_learnt() -> None:
    assert learn(Limit(64.0), SERVED, 0, 10, 1.0) == Limit(64.0)
    assert learn(Limit(4.0), UNKNOWN, 0, 4, 1.0) == Limit(4.0)


# -- the limiter --


class Lab:
    """A limiter whose calls are kept until they are wanted."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], Any]] = []
        self.admitted: list[int] = []
        self.permits: list[Permit] = []
        self.limiter = HandshakeLimiter(self.posted.append)

    def acquire(self, server: str = "a", floor: float = 1.0) -> Permit:
        number = len(self.permits)
        permit = self.limiter.acquire(server, floor, lambda: self.admitted.append(number))
        self.permits.append(permit)
        return permit

    def run(self) -> None:
        while self.posted:
            self.posted.pop(0)()


def test_as_many_as_a_server_bears_and_the_others_in_order() -> None:
    lab = Lab()
    for _ in range(int(START) + 2):
        lab.acquire()
    assert repr(lab.limiter) == "<HandshakeLimiter: 64 handshakes in flight, 2 wait>"
    assert lab.admitted == list(range(64))
    lab.acquire("b")
    assert lab.admitted[-1] == 66
    lab.permits[7].release(SERVED)
    lab.run()
    assert lab.admitted[-1] == 64
    assert repr(lab.limiter) == "<HandshakeLimiter: 65 handshakes in flight, 1 wait>"


def test_who_gives_up_waiting_is_passed_over() -> None:
    lab = Lab()
    for _ in range(int(START) + 3):
        lab.acquire()
    lab.permits[64].release(UNKNOWN)
    lab.permits[0].release(UNKNOWN)
    lab.permits[65].release(UNKNOWN)  # admitted already, but not called yet
    lab.run()
    assert lab.admitted == [*range(64), 66]
    lab.permits[0].release(TURNED_AWAY)  # the first call counts
    assert repr(lab.limiter) == "<HandshakeLimiter: 64 handshakes in flight, 0 wait>"


def test_servers_of_which_nothing_was_learnt_are_forgotten() -> None:
    lab = Lab()
    lab.acquire("a").release(SERVED)
    lab.acquire("b").release(TURNED_AWAY)
    assert list(lab.limiter._servers) == ["b"]


def test_a_server_that_bears_ten_is_found_out() -> None:
    """A server that drops whatever comes beyond ten; a hundred clients that come back."""
    lab = Lab()
    missing, asking, seen, refusals = 100, 0, 0, 0
    while missing:
        while asking < missing:
            lab.acquire()
            asking += 1
        lab.run()
        inside, seen = lab.admitted[seen:], len(lab.admitted)
        for place, number in enumerate(inside):
            refused = place >= 10
            lab.permits[number].release(TURNED_AWAY if refused else SERVED)
            asking -= 1
            missing -= not refused
            refusals += refused
    # Without a limit, 450 would have been.
    assert refusals < 100
