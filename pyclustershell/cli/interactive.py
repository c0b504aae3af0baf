"""The interactive mode of clush: a prompt, commands, and changes of the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Optional

from ..exceptions import (
    GroupResolverError,
    GroupSourceError,
    NodeSetException,
    NodeSetParseError,
    PyClusterShellError,
)
from ..nodeset import NodeSet
from .clushsession import Session
from .labelled import VERB_QUIET, VERB_STD
from .namedgroups import check_groups
from .names import node_names
from .program import EXIT_INTERRUPTED, Failure

_HISTORY = "~/.clush_history"

#: The first characters of lines that change or show the nodes.
_CHANGES = ("@", "+", "-", "?")


def interact(session: Session) -> int:
    """Read commands and run them, until the user leaves; returns the exit status."""
    session.interactive = True
    display = session.display
    session.say_on_output(VERB_STD, "Enter 'quit' to leave this interactive mode")
    with _line_editing(session) as history:
        prompt = _Prompt(session)
        while True:
            if prompt.changed:
                session.say_on_output(VERB_QUIET, f"Working with nodes: {session.nodes}")
                prompt.changed = False
            try:
                line = session.hooks.read_line(f"{session.prog}> ")
            except EOFError:
                session.say_on_output(VERB_QUIET, "")
                return session.exit_status()
            except KeyboardInterrupt:
                if not session.own:
                    raise
                session.say_on_output(VERB_QUIET, "")
                continue
            if line.strip().lower() == "quit":
                return session.exit_status()
            status = prompt.obey(line, history)
            if status == EXIT_INTERRUPTED and not session.own:
                return status
            display.out.flush()


class _Prompt:
    """Obeys the lines that the user types.

    Args:
        session: runs commands.

    Attributes:
        changed: True if the nodes are to be shown before the next prompt.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.changed = True

    def obey(self, line: str, history: Any) -> Optional[int]:
        """Run a command or change the nodes; returns the exit status of a command.

        Args:
            line: the line.
            history: the module readline, to save the history; None: there is none.
        """
        session = self._session
        first, rest = line[:1], line[1:]
        if first in _CHANGES:
            self._change(first, rest)
        elif line == "=":
            self._toggle()
        elif first == "!":
            if rest.strip():
                return session.run(rest, None)
        elif line.strip():
            if history is not None:
                with suppress(OSError):  # a history that cannot be kept stops no command
                    history.write_history_file(os.path.expanduser(_HISTORY))
            if not session.nodes:
                session.call.complain(f"{session.prog}: no nodes: name some, such as: @node[1-8]")
                return None
            return session.run(" ".join([*session.prefix, line]), session.nodes)
        return None

    def _change(self, operation: str, pattern: str) -> None:
        """Set, extend, reduce or show the nodes."""
        session = self._session
        self.changed = True
        try:
            nodes = NodeSet(pattern if operation != "?" else "")
            if session.own and operation != "?":
                problems = check_groups(pattern, excluded=operation == "-")
                for problem in problems:
                    session.call.complain(f"{session.prog}: {problem}")
                if problems and not nodes:
                    return
            if operation == "@":
                session.nodes = nodes
            elif operation == "+":
                session.nodes.update(nodes)
            elif operation == "-":
                session.nodes.difference_update(nodes)
        except NodeSetParseError as error:
            if session.own:
                session.call.complain(f"{session.prog}: {error}")
            else:
                session.call.complain("clush: nodeset parse error (ignoring)")
        except (Failure, PyClusterShellError) as error:  # an unknown group, or a failed source
            if not session.own:
                raise
            session.call.complain(f"{session.prog}: {error}")

    def _toggle(self) -> None:
        """Begin or cease to gather."""
        session = self._session
        display = session.display
        display.gather = not display.gather
        kind = "gathered" if display.gather else "standard"
        session.say_on_output(VERB_STD, f"Switching to {kind} output format")
        session.task.set_default("stdout_msgtree", bool(display.gather or display.line_mode))


# -- line editing ----------------------------------------------------------------------------------


@contextmanager
def _line_editing(session: Session) -> Iterator[Any]:
    """Keep a history, and complete names; yields the module readline, or None."""
    try:
        import readline
    except ImportError:  # Windows: its console edits lines itself
        yield None
        return
    with suppress(OSError):
        readline.read_history_file(os.path.expanduser(_HISTORY))
    readline.set_history_length(session.config.history_size)
    delimiters, completer = readline.get_completer_delims(), readline.get_completer()
    readline.set_completer_delims(" \t\n,!&^")
    readline.set_completer(_Completer(session, readline))
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield readline
    finally:
        readline.set_completer_delims(delimiters)
        readline.set_completer(completer)


class _Completer:
    """Completes the names of nodes and groups. Nothing is asked of remote hosts."""

    def __init__(self, session: Session, readline: Any) -> None:
        self._session = session
        self._readline = readline
        self._found: list[str] = []

    def __call__(self, text: str, state: int) -> Optional[str]:
        """The completion of this number; None after the last one."""
        if state == 0:
            line, begin = self._readline.get_line_buffer(), self._readline.get_begidx()
            try:
                self._found = completions(line, text, begin == 0, self._session.nodes)
            except (GroupResolverError, GroupSourceError, NodeSetException):
                self._found = []  # a source fails; a message would disturb the prompt
        return self._found[state] if state < len(self._found) else None


def completions(line: str, text: str, at_begin: bool, nodes: NodeSet) -> list[str]:
    """The words that a text may become.

    Args:
        line: the line. Its first character may change the nodes.
        text: the begin of the word.
        at_begin: True if the line begins with the word.
        nodes: the nodes that are worked with.

    Raises:
        GroupResolverError, GroupSourceError, NodeSetException: a group source fails.
    """
    operation = line[:1] if line[:1] in _CHANGES else ""
    if at_begin and not operation:
        return ["quit"] if text and "quit".startswith(text) else []
    lead = operation if at_begin else ""
    known = nodes
    if operation in ("@", "+"):  # these are about other nodes
        # If no source knows all nodes, those of the prompt are offered.
        with suppress(GroupResolverError, GroupSourceError, NodeSetException):
            known = nodes | NodeSet.fromall()
    return [lead + name for name in node_names(text[len(lead) :], known)]
