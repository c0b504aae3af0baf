"""The progress on a terminal: what it says, and that it fits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.cli.progress import (
    Counter,
    StatusLine,
    binary_size,
    columns,
    duration,
    fitting,
    human,
    size_of,
)


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Task:
    """Notes the timers that are asked for."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, float, bool]] = []

    def timer(self, fire: float, handler: object, interval: float, autoclose: bool) -> None:
        self.timers.append((fire, interval, autoclose))


def status_line(width: int, total: int = 40) -> tuple[StatusLine, io.StringIO, Clock, Any]:
    out, clock, task = io.StringIO(), Clock(), Task()
    line = StatusLine("pyclush", out, width=lambda: width, clock=clock)
    line.watch(task, total)  # type: ignore[arg-type]
    return line, out, clock, task


def shown(out: io.StringIO) -> str:
    """The last text of the line."""
    text = out.getvalue().rpartition("\r")[2]
    assert text.endswith("\x1b[K")
    return text[: -len("\x1b[K")]


def test_it_begins_after_a_second_and_is_drawn_ten_times_a_second() -> None:
    assert status_line(80)[3].timers == [(1.0, 0.1, True)]


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (80, "pyclush: 3 of 40 done, 1 failed, 30 running, 6 waiting"),
        (50, "3 of 40 done, 1 failed, 30 running, 6 waiting"),
        (40, "3 of 40 done, 1 failed"),
        (20, "3/40"),
        (4, "3/4"),
        (0, ""),
    ],
)
def test_it_fits_into_any_width(width: int, text: str) -> None:
    line, out, _, _ = status_line(width)
    for number in range(34):
        line.note_start(f"n{number}")
    for number in range(4):
        line.note_end(f"n{number}", number != 0)
    line.ev_timer(None)
    if text:
        assert shown(out) == text
        assert columns(text) < width
    else:
        assert out.getvalue() == ""


def test_few_running_nodes_are_named() -> None:
    line, out, _, _ = status_line(60, total=3)
    for node in ("n1", "n2", "\u8282\u70b9"):
        line.note_start(node)
    line.note_end("n1", True)
    line.ev_timer(None)
    assert shown(out) == "pyclush: 1 of 3 done, 2 running (n2,\u8282\u70b9)"


def test_it_is_drawn_only_if_it_has_changed_and_is_removed() -> None:
    line, out, _, _ = status_line(80)
    line.ev_timer(None)
    drawn = out.getvalue()
    line.ev_timer(None)
    assert out.getvalue() == drawn
    line.clear()
    line.clear()
    assert out.getvalue() == f"{drawn}\r\x1b[K"
    line.ev_timer(None)
    line.finish()
    assert out.getvalue() == f"{drawn}\r\x1b[K{drawn}\r\x1b[K"


def test_copies_have_bytes_a_rate_and_the_remaining_time(tmp_path: Path) -> None:
    line, out, clock, _ = status_line(100, total=2)
    line._total_bytes = 10_000
    line.note_start("n1")
    line.note_start("n2")
    line.note_bytes(4_000)
    clock.now = 2.0
    line.ev_timer(None)
    assert shown(out) == ("pyclush: 0 of 2 done, 2 running (n[1-2]), 4.0 kB, 2.0 kB/s, 0:03 left")


def test_sizes_of_trees(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b").write_bytes(bytes(5))
    (tmp_path / "d" / "gone").symlink_to("nowhere")
    assert size_of(str(tmp_path)) == 15
    assert size_of(str(tmp_path / "a")) == 10
    assert size_of(str(tmp_path / "missing")) == 0


def test_the_counter_of_clustershell() -> None:
    out, clock, task = io.StringIO(), Clock(), Task()
    counter = Counter("clush", out, newline=True, clock=clock)
    counter.watch(task, 10)  # type: ignore[arg-type]
    assert task.timers == [(1.33, 1 / 3, True)]
    counter.note_end("n1", True)
    counter.ev_timer(None)
    counter.ev_timer(None)
    assert out.getvalue() == "clush:  1/10\r"
    counter.clear()
    assert out.getvalue() == "clush:  1/10\r" + " " * 13 + "\r"
    clock.now = 2.0
    counter.note_bytes(4096)
    counter.ev_timer(None)
    assert out.getvalue().endswith("\rclush:  1/10 write: 2.00 KiB/s\r")
    counter.finish()
    assert out.getvalue().endswith(" \rclush: 10/10\n")


def test_a_counter_that_was_not_shown_leaves_nothing() -> None:
    out = io.StringIO()
    counter = Counter("clush", out)
    counter.clear()
    counter.finish()
    assert out.getvalue() == ""


def test_columns() -> None:
    assert columns("ab") == 2
    assert columns("\u4f60\u597d") == 4
    assert columns("e\u0301") == 1
    assert fitting(["\u4f60\u597d", "ab"], 3) == "ab"
    assert fitting(["\u4f60\u597d"], 3) == "\u4f60"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (3 << 20, "3.00 MiB"),
        (5 << 40, "5.00 TiB"),
    ],
)
def test_binary_sizes(size: float, text: str) -> None:
    assert binary_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (123_456_789, "123 MB")],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3661, "1:01:01")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nothing_is_drawn_in_the_background() -> None:
    foreground = [True]
    out = io.StringIO()
    line = StatusLine(
        "pyclush", out, width=lambda: 80, clock=Clock(), visible=lambda: foreground[0]
    )
    line.watch(Task(), 2)  # type: ignore[arg-type]
    line.note_start("n1")
    line.ev_timer(None)
    assert "1 running" in shown(out)
    drawn = out.getvalue()
    foreground[0] = False
    line.note_end("n1", ok=True)
    line.ev_timer(None)
    line.clear()
    assert out.getvalue() == drawn
    foreground[0] = True
    line.ev_timer(None)
    assert "1 of 2 done" in shown(out)
