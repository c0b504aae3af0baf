"""What a run has brought so far: output, return codes, timeouts and failures, by (worker, node)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Optional

from .exceptions import NodeError
from .msgtree import MsgTree, MsgTreeElem

# A source of results: the worker, and the node's name (or a local command's key).
Source = tuple[Any, Any]


def _matcher(worker: Any, match_keys: Optional[Collection[Any]]) -> Any:
    """A predicate for sources, or None for all of them.

    As in ClusterShell, no keys at all match everything, unless one worker's are asked for.
    """
    if worker is None and not match_keys:
        return None
    if match_keys is None:
        return lambda source: source[0] is worker
    if isinstance(match_keys, (str, bytes)) or not hasattr(match_keys, "__contains__"):
        raise TypeError(f"match_keys must be a collection of keys, not {match_keys!r}")
    if worker is None:
        return lambda source: source[1] in match_keys
    return lambda source: source[0] is worker and source[1] in match_keys


class Results:
    """The results of one task, filled by its workers and read by its users.

    Nothing here knows of connections or of time. All methods are for the task's own thread.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new run begins."""
        self._trees: dict[str, MsgTree] = {}
        self._retcodes: dict[Source, int] = {}
        self._timeouts: dict[Source, None] = {}
        self._failures: dict[Source, NodeError] = {}
        self._by_key: dict[Any, dict[Source, None]] = {}
        self._max_retcode: Optional[int] = None

    # -- filling --

    def add_lines(self, source: Source, sname: str, lines: list[bytes]) -> None:
        """Keep lines of a source's stream."""
        tree = self._trees.get(sname)
        if tree is None:
            tree = self._trees[sname] = MsgTree()
        self._by_key.setdefault(source[1], {})[source] = None
        tree.extend(source, lines)

    def add_retcode(self, source: Source, rc: int) -> None:
        """Keep a source's return code."""
        self._retcodes[source] = rc
        self._by_key.setdefault(source[1], {})[source] = None
        if self._max_retcode is None or rc > self._max_retcode:
            self._max_retcode = rc

    def add_timeout(self, source: Source) -> None:
        """Note that a source timed out."""
        self._timeouts[source] = None

    def add_failure(self, source: Source, failure: NodeError) -> None:
        """Keep the reason for which no command could be run, or for which it was lost."""
        self._failures[source] = failure

    # -- output --

    def has_kept(self, sname: str) -> bool:
        """Whether any output of a stream was kept in this run."""
        return sname in self._trees

    def message(self, sname: str, source: Source) -> Optional[bytes]:
        """The output of one source, None if there is none."""
        tree = self._trees.get(sname)
        message = None if tree is None else tree.get(source)
        return None if message is None else bytes(message)

    def buffer(self, sname: str, key: Any) -> bytes:
        """The output of one key, of all workers: each different output once."""
        tree = self._trees.get(sname)
        sources = self._by_key.get(key, {})
        if tree is None or not sources:
            return b""
        if len(sources) == 1:
            # Without a walk through the tree: who asks for each of many nodes takes this way.
            return self.message(sname, next(iter(sources))) or b""
        return b"".join(map(bytes, tree.messages(sources.__contains__)))

    def iter_messages(
        self, sname: str, worker: Any = None, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Each different output, with the keys that gave it."""
        match = _matcher(worker, match_keys)
        tree = self._trees.get(sname)
        if tree is not None:
            yield from tree.walk(match, lambda source: source[1])

    def iter_items(
        self, sname: str, worker: Any = None, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[Any, MsgTreeElem]]:
        """Each key with its output."""
        match = _matcher(worker, match_keys)
        tree = self._trees.get(sname)
        if tree is not None:
            yield from tree.items(match, lambda source: source[1])

    def flush(self, sname: str, worker: Any = None) -> None:
        """Forget the output of one stream, of one worker or of all."""
        tree = self._trees.get(sname)
        if tree is None:
            return
        if worker is None:
            tree.clear()
        else:
            tree.remove(lambda source: source[0] is worker)

    # -- return codes --

    @property
    def max_retcode(self) -> Optional[int]:
        """The largest return code, or None where there is none."""
        return self._max_retcode

    def retcode(self, key: Any, worker: Any = None) -> int:
        """The return code of a key; the largest one where several workers ran on it.

        Raises:
            KeyError: no return code is known for this key.
        """
        codes = [
            self._retcodes[source]
            for source in self._by_key.get(key, ())
            if source in self._retcodes and (worker is None or source[0] is worker)
        ]
        if not codes:
            raise KeyError(key)
        return max(codes)

    def iter_retcodes(
        self, worker: Any = None, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[int, list[Any]]]:
        """Each different return code, with its keys.

        As in ClusterShell, a return code is there without any key, too, if ``match_keys`` match
        none of its keys and no worker is given. Other than for output, a string is one key.
        """
        if isinstance(match_keys, str):
            match_keys = (match_keys,)
        match = _matcher(worker, match_keys or None)
        keys: dict[int, list[Any]] = {}
        for source, rc in self._retcodes.items():
            if match is None or match(source):
                keys.setdefault(rc, []).append(source[1])
            elif worker is None:
                keys.setdefault(rc, [])
        yield from keys.items()

    def iter_key_retcodes(self, worker: Any) -> Iterator[tuple[Any, int]]:
        """Each key of a worker with its return code."""
        yield from [(s[1], rc) for s, rc in self._retcodes.items() if s[0] is worker]

    # -- timeouts and failures --

    def timeouts(self, worker: Any = None) -> list[Any]:
        """The keys that timed out."""
        return [s[1] for s in self._timeouts if worker is None or s[0] is worker]

    def failure(self, key: Any, worker: Any = None) -> Optional[NodeError]:
        """Why a key's command could not be run, or None."""
        for source, failure in self._failures.items():
            if source[1] == key and (worker is None or source[0] is worker):
                return failure
        return None

    def iter_failures(self, worker: Any = None) -> Iterator[tuple[NodeError, list[Any]]]:
        """Each different cause of failure: the first node's exception, and all the keys."""
        folded: dict[tuple[type[NodeError], str], tuple[NodeError, list[Any]]] = {}
        for source, failure in self._failures.items():
            if worker is None or source[0] is worker:
                same = folded.setdefault((type(failure), failure.cause), (failure, []))
                same[1].append(source[1])
        yield from folded.values()
