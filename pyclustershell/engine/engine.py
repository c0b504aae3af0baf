"""The one event loop: file descriptors, timers, a mailbox, and clients within the fanout."""

from __future__ import annotations

import heapq
import logging
import selectors
import threading
import time
from collections import deque
from typing import Any, Callable, Optional, Union

from .. import platform
from ..exceptions import AlreadyRunningError, TimeoutError
from .client import EngineClient
from .polling import HasFileno
from .port import EnginePort, Mailbox
from .timer import Clock, Timer, TimerQueue

logger = logging.getLogger("pyclustershell.engine")

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# How deep a start may be inside of other starts: a handler may start what starts a handler.
_DEEPEST_START = 8


FileLike = Union[int, HasFileno]
EventCallback = Callable[[int], Any]


# A callback that takes longer, in seconds, keeps others waiting so that they may notice.
_STALL = 0.1


class Watch:
    """One registered descriptor: what to call when it is ready."""

    __slots__ = ("callback", "fd")

    def __init__(self, fd: int, callback: EventCallback) -> None:
        self.fd = fd
        self.callback = callback


class Engine:
    """An event loop for one thread.

    It knows descriptors, time and clients, but neither SSH nor nodes. Only :meth:`post` may be
    called from another thread.

    Args:
        clock: monotonic time in seconds; a test gives its own.
        make_selector: makes the selector, at first use; by default, the best of the platform.
        fanout: how many delayable clients run at once.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        make_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
        fanout: int = 64,
    ) -> None:
        self.clock = clock
        self.fanout = fanout
        self.running = False
        #: Seconds in which callbacks kept the loop from its descriptors, in all.
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
        # How many starts are under way, one inside of the other; and whether all is being aborted.
        self._starts = 0
        self._clearing = False

    def __repr__(self) -> str:
        state = "running" if self.running else "at rest"
        return (
            f"<Engine {state}: {len(self._started)} clients started, {len(self._waiting)} waiting, "
            f"fanout {self.fanout}, {len(self._watches)} descriptors, {len(self.timers)} timers>"
        )

    # -- what clients ask for --

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have ``callback(*args)`` called on the engine's thread. May be called from any thread.

        Where the loop is not running, the call is made when it runs next.
        """
        self._mailbox.post(callback, *args)

    def register(self, fileobj: FileLike, events: int, callback: EventCallback) -> Watch:
        """Call ``callback(events)`` whenever a descriptor is ready for READ or WRITE."""
        selector = self._open()
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        watch = Watch(fd, callback)
        selector.register(fd, events, watch)
        self._watches[fd] = watch
        return watch

    def modify(self, watch: Watch, events: int) -> None:
        """Wait for other events of a registered descriptor."""
        self._open().modify(watch.fd, events, watch)

    def unregister(self, watch: Watch) -> None:
        """Forget a descriptor, before it is closed. Harmless where it is forgotten already."""
        if self._watches.get(watch.fd) is watch:
            del self._watches[watch.fd]
            # Not _open(): what was closed meanwhile must stay closed.
            if self._selector is not None:
                self._selector.unregister(watch.fd)

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Timer:
        """Call ``callback()`` after ``delay`` seconds, if the loop still runs then."""
        timer = Timer(callback)
        self.timers.add(timer, delay)
        return timer

    def add(self, *clients: EngineClient) -> None:
        """Start clients as soon as the fanout allows, in this order.

        Where the loop is running, and there is room for all that wait already, that is now, before
        this method returns.
        """
        self._holding += sum(not client.autoclose for client in clients)
        todo = deque(clients)
        try:
            while todo and self._may_start_at_once():
                self._start(todo.popleft())
        finally:
            # Also where a start raised: what did not start must be ended with the others.
            self._waiting += todo

    def _may_start_at_once(self) -> bool:
        return (
            self.running
            and not self._clearing
            # Handlers that start what fails at once, thousands in a row, take turns with the loop.
            and self._starts < _DEEPEST_START
            and self.fanout - self._delayable > len(self._waiting)
        )

    def _start(self, client: EngineClient) -> None:
        self._delayable += client.delayable
        self._started[client] = None
        self._starts += 1
        try:
            client.start(self)
        finally:
            self._starts -= 1

    def finished(self, client: EngineClient) -> None:
        """A client has ended: give its place to the next one. Only the first call counts."""
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

    def add_port(self, port: EnginePort) -> None:
        """Open a port. Unlike clients, ports outlive the run."""
        self._ports[port] = None
        self._holding += not port.autoclose
        if self.running:
            port.start()

    def remove_port(self, port: EnginePort) -> None:
        """Close a port. Harmless where it is closed already."""
        if port in self._ports:
            del self._ports[port]
            self._holding -= not port.autoclose
            port.close()

    def start_clock(self, client: EngineClient) -> None:
        """Let a started client's timeout begin now.

        A client says so itself: it may have to wait for what is not its node's fault.
        """
        if client.timeout is not None and client in self._started:
            old = self._started[client]
            if old is not None:
                old.cancel()
            self._started[client] = self.call_later(client.timeout, client.on_timeout)

    # -- the loop --

    def run(self, timeout: Optional[float] = None) -> None:
        """Run until no client and no timer is left that is not autoclose.

        Args:
            timeout: seconds after which everything is aborted.

        Raises:
            AlreadyRunningError: the loop is running.
            TimeoutError: time ran out.
            Exception: what a callback raised. Whatever is raised, every client has been aborted
                and every timer is gone: the engine can be run again.
        """
        if self.running:
            raise AlreadyRunningError("the task is already running")
        self._open()
        self.running = True
        self._mailbox.owner = threading.get_ident()
        try:
            for port in list(self._ports):
                port.start()
            # What was posted since the last run: it may hold this one.
            self._mailbox.drain()
            self._loop(None if timeout is None else self.clock() + timeout)
            # What is left is autoclose.
            self.clear()
        except BaseException as error:
            try:
                self.clear(timed_out=isinstance(error, TimeoutError))
            except Exception:
                # Handlers are told of the end, and may well fail again: the first error counts.
                logger.debug("while a run was ended by %r", error, exc_info=True)
            raise
        finally:
            self.running = False
            self._mailbox.owner = None

    def _loop(self, deadline: Optional[float]) -> None:
        selector = self._open()
        timers = self.timers
        watches = self._watches
        mailbox = self._mailbox
        awake = self.clock()
        excused = False
        while True:
            self._start_waiting()
            if not self._holding and not timers.holding:
                return
            busy = self.clock() - awake
            if busy > _STALL:
                self.stalled += busy
            # This loop is our event loop: wait, then serve what was ready when the pass began.
            ready = selector.select(0 if mailbox else self._patience(deadline))
            awake = self.clock()
            for key, events in ready:
                watch: Watch = key.data
                # A callback of this pass may have unregistered it, and even reused its number.
                if watches.get(watch.fd) is watch:
                    watch.callback(events)
            if mailbox:
                mailbox.make_calls()
            # After a callback that took long, what has come meanwhile is served before anybody's
            # time is up; but once only: callbacks may be slow all the time.
            excused = not excused and self.clock() - awake > _STALL
            if excused:
                continue
            if self._is_held():
                # Else the last one has just ended, and nobody is left for an autoclose timer.
                timers.fire_expired()
            if deadline is not None and self.clock() >= deadline and self._is_held():
                raise TimeoutError("the task's time ran out")

    @property
    def active(self) -> int:
        """How many clients have started and not finished."""
        return len(self._started)

    @property
    def backlog(self) -> int:
        """How many clients wait for their turn."""
        return len(self._waiting)

    @property
    def descriptors_needed(self) -> int:
        """How many descriptors the clients that wait will hold at once, at the most, about."""
        return sum(heapq.nlargest(self.fanout, (client.descriptors for client in self._waiting)))

    def _is_held(self) -> bool:
        return bool(self._holding or self.timers.holding)

    def _patience(self, deadline: Optional[float]) -> Optional[float]:
        """How many seconds the selector may sleep."""
        if self._waiting and self._has_room_for(self._waiting[0]):
            return 0.0  # it came while others were being started
        delay = self.timers.next_delay()
        longest = platform.LONGEST_SLEEP
        if longest is not None:
            delay = longest if delay is None else min(delay, longest)
        if deadline is None:
            return delay
        left = max(0.0, deadline - self.clock())
        return left if delay is None else min(delay, left)

    def _start_waiting(self) -> None:
        """Start the clients whose turn has come, in the order in which they were added."""
        waiting = self._waiting
        if not waiting:
            return
        # Only those that wait now: a client that ends at once may add another one.
        for _ in range(len(waiting)):
            if not waiting:
                break
            if not self._has_room_for(waiting[0]):
                break
            self._start(waiting.popleft())

    def _has_room_for(self, client: EngineClient) -> bool:
        return not client.delayable or self._delayable < self.fanout

    def clear(self, timed_out: bool = False) -> None:
        """Abort every client and drop every timer.

        Args:
            timed_out: whether this is because the run's time ran out.

        Raises:
            Exception: the first one that a client raised, after all of them have been aborted.
        """
        first: Optional[BaseException] = None
        self._clearing = True
        while self._started or self._waiting:
            client = next(iter(self._started), None) or self._waiting[0]
            try:
                client.abort(timed_out)
            except BaseException as error:
                first = first or error
            # In any case: a client whose abort raised is not asked again.
            self.finished(client)
        self._clearing = False
        self.timers.clear()
        if first is not None:
            raise first

    # -- descriptors --

    def _open(self) -> selectors.BaseSelector:
        """The selector, made and connected to the mailbox at first use.

        A task that has never run holds no descriptors.
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
        """Close the ports and free the descriptors, which are opened again by another run."""
        self.clear()
        for port in list(self._ports):
            self.remove_port(port)
        self._watches.clear()
        self._mailbox.close()
        if self._selector is not None:
            self._selector.close()
            self._selector = None
