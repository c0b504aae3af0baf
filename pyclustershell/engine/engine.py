"""The event loop: file descriptors, timers, a mailbox, and clients within the fanout."""

from __future__ import annotations

import logging
import selectors
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, Optional, Union

from .. import platform
from ..exceptions import AlreadyRunningError, TimeoutError
from .forking import abandon_in_child
from .interrupts import interrupts
from .mailbox import Mailbox
from .polling import HasFileno, longest_wait, make_selector
from .port import EnginePort
from .slowcalls import slow_calls
from .timer import Clock, Timer, TimerQueue

logger = logging.getLogger("pyclustershell.engine")

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# How deep starts may be nested: a start may call a handler, which starts the next client.
_DEEPEST_START = 8


FileLike = Union[int, HasFileno]
EventCallback = Callable[[int], Any]


# A callback that takes more seconds than this delays the others noticeably.
_STALL = 0.1


class Watch:
    """A registered descriptor, and the callback for when it is ready."""

    __slots__ = ("callback", "fd")

    def __init__(self, fd: int, callback: EventCallback) -> None:
        self.fd = fd
        self.callback = callback


class EngineClient(ABC):
    """One job that the engine starts when the fanout allows: mostly a command on one node.

    A client registers its file descriptors and timers with the engine itself, and calls
    :meth:`Engine.finished` once when it is done. Every method is called on the engine's thread.

    Attributes:
        autoclose: True if the loop may end although this client has not finished.
        delayable: True if the client counts for the fanout.
        timeout: seconds from start to :meth:`on_timeout`; None for no limit.
        descriptors: about how many file descriptors it holds at most.
    """

    autoclose: bool = False
    delayable: bool = True
    timeout: Optional[float] = None
    descriptors: int = 3  # a process's pipes, for example

    @abstractmethod
    def start(self, engine: Engine) -> None:
        """Begin: the fanout has room for this client.

        A failure is delivered as a result of this client; nothing is raised.
        """

    @abstractmethod
    def on_timeout(self) -> None:
        """End now, and deliver that the time ran out."""

    @abstractmethod
    def abort(self, timed_out: bool = False) -> None:
        """End now, because the run ends. The client may not have been started.

        Args:
            timed_out: True if the run ends because its time ran out.
        """


class Engine:
    """An event loop for one thread.

    It knows descriptors, time and clients, but neither SSH nor nodes. Other threads may call
    :meth:`post` only.

    Args:
        clock: monotonic time in seconds; tests pass their own.
        make_selector: makes the selector at first use; by default the platform's best.
        fanout: how many delayable clients run at once.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        make_selector: Callable[[], selectors.BaseSelector] = make_selector,
        fanout: int = 64,
    ) -> None:
        self.clock = clock
        self.fanout = fanout
        self.running = False
        #: The time at which the last run began, on the engine's clock.
        self.began = clock()
        #: While all clients are aborted because of an error: the error; else None.
        self.ended_by: Optional[BaseException] = None
        #: Seconds in total during which slow callbacks kept the loop from its descriptors.
        self.stalled = 0.0
        self.timers = TimerQueue(clock)
        self._make_selector = make_selector
        self._selector: Optional[selectors.BaseSelector] = None
        self._mailbox = Mailbox()
        self._watches: dict[int, Watch] = {}
        self._waiting: deque[EngineClient] = deque()
        self._started: dict[EngineClient, Optional[Timer]] = {}
        self._ports: dict[EnginePort, None] = {}
        # How many clients count for the fanout, and how many keep the loop running.
        self._delayable = 0
        self._holding = 0
        # How many clients, started or waiting, hold so many descriptors.
        self._counts: dict[int, int] = {}
        # The calls of call_at_end_of_pass(); None if no pass is under way.
        self._last_calls: Optional[list[Callable[[], Any]]] = None
        # The number of nested starts; True while all clients are being aborted.
        self._starts = 0
        self._clearing = False
        # Reports slow callbacks, if the environment asks for it.
        self._slow_calls = slow_calls(clock)
        abandon_in_child(self)

    def __repr__(self) -> str:
        state = "running" if self.running else "at rest"
        return (
            f"<Engine {state}: {len(self._started)} clients started, {len(self._waiting)} waiting, "
            f"fanout {self.fanout}, {len(self._watches)} descriptors, {len(self.timers)} timers>"
        )

    # -- for clients --

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback(*args)`` on the engine's thread, in the next pass. On any thread.

        If the loop is not running, the call is made in its next run.
        """
        if self._slow_calls is not None:
            callback = self._slow_calls.timed(callback)
        self._mailbox.post(callback, *args)

    def register(self, fileobj: FileLike, events: int, callback: EventCallback) -> Watch:
        """Call ``callback(events)`` whenever a descriptor is ready for READ or WRITE."""
        selector = self._open()
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if self._slow_calls is not None:
            callback = self._slow_calls.timed(callback)
        watch = Watch(fd, callback)
        selector.register(fd, events, watch)
        self._watches[fd] = watch
        return watch

    def modify(self, watch: Watch, events: int) -> None:
        """Wait for other events of a registered descriptor."""
        self._open().modify(watch.fd, events, watch)

    def unregister(self, watch: Watch) -> None:
        """Forget a descriptor, before it is closed. Harmless if it is forgotten already."""
        if self._watches.get(watch.fd) is watch:
            del self._watches[watch.fd]
            # Not _open(): an engine that was closed meanwhile must stay closed.
            if self._selector is not None:
                self._selector.unregister(watch.fd)

    def call_at_end_of_pass(self, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` at the end of this pass of the loop; now, if none is under way.

        So what many callbacks of a pass have to tell another thread can be told in one call. It is
        made even if a callback raises an exception. On the engine's thread.
        """
        if self._last_calls is None:
            callback()
        else:
            self._last_calls.append(callback)

    def _make_last_calls(self) -> None:
        calls, self._last_calls = self._last_calls, None
        for call in calls or ():
            call()

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Timer:
        """Call ``callback()`` after ``delay`` seconds, if the loop still runs then."""
        if self._slow_calls is not None:
            callback = self._slow_calls.timed(callback)
        timer = Timer(callback)
        self.timers.add(timer, delay)
        return timer

    def add(self, *clients: EngineClient) -> None:
        """Start clients as soon as the fanout allows, in this order.

        If the loop is running and the fanout has room for all waiting clients, they start before
        this method returns.
        """
        self._holding += sum(not client.autoclose for client in clients)
        for client in clients:
            self._counts[client.descriptors] = self._counts.get(client.descriptors, 0) + 1
        todo = deque(clients)
        try:
            while todo and self._may_start_at_once():
                self._start(todo.popleft())
        finally:
            # Even if a start raised: the clients left over must be ended with the others.
            self._waiting += todo

    def _may_start_at_once(self) -> bool:
        return (
            self.running
            and not self._clearing
            # A handler may start a client that fails at once, thousands of times in a row: the
            # loop must run in between.
            and self._starts < _DEEPEST_START
            and self.fanout - self._delayable > len(self._waiting)
        )

    def _start(self, client: EngineClient) -> None:
        self._delayable += client.delayable
        self._started[client] = None
        self._starts += 1
        try:
            if self._slow_calls is None:
                client.start(self)
            else:
                self._slow_calls.timed(client.start)(self)
        finally:
            self._starts -= 1

    def finished(self, client: EngineClient) -> None:
        """Take note that a client has ended: the next one may start. Only the first call counts."""
        if client in self._started:
            timer = self._started.pop(client)
            if timer is not None:
                timer.cancel()
            self._delayable -= client.delayable
        elif client in self._waiting:
            self._waiting.remove(client)
        else:
            return
        self._holding -= not client.autoclose
        self._counts[client.descriptors] -= 1

    def add_port(self, port: EnginePort) -> None:
        """Open a port. Unlike clients, ports outlive the run."""
        self._ports[port] = None
        self._holding += not port.autoclose
        if self.running:
            port.start()

    def remove_port(self, port: EnginePort) -> None:
        """Close a port. Harmless if it is closed already."""
        if port in self._ports:
            del self._ports[port]
            self._holding -= not port.autoclose
            port.close()

    def start_clock(self, client: EngineClient) -> None:
        """Begin a started client's timeout now.

        The client calls this itself: it may have had to wait for reasons other than its node.
        """
        if client.timeout is not None and client in self._started:
            self.stop_clock(client)
            self._started[client] = self.call_later(client.timeout, client.on_timeout)

    def stop_clock(self, client: EngineClient) -> None:
        """Stop a started client's timeout: it has to wait for other reasons than its node."""
        call = self._started.get(client)
        if call is not None:
            call.cancel()
            self._started[client] = None

    # -- the loop --

    def run(self, timeout: Optional[float] = None) -> None:
        """Run until only autoclose clients, timers and ports are left.

        Args:
            timeout: seconds after which all clients are aborted; None for no limit.

        Raises:
            AlreadyRunningError: the loop is running.
            TimeoutError: the time ran out.
            KeyboardInterrupt: SIGINT has come, see :mod:`.interrupts`.
            Exception: a callback raised it. In any case, every client has been aborted and every
                timer is gone: the engine can run again.
        """
        if self.running:
            raise AlreadyRunningError("the task is already running")
        with interrupts:
            self._open()
            with interrupts.waking(self._mailbox.wake, self._mailbox.sender_fileno()):
                self._run(timeout)

    def _run(self, timeout: Optional[float]) -> None:
        self.running = True
        self.began = self.clock()
        self._mailbox.owner = threading.get_ident()
        try:
            for port in list(self._ports):
                port.start()
            # Calls posted since the last run may add clients that keep this one going.
            self._mailbox.drain()
            self._loop(None if timeout is None else self.clock() + timeout)
            # The clients left over are autoclose.
            self.clear()
        except BaseException as error:
            try:
                self.clear(error)
            except Exception:
                # Handlers are called at the end, and may fail again: the first error counts.
                logger.debug("while a run was ended by %r", error, exc_info=True)
            raise
        finally:
            self._make_last_calls()
            self.running = False
            self._mailbox.owner = None
            self._count_again()

    def _count_again(self) -> None:
        """Set the counts to their values at rest, without clients.

        They are wrong if an exception has cut a change in two: a handler of a signal can raise one
        anywhere.
        """
        self._delayable = self._starts = 0
        self._counts.clear()
        self._clearing = False
        self.ended_by = None
        self._holding = sum(not port.autoclose for port in self._ports)

    def _loop(self, deadline: Optional[float]) -> None:
        selector = self._open()
        timers = self.timers
        watches = self._watches
        mailbox = self._mailbox
        awake = self.clock()
        excused = False
        interruptible = threading.current_thread() is threading.main_thread()
        while True:
            if self._selector is not selector:
                return  # a callback has forked, and this is the child: see abandon()
            self._start_waiting()
            if not self._holding and not timers.holding:
                return
            busy = self.clock() - awake
            if busy > _STALL:
                self.stalled += busy
            # This is our event loop: wait, then serve the descriptors that were ready when the
            # pass began.
            if self._last_calls is not None:
                self._make_last_calls()
            ready = selector.select(0 if mailbox else self._longest_wait(deadline))
            self._last_calls = []
            awake = self.clock()
            if interruptible and interrupts.requested:
                interrupts.raise_now()
            for key, events in ready:
                watch: Watch = key.data
                # A callback of this pass may have unregistered the watch, and the descriptor's
                # number may have been reused.
                if watches.get(watch.fd) is watch:
                    watch.callback(events)
            if mailbox:
                mailbox.make_calls()
            # After a slow callback, serve the input that came meanwhile before any timer fires:
            # a node must not time out because of it. But only once: callbacks may always be slow.
            excused = not excused and self.clock() - awake > _STALL
            if excused:
                continue
            if self._is_held():
                # Otherwise the last client has just ended, and autoclose timers do not fire.
                timers.fire_expired()
            if deadline is not None and self.clock() >= deadline and self._is_held():
                raise TimeoutError("the task's time ran out: give resume() a longer timeout")

    @property
    def active(self) -> int:
        """How many clients have started and not finished."""
        return len(self._started)

    @property
    def backlog(self) -> int:
        """How many clients wait for the fanout."""
        return len(self._waiting)

    @property
    def watched_descriptors(self) -> frozenset[int]:
        """The descriptors that the loop waits on; while a command runs, its channel's fileno()."""
        if self._selector is None:
            return frozenset()
        return frozenset(key.fd for key in self._selector.get_map().values())

    def descriptors_needed(self, clients: Iterable[EngineClient] = ()) -> int:
        """Return about how many descriptors all clients will hold at once, at most.

        Args:
            clients: further clients, which are going to be added.
        """
        counts = self._counts.copy()
        for client in clients:
            counts[client.descriptors] = counts.get(client.descriptors, 0) + 1
        needed, places = 0, self.fanout
        for descriptors in sorted(counts, reverse=True):
            count = min(places, counts[descriptors])
            needed += count * descriptors
            places -= count
        return needed

    def _is_held(self) -> bool:
        return bool(self._holding or self.timers.holding)

    def _longest_wait(self, deadline: Optional[float]) -> Optional[float]:
        """How many seconds the selector may sleep."""
        if self._waiting and self._has_room_for(self._waiting[0]):
            return 0.0  # it was added while others were being started
        delay = self.timers.next_delay()
        longest = platform.LONGEST_SLEEP
        if longest is not None:
            delay = longest if delay is None else min(delay, longest)
        if deadline is not None:
            left = max(0.0, deadline - self.clock())
            delay = left if delay is None else min(delay, left)
        return None if delay is None else longest_wait(delay)

    def _start_waiting(self) -> None:
        """Start waiting clients as far as the fanout allows, in the order of their addition."""
        waiting = self._waiting
        if not waiting:
            return
        # Only the clients that wait now: one that ends at once may add another one.
        for _ in range(len(waiting)):
            if not waiting:
                break
            if not self._has_room_for(waiting[0]):
                break
            self._start(waiting.popleft())

    def _has_room_for(self, client: EngineClient) -> bool:
        return not client.delayable or self._delayable < self.fanout

    def clear(self, reason: Optional[BaseException] = None) -> None:
        """Abort every client and drop every timer.

        Args:
            reason: the error that ends the run, if one does.

        Raises:
            Exception: the first exception of a client, after all clients have been aborted.
        """
        first: Optional[BaseException] = None
        timed_out = isinstance(reason, TimeoutError)
        self._clearing = True
        self.ended_by = reason
        while self._started or self._waiting:
            client = next(iter(self._started), None) or self._waiting[0]
            try:
                client.abort(timed_out)
            except BaseException as error:
                first = first or error
            # In any case: a client whose abort() raised is not aborted again.
            self.finished(client)
        self._clearing = False
        self.ended_by = None
        self.timers.clear()
        if first is not None:
            raise first

    # -- descriptors --

    def _open(self) -> selectors.BaseSelector:
        """Return the selector; at first use, make it and register the mailbox.

        So a task that has never run holds no descriptors.
        """
        if self._selector is None:
            self._selector = self._make_selector()
        if not self._mailbox.is_open:
            self._mailbox.open()
            watch = Watch(self._mailbox.fileno(), lambda _events: self._mailbox.drain())
            self._watches[watch.fd] = watch
            self._selector.register(watch.fd, READ, watch)
        return self._selector

    def close(self) -> None:
        """Close the ports and free the descriptors. Another run opens them again."""
        self.clear()
        for port in list(self._ports):
            self.remove_port(port)
        self.free_descriptors()

    def free_descriptors(self) -> None:
        """Free the selector and the mailbox's descriptors, at rest. Another run makes new ones.

        Between two runs the engine watches nothing. If an exception has cut a change in two, a
        selector may disagree with that: a new one does not.
        """
        self._watches.clear()
        self._mailbox.close()
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def abandon(self) -> None:
        """In a forked child: the clients, timers and ports are the parent's.

        The engine is as new then. If a callback has forked, the loop that called it ends.
        """
        self._started.clear()
        self._waiting.clear()
        for port in self._ports:
            port.abandon()
        self._ports.clear()
        self._counts.clear()
        self._last_calls = None
        self.timers.clear()
        self._delayable = self._holding = self._starts = 0
        self._clearing = self.running = False
        # Nothing is unregistered: that would act on the parent's selector, which is the same.
        self._watches.clear()
        self._mailbox.abandon()
        selector, self._selector = self._selector, None
        if selector is not None:
            with suppress(OSError):  # a child does not inherit a kqueue
                selector.close()
