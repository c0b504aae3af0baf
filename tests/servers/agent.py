"""A real ssh-agent of our own, with the keys that a test wants."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from tests.helpers.needs import require

START_DEADLINE = 10.0


def _answers(path: str) -> bool:
    """True if a server listens on a socket. The file exists a little earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


class Agent:
    """A running ssh-agent.

    Attributes:
        path: its socket.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, *arguments: Union[str, Path]) -> None:
        """Give it keys, by the arguments of ssh-add."""
        environment = {**os.environ, "SSH_AUTH_SOCK": self.path}
        subprocess.run(
            ["ssh-add", "-q", *map(str, arguments)],
            env=environment,
            check=True,
            capture_output=True,
        )


@contextlib.contextmanager
def running_agent(*keys: Path) -> Iterator[Agent]:
    """Start an ssh-agent that holds these keys, in this order, and end it afterwards."""
    require("ssh-agent")
    # In a directory with a short name: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="agent-") as directory:
        path = f"{directory}/s"
        process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + START_DEADLINE
            while not _answers(path):
                assert process.poll() is None, "ssh-agent has ended"
                assert time.monotonic() < deadline, "no socket of ssh-agent's"
                time.sleep(0.01)
            agent = Agent(path)
            if keys:
                agent.add(*keys)
            yield agent
        finally:
            process.terminate()
            process.wait()
