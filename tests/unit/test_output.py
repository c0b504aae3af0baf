"""Standard output of the programs: all of it is written, or there is an error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from pyclustershell.cli.manner import CLUSTERSHELL, OWN
from pyclustershell.cli.output import Output, write_all

ROOT = Path(__file__).parents[2]


class Dribble(io.RawIOBase):
    """A raw file that takes at most three bytes at a time."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.data += bytes(data[:3])
        return len(data[:3])


def test_short_writes_are_continued() -> None:
    file = Dribble()
    write_all(file, b"0123456789")
    assert file.data == b"0123456789"


def test_an_unbuffered_stream_is_written_completely() -> None:
    file = Dribble()
    out = Output(io.TextIOWrapper(file, "utf-8", write_through=True), OWN)  # type: ignore[type-var]
    out.write("0123456789")
    out.flush()
    assert file.data == b"0123456789"


def test_text_that_others_have_printed_comes_first() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, "utf-8")
    stream.write("first ")
    out = Output(stream, OWN)
    out.write("second")
    out.flush()
    assert buffer.getvalue() == b"first second"


def test_a_stream_without_a_file_gets_text() -> None:
    stream = io.StringIO()
    out = Output(stream, OWN)
    out.write("a")
    assert stream.getvalue() == ""
    out.flush()
    assert stream.getvalue() == "a"


@pytest.mark.posix_only("only POSIX has non-blocking pipes")
def test_a_non_blocking_pipe_is_waited_for() -> None:
    data = b"x" * 1_000_000
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    reader = subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as file:
        write_all(file, data)
    assert int(reader.communicate()[0]) == len(data)


# -- as programs -----------------------------------------------------------------------------------


def program(name: str, *arguments: str, unbuffered: bool, out: Optional[int]) -> tuple[int, bytes]:
    """Run a program; returns its exit status and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "pyclustershell", name, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""},
        check=False,
    )
    return done.returncode, done.stderr


COMMANDS = [("-e", "n[1-100000]"), ("-f", "n1"), ("--help",)]


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
def test_a_full_disk_is_an_error(arguments: tuple[str, ...], unbuffered: bool) -> None:
    with open("/dev/full", "wb") as full:
        for name, message in (
            ("pynodeset", b"pynodeset: output cannot be written: No space left on device\n"),
            ("nodeset", b"ERROR: [Errno 28] No space left on device\n"),
        ):
            done = program(name, *arguments, unbuffered=unbuffered, out=full.fileno())
            assert done == (1, message)


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_closed_pipe_ends_quietly(arguments: tuple[str, ...], unbuffered: bool) -> None:
    for name, status in (("pynodeset", OWN.closed_pipe), ("nodeset", CLUSTERSHELL.closed_pipe)):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = program(name, *arguments, unbuffered=unbuffered, out=writing)
        finally:
            os.close(writing)
        assert done == (status, b"")
