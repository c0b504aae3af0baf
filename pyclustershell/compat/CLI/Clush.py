"""ClusterShell.CLI.Clush.

Programs call main() in their own process, and replace ``raw_input``, ``ask_pass`` and
``_load_workerclass`` here: so they are looked up when they are called. They expect errors of main()
as exceptions, which its hook of ``sys.excepthook`` turns into ClusterShell's lines.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, Optional

from pyclustershell.cli import clush
from pyclustershell.cli.clushhooks import Hooks, ask_password, load_worker
from pyclustershell.cli.clustershellerrors import message_of
from pyclustershell.cli.manner import CLUSTERSHELL
from pyclustershell.cli.program import Call
from pyclustershell.exceptions import EngineCapacityError

__all__ = ["main", "set_fdlimit"]

set_fdlimit = clush.set_fdlimit
raw_input = input
ask_pass = ask_password


def _load_workerclass(name: str) -> Any:
    """The worker class of this name.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no worker class.
    """
    with suppress(ImportError):
        return import_module(f"ClusterShell.Worker.{name.capitalize()}").WORKER_CLASS
    return load_worker(name)


def main() -> None:
    """Run the program with the arguments of the process.

    Raises:
        SystemExit: with the exit status.
        Exception: an error, which sys.excepthook prints.
    """
    sys.excepthook = _print_error
    call = Call(os.path.basename(sys.argv[0]), sys.argv[1:], CLUSTERSHELL)
    hooks = Hooks(
        read_line=raw_input,
        ask_password=ask_pass,
        load_worker=_load_workerclass,
        interaction="_f_user_interaction" in globals(),
    )
    try:
        status = clush.run(call, hooks)
    except EngineCapacityError as error:
        raise OSError(errno.EMFILE, str(error)) from error
    finally:
        call.close()
    sys.exit(status)


def _print_error(
    kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]
) -> None:
    """Print an error that has left main(), and end the process with ClusterShell's status."""
    if isinstance(error, KeyboardInterrupt):
        message: Optional[str] = "Keyboard interrupt."
    else:
        message = message_of(os.path.basename(sys.argv[0]), error, clush.BARE_ERRORS)
    if message is None:
        sys.__excepthook__(kind, error, traceback)
        return
    # In this order: the error is the last line of all.
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{message}\n")):
        with suppress(OSError, ValueError):
            stream.write("" if isinstance(error, BrokenPipeError) else text)
            stream.flush()
    # Not sys.exit(): this is called while the interpreter ends, when it has no effect.
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


if __name__ == "__main__":
    main()
