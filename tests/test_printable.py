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

from pyclustershell.cli.display import Display
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset import NodeSet
from pyclustershell.printable import printable, printable_bytes

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


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    # What is left once the colours are taken out has no escape, either.
    coloured = printable(text, colours=True)
    assert all(part.lstrip("0123456789;:").startswith("m") for part in coloured.split("\x1b[")[1:])
    assert printable(shown) == shown


def test_only_terminals_get_less_than_was_said() -> None:
    node = NodeSet("node1")
    for out, raw, said in ((Terminal(), False, HARMLESS), (Terminal(), True, HOSTILE)):
        display = Display(out, out, quiet=False, program="pyclush", raw=raw)
        display.line("node1", HOSTILE)
        display.error_line("node1", HOSTILE)
        display.gathered(node, HOSTILE)
        assert out.getvalue().count(said) == 3
    pipe = io.BytesIO()
    display = Display(pipe, pipe, quiet=False, program="pyclush")
    display.line("node1", HOSTILE)
    assert pipe.getvalue() == b"node1: " + HOSTILE + b"\n"


def test_names_and_error_texts_are_shown_nowhere_raw() -> None:
    for stream in (Terminal(), io.BytesIO()):
        display = Display(stream, stream, quiet=False, program="pyclush", raw=True)
        display.line("node\x1b[2J", b"")
        display.summary(NodeSet("node1"), HOSTILE.decode())
        assert b"\x1b" not in stream.getvalue()
        assert HARMLESS in stream.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_pyclush_on_a_terminal(options: list[str]) -> None:
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    ours, theirs = pty.openpty()
    with LoopbackCluster("node1") as cluster:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pyclustershell.cli.clush", *options),
                *("-o", f"-F {cluster.ssh_config}", "-w", "node1"),
                r"printf '\033[2J\033[1mbold'",
            ],
            stdout=theirs,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
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
