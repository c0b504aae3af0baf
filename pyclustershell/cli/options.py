"""The options of the programs.

OptionParser and its install_*() methods have ClusterShell's names, because programs build their
command lines with them (through the alias, as ClusterShell.CLI.OptionParser).

It is based on optparse because that is the parser that ClusterShell's command lines are made for:
values that begin with a dash, options that end at the first operand, abbreviations.
"""

from __future__ import annotations

import optparse
import sys
from collections.abc import Iterator
from optparse import SUPPRESS_HELP
from typing import IO, Any, Callable, NoReturn, Optional, TextIO, Union

from ..suggestions import did_you_mean
from .manner import CLUSTERSHELL, Manner
from .output import Output

EXIT_USAGE = 2

#: The values of options such as --color. The first one stands for "not given".
THREE_CHOICES = ["", "never", "always", "auto"]

_ENGINES = ["auto", "epoll", "poll", "select"]


def _safe_string(_option: optparse.Option, name: str, value: str) -> str:
    """A value that is not empty and that is no option which lost its value."""
    if not value or value.startswith("-"):
        raise optparse.OptionValueError(f"option {name}: invalid value: {value!r}")
    return value


def _autostep(_option: optparse.Option, name: str, value: str) -> Union[int, float, str]:
    """A number of nodes, a share of them as a float, or 'auto'."""
    if value == "auto":
        return value
    try:
        return float(value[:-1]) / 100 if value.endswith("%") else int(value)
    except ValueError:
        raise optparse.OptionValueError(
            f"option {name}: invalid value: {value!r}, should be node count, node percentage or "
            "'auto'"
        ) from None


class Option(optparse.Option):
    """An option, which may also have the types 'safestring' and 'autostep'."""

    TYPES = (*optparse.Option.TYPES, "safestring", "autostep")
    TYPE_CHECKER = {  # noqa: RUF012 optparse's name and type
        **optparse.Option.TYPE_CHECKER,
        "safestring": _safe_string,
        "autostep": _autostep,
    }


class OptionParser(optparse.OptionParser):
    """The parser of a program's command line.

    Args:
        usage: the usage line; %prog stands for the program's name.
        manner: the manner of messages, and of options after operands.
        out: the stream for --help and --version; None: sys.stdout.
        kwargs: passed to optparse.OptionParser.
    """

    def __init__(
        self,
        usage: str,
        manner: Manner = CLUSTERSHELL,
        out: Union[TextIO, Output, None] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            usage=usage, version=f"%prog {manner.version}", option_class=Option, **kwargs
        )
        self._manner = manner
        self._out = out
        if not manner.options_anywhere:
            self.disable_interspersed_args()
        self.add_option(
            "-s",
            "--groupsource",
            dest="groupsource",
            type="safestring",
            help="group source of groups without a source, in place of the default one",
        )

    # -- what optparse prints --

    def error(self, msg: str) -> NoReturn:
        """Print the error, and exit with status 2.

        Raises:
            SystemExit: always.
        """
        prog = self.get_prog_name()
        if not self._manner.own_words:
            self.print_usage(sys.stderr)
            self.exit(EXIT_USAGE, f"{prog}: error: {msg}\n")
        self.exit(EXIT_USAGE, f"{prog}: {msg}\nTry '{prog} --help' for more.\n")

    def _match_long_opt(self, opt: str) -> str:
        """Find an option by its name or an abbreviation; optparse calls this."""
        try:
            return super()._match_long_opt(opt)
        except optparse.AmbiguousOptionError:
            raise
        except optparse.BadOptionError as error:
            if not self._manner.own_words:
                raise
            hint = did_you_mean(opt, self._long_opt)
            raise optparse.BadOptionError(f"{error.opt_str}{hint}") from None

    def refuse(self, theirs: str, ours: str) -> NoReturn:
        """Print an error, and exit with status 2.

        Args:
            theirs: the message in ClusterShell's words.
            ours: the message in this package's words.

        Raises:
            SystemExit: always.
        """
        self.error(ours if self._manner.own_words else theirs)

    def print_help(self, file: Optional[IO[str]] = None) -> None:  # type: ignore[override]
        """Print the help, on standard output if no other stream is given."""
        (file or self._out or sys.stdout).write(self.format_help())

    def print_version(self, file: Optional[IO[str]] = None) -> None:  # type: ignore[override]
        """Print program and version, on standard output if no other stream is given."""
        (file or self._out or sys.stdout).write(self.get_version() + "\n")

    # -- groups of options --

    def _group(self, title: str) -> optparse.OptionGroup:
        group = optparse.OptionGroup(self, title)
        self.add_option_group(group)
        return group

    def install_groupsconf_option(self) -> None:
        """Add --groupsconf."""
        self.add_option(
            "--groupsconf", metavar="FILE", help="read the group sources from this groups.conf"
        )

    def install_clush_config_options(self) -> None:
        """Add the options about clush.conf."""
        self.add_option("--conf", metavar="FILE", help="read the settings from this clush.conf")
        self.add_option(
            "-O",
            "--option",
            dest="option",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="set a key of clush.conf for this run; can be repeated",
        )

    def install_nodes_options(self) -> None:
        """Add the options that select nodes."""
        add = self._group("Nodes").add_option
        add("-w", dest="nodes", action="append", type="safestring", help="run on these nodes")
        add(
            "-x",
            dest="exclude",
            metavar="NODES",
            action="append",
            type="safestring",
            help="leave these nodes out",
        )
        add("-a", "--all", dest="nodes_all", action="store_true", help="run on all known nodes")
        add(
            "-g",
            "--group",
            dest="group",
            action="append",
            type="safestring",
            help="run on the nodes of these groups",
        )
        add(
            "-X",
            dest="exgroup",
            metavar="GROUP",
            action="append",
            type="safestring",
            help="leave the nodes of these groups out",
        )
        add("-E", "--engine", dest="engine", choices=_ENGINES, default="auto", help=SUPPRESS_HELP)
        add(
            "--hostfile",
            "--machinefile",
            dest="hostfile",
            metavar="FILE",
            action="append",
            default=[],
            help="run on the nodes that this file lists",
        )
        add(
            "--topology",
            dest="topofile",
            metavar="FILE",
            help="reach nodes through the gateways of this file",
        )
        add("--pick", dest="pick", metavar="N", type="int", help="run on N of the nodes, by chance")

    def install_display_options(
        self,
        debug_option: bool = True,
        verbose_options: bool = False,
        separator_option: bool = False,
        dshbak_compat: bool = False,
        msgtree_mode: bool = False,
    ) -> None:
        """Add the options of the display.

        Args:
            debug_option: True for -d.
            verbose_options: True for -q and -v.
            separator_option: True for clubak's -S SEPARATOR, False for clush's -S.
            dshbak_compat: True for -c as another name of -b, False for -P.
            msgtree_mode: True for clubak's -F, -T and --interpret-keys.
        """
        add = self._group("Output").add_option
        if verbose_options:
            add("-q", "--quiet", dest="quiet", action="store_true", help="print no counts")
            add("-v", "--verbose", dest="verbose", action="store_true", help="print more messages")
        if debug_option:
            add("-d", "--debug", dest="debug", action="store_true", help="print debug messages")
        add(
            "-G",
            "--groupbase",
            dest="groupbase",
            action="store_true",
            default=False,
            help="print groups without their source",
        )
        add("-L", dest="line_mode", action="store_true", help="print 'NODE: LINE', by node")
        add(
            "-N",
            dest="label",
            action="store_false",
            default=True,
            help="print no names of nodes before their output",
        )
        gather = ["-b", "--dshbak"]
        if dshbak_compat:
            gather.insert(1, "-c")
        else:
            add("-P", "--progress", dest="progress", action="store_true", help="show the progress")
        add(*gather, dest="gather", action="store_true", help="print equal output of nodes once")
        add(
            "-B",
            dest="gatherall",
            action="store_true",
            default=False,
            help="like -b, with the output on standard error",
        )
        add(
            "-r",
            "--regroup",
            dest="regroup",
            action="store_true",
            default=False,
            help="print nodes as groups if they make up whole groups",
        )
        self._add_axis(add)
        if separator_option:
            add(
                "-S",
                "--separator",
                dest="separator",
                default=":",
                help="text between node and line (default: ':')",
            )
        else:
            add(
                "-S",
                "--maxrc",
                dest="maxrc",
                action="store_true",
                help="exit with the largest exit status of the nodes",
            )
        if msgtree_mode:
            self._add_msgtree_options(add)
        add(
            "--color",
            dest="whencolor",
            choices=THREE_CHOICES,
            help="colours: never, always or auto (on a terminal)",
        )
        add("--diff", dest="diff", action="store_true", help="print differences between outputs")
        add("--outdir", dest="outdir", help="write standard output to files in this directory")
        add("--errdir", dest="errdir", help="write standard error to files in this directory")

    @staticmethod
    def _add_axis(add: Any) -> None:
        add(
            "--axis",
            dest="axis",
            metavar="RANGESET",
            help="fold these dimensions of names only, counted from 1 (negative: from the end)",
        )

    @staticmethod
    def _add_msgtree_options(add: Any) -> None:
        add(
            "-F", "--fast", dest="fast_mode", action="store_true", help="be faster, use more memory"
        )
        add(
            "-T",
            "--tree",
            dest="trace_mode",
            action="store_true",
            help="print common lines once, and indent those that differ",
        )
        add(
            "--interpret-keys",
            dest="interpret_keys",
            choices=THREE_CHOICES,
            default="auto",
            help="read names as node sets: never, always, or auto (if all of them are)",
        )

    def install_filecopy_options(self) -> None:
        """Add the options about copies."""
        add = self._group("Copies").add_option
        begin: dict[str, Any] = {"action": "callback", "callback": _begin_sources}
        add("-c", "--copy", dest="copy", **begin, help="copy the operands to the nodes")
        add("--rcopy", dest="rcopy", **begin, help="copy the operands from the nodes")
        add("--dest", dest="dest_path", metavar="PATH", help="destination of the copies")
        add(
            "-p",
            dest="preserve_flag",
            action="store_true",
            help="preserve modification times and modes",
        )

    def install_connector_options(self) -> None:
        """Add the options about connections."""
        add = self._group("Connections").add_option
        add("-f", "--fanout", dest="fanout", type="int", help="run on this many nodes at once")
        add("--grooming", dest="grooming_delay", type="float", help=SUPPRESS_HELP)
        add("-l", "--user", dest="user", type="safestring", help="log in as this user")
        add("-o", "--options", dest="options", help="options of ssh")
        add(
            "-t",
            "--connect_timeout",
            dest="connect_timeout",
            metavar="SECONDS",
            type="float",
            help="time limit for connecting to a node",
        )
        add(
            "-u",
            "--command_timeout",
            dest="command_timeout",
            metavar="SECONDS",
            type="float",
            help="time limit for the command on a node",
        )
        add("-m", "--mode", dest="mode", help="use this mode of clush.conf")
        add("-R", "--worker", dest="worker", help="how to run: ssh, exec, rsh, pdsh, or a module")
        add(
            "--remote",
            dest="remote",
            choices=("yes", "no"),
            help="no: run the command here, once for each node",
        )

    def install_nodeset_commands(self) -> None:
        """Add the commands of nodeset."""
        add = self._group("Commands").add_option
        flag: dict[str, Any] = {"action": "store_true", "default": False}
        add("-c", "--count", dest="count", **flag, help="print the number of nodes")
        add("-e", "--expand", dest="expand", **flag, help="print each node")
        add("-f", "--fold", dest="fold", **flag, help="print the nodes as one node set")
        add(
            "-l",
            "--list",
            dest="list",
            action="count",
            default=False,
            help="list the groups of a source, or those with nodes of the operands; -ll: with "
            "their nodes, -lll: and the number of these",
        )
        add(
            "-L",
            "--list-all",
            dest="listall",
            action="count",
            default=False,
            help="the same for all sources",
        )
        add("-r", "--regroup", dest="regroup", **flag, help="print the nodes as groups")
        add("--index", dest="index", metavar="NODE", help="print the position of NODE, from 0")
        add(
            "--list-sources",
            "--groupsources",
            dest="groupsources",
            **flag,
            help="list the group sources",
        )
        add("--completion", dest="completion", **flag, help=SUPPRESS_HELP)

    def install_nodeset_operations(self, note: Optional[Callable[..., None]] = None) -> None:
        """Add the set operations of nodeset.

        Args:
            note: optparse's callback for each of them; None: append them to lists.
        """
        add = self._group("Operations").add_option
        common: dict[str, Any] = {"metavar": "NODES", "type": "string"}
        if note is None:
            common.update(action="append", default=[])
        else:
            common.update(action="callback", callback=note)
        add("-x", "--exclude", dest="sub_nodes", **common, help="leave these nodes out")
        add("-i", "--intersection", dest="and_nodes", **common, help="keep only these nodes")
        add(
            "-X",
            "--xor",
            dest="xor_nodes",
            **common,
            help="keep the nodes that are in only one of both sets",
        )

    def install_nodeset_options(self) -> None:
        """Add the other options of nodeset."""
        add = self._group("Options").add_option
        add("-a", "--all", dest="all", action="store_true", help="begin with all known nodes")
        add(
            "--autostep",
            dest="autostep",
            type="autostep",
            help="fold numbers with equal distances to a-b/step, if there are at least this many: "
            "a number, a share of the nodes such as 50%, or auto: only if all fit",
        )
        add("-d", "--debug", dest="debug", action="store_true", help="print debug messages")
        add("-q", "--quiet", dest="quiet", action="store_true", help="print no warnings")
        add(
            "-R",
            "--rangeset",
            dest="rangeset",
            action="store_true",
            help="operands are numbers and ranges, such as 1-9,15",
        )
        add(
            "-G",
            "--groupbase",
            dest="groupbase",
            action="store_true",
            help="print groups without their source",
        )
        add(
            "-S",
            "--separator",
            dest="separator",
            default=" ",
            help="text between the nodes of -e (default: ' '); \\n is a newline",
        )
        add(
            "-O",
            "--output-format",
            dest="output_format",
            metavar="FORMAT",
            default="%s",
            help="text around each result, which replaces %s (default: '%s')",
        )
        add(
            "-I",
            "--slice",
            dest="slice_rangeset",
            metavar="RANGESET",
            help="keep the nodes at these positions, counted from 0",
        )
        add("--split", dest="maxsplit", metavar="N", type="int", help="print this many parts")
        add(
            "--contiguous",
            dest="contiguous",
            action="store_true",
            help="print each part with contiguous numbers",
        )
        self._add_axis(add)
        add("--pick", dest="pick", metavar="N", type="int", help="keep N of the nodes, by chance")


def option_groups(parser: optparse.OptionParser) -> Iterator[tuple[str, list[optparse.Option]]]:
    """The options that --help shows: those without a group, under the title '', then each group."""
    for title, container in [("", parser), *((it.title, it) for it in parser.option_groups)]:
        options: list[optparse.Option] = container.option_list  # type: ignore[attr-defined]
        yield title, [option for option in options if option.help != SUPPRESS_HELP]


def _begin_sources(
    option: optparse.Option, _name: str, _value: None, parser: optparse.OptionParser
) -> None:
    """Handle --copy and --rcopy: sources follow, and options may come between and after them."""
    parser.enable_interspersed_args()
    setattr(parser.values, str(option.dest), True)
