"""``pyclush``: runs a command on many nodes and prints or gathers the output, or copies files.

Under ClusterShell's name it is ``clush``. Exit status of pyclush: 0 if the command exited with 0 on
every node, else 1; of clush: 0. With -S, of both: the largest exit status of the nodes (255 for a
node that could not be reached or timed out). 1 for errors; 2 for wrong usage; 130 after Ctrl-C; 141
for a broken pipe (1 in ClusterShell's manner).
"""

from __future__ import annotations

import optparse
import os
import sys
from collections.abc import Sequence
from configparser import Error as ConfigParserError
from contextlib import ExitStack
from typing import Any, Optional

from .. import platform
from ..defaults import DEFAULTS
from ..exceptions import ConfigurationError, GroupResolverSourceError, RangeSetException
from ..nodeset import NodeSet, set_std_group_resolver_config, std_group_resolver
from ..ssh.config.names import check_hostname, check_user
from ..suggestions import did_you_mean
from .clushconfig import KEYS, ClushConfig, ClushConfigError, make_config, why_unreadable
from .clushhooks import Hooks, PlainError
from .console import has_terminal
from .foldaxis import AXIS_WANTED, parse_fold_axis
from .labelled import VERB_DEBUG, VERB_STD, VERB_VERB, Display
from .manner import OWN, Manner
from .options import OptionParser
from .output import Output
from .program import EXIT_INTERRUPTED, Call, Failure, UsageError, run_program
from .suggest import near_name
from .targets import Targets

PROGRAM = "pyclush"

#: The workers of this package that start programs other than an SSH client of its own.
_NOT_SSH = ("exec", "pdsh", "popen", "rsh")

#: The options that are about SSH connections only.
_SSH_ONLY = {
    "options": "-o",
    "user": "-l",
    "ask_pass": "--ask-pass",
    "ask_passphrase": "--ask-passphrase",
    "demo": "--demo",
}

#: The options that name nodes, as words of a command.
_TARGET_OPTIONS = ("-w", "-a", "--all", "-g", "--group", "--hostfile", "--machinefile")

# Without a command, ssh starts the user's shell, which reads its commands from standard input.
_LOGIN_SHELL = "exec $SHELL"


#: The errors that ClusterShell's clush prints without its name.
BARE_ERRORS = (ClushConfigError, PlainError)


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
    return run_program(run, PROGRAM, arguments, manner, BARE_ERRORS)


def run(call: Call, hooks: Optional[Hooks] = None) -> int:
    """Run the program; returns the exit status. Errors are raised."""
    parser = make_parser(call)
    options, words = parser.parse_args(call.arguments)
    try:
        return _run(call, options, words, hooks or Hooks())
    except UsageError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        if not call.manner.own_words:
            call.complain("Keyboard interrupt.")
        return EXIT_INTERRUPTED


# -- the command line ------------------------------------------------------------------------------


def make_parser(call: Call) -> OptionParser:
    """The parser of the program's options."""
    own = call.manner.own_words
    parser = OptionParser(_usage(own), call.manner, call.out, prog=call.prog)
    parser.disable_interspersed_args()  # the options of the command are the command's
    parser.add_option(
        "-n",
        "--nostdin",
        dest="nostdin",
        action="store_true",
        help="give the command an empty standard input, and do not watch the terminal",
    )
    parser.install_groupsconf_option()
    parser.install_clush_config_options()
    parser.install_nodes_options()
    parser.install_display_options(verbose_options=True)
    parser.install_filecopy_options()
    parser.install_connector_options()
    if own:
        _install_own_options(parser)
    else:
        parser.set_defaults(
            raw=False,
            demo=False,
            json=False,
            dry_run=False,
            explain=None,
            ask_pass=False,
            ask_passphrase=False,
        )
    return parser


def _usage(own: bool) -> str:
    if not own:
        return "%prog [options] command"
    return (
        "%prog -w NODES [options] COMMAND\n"
        "       %prog -w NODES [options] --copy|--rcopy SOURCE... [--dest PATH]\n\n"
        "Run COMMAND on many nodes over SSH. The words of COMMAND are joined by blanks and passed "
        "to\nthe shell of each node; standard input is forwarded to all of them. Or copy files\n"
        "and directories to the nodes or from them, over SFTP."
    )


def _install_own_options(parser: OptionParser) -> None:
    """Add the options that only this package's program has, and change some of the others."""
    for option in (parser.get_option("-o"), parser.get_option("-w")):
        if option is not None:
            option.action, option.type = "append", "string"  # _check_names() checks names
    add = optparse.OptionGroup(parser, "Only in pyclush")
    parser.add_option_group(add)
    add.add_option(
        "--raw",
        dest="raw",
        action="store_true",
        default=False,
        help="print the nodes' output unchanged on a terminal; without --raw, control characters "
        "are shown by name there, such as ^[, and only colours pass",
    )
    add.add_option(
        "--json",
        dest="json",
        action="store_true",
        default=False,
        help="print one line for each node when it has ended, a JSON object with its results, in "
        "place of its output",
    )
    add.add_option(
        "--dry-run",
        dest="dry_run",
        action="store_true",
        default=False,
        help="print the nodes and the command or the copies; connect to nothing",
    )
    add.add_option(
        "--explain",
        dest="explain",
        metavar="NODE",
        help="print the settings of the connection to NODE, and where each comes from; connect to "
        "nothing",
    )
    add.add_option(
        "--ask-pass",
        dest="ask_pass",
        action="store_true",
        default=False,
        help="ask for the password of the connections, once; it is tried on one node first",
    )
    add.add_option(
        "--ask-passphrase",
        dest="ask_passphrase",
        action="store_true",
        default=False,
        help="ask for the passphrase of your private keys, once",
    )
    add.add_option(
        "--demo",
        dest="demo",
        action="store_true",
        default=False,
        help="start a demonstration SSH server on 127.0.0.1 for each node, for this run only",
    )


def _check_own(options: optparse.Values, words: Sequence[str]) -> None:
    """Refuse wrong values in this package's manner. Raises UsageError."""
    _check_paths_given(options)
    for text in options.option:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UsageError(f"-O {text!r}: write a key and its value, such as: -O fanout=64")
        if key.strip().lower() not in KEYS:
            hint = did_you_mean(key.strip().lower(), KEYS)
            raise UsageError(f"-O {text!r}: clush.conf has no key {key!r}{hint}")
    targets = (options.nodes, options.group, options.hostfile, options.nodes_all, options.explain)
    for word in words if not any(targets) else ():
        if word in _TARGET_OPTIONS:
            raise UsageError(
                f"{word} comes after the command: write options before it, such as: -w node1 uname"
            )
    if options.line_mode and options.diff:
        raise UsageError("--diff and -L: write one of them")
    if options.copy and options.rcopy:
        raise UsageError("--rcopy: copy either to the nodes or from them")
    if options.copy or options.rcopy:
        _check_copy(options, words)
    elif options.dest_path is not None or options.preserve_flag:
        raise UsageError("--dest and -p need --copy or --rcopy: add one of them")
    if options.fanout is not None and options.fanout < 1:
        raise UsageError(
            f"-f '{options.fanout}': write how many nodes to run on at once, such as: -f 64"
        )
    for option, seconds in (("-t", options.connect_timeout), ("-u", options.command_timeout)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UsageError(
                f"{option} '{seconds:g}': write a time in seconds, such as: {option} 10"
            )
    for option in ("gather", "gatherall", "line_mode", "diff"):
        if options.json and getattr(options, option):
            raise UsageError(
                "--json prints results in place of output: leave -b, -B, -L, --diff out"
            )
    _check_ssh_only(options)
    if options.user is not None:
        try:
            check_user(options.user)
        except ValueError as error:
            raise UsageError(str(error)) from None


def _check_paths_given(options: optparse.Values) -> None:
    """Refuse empty paths: they would count as if the option were not there."""
    paths = {
        "--conf": options.conf,
        "--dest": options.dest_path,
        "--errdir": options.errdir,
        "--explain": options.explain,
        "--groupsconf": options.groupsconf,
        "--outdir": options.outdir,
        "--topology": options.topofile,
    }
    for name in ("--hostfile",) * ("" in options.hostfile) + tuple(
        name for name, value in paths.items() if value == ""
    ):
        raise UsageError(f"{name} '': the value is empty: write it, or leave out {name}")


def _check_ssh_only(options: optparse.Values) -> None:
    """Refuse options of SSH for workers that would pass over them."""
    if options.remote == "no":
        how = "--remote no"
    elif options.worker in _NOT_SSH:
        how = f"-R {options.worker}"
    else:
        return
    for dest, name in _SSH_ONLY.items():
        if getattr(options, dest) and not (dest == "user" and how == "-R rsh"):
            hint = ": set rsh_options for rsh" if (dest, how) == ("options", "-R rsh") else ""
            raise UsageError(f"{name} is for SSH: leave out {name}, or {how}{hint}")


def _check_copy(options: optparse.Values, sources: Sequence[str]) -> None:
    from .copying import check_paths

    if not sources:
        way = "rcopy" if options.rcopy else "copy"
        raise UsageError(f"--{way}: nothing to copy: name the sources after the option")
    wrong = check_paths(sources, options.dest_path, reverse=bool(options.rcopy))
    if wrong is not None:
        raise UsageError(wrong)


# -- the run ---------------------------------------------------------------------------------------


def _run(call: Call, options: optparse.Values, words: Sequence[str], hooks: Hooks) -> int:
    own = call.manner.own_words
    if own:
        options.options = " ".join(options.options or ())
        _check_own(options, words)
    set_std_group_resolver_config(options.groupsconf)
    resolver = std_group_resolver()
    resolver.strict = not call.manner.skip_faulty_groups
    config = _make_config(call, options)
    _start_logging(call, config.verbosity)
    display = _make_display(call, options, config)
    if options.groupsource:
        try:
            resolver.default_source_name = options.groupsource
        except GroupResolverSourceError as error:
            text = f"-s {options.groupsource!r}: {error}{near_name(error)}"
            raise call.failure(error, text) from None
    if options.axis:
        try:
            DEFAULTS.fold_axis = parse_fold_axis(options.axis)
        except (ValueError, RangeSetException) as error:
            raise call.failure(error, f"--axis {options.axis!r}: {AXIS_WANTED}") from None
    targets = Targets(call, options, display)
    nodes = targets.parse("--explain", options.explain) if options.explain else targets.select()
    if own:
        _check_names(nodes)
        for problem in targets.warnings:
            display.vprint_err(VERB_STD, f"{call.prog}: {problem}")
    terminal = has_terminal(sys.stdin)
    copying = options.copy or options.rcopy
    interactive = not words and not copying and not options.explain and terminal
    if interactive and options.nostdin:
        raise UsageError("illegal option `--nostdin' in that case")
    if copying and not words:
        raise UsageError("--[r]copy option requires at least one argument")
    if own and not (interactive or copying or options.explain or " ".join(words).strip()):
        raise UsageError("no command: write it after the options, such as: -w node1 uname -r")
    if options.dry_run:
        _print_plan(call, options, config, nodes, words)
        return 0
    set_fdlimit(config.fd_max, display, lower=not own)

    # Imported here: --help shall not wait for it.
    from ..task import task_self
    from .clushsession import Session

    task = task_self()
    with ExitStack() as stack:
        try:
            watching = hooks.interaction or (
                terminal and not options.nostdin and has_terminal(sys.stdout)
            )
            display.vprint(VERB_DEBUG, f"User interaction: {watching}")
            _configure(task, call, options, config, display, nodes, hooks, stack)
            session = Session(call, options, config, display, task, nodes, hooks, watching)
            session.prepare()
            if options.explain:
                from .explain import explain

                return max(explain(call, options, config, task, node) for node in nodes)
            if interactive:
                if not watching:
                    raise PlainError("interactive mode requires a tty")
                from .interactive import interact

                return interact(session)
            if copying:
                return session.copy(words)
            if not words and not options.worker:
                words = [_LOGIN_SHELL]
            return session.run(" ".join([*session.prefix, *words]), nodes)
        finally:
            # The calling thread gets a new task later: this one has the command line's settings.
            # The servers of --demo stop after this: they end the commands.
            task.abort(kill=True)
            if own:
                _print_left_running(call, display, task)


def _print_plan(
    call: Call,
    options: optparse.Values,
    config: ClushConfig,
    nodes: NodeSet,
    words: Sequence[str],
) -> None:
    """Print what a run would do."""
    call.write(f"nodes ({len(nodes)}): {nodes}\n")
    call.write(f"at once: {min(config.fanout, len(nodes))}\n")
    if options.copy or options.rcopy:
        from .copying import default_dest

        for source in words:
            dest = options.dest_path or default_dest(source)
            here, there = (source, dest) if options.copy else (dest, source)
            arrow = "->" if options.copy else "<-"
            call.write(f"copy: {here} {arrow} nodes:{there}\n")
    else:
        prefix = platform.split_words(config.command_prefix or "")
        call.write(f"command: {' '.join([*prefix, *words])}\n")


def _make_config(call: Call, options: optparse.Values) -> Any:
    """The settings of clush.conf. In this package's manner, all values are checked.

    Raises:
        Failure: a file or a value is wrong, in this package's manner; errors as in make_config().
    """
    if not call.manner.own_words:
        return make_config(options)
    try:
        config = ClushConfig(options, options.conf)
    except (ConfigParserError, OSError, UnicodeError) as error:
        place = f"--conf {options.conf!r}" if options.conf else "clush.conf"
        raise Failure(f"{place}: {why_unreadable(error)}") from None
    if options.mode:
        modes = list(config.modes())
        if options.mode not in modes:
            there_are = f": there are {', '.join(modes)}" if modes else ""
            hint = did_you_mean(options.mode, modes)
            raise UsageError(f"-m {options.mode!r}: clush.conf has no such mode{there_are}{hint}")
        config.set_mode(options.mode)
    problem = config.problem()
    if problem:
        raise UsageError(problem) if problem.startswith("-O") else Failure(problem)
    return config


def _start_logging(call: Call, verbosity: int) -> None:
    import logging

    if verbosity >= VERB_DEBUG:
        logging.basicConfig(level=logging.DEBUG)
        logging.debug("%s: STARTING DEBUG", call.prog)
    else:
        call.show_warnings()


def _make_display(call: Call, options: optparse.Values, config: ClushConfig) -> Display:
    """The display; raises UsageError if options exclude each other."""
    manner = call.manner._replace(harmless=call.manner.harmless and not options.raw)
    err: Any = Output(sys.stderr, manner) if manner.own_words else sys.stderr
    color: Optional[bool] = config.color == "always"
    if config.color in ("", "auto"):
        errors_on_terminal = options.gatherall or (sys.stderr is not None and sys.stderr.isatty())
        color = call.out.isatty() and bool(errors_on_terminal)
        if manner.own_words:
            color = None  # the environment may say more
    try:
        display = Display(options, config, color, manner, call.out, err)
    except ValueError as error:
        raise UsageError(f"option mismatch ({error})") from None
    if manner.own_words and config.color in ("", "auto") and not err.isatty():
        display.color_stderr_fmt = "%s"
    return display


def _check_names(nodes: NodeSet) -> None:
    try:
        for node in nodes:
            check_hostname(node)
    except ValueError as error:
        raise UsageError(str(error)) from None


def set_fdlimit(fd_max: int, display: Display, lower: bool = True) -> None:
    """Set the limit of open files of this process.

    Does nothing on systems without such a limit (Windows).

    Args:
        fd_max: the limit that is wanted.
        display: prints warnings.
        lower: True to lower the limit as well.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < fd_max:
        display.vprint_err(
            VERB_VERB,
            f"Warning: fd_max set to {fd_max} but max open files hard limit is {hard}",
        )
    limit = min(hard, fd_max)
    if soft == limit or (soft > limit and not lower):
        return
    display.vprint(VERB_DEBUG, f"Changing max open files soft limit from {soft} to {limit}")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError) as error:
        display.vprint_err(
            VERB_VERB, f"Warning: Failed to set max open files limit to {limit} ({error})"
        )


def _configure(
    task: Any,
    call: Call,
    options: optparse.Values,
    config: ClushConfig,
    display: Display,
    nodes: NodeSet,
    hooks: Hooks,
    stack: ExitStack,
) -> None:
    """Set the task up, and start the servers of --demo."""
    task.set_info("debug", config.verbosity >= VERB_DEBUG)
    if options.engine != "auto":
        task.set_default("engine", options.engine)
    if config.fanout < 1:
        raise ClushConfigError("Main", "fanout", f"must be at least 1, not {config.fanout}")
    task.set_info("fanout", config.fanout)
    if not call.manner.own_words or config.is_set("connect_timeout"):
        # Otherwise ssh_config decides, as it does for ssh.
        task.set_info("connect_timeout", config.connect_timeout)
    task.set_info("command_timeout", config.command_timeout)
    if not call.manner.own_words and config.fd_max > 0:
        task.set_info("fd_max", config.fd_max)
    if options.grooming_delay:
        task.set_info("grooming_delay", options.grooming_delay)
    if options.worker:
        try:
            worker = hooks.load_worker(options.worker)
        except (ImportError, AttributeError) as error:
            if call.manner.own_words:
                raise UsageError(f"-R {options.worker!r}: {error}") from None
            raise PlainError(f"Could not load worker '{options.worker}'") from None
        task.set_default("local_worker" if options.remote == "no" else "distant_worker", worker)
    elif options.topofile:
        if call.manner.own_words and not os.path.isfile(options.topofile):
            raise UsageError(f"--topology {options.topofile!r}: there is no such file")
        task.load_topology(options.topofile)
    if options.demo:
        task.set_default("auto_tree", False)  # the servers are on this host
    elif not options.worker and task.default("auto_tree") and task.topology is not None:
        root = task.topology.root
        gateways = task.topology.inner_node_count() - len(root.nodeset if root else ())
        text = f"{call.prog}: enabling tree topology ({gateways} gateways)"
        display.vprint_err(VERB_VERB, text)
    for key in ("ssh_user", "scp_options", "rsh_path", "rcp_path", "rsh_options"):
        value = getattr(config, key)
        if value:
            task.set_info(key, value)
    if call.manner.own_words and config.ssh_user:
        task.set_info("rsh_user", config.ssh_user)
    ssh_options = [config.ssh_options] if config.ssh_options else []
    if options.demo:
        ssh_options.insert(0, _start_demo(task, nodes, stack))
    if ssh_options:
        try:
            task.set_info("ssh_options", " ".join(ssh_options))
        except ConfigurationError as error:
            text = f"-o {config.ssh_options!r}: {error}"
            raise UsageError(
                f"{text}; write options as ssh takes them, such as -o '-p 2222'"
            ) from error
    # Nodes' standard error is for standard error, unless -B merges both.
    task.set_default("stderr", not options.gatherall)
    # Output that is printed at once need not be stored.
    stored = display.gather or display.line_mode or options.json
    task.set_default("stdout_msgtree", bool(stored))
    task.set_default("stderr_msgtree", options.json)


def _start_demo(task: Any, nodes: NodeSet, stack: ExitStack) -> str:
    from ..loopback import LoopbackCluster

    try:
        cluster = LoopbackCluster(nodes)
    except ValueError as error:
        raise UsageError(f"--demo: {error}") from error
    stack.enter_context(cluster)
    cluster.configure(task)
    return str(task.info("ssh_options"))


def _print_left_running(call: Call, display: Display, task: Any) -> None:
    for reason, nodes in sorted(task.iter_left_running()):
        names = display.counted(NodeSet.fromlist(nodes))
        display.vprint_err(
            VERB_STD, f"{call.prog}: {names}: the command may still be running: {reason}"
        )


if __name__ == "__main__":
    sys.exit(main())
