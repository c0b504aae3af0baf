"""The pool of transports: each test states one rule, and looks at repr() step by step."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pyclustershell.engine.delayed import DelayedCalls
from pyclustershell.engine.engine import Engine
from pyclustershell.phases import LoginTimes
from pyclustershell.ssh.cleanup import RemoteCleanup
from pyclustershell.ssh.pool import Open, Reuse, TransportPool, Wait, decide
from pyclustershell.ssh.states import CONNECTION_MOVES, ConnectionEvent, ConnectionState, move


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeConnection:
    """A connection that is there at once, with the real one's states."""

    def __init__(self, settings: Any, clock: Clock, on_closed: Any = None) -> None:
        self.settings = settings
        self.clock = clock
        self.on_closed = on_closed
        self.state = ConnectionState.NEW
        self.idle_since = clock()
        self.lessee: Any = None
        self.watched = True
        self.retries = 0
        self.traffic = (0, 0)
        self.login_times = LoginTimes()

    def __repr__(self) -> str:
        return f"<{self.settings}: {self.state.value}>"

    def take(self, *events: ConnectionEvent) -> None:
        for event in events:
            self.state = move(CONNECTION_MOVES, self.state, event)

    def dial(self, lessee: Any) -> None:
        event = ConnectionEvent
        self.take(event.DIAL, event.CONNECTED, event.KEYED, event.AUTHENTICATED, event.LEASE)
        self.lessee = lessee
        lessee.on_leased(self, reused=False)

    def lease(self, lessee: Any) -> bool:
        if self.state is not ConnectionState.READY:
            return False
        self.take(ConnectionEvent.LEASE)
        self.lessee = lessee
        return True

    def release(self) -> bool:
        self.take(ConnectionEvent.RELEASE)
        self.idle_since = self.clock()
        self.lessee = None
        return self.state is ConnectionState.READY

    def close(self) -> None:
        self.take(ConnectionEvent.CLOSE)

    def watch(self) -> None:
        self.watched = True

    def unwatch(self) -> None:
        self.watched = False

    def read_now(self, on_engine: bool = False) -> None:
        """Nothing ever comes."""


class Lessee:
    def __init__(self, settings: str) -> None:
        self.settings: Any = settings
        self.connection: Any = None
        self.reused: bool | None = None
        self.turns = 0

    def on_dequeued(self, login: Any) -> None:
        self.turns += 1

    def on_leased(self, connection: Any, reused: bool) -> None:
        self.connection = connection
        self.reused = reused

    def on_rerouted(self, error: Any) -> None:
        raise AssertionError(error)

    def on_lost(self, error: Any) -> None:
        raise AssertionError(error)


class Lab:
    """A pool with fake connections, and an engine that only keeps the calls posted to it."""

    def __init__(self, limit: int, idle_ttl: float = 60.0) -> None:
        self.clock = Clock()
        self.engine = Engine(clock=self.clock)
        self.dialed: list[str] = []
        self.delayed_calls = DelayedCalls(self.clock)
        self.pool = TransportPool(self.engine, self.connect, self.delayed_calls, limit, idle_ttl)

    def connect(self, settings: Any, on_closed: Any) -> Any:
        self.dialed.append(settings)
        return FakeConnection(settings, self.clock, on_closed)

    def lease(self, settings: str) -> Lessee:
        lessee = Lessee(settings)
        self.pool.lease(lessee)
        return lessee

    def release(self, lessee: Lessee) -> None:
        self.pool.release(lessee.connection)
        self.engine._mailbox.drain()


# -- the decision --


def idle(*names: str) -> list[Any]:
    clock = Clock()
    return [FakeConnection(name, clock) for name in names]


def choose(wanted: Any, *args: Any) -> Any:
    return decide(wanted, *args)


def test_case_1_an_idle_connection_of_the_endpoint_is_reused() -> None:
    connections = idle("a", "b")
    assert choose("b", connections, 2, 2, {}) == Reuse(connections[1])


def test_case_2_there_is_room_for_one_more() -> None:
    assert choose("c", idle("a"), 1, 2, {}) == Open(evict=None)


def test_case_3_the_least_recently_used_idle_connection_makes_room() -> None:
    connections = idle("a", "b")
    assert choose("c", connections, 2, 2, {}) == Open(evict=connections[0])


def test_case_3_one_that_nobody_waits_for_makes_room_first() -> None:
    connections = idle("a", "b")
    assert choose("c", connections, 2, 2, {"a": 1}) == Open(evict=connections[1])
    assert choose("c", connections, 2, 2, {"a": 1, "b": 1}) == Open(evict=connections[0])


def test_case_4_everything_is_in_use() -> None:
    assert choose("c", [], 2, 2, {}) == Wait()


# -- the pool --


def test_a_connection_given_back_serves_the_next_command_of_its_endpoint() -> None:
    lab = Lab(limit=2)
    first = lab.lease("a")
    assert repr(lab.pool) == "<TransportPool of 2: 1 leased; 0 wait>"
    lab.release(first)
    assert repr(lab.pool) == "<TransportPool of 2: 1 ready; 0 wait>"
    again = lab.lease("a")
    assert again.connection is first.connection
    assert (first.reused, again.reused) == (False, True)
    assert lab.dialed == ["a"]


def test_a_connection_in_use_is_not_shared() -> None:
    lab = Lab(limit=2)
    assert lab.lease("a").connection is not lab.lease("a").connection


def test_no_more_connections_than_the_limit_and_the_waiting_are_served_in_order() -> None:
    lab = Lab(limit=2)
    a, b, c, d = (lab.lease(name) for name in "abcd")
    assert repr(lab.pool) == "<TransportPool of 2: 2 leased; 2 wait>"
    assert c.turns == d.turns == 0
    lab.release(b)
    assert repr(lab.pool) == "<TransportPool of 2: 2 leased; 1 wait>"
    assert c.turns == 1
    assert b.connection is None or b.connection.state is ConnectionState.CLOSED
    lab.release(a)
    assert d.connection.settings == "d"
    assert lab.dialed == ["a", "b", "c", "d"]


def test_one_who_gives_up_waiting_is_passed_over() -> None:
    lab = Lab(limit=1)
    a, b, c = (lab.lease(name) for name in "abc")
    lab.pool.cancel(b)
    lab.release(a)
    assert b.connection is None
    assert c.connection is not None


def test_a_connection_that_died_in_the_pool_is_replaced() -> None:
    lab = Lab(limit=1)
    first = lab.lease("a")
    lab.release(first)
    first.connection.take(ConnectionEvent.CLOSE)
    again = lab.lease("a")
    assert again.reused is False
    assert again.connection.state is ConnectionState.LEASED
    assert repr(lab.pool) == "<TransportPool of 1: 1 leased; 0 wait>"


def test_an_idle_connection_lives_as_long_as_it_may() -> None:
    lab = Lab(limit=2, idle_ttl=60)
    a, b = lab.lease("a"), lab.lease("b")
    lab.release(a)
    lab.clock.now = 30
    lab.release(b)
    assert lab.pool.close_expired() == 30
    lab.clock.now = 60
    assert lab.pool.close_expired() == 30
    assert repr(lab.pool) == "<TransportPool of 2: 1 ready; 0 wait>"
    lab.clock.now = 90
    assert lab.pool.close_expired() is None
    assert repr(lab.pool) == "<TransportPool of 2: empty; 0 wait>"


def test_a_delayed_call_that_comes_late_is_not_made_again() -> None:
    calls: list[Any] = []

    class SlowDelayedCalls:
        """Makes a call although it was cancelled: the call had begun before."""

        def call_later(self, delay: float, function: Any) -> Any:
            calls.append(function)
            return lambda: None

    lab = Lab(limit=2)
    lab.pool._delayed_calls = SlowDelayedCalls()  # type: ignore[assignment]
    lab.pool.release(lab.lease("a").connection)
    lab.pool.on_run_ends()
    [late] = calls
    lab.pool.on_run_begins()
    late()
    lab.pool.on_run_ends()
    assert len(calls) == 2
    lab.pool.close()
    calls[1]()
    assert len(calls) == 2


def test_between_runs_delayed_calls_close_idle_connections() -> None:
    lab = Lab(limit=2, idle_ttl=0.0)
    a = lab.lease("a")
    lab.release(a)
    lab.pool.on_run_ends()
    assert a.connection.state is ConnectionState.CLOSED


def test_a_lowered_limit_is_kept_from_the_next_run_on() -> None:
    lab = Lab(limit=3)
    leased = [lab.lease(name) for name in "abc"]
    for lessee in leased:
        lab.release(lessee)
    lab.pool.limit = 1
    lab.pool.on_run_begins()
    assert repr(lab.pool) == "<TransportPool of 1: 1 ready; 0 wait>"
    assert leased[2].connection.state is ConnectionState.READY


def test_a_connection_given_back_over_a_lowered_limit_is_closed() -> None:
    lab = Lab(limit=2)
    a, b = lab.lease("a"), lab.lease("b")
    lab.pool.limit = 1
    lab.release(a)
    assert a.connection.state is ConnectionState.CLOSED
    lab.release(b)
    assert b.connection.state is ConnectionState.READY


def test_close_leaves_nothing_open() -> None:
    lab = Lab(limit=3)
    a, b = lab.lease("a"), lab.lease("b")
    lab.release(a)
    lab.pool.close()
    assert {a.connection.state, b.connection.state} == {ConnectionState.CLOSED}
    assert lab.pool.open_count == 0


class FakeChannel:
    """The channel of a command that ignores TERM."""

    closed = False

    def drop(self) -> None:
        self.closed = True


class FakeCleanup(RemoteCleanup):
    """A cleanup that does nothing until it is killed."""

    killed = 0

    def __init__(self, lab: Lab, lessee: Lessee, grace: float, is_gone: bool) -> None:
        channel: Any = FakeChannel()
        super().__init__(channel, lessee.connection, lab.pool.cleanups, grace)
        channel.has_exit_status = is_gone

    def _start(self) -> None:
        """Send nothing."""

    def kill(self, read: bool = True) -> None:
        self.killed += 1
        super().kill()


def test_close_kills_what_ignored_term() -> None:
    lab = Lab(limit=1)
    lessee = lab.lease("a")
    cleanup = FakeCleanup(lab, lessee, grace=0.0, is_gone=False)
    cleanup.begin()
    lab.pool.close()
    assert cleanup.killed == 1
    assert lessee.connection.state is ConnectionState.CLOSED
    lab.pool.close()
    assert cleanup.killed == 1


def test_a_cleanup_releases_its_connection_once() -> None:
    lab = Lab(limit=1)
    first = lab.lease("a")
    cleanup = FakeCleanup(lab, first, grace=30.0, is_gone=True)
    cleanup.begin()
    cleanup.kill()
    assert repr(lab.pool) == "<TransportPool of 1: 1 ready; 0 wait>"
    again = lab.lease("a")
    assert again.connection is first.connection
    cleanup.kill()
    assert repr(lab.pool) == "<TransportPool of 1: 1 leased; 0 wait>"


def test_close_waits_for_a_connection_that_is_being_given_back() -> None:
    lab = Lab(limit=1)
    lessee = lab.lease("a")
    began, go_on = threading.Event(), threading.Event()
    release = lab.pool.cleanups.release

    def release_slowly(connection: Any) -> None:
        began.set()
        go_on.wait(30)
        release(connection)

    lab.pool.cleanups.release = release_slowly
    cleanup = FakeCleanup(lab, lessee, grace=30.0, is_gone=True)
    cleanup.begin()
    delayed_calls = threading.Thread(target=cleanup._end)
    delayed_calls.start()
    began.wait(30)
    closer = threading.Thread(target=lab.pool.close)
    closer.start()
    closer.join(0.1)
    assert closer.is_alive()
    go_on.set()
    closer.join(30)
    delayed_calls.join(30)
    assert cleanup.killed == 0
    assert lessee.connection.state is ConnectionState.CLOSED


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_open_connections_never_pass_the_limit(limit: int) -> None:
    lab = Lab(limit)
    leased: list[Lessee] = []
    for number in range(60):
        leased.append(lab.lease(f"n{number % 7}"))
        assert lab.pool.open_count <= limit
        holding = [x for x in leased if x.connection and x.connection.lessee is x]
        if number % 3 == 0:
            lab.release(holding[0])
            assert lab.pool.open_count <= limit


def test_stats_count_what_was_done_also_by_connections_that_are_gone() -> None:
    lab = Lab(limit=2)
    a, b = lab.lease("a"), lab.lease("b")
    waiting = lab.lease("c")
    a.connection.traffic = (10, 100)
    a.connection.retries = 2
    b.connection.traffic = (1, 2)
    stats = lab.pool.stats()
    assert (stats.open, stats.idle, stats.waiting, stats.opened) == (2, 0, 1, 2)
    assert (stats.bytes_sent, stats.bytes_received, stats.retried) == (11, 102, 2)
    lab.release(a)  # makes room for c
    lab.release(waiting)
    lab.lease("c")
    stats = lab.pool.stats()
    assert (stats.opened, stats.reused, stats.evicted, stats.waiting) == (3, 1, 1, 0)
    assert (stats.bytes_sent, stats.bytes_received, stats.retried) == (11, 102, 2)
    lab.pool.close()
    stats = lab.pool.stats()
    assert (stats.open, stats.opened) == (0, 3)
    assert (stats.bytes_sent, stats.bytes_received) == (11, 102)
