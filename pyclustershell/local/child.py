"""Child processes whose exit status is the true one, or known to be lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar, Optional

from .. import platform
from ..engine.forking import abandon_in_child
from .group import PosixGroup, ProcessGroup, SingleProcess

#: The return code of a process whose exit status is lost.
STATUS_LOST = 255

# Why an exit status can be lost, and the cure.
_COLLECTED = (
    "its exit status is lost, because this program ignores SIGCHLD or collects the status of every "
    "child: leave SIGCHLD at signal.SIG_DFL, and wait for children by their process id"
)
_LAUNCHER_ENDED = "its exit status is lost, because the launcher that waited for it was killed"
_ABANDONED = "its exit status is its parent's, and this process was forked from it"

# The seconds between two polls of wait() with a timeout.
_FIRST_LOOK = 0.0005
_LONGEST_LOOK = 0.05

# Without the user's modules and variables for Python; with arguments of any bytes.
_PYTHON_OPTIONS = ("-I", "-S", "-X", "utf8")
_LAUNCHER = Path(__file__).with_name("launcher.py")


# Held while a process is started, and while the program forks. If a forked child inherited the pipe
# that tells Popen that the program is running, Popen would wait for the end of that child. If it
# inherited the other end of the output, the output would not end before. (Reentrant: a handler of a
# signal may fork.)
_starting = threading.RLock()


# (The child is a copy of the thread that holds it, so it can release it.)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire,
        after_in_parent=_starting.release,
        after_in_child=_starting.release,
    )


class ChildProcess(subprocess.Popen[bytes]):
    """A child process.

    If another part of the program has collected the exit status (``os.waitpid(-1)`` in a handler of
    SIGCHLD), or the system has dropped it (SIGCHLD is ignored), ``subprocess.Popen`` reports status
    0: a failed command looks like one that succeeded. So a launcher waits for the command if that
    can happen: a second process, which has SIGCHLD's default and reports the status through a pipe
    (launcher.py). It is used if SIGCHLD is ignored or has a handler, and after the first status
    that was lost (a thread may call ``os.wait()``). If a status is lost, this class sets
    :attr:`why_lost`, and :attr:`returncode` to STATUS_LOST.

    Each process has a group of its own, with its descendants: a signal reaches these as well, and
    Ctrl-C does not reach them.

    All methods may be called on any thread.

    Attributes:
        group: the process and its descendants.
        why_lost: if the process has ended and its exit status is lost, the reason and the solution;
            '' otherwise.
    """

    # True if a status was lost although SIGCHLD has its default.
    _others_collect: ClassVar[bool] = False

    def __init__(self, arguments: Any, **options: Any) -> None:
        self.why_lost = ""
        # Held to collect the status. Popen has such a lock, with a private name.
        self._collecting = threading.Lock()
        # The launcher's process id and report, if there is a launcher.
        self._launcher = 0
        self._report: Optional[IO[bytes]] = None
        # A child that is forked while this one is started would inherit its pipes, and never close
        # them.
        with _starting:
            try:
                self._start(arguments, **options)
                abandon_in_child(self)
            except BaseException:  # an interrupt as well: nobody else has the pipes
                self.close_pipes()
                raise

    def _start(self, arguments: Any, **options: Any) -> None:
        if platform.WINDOWS:
            self._start_in_job(arguments, **options)
            return
        options["start_new_session"] = platform.PROCESS_GROUPS
        if self._needs_launcher():
            self._launch(arguments, **options)
        else:
            # No buffers: abandon() would wait for the lock of one that another thread reads from.
            super().__init__(arguments, bufsize=0, **options)
        group = PosixGroup if platform.PROCESS_GROUPS else SingleProcess
        self.group: ProcessGroup = group(self.pid)

    def _start_in_job(self, arguments: Any, **options: Any) -> None:
        """Start the process on Windows, in a job: its descendants are found by nothing else."""
        from .job import CREATE_SUSPENDED, resume_in_job

        # It does not run before it is in its job: what it starts is in it as well.
        flags = CREATE_SUSPENDED | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        super().__init__(arguments, bufsize=0, creationflags=flags, **options)
        self.group = resume_in_job(self) or SingleProcess(self.pid)

    @classmethod
    def _needs_launcher(cls) -> bool:
        """True if the exit status of a child may be lost, and a launcher can be started."""
        if platform.WINDOWS:
            return False  # a process handle keeps the status
        if not cls._others_collect and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
            return False
        # In a program with an embedded or a frozen Python, this can be the program itself.
        name = os.path.basename(sys.executable or "").lower()
        return name.startswith(("python", "pypy")) and not hasattr(sys, "frozen")

    def _launch(self, arguments: Any, shell: bool = False, **options: Any) -> None:
        """Start the process through a launcher, and wait until it has started."""
        command = ["/bin/sh", "-c", arguments] if shell else list(arguments)
        locale = (options.get("env") or os.environ).get("LC_CTYPE")
        reading, writing = os.pipe()
        report = open(reading, "rb", buffering=0)  # noqa: SIM115 - closed when the status has come
        try:
            super().__init__(
                [
                    *(sys.executable, *_PYTHON_OPTIONS, str(_LAUNCHER)),
                    *(str(writing), "" if locale is None else f"={locale}", *command),
                ],
                bufsize=0,
                pass_fds=(writing,),
                **options,
            )
        except BaseException:
            report.close()
            raise
        finally:
            os.close(writing)
        self.args = arguments
        word, _, number = report.readline().decode().partition(" ")
        if word == "started":
            os.set_blocking(reading, False)
            self._launcher, self.pid, self._report = self.pid, int(number), report
            return
        report.close()
        self.close_pipes()
        super().wait()
        if word == "failed":
            raise OSError(int(number), os.strerror(int(number)), command[0])
        raise OSError(f"the launcher of commands has ended: can {sys.executable} be run?")

    def abandon(self) -> None:
        """In a forked child: the process is the parent's, it gets no signal from here."""
        self._collecting = threading.Lock()
        if self.returncode is None:
            self._lose(_ABANDONED)
        self.close_pipes()
        if self._report is not None:
            self._report.close()

    def close_pipes(self) -> None:
        """Close our ends of the process's streams."""
        for name in ("stdin", "stdout", "stderr"):
            pipe = getattr(self, name, None)  # Popen may not have begun
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _lose(self, reason: str) -> None:
        self.why_lost = reason
        self.returncode = STATUS_LOST

    def poll(self) -> Optional[int]:
        """Return the exit status, or minus the number of the signal; None if the process runs."""
        if platform.WINDOWS:
            return super().poll()  # a process handle keeps the status
        with self._collecting:
            if self.returncode is None:
                if self._report is None:
                    self._collect()
                else:
                    self._read_report(self._report)
            return self.returncode

    def _collect(self) -> None:
        """Take the status from the system, if there is one. The lock is held."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._lose(_COLLECTED)
            # Otherwise SIGCHLD is the reason, and tells by itself whether it still is.
            if signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
                ChildProcess._others_collect = True
        else:
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)

    def _read_report(self, report: IO[bytes]) -> None:
        """Take the status from the launcher, if there is one. The lock is held."""
        status: Optional[bytes] = report.read(32)  # a short write to a pipe is not divided
        if status is None:
            return  # nothing has come
        report.close()
        if status:
            self.returncode = int(status)
        else:
            self._lose(_LAUNCHER_ENDED)
        # Its last act was to close the pipe.
        with suppress(ChildProcessError):
            os.waitpid(self._launcher, 0)

    def wait(self, timeout: Optional[float] = None) -> int:
        """Wait for the end of the process; return its status as :meth:`poll` does.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            subprocess.TimeoutExpired: the process has not ended within the timeout.
        """
        if platform.WINDOWS:
            return super().wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        interval = _FIRST_LOOK
        while True:
            status = self.poll()
            if status is not None:
                return status
            if deadline is None and self._report is None and hasattr(os, "waitid"):
                self._await_end()
                continue
            left = interval if deadline is None else deadline - time.monotonic()
            if left <= 0 and timeout is not None:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(min(interval, left))
            interval = min(2 * interval, _LONGEST_LOOK)

    def _await_end(self) -> None:
        """Sleep until the process has ended, and leave its status to poll().

        Without the lock: it would keep poll() on other threads waiting.
        """
        with suppress(ChildProcessError):  # the status was collected meanwhile: see poll()
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
