"""Nodes' output under their names: blocks with a header, lines with a label, and differences."""

from __future__ import annotations

import optparse
import os
import sys
from collections.abc import Iterable
from typing import Any, Callable, Optional, TextIO, Union

from ..msgtree import MsgTreeElem
from ..nodeset import NodeSet
from ..printable import print_line, printable
from .manner import CLUSTERSHELL, Manner
from .output import Output

VERB_QUIET = 0
VERB_STD = 1
VERB_VERB = 2
VERB_DEBUG = 3

#: The output of a node: whole, or line by line.
Content = Union[bytes, MsgTreeElem, Iterable[bytes], str]


class RawKeys(set[str]):
    """Names that are not read as node sets; used in place of a NodeSet."""

    def __str__(self) -> str:
        return ",".join(sorted(self))


class Display:
    """Prints nodes' output on standard output and standard error, in ClusterShell's formats.

    Names and defaults are ClusterShell's, because programs use this class (through the alias, as
    ClusterShell.CLI.Display).

    Args:
        options: the values of OptionParser.install_display_options().
        config: the settings of clush.conf: has color, node_count and verbosity; None: none.
        color: True or False: colours or none; None: as options, config and environment say.
        manner: the manner to keep to.
        out: the stream for output; None: sys.stdout.
        err: the stream for standard error of nodes; None: sys.stderr.

    Attributes:
        out: the stream for output.
        err: the stream for standard error of nodes.
        gather: true if equal output is gathered.
        line_mode: True to print lines with labels; False to print blocks or differences.
        label: False to leave out headers and labels.
        regroup: True to print nodes as groups.
        groupsource: the source of these groups; None: the default one.
        noprefix: True to leave out the source in their names.
        node_count: True to print the number of nodes.
        verbosity: VERB_QUIET to VERB_DEBUG.

    Raises:
        ValueError: options exclude each other.
    """

    COLOR_RESULT_FMT = "\033[92m%s\033[0m"
    COLOR_STDOUT_FMT = "\033[94m%s\033[0m"
    COLOR_STDERR_FMT = "\033[91m%s\033[0m"
    COLOR_DIFFHDR_FMT = "\033[1m%s\033[0m"
    COLOR_DIFFHNK_FMT = "\033[96m%s\033[0m"
    COLOR_DIFFADD_FMT = "\033[92m%s\033[0m"
    COLOR_DIFFDEL_FMT = "\033[91m%s\033[0m"
    SEP = "-" * 15

    def __init__(
        self,
        options: optparse.Values,
        config: Any = None,
        color: Optional[bool] = None,
        manner: Manner = CLUSTERSHELL,
        out: Union[TextIO, Output, None] = None,
        err: Optional[TextIO] = None,
    ) -> None:
        if options.diff and options.line_mode:
            raise ValueError("diff not supported in line_mode")
        self.out: Any = out or sys.stdout
        self.err: Any = err or sys.stderr
        self.gather = options.gatherall or options.gather or options.diff
        self.progress = getattr(options, "progress", False)
        self.maxrc = getattr(options, "maxrc", False)
        self.outdir = options.outdir
        self.errdir = options.errdir
        self.label = options.label
        self.regroup = options.regroup
        self.groupsource = options.groupsource
        self.noprefix = options.groupbase
        self.node_count = True if config is None else config.node_count
        self.verbosity = _verbosity(options) if config is None else config.verbosity
        self._diff = bool(options.diff)
        self._line_mode = bool(options.line_mode)
        self._reference: Optional[tuple[Any, list[str]]] = None
        self._harmless = {
            stream for stream in (self.out, self.err) if manner.harmless and stream.isatty()
        }
        # In this package's manner, bytes that are not text are printed as they are.
        self._decoding = ("utf-8", "replace")
        self._name: Callable[[object], str] = str
        if manner.own_words:
            self._name = _harmless_name
            self._decoding = (getattr(self.out, "encoding", None) or "utf-8", "surrogateescape")
        self._color = self._wants_color(options.whencolor, config, color)
        for name, code in (
            ("color_stdout_fmt", self.COLOR_STDOUT_FMT),
            ("color_stderr_fmt", self.COLOR_STDERR_FMT),
            ("color_diffhdr_fmt", self.COLOR_DIFFHDR_FMT),
            ("color_diffctx_fmt", self.COLOR_DIFFHNK_FMT),
            ("color_diffadd_fmt", self.COLOR_DIFFADD_FMT),
            ("color_diffdel_fmt", self.COLOR_DIFFDEL_FMT),
        ):
            setattr(self, name, code if self._color else "%s")

    color_stdout_fmt: str
    color_stderr_fmt: str
    color_diffhdr_fmt: str
    color_diffctx_fmt: str
    color_diffadd_fmt: str
    color_diffdel_fmt: str

    def _wants_color(self, when: Optional[str], config: Any, color: Optional[bool]) -> bool:
        """Option, then caller, then environment, then terminal."""
        configured = config is not None and config.color not in ("", "auto")
        if when is None and color is not False and not configured:
            color = _color_of_environment(self.out)
        if color is not None:
            return color
        if when in (None, "", "auto"):
            return bool(self.out.isatty())
        return when == "always"

    @property
    def line_mode(self) -> bool:
        """True to print lines with labels."""
        return self._line_mode

    @line_mode.setter
    def line_mode(self, value: object) -> None:
        self._line_mode = bool(value)

    # -- names --

    def _format_nodeset(self, nodes: Any) -> str:
        """The names of nodes, as groups if asked for."""
        if self.regroup and not isinstance(nodes, RawKeys):
            nodes = nodes.regroup(self.groupsource, noprefix=self.noprefix)
        return self._name(nodes)

    def counted(self, nodes: Any) -> str:
        """The names of nodes, with their number if there are several and it is wanted."""
        text = self._format_nodeset(nodes)
        if self.verbosity >= VERB_STD and self.node_count and len(nodes) > 1:
            text += f" ({len(nodes)})"
        return text

    def format_header(self, nodeset: Any, indent: int = 0) -> str:
        """The header of a block: the names between two rules; '' without labels.

        Args:
            nodeset: the nodes.
            indent: the number of blanks before each line.
        """
        if not self.label:
            return ""
        margin = " " * indent
        lines = (self.SEP, self.counted(nodeset), self.SEP)
        return self.color_stdout_fmt % "\n".join(margin + line for line in lines) + "\n"

    # -- printing --

    def text(self, content: bytes, stream: Any = None) -> str:
        """Output as text, harmless to a terminal.

        Args:
            content: the output. In ClusterShell's manner, bytes that are not UTF-8 become U+FFFD.
            stream: the stream that it is for; None: that for standard output.
        """
        text = content.decode(*self._decoding)
        harmless = (self.out if stream is None else stream) in self._harmless
        return printable(text, colours=True) if harmless else text

    def print_line(self, nodeset: object, line: bytes) -> None:
        """Print a line of standard output with its label."""
        label = self.color_stdout_fmt % f"{self._name(nodeset)}: " if self.label else ""
        self.out.write(f"{label}{self.text(line)}\n")

    def print_line_error(self, nodeset: object, line: bytes) -> None:
        """Print a line of standard error with its label, on standard error."""
        label = self.color_stderr_fmt % f"{self._name(nodeset)}: " if self.label else ""
        self.err.write(f"{label}{self.text(line, self.err)}\n")

    def print_gather(self, nodeset: Any, obj: Content) -> None:
        """Print the output of nodes.

        Args:
            nodeset: the nodes, or a pattern.
            obj: their output.
        """
        self._print(NodeSet(nodeset), obj)

    def print_gather_keys(self, keys: Iterable[str], obj: Content) -> None:
        """Print the output of names that are not read as node sets."""
        self._print(RawKeys(keys), obj)

    def print_gather_finalize(self, nodeset: Any) -> None:
        """Print the difference of nodes without output, if there is output to compare with."""
        if self._diff and not self._line_mode and self._reference is not None:
            self._print(nodeset, "")

    def flush(self) -> None:
        """Forget the output that others are compared with."""
        self._reference = None

    def _print(self, nodes: Any, content: Content) -> None:
        if self._line_mode:
            self._print_lines(nodes, content)
        else:
            self._print_buffer(nodes, content)

    def _print_buffer(self, nodes: Any, content: Content) -> None:
        """Print a block, or a difference."""
        if self._diff:
            self._print_diff(nodes, content)
        else:
            self.out.write(f"{self.format_header(nodes)}{self.text(bytes(content))}\n")  # type: ignore[arg-type]

    def _print_lines(self, nodes: Any, content: Any) -> None:
        label = self.color_stdout_fmt % f"{self._format_nodeset(nodes)}: " if self.label else ""
        for line in content:
            self.out.write(f"{label}{self.text(line)}\n")

    def _print_diff(self, nodes: Any, content: Any) -> None:
        """Print the difference from the first output, which is only kept."""
        lines = [line.decode("utf-8", "ignore") for line in content]
        if self._reference is None:
            self._reference = (nodes, lines)
            return
        import difflib

        first, first_lines = self._reference
        difference = difflib.unified_diff(
            first_lines, lines, self.counted(first), self.counted(nodes), lineterm=""
        )
        self.out.write("".join(f"{self._diff_line(line)}\n" for line in difference))

    def _diff_line(self, line: str) -> str:
        if self.out in self._harmless:
            line = printable(line, colours=True)
        if line.startswith(("---", "+++")):
            return self.color_diffhdr_fmt % line.rstrip()
        for begin, colour in (
            ("@@", self.color_diffctx_fmt),
            ("+", self.color_diffadd_fmt),
            ("-", self.color_diffdel_fmt),
        ):
            if line.startswith(begin):
                return colour % line
        return line

    # -- messages --

    def vprint(self, level: int, message: object) -> None:
        """Print a message on standard output from this verbosity on."""
        if self.verbosity >= level:
            print_line(message)

    def vprint_err(self, level: int, message: object) -> None:
        """Print a message on standard error from this verbosity on."""
        if self.verbosity >= level:
            print(message, file=sys.stderr)


def _harmless_name(nodes: object) -> str:
    return printable(str(nodes))


def _verbosity(options: optparse.Values) -> int:
    """The verbosity of -q, -v and -d: the most that is asked for."""
    if getattr(options, "debug", None):
        return VERB_DEBUG
    if getattr(options, "verbose", None):
        return VERB_VERB
    return VERB_QUIET if getattr(options, "quiet", None) else VERB_STD


def _color_of_environment(out: Any) -> Optional[bool]:
    """What NO_COLOR and CLICOLOR say about colours (no-color.org, bixense.com/clicolors)."""
    if "NO_COLOR" in os.environ:
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    wish = os.environ.get("CLICOLOR")
    if wish is None:
        return None
    return wish != "0" and bool(out.isatty())


def by_size(nodes: Any) -> tuple[int, str]:
    """A sort key of node sets: large ones first, then by the first node."""
    return -len(nodes), nodes[0]
