"""The uses of undocumented names of paramiko's, checked on every supported release."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell.engine.engine import Engine
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.auth import forwarding
from pyclustershell.ssh.auth.agent import AgentConnection
from pyclustershell.ssh.connect.tcpstream import TCPStream
from pyclustershell.ssh.protocol import (
    CallbackEvent,
    ClientChannel,
    ClientTransport,
    read_available,
)
from pyclustershell.ssh.protocol import (
    kexinit as negotiation,
)
from pyclustershell.ssh.protocol.packets import PacketCodec
from tests.helpers.sh import SHELL
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node1", max_sessions=2, shell=SHELL) as cluster:
        yield cluster


class Client:
    """A transport to the cluster's node, and a loop that feeds it until an answer has come."""

    def __init__(self, cluster: LoopbackCluster) -> None:
        self.ended = 0
        sock = socket.create_connection(("127.0.0.1", cluster.port("node1")))
        self.socket = TCPStream(sock, Engine())
        self.transport = ClientTransport(self.socket, self.on_ended)
        self.user = cluster.user
        self.key = paramiko.Ed25519Key.from_private_key_file(cluster.identity_file)

    def on_ended(self) -> None:
        self.ended += 1

    def feed_until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            if self.transport.has_more:
                self.transport.feed(b"")
                continue
            left = deadline - time.monotonic()
            assert left > 0
            assert select.select([self.socket], [], [], left)[0]
            data = self.socket.read()
            if data:
                self.transport.feed(data)
            else:
                self.transport.end(EOFError())

    def wait(self, start: Callable[[Callable[[], None]], Any]) -> None:
        """Call something with an event's set(), and wait for it."""
        event = threading.Event()
        start(event.set)
        self.feed_until(event.is_set)

    def connect(self) -> None:
        self.wait(self.transport.negotiate)
        assert self.transport.is_active()
        self.wait(lambda then: self.transport.start_auth(then).start_publickey(self.user, self.key))
        assert self.transport.is_authenticated()

    def open(self) -> tuple[Any, Any]:
        answers: list[Any] = []
        self.wait(
            lambda then: self.transport.open_session_channel(
                lambda channel, refusal: (answers.append((channel, refusal)), then())
            )
        )
        answer: tuple[Any, Any] = answers[0]
        return answer

    def run(self, command: str) -> tuple[ClientChannel, bytes]:
        channel, _refusal = self.open()
        status = threading.Event()
        channel.watch(status.set, lambda: None)
        self.wait(lambda then: channel.request_exec(command.encode(), then))
        assert channel.was_granted
        output = bytearray()

        def over() -> bool:
            output.extend(read_available(channel, stderr=False))
            return status.is_set() and channel.eof_received

        self.feed_until(over)
        return channel, bytes(output)

    def close(self) -> None:
        self.transport.close()
        self.socket.close()
        self.socket.free()


@pytest.fixture
def client(cluster: LoopbackCluster) -> Iterator[Client]:
    with no_leaks():
        client = Client(cluster)
        try:
            client.connect()
            yield client
        finally:
            client.close()


def test_a_transport_has_no_thread(cluster: LoopbackCluster) -> None:
    first = Client(cluster)
    first.connect()
    before = threading.active_count()
    second = Client(cluster)
    second.connect()
    # One thread more: the server's transport in this process.
    assert threading.active_count() - before == 1
    first.close()
    second.close()


def test_what_is_offered_is_strong_and_fast_first(client: Client) -> None:
    transport = client.transport
    if "aes128-gcm@openssh.com" in transport._cipher_info:
        assert transport.remote_cipher == "aes128-gcm@openssh.com"
    assert transport.agreed_on_strict_kex
    offered = (
        *transport.preferred_ciphers,
        *transport.preferred_macs,
        *transport.preferred_kex,
        *transport.preferred_keys,
        *transport.preferred_pubkeys,
    )
    for name in offered:
        assert not any(weak in name for weak in ("cbc", "3des", "md5", "sha1", "ssh-dss")), name
        assert not name.startswith("ssh-rsa"), name


def test_offers_follow_the_settings(cluster: LoopbackCluster) -> None:
    client = Client(cluster)
    transport = client.transport
    assert transport.offer("ciphers", ("aes256-ctr", "no-such-cipher")) == ("aes256-ctr",)
    assert transport.offer("macs", ("no-such-mac",)) == ()
    assert transport.offer("keys", None, ("ssh-ed25519",))[0] == "ssh-ed25519"
    before = transport.preferred_kex
    assert transport.offer("kex", None) == before
    client.close()


def test_exit_status(client: Client) -> None:
    channel, output = client.run("echo out; exit 3")
    assert (output, channel.exit_status, channel.exit_signal) == (b"out\n", 3, None)
    assert channel.has_exit_status


@pytest.mark.posix_only("Windows has no signals")
def test_exit_signal(client: Client) -> None:
    channel, _output = client.run("kill -USR1 $$")
    assert channel.exit_signal == "USR1"
    assert channel.has_exit_status


@pytest.mark.posix_only("Windows has no signals")
def test_a_signal_reaches_the_command(client: Client) -> None:
    channel, _refusal = client.open()
    status = threading.Event()
    channel.watch(status.set, lambda: None)
    client.wait(lambda then: channel.request_exec(b"echo ready; exec sleep 60", then))
    client.feed_until(channel.recv_ready)
    assert channel.recv(6) == b"ready\n"
    channel.send_signal("TERM")
    client.feed_until(status.is_set)
    assert channel.exit_signal == "TERM"
    channel.close()


def test_no_signal_is_sent_on_a_closed_channel(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSSH ends the connection at a request for a channel that it does not have any more.
    channel, _output = client.run("true")
    channel.close()
    sent: list[bytes] = []
    monkeypatch.setattr(client.transport, "send_payload", sent.append)
    channel.send_signal("TERM")
    assert sent == []


def test_the_server_closes_a_channel_that_has_ended(client: Client) -> None:
    channel, _output = client.run("true")
    assert channel.closed_by_server or not channel.closed
    channel.close()


def test_a_lost_connection_is_not_the_servers_close(client: Client) -> None:
    channel, _refusal = client.open()
    closed = threading.Event()
    channel.watch(closed.set, lambda: None)
    client.socket.close()
    client.feed_until(closed.is_set)
    assert channel.closed
    assert not channel.closed_by_server


def test_a_channel_more_than_the_server_allows_is_refused(client: Client) -> None:
    channels = [client.open()[0] for _ in range(2)]
    channel, refusal = client.open()
    assert channel is None
    assert isinstance(refusal, paramiko.ChannelException)
    for channel in channels:
        channel.close()


def test_refused_authentication_names_the_methods_that_can_go_on(
    cluster: LoopbackCluster,
) -> None:
    client = Client(cluster)
    client.wait(client.transport.negotiate)
    client.wait(lambda then: client.transport.start_auth(then).start_password(client.user, "wrong"))
    assert not client.transport.is_authenticated()
    assert client.transport.auth_answer.allowed == ("publickey",)
    assert not client.transport.auth_answer.partial
    client.close()


def test_nothing_waits_for_a_key_exchange(client: Client) -> None:
    """In paramiko each of these would wait for the end of the exchange, up to 30 s."""
    transport = client.transport
    answers: list[Any] = []
    answered = threading.Event()
    with transport.clear_to_send_lock:
        transport.clear_to_send.clear()
    # On this thread, as the engine does it.
    transport.open_session_channel(lambda *answer: (answers.append(answer), answered.set()))
    assert len(transport._deferred) == 1
    # The same during a key exchange that we start, which ends when NEWKEYS has come.
    transport._send_kex_init()
    client.feed_until(answered.is_set)
    assert transport._deferred == []
    [(channel, refusal)] = answers
    assert refusal is None
    assert isinstance(channel, ClientChannel)
    channel.close()


def test_rekeying_all_the_time_loses_nothing(
    cluster: LoopbackCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramiko.packet.Packetizer.REKEY_BYTES", 65536)
    monkeypatch.setattr(PacketCodec, "REKEY_BYTES", 65536)
    client = Client(cluster)
    client.connect()
    _channel, output = client.run("seq 300000")
    assert output == b"".join(b"%d\n" % number for number in range(1, 300_001))
    client.close()


def test_the_end_is_told_once_unless_it_is_ours(cluster: LoopbackCluster) -> None:
    client = Client(cluster)
    client.connect()
    client.close()
    assert client.ended == 0
    client = Client(cluster)
    client.connect()
    client.transport.end(EOFError())
    client.transport.end(EOFError())
    assert client.ended == 1
    client.close()


def test_an_offloaded_step_keeps_messages_back(cluster: LoopbackCluster) -> None:
    client = Client(cluster)
    transport = client.transport
    client.wait(transport.negotiate)
    steps: list[Callable[[], Any]] = []
    decided = threading.Event()
    transport.offload = steps.append
    transport.start_auth(decided.set).start_publickey(client.user, client.key)
    # The server's answer comes; it is not handled here.
    client.feed_until(lambda: steps)
    assert transport.paused
    assert not decided.is_set()
    thread = threading.Thread(target=transport.guard, args=steps)
    thread.start()
    thread.join(10)
    assert decided.is_set()
    assert transport.is_authenticated()
    transport.resume()
    assert not transport.paused
    client.close()


def test_an_exception_of_an_offloaded_step_ends_the_connection(cluster: LoopbackCluster) -> None:
    client = Client(cluster)
    transport = client.transport
    client.wait(transport.negotiate)
    transport.paused = True
    transport.guard(lambda: client.key.sign_ssh_data(None))  # type: ignore[arg-type]
    assert transport.is_active()
    transport.resume()
    assert client.ended == 1
    assert not transport.is_active()
    assert isinstance(transport.get_exception(), TypeError)
    client.close()


def test_no_name_of_ours_is_one_of_a_threads() -> None:
    # A Transport is a Thread, whose instances have private names that change with Python's
    # releases: "_handle" came with 3.13, and hid a method of ours.
    theirs = {*vars(threading.Thread(target=print)), *vars(threading.Thread)}
    ours = {name for name in vars(ClientTransport) if not name.startswith("__")}
    assert ours & theirs <= {"run"}


def test_then_takes_the_step_where_it_is_set() -> None:
    threads: list[int] = []
    then = CallbackEvent(lambda: threads.append(threading.get_ident()))
    then.set()
    then.clear()
    assert not then.is_set()
    assert threads == [threading.get_ident()]


def test_messages_keep_their_position() -> None:
    """take_request() reads a message's kind and rewinds it."""
    message = Message()
    message.add_int(1)
    message.add_string("exit-status")
    message = Message(message.asbytes())
    message.get_int()
    position = message.packet.tell()
    assert message.get_text() == "exit-status"
    message.packet.seek(position)
    assert message.get_text() == "exit-status"


def test_a_channel_has_all_that_paramiko_gives_its_own() -> None:
    assert vars(ClientChannel(3)).keys() >= vars(paramiko.Channel(3)).keys() - {"transport"}


def data_message(content: bytes) -> memoryview:
    return memoryview(len(content).to_bytes(4, "big") + content)


def stderr_message(content: bytes) -> memoryview:
    return memoryview(bytes([0, 0, 0, 1]) + bytes(data_message(content)))


@pytest.mark.parametrize("diverted", [False, True])
def test_a_server_that_sends_more_than_the_window_allows_is_left(
    client: Client, diverted: bool
) -> None:
    channel, _refusal = client.open()
    channel._set_window(100, 1 << 15)
    taken: list[bytes] = []
    if diverted:
        channel.divert(lambda data: taken.append(bytes(data)))
    channel.take_data(data_message(bytes(60)))
    channel.take_extended_data(stderr_message(bytes(40)))
    # As in OpenSSH: a tenth of the window may be exceeded.
    channel.take_data(data_message(bytes(10)))
    for message in (data_message, stderr_message):
        take = channel.take_data if message is data_message else channel.take_extended_data
        with pytest.raises(paramiko.SSHException, match="more than the window of 100 allows"):
            take(message(b"x"))


def test_the_window_opens_again_when_data_is_read(client: Client) -> None:
    channel, _refusal = client.open()
    channel._set_window(100, 1 << 15)
    for _ in range(10):
        channel.take_data(data_message(bytes(60)))
        channel.take_extended_data(stderr_message(bytes(40)))
        read_available(channel, stderr=False)
        read_available(channel, stderr=True)
    # recv() opens it as well.
    channel.take_data(data_message(bytes(100)))
    assert len(channel.recv(100)) == 100
    channel.take_data(data_message(bytes(100)))


def test_stderr_of_an_unknown_kind_is_dropped_and_uses_the_window(client: Client) -> None:
    channel, _refusal = client.open()
    channel._set_window(100, 1 << 15)
    unknown = memoryview(bytes([0, 0, 0, 2]) + bytes(data_message(bytes(100))))
    channel.take_extended_data(unknown)
    assert not channel.recv_stderr_ready()
    with pytest.raises(paramiko.SSHException, match="more than the window"):
        channel.take_extended_data(unknown)


@pytest.mark.parametrize("payload", [b"\x5e\0\0\0", b"\x5e\0\0\0\0\0\0\0", b"\x5d\0\0\0\0\1"])
def test_a_message_that_is_cut_short_ends_the_connection(client: Client, payload: bytes) -> None:
    channel, _refusal = client.open()
    assert channel.chanid == 0
    with pytest.raises(paramiko.SSHException, match=f"type {payload[0]} is cut short"):
        client.transport._take_channel_message(memoryview(payload))


def test_a_message_for_a_channel_that_never_was_ends_the_connection(client: Client) -> None:
    channel, _refusal = client.open()
    channel.close()
    del channel
    client.transport._take_channel_message(memoryview(b"\x60\0\0\0\0"))
    with pytest.raises(paramiko.SSHException, match="channel 1, never opened"):
        client.transport._take_channel_message(memoryview(b"\x60\0\0\0\1"))


# -- a forwarded agent's answers -------------------------------------------------------------------


class Echo(AgentConnection):
    """An agent that answers with the question."""

    def ask(self, message: bytes) -> bytes:
        return message


def relayed(client: Client, window: int) -> ClientChannel:
    """A channel with a question to an agent, and some room for the answer."""
    channel, _refusal = client.open()
    channel.out_window_size = window
    forwarding._Relay(channel, Echo("none", None), b"bind", "node1").start()
    channel.take_data(data_message(b"\0\0\0\4ping"))
    return channel


def test_an_answer_waits_for_room(client: Client) -> None:
    channel = relayed(client, 3)
    wait_until(lambda: channel.out_window_size == 0)
    channel.take_window(memoryview((100).to_bytes(4, "big")))
    wait_until(lambda: channel.out_window_size == 95)
    assert not channel.closed


def test_an_answer_that_is_not_taken_does_not_keep_its_channel_from_being_closed(
    client: Client,
) -> None:
    channel = relayed(client, 3)
    wait_until(lambda: channel.out_window_size == 0)
    # This runs on the thread that serves all nodes. The fixture checks that the relay's thread
    # ends.
    channel.take_close(memoryview(b""))
    assert channel.closed


# -- agreement on algorithms -----------------------------------------------------------------------


def test_what_was_agreed_on_once_is_agreed_on_again(
    cluster: LoopbackCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    paramikos = paramiko.Transport._parse_kex_init

    def parse(transport: paramiko.Transport, m: Message) -> None:
        if isinstance(transport, ClientTransport):
            asked.append(transport)
        paramikos(transport, m)

    monkeypatch.setattr(negotiation, "_OFFERS", {})
    monkeypatch.setattr(negotiation, "_AGREEMENTS", {})
    monkeypatch.setattr(paramiko.Transport, "_parse_kex_init", parse)
    found = []
    for _ in range(2):
        client = Client(cluster)
        client.connect()
        assert client.run("echo ok")[1] == b"ok\n"
        found.append({name: getattr(client.transport, name) for name in negotiation._AGREED})
        client.close()
    assert len(asked) == 1
    assert found[0] == found[1]
    assert found[0]["agreed_on_strict_kex"]


def test_other_wishes_are_another_agreement(cluster: LoopbackCluster) -> None:
    for mac in ("hmac-sha2-256", "hmac-sha2-512"):
        client = Client(cluster)
        client.transport.offer("ciphers", ["aes256-ctr"])
        client.transport.offer("macs", [mac])
        client.connect()
        assert (client.transport.remote_cipher, client.transport.local_mac) == ("aes256-ctr", mac)
        client.close()


def test_what_comes_before_a_known_kexinit_breaks_a_strict_exchange(
    cluster: LoopbackCluster,
) -> None:
    client = Client(cluster)
    client.transport.negotiate(lambda: None)
    client.feed_until(lambda: client.transport.remote_kex_init)
    known = Message(client.transport.remote_kex_init[1:])
    client.close()
    known.seqno = 0
    other = Client(cluster)
    other.transport._parse_kex_init(known)
    other.close()
    known.seqno = 1
    other = Client(cluster)
    with pytest.raises(paramiko.SSHException, match="not the first"):
        other.transport._parse_kex_init(known)
    other.close()
