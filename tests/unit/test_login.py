"""One login attempt: it reports its progress and one outcome, and is silent when cancelled."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Optional

import pytest

from pyclustershell.engine.engine import Engine
from pyclustershell.engine.threadpool import ThreadPool
from pyclustershell.exceptions import ConnectError, HandshakeError, NodeError
from pyclustershell.phases import LoginTimes
from pyclustershell.ssh.auth.authenticator import KeyStore
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.connect.connecttimeout import PausableTimeout
from pyclustershell.ssh.connect.limiter import Outcome
from pyclustershell.ssh.connect.tcpstream import TCPStream
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from pyclustershell.ssh.link import Link
from pyclustershell.ssh.login import Login, LoginServices, outcome_of
from tests.servers.leaks import no_leaks


class FakeConnector:
    """A connector whose outcome the test decides; it notes its calls."""

    def __init__(self) -> None:
        self.then: Any = None
        self.calls: list[object] = []
        self.more_time = 0.0

    def start(self) -> None:
        self.calls.append("start")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def end_handshake(self, outcome: Outcome) -> None:
        self.calls.append(outcome)

    def timed_out(self) -> NodeError:
        return ConnectError("node1", "Connection timed out", "Connection timed out")


class Owner:
    """A connection that notes the calls of its login."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.link: Optional[Link] = None

    def on_connected(self, link: Link) -> bool:
        self.calls.append("connected")
        self.link = link
        return True

    def on_keyed(self) -> bool:
        self.calls.append("keyed")
        return True

    def on_ready(self, link: Link, server_is_trusted: bool) -> None:
        self.calls.append("ready")

    def on_turned_away(self, error: NodeError) -> None:
        self.calls.append(("turned away", error.cause))

    def on_rerouted(self, error: NodeError) -> None:
        self.calls.append(("rerouted", error.cause))

    def fail(self, error: NodeError) -> None:
        self.calls.append(("failed", error.cause))


class Lab:
    """A login that has been started, and the peer of the stream that it gets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.engine = Engine(clock=lambda: self.now)
        self.owner = Owner()
        self.connector = FakeConnector()
        host_keys = HostKeyChecker()
        services = LoginServices(
            self.engine, self.make_connector, ThreadPool("test", 1), KeyStore(), host_keys
        )
        options = SSHOptions(config_files=[], user="nobody", agent=False)
        settings = resolve("node1", options, config_cache=ConfigCache())
        # The login does not have to read files then, and takes each step at once.
        host_keys.known_algorithms(settings)
        self.timeout = PausableTimeout(self.engine, 10.0)
        self.login = Login(settings, services, self.timeout, self.owner, 0.0, LoginTimes())
        ours, self.peer = socket.socketpair()
        self.stream = TCPStream(ours, self.engine, "192.0.2.1")
        self.login.start()

    def make_connector(self, _settings: Any, _timeout: Any, _times: Any, events: Any) -> Any:
        self.connector.then = events.connected
        return self.connector

    def connect(self) -> Link:
        self.connector.then(self.stream, None)
        assert self.owner.link is not None
        return self.owner.link

    def hang_up(self, link: Link) -> None:
        """The peer closes the connection, and the link reads that."""
        self.peer.recv(1 << 16)  # or else the close is a reset
        self.peer.close()
        link.read_now()
        self.engine._mailbox.drain()

    def close(self) -> None:
        self.login.cancel(Outcome.UNKNOWN)
        self.timeout.stop()
        if self.owner.link is not None:
            self.owner.link.close()
            self.owner.link.unwatch()
            self.owner.link.drop_references()
        self.stream.close()
        self.stream.free()
        self.peer.close()
        self.engine.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with no_leaks():
        lab = Lab()
        yield lab
        lab.close()


def test_a_connector_that_fails_is_the_outcome(lab: Lab) -> None:
    lab.connector.then(None, ConnectError("node1", "Connection refused", "refused"))
    assert lab.owner.calls == [("failed", "Connection refused")]


def test_a_server_that_hangs_up_before_its_banner_has_turned_us_away(lab: Lab) -> None:
    lab.hang_up(lab.connect())
    said = "Connection closed during banner exchange"
    assert lab.owner.calls == ["connected", ("turned away", said)]


def test_a_peer_that_does_not_speak_ssh_is_a_failure(lab: Lab) -> None:
    link = lab.connect()
    lab.peer.sendall(b"220 a mail server\r\n" * 1100)  # more than 1,024 lines
    link.read_now()
    lab.engine._mailbox.drain()
    said = "No SSH banner: the peer does not speak SSH"
    assert lab.owner.calls == ["connected", ("failed", said)]


def test_the_timeout_names_the_step_that_takes_too_long(lab: Lab) -> None:
    lab.timeout.on_exhausted()
    lab.connect()
    lab.timeout.on_exhausted()
    assert lab.owner.calls == [
        ("failed", "Connection timed out"),
        "connected",
        ("failed", "Connection timed out during banner exchange"),
    ]


def test_a_cancelled_login_is_silent(lab: Lab) -> None:
    link = lab.connect()
    lab.login.cancel(Outcome.TURNED_AWAY)
    assert lab.connector.calls == ["start", Outcome.TURNED_AWAY, "cancel"]
    lab.timeout.on_exhausted()
    lab.hang_up(link)
    assert lab.owner.calls == ["connected"]


def test_a_cancelled_login_reports_no_failure(lab: Lab) -> None:
    link = lab.connect()
    lab.login.cancel(Outcome.UNKNOWN)
    lab.peer.sendall(b"220 a mail server\r\n" * 1100)  # more than 1,024 lines
    link.read_now()
    assert not link.transport.is_active()
    assert lab.owner.calls == ["connected"]


def test_a_login_cancelled_after_the_peer_hung_up_is_silent(lab: Lab) -> None:
    link = lab.connect()
    lab.peer.close()
    link.read_now()
    lab.login.cancel(Outcome.UNKNOWN)
    lab.engine._mailbox.drain()
    assert lab.owner.calls == ["connected"]


def test_a_stream_that_comes_after_the_cancellation_is_closed(lab: Lab) -> None:
    lab.login.cancel(Outcome.UNKNOWN)
    lab.connector.then(lab.stream, None)
    assert lab.owner.calls == []
    assert lab.stream.fileno() == -1


def test_what_a_failure_tells_the_handshake_limiter() -> None:
    turned_away = HandshakeError("node1", "closed", "closed")
    turned_away.transient = True
    assert outcome_of(turned_away) is Outcome.TURNED_AWAY
    assert outcome_of(HandshakeError("node1", "no cipher", "no cipher")) is Outcome.UNKNOWN
    assert outcome_of(None) is Outcome.UNKNOWN


def test_a_connector_may_ask_for_more_time_once(lab: Lab) -> None:
    lab.connector.more_time = 3.0
    lab.connect()
    lab.timeout.on_exhausted()
    assert not [call for call in lab.owner.calls if call[0] == "failed"]
    lab.timeout.on_exhausted()
    assert ("failed", "Connection timed out during banner exchange") in lab.owner.calls
