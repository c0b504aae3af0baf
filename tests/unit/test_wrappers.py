"""The programs by name, and the scripts that run them under ClusterShell's names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.cli import wrappers
from pyclustershell.cli.wrappers import PROGRAMS, run_by_name, write_wrappers

ROOT = Path(__file__).parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.posix_only("POSIX's kind of scripts")
def test_the_wrappers_run_the_programs_in_clustershells_manner(tmp_path: Path) -> None:
    paths = write_wrappers(str(tmp_path / "new"))
    assert sorted(map(os.path.basename, paths)) == ["clubak", "cluset", "clush", "nodeset"]
    for path in paths:
        done = run(path, "--version")
        assert (done.stdout, done.stderr) == (f"{os.path.basename(path)} 1.10.1\n", "")
    done = run(str(tmp_path / "new" / "cluset"), "-f", "n[1")
    assert (done.returncode, done.stderr) == (1, 'cluset: Parse error: missing bracket: "n[1"\n')


@pytest.mark.posix_only("POSIX's kind of scripts")
def test_a_path_of_python_with_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "my python's"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    write_wrappers(str(tmp_path))
    assert run(str(tmp_path / "nodeset"), "-f", "n1 ", "n2").stdout == "n[1-2]\n"


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    name = "clush.cmd" if sys.platform == "win32" else "clush"
    (tmp_path / name).write_text("another program")
    with pytest.raises(FileExistsError, match="another file of this name"):
        write_wrappers(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    done = run(sys.executable, "-m", "pyclustershell", "commands", str(tmp_path))
    assert done.returncode == 1
    assert "another file of this name" in done.stderr


def test_wrappers_are_overwritten(tmp_path: Path) -> None:
    assert write_wrappers(str(tmp_path)) == write_wrappers(str(tmp_path))


def test_wrappers_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "WINDOWS", True)
    write_wrappers(str(tmp_path))
    text = (tmp_path / "nodeset.cmd").read_text()
    assert text.splitlines()[1] == f'@"{sys.executable}" "%~dpn0-script.py" %*'
    assert "run_by_name('nodeset', " in (tmp_path / "nodeset-script.py").read_text()


def test_programs_of_python_m() -> None:
    for name, (_, manner) in PROGRAMS.items():
        done = run(sys.executable, "-m", "pyclustershell", name, "--version")
        assert (done.stdout, done.stderr) == (f"{name} {manner.version}\n", "")


def test_a_program_in_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert run_by_name("nodeset", ["-f", "n1", "n2"]) == 0
    assert capsys.readouterr().out == "n[1-2]\n"
    assert sys.argv[0] == "nodeset"
    assert wrappers.run_by_name("pynodeset", ["-f", "n["]) == 1
    assert capsys.readouterr().err.startswith("pynodeset: unbalanced bracket: expected")
