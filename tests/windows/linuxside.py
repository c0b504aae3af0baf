"""Programs of Linux for tests that run on Windows under wine.

A Windows process can start a program of Linux under wine, but it can neither wait for it nor learn
its status. So .ci/windows starts this module on Linux, and passes its address and a token to the
tests in the environment variable LINUX_SIDE. It runs programs for them.

Each connection is one program. The request and the two answers are lines of JSON::

    {"token": ..., "arguments": [...], "input": base64, "environment": {...}, "directory": ...}
    {"pid": 123}                                              or {"errno": 2, "path": "ssh"}
    {"status": 0, "stdout": base64, "stderr": base64}         after its end

If the connection is closed before, the program and all that it has started are killed: nothing
stays behind, however the tests end.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import re
import secrets
import select
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, Optional, Union

from tests.servers.trees import end_tree

Argument = Union[str, "os.PathLike[str]"]

VARIABLE = "LINUX_SIDE"


def reachable() -> bool:
    """True if this process is a Windows program under wine, and Linux runs programs for it."""
    return VARIABLE in os.environ


def serves(connection: socket.socket) -> bool:
    """True if a socket is connected to the Linux side: it is open while its program may run."""
    with contextlib.suppress(OSError):
        port = connection.getpeername()[1]
        return os.environ.get(VARIABLE, "").startswith(f"{port}:")
    return False


def linux_path(path: Union[str, os.PathLike[str]]) -> str:
    r"""A path as Linux's programs know it: ``/tmp/x`` for ``Z:\tmp\x``.

    Text that is no path on drive Z is returned as it is: all arguments of a command can be passed.
    """
    text = os.fspath(path)
    if isinstance(path, os.PathLike) or re.match(r"[Zz]:[\\/]|\\", text):
        text = re.sub(r"^[Zz]:", "", text).replace("\\", "/")
    return text


class LinuxProgram:
    """One program on the Linux side. It is killed at the end of the with block, or by kill().

    Attributes:
        pid: its process on Linux.
    """

    def __init__(
        self,
        arguments: Sequence[Argument],
        *,
        stdin: bytes = b"",
        environment: Optional[Mapping[str, str]] = None,
        directory: Optional[Argument] = None,
    ) -> None:
        """Start it.

        Args:
            arguments: the program and its arguments. Paths may be those of Windows.
            stdin: its standard input.
            environment: variables to add to the environment of the Linux side.
            directory: where it runs; None for the directory of the Linux side.

        Raises:
            OSError: it cannot be started: FileNotFoundError, PermissionError.
        """
        port, _, token = os.environ[VARIABLE].partition(":")
        self._connection = socket.create_connection(("127.0.0.1", int(port)))
        self._received = b""
        request = {
            "token": token,
            "arguments": [linux_path(argument) for argument in arguments],
            "input": base64.b64encode(stdin).decode("ascii"),
            "environment": dict(environment or {}),
            "directory": None if directory is None else linux_path(directory),
        }
        self._connection.sendall(json.dumps(request).encode("ascii") + b"\n")
        answer = self._answer()
        if "errno" in answer:
            self.kill()
            raise OSError(answer["errno"], os.strerror(answer["errno"]), answer["path"])
        self.pid: int = answer["pid"]

    def __enter__(self) -> LinuxProgram:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def _answer(self, timeout: Optional[float] = None) -> dict[str, Any]:
        while b"\n" not in self._received:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise TimeoutError(f"no answer of the Linux side in {timeout} s")
            data = self._connection.recv(1 << 16)
            if not data:
                raise ConnectionError("the Linux side has hung up")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait(self, timeout: Optional[float] = None) -> subprocess.CompletedProcess[bytes]:
        """Wait for its end.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            Its status and output.

        Raises:
            TimeoutError: it still runs.
        """
        answer = self._answer(timeout)
        self._connection.close()
        return subprocess.CompletedProcess(
            [], answer["status"], *(base64.b64decode(answer[name]) for name in ("stdout", "stderr"))
        )

    def kill(self) -> None:
        """Kill it and everything that it started, and wait until they are gone."""
        if self._connection.fileno() < 0:
            return
        self._connection.shutdown(socket.SHUT_WR)
        while self._connection.recv(1 << 16):
            pass
        self._connection.close()


def run(
    arguments: Sequence[Argument], *, timeout: Optional[float] = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a program on the Linux side and wait for its end. See LinuxProgram.

    Args:
        arguments: the program and its arguments.
        timeout: seconds until it is killed and TimeoutError is raised.
        options: those of LinuxProgram.
    """
    with LinuxProgram(arguments, **options) as program:
        done = program.wait(timeout)
    done.args = list(arguments)
    return done


# -- the server ------------------------------------------------------------------------------------


class _Request(socketserver.StreamRequestHandler):
    """One connection: one program."""

    server: _Server

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line:
            return
        request = json.loads(line)
        if not hmac.compare_digest(request["token"], self.server.token):
            return
        # Files, not pipes: a daemon that the program leaves behind would keep a pipe open.
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            try:
                program = subprocess.Popen(
                    request["arguments"],
                    stdin=subprocess.PIPE,
                    stdout=stdout,
                    stderr=stderr,
                    env={**os.environ, **request["environment"]},
                    cwd=request["directory"],
                    start_new_session=True,
                )
            except OSError as error:
                self._answer(errno=error.errno, path=error.filename)
                return
            self._answer(pid=program.pid)
            watch = threading.Thread(target=self._kill_when_left, args=(program,), daemon=True)
            watch.start()
            program.communicate(base64.b64decode(request["input"]))
            self._answer(status=program.returncode, stdout=_text(stdout), stderr=_text(stderr))
            watch.join()

    def _kill_when_left(self, program: subprocess.Popen[bytes]) -> None:
        self.rfile.read()
        end_tree(program)

    def _answer(self, **answer: Any) -> None:
        with contextlib.suppress(ConnectionError):  # the client has not waited for it
            self.wfile.write(json.dumps(answer).encode("ascii") + b"\n")


def _text(file: IO[bytes]) -> str:
    """The contents of a file, in base64."""
    file.seek(0)
    return base64.b64encode(file.read()).decode("ascii")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.token = secrets.token_hex(16)


def main() -> None:
    """Serve until standard input ends; print the value of LINUX_SIDE first."""
    with _Server() as server:
        print(f"{server.server_address[1]}:{server.token}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()
        server.shutdown()


if __name__ == "__main__":
    main()
