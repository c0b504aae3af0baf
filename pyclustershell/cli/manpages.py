"""Manual pages of the programs.

The options are those of the parsers; the rest is written here.
"""

from __future__ import annotations

import optparse
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Union

from ..version import __version__
from .manner import CLUSTERSHELL
from .options import option_groups
from .wrappers import PROGRAMS, parser_of, write_files

_MARK = ".\\\" Made by 'python -m pyclustershell man'."

#: A paragraph, a term with its explanation, or an example: lines that keep their form.
Term = tuple[str, str]
Lines = list[str]
Block = Union[str, Term, Lines]

#: The width of the lines of a page's source.
_WIDTH = 72

# Characters that roff replaces by others, or by nothing.
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga"}


class _Page(NamedTuple):
    """The parts of a page that its program's two manners share."""

    summary: str
    synopsis: Sequence[str]
    description: Sequence[Block]
    sections: dict[str, Sequence[Block]]
    own_status: Sequence[Block]
    status: Sequence[Block]
    examples: Lines


_CONFIG = (
    "of $CLUSTERSHELL_CFGDIR if it is set; else of /etc/clustershell, ~/.local/etc/clustershell, "
    "sys.prefix/etc/clustershell and $XDG_CONFIG_HOME/clustershell, of which later ones win"
)

_GROUP_FILES: Sequence[Block] = [
    ("groups.conf", f"The group sources: {_CONFIG}."),
]

_GROUP_ENVIRONMENT: Sequence[Block] = [
    ("CLUSTERSHELL_CFGDIR", "The only directory of configuration files."),
]

_COLORS: Sequence[Block] = [
    (
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE",
        (
            "Without --color, and without a colour in clush.conf: no colours if NO_COLOR is set; "
            "colours if CLICOLOR_FORCE is not 0; else colours on a terminal, but for CLICOLOR=0."
        ),
    )
]

_CLOSED_PIPE = ("141", "The reader of the output has gone.")
_STATUS: Sequence[Block] = [
    ("0", "Success."),
    ("1", "An error, or the reader of the output has gone."),
    ("2", "Wrong usage."),
    ("130", "Ctrl-C."),
]

_PAGES = {
    ".clush": _Page(
        "run commands on many nodes over SSH, or copy files",
        ["-w NODES [OPTION...] COMMAND", "-w NODES [OPTION...] --copy|--rcopy SOURCE..."],
        [
            (
                "The words of COMMAND are joined by blanks and passed to the shell of each node. "
                "Standard input is forwarded to all nodes, unless it is a terminal. Output is "
                "printed as it arrives, each line with the name of its node, or gathered with "
                "-b."
            ),
            (
                "NODES is a node set such as node[1-8],login. @GROUP is a group of the default "
                "group source, @SOURCE:GROUP one of another source. A comma adds nodes, ! leaves "
                "nodes out, & keeps those of both sides, and ^ those of one side only."
            ),
            (
                "The SSH configuration is that of ssh(1): ~/.ssh/config, known_hosts and the "
                "agent. No ssh program is started."
            ),
            (
                "Press Enter while a command runs to see which nodes run and which wait. Ctrl-C "
                "ends the command on all nodes."
            ),
        ],
        {
            "PROMPT": [
                "Without a command, on a terminal, there is a prompt:",
                ("COMMAND", "Run it on the nodes."),
                ("!COMMAND", "Run it on this host."),
                ("@NODES, +NODES, -NODES", "Set the nodes, add some, leave some out."),
                ("?", "Show the nodes."),
                ("=", "Begin to gather output, or cease to."),
                ("Tab", "Complete nodes and groups."),
                ("quit, Ctrl-D", "Leave."),
            ],
            "ENVIRONMENT": [*_GROUP_ENVIRONMENT, *_COLORS],
            "FILES": [
                ("clush.conf", f"Settings and modes: {_CONFIG}."),
                *_GROUP_FILES,
                ("~/.ssh/config, ~/.ssh/known_hosts", "As of ssh(1)."),
                ("~/.clush_history", "The commands of the prompt."),
            ],
        },
        [
            ("0", "The command exited with 0 on every node."),
            ("1", "A node failed, or an error."),
            ("2", "Wrong usage."),
            ("130", "Ctrl-C."),
            _CLOSED_PIPE,
            (
                "With -S: the largest exit status of the nodes; 255 for a node that could not be "
                "reached or timed out."
            ),
        ],
        [
            ("0", "The command has ended on every node, with any status."),
            *_STATUS[1:],
            (
                "With -S: the largest exit status of the nodes; 255 for a node that could not be "
                "reached or timed out."
            ),
        ],
        [
            "{prog} -b -w 'node[1-400]' uname -r",
            "{prog} -w @web -x node3 -f 10 systemctl restart nginx",
            "{prog} -w 'node[1-8]' --copy /etc/hosts --dest /etc/",
            "{prog} -w @all --rcopy /var/log/messages --dest /tmp/logs",
        ],
    ),
    ".nodeset": _Page(
        "compute with node sets, and list groups",
        ["COMMAND [OPTION...] [NODES [-x|-i|-X NODES]...]"],
        [
            (
                "Exactly one of the commands is needed. The operands are node sets such as "
                "node[1-8],login or @GROUP, and are added up. - reads nodes from standard input: "
                "any number in a line, and # begins a comment. So it is without operands."
            ),
            (
                "-x, -i and -X apply from left to right, to the nodes so far. In a pattern, a "
                "comma adds nodes, ! leaves nodes out, & keeps those of both sides, and ^ those "
                "of one side only."
            ),
        ],
        {"ENVIRONMENT": _GROUP_ENVIRONMENT, "FILES": _GROUP_FILES},
        [("0", "Success."), ("1", "An error."), *_STATUS[2:], _CLOSED_PIPE],
        _STATUS,
        [
            "{prog} -f node3 node1 node2",
            "{prog} -e -S '\\n' 'node[1-3]'",
            "{prog} -f 'node[1-9]' -x 'node[3-4]'",
            "{prog} -ll",
            "{prog} -c @web",
        ],
    ),
    ".clubak": _Page(
        "gather output that has nodes' names before its lines",
        ["[OPTION...] < FILE"],
        [
            (
                "Reads lines such as 'node1: text' from standard input, to its end, and prints "
                "them by node; with -b, equal output once, that of most nodes first. The name "
                "before the separator may be a node set."
            ),
        ],
        {"ENVIRONMENT": [*_GROUP_ENVIRONMENT, *_COLORS], "FILES": _GROUP_FILES},
        [
            ("0", "Success."),
            ("1", "An error, or lines that name no node, which are skipped."),
            *_STATUS[2:],
            _CLOSED_PIPE,
        ],
        _STATUS,
        ["pyclush -w 'node[1-8]' uname -r | {prog} -b", "{prog} -bL < log"],
    ),
}

#: The names of this package's programs, by the module of the program.
_OWN_NAMES = {module: name for name, (module, manner) in PROGRAMS.items() if manner.own_words}


def man_page(name: str) -> str:
    """The manual page of a program, in the macros of man(7).

    Args:
        name: a name of PROGRAMS.
    """
    module, manner = PROGRAMS[name]
    page = _PAGES[module]
    own = manner is not CLUSTERSHELL
    parser = parser_of(name)
    lines = [
        _MARK,
        f'.TH "{name.upper()}" "1" "" "pyclustershell {__version__}" "User Commands"',
        ".SH NAME",
        f"{name} \\- {_escaped(page.summary)}",
        ".SH SYNOPSIS",
    ]
    for number, form in enumerate(page.synopsis):
        lines += [*([".br"] if number else []), f"\\fB{name}\\fR {_escaped(form)}"]
    description = list(page.description)
    if not own:
        description.insert(
            0,
            (
                f"This is {_OWN_NAMES[module]}(1) in ClusterShell's manner: the options, the "
                "output and the exit status are those of ClusterShell 1.10.1. Options precede "
                "the operands."
            ),
        )
    lines += _section("DESCRIPTION", description)
    lines.append(".SH OPTIONS")
    for title, options in option_groups(parser):
        lines += [f".SS {title}"] if title else []
        lines += _options(options)
    for title, blocks in page.sections.items():
        lines += _section(title, blocks)
    lines += _section("EXIT STATUS", page.own_status if own else page.status)
    lines += _section("EXAMPLES", [[line.format(prog=name) for line in page.examples]])
    others = sorted(set(_OWN_NAMES.values()) - {name})
    lines += _section("SEE ALSO", [", ".join(f"{each}(1)" for each in [*others, "ssh_config"])])
    return "\n".join(lines).replace("ssh_config(1)", "ssh_config(5)") + "\n"


def write_man_pages(directory: str, names: Iterable[str]) -> list[str]:
    """Write manual pages of programs into the directory man1 of a directory.

    Args:
        directory: a directory such as /usr/local/share/man; it is made if it does not exist.
        names: the programs' names, of PROGRAMS.

    Returns:
        The paths of the pages.

    Raises:
        FileExistsError: there is another file of that name; nothing is written.
        OSError: a page cannot be written.
    """
    section = os.path.join(directory, "man1")
    pages = {os.path.join(section, f"{name}.1"): man_page(name) for name in names}
    write_files(pages, _MARK)
    return list(pages)


def _section(title: str, blocks: Iterable[Block]) -> Iterator[str]:
    yield f".SH {title}"
    begins = True
    for block in blocks:
        if isinstance(block, str):
            yield from ([] if begins else [".PP"])
            yield from _paragraph(block)
        elif isinstance(block, tuple):
            yield from (".TP", f"\\fB{_escaped(block[0])}\\fR", *_paragraph(block[1]))
        else:
            yield from (".nf", *map(_escaped, block), ".fi")
        begins = False


def _options(options: Iterable[optparse.Option]) -> Iterator[str]:
    for option in options:
        value = ""
        if option.takes_value():
            name = option.metavar or str(option.dest).upper()
            value = f" \\fI{_escaped(name)}\\fR"
        names = str(option).split("/")
        yield ".TP"
        yield ", ".join(f"\\fB{_escaped(each)}\\fR{value}" for each in names)
        yield from _paragraph(option.help or "")


def _paragraph(text: str) -> Iterator[str]:
    """Text in short lines: tools for manual pages warn of long ones."""
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _escaped(line)


def _escaped(text: str) -> str:
    """Text for a line of its own, or for a part of one."""
    text = "".join(_ESCAPES.get(char, char) for char in text)
    return f"\\&{text}" if text.startswith(".") else text
