"""Completion of command lines: what the word at the cursor may become.

The options come from the parsers of the programs, the nodes and groups from the group sources.
Nothing is asked of remote hosts. shellscripts.py has the way from a shell to here.
"""

from __future__ import annotations

import optparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Callable, NamedTuple, Optional, Union

from ..exceptions import GroupResolverError, GroupSourceError, NodeSetException
from ..nodeset import grouplist, std_group_resolver
from .groups import default_source, group_sources
from .manner import OWN
from .names import last_part, narrowed, node_names
from .options import OptionParser, option_groups
from .program import Call, Failure
from .wrappers import PROGRAMS, parser_of

#: The kinds of answers: words, or names that the shell completes itself.
WORDS, FILES, DIRECTORIES, USERS, COMMANDS = "words", "files", "directories", "users", "commands"

#: A word, and its description, which may be empty.
Word = tuple[str, str]


class Answer(NamedTuple):
    """What may stand at the cursor.

    Attributes:
        kind: WORDS, or what the shell completes itself: FILES, DIRECTORIES, USERS or COMMANDS.
        words: the words, each with its description.
    """

    kind: str = WORDS
    words: Sequence[Word] = ()


def complete(name: str, words: Sequence[str]) -> Answer:
    """What the last word of a command line may become.

    Args:
        name: the program's name, one of PROGRAMS.
        words: the arguments up to the cursor. The last one is that at the cursor.
    """
    parser = parser_of(name)
    line = _Line(parser, words[:-1])
    text = words[-1] if words else ""
    option, lead = line.pending, ""
    if option is None and line.takes_options and text.startswith("-"):
        option, value = line.option_with_value(text)
        if value is None:
            return Answer(WORDS, list(_options(parser, text)))
        lead, text = text[: len(text) - len(value)], value
    call = Call(name, words, OWN)  # what is wrong in one source hides no other source
    options = optparse.Values({"groupsconf": line.last("groupsconf")})
    try:
        with ExitStack() as stack:
            resolver = stack.enter_context(group_sources(call, options))
            stack.enter_context(default_source(resolver, line.last("groupsource")))
            answer = _operand(name, line, text) if option is None else _value(option, line, text)
    except (GroupResolverError, GroupSourceError, NodeSetException, Failure, OSError):
        return Answer()  # a message would disturb the line that the user types
    return Answer(answer.kind, [(lead + word, about) for word, about in answer.words])


class _Line:
    """The options and operands before the word at the cursor.

    Args:
        parser: the parser of the program.
        words: the words.

    Attributes:
        pending: the option whose value is the next word; None: there is none.
        takes_options: True if the next word may be an option.
        operands: the operands.
    """

    def __init__(self, parser: OptionParser, words: Iterable[str]) -> None:
        self.pending: Optional[optparse.Option] = None
        self.takes_options = True
        self.operands: list[str] = []
        self._parser = parser
        self._given: dict[Optional[str], list[str]] = {}
        anywhere = parser.allow_interspersed_args
        for word in words:
            if self.pending is not None:
                self._note(self.pending, word)
                self.pending = None
            elif not self.takes_options or not word.startswith("-") or word == "-":
                self.operands.append(word)
                self.takes_options = self.takes_options and anywhere
            elif word == "--":
                self.takes_options = False
            else:
                option, value = self.option_with_value(word)
                if option is not None and value is not None:
                    self._note(option, value)
                elif option is not None:
                    self.pending = option
                anywhere = anywhere or self.copies

    @property
    def copies(self) -> bool:
        """True if the operands are the sources of copies."""
        return "copy" in self._given or "rcopy" in self._given

    def last(self, dest: str) -> Optional[str]:
        """The value of an option that was given last, or None."""
        given = self._given.get(dest)
        return given[-1] if given else None

    def option_with_value(self, word: str) -> tuple[Optional[optparse.Option], Optional[str]]:
        """The option of a word that takes a value, and the value if the word has it.

        An option without a value is noted.
        """
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            option = self._parser.get_option(name)
            if option is not None and option.takes_value():
                return (option, value) if equals else (option, None)
            self._note(option, "")
            return None, None
        for number, letter in enumerate(word[1:], 2):
            option = self._parser.get_option(f"-{letter}")
            if option is not None and option.takes_value():
                return option, word[number:] or None
            self._note(option, "")
        return None, None

    def _note(self, option: Optional[optparse.Option], value: str) -> None:
        if option is not None:
            self._given.setdefault(option.dest, []).append(value)


def _options(parser: OptionParser, text: str) -> Iterator[Word]:
    """The options that begin with a text."""
    for _, options in option_groups(parser):
        for option in options:
            for name in str(option).split("/"):
                if name.startswith(text):
                    yield name, option.help or ""


# -- values and operands ---------------------------------------------------------------------------


def _operand(name: str, line: _Line, text: str) -> Answer:
    """What an operand may be."""
    module, _ = PROGRAMS[name]
    if module == ".clubak" or (module == ".nodeset" and line.last("rangeset") is not None):
        return Answer()
    if module == ".nodeset":
        return _words(node_names(text))
    if line.copies or line.operands:
        return Answer(FILES)
    return Answer(COMMANDS)


def _value(option: optparse.Option, line: _Line, text: str) -> Answer:
    """What the value of an option may be."""
    if option.choices:
        return _words(choice for choice in option.choices if choice.startswith(text) and choice)
    offer = VALUES[str(option.dest)]
    return offer(line, text) if callable(offer) else Answer(offer)


def _words(words: Iterable[str]) -> Answer:
    return Answer(WORDS, [(word, "") for word in words])


def _nodes(_line: _Line, text: str) -> Answer:
    return _words(node_names(text))


def _groups(_line: _Line, text: str) -> Answer:
    """The names of groups: they are a pattern as well, such as web,rack1."""
    lead, last = last_part(text)
    return _words(lead + name for name in narrowed(grouplist(), last))


def _sources(_line: _Line, text: str) -> Answer:
    return _words(name for name in std_group_resolver().sources() if name.startswith(text))


def _modes(line: _Line, text: str) -> Answer:
    from .clushconfig import ClushConfig

    config = ClushConfig(optparse.Values(), line.last("conf"))
    return _words(name for name in config.modes() if name.startswith(text))


def _keys(_line: _Line, text: str) -> Answer:
    from .clushconfig import KEYS

    return _words(f"{key}=" for key in KEYS if f"{key}=".startswith(text))


def _these(*words: str) -> Callable[[_Line, str], Answer]:
    def offer(_line: _Line, text: str) -> Answer:
        return _words(word for word in words if word.startswith(text))

    return offer


_NOTHING = _these()

#: What is offered as the value of an option, by its dest: a kind, or a function that returns the
#: answer. An option with choices needs no entry.
VALUES: dict[str, Union[str, Callable[[_Line, str], Answer]]] = {
    "and_nodes": _nodes,
    "autostep": _these("auto"),
    "axis": _NOTHING,
    "command_timeout": _NOTHING,
    "conf": FILES,
    "connect_timeout": _NOTHING,
    "dest_path": FILES,
    "errdir": DIRECTORIES,
    "exclude": _nodes,
    "exgroup": _groups,
    "explain": _nodes,
    "fanout": _NOTHING,
    "grooming_delay": _NOTHING,
    "group": _groups,
    "groupsconf": FILES,
    "groupsource": _sources,
    "hostfile": FILES,
    "index": _nodes,
    "maxsplit": _NOTHING,
    "mode": _modes,
    "nodes": _nodes,
    "option": _keys,
    "options": _NOTHING,
    "outdir": DIRECTORIES,
    "output_format": _NOTHING,
    "pick": _NOTHING,
    "separator": _NOTHING,
    "slice_rangeset": _NOTHING,
    "sub_nodes": _nodes,
    "topofile": FILES,
    "user": USERS,
    "worker": _these("ssh", "exec", "rsh", "pdsh"),
    "xor_nodes": _nodes,
}
