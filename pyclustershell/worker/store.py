"""The results of a worker while it runs, and those of all workers of a run, for the getters."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Callable, Optional

from ..engine.engine import Engine
from ..exceptions import NodeError
from ..msgtree import MsgTree, MsgTreeElem
from ..phases import LoginSeconds, LoginTimes
from ..results import NodeResult, Results
from ..suggestions import did_you_mean

#: The message of the KeyError of a node that has no return code.
NO_RETCODE = "{!r} has no return code: it has not ended, it timed out, or it was aborted"


#: The name of a local command without a key, in results.
LOCALHOST = "localhost"


class _OwnKey:
    """The key of a worker that is its own key, in its store.

    With the worker itself, the worker and its results would be a cycle, which waits for the garbage
    collector.
    """

    def __repr__(self) -> str:
        return "OWN_KEY"


OWN_KEY = _OwnKey()

_numbers = itertools.count()


def _matcher(match_keys: Optional[Collection[Any]]) -> Optional[Callable[[Any], bool]]:
    """A predicate for keys, or None for all of them.

    Raises:
        TypeError: ``match_keys`` is a string, or is no collection.
    """
    if match_keys is None:
        return None
    if isinstance(match_keys, (str, bytes)) or not hasattr(match_keys, "__contains__"):
        raise TypeError(f"match_keys must be a collection of keys, not {match_keys!r}")
    return lambda key: key in match_keys


class _Course:
    """The course of one node: the times of its events, on the engine's clock.

    Attributes:
        began: the time at which its turn came; None before.
        login: the times of the login, if a connection was made for it.
        started: the time at which its command started; None if none has.
        ended: the time at which it ended; None before.
    """

    __slots__ = ("began", "ended", "login", "started")

    def __init__(self) -> None:
        self.began: Optional[float] = None
        self.login: Optional[LoginTimes] = None
        self.started: Optional[float] = None
        self.ended: Optional[float] = None


class ResultStore:
    """The results of one worker. They live as long as the worker does.

    A key is a node's name, or the key of a local command; OWN_KEY for the worker itself. All
    methods are for the task's thread; other threads may read when the worker has ended.

    Args:
        engine: the engine, for its clock.
        run: the results of all workers of the run, which will include these; None if only the
            worker gives access to them.
        worker: the worker.
        expected: the number of keys that will end.

    Attributes:
        number: its place in the order in which workers were scheduled.
        max_retcode: the largest return code; None if there is none.
        failures: the failures by key.
        timeouts: the keys that timed out, a dictionary for its order.
    """

    def __init__(
        self, engine: Engine, run: Optional[RunResults], worker: Any, expected: int
    ) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._run = run
        self._worker = weakref.ref(worker)
        self._expected = expected
        self.number = next(_numbers)
        self._scheduled = self._clock()
        # The difference between the time since the epoch and the engine's clock.
        self._epoch = time.time() - self._scheduled
        self.clear()
        if run is not None:
            run.add_open(self)

    def close(self) -> None:
        """The worker has closed: all keys have ended."""
        if self._run is not None:
            self._run.remove_open(self)

    def clear(self) -> None:
        """Drop all results."""
        self._trees: dict[str, MsgTree] = {}
        self._courses: dict[Any, _Course] = {}
        self._retcodes: dict[Any, int] = {}
        self._aborted: set[Any] = set()
        self.max_retcode: Optional[int] = None
        self.failures: dict[Any, NodeError] = {}
        self.timeouts: dict[Any, None] = {}

    def __repr__(self) -> str:
        return (
            f"<ResultStore of {len(self._courses)} keys, {len(self._retcodes)} return codes, "
            f"{len(self.timeouts)} timeouts, {len(self.failures)} failures>"
        )

    # -- filling --

    def _course(self, key: Any) -> _Course:
        """Return the course of a key. At its first event, add the key to the results of the run."""
        course = self._courses.get(key)
        if course is None:
            if not self._courses:
                # Before the run, no key waits for its turn.
                self._scheduled = max(self._scheduled, self._engine.began)
            course = self._courses[key] = _Course()
            if self._run is not None:
                self._run.add_key(self, key, self._worker() if key is OWN_KEY else key)
        return course

    def add_turn(self, key: Any, login: Optional[LoginTimes] = None) -> None:
        """The key's turn has come.

        Args:
            key: the key.
            login: the stopwatch of the connection that is being made for it, if one is.
        """
        course = self._course(key)
        if course.began is None:
            course.began = self._clock()
        course.login = login

    def add_start(self, key: Any) -> None:
        """The command has started."""
        course = self._courses.get(key) or self._course(key)
        course.started = self._clock()

    def add_lines(self, key: Any, sname: str, lines: list[bytes]) -> None:
        """Store lines of a stream."""
        tree = self._trees.get(sname)
        if tree is None:
            tree = self._trees[sname] = MsgTree()
        tree.extend(key, lines)
        if key not in self._courses:
            self._course(key)

    def add_end(
        self, key: Any, rc: Optional[int] = None, failure: Optional[NodeError] = None
    ) -> None:
        """The key has ended, with a return code if it has one."""
        course = self._courses.get(key) or self._course(key)
        course.ended = self._clock()
        if rc is not None:
            self._retcodes[key] = rc
            if self.max_retcode is None or rc > self.max_retcode:
                self.max_retcode = rc
        if failure is not None:
            self.failures[key] = failure

    def add_timeout(self, key: Any) -> None:
        """The key has ended because its time ran out."""
        self._course(key).ended = self._clock()
        self.timeouts[key] = None

    def add_abort(self, key: Any) -> None:
        """The key has ended because it was aborted."""
        self._course(key).ended = self._clock()
        self._aborted.add(key)

    # -- results --

    def result(self, key: Any) -> NodeResult:
        """Return the result of a key that has ended."""
        return self._make_result(key, self.message("stdout", key), self.message("stderr", key))

    def _make_result(
        self, key: Any, stdout: Optional[bytes], stderr: Optional[bytes]
    ) -> NodeResult:
        course = self._courses[key]
        ended = self._clock() if course.ended is None else course.ended
        began = ended if course.began is None else course.began
        started = course.started
        opened = ended if started is None else started
        waiting = max(0.0, began - self._scheduled)
        login = course.login
        seconds = _NO_LOGIN
        opening = opened - began
        if login is not None:
            # If the node has ended during the login, its last phase is still open.
            login.enter(None, ended)
            seconds = login.seconds()
            opening = max(0.0, opening - sum(seconds)) if login.complete else 0.0
        return NodeResult(
            LOCALHOST if key is OWN_KEY else key,
            self._retcodes.get(key),
            stdout or b"",
            stderr or b"",
            self.failures.get(key),
            key in self.timeouts,
            key in self._aborted,
            None if started is None else started + self._epoch,
            waiting + seconds.waiting,
            *seconds[1:],
            opening,
            ended - opened,
        )

    def iter_results(self) -> Iterator[NodeResult]:
        """Iterate over the results of the keys that have ended, in the order of their turns."""
        stdout, stderr = self._outputs("stdout"), self._outputs("stderr")
        for key, course in self._courses.items():
            if course.ended is not None:
                yield self._make_result(key, stdout.get(key), stderr.get(key))

    @property
    def outstanding(self) -> int:
        """The number of keys without an end."""
        courses = list(self._courses.values())
        return max(0, self._expected - sum(course.ended is not None for course in courses))

    def _outputs(self, sname: str) -> dict[Any, bytes]:
        """Return the output of each key. Equal output is one object: it may be large."""
        outputs: dict[Any, bytes] = {}
        for message, keys in self.iter_messages(sname):
            outputs.update(dict.fromkeys(keys, bytes(message)))
        return outputs

    def results(self) -> Results:
        """Return the results of the keys that have ended."""
        outstanding = self.outstanding  # first: a key that ends meanwhile is not missed
        return Results(self.iter_results(), outstanding)

    # -- output --

    def has_kept(self, sname: str) -> bool:
        """True if output of a stream was stored."""
        return sname in self._trees

    def message(self, sname: str, key: Any) -> Optional[bytes]:
        """The output of a key; None if there is none."""
        tree = self._trees.get(sname)
        message = None if tree is None else tree.get(key)
        return None if message is None else bytes(message)

    def tree(self, sname: str) -> MsgTree:
        """The output of all keys."""
        return self._trees.get(sname) or MsgTree()

    def iter_messages(
        self, sname: str, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over (output, its keys) of each different output."""
        match = _matcher(match_keys)
        tree = self._trees.get(sname)
        if tree is not None:
            yield from tree.walk(match)

    def iter_items(
        self, sname: str, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[Any, MsgTreeElem]]:
        """Iterate over (key, output) of each key."""
        match = _matcher(match_keys)
        tree = self._trees.get(sname)
        if tree is not None:
            yield from tree.items(match)

    def flush(self, sname: str) -> None:
        """Drop the output of a stream."""
        tree = self._trees.get(sname)
        if tree is not None:
            tree.clear()

    # -- return codes and failures --

    def retcode(self, key: Any) -> Optional[int]:
        """The return code of a key; None if it has none."""
        return self._retcodes.get(key)

    def retcodes(self) -> Iterable[tuple[Any, int]]:
        """(key, return code) of each key that has one, in the order of their ends."""
        return self._retcodes.items()

    def iter_retcodes(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[int, list[Any]]]:
        """Iterate over (return code, its keys) of each different return code.

        An empty collection of keys matches all keys here, as in ClusterShell.
        """
        match = _matcher(_one_key(match_keys) or None)
        for rc, keys in _fold_retcodes(self._retcodes.items(), match).items():
            if keys:
                yield rc, keys


class RunResults:
    """The results of all workers of a run, for the getters of a task.

    A worker's results are added key by key, at the first event of each key. All methods are for the
    task's thread; other threads may read after the run.
    """

    def __init__(self) -> None:
        # The workers that have not closed. Any thread adds; clear() leaves those for the next run.
        self._open: dict[ResultStore, None] = {}
        self.clear()

    def add_open(self, store: ResultStore) -> None:
        """A worker was scheduled. On any thread."""
        self._open[store] = None

    def remove_open(self, store: ResultStore) -> None:
        """A worker has closed."""
        self._open.pop(store, None)

    def drop(self) -> None:
        """Drop all results, also those of the workers: the run was aborted."""
        for store in self._stores:
            store.clear()
        self.clear()

    def clear(self) -> None:
        """Forget the results: a new run begins. The workers keep theirs."""
        self._stores: dict[ResultStore, None] = {}
        # By the key that users know: the stores with it, and the key there.
        self._by_key: dict[Any, list[tuple[ResultStore, Any]]] = {}
        # The workers that are their own keys.
        self._own_keys: dict[ResultStore, Any] = {}

    def __repr__(self) -> str:
        return f"<RunResults of {len(self._stores)} workers, {len(self._by_key)} keys>"

    def add_key(self, store: ResultStore, stored: Any, key: Any) -> None:
        """Add a key of a worker.

        Args:
            store: the worker's results.
            stored: the key in the store.
            key: the key that users know.
        """
        self._stores[store] = None
        self._by_key.setdefault(key, []).append((store, stored))
        if stored is OWN_KEY:
            self._own_keys[store] = key

    def _key(self, store: ResultStore, stored: Any) -> Any:
        """Return the key that users know of a key in a store."""
        return self._own_keys[store] if stored is OWN_KEY else stored

    def results(self) -> Results:
        """Return the results of the keys that have ended; those of several workers are joined."""
        in_order = sorted(self._stores, key=lambda store: store.number)
        outstanding = sum(store.outstanding for store in list(self._open))
        return Results(
            (result for store in in_order for result in store.iter_results()), outstanding
        )

    # -- output --

    def has_kept(self, sname: str) -> bool:
        """True if output of a stream was stored in this run."""
        return any(store.has_kept(sname) for store in self._stores)

    def buffer(self, sname: str, key: Any) -> bytes:
        """The output of one key from all workers; each different output once."""
        sources = self._by_key.get(key, ())
        if len(sources) == 1:
            # No walk through a tree: scripts read the output of many nodes one by one.
            store, stored = sources[0]
            return store.message(sname, stored) or b""
        tree = MsgTree()
        for store, stored in sources:
            message = store.tree(sname).get(stored)
            if message is not None:
                tree.extend(store, message)
        return b"".join(map(bytes, tree.messages()))

    def iter_messages(
        self, sname: str, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over (output, its keys) of each different output.

        As in ClusterShell, an empty collection of keys matches every key.
        """
        match = _matcher(match_keys or None)
        stores = [store for store in self._stores if store.has_kept(sname)]
        if len(stores) == 1 and stores[0] not in self._own_keys:
            yield from stores[0].iter_messages(sname, match_keys or None)
            return
        joined = MsgTree()
        for store in stores:
            for message, keys in store.iter_messages(sname):
                lines = message[:]
                for key in keys:
                    joined.extend((store, self._key(store, key)), lines)
        yield from joined.walk(
            None if match is None else lambda source: match(source[1]), lambda source: source[1]
        )

    def flush(self, sname: str) -> None:
        """Drop the output of a stream."""
        for store in self._stores:
            store.flush(sname)

    # -- return codes --

    @property
    def max_retcode(self) -> Optional[int]:
        """The largest return code; None if there is none."""
        codes = (store.max_retcode for store in self._stores)
        return max((rc for rc in codes if rc is not None), default=None)

    def retcode(self, key: Any) -> int:
        """The return code of a key; the largest one if several workers ran on it.

        Raises:
            KeyError: the key has no return code.
        """
        codes = [store.retcode(stored) for store, stored in self._by_key.get(key, ())]
        found = [rc for rc in codes if rc is not None]
        if not found:
            if key in self._by_key:
                raise KeyError(NO_RETCODE.format(key))
            near = did_you_mean(key, self._by_key)
            raise KeyError(f"{key!r} is not one of the run's {len(self._by_key)} nodes{near}")
        return max(found)

    def iter_retcodes(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[int, list[Any]]]:
        """Iterate over (return code, its keys) of each different return code.

        As in ClusterShell, a return code without matching keys is included, with an empty list.
        Here, unlike for output, a string is one key.
        """
        match = _matcher(_one_key(match_keys) or None)
        items = (
            (self._key(store, key), rc) for store in self._stores for key, rc in store.retcodes()
        )
        yield from _fold_retcodes(items, match).items()

    # -- timeouts and failures --

    def timeouts(self) -> list[Any]:
        """The keys that timed out."""
        return [self._key(store, key) for store in self._stores for key in store.timeouts]

    def failures(self) -> Iterator[tuple[Any, NodeError]]:
        """Iterate over (key, failure) of each failure."""
        return (
            (self._key(store, key), failure)
            for store in self._stores
            for key, failure in store.failures.items()
        )


def fold_failures(
    failures: Iterable[tuple[Any, NodeError]],
) -> Iterator[tuple[NodeError, list[Any]]]:
    """Iterate over (exception of the first node, all keys) of each cause of failure.

    Args:
        failures: pairs of a key and its failure.
    """
    folded: dict[tuple[type[NodeError], str], tuple[NodeError, list[Any]]] = {}
    for key, failure in failures:
        same = folded.setdefault((type(failure), failure.cause), (failure, []))
        same[1].append(key)
    yield from folded.values()


def _one_key(match_keys: Optional[Collection[Any]]) -> Optional[Collection[Any]]:
    return (match_keys,) if isinstance(match_keys, str) else match_keys


def _fold_retcodes(
    items: Iterable[tuple[Any, int]], match: Optional[Callable[[Any], bool]]
) -> dict[int, list[Any]]:
    """Return the keys that match, for each return code."""
    keys: dict[int, list[Any]] = {}
    for key, rc in items:
        same = keys.setdefault(rc, [])
        if match is None or match(key):
            same.append(key)
    return keys


_NO_LOGIN = LoginSeconds()
