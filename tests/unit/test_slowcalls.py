"""Reports of callbacks that keep the engine's thread for too long."""

from __future__ import annotations

import functools
import logging
import socket
from typing import Any

import pytest

from pyclustershell.engine.engine import READ, Engine, EngineClient
from pyclustershell.engine.slowcalls import VARIABLE


class Client(EngineClient):
    """A client whose methods take as long as it is told."""

    timeout = 1.0

    def __init__(self, lab: Lab, seconds: float) -> None:
        self.lab = lab
        self.seconds = seconds

    def __repr__(self) -> str:
        return "<Client>"

    def start(self, engine: Engine) -> None:
        self.lab.wait(self.seconds)

    def on_timeout(self) -> None:
        raise AssertionError

    def abort(self, timed_out: bool = False) -> None:
        raise AssertionError


class Lab:
    """An engine whose clock only moves in callbacks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.engine = Engine(clock=lambda: self.now)

    def wait(self, seconds: float, *_args: object) -> None:
        self.now += seconds

    def finish(self, seconds: float, client: Client) -> None:
        self.now += seconds
        self.engine.finished(client)

    def run(self, slow: float) -> None:
        """Make a callback of each kind take this long."""
        engine = self.engine
        ours, its = socket.socketpair()
        try:
            its.send(b"x")

            def on_ready(_events: int) -> None:
                self.wait(slow)
                engine.unregister(watch)

            watch = engine.register(ours, READ, on_ready)
            engine.post(self.wait, slow)
            client = Client(self, slow)
            engine.call_later(0.0, functools.partial(self.finish, slow, client))
            engine.add(client)
            engine.run()
        finally:
            engine.close()
            ours.close()
            its.close()


def test_each_kind_of_callback_is_reported_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with caplog.at_level(logging.WARNING, "pyclustershell.engine"):
        Lab().run(0.06)
    text = caplog.text
    names = (
        "Lab.run.<locals>.on_ready",
        "Lab.wait of ",
        "Lab.finish of",
        "Client.start of <Client>",
    )
    for name in names:
        assert text.count(name) == 1
    assert "kept the engine's thread for 0.060 s" in text


@pytest.mark.parametrize(("value", "slow"), [("yes", 0.04), ("0.1", 0.06), ("", 9.0)])
def test_nothing_is_reported_below_the_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, slow: float
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    Lab().run(slow)
    assert not caplog.records


def test_a_wrong_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(ValueError, match="'soon' is not a number of seconds"):
        Engine()


def test_a_callback_that_raises_is_reported_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "0.01")
    lab = Lab()

    def fail(*_args: Any) -> None:
        lab.wait(1.0)
        raise RuntimeError("a fault")

    lab.engine.post(fail)
    lab.engine.add(Client(lab, 0.0))
    with pytest.raises(RuntimeError, match="a fault"):
        lab.engine.run()
    lab.engine.close()
    assert "fail kept the engine's thread for 1.000 s" in caplog.text
