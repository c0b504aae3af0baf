"""What other machines say is shown on terminals, and not obeyed."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyclustershell.cli.labelled import Display
from pyclustershell.cli.manner import OWN
from pyclustershell.cli.options import OptionParser
from pyclustershell.cli.output import Output
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.printable import printable, printable_bytes, printable_line
from tests.helpers.sh import SHELL

HOSTILE = b"\x1b]0;title\x07\x1b[2J\rnode9: fine"
HARMLESS = b"^[]0;title^G^[[2J^Mnode9: fine"


class Terminal(io.BytesIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain text\twith tabs\n", "plain text\twith tabs\n"),
        ("r\u00e9sum\u00e9 \u4f60\u597d \U0001f600", "r\u00e9sum\u00e9 \u4f60\u597d \U0001f600"),
        ("\x1b[31mred\x1b[0m", "^[[31mred^[[0m"),
        ("\x7f\x00\r", "^?^@^M"),
        ("\x9b2J", "<9B>2J"),
        ("\u202eevil", "<202E>evil"),
    ],
)
def test_controls_are_named(said: str, shown: str) -> None:
    assert printable(said) == shown


def test_colours_may_stay_and_end_with_their_line() -> None:
    assert (
        printable("\x1b[1;31mred\nplain\n\x1b[38:5:2mgreen\x1b[m\x1b[2J", colours=True)
        == "\x1b[1;31mred\x1b[0m\nplain\n\x1b[38:5:2mgreen\x1b[m^[[2J\x1b[0m"
    )


def test_bytes_that_are_no_text_stay_unless_a_terminal_may_obey_them() -> None:
    assert printable_bytes(b"caf\xe9 \x9b2J") == b"caf\xe9 <9B>2J"


def test_texts_in_messages_are_one_line_of_a_bounded_length() -> None:
    assert printable_line(b" \x1b[31mred\nand\t\xff\r\n") == "^[[31mred^Jand^I\ufffd"
    assert printable_line(b"x" * 1000) == "x" * 200
    assert printable_line(b"x" * 1000, 300) == "x" * 300


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    # Without the colours, the text has no escapes.
    coloured = printable(text, colours=True)
    assert all(part.lstrip("0123456789;:").startswith("m") for part in coloured.split("\x1b[")[1:])
    assert printable(shown) == shown


def display_on(stream: io.BytesIO, raw: bool = False) -> Display:
    """A display that prints everything on one stream."""
    parser = OptionParser("", OWN)
    parser.install_display_options(verbose_options=True)
    options, _ = parser.parse_args([])
    manner = OWN._replace(harmless=not raw)
    text = io.TextIOWrapper(stream, "utf-8")
    return Display(options, None, False, manner, Output(text, OWN), Output(text, OWN))


def test_only_terminals_get_less_than_was_said() -> None:
    for out, raw, said in ((Terminal(), False, HARMLESS), (Terminal(), True, HOSTILE)):
        display = display_on(out, raw)
        display.print_line("node1", HOSTILE)
        display.print_line_error("node1", HOSTILE)
        display.print_gather("node1", HOSTILE)
        assert out.getvalue().count(said) == 3
    pipe = io.BytesIO()
    display = display_on(pipe)
    display.print_line("node1", HOSTILE)
    display.out.flush()
    assert pipe.getvalue() == b"node1: " + HOSTILE + b"\n"


def test_names_are_shown_nowhere_raw() -> None:
    for stream in (Terminal(), io.BytesIO()):
        display = display_on(stream, raw=True)
        display.print_line("node\x1bc", b"")
        display.print_line_error("node\x1bc", b"")
        display.print_gather("node\x1bc", b"")
        display.out.flush()
        display.err.flush()
        assert b"\x1b" not in stream.getvalue()
        assert stream.getvalue().count(b"node^[c") == 3


@pytest.mark.posix_only("Windows has no pseudo-terminals")
@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_pyclush_on_a_terminal(options: list[str]) -> None:
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    ours, theirs = pty.openpty()
    with LoopbackCluster("node1", shell=SHELL) as cluster:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pyclustershell.cli.clush", "--color=never", *options),
                *("-o", f"-F {cluster.ssh_config}", "-w", "node1"),
                r"printf '\033[2J\033[1mbold'",
            ],
            stdout=theirs,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        os.close(theirs)
        said = b""
        with process:
            while select.select([ours], [], [], 30)[0]:
                try:
                    data = os.read(ours, 4096)
                except OSError:  # the other end is closed
                    break
                said += data
    os.close(ours)
    shown = b"\x1b[2J\x1b[1mbold" if options else b"^[[2J\x1b[1mbold\x1b[0m"
    assert said == b"node1: " + shown + b"\r\n"
