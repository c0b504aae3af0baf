"""Session: the commands, copies and connections of a program that uses asyncio."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from ..arguments import is_coroutine_function
from ..defaults import Defaults
from ..exceptions import TaskError
from ..results import Results
from ..ssh.config.validators import ASKING
from ..task.task import Nodes, Task
from ..worker.worker import DistantWorker, Worker
from .bridge import Bridge, settled
from .job import Job
from .run import Event, Line, LineHandler, Lines, Run, RunHandler
from .stream import Stream

if TYPE_CHECKING:
    from ..ssh.config.options import SSHOptions

# How many bytes of lines or events may wait for one iteration.
_BUFFER = 1 << 20


class Session:
    """Runs commands and copies from an event loop of asyncio.

    ::

        async with Session(fanout=64, user='admin') as session:
            results = await session.run('uname -r', nodes='n[1-400]')
            for text, nodes in results.gathered():
                print(f'{nodes}: {text}')

    All that runs at the same time shares the fanout and the connections. A failed node is a result
    and no exception: see :class:`~.results.Results` and its ``check()``. The work is done on a
    thread of the session's own, so it does not block the event loop.

    If an await is cancelled (also by ``asyncio.timeout()`` or a TaskGroup), its commands get TERM
    on all their nodes, and KILL after ``ssh_kill_grace`` seconds. The cancellation goes on when
    they have ended, or one second after the grace. Leaving the ``async with`` block does this to
    all that still runs, and closes the connections. So does the end of the program; there is a
    ResourceWarning then.

    All methods are for the event loop that has entered the session: on another one they raise a
    TaskError, and start nothing.

    Args:
        fanout: how many commands and connections there are at the same time, at most; None for the
            task's default.
        buffer: how many bytes of lines or events may wait for one iteration of :meth:`lines` or
            :meth:`start`. Then its commands are held back, and no other ones. The windows of
            their connections are in addition to it: as many bytes again, or 64 KiB a node.
        info: further info keys of the task, such as ``{'ssh_kill_grace': 1}``.
        defaults: the task's info and default keys; None for :data:`~.defaults.DEFAULTS`.
        **ssh_options: fields of SSHOptions, for all connections. ``password``, ``passphrase`` and
            ``keyboard_interactive`` may be coroutine functions, which run on the event loop.

    Raises:
        TypeError: an option is unknown, or has a value of a wrong type.
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        *,
        fanout: Optional[int] = None,
        buffer: int = _BUFFER,
        info: Optional[Mapping[str, Any]] = None,
        defaults: Optional[Defaults] = None,
        **ssh_options: Any,
    ) -> None:
        # Not at the top: SSH options concern SSH only.
        from ..ssh.config.options import SSHOptions

        SSHOptions(**ssh_options)  # a wrong one is told here
        if buffer < 1:
            raise ValueError(f"buffer={buffer!r} is no number of bytes: use 1 or more")
        self._info = dict(info or {})
        if fanout is not None:
            self._info["fanout"] = fanout
        self._buffer = buffer
        self._defaults = defaults
        self._ssh_options = ssh_options
        self._task: Optional[Task] = None
        self._bridge: Optional[Bridge] = None
        # The jobs that have not ended, and those of them that the task does not know yet.
        self._jobs: set[Job] = set()
        self._enqueued: list[Job] = []
        self._closing = False
        # The functions that are called in place of coroutine functions. One for each: they are a
        # part of the key under which connections are pooled.
        self._askers: dict[Any, Callable[..., Any]] = {}
        self._questions: set[Future[Any]] = set()

    def __repr__(self) -> str:
        state: object = self._task
        if state is None:
            state = "closed" if self._closing else "not entered"
        return f"<Session: {len(self._jobs)} running, {state}>"

    def __del__(self) -> None:
        # Nothing is set if a wrong argument was refused.
        task: Optional[Task] = getattr(self, "_task", None)
        if task is not None:
            warnings.warn(
                f"{self!r} was not closed: use 'async with'",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            # Nothing runs any more: all jobs refer to the session. This does not block.
            task.post(functools.partial(task.abort, kill=True))

    # -- the beginning and the end --

    async def __aenter__(self) -> Session:
        if self._task is not None or self._closing:
            raise TaskError("this session was entered before: make a new one")
        self._bridge = Bridge(asyncio.get_running_loop())
        # Nobody awaits the commands of a session that was not closed when the program ends.
        task = Task(defaults=self._defaults, daemon=True)
        try:
            for key, value in self._info.items():
                task.set_info(key, value)
            options = {name: self._adapt(name, it) for name, it in self._ssh_options.items()}
            if options:
                task.configure_ssh(**options)
            # The run does not end between two commands. Each would begin another one.
            task.port()
        except BaseException:
            task.abort(kill=True)
            raise
        self._task = task
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all that still runs, and close the connections; ``async with`` does it.

        A cancellation meanwhile does not cut this short.

        Raises:
            TaskError: this is another event loop than that which has entered the session.
            asyncio.CancelledError: this task was cancelled meanwhile.
        """
        if self._task is None or self._bridge is None or self._closing:
            return
        self._bridge.check_loop()
        self._closing = True
        bridge, task = self._bridge, self._task
        closing = asyncio.ensure_future(self._end_jobs())
        try:
            await settled(closing)
        finally:
            closed: asyncio.Future[None] = bridge.loop.create_future()

            def close_task() -> None:
                task.abort(kill=True)
                task.thread.join()
                bridge.post(closed.set_result, None)

            # It waits for nodes. The threads of run_in_executor() would stay.
            threading.Thread(target=close_task, name="pyclustershell session", daemon=True).start()
            try:
                await settled(closed)
            finally:
                self._task = None

    async def _end_jobs(self) -> None:
        await asyncio.gather(*(job.end() for job in list(self._jobs)))
        # Nobody needs the answers, and threads wait for them.
        for question in list(self._questions):
            question.cancel()

    @property
    def task(self) -> Task:
        """The task with the thread on which the session works: settings, timers, statistics.

        A handler that raises an exception there ends everything that the session runs.

        Raises:
            TaskError: the session has not been entered, or was closed.
        """
        if self._task is None:
            state = "was closed" if self._closing else "has not been entered: use 'async with'"
            raise TaskError(f"this session {state}")
        return self._task

    def set_info(self, info_key: str, value: Any) -> None:
        """Set an info key of the session's task: see ``Task.set_info()``."""
        self.task.set_info(info_key, value)

    # -- commands and copies --

    async def run(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes] = None,
        *,
        key: Any = None,
        timeout: Optional[float] = None,
        stderr: bool = True,
        stdin: bool = False,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> Results:
        """Run a command and return its results.

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            key: the key of a local command's results.
            timeout: seconds that the command may take on each node; None for no limit. For a limit
                of the whole call there is ``asyncio.timeout()``.
            stderr: True to keep stderr apart from stdout; False to merge both.
            stdin: False for an empty standard input.
            remote: as for ``Task.shell()``.
            tree: as for ``Task.shell()``.
            ssh: options for this command's connections; they win over all others.

        Raises:
            ValueError, TypeError, NodeSetParseError: an argument is wrong.
            EngineCapacityError: more open files are needed than the system allows.
            TaskError: the session is not open.
        """
        worker = self.task.command_worker(
            command,
            nodes,
            key=key,
            timeout=timeout,
            stderr=stderr,
            stdin=stdin,
            remote=remote,
            tree=tree,
            ssh=self._adapt_options(ssh),
        )
        return await self._submit(worker).only_results()

    async def copy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        *,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> Results:
        """Copy a file or a directory of this host to nodes.

        Args:
            source: the file or directory.
            dest: the destination on the nodes: an existing directory, or the name of the copy.
            nodes: the nodes, as NodeSet takes them.
            ssh: options for this copy's connections; they win over all others.
            **options: as for ``Task.copy()``: ``timeout``, ``preserve`` ... An exception in an
                event of ``handler`` ends all that the session runs.

        Raises:
            ValueError, TypeError, NodeSetParseError: an argument is wrong.
            EngineCapacityError: more open files are needed than the system allows.
            TaskError: the session is not open.
        """
        worker = self.task.copy_worker(source, dest, nodes, ssh=self._adapt_options(ssh), **options)
        return await self._submit(worker).only_results()

    async def rcopy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Nodes,
        *,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> Results:
        """Copy a file or a directory from nodes to this host.

        Args:
            source: the file or directory on each node.
            dest: a directory of this host; the copy from a node is named ``NAME.NODE``.
            nodes: the nodes.
            ssh: as for :meth:`copy`.
            **options: as for :meth:`copy`.

        Raises:
            ValueError, TypeError, NodeSetParseError: an argument is wrong; dest is no directory.
            EngineCapacityError: more open files are needed than the system allows.
            TaskError: the session is not open.
        """
        return await self.copy(source, dest, nodes, ssh=ssh, reverse=True, **options)

    def lines(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes] = None,
        *,
        stderr: bool = True,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> Lines:
        """Run a command and iterate over its lines as they come: ``node, stream, line``.

        ::

            async for node, stream, line in session.lines('dmesg -w', nodes='n[1-9]'):
                print(node, line.decode())

        The lines are bytes without newlines; ``stream`` is 'stdout' or 'stderr'. They are not kept.
        If the loop's body is slow, the commands are held back: see ``buffer``. The reason of a
        failed connection comes as a line of 'stderr'; ``results`` of the returned object has
        the return codes when the iteration has ended.

        The command starts when the iteration begins.

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            stderr: True to keep stderr apart from stdout; False to merge both.
            ssh: options for this command's connections; they win over all others.
            **options: as for :meth:`run`: ``timeout``, ``stdin`` ...
        """

        def start() -> tuple[Job, Stream[Line]]:
            worker = self._make_worker(command, nodes, stderr, ssh, options)
            worker.keep_output = False
            stream: Stream[Line] = self._stream(worker)
            worker.eh = LineHandler(stream)
            return self._submit(worker), stream

        return Lines(start)

    def start(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes] = None,
        *,
        stderr: bool = True,
        stdin: bool = True,
        keep_output: bool = True,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> Run:
        """Run a command in an ``async with`` block, with its input, its events and its results.

        ::

            async with session.start('sort', nodes='n[1-9]') as run:
                run.write(b'b\\na\\n')
                run.end()
                async for event in run:
                    if isinstance(event, NodeOutput):
                        print(event.node, event.line.decode())
                results = await run

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            stderr: True to keep stderr apart from stdout; False to merge both.
            stdin: True if input is written; False for an empty standard input.
            keep_output: False if the results need no output, because the events have it.
            ssh: options for this command's connections; they win over all others.
            **options: as for :meth:`run`: ``timeout``, ``key`` ...
        """

        def start(on_written: Callable[[], Any]) -> tuple[Job, Stream[Event]]:
            worker = self._make_worker(command, nodes, stderr, ssh, {"stdin": stdin, **options})
            worker.keep_output = keep_output
            stream: Stream[Event] = self._stream(worker)
            worker.eh = RunHandler(stream, on_written)
            return self._submit(worker), stream

        return Run(start, self._open_bridge())

    def _make_worker(
        self,
        command: Union[str, bytes],
        nodes: Optional[Nodes],
        stderr: bool,
        ssh: Optional[SSHOptions],
        options: dict[str, Any],
    ) -> Worker:
        if "handler" in options:
            raise TypeError("lines() and start() take no handler=: iterate over what they give")
        options = {"stdin": False, "ssh": self._adapt_options(ssh), **options}
        return self.task.command_worker(command, nodes, stderr=stderr, **options)

    def _stream(self, worker: Worker) -> Stream[Any]:
        nodes = len(worker.nodes) if isinstance(worker, DistantWorker) else 1
        streams = min(self.task.info("fanout"), nodes)
        return Stream(self.task, worker, self._open_bridge(), self._buffer, streams)

    def _open_bridge(self) -> Bridge:
        if self._bridge is None:
            raise TaskError("this session has not been entered: use 'async with'")
        self._bridge.check_loop()
        return self._bridge

    def _submit(self, worker: Worker) -> Job:
        if self._closing:
            raise TaskError("this session is being closed")
        task, bridge = self.task, self._open_bridge()
        job = Job(worker, bridge, self._jobs.discard)
        task.enqueue(worker, job)
        self._jobs.add(job)
        if not self._enqueued:
            # Once for all awaits of this pass of the event loop. To wake the task's thread for each
            # would have both threads compete for the GIL meanwhile.
            bridge.loop.call_soon(self._start_enqueued, task)
        self._enqueued.append(job)
        return job

    def _start_enqueued(self, task: Task) -> None:
        jobs, self._enqueued = self._enqueued, []
        try:
            task.start_enqueued()
        except TaskError as error:
            for job in jobs:
                task.withdraw(job.worker, job, error)

    # -- coroutine functions as options --

    def _adapt_options(self, ssh: Optional[SSHOptions]) -> Optional[SSHOptions]:
        if ssh is None:
            return None
        found = {field.name: getattr(ssh, field.name) for field in dataclasses.fields(ssh)}
        changed = {
            name: adapted
            for name, value in found.items()
            if (adapted := self._adapt(name, value)) is not value
        }
        return dataclasses.replace(ssh, **changed) if changed else ssh

    def _adapt(self, name: str, value: Any) -> Any:
        """Return the value of an option, with a plain function in place of a coroutine function."""
        # SSHOptions has refused coroutine functions as other options.
        if name not in ASKING or not is_coroutine_function(value):
            return value
        if value not in self._askers:
            self._askers[value] = functools.partial(self._ask, value)
        return self._askers[value]

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a coroutine function on the event loop, and wait. On a thread of its own."""
        bridge = self._bridge
        if self._closing or bridge is None:
            raise TaskError("the session is being closed")
        question = asyncio.run_coroutine_threadsafe(function(*args), bridge.loop)
        self._questions.add(question)
        try:
            # close() may have begun just before.
            if self._closing:
                question.cancel()
            return question.result()
        finally:
            self._questions.discard(question)
