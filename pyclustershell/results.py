"""The results that users hold: a frozen record for each node, and a mapping of these records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, Optional, TypeVar, Union, overload

from .arguments import check_function
from .exceptions import NodeError, NodesFailedError, TaskError
from .nodeset import NodeSet
from .suggestions import did_you_mean

T = TypeVar("T")

# The number of causes that an error message lists, and of characters of their node sets.
_SHOWN_CAUSES = 5
_SHOWN_NODES = 100


class NodeResult(NamedTuple):
    """The result of one command or copy on one node. It does not change, and it can be pickled.

    The seconds are those of disjoint phases: their sum is the time from the scheduling of the
    command (or the begin of the run, if that was later) to its end on this node. A phase that the
    node has not reached has 0.0 seconds. So have the phases of a login (``resolving``,
    ``connecting``, ``key_exchange``, ``authenticating``) if a connection was used that had been
    kept, and for local commands.

    Attributes:
        node: the node's name; the key of a local command, or 'localhost' if it has none.
        rc: the exit status; 128 + n if signal n ended the command; 255 if no command could be run.
            None for a node that timed out or was aborted, and for a StreamWorker.
        stdout: the standard output, lines joined by newlines, without the last newline. Empty if
            output is not kept (the default key ``stdout_msgtree``).
        stderr: the standard error, likewise. Empty if it is merged into stdout, which is the
            default. The sentence of a failure is here as well.
        failure: the reason why no command could be run, or why its end is not known; None if there
            is none. For a copy, also the reason why a file could not be copied.
        timed_out: True if the time ran out before the command ended.
        aborted: True if the command was aborted, by the program or because the run ended.
        started: the time at which the command started on the node, in seconds since the epoch
            (``time.time()`` of this host). None if no command was started: the node could not be
            reached, or its turn never came.
        waiting: seconds until the node's turn came: until the fanout and the pool had room for it,
            the handshake limiter permitted the login, and between two attempts to log in. For a
            node whose turn never came, all its seconds.
        resolving: seconds of looking up the host name.
        connecting: seconds of making the TCP connection, the connection through jump hosts, or the
            ProxyCommand.
        key_exchange: seconds of the key exchange, including the check of the host key.
        authenticating: seconds of the authentication.
        opening: seconds from the connection to the start of the command: the server opens a session
            and starts the user's shell, or the SFTP server.
        running: seconds from the start to the end of the command or copy.
    """

    node: Any
    rc: Optional[int] = None
    stdout: bytes = b""
    stderr: bytes = b""
    failure: Optional[NodeError] = None
    timed_out: bool = False
    aborted: bool = False
    started: Optional[float] = None
    waiting: float = 0.0
    resolving: float = 0.0
    connecting: float = 0.0
    key_exchange: float = 0.0
    authenticating: float = 0.0
    opening: float = 0.0
    running: float = 0.0

    def __repr__(self) -> str:
        return f"<NodeResult of {self.node}: {self.cause or 'ok'}, {len(self.stdout)} bytes>"

    @property
    def ok(self) -> bool:
        """True if the command ended by itself with the exit status 0, and nothing failed."""
        return not (self.rc or self.timed_out or self.aborted or self.failure)

    @property
    def text(self) -> str:
        """The standard output as text: UTF-8; other bytes become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        """The standard error as text: UTF-8; other bytes become U+FFFD."""
        return self.stderr.decode("utf-8", "replace")

    @property
    def cause(self) -> Optional[str]:
        """Why the node is not :attr:`ok`, in the same words for all such nodes; None if it is.

        Examples: 'Connection refused', 'timed out', 'exit status 1'.
        """
        if self.failure is not None:
            return self.failure.cause
        if self.timed_out:
            return "timed out"
        if self.aborted:
            return "aborted" if self.started is not None else "aborted before its start"
        return f"exit status {self.rc}" if self.rc else None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a flat dictionary of strings, numbers, booleans and None.

        Its keys are the names of the fields, in their order; then ``ok``, ``cause``, and ``phase``:
        that of the failure, such as 'authentication', or None. ``failure`` is the sentence that the
        ssh program would have printed; ``stdout`` and ``stderr`` are text.
        """
        found = self._asdict()
        failure = self.failure
        if not isinstance(self.node, (str, int)):
            found["node"] = str(self.node)
        found["stdout"] = self.text
        found["stderr"] = self.error_text
        found["failure"] = None if failure is None else _printable(failure.sentence)
        found["ok"] = self.ok
        found["cause"] = None if self.cause is None else _printable(self.cause)
        found["phase"] = None if failure is None else failure.phase
        return found

    def joined(self, other: NodeResult) -> NodeResult:
        """Return this result and a later one of the same node as one.

        As the getters of a task do: the larger return code, both outputs, the first failure. The
        start is the first one, and the seconds are sums.
        """
        starts = [it for it in (self.started, other.started) if it is not None]
        codes = [it for it in (self.rc, other.rc) if it is not None]
        return self._replace(
            rc=max(codes, default=None),
            stdout=_joined(self.stdout, other.stdout),
            stderr=_joined(self.stderr, other.stderr),
            failure=self.failure or other.failure,
            timed_out=self.timed_out or other.timed_out,
            aborted=self.aborted or other.aborted,
            started=min(starts, default=None),
            waiting=self.waiting + other.waiting,
            resolving=self.resolving + other.resolving,
            connecting=self.connecting + other.connecting,
            key_exchange=self.key_exchange + other.key_exchange,
            authenticating=self.authenticating + other.authenticating,
            opening=self.opening + other.opening,
            running=self.running + other.running,
        )


def _joined(first: bytes, second: bytes) -> bytes:
    return b"\n".join(filter(None, (first, second)))


def _printable(text: str) -> str:
    """Replace the surrogates of bytes that are not UTF-8: JSON files and databases refuse them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Results(Mapping[Any, NodeResult]):
    """The results of the nodes that have ended: a mapping from names to NodeResult.

    It does not change any more, whatever the task does next. It can be pickled and sent to another
    process. Iterating gives the names in the order in which their turns came.

    ``Worker.results()`` and ``Task.results()`` make it. ``Results([*a.values(), *b.values()])``
    joins several; a node that is in more than one gets the larger return code and both outputs.
    Results that are made while nodes have not ended know how many: see :attr:`outstanding`.

    >>> results = Results([NodeResult('n1', rc=0, stdout=b'up'), NodeResult('n2', rc=1)])
    >>> results['n1'].text, str(results.failed)
    ('up', 'n2')
    >>> results.failures()
    [('exit status 1', n2)]

    Args:
        results: the results of the nodes.
        outstanding: the number of nodes that have not ended.
    """

    __slots__ = ("_by_node", "_outstanding")

    def __init__(self, results: Iterable[NodeResult] = (), outstanding: int = 0) -> None:
        by_node: dict[Any, NodeResult] = {}
        for result in results:
            before = by_node.setdefault(result.node, result)
            if before is not result:
                by_node[result.node] = before.joined(result)
        self._by_node = by_node
        self._outstanding = outstanding

    def __repr__(self) -> str:
        failed = sum(not result.ok for result in self._by_node.values())
        waiting = f", {self._outstanding} not ended" if self._outstanding else ""
        return (
            f"<Results of {self._total} nodes: {len(self) - failed} ok, {failed} failed{waiting}>"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (list(self._by_node.values()), self._outstanding)

    @property
    def _total(self) -> int:
        return len(self) + self._outstanding

    # -- the mapping --

    def __getitem__(self, node: Any) -> NodeResult:
        """Return the result of a node.

        Raises:
            KeyError: the node is not in these results. It was not one of the command's nodes, or it
                had not ended when the results were made.
        """
        try:
            return self._by_node[node]
        except KeyError:
            pass
        near = did_you_mean(node, self._by_node)
        raise KeyError(f"there is no result of {node!r}, only of {len(self)} other nodes{near}")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_node)

    def __len__(self) -> int:
        return len(self._by_node)

    def __contains__(self, node: object) -> bool:
        return node in self._by_node

    @overload
    def get(self, node: Any, default: None = None) -> Optional[NodeResult]: ...
    @overload
    def get(self, node: Any, default: T) -> Union[NodeResult, T]: ...
    def get(self, node: Any, default: Any = None) -> Any:
        """Return the result of a node; the default if it is not in these results."""
        return self._by_node.get(node, default)

    # -- the nodes --

    @property
    def outstanding(self) -> int:
        """The number of nodes that had not ended when these results were made; they are not in it.

        In the results of a task, a node counts once for each worker.
        """
        return self._outstanding

    def nodes(self, match: Callable[[NodeResult], object]) -> NodeSet:
        """Return the nodes whose result matches: ``results.nodes(lambda it: it.running > 60)``.

        Raises:
            TypeError: ``match`` cannot be called, or is a coroutine function.
        """
        check_function("nodes()", match)
        return NodeSet.fromlist(str(node) for node, it in self._by_node.items() if match(it))

    @property
    def ok(self) -> NodeSet:
        """The nodes on which the command ended with the exit status 0."""
        return self.nodes(attrgetter("ok"))

    @property
    def failed(self) -> NodeSet:
        """All other nodes: see :meth:`failures` for the reasons."""
        return self.nodes(lambda result: not result.ok)

    @property
    def timed_out(self) -> NodeSet:
        """The nodes on which the time ran out. They are among the failed ones."""
        return self.nodes(attrgetter("timed_out"))

    @property
    def unreached(self) -> NodeSet:
        """The nodes on which no command was started. They are among the failed ones."""
        return self.nodes(lambda result: result.started is None and not result.ok)

    # -- folded --

    def gathered(self, sname: str = "stdout") -> list[tuple[str, NodeSet]]:
        """Fold equal output.

        Args:
            sname: 'stdout' or 'stderr'.

        Returns:
            Each different output as text, and its nodes; the most common one first, and equally
            common ones by the name of their first node. A node without output counts, with an
            empty text, if a command was started there.

        Raises:
            ValueError: there is no such stream.
        """
        if sname not in ("stdout", "stderr"):
            raise ValueError(f"there is no output {sname!r}: use 'stdout' or 'stderr'")
        output = attrgetter(sname)
        found = _folded(
            (output(result), node)
            for node, result in self._by_node.items()
            if result.started is not None or output(result)
        )
        return [(message.decode("utf-8", "replace"), nodes) for message, nodes in found]

    def failures(self) -> list[tuple[str, NodeSet]]:
        """Fold the causes for which nodes failed.

        Returns:
            Each different :attr:`NodeResult.cause`, and its nodes, in the order of
            :meth:`gathered`.
        """
        return _folded(
            (cause, node)
            for node, result in self._by_node.items()
            if (cause := result.cause) is not None
        )

    def check(self) -> Results:
        """Raise an error if a node failed, or had not ended when these results were made.

        Returns:
            These results.

        Raises:
            TaskError: nodes had not ended: nothing was run, or the run is not over.
            NodesFailedError: a node is not ok. It names the nodes and the causes, and has these
                results.
        """
        if self._outstanding:
            raise TaskError(
                f"{self._outstanding} of {self._total} nodes have not ended: call resume() or "
                "join() first (after abort() there are no results)"
            )
        causes = self.failures()
        if not causes:
            return self
        failed = sum(len(nodes) for _, nodes in causes)
        shown = [f"{cause} ({_shortened(nodes)})" for cause, nodes in causes[:_SHOWN_CAUSES]]
        if len(causes) > _SHOWN_CAUSES:
            shown.append(f"and {len(causes) - _SHOWN_CAUSES} other causes")
        message = f"{failed} of {len(self)} nodes failed: {'; '.join(shown)}"
        raise NodesFailedError(message, self)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat dictionary for each node, for JSON and CSV: see NodeResult.to_dict()."""
        return [result.to_dict() for result in self._by_node.values()]


def _shortened(nodes: NodeSet) -> str:
    text = str(nodes)
    return text if len(text) <= _SHOWN_NODES else f"{text[:_SHOWN_NODES]}..., {len(nodes)} nodes"


def _folded(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, NodeSet]]:
    """Return the different values with their nodes: the most common one first, equals by name."""
    found: dict[Any, list[str]] = {}
    for value, node in items:
        found.setdefault(value, []).append(str(node))
    common = sorted(found.items(), key=lambda item: (-len(item[1]), min(map(_by_number, item[1]))))
    return [(value, NodeSet.fromlist(nodes)) for value, nodes in common]


def _by_number(name: str) -> list[Any]:
    """Return a key to sort names by: node2 before node10."""
    # Texts and numbers in turn, so that each is compared with its kind.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
