"""``pyclush``: run a command on many nodes, and print or gather what they say; or copy files.

The options are those of ClusterShell's ``clush``, as far as they go. Exit status: 0 when every node
answered with 0, else 1; with -S the largest of the nodes' (255 for a node that could not be
reached or timed out); 2 for wrong usage; 130 after Ctrl-C; 141 when nobody reads the output.
"""

from __future__ import annotations

import optparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Optional

from ..event import EventHandler
from ..exceptions import (
    ConfigurationError,
    NodeSetException,
    PyClusterShellError,
    RangeSetException,
)
from ..nodeset import NodeSet
from ..printable import printable
from ..version import __version__
from .display import Display

if TYPE_CHECKING:
    from ..task import Task
    from ..worker.ssh import WorkerSsh

PROGRAM = "pyclush"

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as of a program that a signal ended
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
# What -S makes of a node that has no exit status.
RC_UNREACHABLE = 255


class Parser(optparse.OptionParser):
    """The command line's parser.

    optparse, because the values of -o begin with a dash, which argparse does not allow.
    """

    def error(self, msg: str) -> NoReturn:
        """Say what is wrong, and exit with status 2."""
        self.exit(EXIT_USAGE, f"{PROGRAM}: {msg}\nTry '{PROGRAM} --help' for more.\n")


class UsageError(Exception):
    """The command line is wrong; the message names the input and says what to do."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run ``pyclush``.

    Args:
        argv: the arguments after the program's name; by default, the process's.

    Returns:
        The exit status.

    Raises:
        SystemExit: usage was asked for, or was wrong (2).
    """
    parser = make_parser()
    options, words = parser.parse_args(sys.argv[1:] if argv is None else list(argv))
    try:
        return run(options, words)
    except UsageError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return EXIT_BROKEN_PIPE
    except (PyClusterShellError, OSError) as error:
        print(printable(f"{PROGRAM}: {error}"), file=sys.stderr)
        return EXIT_FAILED


def make_parser() -> Parser:
    """The parser of pyclush's options."""
    parser = Parser(
        prog=PROGRAM,
        usage="%prog -w NODES [options] COMMAND\n"
        "       %prog -w NODES [options] --copy|--rcopy SOURCE... [--dest PATH]",
        version=f"%prog {__version__}",
        description="Run COMMAND on many nodes over SSH. The words of COMMAND are joined by "
        "blanks and given to the shell of each node; its standard input is empty. Or copy files "
        "and directories to the nodes or back, over SFTP.",
    )
    parser.disable_interspersed_args()
    add = parser.add_option
    add(
        "-w",
        dest="nodes",
        metavar="NODES",
        action="append",
        default=[],
        help="nodes to run on, such as 'node[1-8],login'; can be repeated",
    )
    add(
        "-x",
        dest="excluded",
        metavar="NODES",
        action="append",
        default=[],
        help="nodes to leave out; can be repeated",
    )
    add("-f", dest="fanout", metavar="NUMBER", help="run on so many nodes at once (default: 64)")
    add(
        "-t",
        dest="connect_timeout",
        metavar="SECONDS",
        help="time to connect to a node (default: 10)",
    )
    add(
        "-u",
        dest="command_timeout",
        metavar="SECONDS",
        help="time for the command on a node (default: no limit)",
    )
    add("-l", dest="user", metavar="USER", help="log in as this user")
    add(
        "-o",
        dest="ssh_options",
        metavar="OPTIONS",
        action="append",
        default=[],
        help="options of ssh, such as '-F my_ssh_config'; can be repeated",
    )
    add(
        "-b",
        dest="gather",
        action="store_true",
        default=False,
        help="gather: print what nodes have in common once, at the end",
    )
    add(
        "-S",
        dest="largest",
        action="store_true",
        default=False,
        help="exit with the largest of the nodes' exit statuses",
    )
    add(
        "-q",
        dest="quiet",
        action="store_true",
        default=False,
        help="quiet: only what the nodes print, no counts and no summary",
    )
    add(
        "-v",
        dest="verbose",
        action="store_true",
        default=False,
        help="verbose: with -b, lines as they come, too; what ssh would say of failures",
    )
    add(
        "--raw",
        dest="raw",
        action="store_true",
        default=False,
        help="print what nodes say as it is on a terminal, too; otherwise, control characters are "
        "shown as ^[ and the like there, and only colours are let through",
    )
    add(
        "-c",
        "--copy",
        action="callback",
        callback=_begin_sources,
        callback_args=("copy",),
        help="copy the SOURCEs, files and directories of this host, to the nodes",
    )
    add(
        "--rcopy",
        action="callback",
        callback=_begin_sources,
        callback_args=("rcopy",),
        help="copy the SOURCEs, files and directories of each node, to this host, as NAME.NODE",
    )
    add(
        "--dest",
        dest="dest",
        metavar="PATH",
        help="where to copy to (default: the SOURCE's own directory); a directory for --rcopy",
    )
    add(
        "-p",
        dest="preserve",
        action="store_true",
        default=False,
        help="copies keep modification times and modes",
    )
    add(
        "--demo",
        dest="demo",
        action="store_true",
        default=False,
        help="make the nodes up: SSH servers on 127.0.0.1 that live as long as the run",
    )
    parser.set_defaults(copying=None)
    return parser


def _begin_sources(
    _option: optparse.Option, name: str, _value: None, parser: optparse.OptionParser, way: str
) -> None:
    """-c or --rcopy: what follows are sources, and options may stand between and behind them."""
    values = parser.values
    if values is None:
        raise RuntimeError("optparse calls this while it parses")
    if values.copying not in (None, way):
        raise optparse.OptionValueError(f"{name}: copy either to the nodes or from them")
    values.copying = way
    parser.enable_interspersed_args()


def run(options: optparse.Values, words: Sequence[str]) -> int:
    """Do what the command line asks for. Returns the exit status.

    Raises:
        UsageError: the options do not make sense.
    """
    nodes = _nodes(options)
    command = " ".join(words)
    if options.copying:
        _check_copy(options, words)
    elif options.dest is not None or options.preserve:
        raise UsageError("--dest and -p are for --copy and --rcopy: say which")
    elif not command.strip():
        raise UsageError("no command: write it after the options, such as: -w node1 uname -r")
    display = Display(
        _binary(sys.stdout),
        _binary(sys.stderr),
        quiet=options.quiet,
        program=PROGRAM,
        raw=options.raw,
    )
    # Here, not at the top: --help should not wait for what it does not need.
    from ..task import task_self

    task = task_self()
    try:
        with ExitStack() as stack:
            _configure(task, options, nodes, stack)
            # Until here nothing was connected: what is wrong now is not the command line.
            if options.copying:
                _schedule_copies(task, nodes, words, display, options)
            else:
                handler = OutputHandler(display, options.gather, options.verbose)
                task.shell(command, nodes=nodes, handler=handler)
            return _execute(task, display, options)
    finally:
        # The calling thread gets a new task: this one has settings of the command line.
        task.abort(kill=True)


def _check_copy(options: optparse.Values, sources: Sequence[str]) -> None:
    from .copying import check_paths

    if not sources:
        raise UsageError(f"--{options.copying}: nothing to copy: name it behind the option")
    wrong = check_paths(sources, options.dest, reverse=options.copying == "rcopy")
    if wrong is not None:
        raise UsageError(wrong)


def _schedule_copies(
    task: Task,
    nodes: NodeSet,
    sources: Sequence[str],
    display: Display,
    options: optparse.Values,
) -> None:
    from .copying import CopyHandler, schedule_copies

    handler = CopyHandler(display, len(nodes) * len(sources), options.verbose)
    reverse = options.copying == "rcopy"
    schedule_copies(task, nodes, sources, options.dest, options.preserve, reverse, handler)


def _execute(task: Task, display: Display, options: optparse.Values) -> int:
    try:
        task.resume()
    except KeyboardInterrupt:
        display.progress("")
        if options.gather:
            _print_gathered(task, display)
        display.message("interrupted")
        return EXIT_INTERRUPTED
    if options.gather:
        _print_gathered(task, display)
    _print_summary(task, display)
    return _exit_status(task, options.largest)


# -- the command line's values --


def _nodes(options: optparse.Values) -> NodeSet:
    nodes = _parse_nodes("-w", options.nodes)
    if not nodes:
        raise UsageError("no nodes: name them with -w, such as: -w 'node[1-8]'")
    nodes.difference_update(_parse_nodes("-x", options.excluded))
    if not nodes:
        raise UsageError("-x leaves no node of those that -w names: leave out fewer")
    return nodes


def _parse_nodes(option: str, texts: Sequence[str]) -> NodeSet:
    nodes = NodeSet()
    for text in texts:
        try:
            nodes.update(NodeSet(text))
        except (NodeSetException, RangeSetException) as error:
            raise UsageError(
                f"{option} {text!r}: {error}; write nodes such as 'node[1-8],login'"
            ) from error
    return nodes


def _configure(task: Task, options: optparse.Values, nodes: NodeSet, stack: ExitStack) -> None:
    """Set the task up, and start the demonstration's servers where they are asked for."""
    task.set_default("stderr", True)
    task.set_default("stdin", False)
    # What is printed when it comes need not be kept.
    task.set_default("stdout_msgtree", options.gather)
    task.set_default("stderr_msgtree", False)
    if options.fanout is not None:
        task.set_info("fanout", _fanout(options.fanout))
    for option, key in (("-t", "connect_timeout"), ("-u", "command_timeout")):
        text = getattr(options, key)
        if text is not None:
            task.set_info(key, _seconds(option, text))
    if options.user is not None:
        task.set_info("ssh_user", options.user)
    ssh_options = list(options.ssh_options)
    if options.demo:
        ssh_options.insert(0, _start_demo(task, nodes, stack))
    if ssh_options:
        try:
            task.set_info("ssh_options", " ".join(ssh_options))
        except ConfigurationError as error:
            raise UsageError(
                f"-o {' '.join(options.ssh_options)!r}: {error}; write options as ssh takes them, "
                "such as -o '-p 2222'"
            ) from error


def _start_demo(task: Task, nodes: NodeSet, stack: ExitStack) -> str:
    from ..loopback import LoopbackCluster

    try:
        cluster = LoopbackCluster(nodes)
    except ValueError as error:
        raise UsageError(f"--demo: {error}") from error
    stack.enter_context(cluster)
    cluster.configure(task)
    return str(task.info("ssh_options"))


def _fanout(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"-f {text!r}: write how many nodes to run on at once, such as: -f 64")
    return int(text)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{option} {text!r}: write a time in seconds, such as: {option} 10")
    return seconds


# -- output --


class OutputHandler(EventHandler):
    """Prints lines as they come.

    Args:
        display: prints.
        gather: standard output is printed at the end, by somebody else.
        verbose: print it now, too, and what ssh would say of each node that failed.
    """

    def __init__(self, display: Display, gather: bool, verbose: bool) -> None:
        self._display = display
        self._live = verbose or not gather
        self._verbose = verbose

    def ev_read(self, worker: WorkerSsh, node: str, sname: str, msg: bytes) -> None:  # type: ignore[override]
        """A line has come: print it."""
        if sname == "stdout":
            if self._live:
                self._display.line(node, msg)
        elif self._verbose or worker.node_failure(node) is None:
            # Failures are in the summary: once for a thousand nodes, not a thousand times.
            self._display.error_line(node, msg)


def _common_first(item: tuple[NodeSet, object]) -> tuple[int, str]:
    """Sorts what many nodes have in common before what few have."""
    nodes = item[0]
    return -len(nodes), str(nodes)


def _print_gathered(task: Task, display: Display) -> None:
    """Print each different output once: by exit status, then the most common one first."""
    groups = [nodes for _, nodes in sorted(task.iter_retcodes(), key=lambda item: item[0])]
    # What a node printed before its time ran out, or the run was interrupted.
    ended = {node for group in groups for node in group}
    groups.append([node for _, nodes in task.iter_buffers() for node in nodes if node not in ended])
    # No keys at all would match all nodes, as in ClusterShell.
    for group in filter(None, groups):
        found = [(NodeSet.fromlist(nodes), buffer) for buffer, nodes in task.iter_buffers(group)]
        for nodes, buffer in sorted(found, key=_common_first):
            display.gathered(nodes, bytes(buffer))


def _print_summary(task: Task, display: Display) -> None:
    failures = [(NodeSet.fromlist(nodes), failure) for failure, nodes in task.iter_failures()]
    failed = {node for nodes, _ in failures for node in nodes}
    for nodes, failure in sorted(failures, key=_common_first):
        display.summary(nodes, failure.cause)
    timeouts = list(task.iter_keys_timeout())
    if timeouts:
        display.summary(NodeSet.fromlist(timeouts), "command timeout")
    for code, keys in sorted(task.iter_retcodes(), key=lambda item: item[0]):
        exited = [node for node in keys if node not in failed]
        if code and exited:
            display.summary(NodeSet.fromlist(exited), f"exited with exit code {code}")


def _exit_status(task: Task, largest: bool) -> int:
    timed_out = task.num_timeout() > 0
    code = task.max_retcode() or 0
    if largest:
        return max(code, RC_UNREACHABLE) if timed_out else code
    return EXIT_FAILED if timed_out or code else 0


def _binary(stream: object) -> BinaryIO:
    """The bytes under a text stream; what was written to it before goes first."""
    stream.flush()  # type: ignore[attr-defined]
    return stream.buffer  # type: ignore[attr-defined,no-any-return]


def _forget_output() -> None:
    """Let the interpreter's own flush at exit go nowhere, instead of into an error message."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
