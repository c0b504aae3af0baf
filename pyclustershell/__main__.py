"""``python -m pyclustershell run SCRIPT``: run a script written for ClusterShell."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from typing import Optional

from .compat import install_as_clustershell
from .version import __version__


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line.

    Args:
        arguments: without the program's name; by default, those of the process.

    Raises:
        SystemExit: the command line is wrong, or the script says so.
    """
    parser = argparse.ArgumentParser(prog="python -m pyclustershell")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run a script in which ClusterShell is this package",
        description="Run a Python script as 'python SCRIPT' does; where it imports ClusterShell, "
        "it gets this package, whether or not ClusterShell is installed.",
    )
    run.add_argument("script", metavar="SCRIPT")
    run.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not os.path.exists(options.script):
        run.error(f"there is no script {options.script}")
    run_script(options.script, options.arguments)


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a script as ``python script arguments...`` would, with this package as ClusterShell.

    Args:
        script: its path.
        arguments: what it finds in sys.argv[1:].

    Raises:
        ImportError: the real ClusterShell has been imported already.
        Exception: what the script raises.
    """
    install_as_clustershell()
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11's -P: no such directory at all
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
