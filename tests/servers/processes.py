"""Programs that the tests start, such as sshd and ssh-keygen, on this system or beside it.

If the tests run on Windows under wine, these are programs of Linux (tests/windows/linuxside.py):
they get paths as Linux has them, see :func:`node_path`, and their processes are Linux's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Optional, Union

from tests.servers.trees import end_tree, process_runs
from tests.windows import linuxside

Argument = Union[str, "os.PathLike[str]"]

#: Directories of servers are often not in the PATH of ordinary users.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
WINDOWS = sys.platform == "win32"

#: True if programs of a POSIX system run, here or on the Linux side.
POSIX_PROGRAMS = not WINDOWS or linuxside.reachable()


def node_path(path: Argument) -> str:
    """The path of a file of this host for a program of :class:`Program`, or for a node.

    Under wine it is a path of this host as well, as long as the current drive is Z.
    """
    if linuxside.reachable():
        return linuxside.linux_path(path)
    return os.fspath(path).replace("\\", "/") if WINDOWS else os.fspath(path)


def find_program(name: str) -> Optional[str]:
    """The absolute path of a program, or None if there is none."""
    if linuxside.reachable():
        command = f'PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v {name}'
        return linuxside.run(["sh", "-c", command]).stdout.decode().strip() or None
    found = shutil.which(name, path=SEARCH_PATH)
    return None if found is None else os.path.abspath(found)


def run(
    *arguments: Argument,
    stdin: bytes = b"",
    environment: Optional[Mapping[str, str]] = None,
    directory: Optional[Argument] = None,
    check: bool = True,
    timeout: Optional[float] = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program until its end.

    Args:
        arguments: the program and its arguments.
        stdin: its standard input.
        environment: variables to add to those that it inherits.
        directory: where it runs; None for the current one.
        check: raise an error if it fails.
        timeout: seconds until it is killed; None for no limit.

    Returns:
        Its status and its output as text.

    Raises:
        subprocess.CalledProcessError: it has failed.
        TimeoutError: it was killed.
        OSError: it cannot be started.
    """
    if linuxside.reachable():
        raw = linuxside.run(
            arguments, stdin=stdin, environment=environment, directory=directory, timeout=timeout
        )
    else:
        try:
            raw = subprocess.run(
                arguments,
                input=stdin,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{arguments[0]} did not end: {error}") from None
    stdout, stderr = (data.decode(errors="surrogateescape") for data in (raw.stdout, raw.stderr))
    if check and raw.returncode:
        raise subprocess.CalledProcessError(raw.returncode, raw.args, stdout, stderr)
    return subprocess.CompletedProcess(raw.args, raw.returncode, stdout, stderr)


class Program:
    """A program that runs until end() is called, without input; its output is lost.

    Attributes:
        pid: its process, on Linux if the tests run under wine.
    """

    def __init__(
        self, *arguments: Argument, environment: Optional[Mapping[str, str]] = None
    ) -> None:
        """Start it. Ctrl-C in the terminal is for pytest only, which ends it in its own time.

        Args:
            arguments: the program and its arguments.
            environment: variables to add to those that it inherits.

        Raises:
            OSError: it cannot be started.
        """
        self._there: Optional[linuxside.LinuxProgram] = None
        self._here: Optional[subprocess.Popen[bytes]] = None
        if linuxside.reachable():
            self._there = linuxside.LinuxProgram(arguments, environment=environment)
            self.pid = self._there.pid
        else:
            self._here = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
            self.pid = self._here.pid

    def runs(self) -> bool:
        """True until it has ended."""
        if self._here is not None:
            return self._here.poll() is None
        return process_runs(self.pid)

    def end(self) -> None:
        """End it and every process that it started, and wait until they are gone."""
        if self._here is not None:
            end_tree(self._here)
        if self._there is not None:
            self._there.kill()


def remove_tree(directory: Argument) -> None:
    """Remove a directory with files that may be the nodes' account's.

    Under wine, only Linux lets root remove these.
    """
    if linuxside.reachable():
        linuxside.run(["rm", "-rf", directory])
    else:
        shutil.rmtree(directory)


def user_id() -> Optional[int]:
    """The user's number, on Linux if the tests run under wine; None on a true Windows."""
    if linuxside.reachable():
        return int(linuxside.run(["id", "-u"]).stdout)
    return None if sys.platform == "win32" else os.geteuid()


def user_name() -> str:
    """The user's name, on Linux if the tests run under wine."""
    if linuxside.reachable():
        return linuxside.run(["id", "-un"]).stdout.decode().strip()
    import pwd  # POSIX only

    return pwd.getpwuid(os.geteuid()).pw_name


def account_exists(name: str) -> bool:
    """True if the system has an account of this name."""
    if linuxside.reachable():
        return not linuxside.run(["id", "-u", name]).returncode
    import pwd  # POSIX only

    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def set_mode(path: Argument, mode: int) -> None:
    """Set the permissions of a file as Linux's programs see them."""
    if linuxside.reachable():
        done = linuxside.run(["chmod", f"{mode:o}", path])
        assert not done.returncode, done.stderr
    else:
        os.chmod(path, mode)
