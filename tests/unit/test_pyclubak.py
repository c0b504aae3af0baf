"""pyclubak, in this package's manner. The other manner is compared with ClusterShell's."""

from __future__ import annotations

import io
import sys
from typing import Any, Callable, NamedTuple

import pytest

from pyclustershell.cli.clubak import main
from pyclustershell.defaults import DEFAULTS
from tests.helpers.programs import run_python
from tests.unit.test_pynodeset import Terminal

RULE = "-" * 15


class Outcome(NamedTuple):
    """The result of a run."""

    status: Any
    out: str
    err: str


Program = Callable[..., Outcome]


@pytest.fixture
def pyclubak(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """Runs the program in this process."""

    def call(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        try:
            status: Any = main(arguments)
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capsys.readouterr())

    return call


def test_the_blank_after_the_separator_is_not_part_of_the_line(pyclubak: Program) -> None:
    done = pyclubak("-L", stdin=b"n1: a\nn2:b\nn3:  c\nn4:\n")
    assert done == (0, "n1: a\nn2: b\nn3:  c\nn4: \n", "")


def test_a_byte_order_mark_is_no_part_of_a_name(pyclubak: Program) -> None:
    assert pyclubak("-L", stdin=b"\xef\xbb\xbfn1: a\nn1: b\n").out == "n1: a\nn1: b\n"


def test_lines_without_a_name_are_skipped_and_told(pyclubak: Program) -> None:
    done = pyclubak("-L", stdin=b"n1: a\nbad \x1b[2J\n\n  \nn2: b\n: c\n")
    assert (done.status, done.out) == (1, "n1: a\nn2: b\n")
    assert done.err.splitlines() == [
        "pyclubak: line 2 names no node before a ':': skipped: 'bad ^[[2J'",
        "pyclubak: line 6 names no node before a ':': skipped: ': c'",
    ]


def test_many_lines_without_a_name_are_counted(pyclubak: Program) -> None:
    done = pyclubak("-L", stdin=b"bad\n" * 25)
    assert (done.status, done.out) == (1, "")
    lines = done.err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "pyclubak: 15 more lines name no node: skipped"


def test_names_that_are_no_node_sets(pyclubak: Program) -> None:
    done = pyclubak("-b", stdin=b"b[: x\na: x\n")
    assert done == (0, f"{RULE}\na,b[ (2)\n{RULE}\nx\n", "")
    done = pyclubak("-b", "--interpret-keys=always", stdin=b"b[: x\n")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("pyclubak: unbalanced bracket: expected a ']' after it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-F -T", "-F with -L or -T: leave out -F"),
        ("--diff -L", "--diff and -L: write one of them"),
        ("--separator=", "-S '': write the text between name and line, such as: -S ': '"),
        ("--gathr", "no such option: --gathr"),
        ("--separatr=x", "no such option: --separatr: did you mean '--separator'?"),
        ("--color=maybe", "option --color: invalid choice: 'maybe' (choose from '', 'never', "),
    ],
)
def test_wrong_usage(pyclubak: Program, arguments: str, message: str) -> None:
    done = pyclubak(*arguments.split())
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"pyclubak: {message}")
    assert done.err.endswith("\nTry 'pyclubak --help' for more.\n")


def test_a_wrong_axis(pyclubak: Program) -> None:
    wanted = "write ranges of dimensions, counted from 1, or one negative number"
    hint = "Try 'pyclubak --help' for more.\n"
    assert pyclubak("--axis=-x") == (2, "", f"pyclubak: --axis '-x': {wanted}\n{hint}")


def test_the_axis_is_that_of_this_run_only(pyclubak: Program) -> None:
    lines = b"r1n1: a\nr1n2: a\nr2n1: a\nr2n2: a\n"
    assert "r[1-2]n1,r[1-2]n2 (4)" in pyclubak("-b", "--axis=1", stdin=lines).out
    assert DEFAULTS.fold_axis == ()
    assert "r[1-2]n[1-2] (4)" in pyclubak("-b", stdin=lines).out


def test_fast_changes_nothing(pyclubak: Program) -> None:
    lines = b"n1: a\nn2: a\nn1: b\nn2: c\n"
    assert pyclubak("-F", "--diff", stdin=lines) == pyclubak("--diff", stdin=lines)


def test_bytes_that_are_no_text_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"n1: \xff\n"), "utf-8"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8"))
    assert main(["-L"]) == 0
    assert out.getvalue() == b"n1: \xff\n"


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, shown in (
        (["-L"], "\x1b[94mn1: \x1b[0m^[[2J\x1b[31mred\x1b[0m\x1b[0m\n"),
        (["-L", "--color=never"], "n1: ^[[2J\x1b[31mred\x1b[0m\x1b[0m\n"),
        (["-v", "-N"], "INPUT n1: ^[[2J^[[31mred^[[0m\n^[[2J\x1b[31mred\x1b[0m\x1b[0m\n"),
    ):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        line = b"n1: \x1b[2J\x1b[31mred\x1b[0m\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line), "utf-8"))
        assert main(arguments) == 0
        assert terminal.getvalue() == shown


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, False),
        ({"CLICOLOR": "0"}, False),
        ({"CLICOLOR": "1"}, True),
        ({"CLICOLOR": "0", "CLICOLOR_FORCE": "1"}, True),
        ({"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_colours_of_a_terminal(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"n1: a\n"), "utf-8"))
    assert main(["-L"]) == 0
    assert terminal.getvalue() == ("\x1b[94mn1: \x1b[0ma\n" if coloured else "n1: a\n")


def test_nothing_heavy_is_imported() -> None:
    code = """
import io, sys
from pyclustershell.cli.clubak import main
sys.stdin = io.TextIOWrapper(io.BytesIO(b"n1: a\\n"))
main(["-L"])
print({"paramiko", "cryptography", "yaml", "asyncio", "argparse", "difflib"} & set(sys.modules))
"""
    assert run_python(code) == "n1: a\nset()\n"
