"""``pynodeset``: counts, expands, folds and regroups node sets, and lists groups.

Under ClusterShell's names it is ``nodeset`` and ``cluset``. Exit status: 0; 1 for errors; 2 for
wrong usage; 130 after Ctrl-C; 141 for a broken pipe (1 in ClusterShell's manner).
"""

from __future__ import annotations

import math
import optparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, Callable, NamedTuple, Optional, Union

from ..exceptions import (
    GroupResolverError,
    GroupResolverSourceError,
    GroupSourceError,
    GroupSourceNoUpcall,
    RangeSetException,
)
from ..nodeset import (
    NodeSet,
    ParsingEngine,
    RangeSet,
    grouplist,
    std_group_resolver,
)
from .foldaxis import AXIS_WANTED, parse_fold_axis
from .groups import default_source, group_sources
from .manner import OWN, Manner
from .options import OptionParser
from .program import Call, Failure, UsageError, run_program
from .suggest import near_name

PROGRAM = "pynodeset"

#: The method of a set for each operation; "" adds nodes.
_METHODS = {
    "": "update",
    "-i": "intersection_update",
    "--intersection": "intersection_update",
    "-x": "difference_update",
    "--exclude": "difference_update",
    "-X": "symmetric_difference_update",
    "--xor": "symmetric_difference_update",
}

#: Read standard input in place of a pattern.
_INPUT = "-"

#: The number of names that are joined and written at once.
_CHUNK = 10_000

# The escape sequences of a Python string; the second alternative is those that are incomplete.
_ESCAPE = re.compile(
    r"""(\\(?:[abfnrtv\\'"]|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))"""
    r"""|\\(?:[xuU]|$)"""
)

# Characters with a meaning in patterns.
_NOT_PLAIN = re.compile(r"[\[\],!&^@*?\s]")

#: A set of nodes, or of numbers with -R.
AnySet = Union[NodeSet, RangeSet]

#: A step of the computation: the option of the operation, or "" to add nodes; and the pattern.
Step = tuple[str, str]


class _Noted(NamedTuple):
    """An operation on the command line, and the number of operands before it."""

    before: int
    step: Step


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
    bare_errors = (AssertionError, IndexError, ValueError)
    return run_program(run, PROGRAM, arguments, manner, bare_errors)


def run(call: Call) -> int:
    """Run the program; returns the exit status. Errors are raised."""
    operations: list[_Noted] = []
    parser = make_parser(call, operations)
    options, operands = parser.parse_args(call.arguments)
    if options.debug:
        import logging

        logging.basicConfig(level=logging.DEBUG)
    elif not options.quiet:
        call.show_warnings()
    _check(parser, options)
    if options.groupsource and options.rangeset and not options.quiet:
        call.complain(f'WARNING: option group source "{options.groupsource}" ignored')
    with ExitStack() as stack:
        resolver = stack.enter_context(group_sources(call, options))
        try:
            stack.enter_context(default_source(resolver, options.groupsource))
        except GroupResolverSourceError as error:
            text = f"-s {options.groupsource!r}: {error}{near_name(error)}"
            raise call.failure(error, text) from None
        if options.groupsources:
            _list_sources(call, resolver.sources(), options.quiet)
            return 0
        nodes = _Computation(call, options).of(operands, operations)
        if options.list or options.listall:
            filters = nodes or options.all or operations
            _list_groups(call, options, nodes if filters else None)
        elif options.completion:
            _complete(call, options, nodes)
        else:
            _print_result(call, options, nodes)
    return 0


# -- the command line ------------------------------------------------------------------------------


def make_parser(call: Call, operations: Optional[list[_Noted]] = None) -> OptionParser:
    """The parser of the command line.

    Args:
        call: the call of the program.
        operations: the parser appends the set operations to it, in their order, each with the
            number of operands before it. In ClusterShell's manner, those that follow an operand
            are left among the operands. None: a list that is thrown away.
    """
    noted = [] if operations is None else operations
    parser = OptionParser(
        "%prog [COMMAND] [OPTIONS] [ns1 [-ixX] ns2|...]", call.manner, call.out, prog=call.prog
    )

    def note(_option: object, name: str, value: str, parser: Any) -> None:
        noted.append(_Noted(len(parser.largs), (name, value)))

    parser.install_groupsconf_option()
    parser.install_nodeset_commands()
    parser.install_nodeset_operations(note)
    parser.install_nodeset_options()
    return parser


def _check(parser: OptionParser, options: optparse.Values) -> None:
    """Refuse options that exclude each other; exits with status 2."""
    commands = (
        options.count,
        options.expand,
        options.fold,
        options.list,
        options.listall,
        options.regroup,
        options.groupsources,
        options.completion,
        options.index is not None,
    )
    chosen = sum(map(bool, commands))
    if not chosen:
        parser.refuse("No command specified.", "no command: write -f, -e, -c, -r, -l or --index")
    if chosen > 1:
        parser.refuse("Multiple commands not allowed.", "several commands: write one of them")
    if options.rangeset and (options.all or options.regroup):
        parser.refuse(
            "-a/-r only supported in NodeSet mode", "-R is about numbers: leave out -a and -r"
        )
    if options.maxsplit is not None and options.contiguous:
        parser.refuse(
            "incompatible splitting options (split, contiguous)",
            "--split and --contiguous: write one of them",
        )
    if options.axis and (not options.fold or options.rangeset):
        parser.refuse(
            "--axis option is only supported when folding nodeset",
            "--axis is about -f: leave out --axis, or write -f, and no -R",
        )
    if options.index is not None and options.pick:
        parser.refuse(
            "--index cannot be combined with --pick", "--index and --pick: write one of them"
        )


# -- the set ---------------------------------------------------------------------------------------


class _Computation:
    """Computes the set of a command line.

    Args:
        call: the call of the program.
        options: its options.
    """

    def __init__(self, call: Call, options: optparse.Values) -> None:
        self._manner = call.manner
        self._options = options
        self._warn: Callable[[str], None] = call.complain
        # A share of the nodes is known when the set is: until then, numbers are not folded.
        autostep = options.autostep if isinstance(options.autostep, int) else None
        self._autostep = autostep
        self._kind: Any = RangeSet if options.rangeset else NodeSet
        self.nodes: Any = self._kind(autostep=autostep)
        self._input: Any = None

    def of(self, operands: Sequence[str], operations: Sequence[_Noted]) -> AnySet:
        """The set of a command line.

        Args:
            operands: the operands; in ClusterShell's manner, with the operations that follow them.
            operations: the other operations.
        """
        if self._options.all:
            self.nodes.update(NodeSet.fromall())
        elif not operands and not (
            self._options.list or self._options.listall or self._options.completion
        ):
            self._apply(("", _INPUT))
        steps = self._steps if self._manner.options_anywhere else self._clustershell_steps
        for step in steps(operands, operations):
            self._apply(step)
        return self.nodes  # type: ignore[no-any-return]

    @staticmethod
    def _steps(operands: Sequence[str], operations: Sequence[_Noted]) -> Iterator[Step]:
        """From left to right; the operations before the first operand apply to all of it."""
        done = 0
        for before, step in operations:
            if before:
                yield from (("", operand) for operand in operands[done:before])
                yield step
                done = before
        yield from (("", operand) for operand in operands[done:])
        yield from (step for before, step in operations if not before)

    def _clustershell_steps(
        self, operands: Sequence[str], operations: Sequence[_Noted]
    ) -> Iterator[Step]:
        """First the operations before the first operand, whatever there is; by kind."""
        if operations and not self.nodes and not self._options.quiet:
            self._warn("WARNING: empty left operand for set operation")
        order = list(dict.fromkeys(_METHODS.values()))
        by_kind = sorted(operations, key=lambda noted: order.index(_METHODS[noted.step[0]]))
        yield from (step for _, step in by_kind)
        rest = iter(operands)
        for word in rest:
            if not word or word not in _METHODS:
                yield "", word
                continue
            pattern = next(rest, None)
            if pattern is None:
                raise IndexError("pop from empty list")
            yield word, pattern

    def _apply(self, step: Step) -> None:
        """Do one operation with the nodes of a pattern, which may have several lines."""
        operation, pattern = step
        if pattern == _INPUT:
            operand = self._from_input()
            if not operand and not self._manner.empty_input_counts:
                return
        else:
            operand = self._kind.fromlist(pattern.splitlines(), autostep=self._autostep)
            excludes = _METHODS[operation] == "difference_update"
            self._check_groups(pattern, excludes)
        getattr(self.nodes, _METHODS[operation])(operand)

    def _check_groups(self, pattern: str, excluded: bool = False) -> None:
        """Warn of groups without nodes.

        Raises:
            Failure: a group does not exist.
        """
        if "@" not in pattern or self._kind is RangeSet or not self._manner.own_words:
            return
        from .namedgroups import check_groups

        for problem in check_groups(pattern, excluded):
            if not self._options.quiet:
                self._warn(f"{PROGRAM}: {pattern!r}: {problem}")

    def _from_input(self) -> Any:
        """The nodes of standard input."""
        if self._input is not None and self._manner.empty_input_counts:
            return self._input  # it can be read once
        words = words_of(sys.stdin)
        if self._kind is NodeSet:
            named: set[str] = set()
            if self._manner.own_words:
                words = _noting(words, named)
            self._input = NodeSet.fromlist(words, autostep=self._autostep)
            for word in sorted(named):
                self._check_groups(word)
            return self._input
        self._input = RangeSet(autostep=self._autostep)
        # A million sets of one number would be slow.
        while chunk := list(islice(words, _CHUNK)):
            self._input.update(RangeSet(",".join(chunk)))
        return self._input


def words_of(lines: Optional[Iterable[Any]]) -> Iterator[str]:
    """The words of a text stream; a comment begins with # and ends with its line."""
    for number, line in enumerate(lines or ()):
        text = line if isinstance(line, str) else line.decode()
        if not number:
            text = text.removeprefix("\ufeff")  # a byte order mark, as editors on Windows write it
        yield from (text.partition("#")[0] if "#" in text else text).split()


def _noting(words: Iterable[str], named: set[str]) -> Iterator[str]:
    """The words; those with groups are added to a set."""
    for word in words:
        if "@" in word:
            named.add(word)
        yield word


# -- the result ------------------------------------------------------------------------------------


def _print_result(call: Call, options: optparse.Values, nodes: Any) -> None:
    """Print the set as -c, -e, -f, -r or --index says."""
    try:
        separator = decode_escapes(options.separator)
    except ValueError as error:
        text = f"-S {options.separator!r}: {error}; write \\\\ for a backslash"
        raise call.failure(ValueError("invalid separator"), text) from None
    if options.slice_rangeset:
        kept = type(nodes)()
        try:
            wanted = RangeSet(options.slice_rangeset)
        except RangeSetException as error:
            text = (
                f"-I {options.slice_rangeset!r}: write positions, counted from 0, such as: -I 0-9"
            )
            raise call.failure(error, text) from None
        for positions in wanted.slices():
            kept.update(nodes[positions])
        nodes = kept
    if options.autostep == "auto":
        nodes.autostep = max(3, len(nodes))
    elif isinstance(options.autostep, float):
        nodes.autostep = math.ceil(len(nodes) * options.autostep)
    if options.axis:
        try:
            nodes.fold_axis = parse_fold_axis(options.axis)
        except (ValueError, RangeSetException) as error:
            raise call.failure(error, f"--axis {options.axis!r}: {AXIS_WANTED}") from None
    if options.pick and options.pick < len(nodes):
        try:
            nodes = _pick(nodes, options.pick)
        except ValueError as error:
            text = f"--pick {options.pick}: write how many nodes to keep, such as: --pick 3"
            raise call.failure(error, text) from None
    form = Format(options.output_format, call)
    if options.index is not None:
        try:
            position = nodes.index(options.index)
        except ValueError:
            if not call.manner.own_words:
                raise
            if len(type(nodes)(options.index)) == 1:
                raise Failure(f"--index {options.index!r}: it is not in {nodes}") from None
            raise UsageError(f"--index {options.index!r}: write one node of the set") from None
        call.write(form(position) + "\n")
        return
    for part in _parts(options, nodes):
        if options.expand:
            _write_names(call, part, form, separator)
        else:
            call.write(_result(options, part, form) + "\n")


def _parts(options: optparse.Values, nodes: Any) -> Iterable[Any]:
    """The parts of the set that are printed one by one."""
    if nodes and options.contiguous:
        return nodes.contiguous()  # type: ignore[no-any-return]
    if nodes and options.maxsplit is not None and options.maxsplit > 1:
        return nodes.split(options.maxsplit)  # type: ignore[no-any-return]
    return (nodes,)


def _result(options: optparse.Values, part: Any, form: Format) -> str:
    """The line of -c, -f or -r."""
    if options.regroup:
        return form(part.regroup(options.groupsource, noprefix=options.groupbase))
    if not options.fold:
        return form(len(part))
    if form.plain or options.rangeset:
        return form(str(part))
    # The format is that of each node: the results are names, which are folded again.
    return str(_set_of_names(map(form, part), part.autostep))


def _set_of_names(names: Iterable[str], autostep: Optional[float]) -> NodeSet:
    """The set of nodes with these names, in which only digits are special."""
    odd: list[str] = []

    def plain() -> Iterator[str]:
        for name in names:
            if _NOT_PLAIN.search(name):
                odd.append(name)
            else:
                yield name

    nodes = NodeSet.fromlist(plain(), autostep=autostep)
    parser = ParsingEngine(None)
    for name in odd:
        nodes.update(parser.parse_string_single(name, autostep))
    return nodes


def _write_names(call: Call, part: Any, form: Format, separator: str) -> None:
    """Write the names of a set, which may be too many to hold all of them."""
    names: Iterator[str] = iter(part.striter())
    if not form.plain:
        names = map(form, names)
    before = ""
    while chunk := list(islice(names, _CHUNK)):
        call.write(before + separator.join(chunk))
        before = separator
    call.write("\n")


def _pick(nodes: Any, count: int) -> Any:
    """Some of the nodes, by chance."""
    import random

    # Positions, since a list of all nodes may be long. A negative number is an error.
    positions = random.sample(range(len(nodes)), count)
    picked = nodes[:0]
    for position in positions:
        picked.update(nodes[position : position + 1])
    return picked


class Format:
    """The value of -O: a format with one %s.

    Args:
        text: the format.
        call: the call of the program.

    Attributes:
        plain: True if the format is just %s.
    """

    def __init__(self, text: str, call: Call) -> None:
        self._text = text
        self._call = call
        self.plain = text == "%s"

    def __call__(self, value: object) -> str:
        """Format a value.

        Raises:
            Failure, TypeError, ValueError: the format is wrong.
        """
        try:
            return self._text % value
        except (TypeError, ValueError) as error:
            advice = "write %s in place of the result, and %% for a percent sign"
            raise self._call.failure(error, f"-O {self._text!r}: {error}; {advice}") from None


def decode_escapes(text: str) -> str:
    """Decode the escape sequences of a Python string, such as \\n; unknown ones stay.

    Raises:
        ValueError: an escape sequence is incomplete.
    """

    def decode(match: re.Match[str]) -> str:
        if match[1] is None:
            raise ValueError("an escape sequence is incomplete")
        return match[1].encode("ascii").decode("unicode_escape")

    return _ESCAPE.sub(decode, text)


# -- lists of groups -------------------------------------------------------------------------------


def _list_sources(call: Call, sources: Sequence[str], quiet: bool) -> None:
    for position, source in enumerate(sources):
        call.write(source + (" (default)\n" if not (position or quiet) else "\n"))


def _list_groups(call: Call, options: optparse.Values, nodes: Optional[Any]) -> None:
    """List the groups of -l, or of -L."""
    if not options.listall:
        _list_source(call, options, options.groupsource, nodes)
        return
    # The names of groups of the first source, which is the default one, have no prefix.
    for position, name in enumerate(std_group_resolver().sources()):
        try:
            _list_source(call, options, name if position else None, nodes)
        except GroupSourceNoUpcall as error:
            source = name if position else None
            call.complain(
                f"Warning: No {error.query or error} upcall defined for group source {source}"
            )
        except (GroupSourceError, GroupResolverError) as error:
            if not call.manner.skip_faulty_groups:
                raise
            call.complain(f"{call.prog}: group source {name!r} is skipped: {error}")


def _list_source(
    call: Call, options: optparse.Values, source: Optional[str], nodes: Optional[Any]
) -> None:
    """List the groups of one source: all, or those with nodes of the set."""
    level = options.list + options.listall + options.completion
    if nodes is not None:
        if options.rangeset:
            raise Failure("-R: numbers are in no groups: leave out -R, or the operands")
        found = nodes.groups(source, options.groupbase)
        for group, (all_nodes, common) in sorted(found.items()):
            counts = f"{len(common)}/{len(all_nodes)}"
            call.write(" ".join([group, str(common), counts][:level]) + "\n")
        return
    for name in grouplist(source):
        group = f"@{name}" if not source or options.groupbase else f"@{source}:{name}"
        if level == 1:
            call.write(f"{group}\n")
            continue
        members = NodeSet(group)
        call.write(" ".join([group, str(members), str(len(members))][:level]) + "\n")


def _complete(call: Call, options: optparse.Values, nodes: Any) -> None:
    """Print what a shell can complete: sources, groups, and the nodes of the operands."""
    if not options.groupsource:
        for source in std_group_resolver().sources():
            call.write(f"@{source}:\n")
    _list_groups(call, options, None)
    if nodes:
        options.expand = True
        _print_result(call, options, nodes)
