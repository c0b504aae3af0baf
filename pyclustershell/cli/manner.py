"""The two manners of the programs: that of ClusterShell's names, and that of this package's names.

Under ClusterShell's names (``clush``, ``nodeset``, ``cluset``, ``clubak``) scripts expect its
output and its exit statuses. Under this package's names (``pyclush``, ``pynodeset``, ``pyclubak``)
they do what a careful user wants. There is one program for both; where they differ, it asks its
manner. docs/manners.md has the table.
"""

from __future__ import annotations

from typing import NamedTuple

from ..version import __version__


class Manner(NamedTuple):
    """Where the programs differ between the two sets of names."""

    #: The version that --version prints after the program's name.
    version: str
    #: True: errors are in this package's words: the input, the cause and the solution; wrong usage
    #: is one line, with a hint at --help. False: in ClusterShell's words and lines.
    own_words: bool
    #: The exit status after the reader of standard output has gone.
    closed_pipe: int
    #: True: a terminal gets control characters by name, such as ^[.
    harmless: bool
    #: True: options may also follow the operands. False: the first operand ends them.
    options_anywhere: bool
    #: True: clush reports failures at the end, once for each cause, and exits with 1 if a node
    #: failed. False: it reports each when it happens, and exits with 0.
    sums_up: bool
    #: True: a set operation before the first operand applies to all operands. False: it applies to
    #: the nodes there are before them, which are none without -a and standard input.
    operations_wait: bool
    #: True: an operation with an empty standard input is done, and "-" may be given again. False:
    #: it is not done.
    empty_input_counts: bool
    #: True: a group file or source with a fault is skipped with a warning. False: it is an error.
    skip_faulty_groups: bool
    #: True: lines that name no node are skipped with a warning, and the exit status is 1.
    #: False: the first of them is an error.
    skip_bad_lines: bool
    #: True: a blank that follows the separator is not part of the line. False: it is.
    blank_is_separator: bool


#: Under ClusterShell's names.
CLUSTERSHELL = Manner(
    version="1.10.1",
    own_words=False,
    closed_pipe=1,
    harmless=False,
    options_anywhere=False,
    sums_up=False,
    operations_wait=False,
    empty_input_counts=False,
    skip_faulty_groups=False,
    skip_bad_lines=False,
    blank_is_separator=False,
)

#: Under this package's own names.
OWN = Manner(
    version=__version__,
    own_words=True,
    closed_pipe=141,  # 128 + SIGPIPE: the status of a program that the signal ended
    harmless=True,
    options_anywhere=True,
    sums_up=True,
    operations_wait=True,
    empty_input_counts=True,
    skip_faulty_groups=True,
    skip_bad_lines=True,
    blank_is_separator=True,
)
