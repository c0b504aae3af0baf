"""MsgTree: the output of many nodes; identical output is stored once.

Messages are paths in a tree of lines: two nodes that print the same lines end at the same element,
which is then one message with two keys. Memory grows with the number of *different* lines, not with
the number of nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, compress, count, islice
from operator import itemgetter, length_hint, ne
from typing import Any, Callable, Optional, overload

#: Keys are grouped by message when the tree is walked. The default. The first walk sets MODE_SHIFT.
MODE_DEFER = 0
#: For compatibility with ClusterShell. Nothing differs from MODE_DEFER: walking is cheap here.
MODE_SHIFT = 1
#: Every line stores the keys whose messages contain it; walk_trace() is available.
MODE_TRACE = 2

Match = Optional[Callable[[Any], object]]
Mapper = Optional[Callable[[Any], Any]]

#: repr() shows this many bytes of a message.
_SHOWN = 60


class _Branch:
    """Consecutive lines, and the branches that fork off between them.

    The tree consists of branches, not of lines: equal output is compared many lines at a time, and
    a line costs one entry of a list. A branch begins if a message differs from those before. Lines
    are only appended to a branch and never move, so an index into a branch stays valid.

    Attributes:
        lines: the lines; empty in the root of an empty tree.
        start: the number of lines before them, from the root of the tree.
        parent: the branch from which this one forks off; None for the root.
        forks: by depth (a number of lines): the branches that fork off there, by their first line,
            in order of arrival. They arrived after the lines of this branch.
        keys: in MODE_TRACE, in which a branch is one line: the keys whose messages contain it, in
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
        """The branch that forks off at this depth with this line, made if there is none."""
        try:
            return self.forks[depth][line]
        except KeyError:
            branch = self.forks.setdefault(depth, {})[line] = _Branch(depth, self)
            return branch


# The end of a message: the branch of its last line, and its number of lines.
_End = tuple[_Branch, int]


class MsgTreeElem:
    """A message: the lines from the root of the tree to the end of the message.

    MsgTree's methods return it. ``bytes(elem)`` is the whole message, its lines joined by newlines.
    Iterating gives the lines. It compares and hashes like its bytes. Lines that are added to its
    key later are not part of it.
    """

    __slots__ = ("_end", "_message")

    def __init__(self, end: _End | None = None) -> None:
        """Make an element; without an argument, that of an empty message."""
        self._end = (_Branch(0, None), 0) if end is None else end
        # Joined at first use and cached: a caller that reads it once, to compare it or for its
        # length, mostly reads it again.
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
        """The whole message, its lines joined by newlines, without a newline at the end."""
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
        self._root = _Branch(0, None)
        if mode not in (MODE_DEFER, MODE_SHIFT, MODE_TRACE):
            raise ValueError(f"unknown MsgTree mode: {mode!r}")
        self.mode = mode
        self._tracing = mode == MODE_TRACE
        self.clear()

    def clear(self) -> None:
        """Remove all keys and messages."""
        self._cut()
        self._root = _Branch(0, None)
        # The current end of each key's message; see _end().
        self._ends: dict[Hashable, _End] = {}
        # For keys whose lines so far are those of another key: an iterator over the next lines of
        # their branch. See add().
        self._ahead: dict[Hashable, Iterator[bytes]] = {}
        # The result of _messages(), until lines are added.
        self._found: list[tuple[_End, list[Any]]] | None = None

    def __del__(self) -> None:
        self._cut()

    def _cut(self) -> None:
        """Let branches refer to their parents only, as messages need it.

        Otherwise each tree of different outputs would wait for the garbage collector.
        """
        stack = [self._root]
        while stack:
            forks = stack.pop().forks
            for branches in forks.values():
                stack += branches.values()
            forks.clear()

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
        """The current end of the message of this key.

        add() only advances an iterator over the branch. Its position is computed here.

        Raises:
            KeyError: the key has no message.
        """
        ahead = self._ahead.pop(key, None)
        if ahead is not None:
            branch, _ = self._ends[key]
            self._ends[key] = branch, branch.end() - length_hint(ahead)
        return self._ends[key]

    def _settle(self) -> None:
        """Bring _ends up to date for all keys."""
        for key in list(self._ahead):
            self._end(key)

    def add(self, key: Hashable, msgline: bytes) -> None:
        """Append a line to the message of this key.

        Args:
            key: the key of the message.
            msgline: the line, without its newline.
        """
        # In the common case another node printed this line before. It must be very cheap: one step
        # of an iterator, and nothing to store.
        try:
            if next(self._ahead[key]) == msgline:
                return
            branch, depth = self._end(key)
            self._ends[key] = branch, depth - 1
        except (KeyError, StopIteration):
            pass  # no next line to compare with
        if self._tracing:
            self.extend(key, [msgline])
        else:
            self._add_elsewhere(key, msgline)

    def _add_elsewhere(self, key: Hashable, msgline: bytes) -> None:
        """The slow path of add(): the next line of the branch is another one, or is not known."""
        branch, depth = self._end(key) if key in self._ends else (self._root, 0)
        place = depth - branch.start
        if place < len(branch.lines) and branch.lines[place] != msgline:
            branch, place = branch.fork(depth, msgline), 0
        if place == len(branch.lines):
            branch.lines.append(msgline)
        else:
            ahead: Any = iter(branch.lines)
            # Pickle sets the position of a list iterator like this; islice() would step there.
            ahead.__setstate__(place + 1)
            self._ahead[key] = ahead
        self._ends[key] = branch, depth + 1
        self._found = None

    def extend(self, key: Hashable, msglines: Iterable[bytes]) -> None:
        """Append lines to the message of this key. Much faster than add() for each line.

        Args:
            key: the key of the message; it gets an empty message if there are no lines.
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
        """Follow lines from the end of a message, and add those that are new; the new end."""
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
        """Like _follow(), with a branch for each line."""
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
            match: called with a key; true if the key is wanted. None: all are wanted.
            mapper: called with a key; returns its value for the result. None: the key itself.
        """
        self._settle()
        for key, end in self._ends.items():
            if match is None or match(key):
                yield key if mapper is None else mapper(key), MsgTreeElem(end)

    def walk(
        self, match: Match = None, mapper: Mapper = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over the different messages, each with the list of its keys.

        The order is ClusterShell's: depth first, the last added line first. In MODE_TRACE every
        line of the tree is an element, with the keys of all messages that contain the line.

        Args:
            match: called with a key; true if the key is wanted. None: all are wanted. Messages
                without a wanted key are left out.
            mapper: called with a key; returns its value for the result. None: the key itself.
        """
        if self.mode == MODE_DEFER:
            self.mode = MODE_SHIFT
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
        """Remove the keys that match, and their messages.

        Args:
            match: called with a key; true if the key is to be removed. None: remove all.
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
        """The ends of the different messages, in the order of walk(), with their keys."""
        self._settle()
        if self._found is None:
            groups: dict[_End, list[Any]] = {}
            for key, end in self._ends.items():
                groups.setdefault(end, []).append(key)
            self._found = [(end, groups[end]) for end in self._in_order(groups)]
        return self._found

    def _in_order(self, ends: Iterable[_End]) -> Iterator[_End]:
        """Sort ends of messages in the order of walk()."""
        by_branch: dict[_Branch, list[_End]] = {}
        for end in ends:
            by_branch.setdefault(end[0], []).append(end)
        # The branches and ends still to visit, the next one last.
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
        """The end of the message up to each line, with the keys of the line."""
        for branch in self._depth_first():
            yield (branch, branch.end()), list(branch.keys)

    def _depth_first(self) -> Iterator[_Branch]:
        """Every branch, depth first; without recursion: the tree may be a million branches deep."""
        stack = [self._root]
        while stack:
            branch = stack.pop()
            yield branch
            for forks in branch.forks.values():
                stack += forks.values()


def _count_same(there: list[bytes], lines: list[bytes], start: int) -> int:
    """The number of leading lines in ``there`` that equal ``lines`` from ``start`` on.

    There are at least as many of these lines as in ``there``.
    """
    if there == lines[start : start + len(there)]:
        return len(there)
    return next(compress(count(), map(ne, there, islice(lines, start, None))))
