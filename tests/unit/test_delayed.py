"""Calls that are made later, with no engine running."""

from __future__ import annotations

import logging
import threading

import pytest

from pyclustershell.engine.delayed import DelayedCalls
from tests.servers.leaks import no_leaks


def test_calls_are_made_in_time_order_by_a_thread_that_ends() -> None:
    delayed_calls = DelayedCalls()
    calls: list[str] = []
    done = threading.Event()
    with no_leaks():
        delayed_calls.call_later(0.06, done.set)
        delayed_calls.call_later(0.04, lambda: calls.append("second"))
        delayed_calls.call_later(0.02, lambda: calls.append("first"))
        assert done.wait(10)
    assert calls == ["first", "second"]


def test_a_cancelled_call_is_not_made_and_holds_no_thread() -> None:
    delayed_calls = DelayedCalls()
    calls: list[str] = []
    with no_leaks():
        cancel = delayed_calls.call_later(1000, lambda: calls.append("called"))
        cancel()
        cancel()
    assert calls == []


def test_a_call_that_fails_does_not_take_the_others_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delayed_calls = DelayedCalls()
    done = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="pyclustershell.engine"), no_leaks():
        delayed_calls.call_later(0, fail)
        delayed_calls.call_later(0.01, done.set)
        assert done.wait(10)
    assert "ZeroDivisionError" in caplog.text
