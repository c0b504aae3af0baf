"""Completion in real shells, each on a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.needs import require
from tests.helpers.programs import ROOT
from tests.helpers.terminal import DEADLINE, Terminal
from tests.servers import processes

pytestmark = [pytest.mark.posix_only("these shells run on POSIX systems")]

GROUPS = """
[Main]
default: roles
[roles]
map: echo 'node[1-4]'
all: echo 'node[1-4],login'
list: printf 'web\\nworkers\\n'
[racks]
map: echo node1
all: echo node1
list: echo rack1
"""

#: A line, and what it is after a Tab. Those that end with no blank go on.
LINES = [
    ("pyclush -w lo", "pyclush -w login "),
    ("pyclush -w @we", "pyclush -w @web "),
    ("pyclush -w 'node[1-3],@we", "pyclush -w 'node[1-3],@web' "),
    ("pyclush -w @rac", "pyclush -w @racks:"),
    ("pyclush -w @racks:", "pyclush -w @racks:rack1 "),
    ("pyclush -s racks -g ra", "pyclush -s racks -g rack1 "),
    ("pyclush -m su", "pyclush -m sudo "),
    ("pyclush -O node_c", "pyclush -O node_count="),
    ("pyclush --color=al", "pyclush --color=always "),
    ("pyclush --outdir=some_d", "pyclush --outdir=some_dir/"),
    ("pyclush --hostfile=some_f", "pyclush --hostfile=some_file "),
    ("pyclush -l roo", "pyclush -l root "),
    ("pyclush -w node1 some_comm", "pyclush -w node1 some_command_of_tests "),
    ("pynodeset -f node1 -x lo", "pynodeset -f node1 -x login "),
    ("clush -X wo", "clush -X workers "),
    ("pyclubak --interpret-keys al", "pyclubak --interpret-keys always "),
]

SHELLS = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}

# The prompt is written in two parts, so that the echo of these lines does not have it.
BEGIN = {
    "bash": "source {file}; bind 'set bell-style none'; PS1='rea''dy> '\r",
    "zsh": "autoload -Uz compinit; compinit -u -d {dump}; source {file}; unsetopt beep; "
    "PS1='rea''dy> '\r",
    "fish": "source {file}; function fish_prompt; echo -n 'rea''dy> '; end\r",
}


def folder(tmp_path: Path) -> dict[str, str]:
    """Make files and configuration; returns the environment."""
    (tmp_path / "groups.conf").write_text(GROUPS)
    (tmp_path / "clush.conf").write_text("[mode:sudo]\n[mode:other]\n")
    (tmp_path / "some_dir").mkdir()
    (tmp_path / "some_file").touch()
    command = tmp_path / "bin" / "some_command_of_tests"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "CLUSTERSHELL_CFGDIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """A shell with the completion, in a folder with files."""
    name = str(request.param)
    require(name)
    if name == "bash" and int(processes.run("bash", "-c", "echo $BASH_VERSINFO").stdout) < 4:
        pytest.skip("bash is older than 4: macOS has 3.2")
    env = folder(tmp_path)
    names = ["pyclush", "pynodeset", "pyclubak", "clush"]
    script = subprocess.run(
        [sys.executable, "-m", "pyclustershell", "completion", name, *names],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    ).stdout
    file = tmp_path / "completion"
    file.write_text(script)
    starter = ["/bin/sh", "-c", 'cd "$HOME" && exec "$0" "$@"']
    command = [*starter, str(processes.find_program(name)), *SHELLS[name]]
    with Terminal(command, env, columns=200) as terminal:
        terminal.type(BEGIN[name].format(file=file, dump=tmp_path / "dump"))
        terminal.expect("ready> ")
        yield terminal


@pytest.mark.timeout(200)
def test_lines_are_completed(shell: Terminal, tmp_path: Path) -> None:
    """The line becomes the arguments of echo. A letter shows where the cursor was."""
    for number, (typed, completed) in enumerate(LINES):
        report = tmp_path / f"line{number}"
        shell.type(f"{typed}\tZ\x01echo \x05 > {report}\r")
        shell.expect("ready> ")
        assert report.read_text() == completed.replace("'", "") + "Z\n", typed


def test_the_scripts_name_the_programs(tmp_path: Path) -> None:
    for name in SHELLS:
        done = subprocess.run(
            [sys.executable, "-m", "pyclustershell", "completion", name],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert "pyclush pynodeset pyclubak\n" in done.stdout
        assert " clush" not in done.stdout


@pytest.mark.parametrize("arguments", [["ksh"], ["bash", "pyclsh"]])
def test_wrong_names(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyclustershell", "completion", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert f"'{arguments[-1]}'" in done.stderr
    assert "choose from" in done.stderr or "did you mean 'pyclush'?" in done.stderr
