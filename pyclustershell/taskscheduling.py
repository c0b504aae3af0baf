"""What a user schedules: commands, copies, timers and ports."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from .engine.engine import Engine
from .engine.port import EnginePort
from .engine.timer import EngineTimer
from .exceptions import WorkerError
from .nodeset import NodeSet
from .taskthread import on_tasks_thread
from .tasktopology import TaskTopology

if TYPE_CHECKING:
    from .transport.config.options import SSHOptions
    from .worker.worker import Worker


class TaskScheduling(TaskTopology):
    """What :class:`~.task.Task` is asked to do when it runs.

    Attributes:
        thread: the thread it runs in.
    """

    thread: threading.Thread
    _engine: Engine

    def schedule(self, worker: Worker) -> None:
        """Schedule a worker."""
        raise NotImplementedError

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have ``callback(*args)`` called on the task's thread."""
        raise NotImplementedError

    # -- commands and copies --

    def shell(
        self,
        command: Union[str, bytes],
        nodes: Any = None,
        key: Any = None,
        handler: Any = None,
        timeout: Optional[float] = None,
        autoclose: bool = False,
        stderr: Optional[bool] = None,
        stdin: Optional[bool] = None,
        remote: bool = True,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
    ) -> Worker:
        """Schedule a command: on nodes, or (without nodes) on this host.

        It starts when the task runs; at once, the fanout allowing, where it runs already.

        Args:
            command: the command, for a shell.
            nodes: the nodes, as NodeSet takes them; None for a local command.
            key: the key under which a local command's results are kept.
            handler: an EventHandler.
            timeout: seconds that the command may take on each node; None for no limit.
            autoclose: whether the run may end although this command has not.
            stderr: whether stderr is kept apart from stdout; None for the task's default.
            stdin: whether the command's standard input can be written to; if not, it is empty.
                None for the task's default.
            remote: False to run the command here, once for each node: see ExecWorker.
            tree: False to connect directly where there is a topology: see :meth:`load_topology`.
            ssh: options for this command's connections, before all others.

        Returns:
            The scheduled worker.

        Raises:
            ValueError: an argument is wrong, or arguments do not fit together. Also where
                ``nodes`` has no node: the command is not run here instead.
            NodeSetParseError: the nodes cannot be parsed.
            TaskError: there is a topology to go by.
        """
        stderr = self.default("stderr") if stderr is None else stderr
        stdin = self.default("stdin") if stdin is None else stdin
        worker: Any
        if nodes is not None and len(node_set := NodeSet(nodes)):
            if key is not None:
                raise ValueError(
                    "key is for local commands: the results of nodes go by their names"
                )
            self.refuse_tree(tree)
            options: dict[str, Any] = {} if ssh is None else {"ssh": ssh}
            worker = self.default("distant_worker" if remote else "local_worker")(
                node_set,
                handler=handler,
                timeout=timeout,
                command=command,
                stderr=stderr,
                autoclose=autoclose,
                remote=remote,
                **options,
            )
        elif nodes is not None:
            raise ValueError(f"there is no node in nodes={nodes!r}: for this host, leave it out")
        else:
            from .worker.popen import WorkerPopen

            worker = WorkerPopen(
                command if isinstance(command, str) else command.decode(),
                key=key,
                handler=handler,
                stderr=stderr,
                timeout=timeout,
                autoclose=autoclose,
            )
        if not stdin:
            # Not every worker's commands have an input that could be closed: see WorkerPdsh.
            with suppress(WorkerError):
                worker.set_write_eof()
        self.schedule(worker)
        return worker  # type: ignore[no-any-return]

    def copy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Any,
        handler: Any = None,
        timeout: Optional[float] = None,
        preserve: Optional[bool] = None,
        reverse: bool = False,
        stderr: Optional[bool] = None,
        tree: Optional[bool] = None,
        ssh: Optional[SSHOptions] = None,
        **options: Any,
    ) -> Worker:
        """Schedule a copy of a file or a directory of this host to nodes, over SFTP.

        Args:
            source: what to copy.
            dest: where to on the nodes: a directory that exists, or what it shall be called.
            nodes: the nodes, as NodeSet takes them.
            handler: an EventHandler; its ``ev_written`` tells the progress.
            timeout: seconds that the copy may take on each node; None for no limit.
            preserve: whether times and modes are those of the source.
            reverse: whether to copy from the nodes: see :meth:`rcopy`.
            stderr: whether stderr is kept apart from stdout; None for the task's default.
            tree: False to connect directly where there is a topology: see :meth:`load_topology`.
            ssh: options for this copy's connections, before all others.
            **options: ``follow_symlinks``, ``inplace``, ``skip_unchanged``, ``checksum``,
                ``fsync``: see WorkerSsh.

        Returns:
            The scheduled worker.

        Raises:
            ValueError: an argument is wrong, or arguments do not fit together.
            TypeError: the ``distant_worker`` does not know an option.
            NodeSetParseError: the nodes cannot be parsed.
            TaskError: there is a topology to go by.
        """
        if nodes is None or not len(node_set := NodeSet(nodes)):
            raise ValueError(f"there is no node to copy to or from in nodes={nodes!r}")
        self.refuse_tree(tree)
        if ssh is not None:
            options["ssh"] = ssh
        worker: Any = self.default("distant_worker")(
            node_set,
            source=source,
            dest=dest,
            handler=handler,
            stderr=self.default("stderr") if stderr is None else stderr,
            timeout=timeout,
            preserve=preserve,
            reverse=reverse,
            **options,
        )
        self.schedule(worker)
        return worker  # type: ignore[no-any-return]

    def rcopy(
        self,
        source: Union[str, bytes],
        dest: Union[str, bytes, None],
        nodes: Any,
        **options: Any,
    ) -> Worker:
        """Schedule a copy of a file or a directory from nodes to this host, over SFTP.

        Args:
            source: what to copy from each node.
            dest: a directory of this host; what comes from a node is called ``NAME.NODE`` in it.
            nodes: the nodes.
            **options: as for :meth:`copy`.

        Returns:
            The scheduled worker.

        Raises:
            ValueError: an argument is wrong; dest is no directory.
        """
        options["reverse"] = True
        return self.copy(source, dest, nodes, **options)

    # -- timers and ports --

    def timer(
        self, fire: float, handler: Any, interval: float = -1.0, autoclose: bool = False
    ) -> EngineTimer:
        """Schedule a timer, which calls ``handler.ev_timer(timer)``.

        Args:
            fire: seconds until it fires, from now if the task is running, else from its start.
            handler: an EventHandler.
            interval: seconds between further firings; none if not positive.
            autoclose: whether the run may end although the timer has still to fire.

        Raises:
            ValueError: a delay is negative.
            TypeError: the handler has no ev_timer().
        """
        if fire < 0:
            raise ValueError(f"a timer cannot fire in {fire} seconds")
        timer = EngineTimer(handler, autoclose)
        self._add_timer(timer, fire, interval)
        return timer

    @on_tasks_thread
    def _add_timer(self, timer: EngineTimer, fire: float, interval: float) -> None:
        self._engine.timers.add(timer, fire, interval)

    def port(self, handler: Any = None, autoclose: bool = False) -> EnginePort:
        """Open a port, through which other threads send messages to this task's handler.

        It outlives the run, and holds it unless it is autoclose: see :meth:`remove_port`.

        Args:
            handler: an EventHandler, whose ``ev_port_start(port)`` and ``ev_msg(port, message)``
                are called.
            autoclose: whether the run may end although the port is open.
        """
        limit = self.default("port_qlimit")
        port = EnginePort(self.post, handler, autoclose, limit, self.thread)
        self._add_port(port)
        return port

    @on_tasks_thread
    def _add_port(self, port: EnginePort) -> None:
        self._engine.add_port(port)

    @on_tasks_thread
    def remove_port(self, port: EnginePort) -> None:
        """Close a port: messages that still wait are dropped, and their senders told."""
        self._engine.remove_port(port)
