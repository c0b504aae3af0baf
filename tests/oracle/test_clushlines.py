"""Command lines of clush: output, exit status and files are ClusterShell's."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyclustershell.loopback import LoopbackCluster
from tests.differential.clushlines import (
    ANY_ORDER,
    CLUSH_FILES,
    DIFFERENCES,
    canonical,
    clush_lines,
)
from tests.differential.commandlines import parse
from tests.differential.programs import Result
from tests.differential.run import OURS, THEIRS
from tests.helpers.measured import python_module
from tests.helpers.needs import obstacle

ROOT = Path(__file__).parents[2]

SSH = "{ssh}"
LINES = [line for line in clush_lines() if SSH not in line or not obstacle("ssh")]

pytestmark = [
    pytest.mark.needs("ClusterShell"),
    pytest.mark.posix_only("ClusterShell needs POSIX"),
    # All command lines are run before the first test.
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directories in which both sides run, and where their configuration is."""
    found = {}
    for which in (THEIRS, OURS):
        found[which] = tmp_path_factory.mktemp(which)
        for name, text in CLUSH_FILES.items():
            path = found[which] / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
    return found


@pytest.fixture(scope="module")
def results(directories: dict[str, Path]) -> dict[str, tuple[Result, Result]]:
    """Both results of each command line: ClusterShell's and this package's."""
    with LoopbackCluster("node[1-3]") as cluster:
        ssh = f"-o '-F {cluster.ssh_config}'"
        parsed = json.dumps(
            [parse(line.replace(ANY_ORDER, "").replace(SSH, ssh)) for line in LINES]
        )

        def run(which: str) -> list[Result]:
            directory = directories[which]
            done = subprocess.run(
                [*python_module("tests.differential.clushprograms", measured=which == OURS), which],
                input=parsed,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                cwd=directory,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "HOME": str(directory),
                    "CLUSTERSHELL_CFGDIR": str(directory),
                    "COLUMNS": "80",
                    "LC_ALL": "C.UTF-8",
                    "PYTHONWARNINGS": os.environ["PYTHONWARNINGS"],
                },
            )
            here = str(directory)
            return [
                (status, out.replace(here, "DIR"), err.replace(here, "DIR"))
                for status, out, err in json.loads(done.stdout)
            ]

        with ThreadPoolExecutor() as pool:
            theirs, ours = pool.map(run, (THEIRS, OURS))
    return dict(zip(LINES, zip(theirs, ours)))


@pytest.mark.parametrize("line", LINES)
def test_a_command_line(line: str, results: dict[str, tuple[Result, Result]]) -> None:
    theirs, ours = (canonical(line, result) for result in results[line])
    difference = DIFFERENCES.get(line)
    if difference is None:
        assert ours == theirs
        return
    assert ours != theirs
    if difference.ours is not None:
        assert ours == difference.ours


def test_the_files_are_the_same(
    results: dict[str, tuple[Result, Result]], directories: dict[str, Path]
) -> None:
    """Those of --outdir, --errdir and --rcopy; out4 has bytes at which ClusterShell fails."""
    assert results

    def files(directory: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.parent.name != "out4"
        }

    assert files(directories[OURS]) == files(directories[THEIRS])
    assert (directories[OURS] / "out4" / "n1").read_bytes() == b"\xff\n"


#: Sentences whose differences no command line here can show; what tests them.
ELSEWHERE = {
    "The counter of `clush`": "tests/flow/test_clush.py",
    "`clush` has colours on a terminal": "tests/flow/test_clush.py",
    "`clush` keeps as many commands": "tests/flow/test_clush.py",
    "The interactive mode of `clush` keeps capital letters": "tests/flow/test_clush.py",
    "If `fd_max` does not suffice": "tests/flow/test_clush.py",
    "An empty standard input is no error": "tests/flow/test_clush.py",
    "The modes of clush.conf that start ssh through sshpass": "tests/flow/test_clush.py",
    "`clush` prints the debugging lines": "tests/flow/test_clush.py",
    "`clush -S` exits with 255 for exit statuses above 255": "tests/flow/test_cli.py",
}


def test_each_difference_is_on_the_page_and_among_the_command_lines() -> None:
    page = (ROOT / "docs" / "clustershell.md").read_text(encoding="utf-8")
    sentences = " ".join(page.split())
    assert [
        each.sentence for each in DIFFERENCES.values() if f"- {each.sentence}" not in sentences
    ] == []
    assert {*DIFFERENCES} - {*clush_lines()} == set()
    assert len(clush_lines()) > 200


def test_each_sentence_about_clush_is_tested() -> None:
    page = (ROOT / "docs" / "clustershell.md").read_text(encoding="utf-8")
    section = page.partition("### clush\n")[2].partition("\n### ")[0]
    sentences = [" ".join(item.split()) for item in section.split("\n- ")[1:]]
    assert sentences
    known = [*ELSEWHERE, *(difference.sentence for difference in DIFFERENCES.values())]
    assert [text for text in sentences if not text.startswith(tuple(known))] == []
