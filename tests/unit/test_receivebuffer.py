"""ReceiveBuffer behaves as paramiko's BufferedPipe does."""

from __future__ import annotations

import threading

import pytest
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from pyclustershell.ssh.protocol.receivebuffer import ReceiveBuffer

# paramiko's Channel is written for its BufferedPipe: both must do the same.
PIPES = pytest.mark.parametrize("kind", [BufferedPipe, ReceiveBuffer])


@PIPES
def test_what_was_fed_is_read_once_and_in_order(kind: type) -> None:
    pipe = kind()
    assert not pipe.read_ready()
    pipe.feed(b"one")
    pipe.feed(b"two")
    assert (pipe.read_ready(), len(pipe)) == (True, 6)
    assert pipe.read(4, 0.0) == b"onet"
    assert pipe.read(100, 0.0) == b"wo"
    assert (pipe.read_ready(), len(pipe)) == (False, 0)


@PIPES
def test_the_event_is_set_while_there_is_something_to_read(kind: type) -> None:
    pipe, event = kind(), threading.Event()
    event.set()
    pipe.set_event(event)
    assert not event.is_set()
    pipe.feed(b"some")
    assert event.is_set()
    pipe.read(2, 0.0)
    assert event.is_set()
    pipe.read(2, 0.0)
    assert not event.is_set()
    pipe.feed(b"more")
    assert pipe.empty() == b"more"
    assert (pipe.empty(), event.is_set()) == (b"", False)


@PIPES
def test_an_event_that_comes_late_is_set_where_something_waits(kind: type) -> None:
    pipe, event = kind(), threading.Event()
    pipe.feed(b"some")
    pipe.set_event(event)
    assert event.is_set()


@PIPES
def test_nothing_to_read_is_an_error_until_the_end(kind: type) -> None:
    pipe, event = kind(), threading.Event()
    pipe.set_event(event)
    with pytest.raises(PipeTimeout):
        pipe.read(10, 0.0)
    pipe.feed(b"rest")
    pipe.close()
    assert pipe.read(10, 0.0) == b"rest"
    # At the end the event stays set: there is nothing to wait for.
    assert (pipe.read(10, 0.0), event.is_set()) == (b"", True)
