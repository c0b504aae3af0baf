"""The programs by name, and scripts that run them under ClusterShell's names."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Callable

from .. import platform
from .manner import CLUSTERSHELL, OWN, Manner
from .options import OptionParser
from .program import Call

#: The modules of the programs, and their manners, by name.
PROGRAMS: dict[str, tuple[str, Manner]] = {
    "clush": (".clush", CLUSTERSHELL),
    "nodeset": (".nodeset", CLUSTERSHELL),
    "cluset": (".nodeset", CLUSTERSHELL),
    "clubak": (".clubak", CLUSTERSHELL),
    "pyclush": (".clush", OWN),
    "pynodeset": (".nodeset", OWN),
    "pyclubak": (".clubak", OWN),
}

_MARK = "# Made by 'python -m pyclustershell commands'."

_SCRIPT = """{first}
{mark}
import sys

from pyclustershell.cli.wrappers import run_by_name

sys.exit(run_by_name({name!r}, sys.argv[1:]))
"""

# The longest path after "#!" that all kernels accept.
_LONGEST = 120


def run_by_name(name: str, arguments: Sequence[str]) -> int:
    """Run a program.

    Args:
        name: a name of PROGRAMS; messages begin with it.
        arguments: its arguments.

    Returns:
        The exit status.

    Raises:
        SystemExit: after --help or --version (0), or for wrong usage (2).
    """
    module, manner = PROGRAMS[name]
    sys.argv[:] = [name, *arguments]
    main: Callable[[Sequence[str], Manner], int] = import_module(module, __package__).main
    return main(arguments, manner)


def parser_of(name: str) -> OptionParser:
    """The parser of a program's command line.

    Args:
        name: a name of PROGRAMS.
    """
    module, manner = PROGRAMS[name]
    make: Callable[[Call], OptionParser] = import_module(module, __package__).make_parser
    return make(Call(name, [], manner))


def write_wrappers(directory: str) -> list[str]:
    """Write scripts named clush, nodeset, cluset and clubak that run the programs.

    Args:
        directory: where to write them; it is made if it does not exist.

    Returns:
        The paths of the scripts.

    Raises:
        FileExistsError: there is a file of that name which is no such script; nothing is written.
        OSError: a script cannot be written.
    """
    texts: dict[str, str] = {}
    for name, (_, manner) in PROGRAMS.items():
        if manner is not CLUSTERSHELL:
            continue
        path = os.path.join(directory, name)
        if platform.WINDOWS:
            texts[f"{path}-script.py"] = _script(name, "#!python")
            texts[f"{path}.cmd"] = f'@rem {_MARK}\n@"{sys.executable}" "%~dpn0-script.py" %*\n'
        else:
            texts[path] = _script(name, _first_line(sys.executable))
    write_files(texts, _MARK, 0o777)
    return list(texts)


def write_files(texts: Mapping[str, str], mark: str, mode: int = 0o666) -> None:
    """Write files, and the directories that they need.

    Args:
        texts: the text of each file, by its path.
        mark: a text that all of them have: a file without it is somebody else's.
        mode: the permissions, less those of the umask.

    Raises:
        FileExistsError: there is a file of somebody else; nothing is written.
        OSError: a file cannot be written.
    """
    for path in texts:
        if os.path.lexists(path) and not _has_mark(path, mark):
            raise FileExistsError(
                f"{path}: there is another file of this name: choose a directory without one"
            )
    for path, text in texts.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(
            path, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, mode)
        ) as file:
            file.write(text)


def _script(name: str, first: str) -> str:
    return _SCRIPT.format(first=first, mark=_MARK, name=name)


def _first_line(python: str) -> str:
    """The first lines of a script that this Python runs."""
    if len(python) <= _LONGEST and not any(char.isspace() for char in python):
        return f"#!{python}"
    # Kernels cut long paths, and paths at blanks. For sh, this is an exec; for Python, a string.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\" \"$@\"\n' '''"


def _has_mark(path: str, mark: str) -> bool:
    """True if a file was written by write_files()."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return mark in file.read(4096)
    except OSError:
        return False
