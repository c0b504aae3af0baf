"""The loop, its timers and its mailbox, on a clock that the tests set."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Any

import pytest

from pyclustershell import platform
from pyclustershell.engine.engine import READ, Engine, EngineClient
from pyclustershell.engine.mailbox import Mailbox
from pyclustershell.engine.polling import POLLING
from pyclustershell.engine.port import EnginePort
from pyclustershell.engine.timer import EngineTimer, Timer, TimerQueue
from pyclustershell.event import EventHandler
from pyclustershell.exceptions import AlreadyRunningError, EngineIllegalOperationError, TimeoutError


class FakeClock:
    """A clock that tests and a sleeping selector set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SleepingSelector(selectors.DefaultSelector):
    """A selector that moves the clock instead of sleeping."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            # Without a timeout only another thread can end the wait: give it time.
            if timeout is None:
                return super().select(10)
            self._clock.now += timeout
        return ready


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(clock: FakeClock) -> Any:
    engine = Engine(clock=clock, make_selector=lambda: SleepingSelector(clock))
    yield engine
    engine.close()


FOREVER = float("inf")


class Client(EngineClient):
    """A client that ends ``lasts`` seconds after its start, and records the calls it gets."""

    def __init__(self, name: str, log: list[str], lasts: float | None = None) -> None:
        self.name = name
        self.log = log
        self.lasts = lasts
        self.engine: Engine | None = None

    def start(self, engine: Engine) -> None:
        self.engine = engine
        self.log.append(f"start {self.name}")
        engine.start_clock(self)
        if self.lasts is None:
            self.end()
        elif self.lasts != FOREVER:
            engine.call_later(self.lasts, self.end)

    def end(self) -> None:
        self.log.append(f"end {self.name}")
        assert self.engine is not None
        self.engine.finished(self)

    def on_timeout(self) -> None:
        self.log.append(f"timeout {self.name}")
        assert self.engine is not None
        self.engine.finished(self)

    def abort(self, timed_out: bool = False) -> None:
        self.log.append(f"abort {self.name}" + (" timed out" if timed_out else ""))
        if self.engine is not None:
            self.engine.finished(self)


def test_nothing_sleeps_for_long_where_control_c_does_not_wake_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "LONGEST_SLEEP", 0.5)
    assert engine._longest_wait(None) == engine._longest_wait(engine.clock() + 100) == 0.5
    engine.call_later(0.25, lambda: None)
    assert engine._longest_wait(None) == 0.25
    monkeypatch.setattr(platform, "LONGEST_SLEEP", None)
    engine.timers.clear()
    assert engine._longest_wait(None) is None


@pytest.mark.parametrize("name", sorted(POLLING))
def test_a_timeout_may_be_longer_than_selectors_can_wait(engine: Engine, name: str) -> None:
    """epoll's limit is 24.8 days, and that of all selectors is that of time_t."""
    engine.call_later(1e18, lambda: None)
    longest = engine._longest_wait(engine.clock() + 1e10)
    assert longest is not None
    assert longest > 0
    one, other = socket.socketpair()
    with one, other, POLLING[name]() as selector:
        selector.register(one, selectors.EVENT_READ)
        other.send(b"x")
        assert selector.select(longest)


# -- clients and the fanout --


def test_clients_start_in_order_and_within_the_fanout(engine: Engine) -> None:
    log: list[str] = []
    engine.fanout = 2
    for name in "abcd":
        engine.add(Client(name, log, lasts=1.0))
    engine.run()
    assert log == [
        *("start a", "start b"),
        *("end a", "end b", "start c", "start d"),
        *("end c", "end d"),
    ]


def test_a_client_that_does_not_count_is_not_held_back(engine: Engine) -> None:
    log: list[str] = []
    engine.fanout = 1
    port = Client("port", log, lasts=1.0)
    port.delayable = False
    engine.add(Client("a", log, lasts=1.0))
    engine.add(port)
    engine.run()
    assert log[:2] == ["start a", "start port"]


def test_thousands_of_clients_that_end_at_once_do_not_nest(engine: Engine) -> None:
    log: list[str] = []
    engine.fanout = 1
    for number in range(3000):
        engine.add(Client(str(number), log))
    engine.run()
    assert len(log) == 6000


def test_a_client_that_takes_too_long_is_told(engine: Engine, clock: FakeClock) -> None:
    log: list[str] = []
    slow = Client("slow", log, lasts=10.0)
    slow.timeout = 2.5
    engine.add(slow)
    engine.run()
    assert log == ["start slow", "timeout slow"]
    assert clock.now == pytest.approx(102.5)


def test_a_clock_that_is_stopped_and_started_again(engine: Engine, clock: FakeClock) -> None:
    log: list[str] = []
    slow = Client("slow", log, lasts=1000.0)
    slow.timeout = 2.5
    engine.add(slow)
    engine.call_later(2.0, lambda: engine.stop_clock(slow))
    engine.call_later(8.0, lambda: engine.start_clock(slow))
    engine.run()
    assert log == ["start slow", "timeout slow"]
    assert clock.now == pytest.approx(110.5)
    engine.stop_clock(slow)  # it has ended


def test_the_loop_ends_with_autoclose_clients_aborted(engine: Engine) -> None:
    log: list[str] = []
    watcher = Client("watcher", log, lasts=1000.0)
    watcher.autoclose = True
    engine.add(watcher)
    engine.add(Client("a", log, lasts=1.0))
    engine.run()
    assert log == ["start watcher", "start a", "end a", "abort watcher"]


def test_a_run_that_takes_too_long_aborts_everything(engine: Engine, clock: FakeClock) -> None:
    log: list[str] = []
    engine.fanout = 1
    engine.add(Client("a", log, lasts=1000.0))
    engine.add(Client("b", log, lasts=1000.0))
    with pytest.raises(TimeoutError):
        engine.run(timeout=5)
    assert log == ["start a", "abort a timed out", "abort b timed out"]
    assert clock.now == pytest.approx(105)
    # The engine can run again.
    engine.add(Client("c", log))
    engine.run()
    assert log[-2:] == ["start c", "end c"]


def test_what_a_callback_raises_leaves_run_with_nothing_left_over(engine: Engine) -> None:
    log: list[str] = []
    engine.add(Client("a", log, lasts=1000.0))

    def fail() -> None:
        raise ZeroDivisionError

    engine.call_later(1.0, fail)
    with pytest.raises(ZeroDivisionError):
        engine.run()
    assert log == ["start a", "abort a"]
    assert not engine.running
    assert len(engine.timers) == 0
    assert "at rest: 0 clients started, 0 waiting" in repr(engine)


def test_run_inside_run_is_refused(engine: Engine) -> None:
    errors = []

    def again() -> None:
        try:
            engine.run()
        except AlreadyRunningError as error:
            errors.append(error)

    engine.post(again)
    engine.add(Client("a", [], lasts=1.0))
    engine.run()
    assert len(errors) == 1


# -- descriptors --


def test_a_descriptor_unregistered_by_an_earlier_callback_is_not_called(engine: Engine) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    client = Client("a", [], lasts=FOREVER)
    called = []

    def on_ready(mine: int, other: int) -> None:
        called.append(mine)
        engine.unregister(watches[other])
        engine.unregister(watches[mine])
        client.end()

    try:
        for _reader, writer in pairs:
            writer.send(b"x")
        watches = [
            engine.register(pairs[0][0], READ, lambda _events: on_ready(0, 1)),
            engine.register(pairs[1][0], READ, lambda _events: on_ready(1, 0)),
        ]
        engine.add(client)
        engine.run()
    finally:
        for reader, writer in pairs:
            reader.close()
            writer.close()
    assert len(called) == 1


def test_a_task_that_never_ran_holds_no_descriptor() -> None:
    engine = Engine()
    engine.post(lambda: None)
    assert engine._selector is None
    assert not engine._mailbox.is_open
    assert engine.watched_descriptors == frozenset()


def test_the_watched_descriptors_are_those_of_the_selector() -> None:
    engine = Engine()
    reader, writer = socket.socketpair()
    with reader, writer:
        watch = engine.register(reader, READ, lambda _events: None)
        assert engine.watched_descriptors == {reader.fileno(), engine._mailbox.fileno()}
        engine.unregister(watch)
        assert engine.watched_descriptors == {engine._mailbox.fileno()}
        engine.close()
    assert engine.watched_descriptors == frozenset()


# -- the mailbox --


def test_calls_of_other_threads_are_made_on_the_engines_thread(engine: Engine) -> None:
    client = Client("a", [], lasts=FOREVER)
    threads = []

    def from_outside() -> None:
        threads.append(threading.current_thread())
        client.end()

    engine.add(client)
    engine.call_later(
        0.0, lambda: threading.Thread(target=engine.post, args=(from_outside,)).start()
    )
    engine.run()
    assert threads == [threading.current_thread()]


def test_calls_posted_while_the_mailbox_is_closed_are_made_when_it_opens() -> None:
    mailbox = Mailbox()
    calls: list[int] = []
    mailbox.post(calls.append, 1)
    mailbox.open()
    try:
        mailbox.post(calls.append, 2)
        assert selectors_ready(mailbox)
        mailbox.drain()
        assert calls == [1, 2]
        assert not selectors_ready(mailbox)
    finally:
        mailbox.close()
    mailbox.post(calls.append, 3)
    assert calls == [1, 2]


def test_calls_behind_one_that_raises_are_not_lost() -> None:
    mailbox = Mailbox()
    calls: list[int] = []
    mailbox.open()
    try:
        mailbox.post(calls.append, 1)
        mailbox.post(int, "not a number")
        mailbox.post(calls.append, 2)
        with pytest.raises(ValueError, match="not a number"):
            mailbox.drain()
        assert selectors_ready(mailbox)
        mailbox.drain()
    finally:
        mailbox.close()
    assert calls == [1, 2]


def test_nothing_is_lost_between_two_threads() -> None:
    mailbox = Mailbox()
    mailbox.open()
    calls: list[int] = []
    posted = 50_000

    def post_all() -> None:
        for number in range(posted):
            mailbox.post(calls.append, number)

    thread = threading.Thread(target=post_all)
    with selectors.DefaultSelector() as selector:
        selector.register(mailbox.fileno(), READ)
        thread.start()
        # A lost wake-up shows as ten seconds without a signal and as missing calls.
        while len(calls) < posted and selector.select(10):
            mailbox.drain()
    thread.join()
    mailbox.close()
    assert calls == list(range(posted))


def selectors_ready(mailbox: Mailbox) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(mailbox.fileno(), READ)
        return bool(selector.select(0))


# -- timers --


def test_what_came_during_a_slow_callback_is_served_before_time_is_up(
    engine: Engine, clock: FakeClock
) -> None:
    log: list[str] = []
    near, far = socket.socketpair()
    with near, far:
        client = Client("a", log, lasts=FOREVER)

        def slow() -> None:
            clock.now += 30
            far.send(b"!")

        def arrived(_events: int) -> None:
            log.append(f"arrived {near.recv(1)!r}")
            timer.cancel()
            engine.finished(client)

        engine.add(client)
        watch = engine.register(near, READ, arrived)
        timer = engine.call_later(10, lambda: log.append("time is up"))
        engine.post(engine.post, slow)  # in the loop, not before it
        engine.run()
        engine.unregister(watch)
    assert log == ["start a", "arrived b'!'"]
    assert engine.stalled == 30


def test_callbacks_that_are_always_slow_do_not_stop_the_timers(
    engine: Engine, clock: FakeClock
) -> None:
    log: list[str] = []
    client = Client("a", log, lasts=FOREVER)

    def slow() -> None:
        clock.now += 1
        if len(log) < 2:
            engine.post(slow)
        else:
            engine.finished(client)

    engine.add(client)
    engine.call_later(5, lambda: log.append("time is up"))
    engine.post(slow)
    engine.run()
    assert log == ["start a", "time is up"]


def test_a_call_that_the_loop_posts_itself_is_made_without_sleeping(
    engine: Engine, clock: FakeClock
) -> None:
    client = Client("a", [], lasts=FOREVER)
    engine.add(client)
    engine.call_later(60, lambda: None)
    engine.post(lambda: engine.post(engine.finished, client))
    before = clock.now
    engine.run(timeout=30)
    assert clock.now == before


class Ticks(EventHandler):
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.times: list[float] = []

    def ev_timer(self, timer: EngineTimer) -> None:
        self.times.append(self.clock.now - 100)


def test_a_timer_fires_once(engine: Engine, clock: FakeClock) -> None:
    ticks = Ticks(clock)
    timer = EngineTimer(ticks)
    engine.timers.add(timer, 1.5)
    engine.run()
    assert ticks.times == [1.5]
    assert not timer.is_valid()
    with pytest.raises(EngineIllegalOperationError, match="make a new timer"):
        timer.set_nextfire(1)


def test_a_repeating_timer_does_not_drift(engine: Engine, clock: FakeClock) -> None:
    class Slow(Ticks):
        def ev_timer(self, timer: EngineTimer) -> None:
            super().ev_timer(timer)
            clock.now += 0.4
            if len(self.times) == 4:
                timer.invalidate()

    ticks = Slow(clock)
    engine.timers.add(EngineTimer(ticks), 1.0, 1.0)
    engine.run()
    assert ticks.times == pytest.approx([1, 2, 3, 4])


def test_a_timer_can_be_rearmed_from_its_own_event(engine: Engine, clock: FakeClock) -> None:
    class Twice(Ticks):
        def ev_timer(self, timer: EngineTimer) -> None:
            super().ev_timer(timer)
            if len(self.times) == 1:
                timer.set_nextfire(5.0)

    ticks = Twice(clock)
    engine.timers.add(EngineTimer(ticks), 1.0)
    engine.run()
    assert ticks.times == [1, 6]


def test_an_autoclose_timer_does_not_hold_the_loop(engine: Engine, clock: FakeClock) -> None:
    ticks = Ticks(clock)
    engine.timers.add(EngineTimer(ticks, autoclose=True), 10.0)
    engine.add(Client("a", [], lasts=1.0))
    engine.run()
    assert ticks.times == []
    assert clock.now == pytest.approx(101)


def test_a_timer_cancelled_by_an_earlier_one_of_the_same_pass_does_not_fire() -> None:
    clock = FakeClock()
    queue = TimerQueue(clock)
    fired = []
    second = Timer(lambda: fired.append("second"))
    queue.add(Timer(lambda: (fired.append("first"), second.cancel())), 1.0)
    queue.add(second, 1.0)
    clock.now += 2
    queue.fire_expired()
    assert fired == ["first"]
    assert len(queue) == 0


def test_cancelled_timers_do_not_pile_up() -> None:
    queue = TimerQueue(FakeClock())
    for _ in range(10_000):
        timer = Timer(lambda: None)
        queue.add(timer, 1000.0)
        timer.cancel()
    assert len(queue) == 0
    assert len(queue._heap) < 200


def test_a_timer_needs_a_handler_that_hears_it() -> None:
    with pytest.raises(TypeError, match="ev_timer"):
        EngineTimer(None)


# -- ports --


class Inbox(EventHandler):
    def __init__(self) -> None:
        self.started: list[EnginePort] = []
        self.messages: list[object] = []

    def ev_port_start(self, port: EnginePort) -> None:
        self.started.append(port)

    def ev_msg(self, port: EnginePort, msg: object) -> None:
        self.messages.append(msg)


def make_port(
    engine: Engine, inbox: Inbox, autoclose: bool = False, limit: int = 100
) -> EnginePort:
    port = EnginePort(engine.post, inbox, autoclose, limit, threading.current_thread())
    engine.add_port(port)
    return port


def test_messages_sent_before_the_run_are_delivered_in_order(engine: Engine) -> None:
    inbox = Inbox()
    port = make_port(engine, inbox, autoclose=True)
    assert port.msg_send("one")
    assert port.msg_send("two")
    engine.add(Client("a", [], lasts=1.0))
    engine.run()
    assert inbox.messages == ["one", "two"]
    assert inbox.started == [port]
    # The port outlives the run.
    port.msg_send("three")
    engine.run()
    assert inbox.messages == ["one", "two", "three"]
    assert inbox.started == [port]


def test_a_port_holds_the_loop_until_it_is_removed(engine: Engine) -> None:
    class Last(Inbox):
        def ev_msg(self, port: EnginePort, msg: object) -> None:
            super().ev_msg(port, msg)
            engine.remove_port(port)

    inbox = Last()
    port = make_port(engine, inbox)
    told: list[bool] = []
    sender = threading.Thread(target=lambda: told.append(port.msg("the end")))
    engine.post(sender.start)
    engine.run()
    sender.join(10)
    assert inbox.messages == ["the end"]
    assert told == [True]
    assert port.msg("too late") is False
    assert port.msg_send("too late") is False


def test_a_sender_whose_message_is_dropped_is_told(engine: Engine) -> None:
    port = make_port(engine, Inbox(), autoclose=True)
    told: list[bool] = []
    sender = threading.Thread(target=lambda: told.append(port.msg("never")))
    sender.start()
    while not port._letters:
        assert sender.is_alive()
    engine.remove_port(port)
    sender.join(10)
    assert told == [False]


def test_more_messages_than_may_wait_make_their_sender_wait(engine: Engine) -> None:
    inbox = Inbox()
    port = make_port(engine, inbox, limit=2)
    sent: list[int] = []

    def send_all() -> None:
        for number in range(10):
            port.msg_send(number)
            sent.append(number)
        engine.post(engine.remove_port, port)

    sender = threading.Thread(target=send_all)
    sender.start()
    while len(sent) < 2:
        assert sender.is_alive()
    assert len(port._letters) == 2
    engine.run()
    sender.join(10)
    assert inbox.messages == list(range(10))


# -- starting from a callback --


def run_with(engine: Engine, log: list[str], on_start: Any, lasts: float | None = None) -> None:
    """Run a client that calls ``on_start()`` at its start, and one that waits for it."""
    first = Client("first", log, lasts)
    start = first.start
    first.start = lambda engine: (start(engine), on_start())  # type: ignore[method-assign]
    engine.add(first, Client("second", log, lasts))
    engine.run()


def test_a_client_that_a_callback_adds_starts_at_once(engine: Engine) -> None:
    log: list[str] = []

    def add() -> None:
        engine.add(Client("added", log, lasts=1.0))
        log.append("after add")

    run_with(engine, log, add, lasts=1.0)
    assert log[:4] == ["start first", "start added", "after add", "start second"]


def test_a_client_that_a_callback_adds_takes_nobodys_place(engine: Engine) -> None:
    log: list[str] = []
    engine.fanout = 2
    run_with(engine, log, lambda: engine.add(Client("added", log, lasts=1.0)), lasts=1.0)
    assert [line for line in log if "start" in line] == [
        "start first",
        "start second",
        "start added",
    ]


def test_thousands_that_start_each_other_and_end_at_once(engine: Engine) -> None:
    log: list[str] = []

    class Chain(Client):
        def start(self, engine: Engine) -> None:
            super().start(engine)
            if len(log) < 6000:
                engine.add(Chain("next", log))

    engine.add(Chain("first", log))
    engine.run()
    assert len(log) == 6000


def test_what_a_failed_start_leaves_behind_is_aborted(engine: Engine) -> None:
    log: list[str] = []

    class Failing(Client):
        def start(self, engine: Engine) -> None:
            raise RuntimeError("no")

    def add() -> None:
        engine.add(Failing("failing", log), Client("behind", log))

    with pytest.raises(RuntimeError):
        run_with(engine, log, add, lasts=1.0)
    assert {"abort first", "abort second", "abort behind"} <= set(log)
    engine.run()


def test_nothing_starts_while_all_is_being_aborted(engine: Engine) -> None:
    log: list[str] = []
    client = Client("first", log, lasts=10.0)
    abort = client.abort

    def abort_and_add(timed_out: bool = False) -> None:
        abort(timed_out)
        engine.add(Client("late", log, lasts=10.0))

    client.abort = abort_and_add  # type: ignore[method-assign]
    engine.add(client)
    with pytest.raises(TimeoutError):
        engine.run(timeout=1.0)
    assert "start late" not in log
    assert "abort late timed out" in log
