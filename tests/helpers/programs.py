"""Short ways to run other programs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.servers import processes

ROOT = Path(__file__).parents[2]


def run_python(code: str, *arguments: str) -> str:
    """Run code in a new interpreter that must end well and print nothing on standard error.

    Args:
        code: the program.
        arguments: options of the interpreter.

    Returns:
        Its standard output.
    """
    done = subprocess.run(
        [sys.executable, *arguments, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def openssh_version() -> tuple[int, int]:
    """The version of OpenSSH's client: (9, 4) for 9.4p1."""
    shown = processes.run("ssh", "-V").stderr
    found = re.search(r"OpenSSH\D*(\d+)\.(\d+)", shown)
    assert found is not None, shown
    return int(found[1]), int(found[2])


def openssh_settings(path: Path, host: str, *options: str) -> dict[str, list[str]]:
    """The settings that OpenSSH's client uses for a host: the output of ``ssh -G``.

    Args:
        path: an ssh_config(5) file.
        host: the host's name on the command line.
        options: options of ssh(1).

    Returns:
        The values of each keyword, in lower case, in their order.
    """
    done = processes.run("ssh", "-G", "-F", path, *options, host, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{path.read_text()}"
    printed: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        printed.setdefault(name.lower(), []).append(value)
    return printed
