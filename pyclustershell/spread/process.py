"""The side of a worker process: its link to the program that has started it, and its shards.

Messages are pickled tuples. From the program: ``abort``, ``stop``, ``input`` and ``close``; to it:
``ready``, ``begun``, ``events``, ``end``, ``taken``, ``gone`` and ``left``. All but ``ready``,
``close`` and ``left`` have the key of a shard as their second item.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Optional

from ..event import EventHandler
from ..nodeset import NodeSet
from ..results import NodeResult
from ..worker.worker import DistantWorker
from .shard import abort, kept_tasks, make_worker, running_shards, stop

#: The exit status of a process whose program has ended.
EXIT_ORPHAN = 1


class Link:
    """The link of this process to the program that has started it.

    Args:
        connection: this process's end of a pipe.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send a message; it waits while the program has much to read. From any thread."""
        data = pickle.dumps(message)
        try:
            with self._lock:
                self._connection.send_bytes(data)
        except OSError:
            # The program has ended. The thread that listens ends this process.
            return

    def listen(self) -> None:
        """Obey the program, until it ends: then end all commands, and this process."""
        try:
            while True:
                self._obey(*pickle.loads(self._connection.recv_bytes()))  # noqa: S301 the program's
        except (EOFError, OSError):
            pass
        try:
            kept_tasks.close()
        finally:
            os._exit(EXIT_ORPHAN)

    def _obey(self, verb: str, key: str = "", *details: Any) -> None:
        if verb == "abort":
            running_shards.call(key, abort)
        elif verb == "stop":
            running_shards.call(key, stop)
        elif verb == "input":
            inputs.put(self, key, *details)
        elif verb == "close":
            self.send("left", kept_tasks.close())


_link: Optional[Link] = None


def begin(connection: Connection) -> None:
    """Begin the work of a process: the initializer of its executor.

    Args:
        connection: this process's end of the pipe to the program.
    """
    global _link  # noqa: PLW0603 there is one for each process
    # Ctrl-C is for the program: it ends the commands. Not SIG_IGN, which commands would inherit.
    # The signal was blocked since before the process was started.
    signal.signal(signal.SIGINT, _ignore)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _link = Link(connection)
    import_module("..worker.preload", __package__)  # not when the first node waits for it
    threading.Thread(target=_link.listen, name="pyclustershell link", daemon=True).start()
    _link.send("ready", os.getpid())


def _ignore(_number: int, _frame: Optional[FrameType]) -> None:
    pass


def nothing() -> None:
    """Do nothing: the first call of an executor starts its process."""


def run_reporting(
    nodes: str,
    job: Mapping[str, Any],
    settings: bytes,
    limits: Mapping[str, Any],
    key: str,
    live: bool,
) -> None:
    """Run a shard as ``run_shard()`` does, and send its events as they come.

    Args:
        nodes, job, settings, limits, key: as for ``run_shard()``.
        live: True to send each line as it comes; False to send output with the result of a node.
    """
    if _link is None:
        raise RuntimeError("this process was not started by a Spread")
    link = _link
    link.send("begun", key)
    error: Optional[str] = None
    worker: Optional[DistantWorker] = None
    try:
        with kept_tasks.using(settings, limits) as task:
            reporter = LiveReporter(link, key) if live else Reporter(link, key)
            worker = make_worker(task, NodeSet(nodes), job, reporter)
            if live:
                worker.keep_output = False
            if running_shards.add(key, worker):
                task.submit(worker).result()
    except Exception as failure:
        # The nodes without a result fail with it, in the program.
        error = f"{type(failure).__name__}: {failure}"
    finally:
        running_shards.remove(key)
        inputs.drop(key)
    link.send("end", key, error)
    if worker is not None and worker.task is not None:
        worker.when_gone(lambda _worker: link.send("gone", key))
    else:
        link.send("gone", key)


class Reporter(EventHandler):
    """Sends the events of a shard, those of one pass of the loop at a time. On the task's thread.

    Args:
        link: the link to the program.
        key: the key of the shard.
    """

    def __init__(self, link: Link, key: str) -> None:
        self._link = link
        self._key = key
        self._events: list[tuple[Any, ...]] = []

    def _add(self, worker: Any, *event: Any) -> None:
        self._events.append(event)
        if len(self._events) == 1:
            worker.context.engine.call_at_end_of_pass(self._flush)

    def _flush(self) -> None:
        events, self._events = self._events, []
        self._link.send("events", self._key, events)

    def ev_pickup(self, worker: Any, node: Any) -> None:
        """A command has started, or could not be started."""
        self._add(worker, "start", node)

    def ev_routing(self, worker: Any, arg: dict[str, Any]) -> None:
        """A gateway has failed."""
        self._add(worker, "routing", arg)

    def ev_result(self, worker: Any, node: Any, result: NodeResult) -> None:
        """A node has ended."""
        self._add(worker, "result", result)


class LiveReporter(Reporter):
    """Sends lines and the progress of copies as well."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        """A line has come."""
        if sname == worker.SNAME_STDERR and worker.node_failure(node) is not None:
            return  # it is the sentence about the failure, which the result has
        last = self._events[-1] if self._events else ()
        if last[:3] == ("lines", node, sname):
            last[3].append(msg)
        else:
            self._add(worker, "lines", node, sname, [msg])

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        """Bytes were sent to a command, or so many bytes of files have been copied."""
        self._add(worker, "written", node, sname, size)


class Inputs:
    """What is to be written to the commands of shards, by a thread for each.

    ``write()`` waits for the slowest command, and orders such as ``abort`` must not wait for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._queues: dict[str, list[Optional[bytes]]] = {}

    def put(self, link: Link, key: str, data: Optional[bytes]) -> None:
        """Write bytes to the commands of a shard; None is their end."""
        with self._lock:
            if running_shards.has_ended(key):
                return
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = queue = []
                threading.Thread(
                    target=self._write,
                    args=(link, key, queue),
                    name="pyclustershell input",
                    daemon=True,
                ).start()
            queue.append(data)
            self._lock.notify_all()

    def drop(self, key: str) -> None:
        """A shard has ended: its commands read nothing more."""
        with self._lock:
            self._queues.pop(key, None)
            self._lock.notify_all()

    def _write(self, link: Link, key: str, queue: list[Optional[bytes]]) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: queue or self._queues.get(key) is not queue)
                if not queue:
                    return
                data = queue.pop(0)
            running_shards.call(key, partial(_write_input, data))
            link.send("taken", key, 0 if data is None else len(data))


def _write_input(data: Optional[bytes], worker: DistantWorker) -> None:
    if data is None:
        worker.set_write_eof()
    else:
        worker.write(data)


inputs = Inputs()
