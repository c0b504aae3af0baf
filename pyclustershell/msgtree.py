"""MsgTree: the output of many nodes, with what is the same kept once.

Messages are paths in a tree of lines: two nodes that print the same lines end at the same element,
whose message is then one message with two keys. Memory grows with the number of *different* lines,
not with the number of nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Callable, Optional, overload

#: Keys are grouped by message when the tree is walked. The default.
MODE_DEFER = 0
#: Accepted for ClusterShell's sake. Here walking costs so little that it is as MODE_DEFER.
MODE_SHIFT = 1
#: Every line remembers the keys that passed through it; walk_trace() is available.
MODE_TRACE = 2

Match = Optional[Callable[[Any], object]]
Mapper = Optional[Callable[[Any], Any]]

#: repr() shows this many bytes of a message.
_SHOWN = 60


class _Run:
    """Lines that follow each other in every message that comes by here.

    The tree is one of runs, not of lines: nodes that print the same are compared run by run, and
    a line costs its place in a list. Where a message goes another way, a run is cut in two.

    Attributes:
        lines: the lines; none in the root, before there are any.
        start: how many lines of its messages come before them.
        parent: the run before, None for the root.
        children: the runs that follow, by their first line, in order of arrival.
        keys: in MODE_TRACE, where a run is one line: the keys whose messages come by here, in order
            of arrival.
    """

    __slots__ = ("children", "keys", "lines", "parent", "start")

    def __init__(self, lines: list[bytes], start: int, parent: _Run | None) -> None:
        self.lines = lines
        self.start = start
        self.parent = parent
        self.children: dict[bytes, _Run] = {}
        self.keys: dict[Hashable, None] = {}

    def append(self, lines: list[bytes]) -> _Run:
        """Make the run that follows with these lines, of which none follows yet."""
        child = self.children[lines[0]] = _Run(lines, self.start + len(self.lines), self)
        return child

    def cut(self, size: int) -> _Run:
        """Cut this run after ``size`` of its lines: a new one takes those, and its place."""
        head = _Run(self.lines[:size], self.start, self.parent)
        if head.parent is not None:
            head.parent.children[head.lines[0]] = head
        del self.lines[:size]
        self.start += size
        self.parent = head
        head.children[self.lines[0]] = self
        return head

    def holding(self, depth: int) -> _Run:
        """The run in which a message of ``depth`` lines ends that ended here once.

        Runs are cut, and what ended in their first part does not hear of it.
        """
        run = self
        while depth <= run.start and run.parent is not None:
            run = run.parent
        return run


# Where a message ends: a run that it came by, and how many lines it has.
_End = tuple[_Run, int]

# Keys by the id() of a run, and by how many lines their messages have.
_Groups = dict[int, dict[int, list[Any]]]


class MsgTreeElem:
    """A message: lines from the root of the tree down to where it ends.

    It is what MsgTree's methods hand out. ``bytes(elem)`` is the whole message, its lines joined by
    a newline; iterating gives the lines; it compares and hashes as its bytes do. Lines that are
    added to its key later are not part of it.
    """

    __slots__ = ("_end",)

    def __init__(self, end: _End) -> None:
        self._end = end

    def _parts(self) -> list[list[bytes]]:
        """The lines of each run, first to last."""
        run: _Run | None
        run, depth = self._end
        parts = []
        while run is not None:
            size = depth - run.start
            if size > 0:
                parts.append(run.lines[:size])
            run = run.parent
        return parts[::-1]

    def lines(self) -> Iterator[bytes]:
        """Iterate over the lines of the message, first to last."""
        return chain.from_iterable(self._parts())

    splitlines = lines
    __iter__ = lines

    def message(self) -> bytes:
        """The whole message, its lines joined by a newline, with none at the end."""
        return b"\n".join(self.lines())

    __bytes__ = message

    def __str__(self) -> str:
        """Refuse: a message is bytes, and only the reader knows its encoding.

        Raises:
            TypeError: always; use ``bytes(elem)``, or ``bytes(elem).decode()``.
        """
        raise TypeError("a MsgTreeElem has no text: use bytes(elem) or bytes(elem).decode()")

    def __repr__(self) -> str:
        message = self.message()
        shown = repr(message if len(message) <= _SHOWN else message[:_SHOWN] + b"...")
        return f"<MsgTreeElem {len(message)} bytes {shown}>"

    def __len__(self) -> int:
        """The length of the whole message in bytes."""
        return len(self.message())

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """The line at this index, or the list of lines of a slice."""
        return list(self.lines())[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (MsgTreeElem, bytes, bytearray, memoryview)):
            return self is other or self.message() == bytes(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.message())


class MsgTree:
    """Messages by key: lines go in one by one, equal messages come out together.

    Keys are any hashable values, for instance node names or (worker, node). Lines are bytes without
    the newline. The tree is not locked: use it from one thread.

    >>> tree = MsgTree()
    >>> for node in 'node1', 'node2', 'node3':
    ...     tree.add(node, b'Linux' if node != 'node3' else b'BSD')
    >>> sorted((bytes(message), keys) for message, keys in tree.walk())
    [(b'BSD', ['node3']), (b'Linux', ['node1', 'node2'])]
    """

    def __init__(self, mode: int = MODE_DEFER) -> None:
        """Make an empty tree.

        Args:
            mode: MODE_DEFER, MODE_SHIFT or MODE_TRACE.

        Raises:
            ValueError: the mode is none of these.
        """
        if mode not in (MODE_DEFER, MODE_SHIFT, MODE_TRACE):
            raise ValueError(f"unknown MsgTree mode: {mode!r}")
        self.mode = mode
        self._tracing = mode == MODE_TRACE
        self.clear()

    def clear(self) -> None:
        """Remove all keys and messages."""
        self._root = _Run([], 0, None)
        # Where each key's message ends so far.
        self._ends: dict[Hashable, _End] = {}

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._ends)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._ends

    def __getitem__(self, key: Hashable) -> MsgTreeElem:
        """The message of this key.

        Raises:
            KeyError: no line was added for the key.
        """
        return MsgTreeElem(self._ends[key])

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The message (a MsgTreeElem) of this key, or the default."""
        end = self._ends.get(key)
        return default if end is None else MsgTreeElem(end)

    def add(self, key: Hashable, msgline: bytes) -> None:
        """Append a line to the message of this key.

        Args:
            key: whose message it is.
            msgline: the line, without its newline.
        """
        # That another node printed this line before is the common case, and must cost next to
        # nothing: a look into a list, and no call.
        try:
            run, depth = self._ends[key]
            if depth >= run.start and run.lines[depth - run.start] == msgline:
                self._ends[key] = run, depth + 1
                return
        except (KeyError, IndexError):
            pass  # the key's first line, or the run's end
        self.extend(key, [msgline])

    def extend(self, key: Hashable, msglines: Iterable[bytes]) -> None:
        """Append lines to the message of this key: add() for many lines at a fraction of the cost.

        Args:
            key: whose message it is; it becomes known even where there are no lines.
            msglines: the lines, without their newlines.
        """
        # A list of our own: it may become a part of the tree.
        lines = list(msglines)
        run, depth = self._ends.get(key) or (self._root, 0)
        follow = self._trace if self._tracing else self._follow
        self._ends[key] = follow(key, lines, run.holding(depth), depth)

    def _follow(self, _key: Hashable, lines: list[bytes], run: _Run, depth: int) -> _End:
        """Go on from the end of a message; where its lines lead to."""
        done = 0
        while done < len(lines):
            place = depth - run.start
            there = run.lines[place : place + len(lines) - done]
            if there:
                same = _count_same(there, lines, done)
                done += same
                depth += same
                if same < len(there):
                    run = self._cut(run, place + same)
                continue
            child = run.children.get(lines[done])
            if child is not None:
                run = child
                continue
            rest = lines[done:]
            if run.children:
                run = run.append(rest)
            else:
                run.lines += rest
            return run, depth + len(rest)
        return run, depth

    def _cut(self, run: _Run, size: int) -> _Run:
        """Cut a run after ``size`` lines; the first part."""
        head = run.cut(size)
        if head.parent is None:
            self._root = head
        return head

    def _trace(self, key: Hashable, lines: list[bytes], run: _Run, depth: int) -> _End:
        """As _follow(), with a run for each line."""
        for line in lines:
            run = run.children.get(line) or run.append([line])
            run.keys[key] = None
        return run, depth + len(lines)

    def keys(self) -> Iterator[Any]:
        """Iterate over the keys, in order of their first line."""
        return iter(self._ends)

    __iter__ = keys

    def messages(self, match: Match = None) -> Iterator[MsgTreeElem]:
        """Iterate over the different messages. See walk()."""
        return (elem for elem, _ in self.walk(match))

    def items(
        self, match: Match = None, mapper: Mapper = None
    ) -> Iterator[tuple[Any, MsgTreeElem]]:
        """Iterate over (key, message) of each key.

        Args:
            match: takes a key and tells whether it is wanted; None: all are.
            mapper: takes a key and gives what stands for it in the result; None: the key itself.
        """
        for key, end in self._ends.items():
            if match is None or match(key):
                yield key if mapper is None else mapper(key), MsgTreeElem(end)

    def walk(
        self, match: Match = None, mapper: Mapper = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over the different messages, each with the list of its keys.

        The order is ClusterShell's: depth first, the line that came last first. In MODE_TRACE every
        line of the tree is an element of its own here, with all keys that passed through it.

        Args:
            match: takes a key and tells whether it is wanted; None: all are. Messages without any
                wanted key are left out.
            mapper: takes a key and gives what stands for it in the result; None: the key itself.
        """
        groups = self._trace_groups(match) if self._tracing else self._groups(match)
        stack = [self._root]
        while groups and stack:
            run = stack.pop()
            stack += run.children.values()
            ends = groups.pop(id(run), {})
            for depth in sorted(ends):
                keys = ends[depth]
                yield (
                    MsgTreeElem((run, depth)),
                    keys if mapper is None else [mapper(key) for key in keys],
                )

    def walk_trace(
        self, match: Match = None, mapper: Mapper = None
    ) -> Iterator[tuple[bytes, list[Any], int, int]]:
        """Iterate over (line, keys, depth, number of lines that follow it) of each line.

        Depth counts from 1. Arguments and order are walk()'s.

        Raises:
            ValueError: the tree is not in MODE_TRACE.
        """
        if not self._tracing:
            raise ValueError("walk_trace() needs a MsgTree in MODE_TRACE")
        return self._walk_trace(match, mapper)

    def _walk_trace(
        self, match: Match, mapper: Mapper
    ) -> Iterator[tuple[bytes, list[Any], int, int]]:
        for run in self._depth_first():
            keys = [key for key in run.keys if match is None or match(key)]
            if keys:
                mapped = keys if mapper is None else [mapper(key) for key in keys]
                yield run.lines[0], mapped, run.start + 1, len(run.children)

    def remove(self, match: Match = None) -> None:
        """Remove the keys that match, and with them their messages.

        Args:
            match: takes a key and tells whether it goes; None: all go.
        """
        if match is None:
            self.clear()
            return
        if self._tracing:
            for run in self._depth_first():
                run.keys = {key: None for key in run.keys if not match(key)}
        for key in [key for key in self._ends if match(key)]:
            del self._ends[key]

    def _groups(self, match: Match) -> _Groups:
        """The wanted keys by the run in which their message ends."""
        groups: _Groups = {}
        for key, (run, depth) in self._ends.items():
            if match is None or match(key):
                ends = groups.setdefault(id(run.holding(depth)), {})
                ends.setdefault(depth, []).append(key)
        return groups

    def _trace_groups(self, match: Match) -> _Groups:
        """The wanted keys by each run that they come by."""
        groups: _Groups = {}
        for run in self._depth_first():
            keys = [key for key in run.keys if match is None or match(key)]
            if keys:
                groups[id(run)] = {run.start + 1: keys}
        return groups

    def _depth_first(self) -> Iterator[_Run]:
        """Every run; without recursion, for messages may go a million other ways."""
        stack = [self._root]
        while stack:
            run = stack.pop()
            yield run
            stack += run.children.values()

    def _depth(self) -> int:
        """The number of lines of the longest message."""
        return max(run.start + len(run.lines) for run in self._depth_first())


def _count_same(there: list[bytes], lines: list[bytes], start: int) -> int:
    """How many lines from ``start`` on are those that are there; there are enough of them."""
    if there == lines[start : start + len(there)]:
        return len(there)
    pairs = zip(there, islice(lines, start, None))
    return next(count for count, (one, other) in enumerate(pairs) if one != other)
