"""Selectors: the platform's, and that of Windows, which takes any number of sockets."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from pyclustershell.engine.descriptors import ensure_descriptors
from pyclustershell.engine.polling import make_selector, wait_readable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

# Python's select.select() takes 512 sockets on Windows.
MANY = 700


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with make_selector() as selector:
        yield selector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_selector_takes_many_sockets(selector: selectors.BaseSelector) -> None:
    ensure_descriptors(MANY)
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(MANY)
        ]
        for number, sock in enumerate(sockets):
            sock.bind(("127.0.0.1", 0))
            selector.register(sock, READ, number)
        assert selector.select(0) == []
        chosen = {0, 511, MANY - 1}
        for number in chosen:
            sockets[0].sendto(b"x", sockets[number].getsockname())
            wait_readable([sockets[number]], 10)
        assert {(key.data, events) for key, events in selector.select(10)} == {
            (number, READ) for number in chosen
        }


def test_events_are_those_that_were_asked_for(
    selector: selectors.BaseSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    selector.register(ours, READ, "data")
    assert selector.select(0) == []
    selector.modify(ours, READ | WRITE, "other")
    assert [(key.data, events) for key, events in selector.select(10)] == [("other", WRITE)]
    theirs.send(b"x")
    wait_readable([ours], 10)
    assert [events for _, events in selector.select(10)] == [READ | WRITE]
    selector.modify(ours, READ)
    assert [events for _, events in selector.select(10)] == [READ]
    selector.unregister(ours)
    selector.register(theirs, READ)
    assert selector.select(0) == []


def test_a_failed_connection_is_ready_to_write(selector: selectors.BaseSelector) -> None:
    with closing(socket.socket()) as unused, closing(socket.socket()) as client:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        client.setblocking(False)
        if client.connect_ex(unused.getsockname()) == 0:
            pytest.fail("nothing listens there")
        selector.register(client, WRITE)
        found = selector.select(30)
        assert [events & WRITE for _, events in found] == [WRITE]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_to_wait_for_nothing_is_to_sleep(
    selector: selectors.BaseSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    assert selector.select(0.001) == []
    for end in pair:
        end.close()
    wait_readable(pair, 0.001)  # sockets that have been closed are ignored
