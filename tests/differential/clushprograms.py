"""Runs command lines of clush, each in a forked process: ``... clushprograms WHICH``.

Reads a JSON list of command lines from standard input: [program, arguments, standard input].
Prints a JSON list of results: [exit status, standard output, standard error]. Texts stand for
bytes.

A fork of a process that has imported everything costs far less than a new process, and has
descriptors of its own, which clush reads and forwards.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import tempfile
from typing import IO

from tests.differential.programs import Line, Result
from tests.differential.run import OURS
from tests.helpers.measured import save

#: The descriptors of a program, and how they are opened.
MODES = ((0, "rb"), (1, "wb"), (2, "wb"))


def main() -> None:
    """Run the command lines of standard input."""
    if sys.argv[1] == OURS:
        from pyclustershell.compat import install_as_clustershell

        install_as_clustershell()
        importlib.import_module("pyclustershell.cli.clushsession")
        importlib.import_module("pyclustershell.worker.ssh")
    importlib.import_module("ClusterShell.CLI.Clush")
    lines: list[Line] = json.load(sys.stdin)
    json.dump([run(arguments, text) for _, arguments, text in lines], sys.stdout)


def run(arguments: list[str], text: str) -> Result:
    """Run one command line in a process of its own."""
    with tempfile.TemporaryFile() as data, tempfile.TemporaryFile() as out:
        with tempfile.TemporaryFile() as err:
            data.write(text.encode("utf-8", "surrogateescape"))
            data.seek(0)
            child = os.fork()
            if not child:
                _become_program(arguments, (data, out, err))
            _, state = os.waitpid(child, 0)
            status = os.waitstatus_to_exitcode(state)
            return status, _text(out), _text(err)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


def _become_program(arguments: list[str], streams: tuple[IO[bytes], IO[bytes], IO[bytes]]) -> None:
    """Run clush in this process, and end it as the interpreter would."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream.fileno(), descriptor)
    stdin, stdout, stderr = (io.FileIO(number, mode) for number, mode in MODES)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(stdin), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(stdout), "utf-8")
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(stderr), "utf-8", "backslashreplace")
    sys.argv = ["/usr/bin/clush", *arguments]
    status = 1
    try:
        importlib.import_module("ClusterShell.CLI.Clush").main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        save()
        os._exit(status)


if __name__ == "__main__":
    main()
