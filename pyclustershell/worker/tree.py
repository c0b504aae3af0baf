"""Commands and copies on nodes behind gateways: the worker that ClusterShell calls WorkerTree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Union

from ..engine.engine import Engine
from ..exceptions import NodeError, WorkerError
from ..nodeset import NodeSet
from ..records import Aborted, Failed, Record, Rerouted, Started
from ..ssh.config.names import check_hostname
from .command import CommandClient
from .context import WorkerContext
from .exec import ExecClient, replace_keywords
from .ssh import SshClient, WorkerSsh

if TYPE_CHECKING:
    from ..nodeset.topology import Route, Router, TopologyTree
    from ..ssh.command import RemoteCommand
    from ..ssh.config.options import SSHOptions

#: The return code of an aborted node behind a gateway, as in ClusterShell: EX_PROTOCOL of BSD.
EX_PROTOCOL = 76


class GatewayClient(SshClient):
    """The command of one node, which runs on a gateway of the node.

    Args:
        worker: the worker.
        node: the node's name.
        timeout: seconds that the command may take; None for no limit.
        autoclose: True if the run may end before the command has ended.
        rank: the index of the node in the worker's node set, from 0.
        route: the gateways of the node.
    """

    _worker: WorkerTree

    def __init__(
        self,
        worker: WorkerTree,
        node: str,
        timeout: Optional[float],
        autoclose: bool,
        rank: int,
        route: Route,
    ) -> None:
        super().__init__(worker, node, timeout, autoclose)
        self.route = route.previous
        self._rank = rank
        # Each node begins with another gateway, so that all of them have work.
        first = rank % len(route.gateways)
        self._gateways = [*route.gateways[first:], *route.gateways[:first]]

    @property
    def server(self) -> str:
        """The name of the gateway that is tried now."""
        return self._gateways[0]

    def start(self, engine: Engine) -> None:
        """Start the command. The engine calls this when the fanout has room."""
        # Those that have failed for other nodes of this worker come last.
        self._gateways.sort(key=self._worker.failed_gateways.__contains__)
        super().start(engine)

    def _make_command(self, engine: Engine) -> RemoteCommand:
        try:
            check_hostname(self._key)  # it becomes a part of a command line
        except ValueError as error:
            raise NodeError(self._key, str(error)) from None
        return super()._make_command(engine)

    @property
    def encoded_command(self) -> bytes:
        """The command line, with the keywords replaced."""
        text = self._worker.encoded_command.decode("utf-8", "surrogateescape")
        return replace_keywords(text, self._key, self._rank).encode("utf-8", "surrogateescape")

    def _deliver(self, record: Record) -> None:
        if not isinstance(record, Failed):
            super()._deliver(record)
            return
        gateway = self._gateways[0]
        error = _error_of_gateway(self._key, gateway, record.error)
        if self._picked_up or len(self._gateways) == 1 or self._engine is None:
            super()._deliver(Failed(error, record.rc))
            return
        # Nothing has been started there: the next one.
        self._worker.failed_gateways.add(gateway)
        del self._gateways[0]
        super()._deliver(Rerouted(error))
        self._start_again(self._engine)


def _error_of_gateway(node: str, gateway: str, error: NodeError) -> NodeError:
    """Turn a gateway's failure into one of a node whose command runs there."""
    cause, sentence = f"gateway {gateway}: {error.cause}", f"gateway {gateway}: {error.sentence}"
    made = type(error)(node, cause, sentence)
    made.jump_host = gateway
    return made


class WorkerTree(WorkerSsh):
    """Runs a command on many nodes, or copies files, through the gateways of a topology.

    Each node is reached over SSH as by WorkerSsh. A node behind gateways has one of them as its
    jump host: the one with the fewest connections. If a gateway fails before a command has started,
    the next one is tried, and ``ev_routing`` tells so; the failure is also reported as a line of
    the gateway's standard error. Nothing runs on a gateway and no key is needed there: the gateway
    only has to forward TCP connections (``AllowTcpForwarding`` of sshd_config(5)).

    As in ClusterShell, a node behind gateways that is aborted has an ``ev_hup`` with 76.

    Args:
        nodes: the nodes: a NodeSet, or a value that NodeSet takes.
        handler: an EventHandler, or None.
        timeout: seconds that the command or copy may take on each node; see WorkerSsh.
        command: the command, for the remote user's shell; None for a copy.
        source: the file or directory to copy.
        dest: the destination of the copy.
        stderr: True to keep stderr apart from stdout.
        autoclose: True if the run may end before this worker has ended.
        remote: False to run the command not on each node but on a gateway of it, and for nodes
            without gateways on this host, once for each node. ``%h`` and the other keywords of
            ExecWorker are then replaced.
        preserve: True to give copies the source's times and modes.
        reverse: True to copy from the nodes.
        ssh: options for the connections to the nodes; they do not apply to gateways.
        topology: the topology, a TopologyTree; None for that of the task.
        newroot: the name of a node of the topology: the routes begin at its group. None for the
            root of the topology.
        **options: further arguments of WorkerSsh.

    Raises:
        ValueError: there is neither a command nor a source; a copy with ``remote=False``; or as for
            WorkerSsh.
        WorkerError: with ``remote=False``, the command has an unknown keyword; when the worker is
            scheduled: there is no topology.
        TopologyError: when the worker is scheduled: the topology does not contain ``newroot``.

    Attributes:
        failed_gateways: the gateways that have failed for commands with ``remote=False``.
    """

    def __init__(
        self,
        nodes: Any,
        handler: Any = None,
        timeout: Optional[float] = None,
        command: Union[str, bytes, None] = None,
        source: Union[str, bytes, None] = None,
        dest: Union[str, bytes, None] = None,
        stderr: bool = False,
        autoclose: bool = False,
        remote: bool = True,
        preserve: Optional[bool] = False,
        reverse: bool = False,
        ssh: Optional[SSHOptions] = None,
        topology: Optional[TopologyTree] = None,
        newroot: Optional[str] = None,
        **options: Any,
    ) -> None:
        if command is None and source is None:
            raise ValueError("WorkerTree needs a command, or a source and a dest")
        super().__init__(
            nodes,
            handler,
            timeout,
            command=command,
            stderr=stderr,
            autoclose=autoclose,
            ssh=ssh,
            source=source,
            dest=dest,
            preserve=preserve,
            reverse=reverse,
            topology=topology,
            **options,
        )
        self.remote = remote
        self.newroot = newroot
        self.failed_gateways: set[str] = set()
        self._behind_gateways: set[str] = set()
        if not remote:
            if not command:
                raise ValueError("a copy cannot run on a gateway: leave remote=False out")
            replace_keywords(os.fsdecode(command), "node", 0)

    def _router(self, context: WorkerContext) -> Router:
        topology = self.topology or context.topology()
        if topology is None:
            raise WorkerError(
                f"{self!r} has no topology: pass topology=, or load one into the task"
            )
        return topology.router(self.newroot)

    def _make_client(
        self, node: str, rank: int, timeout: Optional[float], route: Optional[Route]
    ) -> CommandClient:
        if route is not None:
            self._behind_gateways.add(node)
        if self.remote:
            return super()._make_client(node, rank, timeout, route)
        if route is not None:
            return GatewayClient(self, node, timeout, self._autoclose, rank, route)
        text = os.fsdecode(self.command or "")
        return ExecClient(node, text, self, self.stderr, timeout, self._autoclose, rank)

    def deliver(self, key: Any, record: Record) -> None:
        """Process a record of a node: see :meth:`.worker.Worker.deliver`."""
        if self.aborted and key in self._behind_gateways:
            if isinstance(record, Started):
                return  # it belongs to the end that follows
            if isinstance(record, Aborted):
                self.store.add_abort(key)
                self._hang_up(key, EX_PROTOCOL)
                return
        super().deliver(key, record)

    def _report_reroute(self, gateway: str, error: NodeError, nodes: NodeSet) -> None:
        super()._report_reroute(gateway, error, nodes)
        if self._events is not None and self._events.reads:
            self._start_once()
            self._set_current_node(gateway)
            self.current_sname = self.SNAME_STDERR
            self.current_errmsg = error.encoded_sentence
            self._events.read(self, gateway, self.SNAME_STDERR, error.encoded_sentence)


WORKER_CLASS = WorkerTree
