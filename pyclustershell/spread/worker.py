"""SpreadWorker: a command or copy whose nodes are worked on by other processes."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Callable, Optional, Protocol

from ..arguments import check_input
from ..engine.engine import Engine, EngineClient
from ..event import interruptible
from ..exceptions import ShardError, WorkerError
from ..nodeset import NodeSet
from ..records import Aborted, Copied, Exited, Failed, Output, Record, Started, TimedOut, Written
from ..results import NodeResult, Results
from ..worker.context import WorkerContext
from ..worker.store import ResultStore, RunResults
from ..worker.worker import DistantWorker
from .shard import abort as abort_shard
from .shard import kept_tasks, run_shard, running_shards
from .slots import Shard, chunks

# So many bytes of input may wait for the slowest command of a shard.
_INPUT_AHEAD = 1 << 20

_prefix = secrets.token_hex(8)
_numbers = itertools.count()


def _new_key() -> str:
    # A forked child has another number.
    return f"{_prefix}-{os.getpid()}-{next(_numbers)}"


class Carrier(Protocol):
    """Carries shards out: one worker process, or an executor."""

    def start(self, shard: Shard) -> None:
        """Run a shard when its turn comes."""
        ...

    def abort(self, shard: Shard) -> None:
        """End the commands of a shard as far as possible."""
        ...

    def stop(self, shard: Shard) -> bool:
        """Start nothing more of a shard; returns True if nothing has been started."""
        ...

    def write(self, shard: Shard, data: Optional[bytes]) -> None:
        """Write to the commands of a shard; None is the end of their input."""
        ...


class ExecutorCarrier:
    """Runs shards by any executor: its results come when a shard has ended.

    Args:
        executor: the executor.
        limits: the info keys of each of its processes.
        shard_size: how many nodes a shard has at most.
    """

    def __init__(self, executor: Executor, limits: Mapping[str, Any], shard_size: int) -> None:
        self._executor = executor
        self._limits = limits
        self._shard_size = shard_size
        self._lock = threading.Lock()
        self._futures: dict[str, Future[Results]] = {}
        self._settings: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<ExecutorCarrier of {self._executor!r}: {len(self._futures)} shards>"

    def share_out(self, nodes: Sequence[str]) -> list[tuple[ExecutorCarrier, list[str]]]:
        """Divide nodes into shards."""
        return [(self, part) for part in chunks(nodes, self._shard_size)]

    def start(self, shard: Shard) -> None:
        """Give a shard to the executor."""
        self._settings.add(shard.settings)
        nodes = str(NodeSet.fromlist(shard.nodes))
        try:
            future = self._executor.submit(
                run_shard, nodes, shard.job, shard.settings, self._limits, shard.key
            )
        except Exception as error:  # the executor's own: it is closed, for example
            shard.on_end(f"The executor has not taken the shard: {type(error).__name__}: {error}")
            shard.on_gone()
            return
        with self._lock:
            self._futures[shard.key] = future
        future.add_done_callback(partial(self._on_done, shard))

    def _on_done(self, shard: Shard, future: Future[Results]) -> None:
        with self._lock:
            self._futures.pop(shard.key, None)
        if not future.cancelled():
            error = future.exception()
            if error is None:
                shard.on_events([("result", result) for result in future.result().values()])
                shard.on_end(None)
            else:
                shard.on_end(f"The shard has failed in its worker: {type(error).__name__}: {error}")
        shard.on_gone()

    def abort(self, shard: Shard) -> None:
        """Take a shard back; if it runs in this process, end its commands."""
        with self._lock:
            future = self._futures.get(shard.key)
        if future is not None and not future.cancel():
            running_shards.call(shard.key, abort_shard, early=False)

    def stop(self, shard: Shard) -> bool:
        """Take a shard back, if it does not run."""
        if type(self._executor).__module__.startswith("distributed"):
            # Dask's futures can be cancelled while their calls run: nothing tells which do not.
            return False
        with self._lock:
            future = self._futures.get(shard.key)
        return future is not None and future.cancel()

    def write(self, shard: Shard, data: Optional[bytes]) -> None:
        """Not supported."""
        raise WorkerError("commands of an executor have no input to write to: use input=")

    def close(self) -> None:
        """Close the connections of shards that have run in this process."""
        for settings in self._settings:
            kept_tasks.close(settings)


class SpreadStore(ResultStore):
    """The results of a SpreadWorker: those that other processes have sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.received: dict[str, NodeResult] = {}

    def clear(self) -> None:
        """Drop all results."""
        super().clear()
        self.received = {}

    @property
    def age(self) -> float:
        """Seconds since the worker was scheduled, or since the begin of the run."""
        return max(0.0, self._clock() - max(self._scheduled, self._engine.began))

    def _make_result(
        self, key: Any, stdout: Optional[bytes], stderr: Optional[bytes]
    ) -> NodeResult:
        found = self.received.get(key)
        if found is None:
            return super()._make_result(key, stdout, stderr)
        return found._replace(stdout=stdout or b"", stderr=stderr or b"")


class ShardClient(EngineClient):
    """One shard of a worker, in the engine.

    ``on_*`` are called from any thread, and post to the engine's thread. The other methods are for
    that thread.

    Args:
        worker: the worker.
        carrier: carries the shard out.
        nodes: its nodes.
    """

    # The fanout counts commands: the other processes count them.
    delayable = False
    descriptors = 0

    def __init__(self, worker: SpreadWorker, carrier: Carrier, nodes: list[str]) -> None:
        self.key = _new_key()
        self.nodes = nodes
        self.job = worker.job
        self.settings = worker.settings
        self.live = worker.live
        self.autoclose = False
        self._worker = worker
        self._carrier = carrier
        self._engine = worker.context.engine
        self._started = False
        self._closed = False
        # The nodes that have not ended; True for those whose command has started.
        self._open: dict[str, bool] = dict.fromkeys(nodes, False)
        self._delay = 0.0
        # Set when the events that were sent last have been processed.
        self._taken = threading.Event()
        # The bytes of input that the process has not written.
        self._input = 0
        self._early_input: list[Optional[bytes]] = []
        self.has_input = False
        self._input_condition = threading.Condition()

    def __repr__(self) -> str:
        return f"<ShardClient of {len(self.nodes)} nodes: {len(self._open)} have not ended>"

    # -- the engine's --

    def start(self, engine: Engine) -> None:
        """Give the shard to its carrier."""
        if self._closed:
            engine.finished(self)
            return
        self._worker.aftermath.begin()
        self._carrier.start(self)
        with self._input_condition:
            self._started = True
            for data in self._early_input:
                self._carrier.write(self, data)

    def on_timeout(self) -> None:
        """Not called: the commands of nodes have timeouts, the shard has none."""

    def abort(self, timed_out: bool = False) -> None:
        """End the commands of all nodes."""
        if self._closed:
            return
        self._close()
        if self._started:
            self._carrier.abort(self)
        self._engine.finished(self)
        self._end_all(lambda node, started: self._abort_node(node, started, timed_out))

    def stop(self) -> None:
        """Let what runs go on, and start nothing more."""
        if self._closed or (self._started and not self._carrier.stop(self)):
            return
        self._close()
        self._engine.finished(self)
        self._end_all(lambda node, _started: self._worker.end_unstarted(node))

    def write(self, data: Optional[bytes], wait: bool) -> None:
        """Write to the commands. On any thread.

        Args:
            data: the bytes; None for the end of the input.
            wait: True to wait while more than 1 MiB waits for the slowest command.
        """
        self.has_input = True
        with self._input_condition:
            if wait:
                self._input_condition.wait_for(lambda: self._closed or self._input <= _INPUT_AHEAD)
            if self._closed:
                return
            self._input += len(data or b"")
            if self._started:
                self._carrier.write(self, data)
            else:
                self._early_input.append(data)

    # -- of the carrier --

    def on_begun(self) -> None:
        """A process has begun with the shard."""
        self._engine.post(self._note_begin)

    def on_events(self, events: list[tuple[Any, ...]]) -> None:
        """Process events; waits until that has been done."""
        self._taken.clear()
        if self._closed:
            return
        self._engine.post(self._process, events)
        self._taken.wait()

    def on_end(self, error: Optional[str]) -> None:
        """No more events come."""
        self._engine.post(self._finish, error)

    def on_taken(self, size: int) -> None:
        """Bytes of input were written to the commands."""
        with self._input_condition:
            self._input -= size
            self._input_condition.notify_all()

    def on_gone(self) -> None:
        """Nothing of the shard is left on the nodes, or nobody can tell."""
        self._worker.aftermath.end()

    # -- on the engine's thread --

    def _close(self) -> None:
        # First this: see on_events().
        self._closed = True
        self._taken.set()
        with self._input_condition:
            self._input_condition.notify_all()

    def _note_begin(self) -> None:
        self._delay = self._worker.spread_store.age

    def _process(self, events: list[tuple[Any, ...]]) -> None:
        try:
            for event in events:
                if self._closed:
                    return
                self._process_event(*event)
        finally:
            self._taken.set()

    def _process_event(self, kind: str, *details: Any) -> None:
        worker = self._worker
        if kind == "result":
            self._end_node(*details)
        elif kind == "routing":
            worker.report_routing(*details)
        elif details[0] not in self._open:
            return
        elif kind == "lines":
            node, sname, lines = details
            worker.deliver(node, Output(sname, lines))
        elif kind == "start":
            self._start_node(*details)
        elif kind == "written":
            node, sname, size = details
            copied = sname == worker.SNAME_COPY
            worker.deliver(node, Copied(size) if copied else Written(size))

    def _pop(self, node: str) -> bool:
        """A node ends; returns True if its command has started."""
        started = self._open.pop(node)
        if not self._open:
            self._worker.note_shard(self.nodes)
        return started

    def _start_node(self, node: str, running: bool = True) -> None:
        if not self._open[node]:
            self._open[node] = True
            self._worker.deliver(node, Started(running))

    def _end_node(self, result: NodeResult) -> None:
        node = result.node
        if node not in self._open:
            return
        worker = self._worker
        if not (result.aborted and result.started is None):
            self._start_node(node, result.started is not None)
        for sname, output in (("stdout", result.stdout), ("stderr", _own_stderr(result))):
            if output and node in self._open:
                worker.deliver(node, Output(sname, output.split(b"\n")))
        if node not in self._open:
            return  # a handler has aborted the worker
        self._pop(node)
        # Equal output is kept once: by the store, not here.
        waiting = result.waiting + self._delay
        worker.spread_store.received[node] = result._replace(
            stdout=b"", stderr=b"", waiting=waiting
        )
        worker.note_end(result)
        record = _record(result)
        if record is None:
            worker.end_unstarted(node)
        else:
            worker.deliver(node, record)

    def _abort_node(self, node: str, started: bool, timed_out: bool) -> None:
        if started:
            self._worker.deliver(node, TimedOut() if timed_out else Aborted())
        else:
            self._worker.end_unstarted(node)

    def _finish(self, error: Optional[str]) -> None:
        """The carrier has come to an end: nodes that have not ended fail."""
        if self._closed:
            return
        cause = error or "The worker process has told no result"
        try:
            self._end_all(lambda node, started: self._lose(node, started, cause))
        finally:
            self._close()
            self._engine.finished(self)

    def _lose(self, node: str, started: bool, cause: str) -> None:
        error = ShardError(node, cause)
        self._worker.note_end(NodeResult(node, failure=error))
        if not started:
            self._worker.deliver(node, Started(running=False))
        self._worker.deliver(node, Failed(error))

    def _end_all(self, end: Callable[[str, bool], Any]) -> None:
        """End all nodes that have not ended, also if a handler raises: the first error counts."""
        first: Optional[BaseException] = None
        while self._open:
            node = next(iter(self._open))
            started = self._pop(node)
            try:
                end(node, started)
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first


def _own_stderr(result: NodeResult) -> bytes:
    """The standard error without the sentence about a failure, which the record Failed has."""
    if result.failure is None:
        return result.stderr
    sentence = result.failure.encoded_sentence
    if result.stderr == sentence:
        return b""
    return (
        result.stderr[: -len(sentence) - 1] if result.stderr.endswith(sentence) else result.stderr
    )


def _record(result: NodeResult) -> Optional[Record]:
    """The record that tells a result; None for a node that was aborted before its start."""
    if result.failure is not None:
        return Failed(result.failure, 255 if result.rc is None else result.rc)
    if result.timed_out:
        return TimedOut()
    if result.aborted:
        return None if result.started is None else Aborted()
    return Exited(result.rc or 0)


class SpreadWorker(DistantWorker):
    """A command or copy on many nodes, whose shards are carried out elsewhere.

    Its events and results are those of the worker that would do the same here. The events of a
    handler come as they happen from worker processes, and for a whole shard at once from other
    executors.

    Args:
        plain: the worker that would do the same here; it is not scheduled.
        job: the arguments of that worker as plain data: see ``make_worker()``.
        settings: the settings of the tasks: a SettingsSnapshot, pickled.
        share_out: divides the nodes into shards: that of Processes or ExecutorCarrier.
        handler: an EventHandler, or None.
        max_failures: after so many failures, nothing more is started; None for no limit.
        on_shard: called with the results of each shard when it has ended.

    Attributes:
        nodes, command, source, dest, reverse, stderr: those of ``plain``.
        job, settings: as above.
        live: True if lines are sent as they come.
    """

    def __init__(
        self,
        plain: Any,
        job: Mapping[str, Any],
        settings: bytes,
        share_out: Callable[[Sequence[str]], Sequence[tuple[Any, list[str]]]],
        handler: Any = None,
        max_failures: Optional[int] = None,
        on_shard: Optional[Callable[[Results], Any]] = None,
    ) -> None:
        super().__init__(handler)
        self.nodes = NodeSet(plain.nodes)
        self.command = getattr(plain, "command", None)
        self.source = getattr(plain, "source", None)
        self.dest = getattr(plain, "dest", None)
        self.reverse = bool(getattr(plain, "reverse", False))
        self.stderr = plain.stderr
        self.job = job
        self.settings = settings
        self.live = self._events is not None and self._events.reads
        self._share_out = share_out
        self._max_failures = max_failures
        self._on_shard = on_shard
        self._failures = 0
        # The nodes of the shards whose last node is about to end.
        self._over: list[Sequence[str]] = []
        self._shards: list[ShardClient] = []

    def __repr__(self) -> str:
        job = self.command if self.source is None else f"{self.source} -> {self.dest}"
        return f"<SpreadWorker {job!r} on {self.nodes}: {self._ends_left} nodes left>"

    def _make_store(self, context: WorkerContext, run_results: Optional[RunResults]) -> ResultStore:
        return SpreadStore(context.engine, run_results, self, self._count_nodes())

    @property
    def spread_store(self) -> SpreadStore:
        """The results, while they are collected."""
        store = self.store
        assert isinstance(store, SpreadStore)  # noqa: S101 _make_store() has made it
        return store

    def bind(self, context: WorkerContext) -> list[EngineClient]:
        """Join a task: see :meth:`.worker.Worker.bind`."""
        clients = super().bind(context)
        self._ends_left = len(self.nodes)
        return clients

    def _make_clients(self, context: WorkerContext) -> list[EngineClient]:
        shards = self._share_out(list(self.nodes))
        self._shards = [ShardClient(self, carrier, nodes) for carrier, nodes in shards]
        return list(self._shards)

    def _abort(self) -> None:
        self.aborted = True
        for shard in list(self._shards):
            shard.abort()

    def note_end(self, result: NodeResult) -> None:
        """Count a node that has ended by itself, and stop after too many failures."""
        if result.ok or result.aborted:
            return
        self._failures += 1
        if self._failures == self._max_failures:
            # In the next pass: this node has not ended yet.
            self.context.engine.post(self._stop)

    def _stop(self) -> None:
        for shard in list(self._shards):
            shard.stop()

    def report_routing(self, arg: dict[str, Any]) -> None:
        """A gateway has failed: call ``ev_routing``."""
        if self._events is not None:
            self._events.routing(self, arg)

    def note_shard(self, nodes: Sequence[str]) -> None:
        """The last node of a shard is about to end."""
        self._over.append(nodes)

    def count_end(self) -> None:
        """Count the end of a node; after the last one of a shard, call ``on_shard``."""
        if self._over:
            over, self._over = self._over, []
            try:
                self._report_shards(over)
            except BaseException as error:
                self._end_after(error, super().count_end)
                raise
        super().count_end()

    @interruptible
    def _report_shards(self, shards: Sequence[Sequence[str]]) -> None:
        if self._on_shard is not None:
            for nodes in shards:
                self._on_shard(Results(self.store.result(node) for node in nodes))

    # -- input --

    def write(self, buf: bytes, sname: Optional[str] = None) -> None:
        """Send bytes to the standard input of every command; see ``CommandWorker.write()``.

        On other threads than the task's it waits while more than 1 MiB waits for the slowest
        command of a shard.
        """
        self._write(check_input(buf))

    def set_write_eof(self, sname: Optional[str] = None) -> None:
        """Close the standard input of every command after the bytes that were written."""
        self._write(None)

    def _write(self, data: Optional[bytes]) -> None:
        if self._context is None:
            raise WorkerError("a SpreadWorker takes input when it has been scheduled")
        elsewhere = threading.current_thread() is not self._context.thread
        for shard in self._shards:
            shard.write(data, elsewhere)
