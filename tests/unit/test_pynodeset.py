"""pynodeset, in this package's manner. The other manner is compared with ClusterShell's."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest

from pyclustershell.cli.nodeset import decode_escapes, main
from pyclustershell.nodeset import GroupResolver, GroupSource, set_std_group_resolver
from tests.helpers.programs import run_python

RANGE = "expected a number, a range as 1-9, or a range with a step as 0-8/2"
FORMAT = "write %s in place of the result, and %% for a percent sign"


class Outcome(NamedTuple):
    """The result of a run."""

    status: Any
    out: str
    err: str


Program = Callable[..., Outcome]


@pytest.fixture
def pynodeset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """Runs the program in this process, with a group source."""
    resolver = GroupResolver(
        GroupSource(
            "own", {"web": "web[1-4]", "db": "db[1-2]", "none": ""}, "web[1-4],db[1-2],spare"
        ),
    )
    resolver.add_source(GroupSource("other", {"rack": "web[1-2]"}, "web[1-2]"))
    set_std_group_resolver(resolver)

    def call(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            status: Any = main(arguments)
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capsys.readouterr())

    yield call  # type: ignore[misc]
    set_std_group_resolver(None)


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ("-e n[1-3] -S ,", "n1,n2,n3"),
        ("n[1-3] -f", "n[1-3]"),
        ("-f n[1-3] -xn2 --exclude=n3", "n1"),
        ("-f n[1-3] -x n2 n2", "n[1-3]"),
        ("-f -x n1 n[1-3]", "n[2-3]"),
        ("-f -i n[2-9] n[1-3] n5", "n[2-3,5]"),
        ("-f -x n1 n[1-3] -X n[3-4]", "n[2,4]"),
        ("-f -X n9 n1 -x n1", "n9"),
        ("-a -f -x @web", "db[1-2],spare"),
        ("-a -f -x spare spare", "db[1-2],web[1-4]"),
        ("-f -- n1 n2", "n[1-2]"),
        ("-c n1 -- -x", "2"),
    ],
)
def test_options_may_stand_anywhere(pynodeset: Program, arguments: str, out: str) -> None:
    assert pynodeset(*arguments.split()) == (0, f"{out}\n", "")


@pytest.mark.parametrize(
    ("arguments", "stdin", "out"),
    [
        ("-f", "n1 n2\nn9", "n[1-2,9]"),
        ("-f -x n1", "n1 n2", "n2"),
        ("-f n1 -i -", "", ""),
        ("-f n[1-3] - -x -", "n2", "n[1,3]"),
        ("-c -", "", "0"),
        ("-R -f", "1 2\n3 # 4", "1-3"),
        ("-f -x n1", "\ufeffn1 n2", "n2"),
        ("-R -f", "\ufeff1 2", "1-2"),
    ],
)
def test_standard_input(pynodeset: Program, arguments: str, stdin: str, out: str) -> None:
    assert pynodeset(*arguments.split(), stdin=stdin) == (0, f"{out}\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("", 2, "no command: write -f, -e, -c, -r, -l or --index"),
        ("-f -e n1", 2, "several commands: write one of them"),
        ("-f --nosuch n1", 2, "no such option: --nosuch"),
        ("--fodl n1", 2, "no such option: --fodl: did you mean '--fold'?"),
        ("-x", 2, "-x option requires 1 argument"),
        ("-R -r 1", 2, "-R is about numbers: leave out -a and -r"),
        ("-e --axis=1 n1", 2, "--axis is about -f: leave out --axis, or write -f, and no -R"),
        ("-f --split=2 --contiguous n1", 2, "--split and --contiguous: write one of them"),
        ("--index n1 --pick 2 n1", 2, "--index and --pick: write one of them"),
        (
            "--index n9 n1",
            1,
            "--index 'n9': it is not in n1",
        ),
        ("-f --pick=-1 n1", 2, "--pick -1: write how many nodes to keep, such as: --pick 3"),
        (
            "-f --axis=x n1",
            2,
            "--axis 'x': write ranges of dimensions, counted from 1, or one negative number",
        ),
        (
            "-f --axis=-x n1",
            2,
            "--axis '-x': write ranges of dimensions, counted from 1, or one negative number",
        ),
        (
            "-e -O %d n1",
            2,
            f"-O '%d': %d format: a real number is required, not str; {FORMAT}",
        ),
        (
            "-e -S \\x n1",
            2,
            "-S '\\\\x': an escape sequence is incomplete; write \\\\ for a backslash",
        ),
        ("-R -l 1", 1, "-R: numbers are in no groups: leave out -R, or the operands"),
        (
            "-f n[",
            1,
            "unbalanced bracket: expected a ']' after it, at character 2 of the pattern: 'n['",
        ),
        (
            "-s onw -f n1",
            2,
            "-s 'onw': unknown group source 'onw': there are 'own', 'other': did you mean 'own'?",
        ),
        (
            "-f @othr:rack",
            1,
            "unknown group source 'othr': there are 'own', 'other': did you mean 'other'?",
        ),
    ],
)
def test_errors_name_input_cause_and_fix(
    pynodeset: Program, arguments: str, status: int, message: str
) -> None:
    done = pynodeset(*arguments.split())
    hint = "Try 'pynodeset --help' for more.\n" if status == 2 else ""
    if "real number" in message and sys.version_info < (3, 10):
        message = message.replace("real number", "number")
    assert done == (status, "", f"pynodeset: {message}\n{hint}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-c @wbe", "'@wbe': did you mean '@web'?"),
        ("-c @web,@wbe", "'@wbe': did you mean '@web'?"),
        ("-c n1,@own:dbx!n1", "'@own:dbx': did you mean '@own:db'?"),
        ("-c @web @zzzzzz n2", "'@zzzzzz'"),
        ("-qc @web -x @wbe", "'@wbe': did you mean '@web'?"),
        ("-c -x @wbe @web", "'@wbe': did you mean '@web'?"),
        ("-c @web -i @zzzzzz", "'@zzzzzz'"),
        ("-l @zzzzzz", "'@zzzzzz'"),
    ],
)
def test_unknown_groups_are_errors(pynodeset: Program, arguments: str, message: str) -> None:
    assert pynodeset(*arguments.split()) == (1, "", f"pynodeset: there is no group {message}\n")


def test_unknown_groups_of_standard_input_are_errors(pynodeset: Program) -> None:
    problem = "pynodeset: there is no group '@wbe': did you mean '@web'?\n"
    assert pynodeset("-f", stdin="n1 @web,@wbe\n") == (1, "", problem)
    assert pynodeset("-f", "-x", "-", "n1", stdin="@wbe\n") == (1, "", problem)


def test_groups_without_a_node_are_told(pynodeset: Program) -> None:
    problem = "pynodeset: '@web,@none': group '@none' has no nodes\n"
    assert pynodeset("-c", "@web,@none") == (0, "4\n", problem)
    assert pynodeset("-qc", "@web,@none") == (0, "4\n", "")


def test_faulty_groups_are_skipped_with_a_warning(pynodeset: Program, tmp_path: Path) -> None:
    (tmp_path / "groups.conf").write_text(f"[Main]\nautodir: {tmp_path}\n")
    (tmp_path / "a.yaml").write_text("good:\n  g: n1\nbad: text\n")
    done = pynodeset(f"--groupsconf={tmp_path / 'groups.conf'}", "-f", "@good:g")
    problem = "invalid content (group source 'bad' is not a dict): it is skipped"
    assert done == (0, "n1\n", f"pynodeset: {tmp_path / 'a.yaml'}: {problem}\n")
    # The package's warnings are printed while the program runs, and no longer.
    import logging

    assert [type(each).__name__ for each in logging.getLogger("pyclustershell").handlers] == [
        "NullHandler"
    ]


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["-e", "n\x1b[2Jx1"[:2] + "x", "m"]) == 0
    assert terminal.getvalue() == "m n^[x\n"


@pytest.mark.posix_only("arguments of Windows are Unicode text")
def test_names_that_are_no_text_pass(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pyclustershell.cli.nodeset import main
sys.stdout = open({str(tmp_path / "out")!r}, "w", encoding="utf-8")
main(["-f", os.fsdecode(b"n\\xff1"), os.fsdecode(b"n\\xff2")])
"""
    assert run_python(code) == ""
    assert (tmp_path / "out").read_bytes() == b"n\xff[1-2]\n"


def test_a_format_applies_to_names_and_not_to_patterns(pynodeset: Program) -> None:
    assert pynodeset("-f", "-O", "%s-x", "n[1-3]").out == "n[1-3]-x\n"
    assert pynodeset("-f", "-O", "a[%s", "n[1-2]").out == "a[n[1-2]\n"
    assert pynodeset("-f", "-O", "@%s", "n[1-2]").out == "@n[1-2]\n"


def test_a_large_set_is_written_in_pieces(pynodeset: Program) -> None:
    done = pynodeset("-e", "-S", ",", "n[1-25000]")
    assert done.out == ",".join(f"n{number}" for number in range(1, 25001)) + "\n"


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        (",", ","),
        (r"\n\t\\", "\n\t\\"),
        (r"\x41\u00e9\U0001F600\101", "A\xe9\U0001f600A"),
        (r"\d\ é", r"\d\ é"),
        ("''' + \"", "''' + \""),
    ],
)
def test_escapes_of_the_separator(text: str, decoded: str) -> None:
    assert decode_escapes(text) == decoded


@pytest.mark.parametrize("text", ["\\", r"\x4", r"\u12", r"\U0000"])
def test_incomplete_escapes(text: str) -> None:
    with pytest.raises(ValueError, match="incomplete"):
        decode_escapes(text)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "groups.conf").write_text(f"[Main]\nautodir: {tmp_path}\n[a]\nmap: echo n1\n")
    option = f"--groupsconf={tmp_path / 'groups.conf'}"
    code = f"""
import sys
from pyclustershell.cli.nodeset import main
main([{option!r}, "-f", "n1", "@a:x"])
print({{"paramiko", "cryptography", "yaml", "asyncio", "argparse"}} & set(sys.modules))
"""
    assert run_python(code) == "n1\nset()\n"
