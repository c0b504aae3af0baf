"""Runs command lines in one process: ``python -m tests.differential.programs WHICH``.

Reads a JSON list of command lines from standard input: [program, arguments, standard input].
Prints a JSON list of results: [exit status, standard output, standard error]. Texts stand for
bytes.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import random
import sys
from typing import Any

from tests.differential.run import OURS

#: The modules of ClusterShell.CLI, by program.
MODULES = {"nodeset": "Nodeset", "cluset": "Nodeset", "clubak": "Clubak"}

#: A program, its arguments, and its standard input.
Line = tuple[str, list[str], str]

#: Its exit status, its standard output, its standard error.
Result = tuple[int, str, str]

#: The exit status of a program that ends with a traceback.
TRACEBACK = 1


def main() -> None:
    """Run the command lines of standard input."""
    if sys.argv[1] == OURS:
        from pyclustershell.compat import install_as_clustershell

        install_as_clustershell()
    lines = json.load(sys.stdin)
    json.dump([run(*line) for line in lines], sys.stdout)


def run(program: str, arguments: list[str], text: str) -> Result:
    """Run one command line; the state of the process is that of a new one."""
    begin_anew()
    streams = sys.stdin, sys.stdout, sys.stderr
    data = io.BytesIO(text.encode("utf-8", "surrogateescape"))
    out, err = io.BytesIO(), io.BytesIO()
    sys.argv = [f"/usr/bin/{program}", *arguments]
    try:
        sys.stdin = io.TextIOWrapper(data, "utf-8")
        sys.stdout = io.TextIOWrapper(out, "utf-8")
        sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace")
        try:
            importlib.import_module(f"ClusterShell.CLI.{MODULES[program]}").main()
            status: Any = 0
        except SystemExit as stop:
            status = stop.code or 0
        except Exception as error:
            # Tracebacks differ: the last line is what they say.
            status = TRACEBACK
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        written = [stream.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)]
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
    return status, written[0], written[1]


def begin_anew() -> None:
    """Undo the changes that a program makes for the rest of its process."""
    defaults = importlib.import_module("ClusterShell.Defaults")
    groups = importlib.import_module("ClusterShell.NodeUtils")
    nodeset = importlib.import_module("ClusterShell.NodeSet")
    paths = defaults.config_paths("groups.conf")
    resolver = groups.GroupResolverConfig(paths, nodeset.ILLEGAL_GROUP_CHARS)
    nodeset.set_std_group_resolver(resolver)
    defaults.DEFAULTS.fold_axis = ()
    logging.root.handlers.clear()
    random.seed(1)


if __name__ == "__main__":
    main()
