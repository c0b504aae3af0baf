"""Wrong command lines of this package's programs: each error names the input, and what to write."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from pyclustershell.cli.wrappers import run_by_name
from pyclustershell.nodeset.nodeset import _standard

GROUPS = (
    "[Main]\ndefault: own\n[own]\nmap: :\nall: :\nlist: echo web\n[bad]\nmap: :\nlist: exit 3\n"
)

FILES = {
    "groups.conf": GROUPS,
    "no_nodes": "# none\n",
    "no_section": "fanout: 3\n",
    "twice": "[Main]\nfanout: 3\nfanout: 4\n",
    "percent": "[Main]\nssh_options: -o User=%h\n",
    "number": "[Main]\nfanout: many\n",
    "mode": "[mode:slow]\nconnect_timeout: -1\n",
}

WRONG = [
    # The order of the words
    ("pyclush uname -w n1", 2, "-w comes after the command: write options before it"),
    ("pyclubak -b log", 2, "'log': lines are read from standard input, as in: pyclubak < FILE"),
    # Values that are empty
    ("pyclush -w n1 --outdir '' true", 2, "--outdir '': the value is empty"),
    ("pyclush --hostfile '' true", 2, "--hostfile '': the value is empty"),
    ("pyclush -w n1 -c ''", 2, "'': there is no such file or directory to copy"),
    # Nodes
    ("pyclush --hostfile no_such true", 2, "--hostfile 'no_such': No such file or directory"),
    ("pyclush --hostfile no_nodes true", 2, "--hostfile 'no_nodes' names no node"),
    ("pyclush -a true", 2, "-a: the group source lists no node"),
    ("pyclush -g @web true", 2, "-g '@web': write it without the @, or use -w"),
    ("pyclush -s onw -a true", 2, "-s 'onw': unknown group source 'onw': there are"),
    # clush.conf
    ("pyclush --conf no_such -w n1 true", 1, "--conf 'no_such': No such file or directory"),
    ("pyclush --conf no_section -w n1 true", 1, "no_section line 1: no section begins above it"),
    ("pyclush --conf twice -w n1 true", 1, "twice line 3: fanout is there twice: remove one"),
    ("pyclush --conf percent -w n1 true", 1, "percent: [Main] ssh_options: write %% for"),
    ("pyclush --conf number -w n1 true", 1, "number: [Main] fanout is 'many': write a number"),
    ("pyclush --conf mode -m slow -w n1 true", 1, "[mode:slow] connect_timeout is '-1': write"),
    ("pyclush --conf mode -m slwo -w n1 true", 2, "there are slow: did you mean 'slow'?"),
    ("pyclush -O fanout -w n1 true", 2, "-O 'fanout': write a key and its value, such as:"),
    ("pyclush -O fanuot=3 -w n1 true", 2, "no key 'fanuot': did you mean 'fanout'?"),
    ("pyclush -O maxrc=perhaps -w n1 true", 2, "-O maxrc is 'perhaps': write yes or no"),
    ("pyclush -O color=blue -w n1 true", 2, "-O color is 'blue': write never, always or auto"),
    ('pyclush -O command_prefix="\'" -w n1 true', 2, '-O command_prefix is "\'": No closing'),
    # Workers
    ("pyclush -R ../x -w n1 true", 2, "-R '../x': there is no worker '../x': use one of exec,"),
    ("pyclush -R rsh -o -x -w n1 true", 2, "-o is for SSH: leave out -o, or -R rsh: set rsh_"),
    ("pyclush -R exec -l bob -w n1 true", 2, "-l is for SSH: leave out -l, or -R exec"),
    ("pyclush --remote no --demo -w n1 true", 2, "--demo is for SSH: leave out --demo, or"),
    ("pyclush --topology no_such -w n1 true", 2, "--topology 'no_such': there is no such file"),
    # Output
    ("pyclush --diff -L -w n1 true", 2, "--diff and -L: write one of them"),
    ("pyclush --axis x -w n1 true", 2, "--axis 'x': write ranges of dimensions"),
    ("pyclubak --axis x", 2, "--axis 'x': write ranges of dimensions"),
    ("pynodeset -f --axis x n1", 2, "--axis 'x': write ranges of dimensions"),
    ("pynodeset -f -I x n1", 2, "-I 'x': write positions, counted from 0, such as: -I 0-9"),
    ("pynodeset --index 'n[1-2]' n1", 2, "--index 'n[1-2]': write one node of the set"),
    ("pynodeset --index n9 n1", 1, "--index 'n9': it is not in n1"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with files, which is the folder of configuration files as well."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "argv", [])  # the programs set it
    monkeypatch.setattr(_standard, "chosen", None)
    monkeypatch.setattr(_standard, "configured", None)  # groups.conf is read anew
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    return tmp_path


def call(line: str) -> int:
    """Run a program in this process; returns its exit status."""
    name, *arguments = shlex.split(line)
    try:
        return run_by_name(name, arguments)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize(("line", "status", "words"), WRONG)
def test_a_wrong_command_line(
    line: str, status: int, words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(line) == status
    shown = capfd.readouterr()
    assert words in shown.err
    assert shown.err.startswith(f"{line.split(maxsplit=1)[0]}: ")
    assert shown.out == ""
    assert ("--help' for more." in shown.err) == (status == 2)


def test_a_source_that_fails_hides_no_other_one(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("pynodeset -L") == 0
    shown = capfd.readouterr()
    assert "@web\n" in shown.out
    assert "pynodeset: group source 'bad' is skipped: " in shown.err


@pytest.mark.posix_only("the fake rsh is a script for sh")
def test_the_user_is_passed_to_rsh(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fake = folder / "rsh"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    path = os.path.join(str(folder), "rsh")
    call(f"pyclush -n -R rsh -O rsh_path={path} -l bob -w n1 uptime")
    assert capfd.readouterr().out.startswith("n1: -l bob n1 uptime")
