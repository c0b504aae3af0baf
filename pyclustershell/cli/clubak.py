"""``pyclubak``: gathers the output of many nodes, from lines such as ``node1: text``.

Under ClusterShell's name it is ``clubak``. Exit status: 0; 1 for errors, and for lines that name
no node; 2 for wrong usage; 130 after Ctrl-C; 141 for a broken pipe (1 in ClusterShell's manner).
"""

from __future__ import annotations

import codecs
import optparse
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Optional

from ..exceptions import NodeSetParseError, RangeSetException
from ..msgtree import MODE_DEFER, MODE_TRACE, MsgTree
from ..nodeset import NodeSet
from ..printable import printable_line
from .foldaxis import AXIS_WANTED, folded_along
from .groups import group_sources
from .labelled import Display, by_size
from .manner import OWN, Manner
from .options import OptionParser
from .program import EXIT_FAILED, Call, run_program

PROGRAM = "pyclubak"

# Names that are node sets of one node of that name: most names. The length is that of numbers.
_PLAIN = re.compile(r"[\w.-]{1,100}", re.ASCII)

#: The number of blanks by which -T indents lines that follow different lines.
_INDENT = 2

#: The number of bad lines that are shown one by one.
_SHOWN = 10


def main(arguments: Optional[Sequence[str]] = None, manner: Manner = OWN) -> int:
    """Run the program.

    Args:
        arguments: the arguments without the program's name; None: those of the process.
        manner: the manner to keep to.

    Returns:
        The exit status.

    Raises:
        SystemExit: after --help or --version (0), or for wrong usage (2).
    """
    return run_program(run, PROGRAM, arguments, manner)


def run(call: Call) -> int:
    """Run the program; returns the exit status. Errors are raised."""
    parser = make_parser(call)
    options, operands = parser.parse_args(call.arguments)
    if operands and call.manner.own_words:
        parser.error(
            f"{operands[0]!r}: lines are read from standard input, as in: {PROGRAM} < FILE"
        )
    call.show_warnings()
    if options.fast_mode and (options.trace_mode or options.line_mode):
        parser.refuse("incompatible tree options", "-F with -L or -T: leave out -F")
    if not options.separator and call.manner.own_words:
        parser.error("-S '': write the text between name and line, such as: -S ': '")
    with ExitStack() as stack:
        stack.enter_context(group_sources(call, options))
        try:
            stack.enter_context(folded_along(options.axis))
        except (ValueError, RangeSetException) as error:
            raise call.failure(error, f"--axis {options.axis!r}: {AXIS_WANTED}") from None
        return _gather(call, parser, options)


def make_parser(call: Call) -> OptionParser:
    """The parser of the program's options."""
    parser = OptionParser("%prog [options]", call.manner, call.out, prog=call.prog)
    parser.install_groupsconf_option()
    parser.install_display_options(
        verbose_options=True, separator_option=True, dshbak_compat=True, msgtree_mode=True
    )
    return parser


def _gather(call: Call, parser: OptionParser, options: optparse.Values) -> int:
    """Read standard input, and print it by node. Returns the exit status."""
    reader = _Reader(call, options)
    reader.read(sys.stdin)
    try:
        display = Display(options, manner=call.manner, out=call.out)
    except ValueError as error:
        parser.refuse(f"option mismatch ({error})", "--diff and -L: write one of them")
    if options.debug:
        line_mode, gather = bool(options.line_mode), bool(display.gather)
        name = call.prog if call.manner.own_words else "clubak"
        depth = max((len(message[:]) for message in reader.tree.messages()), default=0)
        call.complain(f"{name}: line_mode={line_mode} gather={gather} tree_depth={depth}")
    if options.trace_mode:
        _print_tree(reader.tree, display)
    else:
        _print_messages(reader, display)
    return EXIT_FAILED if reader.bad_lines else 0


# -- reading ---------------------------------------------------------------------------------------


class _Reader:
    """Reads lines into a tree of messages.

    Args:
        call: the call of the program.
        options: its options.

    Attributes:
        tree: the lines so far, by node.
        raw: True if names are not read as node sets; they may be so only from some line on.
        bad_lines: the number of lines that named no node and were skipped.
    """

    def __init__(self, call: Call, options: optparse.Values) -> None:
        self.tree = MsgTree(MODE_TRACE if options.trace_mode else MODE_DEFER)
        self.raw = options.interpret_keys not in ("auto", "always")
        self.bad_lines = 0
        self._call = call
        self._raw_if_bad = options.interpret_keys == "auto"
        self._echo = options.verbose or options.debug
        self._separator = options.separator.encode()
        # ClusterShell's -F has one line for all lines of a node, which --diff shows.
        self._joined = options.fast_mode and not call.manner.own_words
        # The nodes of each name, as it is before the separator.
        self._known: dict[bytes, list[str]] = {}

    def read(self, stream: Any) -> None:
        """Read a text or binary stream to its end.

        Raises:
            ValueError: a line names no node, and such lines are not skipped.
            NodeSetParseError: a name is no node set, and must be one.
        """
        lines: Iterable[Any] = getattr(stream, "buffer", stream) or ()
        add, known, separator = self.tree.add, self._known, self._separator
        blank = self._call.manner.blank_is_separator
        collected: dict[str, list[bytes]] = {}
        number = 0
        for each in lines:
            number += 1
            line = (each if isinstance(each, bytes) else each.encode()).rstrip(b"\r\n")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)  # editors on Windows write one
            if self._echo:
                self._call.write(f"INPUT {line.decode('utf-8', 'replace')}\n")
            try:
                name, found, content = line.partition(separator)
                nodes = known.get(name) if found else None
                if nodes is None:
                    nodes = known[name] = self._nodes(name, found)
            except ValueError as error:
                self._refuse(number, line, error)
                continue
            if blank and content[:1] == b" ":
                content = content[1:]
            for node in nodes:
                if self._joined:
                    collected.setdefault(node, []).append(content)
                else:
                    add(node, content)
        for node, parts in collected.items():
            self.tree.add(node, b"\n".join(parts))
        if self.bad_lines > _SHOWN:
            more = self.bad_lines - _SHOWN
            self._call.complain(f"{self._call.prog}: {more} more lines name no node: skipped")

    def _nodes(self, name: bytes, found: bytes) -> list[str]:
        """The nodes of a name.

        Raises:
            ValueError: there is no separator, or no name.
            NodeSetParseError: the name is no node set, and must be one.
        """
        if not found:
            raise ValueError("not enough values to unpack (expected 2, got 1)")
        text = name.strip().decode("utf-8", "replace")
        if not text:
            raise ValueError("no node found")
        if not (self.raw or _PLAIN.fullmatch(text)):
            try:
                return list(NodeSet(text))
            except NodeSetParseError:
                if not self._raw_if_bad:
                    raise
                self.raw = True
                self._known.clear()  # names that follow are not read as node sets either
        return [text]

    def _refuse(self, number: int, line: bytes, error: ValueError) -> None:
        """Skip a line that names no node, or raise.

        Raises:
            ValueError: such lines are not skipped.
        """
        if not self._call.manner.skip_bad_lines:
            raise ValueError(f'{error}: "{line.decode("utf-8", "replace")}"') from None
        if not line.strip():
            return
        self.bad_lines += 1
        if self.bad_lines <= _SHOWN:
            separator = self._separator.decode()
            self._call.complain(
                f"{self._call.prog}: line {number} names no node before a {separator!r}: skipped: "
                f"{printable_line(line, 60)!r}"
            )


# -- printing --------------------------------------------------------------------------------------


def _print_messages(reader: _Reader, display: Display) -> None:
    """Print each node's output, or equal output once."""
    tree = reader.tree
    gather = display.gather or display.regroup
    if reader.raw:
        if gather:
            for message, keys in tree.walk():
                display.print_gather_keys(keys, message)
        else:
            for key, message in tree.items():
                display.print_gather_keys([key], message)
    elif gather:
        groups = [(NodeSet.fromlist(keys), message) for message, keys in tree.walk()]
        for nodes, message in sorted(groups, key=lambda group: by_size(group[0])):
            display.print_gather(nodes, message)
    else:
        # A name stands for itself; to make a node set of each would be slow.
        for node in NodeSet.fromlist(tree.keys()):
            display.print_gather_keys([node], tree[node])


def _print_tree(tree: MsgTree, display: Display) -> None:
    """Print lines that several nodes share once, and indent those that differ."""
    indents: dict[int, int] = {}
    indent = -_INDENT
    begins = True  # a line of other nodes than the line before
    for line, keys, depth, followers in tree.walk_trace():
        if begins:
            if depth not in indents:
                indents[depth] = indent + _INDENT
            indent = indents[depth]
            nodes = NodeSet.fromlist(keys)
            if display.line_mode:
                display.out.write(f"{nodes}:\n")
            else:
                display.out.write(display.format_header(nodes, indent))
        display.out.write(f"{' ' * indent}{display.text(line)}\n")
        begins = followers != 1
