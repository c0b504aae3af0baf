"""MsgTree: the output of many nodes, with what is the same kept once.

Messages are paths in a tree of lines: two nodes that print the same lines end at the same element,
whose message is then one message with two keys. Memory grows with the number of *different* lines,
not with the number of nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, compress, count, islice
from operator import itemgetter, length_hint, ne
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


class _Branch:
    """Lines that follow each other, and the branches that leave them on the way.

    The tree is one of branches, not of lines: nodes that print the same are compared many lines at
    a time, and a line costs its place in a list. Where a message goes another way, a branch begins.
    Lines are put to the end of a branch, and never move: a place in it stays good.

    Attributes:
        lines: the lines; none in the root, before there are any.
        start: how many lines of its messages come before them.
        parent: the branch that it leaves, None for the root.
        forks: by depth (a number of lines): the branches that leave after the line there, by their
            first line, in order of arrival. The lines here came before all of them.
        keys: in MODE_TRACE, where a branch is one line: the keys whose messages come by here, in
            order of arrival.
    """

    __slots__ = ("forks", "keys", "lines", "parent", "start")

    def __init__(self, start: int, parent: _Branch | None) -> None:
        self.lines: list[bytes] = []
        self.start = start
        self.parent = parent
        self.forks: dict[int, dict[bytes, _Branch]] = {}
        self.keys: dict[Hashable, None] = {}

    def end(self) -> int:
        """The depth after the last line."""
        return self.start + len(self.lines)

    def fork(self, depth: int, line: bytes) -> _Branch:
        """The branch that leaves at this depth with this line; an empty one if there is none."""
        try:
            return self.forks[depth][line]
        except KeyError:
            branch = self.forks.setdefault(depth, {})[line] = _Branch(depth, self)
            return branch


# Where a message ends: the branch with its last line, and how many lines it has.
_End = tuple[_Branch, int]


class MsgTreeElem:
    """A message: lines from the root of the tree down to where it ends.

    It is what MsgTree's methods hand out. ``bytes(elem)`` is the whole message, its lines joined by
    a newline; iterating gives the lines; it compares and hashes as its bytes do. Lines that are
    added to its key later are not part of it.
    """

    __slots__ = ("_end", "_message")

    def __init__(self, end: _End) -> None:
        self._end = end
        # Joined when it is asked for, and kept as long as this element: who asks for it once, for
        # its length or to compare, mostly asks again.
        self._message: bytes | None = None

    def _parts(self) -> list[list[bytes]]:
        """The lines in each branch, first to last."""
        branch, depth = self._end
        parts = [branch.lines[: depth - branch.start]]
        while branch.parent is not None:
            branch, depth = branch.parent, branch.start
            parts.append(branch.lines[: depth - branch.start])
        return parts[::-1]

    def lines(self) -> Iterator[bytes]:
        """Iterate over the lines of the message, first to last."""
        return chain.from_iterable(self._parts())

    splitlines = lines
    __iter__ = lines

    def message(self) -> bytes:
        """The whole message, its lines joined by a newline, with none at the end."""
        if self._message is None:
            self._message = b"\n".join(self.lines())
        return self._message

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
        self._root = _Branch(0, None)
        # Where each key's message ends so far; see _end().
        self._ends: dict[Hashable, _End] = {}
        # For keys to which add() adds what others said before: what comes next in their branch.
        self._ahead: dict[Hashable, Iterator[bytes]] = {}
        # What _messages() found, until there are new lines.
        self._found: list[tuple[_End, list[Any]]] | None = None

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
        return MsgTreeElem(self._end(key))

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The message (a MsgTreeElem) of this key, or the default."""
        return MsgTreeElem(self._end(key)) if key in self._ends else default

    def _end(self, key: Hashable) -> _End:
        """Where the message of this key ends so far; KeyError: it has none.

        add() only moves an iterator over the branch. How far it got is asked for here.
        """
        ahead = self._ahead.pop(key, None)
        if ahead is not None:
            branch, _ = self._ends[key]
            self._ends[key] = branch, branch.end() - length_hint(ahead)
        return self._ends[key]

    def _settle(self) -> None:
        """Have in _ends where all messages end so far."""
        for key in list(self._ahead):
            self._end(key)

    def add(self, key: Hashable, msgline: bytes) -> None:
        """Append a line to the message of this key.

        Args:
            key: whose message it is.
            msgline: the line, without its newline.
        """
        # That another node printed this line before is the common case, and must cost next to
        # nothing: one step of an iterator, and nothing to store.
        try:
            if next(self._ahead[key]) == msgline:
                return
            branch, depth = self._end(key)
            self._ends[key] = branch, depth - 1
        except (KeyError, StopIteration):
            pass  # no line there to compare with
        if self._tracing:
            self.extend(key, [msgline])
        else:
            self._add_elsewhere(key, msgline)

    def _add_elsewhere(self, key: Hashable, msgline: bytes) -> None:
        """As add(), where it is not known that this line comes next."""
        branch, depth = self._end(key) if key in self._ends else (self._root, 0)
        place = depth - branch.start
        if place < len(branch.lines) and branch.lines[place] != msgline:
            branch, place = branch.fork(depth, msgline), 0
        if place == len(branch.lines):
            branch.lines.append(msgline)
        else:
            ahead: Any = iter(branch.lines)
            # What pickle uses to put a list's iterator at its place; islice() would walk there.
            ahead.__setstate__(place + 1)
            self._ahead[key] = ahead
        self._ends[key] = branch, depth + 1
        self._found = None

    def extend(self, key: Hashable, msglines: Iterable[bytes]) -> None:
        """Append lines to the message of this key: add() for many lines at a fraction of the cost.

        Args:
            key: whose message it is; it becomes known even where there are no lines.
            msglines: the lines, without their newlines.
        """
        if key in self._ahead:
            self._end(key)
        branch, depth = self._ends.get(key) or (self._root, 0)
        follow = self._trace if self._tracing else self._follow
        self._ends[key] = follow(key, list(msglines), branch, depth)
        self._found = None

    @staticmethod
    def _follow(_key: Hashable, lines: list[bytes], branch: _Branch, depth: int) -> _End:
        """Go on from the end of a message; where its lines lead to."""
        done = 0
        while done < len(lines):
            place = depth - branch.start
            if place == len(branch.lines):
                branch.lines += lines[done:]
                return branch, branch.end()
            if branch.lines[place] != lines[done]:
                branch = branch.fork(depth, lines[done])
                continue
            there = branch.lines[place : place + len(lines) - done]
            same = _count_same(there, lines, done)
            done += same
            depth += same
        return branch, depth

    @staticmethod
    def _trace(key: Hashable, lines: list[bytes], branch: _Branch, depth: int) -> _End:
        """As _follow(), with a branch for each line."""
        for line in lines:
            try:
                branch = branch.forks[depth][line]
            except KeyError:
                branch = branch.fork(depth, line)
                branch.lines.append(line)
            branch.keys[key] = None
            depth += 1
        return branch, depth

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
        self._settle()
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
        for end, keys in self._trace_messages() if self._tracing else self._messages():
            wanted = keys.copy() if match is None else list(filter(match, keys))
            if wanted:
                yield MsgTreeElem(end), wanted if mapper is None else list(map(mapper, wanted))

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
        for branch in self._depth_first():
            keys = [key for key in branch.keys if match is None or match(key)]
            if keys:
                mapped = keys if mapper is None else [mapper(key) for key in keys]
                yield branch.lines[0], mapped, branch.end(), len(branch.forks.get(branch.end(), ()))

    def remove(self, match: Match = None) -> None:
        """Remove the keys that match, and with them their messages.

        Args:
            match: takes a key and tells whether it goes; None: all go.
        """
        if match is None:
            self.clear()
            return
        if self._tracing:
            for branch in self._depth_first():
                branch.keys = {key: None for key in branch.keys if not match(key)}
        for key in [key for key in self._ends if match(key)]:
            del self._ends[key]
            self._ahead.pop(key, None)
        self._found = None

    def _messages(self) -> list[tuple[_End, list[Any]]]:
        """Where the different messages end, in the order of walk(), with their keys."""
        self._settle()
        if self._found is None:
            groups: dict[_End, list[Any]] = {}
            for key, end in self._ends.items():
                groups.setdefault(end, []).append(key)
            self._found = [(end, groups[end]) for end in self._in_order(groups)]
        return self._found

    def _in_order(self, ends: Iterable[_End]) -> Iterator[_End]:
        """Bring ends of messages into the order of walk()."""
        by_branch: dict[_Branch, list[_End]] = {}
        for end in ends:
            by_branch.setdefault(end[0], []).append(end)
        # What is to come, the next one last.
        stack: list[_Branch | _End] = [self._root]
        while stack:
            item = stack.pop()
            if isinstance(item, tuple):
                yield item
                continue
            here = sorted(by_branch.get(item, ()), key=itemgetter(1))
            if not item.forks:
                yield from here
                continue
            for depth in sorted(item.forks, reverse=True):
                while here and here[-1][1] > depth:
                    stack.append(here.pop())
                stack += item.forks[depth].values()
            stack += reversed(here)

    def _trace_messages(self) -> Iterator[tuple[_End, list[Any]]]:
        """Where the message that ends with each line does so, with the keys that came by."""
        for branch in self._depth_first():
            yield (branch, branch.end()), list(branch.keys)

    def _depth_first(self) -> Iterator[_Branch]:
        """Every branch; without recursion, for messages may go a million other ways."""
        stack = [self._root]
        while stack:
            branch = stack.pop()
            yield branch
            for forks in branch.forks.values():
                stack += forks.values()

    def _depth(self) -> int:
        """The number of lines of the longest message."""
        return max(map(_Branch.end, self._depth_first()))


def _count_same(there: list[bytes], lines: list[bytes], start: int) -> int:
    """How many lines from ``start`` on are those that are there; there are enough of them."""
    if there == lines[start : start + len(there)]:
        return len(there)
    return next(compress(count(), map(ne, there, islice(lines, start, None))))
