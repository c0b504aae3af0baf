"""A program that runs one command and reports its exit status through a pipe: see child.py.

It is started as a script, by its path, and imports nothing of this package: it may be needed for
every command, so its start has to be short.

Its arguments are:

1. the descriptor of the pipe;
2. ``=VALUE`` if the environment has ``LC_CTYPE=VALUE``, '' if it has no such variable;
3. the command and its arguments.

It writes two lines: ``started PID`` or ``failed ERRNO``, then the exit status, or minus the number
of the signal that ended the command.
"""

from __future__ import annotations

import os
import signal
import sys


def main(pipe: int, locale: str, command: list[str]) -> None:
    """Run the command, and end this process."""
    os.set_inheritable(pipe, False)
    # If SIGCHLD is ignored, the system keeps no exit status (POSIX, sigaction). An ignored signal
    # stays ignored in the programs that a process starts.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environment = dict(os.environb)
    # Python sets LC_CTYPE at its start if the locale is C (PEP 538). The command gets the variable
    # as it was.
    environment.pop(b"LC_CTYPE", None)
    if locale:
        environment[b"LC_CTYPE"] = os.fsencode(locale[1:])
    try:
        pid = os.posix_spawnp(
            command[0],
            command,
            environment,
            # A group of its own: signals for the command do not reach this process.
            setpgroup=0,
            # Python ignores these.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        os.write(pipe, b"failed %d\n" % (error.errno or 0))
        os._exit(1)
    # The command's streams end when the command closes them.
    os.closerange(0, 3)
    os.write(pipe, b"started %d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
