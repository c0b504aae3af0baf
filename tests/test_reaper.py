"""What happens later, with no engine running."""

from __future__ import annotations

import logging
import threading

import pytest

from pyclustershell.transport.reaper import Reaper
from tests.servers.leaks import no_leaks


def test_calls_are_made_in_time_order_by_a_thread_that_ends() -> None:
    reaper = Reaper()
    calls: list[str] = []
    done = threading.Event()
    with no_leaks():
        reaper.call_later(0.06, done.set)
        reaper.call_later(0.04, lambda: calls.append("second"))
        reaper.call_later(0.02, lambda: calls.append("first"))
        assert done.wait(10)
    assert calls == ["first", "second"]


def test_a_cancelled_call_is_not_made_and_holds_no_thread() -> None:
    reaper = Reaper()
    calls: list[str] = []
    with no_leaks():
        cancel = reaper.call_later(1000, lambda: calls.append("called"))
        cancel()
        cancel()
    assert calls == []


def test_a_call_that_fails_does_not_take_the_others_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reaper = Reaper()
    done = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="pyclustershell.transport"), no_leaks():
        reaper.call_later(0, fail)
        reaper.call_later(0.01, done.set)
        assert done.wait(10)
    assert "ZeroDivisionError" in caplog.text
