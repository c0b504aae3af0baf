"""Messages whose length or order is wrong: the connection ends, and no byte is made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, Optional

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell.exceptions import ConnectionLostError, NodeError
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import Logins, Peer, PhaseServer, Rule, Step

DEBUG, UNIMPLEMENTED, SERVICE_ACCEPT, EXT_INFO, KEX_REPLY = 4, 3, 6, 7, 31
USERAUTH_FAILURE, INFO_REQUEST = 51, 60


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", agent=False, config_files=[], connect_retries=0, password="x")
        yield task


def run(task: Task, rules: dict[int, Rule], **options: Any) -> Optional[NodeError]:
    """Run a command on a server with these rules; return the node's failure."""
    with PhaseServer(rules, **options) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.run("true", nodes="node", stderr=True)
    failures = [failure for failure, _nodes in task.iter_failures()]
    return failures[0] if failures else None


def send(peer: Peer, payload: bytes) -> None:
    peer.send_message(Message(payload))


def talkative() -> dict[int, Rule]:
    """A command whose server sends each message that a client has to read."""

    def words(peer: Peer) -> None:
        peer.say(DEBUG, False, "text", "")
        peer.say(UNIMPLEMENTED, 0)
        peer.say(phases.GLOBAL_REQUEST, "hostkeys-00@openssh.com", False)
        peer.say(phases.WINDOW_ADJUST, peer.channel, 100)
        peer.say(phases.CHANNEL_DATA, peer.channel, "out\n")
        peer.say(phases.CHANNEL_EXTENDED_DATA, peer.channel, 1, "err\n")
        peer.say(phases.CHANNEL_REQUEST, peer.channel, "exit-status", False, 0)

    return phases.command(phases.accept, words, phases.eof, phases.end)


def refusing(number: int, *fields: Any) -> dict[int, Rule]:
    """A server that answers a channel's opening, or its request, with a refusal."""
    asked = phases.CHANNEL_OPEN if number == phases.CHANNEL_OPEN_FAILURE else phases.CHANNEL_REQUEST

    def refuse(peer: Peer, payload: bytes) -> None:
        peer.say(number, peer.channel, *fields)

    return {**talkative(), asked: refuse}


def signalled() -> dict[int, Rule]:
    """A command that a signal ends."""

    def signal(peer: Peer) -> None:
        peer.say(phases.CHANNEL_REQUEST, peer.channel, "exit-signal", False, "KILL", False, "", "")

    return phases.command(phases.accept, signal, phases.eof, phases.end)


def tampering(number: int, change: Callable[[bytes], bytes]) -> Callable[[paramiko.Transport], Any]:
    """Have a server change each message of one number before it encrypts it."""

    def offer(transport: paramiko.Transport) -> None:
        packetizer: Any = transport.packetizer
        unchanged = packetizer.send_message

        def send_message(message: Message) -> None:
            payload = message.asbytes()
            unchanged(Message(change(payload)) if payload[0] == number else message)

        packetizer.send_message = send_message

    return offer


def cut(payload: bytes) -> bytes:
    return payload[:-1]


def bare(payload: bytes) -> bytes:
    return payload[:1]


def longer(payload: bytes) -> bytes:
    return payload + b"\0"


# Each message, the server that sends it, and the defects that OpenSSH's client does not accept
# either. It does not look for the end of a global request.
ALL = (cut, bare, longer)
MESSAGES: list[tuple[str, int, Callable[[], dict[int, Rule]], tuple[Any, ...]]] = [
    ("debug", DEBUG, talkative, (cut, bare)),
    ("unimplemented", UNIMPLEMENTED, talkative, ALL),
    # An empty one is accepted: some old servers name no service.
    ("service accept", SERVICE_ACCEPT, talkative, (cut, longer)),
    ("extensions", EXT_INFO, talkative, ALL),
    ("kexinit", phases.KEXINIT, talkative, ALL),
    ("kex reply", KEX_REPLY, talkative, ALL),
    ("new keys", phases.NEWKEYS, talkative, (longer,)),
    ("global request", phases.GLOBAL_REQUEST, talkative, (cut, bare)),
    ("confirmation", phases.CHANNEL_OPEN_CONFIRMATION, talkative, ALL),
    (
        "open failure",
        phases.CHANNEL_OPEN_FAILURE,
        lambda: refusing(phases.CHANNEL_OPEN_FAILURE, 1, "no", ""),
        ALL,
    ),
    ("window", phases.WINDOW_ADJUST, talkative, ALL),
    ("data", phases.CHANNEL_DATA, talkative, ALL),
    ("stderr", phases.CHANNEL_EXTENDED_DATA, talkative, ALL),
    ("end of data", phases.CHANNEL_EOF, talkative, ALL),
    ("exit status", phases.CHANNEL_REQUEST, talkative, ALL),
    ("exit signal", phases.CHANNEL_REQUEST, signalled, ALL),
    ("success", phases.CHANNEL_SUCCESS, talkative, ALL),
    ("failure", phases.CHANNEL_FAILURE, lambda: refusing(phases.CHANNEL_FAILURE), ALL),
]


def test_the_messages_are_right_before_they_are_changed(task: Task) -> None:
    assert run(task, talkative()) is None
    assert task.node_retcode("node") == 0
    assert bytes(task.node_buffer("node")) == b"out"
    assert bytes(task.node_error("node")) == b"err"
    assert run(task, signalled()) is None
    assert task.node_retcode("node") == 128 + 9


@pytest.mark.parametrize(
    ("number", "server", "defect"),
    [
        pytest.param(number, server, defect, id=f"{name}-{defect.__name__}")
        for name, number, server, defects in MESSAGES
        for defect in defects
    ],
)
def test_a_message_of_the_wrong_length_fails_the_node(
    task: Task,
    number: int,
    server: Callable[[], dict[int, Rule]],
    defect: Callable[[bytes], bytes],
) -> None:
    failure = run(task, server(), offer=tampering(number, defect))
    assert task.node_retcode("node") == 255
    assert failure is not None
    wrong = "has 1 bytes after its end" if defect is longer else "is cut short"
    assert f"a message of type {number} {wrong}" in failure.cause


@pytest.mark.parametrize(
    ("number", "size"), [(phases.CHANNEL_DATA, 4), (phases.CHANNEL_EXTENDED_DATA, 8)]
)
def test_a_length_that_is_not_that_of_the_data_fails_the_node(
    task: Task, number: int, size: int
) -> None:
    def lie(payload: bytes) -> bytes:
        at = 1 + size
        return payload[:at] + (1000).to_bytes(4, "big") + payload[at + 4 :]

    failure = run(task, talkative(), offer=tampering(number, lie))
    assert failure is not None
    assert failure.cause.endswith(f"a message of type {number} is cut short")
    assert b"\0" not in bytes(task.node_buffer("node") or b"")


@pytest.mark.parametrize("defect", ALL)
@pytest.mark.parametrize("number", [USERAUTH_FAILURE, INFO_REQUEST])
def test_a_malformed_message_of_authentication_is_not_answered(
    task: Task, number: int, defect: Callable[[bytes], bytes]
) -> None:
    asked: list[str] = []

    def answer(node: str, *_question: Any) -> list[str]:
        asked.append(node)
        return ["42"]

    task.configure_ssh(password=None, keyboard_interactive=answer)
    logins = Logins(password=False, interactive=False)
    failure = run(task, talkative(), logins=logins, offer=tampering(number, defect))
    assert failure is not None
    assert f"a message of type {number} " in failure.cause
    assert asked == []


# -- messages that come when they may not ----------------------------------------------------------


def on_command(*steps: Step) -> dict[int, Rule]:
    """A command that is granted, does this, and ends well."""
    return phases.command(phases.accept, *steps, *phases.ok()[1:])


def on_opening(*steps: Step) -> dict[int, Rule]:
    """A server that does this before it grants a channel."""
    rules = phases.command(*phases.ok())
    grant = rules[phases.CHANNEL_OPEN]

    def rule(peer: Peer, payload: bytes) -> Any:
        for step in steps:
            step(peer)
        return grant(peer, payload)

    return {**rules, phases.CHANNEL_OPEN: rule}


def say(number: int, *fields: Any) -> Step:
    """Send a message for the present channel."""
    return lambda peer: peer.say(number, peer.channel, *fields)


CONFIRMATION = (phases.CHANNEL_OPEN_CONFIRMATION, 0, 1 << 20, 1 << 15)

WRONG_TIMES = {
    "a second confirmation": (
        on_command(say(*CONFIRMATION)),
        "the server answers for channel 0, which was not requested",
    ),
    "a confirmation of no channel": (
        on_command(lambda peer: peer.say(CONFIRMATION[0], 77, *CONFIRMATION[1:])),
        "the server answers for channel 77, which was not requested",
    ),
    "a refusal of an open channel": (
        on_command(say(phases.CHANNEL_OPEN_FAILURE, 1, "no", "")),
        "the server answers for channel 0, which was not requested",
    ),
    "success before the channel is open": (
        on_opening(phases.accept),
        "message 99 came for channel 0 before it opened",
    ),
    "data before the channel is open": (
        on_opening(say(phases.CHANNEL_DATA, "early\n")),
        "message 94 came for channel 0 before it opened",
    ),
    "the end before the channel is open": (
        on_opening(phases.end),
        "message 97 came for channel 0 before it opened",
    ),
    "a second success": (
        on_command(phases.accept),
        "channel 0: answer 99 came without a request",
    ),
    "a failure after the success": (
        on_command(say(phases.CHANNEL_FAILURE)),
        "channel 0: answer 100 came without a request",
    ),
    "data after its end": (
        on_command(phases.eof, say(phases.CHANNEL_DATA, "late\n")),
        "channel 0: data came after its end",
    ),
    "stderr after the end of data": (
        on_command(phases.eof, say(phases.CHANNEL_EXTENDED_DATA, 1, "late\n")),
        "channel 0: data came after its end",
    ),
    "new keys without a key exchange": (
        on_command(lambda peer: peer.say(phases.NEWKEYS)),
        "new keys came without a key exchange",
    ),
    "a local extension": (
        on_command(lambda peer: peer.say(192)),
        "message 192 is none of the protocol's",
    ),
    "a window that overflows": (
        on_command(say(phases.WINDOW_ADJUST, 0xFFFFFFFF)),
        "channel 0: the server's window overflows",
    ),
}


@pytest.mark.parametrize(("rules", "cause"), WRONG_TIMES.values(), ids=WRONG_TIMES.keys())
def test_a_message_at_the_wrong_time_fails_the_node(
    task: Task, rules: dict[int, Rule], cause: str
) -> None:
    failure = run(task, rules)
    assert isinstance(failure, ConnectionLostError)
    assert failure.cause == f"Connection lost: {cause}"
    assert task.node_retcode("node") == 255
