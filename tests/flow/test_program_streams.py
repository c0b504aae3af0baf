"""The streams of the programs where Windows differs: pipes, code pages, consoles."""

from __future__ import annotations

import codecs
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyclustershell import platform
from pyclustershell.cli import console
from pyclustershell.cli.clush import main
from pyclustershell.cli.copying import check_paths
from pyclustershell.cli.manner import CLUSTERSHELL, OWN
from pyclustershell.cli.output import Output
from tests.helpers.tasks import fresh_task

# Prints 20,000 lines.
MUCH = "import sys; sys.stdout.write((chr(120) * 50 + chr(10)) * 20000)"
# A character that no code page of western Europe has.
FOREIGN = "\u4f60"


def run_python(*arguments: str, encoding: str = "cp1252") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )


@pytest.mark.parametrize("options", [[], ["-b"], ["-L"]])
def test_a_closed_pipe_ends_the_program_quietly(options: list[str]) -> None:
    command = f'"{sys.executable}" -c "{MUCH}"'
    program = ["-m", "pyclustershell.cli.clush", "--demo", "-w", "n[1-2]", *options, command]
    with run_python(*program) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == OWN.closed_pipe == 141


def test_debug_messages_outside_of_the_code_page() -> None:
    code = (
        "from pyclustershell import task_self; task = task_self(); task.set_info('debug', True); "
        f"task.shell('echo {FOREIGN}', key='k'); task.resume(); print('end')"
    )
    with run_python("-c", code) as process:
        out, err = process.communicate()
    assert err == b""
    assert out.split()[:3] == [b"POPEN:", b"echo", b"\\u4f60"]
    assert out.split()[-1] == b"end"


def test_the_programs_debug_messages_outside_of_the_code_page() -> None:
    program = ["-m", "pyclustershell.cli.clush", "--demo", "-d", "-w", "n1", f"echo {FOREIGN}"]
    with run_python(*program) as process:
        out, err = process.communicate()
    assert (process.returncode, b"\\u4f60" in out) == (0, True), err


def test_output_outside_of_the_code_page() -> None:
    text = f"caf\u00e9 {FOREIGN} \udcff"
    for manner, expected in ((OWN, b"caf\xe9 \\u4f60 \xff"), (CLUSTERSHELL, None)):
        buffer = io.BytesIO()
        out = Output(io.TextIOWrapper(buffer, "cp1252"), manner)
        out.write(text)
        if expected is None:  # ClusterShell's program fails
            with pytest.raises(UnicodeEncodeError):
                out.flush()
        else:
            out.flush()
            assert buffer.getvalue() == expected


def test_other_errors_of_encodings_are_not_hidden() -> None:
    handler = codecs.lookup_error("pyclustershell.bytes_or_escapes")
    with pytest.raises(UnicodeDecodeError):
        handler(UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"))


def test_the_directory_of_a_source_is_no_path_of_nodes_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(tmp_path)
    monkeypatch.setattr(platform, "WINDOWS_PATHS", False)
    assert check_paths([source], None, reverse=False) is None
    monkeypatch.setattr(platform, "WINDOWS_PATHS", True)
    wrong = check_paths([source], None, reverse=False)
    assert wrong == f"{tmp_path.parent} is no path of nodes: name another with --dest"
    assert check_paths([source], "/tmp", reverse=False) is None
    with pytest.raises(SystemExit, match="2"):
        main(["--demo", "-w", "n1", "--copy", source])


# Notes the mode of its console before, in and after a program; the console has no other writer.
MODES = """
import ctypes, sys
from pyclustershell.cli import program
from pyclustershell.cli.manner import OWN

def mode():
    found = ctypes.c_uint32()
    kernel32.GetConsoleMode(kernel32.GetStdHandle(-11), ctypes.byref(found))
    return found.value

kernel32 = ctypes.WinDLL("kernel32")
modes = [mode()]
status = program.run_program(lambda call: modes.append(mode()) or 7, "program", [], OWN)
modes.append(mode())
with open(sys.argv[1], "w") as file:
    print(status, *(bool(mode & 4) for mode in modes), file=file)
"""


@pytest.mark.skipif(sys.platform != "win32", reason="consoles are Windows's")
def test_the_console_obeys_escape_sequences(tmp_path: Path) -> None:
    report = tmp_path / "report"
    subprocess.check_call(
        [sys.executable, "-c", MODES, str(report)],
        creationflags=getattr(subprocess, "CREATE_NEW_CONSOLE", 0),
    )
    assert report.read_text() == "7 False True False\n"


def test_streams_that_are_no_console_stay() -> None:
    console.obey_escapes()()


def test_a_task_prints_to_any_code_page(capsys: pytest.CaptureFixture[str]) -> None:
    with fresh_task() as task:
        task.info("print_debug")(task, FOREIGN)
    assert capsys.readouterr().out == f"{FOREIGN}\n"
