"""The commands and copies of one call of clush, and the reports about them."""

from __future__ import annotations

import optparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from .. import platform
from ..exceptions import TaskError, TopologyError
from ..nodeset import NodeSet
from ..printable import printable
from .clushconfig import ClushConfig
from .clushhooks import Hooks, PlainError, ask
from .console import has_terminal
from .jsonlines import JsonCopyHandler, JsonHandler
from .labelled import VERB_DEBUG, VERB_QUIET, VERB_STD, VERB_VERB, Display, by_size
from .outputhandlers import CopyHandler, LiveGatherHandler, NodeFiles, OutputHandler
from .program import EXIT_FAILED, EXIT_INTERRUPTED, Call, Failure
from .progress import Counter, Progress, StatusLine

if TYPE_CHECKING:
    from ..task import Task

#: The exit status that -S takes for a node that timed out.
RC_TIMEOUT = 255
_LARGEST_EXIT_STATUS = 255

#: The number of slowest nodes that -v names.
_SLOWEST = 3

#: The phases of a node that has its turn, as fields of NodeResult.
_PHASES = ("resolving", "connecting", "key_exchange", "authenticating", "opening", "running")

#: The key of a command that runs on this host.
LOCAL = "LOCAL"


class Session:
    """Runs commands and copies, one after another, and reports on each.

    Args:
        call: the call of the program.
        options: its options.
        config: the settings of clush.conf.
        display: prints the output.
        task: the task, which has been set up.
        nodes: the nodes of the command line.
        hooks: asks the user.
        watching: True if a user may press Enter while a command runs.

    Attributes:
        prefix: the words before each command.
        prog: the program's name.
        own: True in this package's manner.
        interactive: True in the interactive mode.
    """

    def __init__(
        self,
        call: Call,
        options: optparse.Values,
        config: ClushConfig,
        display: Display,
        task: Task,
        nodes: NodeSet,
        hooks: Hooks,
        watching: bool,
    ) -> None:
        self.call = call
        self.options = options
        self.config = config
        self.display = display
        self.task = task
        self.nodes = nodes
        self.hooks = hooks
        self.watching = watching
        self.interactive = False
        self.prefix = platform.split_words(config.command_prefix or "")
        self.prog = call.prog
        self.own = call.manner.own_words
        self._password: Optional[str] = None
        self._forwards = not (
            watching or options.nostdin or sys.stdin is None or sys.stdin.isatty()
        )

    def prepare(self) -> None:
        """Do what comes before the first command: say what the mode does, and ask for a password.

        Raises:
            Failure: the password of the mode cannot be read.
        """
        config, display = self.config, self.display
        display.vprint(VERB_DEBUG, f"Create STDIN worker: {self._forwards}")
        mode = self.options.mode
        if mode:
            display.vprint(VERB_DEBUG, f"ClushConfig parsed: {config.parsed}")
            display.vprint(VERB_DEBUG, f"Available run modes: {' '.join(config.modes())}")
            display.vprint(VERB_VERB, f"[{mode}] run mode activated")
        if self.prefix:
            display.vprint(VERB_VERB, f"[{mode}] command prefix: {self.prefix}")
        password = None
        if config.password_prompt:
            display.vprint(VERB_VERB, f"[{mode}] password prompt enabled")
            password = self.hooks.ask_password()
        from .sshpass import password_of

        for_ssh, self._password = password_of(config.ssh_path, password)
        if self.options.ask_pass:
            for_ssh = ask("Password of the connections: ")
        if for_ssh is not None:
            self._answer("password", for_ssh)
        if self.options.ask_passphrase:
            self._answer("passphrase", ask("Passphrase of your private keys: "))

    def _answer(self, option: str, secret: str) -> None:
        """Give an answer to all connections. A password is tried on one node first."""
        from ..ssh.config.askonce import AskOnce

        self.task.configure_ssh(**{option: AskOnce(lambda _node: secret)})

    # -- commands --

    def run(self, command: str, nodes: Optional[NodeSet]) -> int:
        """Run a command, and report on it.

        Args:
            command: the command, for a shell.
            nodes: the nodes; None for this host.

        Returns:
            The exit status of the program.
        """
        timeouts = self.config.connect_timeout, self.config.command_timeout
        self.display.vprint(
            VERB_DEBUG,
            f"clush: nodeset={nodes} fanout={self.config.fanout} "
            f'[timeout conn={timeouts[0]:.1f} cmd={timeouts[1]:.1f}] command="{command}"',
        )
        progress = self._progress(len(nodes or ()))
        handler = self._handler(nodes, progress)
        worker: Any
        limit = self.config.command_timeout
        try:
            worker = self.task.shell(
                # Not the text: an argument may have bytes that are not text in this locale.
                os.fsencode(command),
                nodes=nodes,  # type: ignore[arg-type]
                key=None if nodes is not None else LOCAL,
                handler=handler,
                timeout=limit if limit > 0 else None,
                remote=self.options.remote != "no",
                tree=False if self.options.worker else None,
                stdin=self._forwards or self._password is not None,
            )
        except TaskError as error:
            raise TopologyError(f"{error}") from error
        self._connect_input(worker)
        return self._execute(nodes, worker, handler, progress)

    def _handler(self, nodes: Optional[NodeSet], progress: Progress) -> OutputHandler:
        display, manner = self.display, self.call.manner
        gathers = bool(display.gather or display.line_mode) and nodes is not None
        if self.options.json:
            handler: OutputHandler = JsonHandler(display, self.prog, manner, progress)
        elif gathers and display.gather and display.line_mode:
            handler = LiveGatherHandler(nodes or NodeSet(), display, self.prog, manner, progress)
        else:
            live = not gathers or display.verbosity == VERB_VERB
            handler = OutputHandler(
                display, self.prog, manner, progress, live=live, ends=not gathers
            )
        if nodes is not None and (self.own or not (gathers or display.progress)):
            for sname, directory in (("stdout", display.outdir), ("stderr", display.errdir)):
                if directory:
                    handler.files[sname] = NodeFiles(directory, nodes)
        return handler

    def _progress(self, total: int, copying: bool = False) -> Progress:
        """What shows the progress of a run of so many commands or copies."""
        display = self.display
        if self.own:
            if display.verbosity == VERB_QUIET or not self._shows_progress():
                return Progress()
            return StatusLine(self.prog, sys.stderr, visible=_in_foreground)
        gathers = total > 0 and bool(display.gather or display.line_mode)
        wanted = display.progress and display.verbosity > VERB_QUIET
        if (gathers or copying) and display.verbosity in (VERB_STD, VERB_VERB):
            wanted = wanted or sys.stderr.isatty()
        if not wanted or not total:
            return Progress()
        return Counter(self.prog, sys.stderr, newline=self.interactive)

    @staticmethod
    def _shows_progress() -> bool:
        """True if standard error is a terminal that can erase a line."""
        dumb = os.environ.get("TERM", "") in ("", "dumb") and not platform.WINDOWS
        return sys.stderr is not None and sys.stderr.isatty() and not dumb

    def _connect_input(self, worker: Any) -> None:
        """Send the password, and begin to forward standard input."""
        if self._password is not None:
            worker.write(os.fsencode(self._password) + b"\n")
            if not self._forwards:
                worker.set_write_eof()
        if self._forwards:
            from .forwarding import forward_input

            forward_input(sys.stdin, worker, self._on_read_error, self._on_refused)

    def _on_read_error(self, error: OSError) -> None:
        """Standard input cannot be read. Called on the thread that reads it."""
        if self.own:
            failure = Failure(f"standard input cannot be read: {error}: use -n to do without it")
            self.task.post(_raise, failure)
        else:
            self.display.vprint(VERB_VERB, f"stdin: {error}")

    def _on_refused(self, error: Exception) -> None:
        """Standard input cannot be forwarded. Called on the thread that reads it."""
        self.task.post(_raise, error)

    def _execute(
        self, nodes: Optional[NodeSet], worker: Any, handler: OutputHandler, progress: Progress
    ) -> int:
        """Run the task until a command has ended, and report on it; returns the exit status."""
        progress.watch(self.task, len(nodes or (LOCAL,)))
        interrupted = False
        try:
            self._resume(nodes, handler)
        except KeyboardInterrupt:
            interrupted = True
            if self.own and self.watching:
                self.say_on_output(VERB_QUIET, "")  # what follows ^C has a line of its own
        progress.finish()
        gathers = nodes is not None and bool(self.display.gather or self.display.line_mode)
        if gathers and not self.display.line_mode:
            self._print_gathered(worker, interrupted)
        elif gathers and not self.display.gather:
            self._print_sorted(worker)
        self._flush()
        if self.own:
            self._print_summary(nodes)
            if nodes is not None and self.display.verbosity >= VERB_VERB:
                self._print_slowest(worker)
        else:
            self._print_ends(worker, gathers, interrupted)
        if interrupted:
            return self._report_interrupt(nodes, worker, gathers)
        return self.exit_status()

    def _resume(self, nodes: Optional[NodeSet], handler: OutputHandler) -> None:
        """Run the task, and watch the terminal meanwhile if a user may press Enter."""
        if not self.watching or sys.stdin is None or not sys.stdin.isatty():
            self.task.resume()
            return
        from .watcher import Watcher

        names = [LOCAL] if nodes is None else list(nodes)
        with Watcher(sys.stdin, lambda: self.task.post(self._print_running, names, handler)):
            self.task.resume()

    def _print_running(self, names: Sequence[str], handler: OutputHandler) -> None:
        """Say which nodes run, and which wait. Called on the task's thread."""
        ended = {*handler.ended, *self.task.iter_keys_timeout()}
        # Commands start in the order of the nodes.
        left = [name for name in names if name not in ended]
        running, waiting = left[: self.config.fanout], left[self.config.fanout :]
        handler.clear_progress()
        self.call.complain(f"{self.prog}: interrupt (^C to abort task)")
        for kind, these in (("in progress", running), ("pending", waiting)):
            if these or these is running:
                nodes = NodeSet.fromlist(these)
                self.call.complain(f"{self.prog}: {kind}({len(nodes)}): {nodes}")
        gateways = dict(self.task.iter_gateways())
        if gateways:
            names_of_gateways = NodeSet.fromlist(gateways)
            self.call.complain(
                f"{self.prog}: [tree] open gateways({len(gateways)}): {names_of_gateways}"
            )
        for gateway, behind in gateways.items():
            nodes = behind & NodeSet.fromlist(running)
            if nodes:
                self.call.complain(
                    f"{self.prog}: [tree] in progress({len(nodes)}) on {gateway}: {nodes}"
                )

    def _flush(self) -> None:
        self.display.out.flush()
        self.display.err.flush()

    # -- copies --

    def copy(self, sources: Sequence[str]) -> int:
        """Copy files and directories to the nodes or from them, and report on it.

        Returns:
            The exit status of the program.

        Raises:
            PlainError: a path of this host is missing, in ClusterShell's manner.
        """
        from .copying import default_dest

        options, nodes = self.options, self.nodes
        reverse = not options.copy
        # The slash: fail if there is a file of the directory's name.
        end = "" if reverse else os.sep
        dests = [options.dest_path or default_dest(source) + end for source in sources]
        self._check_paths([] if reverse else sources, dests if reverse else [])
        timeouts = self.config.connect_timeout, self.config.command_timeout
        self.display.vprint(
            VERB_DEBUG,
            f"clush: nodeset={nodes} fanout={self.config.fanout} [timeout conn={timeouts[0]:.1f} "
            f"cmd={timeouts[1]:.1f}] {'rcopy' if reverse else 'copy'} sources={list(sources)} "
            f"dest={dests}",
        )
        progress = self._progress(len(nodes) * len(sources), copying=True)
        if not reverse:
            progress.expect_files(sources, len(nodes))
        display = self.display
        kind = JsonCopyHandler if options.json else CopyHandler
        handler = kind(len(sources), reverse, display, self.prog, self.call.manner, progress)
        limit = timeouts[1] if timeouts[1] > 0 else None
        try:
            for source, dest in zip(sources, dests):
                self.task.copy(
                    source,
                    dest,
                    nodes,
                    handler=handler,
                    timeout=limit,
                    preserve=bool(options.preserve_flag),
                    reverse=reverse,
                    stderr=True if reverse or self.own else None,
                    tree=False if options.worker else None,
                )
        except TaskError as error:
            raise TopologyError(f"{error}") from error
        progress.watch(self.task, len(nodes) * len(sources))
        try:
            self._resume(nodes, handler)
        except KeyboardInterrupt:
            progress.finish()
            if self.own:
                self._print_summary(nodes)
            self.call.complain(f"{self.prog}: interrupted" if self.own else "Keyboard interrupt.")
            return EXIT_INTERRUPTED
        progress.finish()
        self._flush()
        if self.own:
            self._print_summary(nodes)
        else:
            self._print_timeouts(VERB_QUIET)
        return self.exit_status()

    def _check_paths(self, sources: Sequence[str], directories: Sequence[str]) -> None:
        """Check paths of this host in ClusterShell's words. Raises PlainError."""
        for path in sources:
            if not os.path.exists(path):
                raise PlainError(f'file "{path}" not found')
        for path in directories:
            if not os.path.exists(path):
                raise PlainError(f'directory "{path}" not found')
            if not os.path.isdir(path):
                raise PlainError(f'destination "{path}" is not a directory')

    # -- reports --

    @staticmethod
    def _ended(worker: Any) -> list[tuple[int, NodeSet]]:
        """The return codes, each with its nodes, in ascending order."""
        return sorted(worker.iter_retcodes(), key=lambda item: item[0])

    def _unended(self, worker: Any) -> NodeSet:
        """The nodes without a return code."""
        nodes = NodeSet.fromlist(worker.nodes)
        for _, ended in worker.iter_retcodes():
            nodes.difference_update(ended)
        return nodes

    def _print_gathered(self, worker: Any, interrupted: bool) -> None:
        """Print each different output once: by return code, that of most nodes first."""
        display = self.display
        groups = [nodes for _, nodes in self._ended(worker)]
        # The output of nodes that timed out, or that were interrupted, before their command ended.
        groups.append(self._unended(worker))
        warned = not interrupted or self.own
        for group in filter(None, groups):
            rest = NodeSet.fromlist(group)
            found = [(nodes, buffer) for buffer, nodes in worker.iter_buffers(set(group))]
            for nodes, buffer in sorted(found, key=lambda item: by_size(item[0])):
                if not warned:
                    display.vprint_err(VERB_STD, "Warning: Caught keyboard interrupt!")
                    warned = True
                display.print_gather(nodes, buffer)
                rest.difference_update(nodes)
            if rest and group is not groups[-1]:
                display.print_gather_finalize(rest)
        display.flush()

    def _print_sorted(self, worker: Any) -> None:
        """Print the lines of each node: by return code, then by node."""
        buffers = dict(worker.iter_node_buffers())
        for nodes in (*(nodes for _, nodes in self._ended(worker)), self._unended(worker)):
            for node in nodes:
                if node in buffers:
                    self.display.print_gather(node, buffers[node])

    def _print_ends(self, worker: Any, gathers: bool, interrupted: bool) -> None:
        """Print exit statuses and timeouts in ClusterShell's words."""
        display = self.display
        level = VERB_STD if display.maxrc else VERB_QUIET
        if gathers:
            for rc, nodes in worker.iter_retcodes():
                if rc:
                    names = str(nodes)
                    if len(nodes) > 1 and (display.verbosity > VERB_QUIET or interrupted):
                        names += f" ({len(nodes)})"
                    display.vprint_err(level, f"{self.prog}: {names}: exited with exit code {rc}")
        self._print_timeouts(level if gathers else VERB_QUIET)

    def _print_timeouts(self, level: int) -> None:
        timeouts = list(self.task.iter_keys_timeout())
        if timeouts:
            names = str(NodeSet.fromlist(map(str, timeouts)))
            self.display.vprint_err(level, f"{self.prog}: {names}: command timeout")

    def _ok_nodes(self) -> NodeSet:
        """The nodes on which all has ended with 0."""
        ok, failed = NodeSet(), NodeSet.fromlist(map(str, self.task.iter_keys_timeout()))
        for rc, keys in self.task.iter_retcodes():
            (failed if rc else ok).update(NodeSet.fromlist(map(str, keys)))
        return ok - failed

    def _print_summary(self, nodes: Optional[NodeSet]) -> None:
        """Print the failures by cause, in this package's manner."""
        task = self.task
        failures = [
            (NodeSet.fromlist(map(str, keys)), failure) for failure, keys in task.iter_failures()
        ]
        unreached: set[str] = set()
        for failed, failure in sorted(failures, key=lambda item: by_size(item[0])):
            unreached.update(failed)
            self._say(f"{self.display.counted(failed)}: {failure.cause}")
            if str(failure.sentence).strip() != failure.cause:
                for line in self._sentence(failure):
                    self._say(f"  {line}")
        timeouts = NodeSet.fromlist(map(str, task.iter_keys_timeout()))
        if timeouts:
            self._say(f"{self.display.counted(timeouts)}: command timeout")
        for rc, keys in sorted(task.iter_retcodes(), key=lambda item: item[0]):
            exited = NodeSet.fromlist(str(key) for key in keys if str(key) not in unreached)
            if rc and exited:
                self._say(f"{self.display.counted(exited)}: exited with exit code {rc}")
        total = len(nodes or ())
        ok = len(self._ok_nodes())
        if total and (ok < total or self.display.verbosity >= VERB_VERB):
            self._say(f"{ok} of {total} ok")

    def _print_slowest(self, worker: Any) -> None:
        """Print the nodes that took the longest, from the begin of their login to their end."""
        results = worker.results()
        if len(results) < 2:
            return
        seconds = {
            node: sum(getattr(result, phase) for phase in _PHASES)
            for node, result in results.items()
        }
        slowest = sorted(seconds, key=lambda node: -seconds[node])[:_SLOWEST]
        self._say("slowest: " + ", ".join(f"{node} {seconds[node]:.1f} s" for node in slowest))

    @staticmethod
    def _sentence(failure: Any) -> Iterator[str]:
        """The lines of the whole sentence about a failure, with the node that it is about."""
        lines = str(failure.sentence).strip().splitlines()
        yield f"{failure.node}: {lines[0]}"
        yield from lines[1:]

    def _say(self, text: str) -> None:
        """Print a line about the run as a whole, on standard error, unless quiet."""
        if self.display.verbosity >= VERB_STD:
            self.display.err.write(printable(f"{self.prog}: {text}\n"))
            self.display.err.flush()

    def _report_interrupt(self, nodes: Optional[NodeSet], worker: Any, gathers: bool) -> int:
        if nodes is None:
            unended: Any = ""
        else:
            unended = self._unended(worker)
            unended.difference_update(NodeSet.fromlist(worker.iter_keys_timeout()))
        if self.own:
            names = f": {self.display.counted(unended)} did not complete" if unended else ""
            self._say(f"interrupted{names}")
        elif unended and gathers and self.watching:
            self.call.complain(f"Keyboard interrupt ({unended} did not complete).")
        else:
            self.call.complain("Keyboard interrupt.")
        return EXIT_INTERRUPTED

    def say_on_output(self, level: int, text: str) -> None:
        """Print a line on standard output from this verbosity on."""
        if self.display.verbosity >= level:
            self.call.write(f"{text}\n")
            self.call.out.flush()

    def exit_status(self) -> int:
        """The exit status of the program after the last run."""
        timed_out = self.task.num_timeout() > 0
        largest = self.task.max_retcode() or 0
        if self.config.maxrc:
            # The system keeps eight bits: 256 would be 0. Windows nodes have such exit statuses.
            return RC_TIMEOUT if timed_out else min(largest, _LARGEST_EXIT_STATUS)
        return EXIT_FAILED if self.own and (timed_out or largest) else 0


def _in_foreground() -> bool:
    """False if the user's shell has the terminal of standard error."""
    return has_terminal(sys.stderr)


def _raise(error: Exception) -> NoReturn:
    raise error
