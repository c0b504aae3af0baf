"""``python -m pyclustershell``: the programs, and scripts that were written for ClusterShell."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from typing import Optional

from . import platform
from .cli.wrappers import PROGRAMS, run_by_name, write_wrappers
from .compat import install_as_clustershell
from .suggestions import did_you_mean
from .version import __version__

SHELLS = ("bash", "fish", "zsh")

#: The programs with this package's names.
_OWN = [name for name, (_, manner) in PROGRAMS.items() if manner.own_words]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line.

    Args:
        arguments: the arguments without the program's name; None: those of the process.

    Raises:
        SystemExit: the command line is invalid, or the program or script exits.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in PROGRAMS:
        # The options that follow, also --help, are the program's.
        sys.exit(run_by_name(arguments[0], arguments[1:]))
    parser = argparse.ArgumentParser(prog="python -m pyclustershell")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    run = commands.add_parser(
        "run",
        help="run a script for ClusterShell on this package",
        usage="%(prog)s [-h] SCRIPT [ARGUMENT ...]\n       %(prog)s -m MODULE [ARGUMENT ...]",
        description="Run a Python script as 'python SCRIPT' does, or a module as 'python -m "
        "MODULE' does. If it imports ClusterShell, it gets this package, whether or not "
        "ClusterShell is installed.",
    )
    run.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module's name")
    run.add_argument("script", metavar="SCRIPT")
    run.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    wrappers = commands.add_parser(
        "commands",
        help="write the commands clush, nodeset, cluset and clubak",
        description="Write scripts named clush, nodeset, cluset and clubak into a directory, and "
        "their manual pages into its directory man. They run this package's programs in "
        "ClusterShell's manner. Put the directory into PATH.",
    )
    wrappers.add_argument("directory", metavar="DIR")
    completion = commands.add_parser(
        "completion",
        help="print a script that makes a shell complete the command lines of the programs",
        description="Print a script that makes a shell complete the command lines of programs. "
        'For bash, put this line into ~/.bashrc: eval "$(python -m pyclustershell completion '
        'bash)"; for zsh into ~/.zshrc, behind compinit. For fish: python -m pyclustershell '
        "completion fish | source, in ~/.config/fish/config.fish.",
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    man = commands.add_parser(
        "man",
        help="write the manual pages of the programs",
        description="Write manual pages of programs into the directory man1 of DIR.",
    )
    man.add_argument("directory", metavar="DIR", help="such as ~/.local/share/man")
    for each in (completion, man):
        each.add_argument(
            "names",
            metavar="NAME",
            nargs="*",
            help=f"the programs: {', '.join(PROGRAMS)} (default: {', '.join(_OWN)})",
        )
    for name in PROGRAMS:
        commands.add_parser(name, help=f"run {name}")
    options = parser.parse_args(arguments)
    for name in getattr(options, "names", ()):
        if name not in PROGRAMS:
            hint = did_you_mean(name, PROGRAMS)
            parser.error(f"there is no program {name!r}: write some of {', '.join(PROGRAMS)}{hint}")
    if options.command in ("commands", "man"):
        try:
            _install(options)
        except OSError as error:
            parser.exit(1, f"{parser.prog} {options.command}: {error}\n")
    elif options.command == "completion":
        from .cli.shellscripts import script

        sys.stdout.write(script(options.shell, options.names or _OWN))
    elif options.module:
        run_module(options.script, options.arguments)
    elif not os.path.exists(options.script):
        run.error(f"there is no script {options.script}")
    else:
        run_script(options.script, options.arguments)


def _install(options: argparse.Namespace) -> None:
    """Write scripts or manual pages. Raises OSError."""
    from .cli.manpages import write_man_pages

    if options.command == "man":
        write_man_pages(options.directory, options.names or _OWN)
        return
    write_wrappers(options.directory)
    if not platform.WINDOWS:
        # man(1) looks here for the pages of a program in this directory of PATH.
        write_man_pages(os.path.join(options.directory, "man"), set(PROGRAMS) - set(_OWN))


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a script as ``python script arguments...`` does, with this package as ClusterShell.

    Args:
        script: the path of the script.
        arguments: its arguments, in sys.argv[1:].

    Raises:
        ImportError: the real ClusterShell has already been imported.
        Exception: any exception of the script.
    """
    install_as_clustershell()
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):  # with -P (Python 3.11), there is no such entry
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")


def run_module(module: str, arguments: Sequence[str]) -> None:
    """Run a module as ``python -m module arguments...`` does, with this package as ClusterShell.

    Args:
        module: the name of the module, such as ClusterShell.CLI.Nodeset.
        arguments: its arguments, in sys.argv[1:].

    Raises:
        ImportError: there is no such module, or the real ClusterShell has already been imported.
        Exception: any exception of the module.
    """
    install_as_clustershell()
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
