"""The worker processes of a Spread: each is an executor of one process, and a pipe to it."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any, Optional, Protocol

from .. import platform
from ..event import interruptible
from ..exceptions import TaskError
from ..nodeset import NodeSet
from .process import begin, nothing, run_reporting

#: Seconds beyond the grace that a process gets to end, before it is killed.
_PATIENCE = 10.0

#: How often a shard is given to a process: a process may die just before the shard begins.
_ATTEMPTS = 2

_ENDED_AT_ONCE = "a worker process has ended before it was ready; standard error may say why"

_GUARD = (
    "A program that uses Spread() does its work below 'if __name__ == \"__main__\":', because each "
    "worker process imports its main module"
)
_NO_START = f"a worker process, which imports the main module, cannot start others. {_GUARD}"


class Shard(Protocol):
    """A shard, for what carries it out. All methods may be called from any thread."""

    key: str
    nodes: list[str]
    job: Mapping[str, Any]
    settings: bytes
    live: bool
    has_input: bool

    def on_begun(self) -> None:
        """A process has begun with the shard."""
        ...

    def on_events(self, events: list[tuple[Any, ...]]) -> None:
        """Events have come; waits until they have been processed."""
        ...

    def on_end(self, error: Optional[str]) -> None:
        """No more events come. Nodes without a result fail with this error."""
        ...

    def on_taken(self, size: int) -> None:
        """So many bytes of input were written to the commands."""
        ...

    def on_gone(self) -> None:
        """Nothing of the shard is left on the nodes, or nobody can tell."""
        ...


class _Process:
    """One worker process, and what is known of it.

    Attributes:
        executor: its executor.
        connection: this program's end of the pipe.
        ready: set when it is ready, or has ended.
        process: the process; None before it is ready.
        left: what it says at its end: the nodes on which a command may still run, by the reason.
        closed: set when it has said that, or has ended.
    """

    def __init__(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.ready = threading.Event()
        self.closed = threading.Event()
        self.process: Optional[BaseProcess] = None
        self.left: dict[str, list[str]] = {}
        # The shards that have ended, and whose commands are being killed.
        self.going: dict[str, Shard] = {}
        self.reader: Optional[threading.Thread] = None
        self._shutting_down = threading.Lock()
        try:
            self.executor = ProcessPoolExecutor(
                1, mp_context=context, initializer=begin, initargs=(theirs,)
            )
            with _interrupts_blocked():
                self.executor.submit(nothing)  # this starts the process
        except RuntimeError as error:
            # It is raised in a process that imports a main module which starts processes.
            self.connection.close()
            raise TaskError(_NO_START) from error
        finally:
            theirs.close()

    def find(self, pid: int) -> None:
        """The process is ready: find it among the children of this program."""
        self.process = next((each for each in active_children() if each.pid == pid), None)
        self.ready.set()

    def send(self, *message: Any) -> None:
        """Send a message; it is lost if the process has ended."""
        with suppress(OSError):
            self.connection.send_bytes(pickle.dumps(message))

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None:
            self.process.kill()

    def shut_down(self) -> None:
        """Have the process end when it has nothing to do, and wait for the executor's thread.

        One call after the other: on Python 3.9, two calls of ``shutdown()`` at once can fail, and a
        call that does not wait leaves descriptors to the thread.
        """
        with self._shutting_down:
            self.executor.shutdown(wait=True)

    def how_ended(self) -> str:
        """Say how the process has ended."""
        if self.process is None:
            return _ENDED_AT_ONCE[0].upper() + _ENDED_AT_ONCE[1:]
        self.process.join(5)
        # A thread of the executor may just have taken the exit status, and be about to note it.
        limit = time.monotonic() + 1
        while (code := self.process.exitcode) is None and time.monotonic() < limit:
            time.sleep(0.001)
        if code is not None and code < 0:
            name = f"signal {-code}"
            with suppress(ValueError):
                name = signal.Signals(-code).name
            how = f"was killed by {name}"
        else:
            how = "ended" if code is None else f"ended with exit status {code}"
        return f"The worker process {how} while the command may have been running"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start a process that Ctrl-C does not end before it has a handler of its own.

    A process inherits the signals that are blocked. Windows has no such thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Slot:
    """A worker process, which is replaced when it has died. Its shards run one after another.

    All methods may be called from any thread.

    Args:
        limits: the info keys of this process alone.
    """

    def __init__(self, limits: Mapping[str, Any]) -> None:
        self._limits = limits
        self._lock = threading.RLock()
        self._process: Optional[_Process] = None
        self._waiting: deque[Shard] = deque()
        self._attempts = 0
        # The shard that was given to a process, the process, and True when it has begun with it.
        self._current: Optional[Shard] = None
        self._owner: Optional[_Process] = None
        self._begun = False
        self._closed = False

    def __repr__(self) -> str:
        process = self._process and self._process.process
        return f"<Slot {process and process.pid}: {len(self._waiting)} shards wait>"

    @property
    def pid(self) -> Optional[int]:
        """The number of the process; None if there is none."""
        process = self._process and self._process.process
        return process.pid if process else None

    def launch(self) -> threading.Event:
        """Start the process, unless there is one; returns the event that says it is ready.

        Raises:
            TaskError: this is a worker process that imports a main module without a guard.
            OSError: the system cannot start a process.
        """
        with self._lock:
            if self._process is None:
                self._process = process = _Process()
                process.reader = threading.Thread(
                    target=self._read, args=(process,), name="pyclustershell spread", daemon=True
                )
                process.reader.start()
            return self._process.ready

    def is_ready(self) -> bool:
        """True if the process is there and has done its imports."""
        return self._process is not None and self._process.ready.is_set()

    def start(self, shard: Shard) -> None:
        """Run a shard, after those that wait already."""
        with self._lock:
            self._waiting.append(shard)
            self._start_next()

    def _start_next(self) -> None:
        while self._waiting and self._current is None and not self._closed:
            shard = self._waiting[0]
            try:
                self.launch()
                process = self._process
                if process is None:
                    return
                future = process.executor.submit(
                    run_reporting,
                    str(NodeSet.fromlist(shard.nodes)),
                    shard.job,
                    shard.settings,
                    self._limits,
                    shard.key,
                    shard.live,
                )
            except (OSError, TaskError, RuntimeError) as error:
                # RuntimeError: the process has died, and its end has not been noticed; or the
                # program ends.
                self._attempts += 1
                if self._attempts < _ATTEMPTS and isinstance(error, RuntimeError):
                    self._process = None  # the thread that reads from it sees its end
                    continue
                self._attempts = 0
                self._waiting.popleft()
                shard.on_end(f"{type(error).__name__}: {error}")
                shard.on_gone()
                continue
            self._waiting.popleft()
            self._current, self._owner, self._begun = shard, process, False
            future.add_done_callback(self._on_done)

    def _on_done(self, future: Future[None]) -> None:
        # The end is told by the pipe, after all events. Here the exception is only taken.
        if not future.cancelled():
            future.exception()

    def abort(self, shard: Shard) -> None:
        """End the commands of a shard: TERM, and KILL after the grace."""
        with self._lock:
            if shard in self._waiting:
                self._waiting.remove(shard)
                shard.on_gone()
            elif self._process is not None:
                self._process.send("abort", shard.key)

    def stop(self, shard: Shard) -> bool:
        """Let what runs go on, and start nothing more; returns True if nothing has been started."""
        with self._lock:
            if shard in self._waiting:
                self._waiting.remove(shard)
                shard.on_gone()
                return True
            if self._process is not None:
                self._process.send("stop", shard.key)
            return False

    def write(self, shard: Shard, data: Optional[bytes]) -> None:
        """Write to the commands of a shard; None is the end of their input."""
        process = self._process
        if process is not None:
            process.send("input", shard.key, data)

    # -- on the thread that reads --

    def _read(self, process: _Process) -> None:
        try:
            while True:
                self._take(process, *pickle.loads(process.connection.recv_bytes()))  # noqa: S301 ours
        except (EOFError, OSError):
            self._on_death(process)

    def _take(self, process: _Process, verb: str, *details: Any) -> None:
        if verb == "ready":
            process.find(*details)
            return
        if verb == "left":
            process.left = details[0]
            process.closed.set()
            return
        key, *rest = details
        shard = self._current
        if verb == "gone":
            gone = process.going.pop(key, None)
            if gone is not None:
                gone.on_gone()
        elif shard is None or shard.key != key:
            return  # it has been lost
        elif verb == "begun":
            self._begun = True
            shard.on_begun()
        elif verb == "events":
            shard.on_events(*rest)
        elif verb == "taken":
            shard.on_taken(*rest)
        elif verb == "end":
            process.going[key] = shard
            with self._lock:
                self._current = None
                self._attempts = 0
            shard.on_end(*rest)
            with self._lock:
                self._start_next()

    def _on_death(self, process: _Process) -> None:
        """A process has ended. Its shard fails, or is begun elsewhere if it had not begun."""
        how = process.how_ended()
        process.ready.set()
        process.closed.set()
        process.shut_down()
        process.connection.close()
        for shard in process.going.values():
            shard.on_gone()
        failed: Optional[Shard] = None
        with self._lock:
            if self._process is process:
                self._process = None
            if self._owner is process:
                failed, self._current, self._owner = self._current, None, None
            self._attempts += failed is not None
            if failed is not None and self._may_begin_again(failed):
                self._waiting.appendleft(failed)
                failed = None
        if failed is not None:
            failed.on_end(how)
            failed.on_gone()
        with self._lock:
            self._start_next()

    def _may_begin_again(self, shard: Shard) -> bool:
        """True if nothing of a shard was begun, and its input has not been sent."""
        if self._begun or shard.has_input or self._closed:
            return False
        return self._attempts < _ATTEMPTS

    # -- the end --

    def begin_closing(self) -> None:
        """Have the process end its commands, and say where a command may still run."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.send("close")

    def close(self, patience: float) -> dict[str, list[str]]:
        """End the process; after so many seconds, kill it.

        Returns:
            The nodes on which a command may still run, by the reason.
        """
        with self._lock:
            process = self._process
        if process is None:
            return {}
        process.ready.wait(patience)
        process.closed.wait(patience)
        last_means = threading.Timer(patience, process.kill)
        last_means.start()
        process.shut_down()
        last_means.cancel()
        if process.reader is not None:
            process.reader.join(patience)
        return process.left


class Processes:
    """The worker processes of this program. A node belongs to one of them, and keeps to it.

    All methods may be called from any thread.

    Args:
        count: the number of processes.
        fanout: how many commands run at once, in all processes together.
        pool_size: how many connections are open at once, in all together; None: the fanout.
        shard_size: how many nodes a shard has at most; None: all nodes of a process.
    """

    def __init__(
        self, count: int, fanout: int, pool_size: Optional[int], shard_size: Optional[int]
    ) -> None:
        count = min(count, fanout)
        shares = [{"fanout": share} for share in shared(fanout, count)]
        if pool_size is not None:
            for limits, share in zip(shares, shared(max(pool_size, count), count)):
                limits["ssh_pool_size"] = share
        self.slots = [Slot(limits) for limits in shares]
        self._shard_size = shard_size
        self._lock = threading.Lock()
        self._slot_of: dict[str, int] = {}
        self._pid = os.getpid()
        self._left: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"<Processes: {self.slots}>"

    def share_out(self, nodes: Sequence[str]) -> list[tuple[Slot, list[str]]]:
        """Divide nodes into shards: those that were seen before go to the same process again."""
        with self._lock:
            lists = assign(nodes, self._slot_of, len(self.slots))
        return [
            (slot, part)
            for slot, names in zip(self.slots, lists)
            for part in chunks(names, self._shard_size or max(1, len(names)))
        ]

    @interruptible
    def start(self, slots: Sequence[Slot]) -> None:
        """Start processes, and wait until they have done their imports.

        Raises:
            TaskError: one cannot be started.
            OSError: the system cannot start a process.
        """
        fresh = [slot for slot in slots if not slot.is_ready()]
        waits = [slot.launch() for slot in fresh]
        for slot, ready in zip(fresh, waits):
            wait(ready)
            if slot.pid is None:
                raise TaskError(f"{_ENDED_AT_ONCE}. {_GUARD}")

    def close(self, grace: float) -> None:
        """End the processes: their commands, their connections, and they themselves."""
        if self._pid != os.getpid():
            return  # they are the parent's
        for slot in self.slots:
            slot.begin_closing()
        for slot in self.slots:
            for reason, nodes in slot.close(grace + _PATIENCE).items():
                self._left.setdefault(reason, []).extend(nodes)

    def left_running(self) -> Iterator[tuple[str, list[str]]]:
        """Iterate over the reasons and their nodes, after close(): see Spread."""
        return iter(self._left.items())


def wait(event: threading.Event) -> None:
    """Wait for an event; Ctrl-C interrupts it on all systems."""
    while not event.wait(platform.LONGEST_SLEEP):
        pass


def shared(amount: int, count: int) -> list[int]:
    """Divide a number into so many shares, which differ by 1 at most."""
    return [amount // count + (index < amount % count) for index in range(count)]


def chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    """Divide names into lists of this size."""
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


def assign(nodes: Sequence[str], known: dict[str, int], count: int) -> list[list[str]]:
    """Divide nodes among slots: known nodes go where they were, the others where the fewest are.

    Args:
        nodes: the nodes.
        known: the slot of each known node; the new ones are added.
        count: the number of slots.

    Returns:
        The nodes of each slot.
    """
    lists: list[list[str]] = [[] for _ in range(count)]
    fresh = []
    for node in nodes:
        slot = known.get(node)
        if slot is None:
            fresh.append(node)
        else:
            lists[slot].append(node)
    # In turn, so that parts of a range have nodes in all slots as well.
    sizes = [len(names) for names in lists]
    for node in fresh:
        slot = sizes.index(min(sizes))
        sizes[slot] += 1
        known[node] = slot
        lists[slot].append(node)
    return lists
