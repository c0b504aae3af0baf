"""Command lines of nodeset, cluset and clubak: output and exit status are ClusterShell's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell.cli.wrappers import write_wrappers
from tests.differential.commandlines import (
    BY_CHANCE,
    DIFFERENCES,
    NOW_AND_THEN,
    command_lines,
    parse,
    write_files,
)
from tests.differential.programs import Result
from tests.differential.run import OURS, THEIRS
from tests.helpers.measured import python_module

ROOT = Path(__file__).parents[2]

LINES = command_lines()

#: Processes take time: every third line is run as a program, and so are all listed differences.
AS_PROGRAMS = sorted({*LINES[::3], *DIFFERENCES} - BY_CHANCE, key=LINES.index)

#: Both results of each command line: ClusterShell's and this package's.
Results = dict[str, tuple[Result, Result]]

pytestmark = [
    pytest.mark.needs("ClusterShell"),
    # The first test runs all command lines.
    pytest.mark.timeout(600),
    pytest.mark.posix_only("ClusterShell needs POSIX"),
]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the command lines run, and where their configuration is."""
    path = tmp_path_factory.mktemp("commandlines")
    write_files(path)
    return path


def environment(directory: Path) -> dict[str, str]:
    """The environment of the command lines."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "CLUSTERSHELL_CFGDIR": str(directory),
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="session")
def in_process(directory: Path) -> Results:
    """The results of all command lines; each side runs all of them in one process."""
    lines = json.dumps([parse(line) for line in LINES])
    found: list[list[Result]] = []
    for which in (THEIRS, OURS):
        done = subprocess.run(
            [*python_module("tests.differential.programs", measured=which == OURS), which],
            input=lines,
            capture_output=True,
            text=True,
            check=True,
            cwd=directory,
            env=environment(directory),
        )
        found.append([(status, out, err) for status, out, err in json.loads(done.stdout)])
    return dict(zip(LINES, zip(*found)))


def run_program(line: str, commands: Path, directory: Path) -> Result:
    """The result of a command line, run as a program."""
    program, arguments, text = parse(line)
    done = subprocess.run(
        [commands / program, *arguments],
        input=text.encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=False,
        cwd=directory,
        env=environment(directory),
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return done.returncode, out, err


@pytest.fixture(scope="session")
def wrappers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of this package's programs under ClusterShell's names."""
    path = tmp_path_factory.mktemp("commands")
    write_wrappers(str(path))
    return path


def check(line: str, theirs: Result, ours: Result) -> None:
    """Compare both results, or the result here with that of a listed difference."""
    difference = DIFFERENCES.get(line)
    if difference is None:
        assert ours == theirs
        return
    if line not in NOW_AND_THEN:
        assert ours != theirs
    if difference.ours is not None:
        assert ours == difference.ours


@pytest.mark.timeout(300)  # the first one runs all of them
@pytest.mark.parametrize("line", LINES)
def test_a_command_line_in_process(line: str, in_process: Results) -> None:
    check(line, *in_process[line])


@pytest.mark.parametrize("line", AS_PROGRAMS)
def test_a_command_line_as_a_program(line: str, wrappers: Path, directory: Path) -> None:
    theirs = run_program(line, Path(sys.executable).parent, directory)
    check(line, theirs, run_program(line, wrappers, directory))


def test_there_are_enough_of_them() -> None:
    assert len(LINES) >= 150
    assert len(AS_PROGRAMS) >= 150


def test_each_difference_is_on_the_page_and_among_the_command_lines() -> None:
    page = (ROOT / "docs" / "clustershell.md").read_text(encoding="utf-8")
    sentences = " ".join(page.split())
    missing = [
        each.sentence for each in DIFFERENCES.values() if f"- {each.sentence}" not in sentences
    ]
    assert missing == []
    assert {*DIFFERENCES, *BY_CHANCE, *NOW_AND_THEN} - {*LINES} == set()


#: Sentences about programs whose differences no command line can show; what tests them.
ELSEWHERE = {
    "A closed standard input": "test_a_closed_standard_input_is_empty",
    "Output that cannot be written": "tests/unit/test_output.py",
    "The faults of groups": "tests/unit/test_groups.py",
}


def test_each_sentence_about_programs_is_tested() -> None:
    page = (ROOT / "docs" / "clustershell.md").read_text(encoding="utf-8")
    section = page.partition("### Programs\n")[2].partition("\n### ")[0]
    sentences = [item.strip() for item in section.split("\n- ")[1:]]
    known = [*ELSEWHERE, *(difference.sentence for difference in DIFFERENCES.values())]
    assert [text for text in sentences if not text.startswith(tuple(known))] == []


def test_a_closed_standard_input_is_empty(directory: Path) -> None:
    for command, out in (("nodeset -c", "0\n"), ("clubak", "")):
        done = subprocess.run(
            ["sh", "-c", f'"$0" -m pyclustershell {command} <&-', sys.executable],
            capture_output=True,
            text=True,
            check=False,
            env=environment(directory),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


def test_a_closed_standard_output_is_an_error(directory: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m pyclustershell nodeset -c n1 >&-', sys.executable],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(directory),
    )
    assert (done.returncode, done.stderr) == (1, "ERROR: [Errno 9] standard output is closed\n")
