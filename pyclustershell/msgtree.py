"""MsgTree: the output of many nodes, with what is the same kept once.

Messages are paths in a tree of lines: two nodes that print the same lines end at the same element,
whose message is then one message with two keys. Memory grows with the number of *different* lines,
not with the number of nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
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


class MsgTreeElem:
    """A message: the lines from the root of the tree down to this element.

    It is what MsgTree's methods hand out. ``bytes(elem)`` is the whole message, its lines joined by
    a newline; iterating gives the lines; it compares and hashes as its bytes do.

    Attributes:
        parent: the element of the line before, or None at the root.
        children: the elements of the lines that follow, by line.
        msgline: the last line of this message; None at the root.
        keys: in MODE_TRACE, the keys whose messages pass through here, in order of arrival.
    """

    __slots__ = ("children", "keys", "msgline", "parent")

    def __init__(self, msgline: bytes | None = None, parent: MsgTreeElem | None = None) -> None:
        self.msgline = msgline
        self.parent = parent
        self.children: dict[bytes, MsgTreeElem] = {}
        self.keys: dict[Hashable, None] | None = None

    def child(self, line: bytes) -> MsgTreeElem:
        """The element of this line after this one, made where there is none yet."""
        elem = self.children.get(line)
        if elem is None:
            elem = self.children[line] = MsgTreeElem(line, self)
        return elem

    def trace(self, key: Hashable) -> None:
        """Note that the message of this key passes through here."""
        if self.keys is None:
            self.keys = {}
        self.keys[key] = None

    def lines(self) -> Iterator[bytes]:
        """Iterate over the lines of the message, first to last."""
        upwards: list[bytes] = []
        elem: MsgTreeElem | None = self
        while elem is not None and elem.msgline is not None:
            upwards.append(elem.msgline)
            elem = elem.parent
        return reversed(upwards)

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
        self._root = MsgTreeElem()
        # Where each key's message ends so far.
        self._ends: dict[Hashable, MsgTreeElem] = {}

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
        return self._ends[key]

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The message (a MsgTreeElem) of this key, or the default."""
        return self._ends.get(key, default)

    def add(self, key: Hashable, msgline: bytes) -> None:
        """Append a line to the message of this key.

        Args:
            key: whose message it is.
            msgline: the line, without its newline.
        """
        ends = self._ends
        # That another node printed this line before is the common case, and must cost next to
        # nothing: two look-ups in plain dictionaries, and no call.
        try:
            ends[key] = elem = ends[key].children[msgline]
        except KeyError:
            ends[key] = elem = ends.get(key, self._root).child(msgline)
        if self._tracing:
            elem.trace(key)

    def extend(self, key: Hashable, msglines: Iterable[bytes]) -> None:
        """Append lines to the message of this key: add() for many lines at a fraction of the cost.

        Args:
            key: whose message it is; it becomes known even where there are no lines.
            msglines: the lines, without their newlines.
        """
        elem = self._ends.get(key, self._root)
        for line in msglines:
            try:
                elem = elem.children[line]
            except KeyError:
                elem = elem.child(line)
            if self._tracing:
                elem.trace(key)
        self._ends[key] = elem

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
        for key, elem in self._ends.items():
            if match is None or match(key):
                yield key if mapper is None else mapper(key), elem

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
            elem = stack.pop()
            stack += elem.children.values()
            keys = groups.pop(id(elem), None)
            if keys:
                yield elem, keys if mapper is None else [mapper(key) for key in keys]

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
        for elem, depth in self._depth_first():
            keys = [key for key in elem.keys or () if match is None or match(key)]
            if keys and elem.msgline is not None:
                mapped = keys if mapper is None else [mapper(key) for key in keys]
                yield elem.msgline, mapped, depth, len(elem.children)

    def remove(self, match: Match = None) -> None:
        """Remove the keys that match, and with them their messages.

        Args:
            match: takes a key and tells whether it goes; None: all go.
        """
        if match is None:
            self.clear()
            return
        if self._tracing:
            for elem, _ in self._depth_first():
                if elem.keys:
                    elem.keys = {key: None for key in elem.keys if not match(key)}
        for key in [key for key in self._ends if match(key)]:
            del self._ends[key]

    def _groups(self, match: Match) -> dict[int, list[Any]]:
        """The wanted keys by the id() of the element at which their message ends."""
        groups: dict[int, list[Any]] = {}
        for key, elem in self._ends.items():
            if match is None or match(key):
                groups.setdefault(id(elem), []).append(key)
        return groups

    def _trace_groups(self, match: Match) -> dict[int, list[Any]]:
        """The wanted keys by the id() of each element through which they passed."""
        groups = {}
        for elem, _ in self._depth_first():
            keys = [key for key in elem.keys or () if match is None or match(key)]
            if keys:
                groups[id(elem)] = keys
        return groups

    def _depth_first(self) -> Iterator[tuple[MsgTreeElem, int]]:
        """Every element with its depth; without recursion, messages may have a million lines."""
        stack = [(self._root, 0)]
        while stack:
            elem, depth = stack.pop()
            yield elem, depth
            stack += [(child, depth + 1) for child in elem.children.values()]

    def _depth(self) -> int:
        """The number of lines of the longest message."""
        return max(depth for _, depth in self._depth_first())
