"""A program's frame: its name, its streams, and the exit status of every way in which it ends."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from typing import Callable, Optional

from ..exceptions import PyClusterShellError
from ..printable import printable
from .console import obey_escapes
from .manner import Manner
from .output import Output

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT: the status of a program that the signal ended


class Failure(Exception):
    """The program cannot do what is asked for; the message names the input, the cause, the fix."""


class UsageError(Failure):
    """The command line is invalid; the message names the input and the fix."""


class Call:
    """One call of a program.

    Attributes:
        prog: the program's name in messages.
        arguments: the arguments without the program's name.
        manner: the manner to keep to.
        out: standard output.
    """

    def __init__(self, prog: str, arguments: Sequence[str], manner: Manner) -> None:
        self.prog = prog
        self.arguments = list(arguments)
        self.manner = manner
        self.out = Output(sys.stdout, manner)
        self._restore_console = obey_escapes()
        self._shown: Optional[logging.Handler] = None
        self._harmless = manner.harmless and self.out.isatty()

    def write(self, text: str) -> None:
        """Write text on standard output, harmless to a terminal. Errors as in Output.write()."""
        self.out.write(printable(text) if self._harmless else text)

    def complain(self, text: str) -> None:
        """Print a line on standard error; do nothing if it cannot be written."""
        if sys.stderr is None:
            return
        text = printable(text) if self.manner.harmless else text
        with suppress(OSError):  # There is no other place to say it; the exit status tells it.
            print(text, file=sys.stderr)

    def failure(self, error: Exception, text: str) -> Exception:
        """The exception for a wrong value of an option: in this package's words, or ClusterShell's.

        Args:
            error: the exception that ClusterShell's program prints.
            text: the message in this package's words.
        """
        return UsageError(text) if self.manner.own_words else error

    def show_warnings(self) -> None:
        """Print the package's warnings, until close(). ClusterShell's programs print none."""
        if self.manner.own_words and self._shown is None:
            self._shown = _Complaints(self)
            logging.getLogger(__package__.partition(".")[0]).addHandler(self._shown)

    def close(self) -> None:
        """Write the rest of the output. Errors as in Output.write()."""
        if self._shown is not None:
            logging.getLogger(__package__.partition(".")[0]).removeHandler(self._shown)
        try:
            self.out.flush()
        finally:
            self._restore_console()


class _Complaints(logging.Handler):
    """Prints log messages of level WARNING and above as the program's."""

    def __init__(self, call: Call) -> None:
        super().__init__(logging.WARNING)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        self._call.complain(f"{self._call.prog}: {record.getMessage()}")


def run_program(
    run: Callable[[Call], int],
    own_name: str,
    arguments: Optional[Sequence[str]],
    manner: Manner,
    bare_errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run a program: print its errors, write all of its output, and return its exit status.

    Args:
        run: the program itself; returns the exit status.
        own_name: its name in this package's manner. In ClusterShell's, a program has the name that
            it was called by.
        arguments: the arguments without the program's name; None: those of the process.
        manner: the manner to keep to.
        bare_errors: the errors that ClusterShell's program prints without its name.

    Returns:
        The exit status: 0; 1 for errors, also if output could not be written; 2 for a wrong value
        of an option; 130 after Ctrl-C; manner.closed_pipe if the reader of standard output has
        gone.

    Raises:
        SystemExit: after --help or --version (0), or for wrong usage (2).
    """
    if sys.stderr is None:
        # Closed, so nobody reads messages. The descriptor 2 is taken: else the next file would get
        # it, and what libraries print there would be written into that file.
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            return run_program(run, own_name, arguments, manner, bare_errors)
    prog = own_name if manner.own_words else os.path.basename(sys.argv[0])
    call = Call(prog, sys.argv[1:] if arguments is None else arguments, manner)
    try:
        try:
            return run(call)
        finally:
            # Here, because a failure of it decides on the exit status, and because messages of
            # errors follow the output.
            call.close()
    except BrokenPipeError:
        call.out.discard()
        return manner.closed_pipe
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        call.complain(f"{prog}: {error}\nTry '{prog} --help' for more.")
        return EXIT_USAGE
    except Exception as error:
        message = _message(call, error, bare_errors)
        if message is None:
            raise
        call.out.discard()
        call.complain(message)
        return EXIT_FAILED


def _sentence(error: Exception) -> str:
    """What an error says: the file, and the system's reason without its number."""
    if isinstance(error, PyClusterShellError) or not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def _message(
    call: Call, error: Exception, bare_errors: tuple[type[Exception], ...]
) -> Optional[str]:
    """The lines about an error; None if it is a fault of the program itself."""
    if call.manner.own_words:
        if not isinstance(error, (PyClusterShellError, OSError, UnicodeError, Failure)):
            return None
        near = ""
        if isinstance(error, PyClusterShellError):
            from .suggest import near_name

            near = near_name(error)
        return f"{call.prog}: {_sentence(error)}{near}"
    if isinstance(error, Failure):
        return f"{call.prog}: {error}"
    from .clustershellerrors import message_of

    return message_of(call.prog, error, bare_errors)
