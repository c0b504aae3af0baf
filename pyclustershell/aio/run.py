"""What a session gives to iterate over: lines, and the events of a run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional, Union

from ..arguments import check_input
from ..event import EventHandler
from ..results import NodeResult, Results
from ..worker.command import CommandWorker
from ..worker.worker import Worker
from .bridge import Bridge
from .job import Job
from .stream import ITEM_SIZE, Stream


class NodeStarted(NamedTuple):
    """A node's command has started, or could not be started: its :class:`NodeEnded` says so.

    Attributes:
        node: the node's name; the key of a local command.
    """

    node: Any


class NodeOutput(NamedTuple):
    """A line of output.

    Attributes:
        node: the node's name; the key of a local command.
        stream: 'stdout' or 'stderr'.
        line: the line, as bytes, without its newline.
    """

    node: Any
    stream: str
    line: bytes


class NodeEnded(NamedTuple):
    """A node has ended, in whatever way. Exactly one for each node.

    Attributes:
        node: the node's name; the key of a local command.
        result: its result.
    """

    node: Any
    result: NodeResult


Event = Union[NodeStarted, NodeOutput, NodeEnded]
Line = tuple[Any, str, bytes]


class LineHandler(EventHandler):
    """Puts lines into a stream. On the task's thread."""

    def __init__(self, stream: Stream[Line]) -> None:
        self._put = stream.put

    def ev_read(self, worker: Worker, node: Any, sname: str, msg: bytes) -> None:
        """Pass a line on."""
        self._put((node, sname, msg), len(msg) + ITEM_SIZE)


class RunHandler(EventHandler):
    """Puts events into a stream, and tells when input may be written. On the task's thread."""

    def __init__(self, stream: Stream[Event], on_written: Callable[[], Any]) -> None:
        self._put = stream.put
        self._on_written = on_written

    def ev_pickup(self, worker: Worker, node: Any) -> None:
        """Pass a start on."""
        self._put(NodeStarted(node), ITEM_SIZE)

    def ev_read(self, worker: Worker, node: Any, sname: str, msg: bytes) -> None:
        """Pass a line on."""
        self._put(NodeOutput(node, sname, msg), len(msg) + ITEM_SIZE)

    def ev_written(self, worker: Worker, node: Any, sname: str, size: int) -> None:
        """Some input was sent."""
        self._on_written()

    def ev_result(self, worker: Worker, node: Any, result: NodeResult) -> None:
        """Pass an end on."""
        self._put(NodeEnded(node, result), len(result.stdout) + len(result.stderr) + ITEM_SIZE)


class Lines:
    """The lines of a command, as they come: see ``Session.lines()``.

    It starts the command when the iteration begins, and can be iterated over once. The iteration
    ends when the command has ended on all nodes. ``break``, an exception and a cancellation end the
    command on its nodes. A cancellation waits for that. Python does not tell an iterator of a
    ``break`` at once, so it does not wait, unless the iteration is in an ``async with`` block::

        async with session.lines('tail -f log', nodes='n[1-9]') as lines:
            async for node, stream, line in lines:
                if b'ready' in line:
                    break

    Args:
        start: starts the command; returns its job and its stream.

    Attributes:
        results: the results, without output, when the iteration or the ``async with`` block has
            come to its end; None before. After a ``break``, the nodes on which the command had not
            ended are ``aborted``. None as well if an exception ended the run of the session's
            task: the iteration raises it.
    """

    def __init__(self, start: Callable[[], tuple[Job, Stream[Line]]]) -> None:
        self.results: Optional[Results] = None
        self._start = start
        self._job: Optional[Job] = None

    def __repr__(self) -> str:
        return f"<Lines: {self._job or 'not started'}>"

    async def __aiter__(self) -> AsyncIterator[Line]:
        """Start the command, and iterate over (node, stream, line).

        Raises:
            RuntimeError: it was iterated over before.
            TaskError: the session is not open, or belongs to another event loop.
        """
        if self._job is not None:
            raise RuntimeError("these lines were iterated over before: call lines() again")
        job, stream = self._start()
        self._job = job
        try:
            while batch := await stream.next_batch():
                for item in batch:
                    yield item
            await job.results()
        finally:
            await self._end(job)

    async def __aenter__(self) -> Lines:
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._job is not None:
            await self._end(self._job)

    async def _end(self, job: Job) -> None:
        await job.end()
        self.results = job.outcome()


class Run:
    """A command that runs: see ``Session.start()``.

    ``async with`` starts it; leaving the block ends the commands that have not ended on their
    nodes. ``await run`` waits for the results. ``async for event in run`` gives NodeStarted,
    NodeOutput and NodeEnded, until the command has ended on all nodes; after a ``break`` another
    ``async for`` goes on. Each event is given once, so two iterations at the same time are refused.

    Events wait for an iteration, up to the session's ``buffer``; then the commands are held back.
    ``await run`` drops those that nobody is iterating over, so it does not wait for ever.

    Args:
        start: starts the command; returns its job and its stream. It gets a function to be called
            on the task's thread when some input was sent.
        bridge: posts to the event loop.
    """

    def __init__(
        self, start: Callable[[Callable[[], Any]], tuple[Job, Stream[Event]]], bridge: Bridge
    ) -> None:
        self._start = start
        self._bridge = bridge
        self._job: Optional[Job] = None
        self._stream: Optional[Stream[Event]] = None
        self._batch: deque[Event] = deque()
        self._iterations = 0
        self._awaited = False
        # Of the task's thread: the drains that wait, and True when the worker has closed.
        self._drains: list[asyncio.Future[None]] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<Run: {self._job or 'not started'}>"

    async def __aenter__(self) -> Run:
        if self._job is not None:
            raise RuntimeError("this run was started before: call start() again")
        self._job, self._stream = self._start(self._on_written)
        self._job.worker.when_closed(self._on_closed)
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self._started().end()

    def _started(self) -> Job:
        if self._job is None:
            raise RuntimeError("this run has not been started: use 'async with session.start(...)'")
        return self._job

    @property
    def worker(self) -> CommandWorker:
        """The run's worker."""
        worker = self._started().worker
        if not isinstance(worker, CommandWorker):
            raise TypeError(f"{worker!r} has no input and output that are streams")
        return worker

    # -- input --

    def write(self, data: bytes) -> None:
        """Send bytes to the standard input of every command. Does not wait: see :meth:`drain`.

        Raises:
            TypeError: ``data`` is not bytes.
        """
        self.worker.context.engine.post(self.worker.write, check_input(data))

    def end(self) -> None:
        """Close the standard input of every command after the bytes that were written."""
        self.worker.context.engine.post(self.worker.set_write_eof)

    async def drain(self) -> None:
        """Wait while more than 1 MiB is queued for the slowest command.

        ::

            for block in blocks:
                run.write(block)
                await run.drain()
        """
        self._bridge.check_loop()
        if self._started().ended:
            return
        drained = self._bridge.loop.create_future()
        # What was written before is queued when this call is made.
        self.worker.context.engine.post(self._add_drain, drained)
        await drained

    # These are called on the task's thread.

    def _add_drain(self, drained: asyncio.Future[None]) -> None:
        self._drains.append(drained)
        self._on_written()

    def _on_written(self) -> None:
        """Input was queued or sent, or the worker has closed."""
        if self._drains and (self._closed or not self.worker.input_full):
            drains, self._drains = self._drains, []
            self._bridge.post(_release, drains)

    def _on_closed(self, _worker: Worker) -> None:
        self._closed = True
        self._on_written()

    # -- events and results --

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events.

        Raises:
            RuntimeError: another iteration over this run waits for its next event.
            TaskError: this is another event loop than that of the session.
        """
        self._started()
        self._bridge.check_loop()
        stream = self._stream
        self._iterations += 1
        try:
            while stream is not None:
                while self._batch:
                    yield self._batch.popleft()
                self._batch.extend(await stream.next_batch())
                if not self._batch:
                    return
        finally:
            self._iterations -= 1
            self._discard_unread()

    def __await__(self) -> Generator[Any, None, Results]:
        """Wait for the results. A cancellation ends the commands before it goes on.

        Raises:
            Exception: what ended the run of the session's task.
        """
        results = self._started().results()
        self._awaited = True
        self._discard_unread()
        return results.__await__()

    def _discard_unread(self) -> None:
        if self._awaited and not self._iterations and self._stream is not None:
            self._batch.clear()
            self._stream.discard()


def _release(drains: list[asyncio.Future[None]]) -> None:
    for drained in drains:
        if not drained.done():
            drained.set_result(None)
