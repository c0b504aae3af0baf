"""Workers that other threads have scheduled, on their way to the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ..engine.engine import Engine, EngineClient
from ..engine.forking import abandon_in_child
from ..exceptions import EngineCapacityError
from ..worker.worker import Worker
from .capacity import Capacity


class _Incoming(NamedTuple):
    """A worker on its way.

    Attributes:
        worker: the worker.
        clients: its clients.
        needs_run: True if it needs a run that nobody else begins.
    """

    worker: Worker
    clients: Sequence[EngineClient]
    needs_run: bool


class IncomingWorkers:
    """The workers that were scheduled on other threads than the task's.

    Any thread adds. The task's thread takes: in the loop, at the start of a run, or when the
    scheduled work is dropped. So no worker is lost, whenever it was scheduled.

    Args:
        engine: the task's engine.
        capacity: the open files of the task.
    """

    def __init__(self, engine: Engine, capacity: Capacity) -> None:
        self._engine = engine
        self._capacity = capacity
        self._workers: deque[_Incoming] = deque()
        abandon_in_child(self)

    def __repr__(self) -> str:
        return f"<IncomingWorkers: {len(self._workers)}>"

    def add(self, worker: Worker, clients: Sequence[EngineClient], needs_run: bool) -> None:
        """Add a worker. :meth:`announce` must follow. On any thread.

        Args:
            worker: the worker.
            clients: its clients.
            needs_run: True if it needs a run that nobody else begins.
        """
        self._workers.append(_Incoming(worker, clients, needs_run))

    def announce(self) -> None:
        """Have the loop take the workers. On any thread."""
        self._engine.post(self.take)

    def remove(self, worker: Worker) -> bool:
        """Take a worker back, on any thread; False if the task has taken it."""
        for incoming in self._workers.copy():
            if incoming.worker is worker:
                try:
                    self._workers.remove(incoming)
                except ValueError:
                    return False
                return True
        return False

    def take(self) -> None:
        """Add the clients to the engine, in order: at the begin of a run, or in it.

        On the task's thread.

        Raises:
            EngineCapacityError: a worker that was not submitted needs more open files than the
                system allows.
        """
        while self._workers:
            worker, clients, _ = self._workers.popleft()
            self.start(worker, clients)

    def take_unchecked(self) -> None:
        """Add the clients to the engine, which will abort them. On the task's thread."""
        while self._workers:
            self._engine.add(*self._workers.popleft().clients)

    def start(self, worker: Worker, clients: Sequence[EngineClient]) -> None:
        """Add the clients of one worker to the engine. On the task's thread.

        Raises:
            EngineCapacityError: they need more open files than the system allows; the worker has
                ended. A submitted worker's future has the error instead.
        """
        try:
            self._capacity.check(clients)
        except EngineCapacityError as error:
            kept = worker.keep_error(error)
            for client in clients:
                client.abort()
            if not kept:
                raise
        else:
            self._engine.add(*clients)

    def needs_run(self) -> bool:
        """Return True if workers are waiting that need a run. On any thread."""
        return any(incoming.needs_run for incoming in self._workers.copy())

    def abandon(self) -> None:
        """In a forked child: the workers are the parent's."""
        self._workers.clear()
