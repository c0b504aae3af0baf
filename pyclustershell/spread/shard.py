"""One shard: :func:`run_shard`, which any process can run, and the tasks that it keeps there."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional

from ..exceptions import NodeError, ShardError
from ..nodeset import NodeSet
from ..results import NodeResult, Results
from ..task.settings import SettingsSnapshot
from ..task.task import Task
from ..worker.command import CommandWorker
from ..worker.worker import DistantWorker

# How many tasks a process keeps: one for each of the settings that it was last asked to use.
_KEPT_TASKS = 4


class _Kept:
    """A task that is kept for the next shard with the same settings.

    Attributes:
        task: the task.
        users: the number of shards that it runs now.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.users = 0


class KeptTasks:
    """The tasks of this process, by their settings: so connections serve one shard after another.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()

    def __repr__(self) -> str:
        return f"<KeptTasks: {len(self._kept)}>"

    @contextmanager
    def using(self, settings: bytes, limits: Mapping[str, Any]) -> Iterator[Task]:
        """Use the task with these settings; it is made at first use.

        Args:
            settings: a SettingsSnapshot, pickled.
            limits: info keys that win over those of the settings.
        """
        if self._pid != os.getpid():
            self._forget()  # the parent's tasks
        key = settings, *sorted(limits.items())
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept(_make_task(pickle.loads(settings), limits))  # noqa: S301 the head's own
            self._kept.move_to_end(key)
            kept.users += 1
        try:
            yield kept.task
        finally:
            with self._lock:
                kept.users -= 1
                idle = [key for key, each in self._kept.items() if not each.users]
                surplus = [self._kept.pop(key) for key in idle[: len(self._kept) - _KEPT_TASKS]]
            for each in surplus:
                each.task.abort(kill=True)

    def close(self, settings: Optional[bytes] = None) -> dict[str, list[str]]:
        """End what runs, and close the connections.

        Args:
            settings: those of the tasks to close; None for all.

        Returns:
            The nodes on which an ended command may still run, by the reason.
        """
        if self._pid != os.getpid():
            return {}
        with self._lock:
            keys = [key for key in self._kept if settings in (None, key[0])]
            closed = [self._kept.pop(key) for key in keys]
        left: dict[str, list[str]] = {}
        for each in closed:
            each.task.abort(kill=True)
            each.task.thread.join()
            for reason, nodes in each.task.iter_left_running():
                left.setdefault(reason, []).extend(nodes)
        return left


def _make_task(snapshot: SettingsSnapshot, limits: Mapping[str, Any]) -> Task:
    # A daemon: the process ends when its executor wants it to.
    task = Task(daemon=True)
    try:
        task.adopt_settings(snapshot)
        for key, value in limits.items():
            task.set_info(key, value)
    except BaseException:
        task.abort(kill=True)
        raise
    return task


#: The tasks of this process.
kept_tasks = KeptTasks()


def make_worker(
    task: Task, nodes: NodeSet, job: Mapping[str, Any], handler: Any = None
) -> DistantWorker:
    """Make the worker of a job.

    Args:
        task: the task that will run it.
        nodes: the nodes.
        job: the arguments of ``Task.copy_worker()``, if there is a ``source``; else those of
            ``Task.command_worker()``, and ``input``: bytes for the commands' standard input, which
            is empty without ``input`` and ``stdin``.
        handler: the worker's event handler.

    Raises:
        ValueError, TypeError: an argument is wrong, or arguments do not fit together.
    """
    options = dict(job, handler=handler)
    if "source" in options:
        return task.copy_worker(options.pop("source"), options.pop("dest"), nodes, **options)
    data = options.pop("input", None)
    command = options.pop("command")
    options["stdin"] = bool(data is not None or options.get("stdin"))
    worker: Any = task.command_worker(command, nodes, **options)
    if data is not None:
        worker.write(data)
        worker.set_write_eof()
    return worker  # type: ignore[no-any-return]


class RunningShards:
    """The workers of the shards that this process runs, by the shards' keys. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[str, DistantWorker] = {}
        # The calls for shards that have not begun.
        self._early: dict[str, list[Callable[[DistantWorker], Any]]] = {}
        # The last shards that have ended: calls for them may still be under way.
        self._ended: deque[str] = deque(maxlen=64)

    def add(self, key: str, worker: DistantWorker) -> bool:
        """A shard begins, with a worker that is not scheduled yet: make the calls that came before.

        Returns:
            False if the shard was aborted before it began.
        """
        with self._lock:
            # Under the lock, in their order. A worker that is not scheduled waits for nothing.
            early = self._early.pop(key, [])
            if any(call is abort for call in early):
                return False
            for call in early:
                call(worker)
            self._workers[key] = worker
        return True

    def remove(self, key: str) -> None:
        """A shard has ended."""
        with self._lock:
            self._workers.pop(key, None)
            self._early.pop(key, None)
            self._ended.append(key)

    def has_ended(self, key: str) -> bool:
        """True if a shard has ended not long ago."""
        return key in self._ended

    def call(self, key: str, method: Callable[[DistantWorker], Any], early: bool = True) -> bool:
        """Call ``method(worker)`` with the worker of a shard.

        Args:
            key: the shard's key.
            method: the function.
            early: True to call it later if the shard has not begun; False to drop the call.

        Returns:
            True if this process runs the shard.
        """
        with self._lock:
            worker = self._workers.get(key)
            if worker is None:
                if early and key not in self._ended:
                    self._early.setdefault(key, []).append(method)
                return False
        method(worker)
        return True


def abort(worker: DistantWorker) -> None:
    """End the commands of a shard."""
    worker.abort()


def stop(worker: DistantWorker) -> None:
    """End the commands of a shard whose turn has not come."""
    if isinstance(worker, CommandWorker):
        worker.abort_waiting()


#: The shards of this process.
running_shards = RunningShards()


def run_shard(
    nodes: str,
    job: Mapping[str, Any],
    settings: bytes,
    limits: Mapping[str, Any],
    key: str,
) -> Results:
    """Run a command or copy on some nodes, with a task that this process keeps for the next time.

    An executor calls this in another process, on another host, or on a thread. All arguments are
    plain data.

    Args:
        nodes: the nodes, a node set.
        job: the command or copy: see :func:`make_worker`.
        settings: the task's settings: a SettingsSnapshot, pickled.
        limits: info keys of this process alone, such as its share of the fanout.
        key: a name that no other shard has.

    Returns:
        The results of all nodes. A node that fails is a result, and no exception.
    """
    if _was_begun(key):
        cause = (
            "The worker process ended while the command may have been running, and its executor "
            "gave the shard to another one: it was not run again"
        )
        return Results(lost(node, cause) for node in NodeSet(nodes))
    with kept_tasks.using(settings, limits) as task:
        worker = make_worker(task, NodeSet(nodes), job)
        running_shards.add(key, worker)
        try:
            return task.submit(worker).result()
        finally:
            running_shards.remove(key)


def lost(node: str, cause: str, started: Optional[float] = None) -> NodeResult:
    """The result of a node whose shard has failed as a whole."""
    error: NodeError = ShardError(node, cause)
    return NodeResult(node, 255, stderr=error.encoded_sentence, failure=error, started=started)


def _was_begun(key: str) -> bool:
    """True if another process has begun this shard. It is asked once for each shard.

    Dask runs the tasks of a worker that died on another one, and so it does if a worker dies whose
    results were not fetched yet. A command must not run twice, so each shard leaves a mark with
    Dask's scheduler. Other executors run a call once.
    """
    if "distributed" not in sys.modules:
        return False
    distributed: Any = importlib.import_module("distributed")
    try:
        distributed.get_worker()
    except ValueError:
        return False  # this is no worker of Dask
    # https://distributed.dask.org/en/stable/coordination.html
    with distributed.worker_client(separate_thread=False) as client:
        mark = distributed.Event(f"pyclustershell shard {key}", client=client)
        begun = bool(mark.is_set())
        mark.set()
    return begun
